"""What image models found, apart from how their outputs are laid out.

Coordinates are (x, y) in pixels of the model's input, from its top left corner; the centre of the
first pixel lies at 0.5. They may lie outside of the input. All numbers are finite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

F32s = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Scores:
    """Probabilities from 0 to 1 of all classes, float32 [classes], in the model's order."""

    scores: F32s


@dataclass(frozen=True, eq=False)
class Boxes:
    """Things found, best first: n of them, n may be 0."""

    boxes: F32s
    """[n, 4]: left, top, right, bottom."""
    scores: F32s
    """[n], from 0 to 1."""
    classes: npt.NDArray[np.int32]
    """[n], indices of the description's names."""


@dataclass(frozen=True, eq=False)
class Mask:
    """The class of each place, on a grid that covers the input, whatever its resolution."""

    grid: npt.NDArray[Any]
    """Logits (floats) [classes, h, w], to be interpolated before the largest is taken; or class
    indices (integers) [h, w]."""

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """The class of each place of the grid, [h, w]."""
        grid = self.grid.argmax(axis=0) if self.grid.ndim == 3 else self.grid
        return grid.astype(np.int64, copy=False)


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Keypoints of each person, best first: float32 [people, points, 3], people may be 0."""

    points: F32s
    """x, y, score from 0 to 1."""


@dataclass(frozen=True, eq=False)
class Depth:
    """Relative inverse depth, float32 [h, w], on a grid that covers the input: larger is nearer."""

    depth: F32s


Result = Scores | Boxes | Mask | Keypoints | Depth
