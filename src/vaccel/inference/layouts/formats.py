"""How a layout is told from others: the outputs that it consists of, and their shapes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vaccel.error import InvalidArgument

if TYPE_CHECKING:
    from vaccel.inference.description import Description
    from vaccel.inference.results import Result

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

LIMIT = 1e30
"""No output that means something holds larger numbers; their squares still fit into a double."""


class Output(NamedTuple):
    """An output of a model, declared or made; an extent of None is not declared."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        extents = ", ".join("?" if extent is None else str(extent) for extent in self.shape)
        return f"{self.name} {self.dtype} [{extents}]"


@dataclass(frozen=True)
class Role:
    """What one output of a layout is for.

    `fits` tells from its shape and dtype whether an output could be it. If several could, the first
    of `hints` decides that names exactly one of them, or is part of one name only.
    """

    name: str
    hints: tuple[str, ...]
    fits: Callable[[Shape, np.dtype[Any], Description], bool]

    def candidates(self, outputs: Sequence[Output], description: Description) -> list[Output]:
        """The outputs that could have this role; one, if that is plain."""
        fitting = [one for one in outputs if self._could_be(one, description)]
        wanted = description.outputs.get(self.name)
        if wanted is not None:
            return [one for one in fitting if one.name == wanted]
        if len(fitting) < 2:
            return fitting
        for hint in self.hints:
            for match in (str.__eq__, str.__contains__):
                named = [one for one in fitting if match(_plain(one.name), hint)]
                if len(named) == 1:
                    return named
        return fitting

    def _could_be(self, one: Output, description: Description) -> bool:
        if one.dtype.kind not in "fiu" or None in one.shape:
            return False
        shape = tuple(extent for extent in one.shape if extent is not None)
        return self.fits(shape, one.dtype, description)


def _plain(name: str) -> str:
    """A TensorFlow tensor's name ends with its index: detection_boxes:0."""
    return name.lower().partition(":")[0]


@dataclass(frozen=True)
class Format:
    """A layout. `read` makes the result from the description, the size of the model's input
    (height, width; None if unknown) and an array for each role."""

    key: str
    task: str
    shapes: str
    """What it looks like, for errors and documents."""
    roles: tuple[Role, ...]
    read: Callable[..., Result]
    guessed: bool = True
    """Whether it is recognised; one that looks like another must be named."""

    def fits(self, outputs: Sequence[Output], description: Description) -> bool:
        """Whether each role has an output that could be it, and no two roles must share one."""
        found = [role.candidates(outputs, description) for role in self.roles]
        if not all(found):
            return False
        plain = [one[0].name for one in found if len(one) == 1]
        return len(plain) == len(set(plain)) and len(outputs) >= len(self.roles)

    def bind(self, outputs: Sequence[Output], description: Description) -> list[str]:
        """The name of the output for each role. InvalidArgument: none fits, or several do."""
        names: list[str] = []
        for role in self.roles:
            found = role.candidates(outputs, description)
            if not found:
                raise InvalidArgument(
                    f"model: output_format {self.key}: expected {self.shapes}, "
                    f"for {known_names(description)}; "
                    f"found no output that could be its {role.name}: {listed(outputs)}"
                )
            if len(found) > 1 or found[0].name in names:
                raise Unsettled(
                    "outputs",
                    f"{listed(found)} could be the {role.name} of {self.key}",
                    {role.name: found[0].name},
                )
            names.append(found[0].name)
        return names


def listed(outputs: Sequence[Output]) -> str:
    """The outputs in words; long lists are cut short."""
    some = ", ".join(str(one) for one in outputs[:8])
    return f"{some} and {len(outputs) - 8} more" if len(outputs) > 8 else some or "none"


def known_names(description: Description) -> str:
    count = len(description.names)
    return f"{count} names" if count else "any number of names"


class Unsettled(InvalidArgument):
    """Nothing says what `key` is; `reason` says why it is asked for."""

    def __init__(self, key: str, reason: str, example: Any) -> None:
        super().__init__(advice(key, reason, example))
        self.key = key
        self.reason = reason


def advice(key: str, reason: str, example: Any) -> str:
    """What settles `key`, as a line for the model's sidecar."""
    line = json.dumps({key: example})[1:-1]
    return (
        f"model: {key} is not known: {reason}; "
        f"add it to the file MODEL.vaccel.json beside the model, or to the resource's description, "
        f"for example {line} (docs/models.md)"
    )


def counted(name: str, values: Array, limit: float = LIMIT) -> Array:
    """`values`, checked. InvalidArgument: NaN, infinity or a number beyond ±limit is among them."""
    if values.size:
        least, most = float(values.min()), float(values.max())  # no overflow in half precision
        if not (least >= -limit and most <= limit):
            raise InvalidArgument(
                f"model: {name}: expected numbers from {-limit:g} to {limit:g}, "
                f"found {least:g} to {most:g}"
            )
    return values


def fractions(name: str, values: Array) -> Array:
    """Scores, float32. InvalidArgument: they are not from 0 to 1, as those of logits would be."""
    counted(name, values)
    # A little beyond is rounding in half precision.
    if values.size and not (values.min() >= -0.001 and values.max() <= 1.001):
        raise InvalidArgument(
            f"model: {name}: expected scores from 0 to 1, "
            f"found {values.min():g} to {values.max():g}; is output_format right?"
        )
    return np.clip(values, 0, 1).astype(np.float32, copy=False)


def softmax(logits: Array) -> Array:
    """Over the last axis, in float64."""
    top = logits.max(axis=-1, keepdims=True)
    powers: Array = np.subtract(logits, top, dtype=np.float64)
    np.exp(powers, out=powers)
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def sigmoid(logits: Array) -> Array:
    """In float64; beyond ±60 it is 0 or 1 anyhow."""
    clipped = np.clip(logits.astype(np.float64), -60, 60)
    return np.asarray(1 / (1 + np.exp(-clipped)))


def threshold(thresholds: Mapping[str, float], key: str) -> float:
    return thresholds.get(key, THRESHOLDS[key])


THRESHOLDS = {"score": 0.25, "iou": 0.7, "keypoint": 0.3}
"""What holds where a description has no thresholds of its own."""


def sized(size: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the model's input, for outputs that are parts of it."""
    if size is None:
        raise Unsettled("size", "the model takes any", {"height": 224, "width": 224})
    return size
