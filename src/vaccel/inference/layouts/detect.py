"""Things with boxes: the YOLO families, DETR's, and those that suppress duplicates themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.error import InvalidArgument
from vaccel.inference.layouts.boxes import MOST_FOUND, above, corners, distinct, pixels
from vaccel.inference.layouts.formats import (
    Array,
    Format,
    Role,
    Shape,
    counted,
    fractions,
    sigmoid,
    sized,
    softmax,
    threshold,
)
from vaccel.inference.results import Boxes

if TYPE_CHECKING:
    from vaccel.inference.description import Description

Dtype = np.dtype[Any]
Size = tuple[int, int] | None


def _yolov8(description: Description, size: Size, values: Array) -> Boxes:
    """[1, 4 + classes, n]: centre and size in pixels, then scores."""
    boxes, scores = values[0, :4], values[0, 4:]
    best = fractions("scores", scores.max(axis=0, initial=0))
    chosen = above(best, threshold(description.thresholds, "score"))
    classes = scores[:, chosen].argmax(axis=0)
    return _suppressed(description, boxes[:, chosen].T, best[chosen], classes)


def _yolov5(description: Description, size: Size, values: Array) -> Boxes:
    """[1, n, 5 + classes]: centre and size in pixels, how likely a thing, and which then."""
    rows, least = values[0], threshold(description.thresholds, "score")
    likely = fractions("scores", rows[:, 4])
    rows = rows[likely >= least]  # no class raises the score: most rows go here
    scores = fractions("scores", rows[:, 5:].max(axis=1, initial=0)) * likely[likely >= least]
    chosen = above(scores, least)
    classes = rows[chosen, 5:].argmax(axis=1)
    return _suppressed(description, rows[chosen, :4], scores[chosen], classes)


def _suppressed(description: Description, centred: Array, scores: Array, classes: Array) -> Boxes:
    boxes = corners(pixels("boxes", centred))
    kept = distinct(boxes, classes, threshold(description.thresholds, "iou"))
    return Boxes(boxes[kept], scores[kept], classes[kept].astype(np.int32))


def _end_to_end(description: Description, size: Size, values: Array) -> Boxes:
    """[1, n, 6]: corners in pixels, score, class; duplicates are suppressed already."""
    rows = values[0]
    return _listed(description, rows[:, :4], rows[:, 5], rows[:, 4])


def _torchvision(
    description: Description, size: Size, boxes: Array, classes: Array, scores: Array
) -> Boxes:
    """[n, 4] corners in pixels, [n] classes, [n] scores."""
    return _listed(description, boxes, classes, scores)


def _ssd(
    description: Description,
    size: Size,
    boxes: Array,
    classes: Array,
    scores: Array,
    count: Array,
) -> Boxes:
    """[1, n, 4] top, left, bottom, right as parts of the input; [1, n] classes, [1, n] scores;
    how many of the n there are."""
    height, width = sized(size)
    n = _whole("count", count.reshape(-1), boxes.shape[1] + 1)[0]
    parts = counted("boxes", boxes[0, :n], 1e3).astype(np.float32)
    scaled = parts[:, [1, 0, 3, 2]] * np.array([width, height] * 2, np.float32)
    return _listed(description, scaled, classes[0, :n], scores[0, :n])


def _listed(description: Description, boxes: Array, classes: Array, scores: Array) -> Boxes:
    """What a model has chosen itself: only the score decides, and orders."""
    if not len(boxes) == len(classes) == len(scores):
        raise InvalidArgument(
            f"model: expected as many boxes as classes and scores, "
            f"found {len(boxes)}, {len(classes)} and {len(scores)}"
        )
    sure = fractions("scores", scores)
    chosen = above(sure, threshold(description.thresholds, "score"))[:MOST_FOUND]
    most = len(description.names) or 2**31
    kinds = _whole("classes", classes[chosen], most)
    return Boxes(pixels("boxes", boxes[chosen]), sure[chosen], kinds.astype(np.int32))


def _whole(name: str, values: Array, end: int) -> Array:
    """Whole numbers that a model may have put out as floats. InvalidArgument: not below `end`."""
    counted(name, values)
    # The range first: numbers beyond those of int64 have no value there.
    within = not len(values) or 0 <= values.min() <= values.max() < end
    if not within or (np.trunc(values) != values).any():
        raise InvalidArgument(
            f"model: {name}: expected whole numbers from 0 to {end - 1}, "
            f"found {values.min():g} to {values.max():g}; do names and output_format fit?"
        )
    return values.astype(np.int64)


def _detr(description: Description, size: Size, logits: Array, boxes: Array) -> Boxes:
    """[1, n, classes + 1] logits, the last of nothing; [1, n, 4] centre and size as parts of the
    input."""
    return _queries(description, size, softmax(counted("logits", logits[0]))[:, :-1], boxes)


def _detr_sigmoid(description: Description, size: Size, logits: Array, boxes: Array) -> Boxes:
    """[1, n, classes] logits, each class by itself; [1, n, 4] as above."""
    return _queries(description, size, sigmoid(counted("logits", logits[0])), boxes)


def _queries(description: Description, size: Size, scores: Array, boxes: Array) -> Boxes:
    """Each query finds one thing, of its likeliest class."""
    height, width = sized(size)
    if len(scores) != boxes.shape[1]:
        raise InvalidArgument(
            f"model: expected as many logits as boxes, found {len(scores)} and {boxes.shape[1]}"
        )
    scale = np.array([width, height] * 2, np.float32)
    placed = corners(counted("boxes", boxes[0], 1e3).astype(np.float32) * scale)
    return _listed(description, placed, scores.argmax(axis=1), scores.max(axis=1))


def _rows(shape: Shape) -> bool:
    return len(shape) == 3 and shape[0] == 1


def _is_yolov8(shape: Shape, dtype: Dtype, description: Description) -> bool:
    if not _rows(shape) or dtype.kind != "f":
        return False
    classes = len(description.names)
    # There are always more places than classes.
    return shape[1] == 4 + classes if classes else 5 <= shape[1] < shape[2]


def _is_yolov5(shape: Shape, dtype: Dtype, description: Description) -> bool:
    if not _rows(shape) or dtype.kind != "f":
        return False
    classes = len(description.names)
    return shape[2] == 5 + classes if classes else 6 <= shape[2] < shape[1]


def _is_end_to_end(shape: Shape, dtype: Dtype, description: Description) -> bool:
    return _rows(shape) and shape[2] == 6


def _is_boxes(shape: Shape, dtype: Dtype, description: Description) -> bool:
    return _rows(shape) and shape[2] == 4 and dtype.kind == "f"


def _is_softmax(shape: Shape, dtype: Dtype, description: Description) -> bool:
    classes = len(description.names)
    return _rows(shape) and shape[2] >= 2 and (not classes or shape[2] == classes + 1)


def _is_sigmoid(shape: Shape, dtype: Dtype, description: Description) -> bool:
    classes = len(description.names)
    return _rows(shape) and shape[2] >= 1 and (not classes or shape[2] == classes)


def _is_listed(shape: Shape, dtype: Dtype, description: Description) -> bool:
    return len(shape) == 2 and shape[0] == 1


def _is_count(shape: Shape, dtype: Dtype, description: Description) -> bool:
    return shape in ((1,), (1, 1))


def _is_bare_boxes(shape: Shape, dtype: Dtype, description: Description) -> bool:
    return len(shape) == 2 and shape[1] == 4


def _is_bare_list(shape: Shape, dtype: Dtype, description: Description) -> bool:
    return len(shape) == 1


_BOXES = ("detection_boxes", "pred_boxes", "boxes", "bboxes", "box")
_CLASSES = ("detection_classes", "classes", "labels", "class", "label")
_SCORES = ("detection_scores", "scores", "score")
_COUNT = ("num_detections", "count", "num")
_LOGITS = ("logits", "pred_logits", "scores")
_DETR_BOXES = Role("boxes", _BOXES, _is_boxes)

FORMATS = (
    Format(
        "yolov8",
        "detect",
        "[1, 4 + classes, n]",
        (Role("output", ("output0", "output"), _is_yolov8),),
        _yolov8,
    ),
    Format(
        "yolov5",
        "detect",
        "[1, n, 5 + classes]",
        (Role("output", ("output0", "output"), _is_yolov5),),
        _yolov5,
    ),
    Format(
        "end_to_end",
        "detect",
        "[1, n, 6]",
        (Role("output", ("output0", "output"), _is_end_to_end),),
        _end_to_end,
    ),
    Format(
        "detr",
        "detect",
        "logits [1, n, classes + 1] and boxes [1, n, 4]",
        (Role("logits", _LOGITS, _is_softmax), _DETR_BOXES),
        _detr,
    ),
    Format(
        "detr_sigmoid",
        "detect",
        "logits [1, n, classes] and boxes [1, n, 4]",
        (Role("logits", _LOGITS, _is_sigmoid), _DETR_BOXES),
        _detr_sigmoid,
    ),
    Format(
        "ssd",
        "detect",
        "boxes [1, n, 4], classes [1, n], scores [1, n] and their count [1]",
        (
            Role("boxes", _BOXES, _is_boxes),
            Role("classes", _CLASSES, _is_listed),
            Role("scores", _SCORES, _is_listed),
            Role("count", _COUNT, _is_count),
        ),
        _ssd,
    ),
    Format(
        "torchvision",
        "detect",
        "boxes [n, 4], labels [n] and scores [n]",
        (
            Role("boxes", _BOXES, _is_bare_boxes),
            Role("classes", _CLASSES, _is_bare_list),
            Role("scores", _SCORES, _is_bare_list),
        ),
        _torchvision,
    ),
)
