"""The keys by which an image model is described, and what each may hold.

Whatever a checker gets, it gives the value in one form or raises Unfit; the values come from files
that anybody may have written.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from vaccel.error import InvalidArgument

TASKS = ("classify", "detect", "segment", "pose", "depth")
_PIPELINES = {
    "image-classification": "classify",
    "object-detection": "detect",
    "image-segmentation": "segment",
    "semantic-segmentation": "segment",
    "keypoint-detection": "pose",
    "pose-estimation": "pose",
    "depth-estimation": "depth",
}
"""What Hugging Face calls the tasks."""

MOST_NAMES = 100_000
MOST_SIDE = 16_384
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By Pillow's numbers."""

_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = 60


class Unfit(ValueError):
    """A value is not what its key may hold; the text says what that would be."""


@dataclass(frozen=True)
class Size:
    """How large a picture is made: (height, width), or the length of its shorter side."""

    exact: tuple[int, int] | None = None
    shortest: int | None = None

    def within(self) -> tuple[int, int] | None:
        """The size itself; for a shorter side the square over it."""
        return self.exact or (self.shortest and (self.shortest, self.shortest)) or None


class Fact(NamedTuple):
    value: Any
    origin: str


def take(facts: dict[str, Fact], source: Mapping[str, Any], origin: str) -> None:
    """Add from `source` what is not known yet. InvalidArgument: it is nothing for its key."""
    for key, value in source.items():
        if key in CHECKS and key not in facts:
            facts[key] = Fact(checked(CHECKS[key], origin, key, value), origin)


def checked(check: Callable[[Any], Any], origin: str, key: str, value: Any) -> Any:
    try:
        return check(value)
    except Unfit as exc:
        found = _shorten.repr(value)
        raise InvalidArgument(f"{origin}: {key}: expected {exc}, found {found}") from None


def one_of(*texts: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in texts:
            raise Unfit(f"one of {', '.join(texts)}")
        return value

    return check


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit("a text")
    return value


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unfit("true or false")
    return value


def number(value: Any) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise Unfit("a number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not abs(found) < 1e6:  # as floats for a model, not even these make sense
        raise Unfit("a number below a million")
    return found


def positive(value: Any) -> float:
    found = number(value)
    if found < 1e-9:
        raise Unfit("a positive number")
    return found


def _side(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MOST_SIDE:
        raise Unfit(f"whole numbers of pixels from 1 to {MOST_SIDE}")
    return value


def task(value: Any) -> str:
    return one_of(*TASKS)(_PIPELINES.get(value, value) if isinstance(value, str) else value)


def names(value: Any) -> tuple[str, ...]:
    """A list, or names by number, whose gaps get their number as name."""
    if isinstance(value, Mapping):
        return _numbered(value)
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise Unfit("a list of names, or names by number")
    if len(value) > MOST_NAMES or not all(isinstance(one, str) for one in value):
        raise Unfit(f"at most {MOST_NAMES} names, all of them texts")
    return tuple(value)


def _numbered(value: Mapping[Any, Any]) -> tuple[str, ...]:
    places: dict[int, str] = {}
    for key, name in value.items():
        written = str(key) if isinstance(key, (int, str)) and not isinstance(key, bool) else ""
        # int() would take digits of other scripts, and thousands of them.
        if not (written.isascii() and written.isdigit() and len(written) < 7):
            raise Unfit(f"names by number from 0 to {MOST_NAMES - 1}")
        if int(written) >= MOST_NAMES or not isinstance(name, str):
            raise Unfit(f"texts by number from 0 to {MOST_NAMES - 1}")
        places[int(written)] = name
    return tuple(places.get(i, str(i)) for i in range(max(places, default=-1) + 1))


def size(value: Any) -> Size:
    """A number is the side of a square; a list is height and width; Hugging Face's dictionaries."""
    if isinstance(value, Mapping):
        for keys in (("height", "width"), ("max_height", "max_width")):
            if keys[0] in value and keys[1] in value:
                return Size((_side(value[keys[0]]), _side(value[keys[1]])))
        for key in ("shortest_edge", "longest_edge"):
            if key in value:
                return Size(shortest=_side(value[key]))
        raise Unfit("height and width, or shortest_edge")
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        if len(value) != 2:
            raise Unfit("height and width")
        return Size((_side(value[0]), _side(value[1])))
    side = _side(value)
    return Size((side, side))


def exact_size(value: Any) -> tuple[int, int]:
    found = size(value).exact
    if found is None:
        raise Unfit("height and width")
    return found


def resample(value: Any) -> str:
    """A name in any case, or Pillow's number for it."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(_FILTERS):
        return _FILTERS[value]
    if not isinstance(value, str) or value.lower() not in _FILTERS:
        raise Unfit(f"one of {', '.join(_FILTERS)}, or its number from 0 to 5")
    return value.lower()


def _channels(check: Callable[[Any], float]) -> Callable[[Any], tuple[float, ...]]:
    def channels(value: Any) -> tuple[float, ...]:
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            if len(value) not in (1, 3):
                raise Unfit("a number for each of the 3 channels")
            found = tuple(check(one) for one in value)
            return found if len(found) == 3 else found * 3
        return (check(value),) * 3

    return channels


def dtype(value: Any) -> np.dtype[Any]:
    if isinstance(value, (str, np.dtype)) or (
        isinstance(value, type) and issubclass(value, np.generic)
    ):
        try:
            found = np.dtype(value)
        except (TypeError, ValueError, SyntaxError):  # numpy parses texts as lists of fields
            found = np.dtype(object)
        if found.kind in "fiu":
            return found
    raise Unfit("the name of a numpy dtype of numbers, such as float32")


def _pixel(value: Any) -> float:
    found = number(value)
    if not 0 <= found <= 255:
        raise Unfit("a pixel value from 0 to 255")
    return found


def thresholds(value: Any) -> dict[str, float]:
    known = ("score", "iou", "keypoint")
    if not isinstance(value, Mapping) or not all(key in known for key in value):
        raise Unfit(f"numbers by {', '.join(known)}")
    found = {key: number(one) for key, one in value.items()}
    if not all(0 <= one <= 1 for one in found.values()):
        raise Unfit("numbers from 0 to 1")
    return found


def roles(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(
        isinstance(key, str) and isinstance(name, str) for key, name in value.items()
    ):
        raise Unfit("names of the model's outputs by role")
    return dict(value)


def kpt_shape(value: Any) -> tuple[int, int]:
    fits = isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and len(value) == 2
    if not fits or value[1] not in (2, 3) or isinstance(value[1], bool):
        raise Unfit("how many keypoints, and 2 or 3 numbers for each")
    return _side(value[0]), int(value[1])


CHECKS: dict[str, Callable[[Any], Any]] = {
    "task": task,
    "names": names,
    "layout": one_of("NCHW", "NHWC"),
    "color_order": one_of("RGB", "BGR"),
    "dtype": dtype,
    "do_resize": flag,
    "resize_mode": one_of("stretch", "letterbox", "crop"),
    "size": size,
    "crop_size": exact_size,
    "resample": resample,
    "rescale_factor": positive,
    "image_mean": _channels(number),
    "image_std": _channels(positive),
    "pad_value": _pixel,
    "output_format": text,
    "outputs": roles,
    "kpt_shape": kpt_shape,
    "thresholds": thresholds,
}
"""Every key of a sidecar, of arguments and of a model's own metadata."""

TEXTS = ("task", "layout", "color_order", "dtype", "resize_mode", "output_format")
