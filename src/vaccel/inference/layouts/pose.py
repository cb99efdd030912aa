"""Keypoints: given as coordinates, as the peaks of heat maps, or with people's boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.inference.layouts.boxes import MOST_FOUND, above, corners, distinct, pixels
from vaccel.inference.layouts.formats import (
    Array,
    Format,
    Role,
    Shape,
    counted,
    fractions,
    sized,
    threshold,
)
from vaccel.inference.results import Keypoints

if TYPE_CHECKING:
    from vaccel.inference.description import Description

Dtype = np.dtype[Any]
Size = tuple[int, int] | None


def _movenet(description: Description, size: Size, values: Array) -> Keypoints:
    """[1, 1, points, 3]: y and x as parts of the input, score."""
    height, width = sized(size)
    y, x, scores = (values[0, 0, :, i] for i in range(3))
    places = counted("keypoints", np.stack([x, y], axis=-1), 1e3).astype(np.float32)
    points = places * np.array([width, height], np.float32)
    return Keypoints(_joined(points, fractions("scores", scores))[None])


def _heatmaps(description: Description, size: Size, values: Array) -> Keypoints:
    """[1, points, h, w], a map for each point: the cells of a map cover the input."""
    height, width = sized(size)
    peaks, scores = _peaks(counted("heatmaps", values[0]).astype(np.float32, copy=False))
    scale = np.array([width / values.shape[3], height / values.shape[2]], np.float32)
    return Keypoints(_joined((peaks + 0.5) * scale, scores)[None])


def _heatmaps_udp(description: Description, size: Size, values: Array) -> Keypoints:
    """The same, but the outermost cells' centres lie on those of the input's outermost pixels."""
    height, width = sized(size)
    peaks, scores = _peaks(counted("heatmaps", values[0]).astype(np.float32, copy=False))
    steps = np.maximum([values.shape[3] - 1, values.shape[2] - 1], 1)
    scale = (np.array([width - 1, height - 1]) / steps).astype(np.float32)
    return Keypoints(_joined(peaks * scale + 0.5, scores)[None])


def _peaks(maps: Array) -> tuple[Array, Array]:
    """Of maps [points, h, w] the places (x, y) of the largest values, in cells, and these values.

    Between cells: along each axis a parabola through the logarithms of the largest value and its
    two neighbours, which for a Gaussian peak is exact. At the border, and where the largest value
    is not positive, the cell itself.
    """
    flat = maps.reshape(len(maps), -1)
    place = flat.argmax(axis=1)
    each = np.arange(len(maps))
    best = flat[each, place]
    y, x = np.divmod(place, maps.shape[2])
    row, column = maps[each, y, :], maps[each, :, x]
    moved = np.stack([x + _beside(row, x, best), y + _beside(column, y, best)], axis=-1)
    return moved.astype(np.float32), np.clip(best, 0, 1)


def _beside(lines: Array, place: Array, best: Array) -> Array:
    """How far beyond `place` the peak of each line lies, from -0.5 to 0.5 cells."""
    last = lines.shape[1] - 1
    each = np.arange(len(lines))
    floor = np.maximum(best, 1e-30) * 1e-6  # a neighbour of 0 has no logarithm
    before, after = (
        np.log(np.maximum(lines[each, np.clip(place + step, 0, last)], floor)) for step in (-1, 1)
    )
    peak = np.log(np.maximum(best, floor))
    curvature = before - 2 * peak + after
    inside = (place > 0) & (place < last) & (best > 0) & (curvature < -1e-6)
    offset = (before - after) / np.where(inside, 2 * curvature, 1)
    return np.where(inside, np.clip(offset, -0.5, 0.5), 0.0)


def _yolo_pose(description: Description, size: Size, values: Array) -> Keypoints:
    """[1, 4 + classes + numbers, n]: centre and size of a person's box in pixels, score, then x, y
    and mostly a score for each keypoint."""
    points, numbers = _kpt_shape(description, values.shape)
    rows = values[0]
    classes = len(rows) - 4 - points * numbers
    kinds = rows[4 : 4 + classes]
    best = fractions("scores", kinds.max(axis=0, initial=0))
    chosen = above(best, threshold(description.thresholds, "score"))
    boxes = corners(pixels("boxes", rows[:4, chosen].T))
    kind = kinds[:, chosen].argmax(axis=0)
    kept = chosen[distinct(boxes, kind, threshold(description.thresholds, "iou"))]
    people = rows[4 + classes :, kept].T.reshape(-1, points, numbers)
    if numbers == 3:
        scores = fractions("keypoint scores", people[..., 2])
    else:  # points are as sure as their person
        scores = np.repeat(best[kept, None], points, axis=1)
    return Keypoints(_joined(pixels("keypoints", people[..., :2]), scores))


def _end_to_end(description: Description, size: Size, values: Array) -> Keypoints:
    """[1, n, 6 + 3 · points]: a person's box, score and class, then x, y and score for each
    keypoint; duplicates are suppressed already."""
    rows = values[0]
    sure = fractions("scores", rows[:, 4])
    chosen = above(sure, threshold(description.thresholds, "score"))[:MOST_FOUND]
    people = rows[chosen, 6:].reshape(len(chosen), -1, 3)
    scores = fractions("keypoint scores", people[..., 2])
    return Keypoints(_joined(pixels("keypoints", people[..., :2]), scores))


def _joined(places: Array, scores: Array) -> Array:
    return np.concatenate([places, scores[..., None]], axis=-1).astype(np.float32, copy=False)


def _kpt_shape(description: Description, shape: Shape) -> tuple[int, int]:
    """How many keypoints, and numbers for each: as described, or as one class of people says."""
    return description.kpt_shape or ((shape[1] - 5) // 3, 3)


def _is_movenet(shape: Shape, dtype: Dtype, description: Description) -> bool:
    few = len(shape) == 4 and shape[:2] == (1, 1) and shape[2] > 0 and shape[3] == 3
    return few and len(description.names) in (0, shape[2])


def _is_heatmaps(shape: Shape, dtype: Dtype, description: Description) -> bool:
    if len(shape) != 4 or shape[0] != 1 or 0 in shape or dtype.kind != "f":
        return False
    return shape[1] == len(description.names) or (not description.names and shape[1] > 1)


def _is_yolo_pose(shape: Shape, dtype: Dtype, description: Description) -> bool:
    if len(shape) != 3 or shape[0] != 1 or dtype.kind != "f":
        return False
    if description.kpt_shape:
        points, numbers = description.kpt_shape
        return shape[1] > 4 + points * numbers and len(description.names) in (0, points)
    points, left = divmod(shape[1] - 5, 3)
    # There are more places than numbers for each.
    return points > 0 and not left and len(description.names) in (0, points) and shape[1] < shape[2]


def _is_end_to_end(shape: Shape, dtype: Dtype, description: Description) -> bool:
    if len(shape) != 3 or shape[0] != 1 or dtype.kind != "f":
        return False
    points, left = divmod(shape[2] - 6, 3)
    if description.kpt_shape not in (None, (points, 3)):
        return False
    # There are more places than numbers for each.
    plain = description.kpt_shape is not None or shape[2] < shape[1]
    return plain and points > 0 and not left and len(description.names) in (0, points)


_HEATMAPS = Role("heatmaps", ("heatmaps", "heatmap"), _is_heatmaps)

FORMATS = (
    Format(
        "movenet",
        "pose",
        "[1, 1, points, 3]",
        (Role("keypoints", ("output_0", "output0", "keypoints"), _is_movenet),),
        _movenet,
    ),
    Format("heatmaps", "pose", "[1, points, h, w]", (_HEATMAPS,), _heatmaps),
    Format("heatmaps_udp", "pose", "[1, points, h, w]", (_HEATMAPS,), _heatmaps_udp, False),
    Format(
        "yolo_pose",
        "pose",
        "[1, 5 + 3 · points, n]",
        (Role("output", ("output0", "output"), _is_yolo_pose),),
        _yolo_pose,
    ),
    Format(
        "end_to_end_pose",
        "pose",
        "[1, n, 6 + 3 · points]",
        (Role("output", ("output0", "output"), _is_end_to_end),),
        _end_to_end,
    ),
)
