"""Classes of places, on a grid of any resolution that covers the input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.error import InvalidArgument
from vaccel.inference.layouts.formats import Array, Format, Role, Shape, counted
from vaccel.inference.results import Mask

if TYPE_CHECKING:
    from vaccel.inference.description import Description

_MOST = 256
"""How many classes a mask of bytes can tell apart."""


def _is_grid(shape: Shape) -> bool:
    return len(shape) == 4 and shape[0] == 1 and 0 not in shape


def _is_logits(shape: Shape, dtype: np.dtype[Any], description: Description) -> bool:
    if not _is_grid(shape) or dtype.kind != "f":
        return False
    return 2 <= shape[1] <= _MOST and len(description.names) in (0, shape[1])


def _is_binary(shape: Shape, dtype: np.dtype[Any], description: Description) -> bool:
    one = _is_grid(shape) and shape[1] == 1 and dtype.kind == "f"
    return one and len(description.names) in (0, 2)


def _is_indices(shape: Shape, dtype: np.dtype[Any], description: Description) -> bool:
    flat = len(shape) == 3 or (len(shape) == 4 and shape[1] == 1)
    return flat and shape[0] == 1 and 0 not in shape and dtype.kind in "iu"


def _logits(description: Description, size: object, values: Array) -> Mask:
    return Mask(counted("class logits", values[0]))


def _binary(description: Description, size: object, values: Array) -> Mask:
    """Class 1 where a probability is above one half, or a logit above 0.

    Probabilities they are if all lie between 0 and 1.
    """
    of_one = counted("mask", values[0, 0]).astype(np.float32, copy=False)
    even = 0.5 if of_one.min() >= 0 and of_one.max() <= 1 else 0.0
    # As logits of two classes the border is found between the grid's places, too.
    return Mask(np.stack([np.full_like(of_one, even), of_one]))


def _indices(description: Description, size: object, values: Array) -> Mask:
    grid = values.reshape(values.shape[-2:])
    most = len(description.names) or _MOST
    if not 0 <= grid.min() <= grid.max() < most:
        raise InvalidArgument(
            f"model: mask: expected classes from 0 to {most - 1}, "
            f"found {grid.min()} to {grid.max()}; do the names fit the model?"
        )
    return Mask(grid)


_HINTS = ("logits", "masks", "mask", "out", "output", "output0")

FORMATS = (
    Format(
        "class_logits",
        "segment",
        f"[1, classes, h, w], 2 to {_MOST} classes, with a name for each",
        (Role("logits", _HINTS, _is_logits),),
        _logits,
    ),
    Format(
        "binary_mask",
        "segment",
        "[1, 1, h, w] of floats, with two names",
        (Role("mask", _HINTS, _is_binary),),
        _binary,
    ),
    Format(
        "class_indices",
        "segment",
        "[1, h, w] or [1, 1, h, w] of integers",
        (Role("mask", _HINTS, _is_indices),),
        _indices,
    ),
)
