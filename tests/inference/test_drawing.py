"""What was found can be seen in the annotated picture, whatever the picture is like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vaccel.inference import drawing

Image = pytest.importorskip("PIL.Image", reason="the extra vaccel[onnx] is not installed")

GROUNDS = pytest.mark.parametrize("ground", [0, 90, 255])


def flat(ground: int, side: int = 400) -> Any:
    return Image.new("RGB", (side, side), (ground,) * 3)


@GROUNDS
def test_a_region_is_outlined_in_the_colour_of_its_legend(ground: int):
    mask = np.zeros((400, 400), np.uint8)
    mask[100:200, 100:300] = 2
    shown = np.asarray(drawing.masked(flat(ground), mask, ["background", "a", "b"]))
    pure = (shown == drawing.color(2)).all(axis=-1)
    assert pure[400:].any()  # the legend, below the picture
    assert pure[100, 100:300].all()
    assert pure[199, 100:300].all()
    assert pure[100:200, 100].all()
    assert pure[100:200, 299].all()
    assert not pure[:400][mask == 0].any()
    inside = shown[150, 200].astype(int)
    assert not pure[150, 200]
    assert (inside != ground).any()


def test_a_small_picture_has_a_fine_outline():
    mask = np.zeros((64, 64), np.uint8)
    mask[10:20, 10:20] = 1
    shown = np.asarray(drawing.masked(flat(0, 64), mask, ["background", "a"]))[:320, :320][::5, ::5]
    assert (shown == drawing.color(1)).all(axis=-1).sum() == 4 * 9


@pytest.mark.parametrize("shape", [(1, 900), (900, 1), (1, 1)])
def test_a_line_of_pixels_is_drawn(shape: tuple[int, int]):
    mask = np.zeros(shape, np.uint8)
    mask[0, 0] = 1
    picture = Image.new("RGB", shape[::-1])
    assert drawing.masked(picture, mask, ["background", "a"]).size >= picture.size


@GROUNDS
@pytest.mark.parametrize("person", [0, 1, 2])
def test_a_skeleton_stands_out_from_the_picture(ground: int, person: int):
    absent = np.zeros((2, 3), np.float32)
    bone = np.array([[100, 100, 1], [300, 100, 1]], np.float32)
    people = np.array([absent] * person + [bone])
    shown = np.asarray(drawing.skeletons(flat(ground), people, ["head", "neck"])).astype(int)
    across = shown[80:120, 200].sum(axis=-1)
    assert np.abs(across - 3 * ground).max() > 400
