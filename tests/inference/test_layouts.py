"""Models of every layout, run by onnxruntime, decode to the answers that their weights say."""

from __future__ import annotations

import contextlib
import tracemalloc
import warnings
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.models import (
    PLAIN,
    Engine,
    by_pixel,
    decode,
    grey,
    mean_colour,
    model,
    node,
    table,
)
from vaccel.error import InvalidArgument
from vaccel.inference import layouts
from vaccel.inference.description import Description
from vaccel.inference.layouts.boxes import MOST_CANDIDATES, MOST_FOUND, distinct
from vaccel.inference.results import Boxes, Depth, Keypoints, Mask, Result, Scores

R = TypeVar("R", bound=Result)
COLOURS = np.eye(3, dtype=np.float32) * 4  # class i is the colour channel i
NONE = np.zeros(3, np.float32)


def found(kind: type[R], content: bytes, images: Any, **explicit: Any) -> R:
    result = Engine(content, PLAIN | explicit).find(images)
    assert isinstance(result, kind)
    return result


def floats(*rows: Any) -> Any:
    return np.array(rows, np.float32)


# classify


@pytest.mark.parametrize("flat", [True, False], ids=["[1, C]", "[1, C, 1, 1]"])
def test_logits_become_probabilities(flat: bool):
    picture = grey(0)
    picture[:, 1] = 0.5
    scores = found(Scores, mean_colour(COLOURS, NONE, flat=flat), picture, task="classify").scores
    powers = np.exp([0, 2, 0])
    np.testing.assert_allclose(scores, powers / powers.sum(), rtol=1e-6)
    assert scores.dtype == np.float32


def test_probabilities_stay_as_they_are():
    content = mean_colour(COLOURS, NONE, softmax=True)
    engine = Engine(content, {**PLAIN, "task": "classify"})
    picture = grey(0.25)
    made = engine.outputs(picture)["logits"]
    scores = decode(engine.description, {"logits": made})
    assert isinstance(scores, Scores)
    np.testing.assert_array_equal(scores.scores, made[0])


def test_scores_of_each_class_by_itself_can_be_declared_probabilities():
    content = table({"probabilities": floats([0.9, 0.8, 0.1])})
    explicit = {"task": "classify", "output_format": "probabilities"}
    scores = found(Scores, content, grey(), **explicit).scores
    np.testing.assert_array_equal(scores, floats(0.9, 0.8, 0.1))


def test_probabilities_in_declared_logits_are_logits():
    content = table({"logits": floats([0.25, 0.75])})
    explicit = {"task": "classify", "output_format": "logits"}
    scores = found(Scores, content, grey(), **explicit).scores
    np.testing.assert_allclose(scores[1], 1 / (1 + np.exp(-0.5)), rtol=1e-6)


def test_a_class_ruled_out_has_no_chance():
    scores = found(Scores, table({"logits": floats([0, -np.inf])}), grey(), task="classify").scores
    np.testing.assert_array_equal(scores, floats(1, 0))


# detect

NC = 3
NAMES = ["cat", "dog", "owl"]
# centre x, centre y, width, height, class, score
THINGS = [
    (20, 30, 10, 20, 0, 0.9),
    (21, 30, 10, 20, 0, 0.8),  # the first again
    (20, 30, 10, 20, 1, 0.7),  # another class at the same place
    (50, 10, 8, 4, 2, 0.6),
    (70, 70, 5, 5, 1, 0.1),  # too uncertain
]
CORNERS = floats([15, 20, 25, 40], [15, 20, 25, 40], [46, 8, 54, 12])
CLASSES = [0, 1, 2]
SCORES = floats(0.9, 0.7, 0.6)


def expect(boxes: Boxes) -> None:
    np.testing.assert_allclose(boxes.boxes, CORNERS, atol=1e-4)
    np.testing.assert_allclose(boxes.scores, SCORES, atol=1e-6)
    assert boxes.classes.tolist() == CLASSES
    assert [one.dtype.name for one in (boxes.boxes, boxes.scores, boxes.classes)] == [
        "float32",
        "float32",
        "int32",
    ]


def yolo_rows(places: int = 12) -> Any:
    """[places, 4 + classes]: THINGS among places where nothing is."""
    rows = np.zeros((places, 4 + NC), np.float32)
    rows[:, :4] = (40, 40, 4, 4)
    for i, (x, y, w, h, kind, score) in enumerate(THINGS):
        rows[2 * i, :4] = (x, y, w, h)
        rows[2 * i, 4 + kind] = score
    return rows


def yolov8(**options: Any) -> bytes:
    values = np.ascontiguousarray(yolo_rows().T)[None]
    bright = np.array([0] * 4 + [1] * NC)[:, None]
    return table({"output0": values}, {"output0": bright}, images=(1, 3, 96, 96), **options)


def yolov5() -> bytes:
    rows = yolo_rows()
    objectness = (rows[:, 4:].max(axis=1, keepdims=True) > 0).astype(np.float32)
    values = np.concatenate([rows[:, :4], objectness, rows[:, 4:]], axis=1)[None]
    bright = np.array([0] * 4 + [1] + [0] * NC)
    return table({"output0": values}, {"output0": bright}, images=(1, 3, 96, 96))


def end_to_end() -> bytes:
    rows = [[*box, score, kind] for box, score, kind in zip(CORNERS, SCORES, CLASSES, strict=True)]
    values = floats([rows[2], [1, 1, 2, 2, 0.2, 0], rows[0], rows[1], *([[0] * 6] * 4)])
    return table(
        {"output0": values}, {"output0": np.array([0] * 4 + [1, 0])}, images=(1, 3, 96, 96)
    )


def centred(sides: int = 100) -> Any:
    rows = floats(*([x, y, w, h] for x, y, w, h, *_ in (THINGS[0], THINGS[2], THINGS[3])))
    return np.concatenate([rows, floats([50, 50, 10, 10])])[None] / sides


def detr(logits: Any) -> bytes:
    values = {"logits": logits[None], "pred_boxes": centred()}
    return table(values, images=(1, 3, 100, 100))


def softmax_logits() -> Any:
    """Three things and nothing, with SCORES as their probabilities."""
    parts = np.full((4, NC + 1), 0.001)
    for i, (kind, score) in enumerate(zip(CLASSES, SCORES, strict=True)):
        parts[i, kind] = score
    parts[:, NC] = 1 - parts[:, :NC].sum(axis=1)
    return np.log(parts).astype(np.float32)


def sigmoid_logits() -> Any:
    parts = np.full((4, NC), 0.01)
    for i, (kind, score) in enumerate(zip(CLASSES, SCORES, strict=True)):
        parts[i, kind] = score
    return np.log(parts / (1 - parts)).astype(np.float32)


def ssd(prefix: str = "detection_") -> bytes:
    fractions = CORNERS[:, [1, 0, 3, 2]] / 100
    beyond = floats([0, 0, 1, 1])  # not counted, whatever its score
    values = {
        f"{prefix}boxes": np.concatenate([fractions, beyond])[None],
        f"{prefix}classes": floats([*CLASSES, 0]),
        f"{prefix}scores": floats([*SCORES, 0.99]),
        "num_detections": floats(3),
    }
    bright = {"num_detections": floats(1)}
    return table(values, bright, images=(1, 3, 100, 100))


def torchvision() -> bytes:
    values = {
        "boxes": CORNERS,
        "labels": np.array(CLASSES, np.int64),
        "scores": SCORES,
    }
    return table(values, {"scores": floats(1)}, images=(1, 3, 100, 100))


DETECTORS = {
    "yolov8": yolov8,
    "yolov5": yolov5,
    "end_to_end": end_to_end,
    "detr": lambda: detr(softmax_logits()),
    "detr_sigmoid": lambda: detr(sigmoid_logits()),
    "ssd": ssd,
    "torchvision": torchvision,
}


@pytest.mark.parametrize("key", DETECTORS)
def test_a_detector_is_recognised_and_read(key: str):
    images = grey(1, *([96, 96] if "yolo" in key or "end" in key else [100, 100]))
    engine = Engine(DETECTORS[key](), {**PLAIN, "task": "detect", "names": NAMES})
    assert engine.description.output_format == key
    boxes = engine.find(images)
    assert isinstance(boxes, Boxes)
    expect(boxes)


@pytest.mark.parametrize("key", ["yolov8", "yolov5", "end_to_end", "ssd", "torchvision"])
def test_nothing_found_is_no_boxes(key: str):
    images = grey(0, *([96, 96] if "yolo" in key or "end" in key else [100, 100]))
    boxes = found(Boxes, DETECTORS[key](), images, task="detect", names=NAMES)
    assert (boxes.boxes.shape, boxes.scores.shape, boxes.classes.shape) == ((0, 4), (0,), (0,))


@pytest.mark.parametrize("key", ["yolov8", "detr", "ssd"])
def test_what_shapes_do_not_declare_the_outputs_tell(key: str):
    explicit = {**PLAIN, "task": "detect", "names": NAMES}
    engine = Engine(DETECTORS[key](), explicit)
    side = 96 if key == "yolov8" else 100
    outputs = engine.outputs(grey(1, side, side))
    open_ended = Description("detect", (side, side), tuple(NAMES))
    result = decode(open_ended, outputs)
    assert isinstance(result, Boxes)
    expect(result)


def test_an_undeclared_output_shape_is_settled_by_the_outputs():
    rows = np.ascontiguousarray(yolo_rows().T)[None]
    content = table({"output0": rows}, declared=False, images=(1, 3, 96, 96))
    engine = Engine(content, {**PLAIN, "task": "detect", "names": NAMES})
    assert engine.description.output_format is None
    result = engine.find(grey(1, 96, 96))
    assert isinstance(result, Boxes)
    expect(result)


def test_half_precision_is_read():
    rows = np.ascontiguousarray(yolo_rows().T)[None].astype(np.float16)
    boxes = decode(Description("detect", (96, 96), tuple(NAMES)), {"output0": rows})
    assert isinstance(boxes, Boxes)
    np.testing.assert_array_equal(boxes.boxes, CORNERS)
    np.testing.assert_allclose(boxes.scores, SCORES, atol=1e-3)
    assert boxes.scores.dtype == np.float32


def test_thresholds_decide():
    explicit = {"task": "detect", "names": NAMES}
    every = found(
        Boxes, yolov8(), grey(1, 96, 96), **explicit, thresholds={"score": 0.05, "iou": 0.95}
    )
    assert len(every.boxes) == len(THINGS)
    sure = found(Boxes, yolov8(), grey(1, 96, 96), **explicit, thresholds={"score": 0.85})
    assert sure.classes.tolist() == [0]


def test_one_class_and_six_numbers_are_ambiguous():
    content = table({"output0": floats([[1, 1, 2, 2, 0.5, 0]] * 9)})
    with pytest.raises(InvalidArgument, match=r'yolov5 and end_to_end.*"output_format": "yolov5"'):
        Engine(content, {**PLAIN, "task": "detect", "names": ["thing"]})


def test_logits_without_names_are_ambiguous():
    with pytest.raises(InvalidArgument, match=r"output_format is not known.*detr and detr_sigmoid"):
        Engine(detr(softmax_logits()), {**PLAIN, "task": "detect"})
    engine = Engine(detr(softmax_logits()), {**PLAIN, "task": "detect", "output_format": "detr"})
    result = engine.find(grey(1, 100, 100))
    assert isinstance(result, Boxes)
    expect(result)


def test_outputs_that_names_do_not_tell_apart_are_named_by_a_key():
    values = {
        "a": np.array([[[0.1, 0.2, 0.3, 0.4]]], np.float32),
        "b": floats([0]),
        "c": floats([0.9]),
        "d": floats(1),
    }
    explicit = {**PLAIN, "task": "detect", "names": NAMES}
    images = grey(1, 100, 100)
    engine = Engine(table(values, images=(1, 3, 100, 100)), explicit)
    with pytest.raises(InvalidArgument, match=r'outputs is not known.*"outputs": \{"classes"'):
        engine.find(images)
    outputs = {"boxes": "a", "classes": "b", "scores": "c", "count": "d"}
    boxes = found(
        Boxes, table(values, images=(1, 3, 100, 100)), images, **explicit | {"outputs": outputs}
    )
    np.testing.assert_allclose(boxes.boxes, floats([20, 10, 40, 30]), rtol=1e-5)


def test_a_detector_with_more_outputs_than_it_needs_is_read():
    rows = np.ascontiguousarray(yolo_rows().T)[None]
    extra = np.zeros((1, 4 + NC, 12), np.float32)
    content = table({"output0": rows, "raw": extra}, images=(1, 3, 96, 96))
    expect(found(Boxes, content, grey(1, 96, 96), task="detect", names=NAMES))


def test_parts_of_an_open_input_are_scaled_to_what_it_was():
    description = Description("detect", None, tuple(NAMES))
    outputs = {"logits": softmax_logits()[None], "pred_boxes": centred()}
    with pytest.raises(InvalidArgument, match="size is not known"):
        decode(description, outputs)
    boxes = decode(description, outputs, (200, 50))
    assert isinstance(boxes, Boxes)
    np.testing.assert_allclose(boxes.boxes, CORNERS * [0.5, 2, 0.5, 2], rtol=1e-5)


def test_a_class_without_a_name_is_refused():
    values = {
        "boxes": CORNERS,
        "labels": np.array([0, 3, 1], np.int64),
        "scores": SCORES,
    }
    with pytest.raises(InvalidArgument, match=r"classes: expected whole numbers from 0 to 2.*3"):
        found(Boxes, table(values), grey(), task="detect", names=NAMES)


def test_of_thousands_of_boxes_the_best_remain_in_little_memory():
    count = 25_200
    rng = np.random.default_rng(0)
    rows = np.empty((1, 5, count), np.float32)
    rows[0, :2] = rng.uniform(0, 640, (2, count))
    rows[0, 2:4] = 4
    rows[0, 4] = rng.uniform(0.5, 1, count)
    description = Description("detect", (640, 640), ("thing",))
    tracemalloc.start()
    try:
        boxes = decode(description, {"output0": rows})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(boxes, Boxes)
    assert len(boxes.scores) == MOST_FOUND
    assert boxes.scores[0] == rows[0, 4].max()
    assert (np.diff(boxes.scores) <= 0).all()
    assert most < 100 * count < MOST_CANDIDATES**2 * 4  # no number for each pair


def test_suppression_is_that_of_the_definition():
    rng = np.random.default_rng(1)
    for _ in range(20):
        corner = rng.uniform(0, 20, (60, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(-1, 15, (60, 2))], axis=1)
        classes = rng.integers(0, 3, 60)
        assert distinct(boxes, classes, 0.4).tolist() == greedily(boxes, classes, 0.4)


def greedily(boxes: Any, classes: Any, most: float) -> list[int]:
    kept: list[int] = []
    for i in range(len(boxes)):
        rivals = [j for j in kept if classes[i] == classes[j]]
        if all(overlap(boxes[i], boxes[j]) <= most for j in rivals):
            kept.append(i)
    return kept


def overlap(a: Any, b: Any) -> float:
    def area(left: float, top: float, right: float, bottom: float) -> float:
        return max(0, right - left) * max(0, bottom - top)

    shared = area(*np.maximum(a[:2], b[:2]), *np.minimum(a[2:], b[2:]))
    whole = area(*a) + area(*b) - shared
    return shared / whole if whole else 0


# segment


def stripes() -> Any:
    """Red above, then green, then blue below."""
    picture = np.zeros((1, 3, 8, 8), np.float32)
    picture[0, 0, :2], picture[0, 1, 2:6], picture[0, 2, 6:] = 1, 1, 1
    return picture


EXPECTED = np.repeat([0, 1, 1, 2], 4).reshape(4, 4)


def test_logits_of_classes_become_a_mask():
    mask = found(Mask, by_pixel(COLOURS, NONE), stripes(), task="segment")
    assert mask.grid.shape == (3, 4, 4)
    np.testing.assert_array_equal(mask.classes, EXPECTED)


@pytest.mark.parametrize(
    ("tail", "shape"),
    [
        ([node("ArgMax", "grid", "found", axis=1, keepdims=0)], (1, 4, 4)),
        ([node("ArgMax", "grid", "found", axis=1, keepdims=1)], (1, 1, 4, 4)),
    ],
    ids=["[1, h, w]", "[1, 1, h, w]"],
)
def test_indices_of_classes_are_a_mask(tail: list[Any], shape: tuple[int, ...]):
    content = by_pixel(COLOURS, NONE, tail=tail, outputs={"found": (np.int64, shape)})
    mask = found(Mask, content, stripes(), task="segment", names=NAMES)
    assert mask.grid.shape == (4, 4)
    np.testing.assert_array_equal(mask.classes, EXPECTED)


@pytest.mark.parametrize("sigmoid", [True, False], ids=["probabilities", "logits"])
def test_one_map_is_a_mask_of_two_classes(sigmoid: bool):
    green, away = floats([0, 8, 0]), floats(-4)
    tail = [node("Sigmoid" if sigmoid else "Identity", "grid", "found")]
    content = by_pixel(green, away, tail=tail, outputs={"found": (np.float32, (1, 1, 4, 4))})
    mask = found(Mask, content, stripes(), task="segment", names=["other", "green"])
    np.testing.assert_array_equal(mask.classes, EXPECTED == 1)


def test_a_class_index_beyond_the_names_is_refused():
    tail = [node("ArgMax", "grid", "found", axis=1, keepdims=0)]
    content = by_pixel(COLOURS, NONE, tail=tail, outputs={"found": (np.int64, (1, 4, 4))})
    with pytest.raises(InvalidArgument, match="mask: expected classes from 0 to 1, found 0 to 2"):
        found(Mask, content, stripes(), task="segment", names=NAMES[:2])


# pose


def test_a_model_of_integers_gets_pixels_as_they_are():
    values = np.array([[[[0.25, 0.5, 0.9], [1, 0, 0.1]]]], np.float32)
    engine = Engine(
        table({"output_0": values}, images=(1, 40, 80, 3), dtype=np.int32), {"task": "pose"}
    )
    assert engine.description.layout == "NHWC"
    assert engine.description.dtype == np.int32
    assert engine.description.rescale_factor is None
    result = engine.find(np.full((1, 40, 80, 3), 255, np.int32))
    assert isinstance(result, Keypoints)
    np.testing.assert_allclose(result.points[0, 0], floats(40, 10, 0.9))


def test_coordinates_are_scaled_by_height_and_width():
    values = np.array([[[[0.25, 0.5, 0.9], [1, 0, 0.1]]]], np.float32)
    engine = Engine(table({"output_0": values}, images=(1, 3, 40, 80)), {**PLAIN, "task": "pose"})
    assert engine.description.output_format == "movenet"
    result = engine.find(grey(1, 40, 80))
    assert isinstance(result, Keypoints)
    np.testing.assert_allclose(result.points, floats([[40, 10, 0.9], [0, 40, 0.1]]))


def gaussian(x: float, y: float, height: int, width: int, top: float = 0.8) -> Any:
    rows, columns = np.mgrid[:height, :width]
    return top * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.5**2))


CELLS = [(5.3, 7.8), (2.0, 3.0), (9.49, 12.5), (0.0, 15.0)]


def heatmaps() -> bytes:
    maps = [gaussian(x, y, 16, 12) for x, y in CELLS]
    return table({"heatmaps": np.array([maps], np.float32)}, images=(1, 3, 64, 48))


def test_peaks_between_cells_are_found():
    engine = Engine(heatmaps(), {**PLAIN, "task": "pose"})
    assert engine.description.output_format == "heatmaps"
    result = engine.find(grey(1, 64, 48))
    assert isinstance(result, Keypoints)
    (points,) = result.points
    np.testing.assert_allclose(points[:, :2], (np.array(CELLS) + 0.5) * 4, atol=2e-3)
    np.testing.assert_allclose(points[1, 2], 0.8, rtol=1e-6)  # the value at the cell itself


def test_maps_that_reach_from_centre_to_centre_are_stretched():
    points = found(
        Keypoints, heatmaps(), grey(1, 64, 48), task="pose", output_format="heatmaps_udp"
    ).points[0]
    expected = np.array(CELLS) * [47 / 11, 63 / 15] + 0.5
    np.testing.assert_allclose(points[:, :2], expected, atol=2e-3)


def test_a_map_without_a_peak_gives_a_point_without_a_score():
    maps = np.stack([np.zeros((16, 12)), np.full((16, 12), -3.0)]).astype(np.float32)[None]
    content = table({"heatmaps": maps}, images=(1, 3, 64, 48))
    points = found(Keypoints, content, grey(1, 64, 48), task="pose").points[0]
    np.testing.assert_array_equal(points, floats([2, 2, 0], [2, 2, 0]))


PEOPLE = [
    (20, 30, 10, 20, 0.9, [(18, 22), (22, 38)]),
    (21, 30, 10, 20, 0.8, [(1, 1), (2, 2)]),  # the first again
    (60, 60, 10, 20, 0.6, [(58, 52), (62, 68)]),
]


def people(numbers: int) -> Any:
    rows = np.zeros((12, 5 + 2 * numbers), np.float32)
    for i, (x, y, w, h, score, points) in enumerate(PEOPLE):
        certain = [[px, py, 0.5 + 0.1 * i][:numbers] for px, py in points]
        rows[3 * i] = [x, y, w, h, score, *np.ravel(certain)]
    return rows


def test_people_come_with_their_points():
    content = table(
        {"output0": np.ascontiguousarray(people(3).T)[None]},
        {"output0": np.array([0] * 4 + [1] + [0] * 6)[:, None]},
        images=(1, 3, 96, 96),
    )
    engine = Engine(content, {**PLAIN, "task": "pose"})
    assert engine.description.output_format == "yolo_pose"
    result = engine.find(grey(1, 96, 96))
    assert isinstance(result, Keypoints)
    expected = floats(
        [[18, 22, 0.5], [22, 38, 0.5]],
        [[58, 52, 0.7], [62, 68, 0.7]],
    )
    np.testing.assert_allclose(result.points, expected, rtol=1e-6)
    nobody = engine.find(grey(0, 96, 96))
    assert isinstance(nobody, Keypoints)
    assert nobody.points.shape == (0, 2, 3)


def test_points_without_scores_are_as_sure_as_their_person():
    content = table({"output0": np.ascontiguousarray(people(2).T)[None]}, images=(1, 3, 96, 96))
    points = found(Keypoints, content, grey(1, 96, 96), task="pose", kpt_shape=[2, 2]).points
    np.testing.assert_allclose(points[:, :, 2], floats([0.9, 0.9], [0.6, 0.6]))


def test_people_whose_duplicates_are_gone_come_with_their_points():
    first, _, second = people(3)[[0, 3, 6]]
    rows = [[15, 20, 25, 40, row[4], 0, *row[5:]] for row in (second, first)]
    content = table({"output0": floats([*rows, [0] * 12])}, images=(1, 3, 96, 96))
    explicit = {"task": "pose", "kpt_shape": [2, 3]}
    points = found(Keypoints, content, grey(1, 96, 96), **explicit).points
    np.testing.assert_allclose(points[0], floats([18, 22, 0.5], [22, 38, 0.5]))
    assert points.shape == (2, 2, 3)


# depth


@pytest.mark.parametrize("squeezed", [True, False], ids=["[1, h, w]", "[1, 1, h, w]"])
def test_depth_is_given_as_it_is(squeezed: bool):
    weights = {"axes": np.array([1], np.int64)}
    tail = node("Squeeze", "red axes", "predicted_depth")
    if not squeezed:
        tail = node("Identity", "red", "predicted_depth")
    select = {"first": np.array([0], np.int64), "last": np.array([1], np.int64), **weights}
    content = model(
        [node("Slice", "images first last axes", "red"), tail],
        {"predicted_depth": (np.float32, (1, 8, 8) if squeezed else (1, 1, 8, 8))},
        select,
    )
    picture = np.random.default_rng(2).random((1, 3, 8, 8), np.float32)
    depth = found(Depth, content, picture, task="depth").depth
    np.testing.assert_array_equal(depth, picture[0, 0])
    metres = found(Depth, content, picture, task="depth", output_format="metric_depth").depth
    np.testing.assert_allclose(metres, 1 / np.maximum(picture[0, 0], 1e-3), rtol=1e-6)


def test_a_distance_that_the_model_does_not_know_is_far():
    values = np.array([[[0, -1], [2, 1e-30]]], np.float32)
    content = table({"depth": values})
    depth = found(Depth, content, grey(), task="depth", output_format="metric_depth").depth
    np.testing.assert_allclose(depth, floats([0, 0], [0.5, 1000]))


# Outputs that are none of these, or hold no numbers.

VALUES: dict[str, tuple[str, dict[str, Any]]] = {
    "scores": ("classify", {"logits": np.zeros((1, 3))}),
    "logits": ("classify", {"logits": np.zeros((1, 3))}),
    "probabilities": ("classify", {"logits": np.zeros((1, 3))}),
    "yolov8": ("detect", {"output0": np.full((1, 7, 20), 0.5)}),
    "yolov5": ("detect", {"output0": np.full((1, 20, 8), 0.9)}),
    "end_to_end": ("detect", {"output0": np.ones((1, 20, 6))}),
    "detr": ("detect", {"logits": np.zeros((1, 20, 4)), "boxes": np.zeros((1, 20, 4))}),
    "detr_sigmoid": ("detect", {"logits": np.zeros((1, 20, 3)), "boxes": np.zeros((1, 20, 4))}),
    "ssd": (
        "detect",
        {
            "boxes": np.ones((1, 5, 4)),
            "classes": np.ones((1, 5)),
            "scores": np.ones((1, 5)),
            "num": np.full(1, 5),
        },
    ),
    "torchvision": (
        "detect",
        {"boxes": np.ones((5, 4)), "labels": np.ones(5), "scores": np.ones(5)},
    ),
    "class_logits": ("segment", {"logits": np.zeros((1, 3, 4, 4))}),
    "binary_mask": ("segment", {"mask": np.zeros((1, 1, 4, 4))}),
    "movenet": ("pose", {"output_0": np.zeros((1, 1, 3, 3))}),
    "heatmaps": ("pose", {"heatmaps": np.zeros((1, 3, 4, 4))}),
    "heatmaps_udp": ("pose", {"heatmaps": np.zeros((1, 3, 4, 4))}),
    "yolo_pose": ("pose", {"output0": np.full((1, 14, 20), 0.5)}),
    "end_to_end_pose": ("pose", {"output0": np.full((1, 20, 15), 0.5)}),
    "inverse_depth": ("depth", {"depth": np.zeros((1, 4, 4))}),
    "metric_depth": ("depth", {"depth": np.zeros((1, 4, 4))}),
}
ROLES = [(key, name) for key, (_, values) in VALUES.items() for name in values]


def described(key: str) -> Description:
    task, _ = VALUES[key]
    names = () if task == "depth" else ("a", "b") if key == "binary_mask" else ("a", "b", "c")
    return Description(task, (64, 64), names, output_format=key)


def test_every_layout_of_floats_is_tried_with_nonsense():
    assert set(VALUES) == set(layouts.FORMATS) - {"class_indices"}


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e38], ids=str)
@pytest.mark.parametrize(("key", "name"), ROLES)
def test_what_is_no_number_is_refused(key: str, name: str, wrong: float):
    _, values = VALUES[key]
    outputs = {one: array.astype(np.float32) for one, array in values.items()}
    decode(described(key), outputs)
    outputs[name] = np.full_like(outputs[name], wrong)
    with pytest.raises(InvalidArgument, match=r"model: .*expected .* from .*found "):
        decode(described(key), outputs)


@pytest.mark.parametrize("key", layouts.FORMATS)
@pytest.mark.parametrize(
    "shape", [(), (0,), (3,), (2, 3), (1, 0, 0), (1, 2, 3, 4, 5), (2, 9, 4, 4)]
)
def test_a_shape_that_does_not_fit_is_refused(key: str, shape: tuple[int, ...]):
    description = Description(layouts.FORMATS[key].task, (64, 64), ("a", "b"), output_format=key)
    with pytest.raises(InvalidArgument, match=rf"output_format {key}: expected .*found no output"):
        decode(description, {"made": np.zeros(shape, np.float32)})


@pytest.mark.parametrize("shape", [(), (3,), (1, 0, 0), (2, 9, 4, 4)])
@pytest.mark.parametrize("key", layouts.FORMATS)
def test_a_named_output_must_fit_too(key: str, shape: tuple[int, ...]):
    roles = {role.name: f"the {role.name}" for role in layouts.FORMATS[key].roles}
    description = Description(
        layouts.FORMATS[key].task, (64, 64), ("a", "b"), output_format=key, outputs=roles
    )
    outputs = {name: np.zeros(shape, np.float32) for name in roles.values()}
    with pytest.raises(InvalidArgument, match=rf"output_format {key}: expected .*found no output"):
        decode(description, outputs)


NUMBERS = [0, 0.3, 0.9, 1, -1, 3, 1e6, -1e6, 1e30, -1e30, 1e300, 5e-324, 2.0**62, np.nan, np.inf]
DTYPES = ["float16", "float32", "float64", "int8", "uint8", "int64"]


@given(
    key=st.sampled_from(sorted(VALUES)),
    some=st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=3),
    dtypes=st.lists(st.sampled_from(DTYPES), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
def test_whatever_the_numbers_are_they_are_read_or_refused(
    key: str, some: list[float], dtypes: list[str], seed: int
):
    rng = np.random.default_rng(seed)
    outputs = {}
    for (name, array), dtype in zip(VALUES[key][1].items(), dtypes, strict=False):
        values = np.where(rng.random(array.shape) < 0.5, array, rng.choice(some, array.shape))
        with warnings.catch_warnings():  # of numpy's, that these do not fit
            warnings.simplefilter("ignore")
            outputs[name] = values.astype(dtype)
    with contextlib.suppress(InvalidArgument):
        for array in vars(decode(described(key), outputs)).values():
            assert np.isfinite(array).all()


@pytest.mark.parametrize("task", ["classify", "detect", "segment", "pose", "depth"])
def test_outputs_of_no_layout_are_refused_with_all_that_would_be(task: str):
    with pytest.raises(InvalidArgument) as caught:
        decode(Description(task, (64, 64)), {"made": np.zeros((2, 1), np.float32)})
    for row in layouts.FORMATS.values():
        assert (f"{row.key} {row.shapes}" in str(caught.value)) == (
            row.task == task and row.guessed
        )
    assert "found made float32 [2, 1]" in str(caught.value)


def test_scores_that_are_logits_are_refused():
    rows = np.full((1, 7, 20), 5, np.float32)
    with pytest.raises(InvalidArgument, match=r"scores: expected scores from 0 to 1, found 5"):
        decode(Description("detect", (64, 64), ("a", "b", "c")), {"output0": rows})


def test_a_layout_of_another_task_is_refused():
    description = Description("detect", (64, 64), output_format="heatmaps")
    with pytest.raises(
        InvalidArgument, match=r"output_format: expected one of yolov8, .*'heatmaps'"
    ):
        decode(description, {"made": np.zeros((1, 3, 4, 4), np.float32)})


@pytest.mark.parametrize("dtype", [bool, complex, str])
def test_outputs_of_no_numbers_are_refused(dtype: type):
    outputs: dict[str, Any] = {"made": np.zeros((1, 3), dtype)}
    with pytest.raises(InvalidArgument, match="found made"):
        decode(Description("classify", (64, 64)), outputs)
