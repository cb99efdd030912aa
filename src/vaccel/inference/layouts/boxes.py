"""Boxes with scores: those worth keeping, and one of several that are the same thing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vaccel.inference.layouts.formats import Array, counted

MOST_CANDIDATES = 4096
"""How many boxes, the best ones, are compared with each other."""
MOST_FOUND = 300
"""How many are kept of them."""
_FARTHEST = 1e6
"""Pixels. Boxes reach beyond the input, but not so far."""

Indices = npt.NDArray[np.intp]


def above(scores: Array, threshold: float) -> Indices:
    """The indices of scores from `threshold` up, best first, at most MOST_CANDIDATES."""
    found = np.flatnonzero(scores >= threshold)
    if len(found) > MOST_CANDIDATES:
        best = np.argpartition(scores[found], -MOST_CANDIDATES)[-MOST_CANDIDATES:]
        found = np.sort(found[best])  # equal scores stay in the model's order
    order = np.argsort(-scores[found].astype(np.float32), kind="stable")
    return found[order]


def pixels(name: str, values: Array) -> npt.NDArray[np.float32]:
    """Coordinates, float32. InvalidArgument: they are no pixels of any input."""
    return counted(name, values, _FARTHEST).astype(np.float32, copy=False)


def corners(centred: Array) -> Array:
    """[n, 4] of centre x, centre y, width, height → left, top, right, bottom."""
    middle, half = centred[:, :2], centred[:, 2:4] / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def distinct(boxes: Array, classes: Array, iou: float) -> Indices:
    """The boxes that remain when each in turn, best first, drops those of its class that overlap
    it by more than `iou` (intersection over union); at most MOST_FOUND.

    `boxes` are [n, 4], ordered from the best; its indices are given. Takes memory for n numbers,
    not for n².
    """
    left, top, right, bottom = (np.ascontiguousarray(boxes[:, i], np.float64) for i in range(4))
    areas = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    rest = np.arange(len(boxes))
    kept: list[int] = []
    while len(rest) and len(kept) < MOST_FOUND:
        best, rest = rest[0], rest[1:]
        kept.append(int(best))
        width = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest])
        height = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        # Without a division: an area may be 0.
        same = shared > iou * (areas[best] + areas[rest] - shared)
        rest = rest[~(same & (classes[rest] == classes[best]))]
    return np.array(kept, np.intp)
