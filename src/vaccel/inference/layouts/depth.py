"""Depth of places, [1, h, w] or [1, 1, h, w], on a grid that covers the input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.inference.layouts.formats import Array, Format, Role, Shape, counted
from vaccel.inference.results import Depth

if TYPE_CHECKING:
    from vaccel.inference.description import Description

_NEAREST = 1e-3
"""Metres. No camera sees what is nearer, and the inverse must stay finite."""


def _is_depth(shape: Shape, dtype: np.dtype[Any], description: Description) -> bool:
    flat = len(shape) == 3 or (len(shape) == 4 and shape[1] == 1)
    return flat and shape[0] == 1 and 0 not in shape


def _inverse(description: Description, size: object, values: Array) -> Depth:
    grid = values.reshape(values.shape[-2:])
    return Depth(counted("depth", grid).astype(np.float32, copy=False))


def _metric(description: Description, size: object, values: Array) -> Depth:
    """Distances → their inverse; 0 where the model knows none, and says 0 or less."""
    far = _inverse(description, size, values).depth
    inverse = np.zeros_like(far)
    np.divide(1, np.maximum(far, _NEAREST), out=inverse, where=far > 0)
    return Depth(inverse)


_ROLES = (Role("depth", ("predicted_depth", "inverse_depth", "depth", "output"), _is_depth),)
_SHAPES = "[1, h, w] or [1, 1, h, w]"

FORMATS = (
    Format("inverse_depth", "depth", _SHAPES, _ROLES, _inverse),
    Format("metric_depth", "depth", _SHAPES, _ROLES, _metric, guessed=False),
)
