"""opencv: image functions of OpenCV by their codes, on the CPU.

Codes and arguments are those of `vaccel.ops.opencv`. Images are read where they lie, and results
are computed where they go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.error import InvalidArgument, ResourceExhausted
from vaccel.inference.loaded import import_engine
from vaccel.ops.args import Arg
from vaccel.ops.catalog import Operations
from vaccel.ops.functions import Function
from vaccel.ops.opencv import BY_CODE, FUNCTIONS
from vaccel.plugin import Plugin, PluginType

if TYPE_CHECKING:
    from vaccel.session import Session

Values = dict[str, Any]


class OpencvPlugin(Plugin):
    requires = ("cv2",)
    install = "vaccel[opencv]"

    def check(self) -> None:
        import_opencv()


def import_opencv() -> Any:
    return import_engine("cv2", "opencv")


plugin = OpencvPlugin("opencv", PluginType.CPU, summary="image functions, on OpenCV")


@plugin.kernel(Operations.opencv)
def opencv(session: Session, function: int, arg_read: list[Arg], arg_write: list[Arg]) -> None:
    found = BY_CODE.get(function)
    if found is None:
        known = ", ".join(f"{f.code} ({f.name})" for f in FUNCTIONS)
        raise InvalidArgument(f"opencv: function: expected one of {known}, found {function}")
    values = found.decode(arg_read)
    out = found.rooms(values, arg_write)
    cv2 = import_opencv()
    try:
        results = _RUN[found.name](cv2, values, out[-1])
    except cv2.error as exc:
        raise _refused(found, exc) from exc
    for given, result in zip(out, results, strict=True):
        if result is not given:  # a number; or memory that OpenCV did not take for its result
            given[...] = np.reshape(result, given.shape)


def _refused(function: Function, exc: Any) -> Exception:
    # OpenCV marks the lines of some reasons with a "> " of its own.
    lines = [line.removeprefix("> ") for line in str(exc.err).splitlines()]
    reason = " ".join(" ".join(lines).split())
    if "allocate" in reason:
        return ResourceExhausted(f"opencv {function.name}: out of memory: {reason}")
    return function.invalid(f"OpenCV refuses these arguments: {reason}")


# -- the functions: values by name, and memory for the image that they make --------------------

_RUN: dict[str, Callable[[Any, Values, Any], tuple[Any, ...]]] = {}


def _runs(function: Callable[[Any, Values, Any], tuple[Any, ...]]) -> Any:
    _RUN[function.__name__] = function
    return function


@_runs
def resize(cv2: Any, v: Values, out: Any) -> tuple[Any, ...]:
    size = (v["width"], v["height"])
    return (cv2.resize(v["image"], size, dst=out, interpolation=v["interpolation"]),)


@_runs
def cvtColor(cv2: Any, v: Values, out: Any) -> tuple[Any, ...]:
    return (cv2.cvtColor(v["image"], v["code"], dst=out),)


@_runs
def GaussianBlur(cv2: Any, v: Values, out: Any) -> tuple[Any, ...]:
    size, sigmas = (v["kernel_width"], v["kernel_height"]), (v["sigma_x"], v["sigma_y"])
    return (
        cv2.GaussianBlur(
            v["image"], size, sigmas[0], dst=out, sigmaY=sigmas[1], borderType=v["border"]
        ),
    )


@_runs
def Canny(cv2: Any, v: Values, out: Any) -> tuple[Any, ...]:
    limits = v["threshold1"], v["threshold2"]
    options = {"apertureSize": v["aperture_size"], "L2gradient": bool(v["l2_gradient"])}
    return (cv2.Canny(v["image"], *limits, edges=out, **options),)


@_runs
def threshold(cv2: Any, v: Values, out: Any) -> tuple[Any, ...]:
    kind = v["type"] | v["automatic"]
    used, image = cv2.threshold(v["image"], v["thresh"], v["maxval"], kind, dst=out)
    return used, image


@_runs
def warpAffine(cv2: Any, v: Values, out: Any) -> tuple[Any, ...]:
    flags = v["interpolation"] | (cv2.WARP_INVERSE_MAP if v["inverse"] else 0)
    border = {"borderMode": v["border"], "borderValue": (v["border_value"],) * 4}
    size = (v["width"], v["height"])
    return (cv2.warpAffine(v["image"], v["matrix"], size, dst=out, flags=flags, **border),)


@_runs
def matchTemplate(cv2: Any, v: Values, out: Any) -> tuple[Any, ...]:
    return (cv2.matchTemplate(v["image"], v["template"], v["method"], result=out),)
