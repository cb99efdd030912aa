"""The models that come with vaccel find what was drawn, here and at an agent, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.inference.pairs import pair
from vaccel import Session

pytest.importorskip("onnxruntime", reason="pip install 'vaccel[onnx]'")
pytest.importorskip("PIL", reason="pip install 'vaccel[onnx]'")

from training.pictures import TASKS, Figure, Scene, View

PICTURES = 200
SEED = 20_240  # not one that the trainer draws from
MARGIN = 0.02
Array = np.ndarray[Any, Any]


@pytest.fixture
def sessions() -> Iterator[tuple[Session, Session]]:
    with pair("onnx") as both:
        yield both


def drawn(task: str) -> list[Any]:
    rng = np.random.default_rng(SEED)
    return [TASKS[task].make(rng) for _ in range(PICTURES)]


def found(sessions: tuple[Session, Session], operation: str, pictures: list[Any]) -> list[Any]:
    """The results without the names; they are the same bits from both sessions."""
    here, there = sessions
    results = []
    for picture in pictures:
        mine, other = (getattr(s, operation)(picture.pixels) for s in (here, there))
        mine = mine if isinstance(mine, tuple) else (mine, [])
        other = other if isinstance(other, tuple) else (other, [])
        assert mine[-1] == other[-1]
        for a, b in zip(mine[:-1], other[:-1], strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert a.tobytes() == b.tobytes()
        results.append(mine[:-1])
    return results


def test_classify(sessions: tuple[Session, Session]):
    scenes: list[Scene] = drawn("classify")
    results = found(sessions, "classify_scores", scenes)
    hits = [s.argmax() == scene.labels[0] for (s,), scene in zip(results, scenes, strict=True)]
    assert np.mean(hits) >= 0.999 - MARGIN
    tags = [sessions[1].classify(scene.pixels)[0] for scene in scenes[:20]]
    assert tags == [TASKS["classify"].names[s.argmax()] for (s,) in results[:20]]


def test_detect(sessions: tuple[Session, Session]):
    scenes: list[Scene] = drawn("detect")
    results = found(sessions, "detect_boxes", scenes)
    assert mean_precision(results, scenes) >= 0.989 - MARGIN


def test_segment(sessions: tuple[Session, Session]):
    scenes: list[Scene] = drawn("segment")
    counts = np.zeros((7, 7))
    for (mask,), scene in zip(found(sessions, "segment_mask", scenes), scenes, strict=True):
        pairs = scene.mask.astype(int) * 7 + mask
        counts += np.bincount(pairs.reshape(-1), minlength=49).reshape(7, 7)
    both = counts.diagonal()
    assert (both / (counts.sum(0) + counts.sum(1) - both)).mean() >= 0.87 - MARGIN


def test_pose(sessions: tuple[Session, Session]):
    figures: list[Figure] = drawn("pose")
    results = found(sessions, "pose_keypoints", figures)
    assert all(points.shape == (1, 11, 3) for (points,) in results)
    points = np.stack([points[0, :, :2] for (points,) in results])
    truth = np.stack([figure.points for figure in figures])
    torso = np.linalg.norm(truth[:, 1] - truth[:, 2], axis=-1)[:, None]
    assert (np.linalg.norm(points - truth, axis=-1) < 0.2 * torso).mean() >= 0.87 - MARGIN


def test_depth(sessions: tuple[Session, Session]):
    views: list[View] = drawn("depth")
    errors = [
        # The trainer's measure: distances, as far as 20.
        np.abs(1 / np.maximum(depth, 1 / 20) * view.nearness - 1).mean()
        for (depth,), view in zip(found(sessions, "depth_map", views), views, strict=True)
    ]
    assert np.mean(errors) <= 0.037 + MARGIN


def mean_precision(results: list[Any], scenes: list[Scene], least: float = 0.5) -> float:
    """The mean over the classes of the area under precision by recall."""
    areas = []
    for label in range(6):
        ranked, wanted = [], 0
        for (boxes, scores, classes), scene in zip(results, scenes, strict=True):
            truth = scene.boxes[scene.labels == label]
            wanted += len(truth)
            free = set(range(len(truth)))
            for box, score in zip(boxes[classes == label], scores[classes == label], strict=True):
                shared = overlap(box, truth)
                best = int(shared.argmax()) if len(truth) else -1
                hit = best in free and shared[best] >= least
                free -= {best} if hit else set()
                ranked.append((score, hit))
        hits = np.cumsum([hit for _, hit in sorted(ranked, key=lambda one: -one[0])])
        precision = hits / np.arange(1, len(hits) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        areas.append((np.diff(hits / wanted, prepend=0) * precision).sum())
    return float(np.mean(areas))


def overlap(box: Array, others: Array) -> Array:
    """Intersection over union of `box` with each of `others`."""
    extent = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.clip(extent, 0, None).prod(axis=1)
    whole = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return np.asarray(shared / (whole - shared))
