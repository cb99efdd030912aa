"""Scores of classes: [1, classes] or [1, classes, 1, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.inference.layouts.formats import (
    LIMIT,
    Array,
    Format,
    Role,
    Shape,
    counted,
    fractions,
    softmax,
)
from vaccel.inference.results import Scores

if TYPE_CHECKING:
    from vaccel.inference.description import Description

_NEAR_ONE = 0.01
"""How far from 1 the sum of probabilities may be, for models of few bits."""


def _is_scores(shape: Shape, dtype: np.dtype[Any], description: Description) -> bool:
    flat = len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))
    return flat and shape[0] == 1 and shape[1] > 0 and len(description.names) in (0, shape[1])


def _scores(description: Description, size: object, values: Array) -> Scores:
    """Probabilities, if none is negative and their sum is 1; otherwise logits."""
    flat = values.reshape(-1)
    whole = flat.min() >= 0 and flat.max() <= 1 + _NEAR_ONE
    if whole and abs(flat.sum(dtype=np.float64) - 1) <= _NEAR_ONE:
        return _probabilities(description, size, flat)
    return _logits(description, size, flat)


def _logits(description: Description, size: object, values: Array) -> Scores:
    flat = values.reshape(-1)
    # The largest alone tells: classes that a model rules out are minus infinity in some.
    if not -LIMIT <= float(flat.max()) <= LIMIT:
        counted("scores", flat)
    return Scores(softmax(flat).astype(np.float32))


def _probabilities(description: Description, size: object, values: Array) -> Scores:
    return Scores(fractions("scores", values.reshape(-1)))


_ROLES = (Role("scores", ("logits", "probabilities", "scores", "output0"), _is_scores),)
_SHAPES = "[1, classes] or [1, classes, 1, 1], with a name for each class"

FORMATS = (
    Format("scores", "classify", _SHAPES, _ROLES, _scores),
    Format("logits", "classify", _SHAPES, _ROLES, _logits, guessed=False),
    Format("probabilities", "classify", _SHAPES, _ROLES, _probabilities, guessed=False),
)
