"""Image operations give what the engine gives, bit for bit, here and through an agent.

What is done before and after the engine is written here a second time, plainly, with Pillow and
numpy: for the models that come with vaccel, and as known answers for models of each layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.inference import test_layouts as known
from tests.inference.models import by_pixel, engine, mean_colour, model, node, table
from tests.inference.pairs import model_of, pair
from vaccel import Session

Image = pytest.importorskip("PIL.Image", reason="the extra vaccel[onnx] is not installed")

DATA = Path(str(resources.files("vaccel"))) / "data"
F32 = np.float32
SIZES = [(256, 256), (200, 150), (90, 201), (64, 64)]
"""Width and height: larger, wider, higher than the model's input, and just that."""

Sessions = tuple[Session, Session]


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    with pair("onnx") as both:
        yield both


# The models that come with vaccel


class Input(NamedTuple):
    """A model's input, and where the picture lies in it: there = here · scale + offset, (x, y)."""

    tensor: Any
    scale: Any
    offset: Any


def stretched(image: Any, side: int) -> Input:
    return Input(scaled(image.resize((side, side), Image.Resampling.BILINEAR)), None, None)


def letterboxed(image: Any, side: int) -> Input:
    ratio = min(side / image.width, side / image.height)
    size = round(image.width * ratio), round(image.height * ratio)
    corner = (side - size[0]) // 2, (side - size[1]) // 2
    canvas = Image.new("RGB", (side, side), (114, 114, 114))
    canvas.paste(image.resize(size, Image.Resampling.BILINEAR), corner)
    scale = np.array(size) / np.array(image.size)
    return Input(scaled(canvas), scale, np.array(corner, float))


def scaled(image: Any) -> Any:
    return (np.asarray(image).astype(F32) * F32(1 / 255)).transpose(2, 0, 1)[None].copy()


def run(task: str, tensor: Any) -> Any:
    options = engine.SessionOptions()
    options.intra_op_num_threads = 1
    path = str(DATA / "models" / f"{task}.onnx")
    session = engine.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": tensor})
    return found[0]


def scores(image: Any) -> tuple[Any, ...]:
    logits = run("classify", stretched(image, 64).tensor).astype(float)
    powers = np.exp(logits - logits.max())
    return ((powers / powers.sum()).astype(F32),)


def boxes(image: Any) -> tuple[Any, ...]:
    tensor, scale, offset = letterboxed(image, 96)
    found = run("detect", tensor)
    best = np.clip(found[4:].max(axis=0), 0, 1)
    classes = found[4:].argmax(axis=0).astype(np.int32)
    corners = np.concatenate([found[:2] - found[2:4] / 2, found[:2] + found[2:4] / 2]).T
    kept: list[int] = []
    for i in np.argsort(-best, kind="stable"):
        rivals = [k for k in kept if classes[k] == classes[i]]
        if best[i] >= 0.25 and all(overlap(corners[i], corners[k]) <= 0.5 for k in rivals):
            kept.append(int(i))
    placed = ((corners[kept].reshape(-1, 2, 2) - offset) / scale).astype(F32)
    placed = np.clip(placed, 0, np.array(image.size, F32)).reshape(-1, 4)
    inside = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])
    return placed[inside], best[kept][inside], classes[kept][inside]


def overlap(a: Any, b: Any) -> float:
    a, b = a.astype(float), b.astype(float)
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    shared = sides.prod()
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))


def mask(image: Any) -> tuple[Any, ...]:
    grid = run("segment", stretched(image, 64).tensor)
    return (upsampled(grid, image).argmax(axis=0).astype(np.uint8),)


def depth(image: Any) -> tuple[Any, ...]:
    return (upsampled(run("depth", stretched(image, 64).tensor), image),)


def upsampled(grid: Any, image: Any) -> Any:
    """Bilinear, first along the columns, then along the rows."""
    for axis, extent in ((-2, image.height), (-1, image.width)):
        cells = grid.shape[axis]
        at = np.clip((np.arange(extent) + 0.5) * (cells / extent) - 0.5, 0, cells - 1)
        before = at.astype(int)
        share = (at - before).astype(F32)[:, None] if axis == -2 else (at - before).astype(F32)
        one = np.take(grid, before, axis)
        other = np.take(grid, np.minimum(before + 1, cells - 1), axis)
        grid = one + share * (other - one)
    return grid


def keypoints(image: Any) -> tuple[Any, ...]:
    tensor, scale, offset = letterboxed(image, 64)
    points = [peak(one) for one in run("pose", tensor)]
    places = (np.array([[x, y] for x, y, _ in points], F32) + F32(0.5)) * F32(4)
    moved = ((places - offset) / scale).astype(F32)
    return (np.c_[moved, np.array([score for *_, score in points], F32)][None],)


def peak(heat: Any) -> tuple[Any, Any, Any]:
    """The largest value, between cells where a parabola through logarithms says so."""
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    best = heat[y, x]
    return x + beside(heat[y], x, best), y + beside(heat[:, x], y, best), np.clip(best, 0, 1)


def beside(line: Any, place: Any, best: Any) -> float:
    if best <= 0 or not 0 < place < len(line) - 1:
        return 0.0
    floor = np.maximum(best, F32(1e-30)) * F32(1e-6)
    a, b, c = (np.log(np.maximum(line[place + step], floor)) for step in (-1, 0, 1))
    curvature = a - F32(2) * b + c
    return float(np.clip((a - c) / (F32(2) * curvature), F32(-0.5), F32(0.5)))


DIRECTLY: dict[str, tuple[str, Callable[[Any], tuple[Any, ...]]]] = {
    "classify": ("classify_scores", scores),
    "detect": ("detect_boxes", boxes),
    "segment": ("segment_mask", mask),
    "pose": ("pose_keypoints", keypoints),
    "depth": ("depth_map", depth),
}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("task", DIRECTLY)
def test_an_operation_is_the_engine_and_what_is_said_of_the_model(
    task: str, size: tuple[int, int], sessions: Sessions
):
    image = Image.open(DATA / "examples" / f"{task}.jpg").convert("RGB").resize(size)
    operation, directly = DIRECTLY[task]
    expected = directly(image)
    assert expected[0].size
    for session in sessions:
        same(arrays(getattr(session, operation)(image)), expected)


def arrays(result: Any) -> tuple[Any, ...]:
    """Those of a result, without the names."""
    parts = result if isinstance(result, tuple) else (result,)
    return tuple(one for one in parts if isinstance(one, np.ndarray))


def same(found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    for one, two in zip(found, expected, strict=True):
        assert (one.dtype, one.shape) == (two.dtype, two.shape)
        np.testing.assert_array_equal(one, two)


# Models of each layout, with known answers


class Case(NamedTuple):
    operation: str
    content: bytes
    picture: Any
    expected: tuple[Any, ...]
    description: Mapping[str, Any] = MappingProxyType({})


def white(height: int, width: int) -> Any:
    return np.full((height, width, 3), 255, np.uint8)


def detector(key: str) -> Case:
    side = 96 if "yolo" in key or "end" in key else 100
    expected = known.CORNERS, known.SCORES, np.array(known.CLASSES, np.int32)
    content = known.DETECTORS[key]()
    return Case("detect_boxes", content, white(side, side), expected, {"names": known.NAMES})


STRIPES = (known.stripes()[0].transpose(1, 2, 0) * 255).astype(np.uint8)
STRIPED = (np.repeat([0, 1, 1, 2], 16).reshape(8, 8).astype(np.uint8),)


def indices() -> bytes:
    tail = [node("ArgMax", "grid", "found", axis=1, keepdims=0)]
    outputs = {"found": (np.int64, (1, 4, 4))}
    return by_pixel(known.COLOURS, known.NONE, tail=tail, outputs=outputs)


def posed(key: str) -> Case:
    f = known.floats
    if key == "movenet":
        values = np.array([[[[0.25, 0.5, 0.9], [1, 0, 0.1]]]], F32)
        content = table({"output_0": values}, images=(1, 3, 40, 80))
        return Case("pose_keypoints", content, white(40, 80), (f([[40, 10, 0.9], [0, 40, 0.1]]),))
    if key == "vitpose":
        cells = np.array([(2, 3), (9, 12)])
        maps = [known.gaussian(x, y, 16, 12) for x, y in cells]
        content = table({"heatmaps": np.array([maps], F32)}, images=(1, 3, 64, 48))
        places = cells * [47 / 11, 63 / 15] + 0.5
        expected = np.c_[places, [0.8, 0.8]].astype(F32)[None]
        said = {"output_format": "heatmaps_udp"}
        return Case("pose_keypoints", content, white(64, 48), (expected,), said)
    values = np.ascontiguousarray(known.people(3).T)[None]
    content = table({"output0": values}, images=(1, 3, 96, 96))
    expected = f([[18, 22, 0.5], [22, 38, 0.5]], [[58, 52, 0.7], [62, 68, 0.7]])
    return Case("pose_keypoints", content, white(96, 96), (expected,))


def distant() -> Case:
    select = {name: np.array([at], np.int64) for name, at in (("a", 0), ("b", 1), ("axes", 1))}
    shape = {"predicted_depth": (F32, (1, 1, 8, 8))}
    content = model([node("Slice", "images a b axes", "predicted_depth")], shape, select)
    picture = np.random.default_rng(2).integers(0, 256, (8, 8, 3), np.uint8)
    return Case("depth_map", content, picture, (picture[..., 0].astype(F32) * F32(1 / 255),))


def classes() -> Case:
    content = mean_colour(known.COLOURS, known.NONE)
    powers = np.exp([0.0, 4.0, 0.0])
    green = white(8, 8) * np.array([0, 1, 0], np.uint8)
    return Case("classify_scores", content, green, ((powers / powers.sum()).astype(F32),))


def segmented(content: bytes) -> Case:
    return Case("segment_mask", content, STRIPES, STRIPED, {"names": known.NAMES})


CASES: dict[str, Callable[[], Case]] = {
    "classes": classes,
    **{key: lambda key=key: detector(key) for key in known.DETECTORS},  # type: ignore[misc]
    "class logits": lambda: segmented(by_pixel(known.COLOURS, known.NONE)),
    "class indices": lambda: segmented(indices()),
    **{key: lambda key=key: posed(key) for key in ("movenet", "vitpose", "yolo pose")},  # type: ignore[misc]
    "depth": distant,
}


@pytest.mark.parametrize("key", CASES)
def test_a_model_of_each_layout_gives_its_known_answer(key: str, sessions: Sessions):
    case = CASES[key]()
    said = {"task": case.operation.partition("_")[0], "rescale_factor": 1 / 255}
    found = []
    for session in sessions:
        model_of(session, case.content, description=said | dict(case.description))
        found.append(arrays(getattr(session, case.operation)(case.picture)))
    same(*found)
    for one, expected in zip(found[0], case.expected, strict=True):
        assert (one.dtype, one.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-4)
