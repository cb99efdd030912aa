"""The model gets the numbers that its description asks for, and what it finds comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaccel.error import InvalidArgument
from vaccel.inference.description import Description
from vaccel.inference.preprocess import Transform, prepare

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'vaccel[onnx]'")

NOISE = np.random.default_rng(1).integers(0, 256, (30, 50, 3), np.uint8)


def described(**keys: Any) -> Description:
    return Description("classify", **keys)


def prepared(pixels: np.ndarray[Any, Any], **keys: Any) -> tuple[np.ndarray[Any, Any], Transform]:
    return prepare(Image.fromarray(pixels), described(**keys))


# -- numbers -----------------------------------------------------------------------------------


def test_a_model_of_any_size_gets_the_pixels_as_they_are():
    tensor, transform = prepared(NOISE)
    assert tensor.dtype == np.float32
    assert np.array_equal(tensor[0], NOISE.transpose(2, 0, 1))
    assert transform == Transform((30, 50), (30, 50), (1.0, 1.0), (0, 0))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_layout_and_order_of_channels(layout: str, order: str):
    tensor, _ = prepared(NOISE, layout=layout, color_order=order)
    expected = NOISE[..., ::-1] if order == "BGR" else NOISE
    expected = expected.transpose(2, 0, 1) if layout == "NCHW" else expected
    assert np.array_equal(tensor, expected[np.newaxis])
    assert tensor.flags.c_contiguous


def test_numbers_are_those_of_computing_each_pixel_in_float32():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    tensor, _ = prepared(NOISE, rescale_factor=1 / 255, image_mean=mean, image_std=std)
    scaled = NOISE.astype(np.float32) * np.float32(1 / 255)
    expected = (scaled - np.array(mean, np.float32)) / np.array(std, np.float32)
    assert np.array_equal(tensor[0], expected.transpose(2, 0, 1))


def test_mean_and_std_are_in_the_models_order():
    black = np.zeros((1, 1, 3), np.uint8)
    tensor, _ = prepared(black, color_order="BGR", image_mean=(1, 2, 3), image_std=(1, 2, 4))
    assert tensor.reshape(-1).tolist() == [-1, -1, -0.75]


@pytest.mark.parametrize("one", [(5.0,), (5.0, 5.0, 5.0)])
def test_one_mean_serves_all_channels(one: tuple[float, ...]):
    tensor, _ = prepared(NOISE, image_mean=one)
    assert np.array_equal(tensor[0], NOISE.transpose(2, 0, 1) - np.float32(5))


@pytest.mark.parametrize(
    ("dtype", "keys", "expected"),
    [
        ("uint8", {}, 200),
        ("float16", {"rescale_factor": 1 / 255}, np.float16(np.float32(200) * np.float32(1 / 255))),
        ("float64", {"rescale_factor": 2.0}, 400),
        ("int8", {"image_mean": (128.0,)}, 72),
        ("int8", {}, 127),
        ("uint8", {"image_mean": (300.0,)}, 0),
        ("int32", {"rescale_factor": 0.033}, 7),
    ],
)
def test_dtypes(dtype: str, keys: dict[str, Any], expected: Any):
    tensor, _ = prepared(np.full((2, 2, 3), 200, np.uint8), dtype=np.dtype(dtype), **keys)
    assert tensor.dtype == dtype
    assert (tensor == expected).all()


# -- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "resample", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
)
def test_stretching_is_pillows_resize(resample: str):
    tensor, transform = prepared(NOISE, input_size=(16, 20), resample=resample, layout="NHWC")
    expected = Image.fromarray(NOISE).resize((20, 16), Image.Resampling[resample.upper()])
    assert np.array_equal(tensor[0], np.asarray(expected))
    assert transform.scale == (20 / 50, 16 / 30)


@pytest.mark.parametrize(
    ("size", "inner", "corner"),
    [((40, 100), (40, 67), (16, 0)), ((60, 50), (30, 50), (0, 15)), ((31, 50), (30, 50), (0, 0))],
)
def test_a_letterbox_keeps_the_aspect_in_the_middle(
    size: tuple[int, int], inner: tuple[int, int], corner: tuple[int, int]
):
    keys = {"resize_mode": "letterbox", "pad_value": 114.0, "layout": "NHWC"}
    tensor, transform = prepared(NOISE, input_size=size, **keys)
    height, width = inner
    left, top = corner
    picture = Image.fromarray(NOISE).resize((width, height), Image.Resampling.BILINEAR)
    expected = np.full((*size, 3), 114)
    expected[top : top + height, left : left + width] = np.asarray(picture)
    assert np.array_equal(tensor[0], expected)
    assert transform.offset == corner


def test_cropping_is_resizing_the_shorter_edge_and_cutting_out_the_middle():
    keys = {"resize_mode": "crop", "crop_size": (12, 12), "layout": "NHWC"}
    tensor, transform = prepared(NOISE, input_size=(15, 15), **keys)
    whole = Image.fromarray(NOISE).resize((25, 15), Image.Resampling.BILINEAR)
    expected = np.asarray(whole)[1 : 1 + 12, 6 : 6 + 12].astype(int)
    # The part is resized by itself: the same but for the rounding of Pillow's coefficients.
    assert np.abs(tensor[0] - expected).max() <= 1
    assert transform.offset == (-6, -1)


def test_cropping_without_a_crop_size_fills_the_input():
    tensor, transform = prepared(NOISE, input_size=(15, 15), resize_mode="crop")
    assert tensor.shape == (1, 3, 15, 15)
    assert transform == Transform((30, 50), (15, 15), (0.5, 0.5), (-5, 0))


def test_cropping_without_resizing_pads_what_is_missing():
    keys = {"resize_mode": "crop", "crop_size": (40, 40), "do_resize": False, "layout": "NHWC"}
    tensor, _ = prepared(NOISE, pad_value=7.0, **keys)
    assert np.array_equal(tensor[0, 5:35], NOISE[:, 5:45])
    assert (tensor[0, :5] == 7).all()
    assert (tensor[0, 35:] == 7).all()


@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
def test_a_model_that_must_not_be_given_resized_pictures_says_what_it_takes(mode: str):
    keys = {"input_size": (20, 30), "do_resize": False, "resize_mode": mode}
    prepared(np.zeros((20, 30, 3), np.uint8), **keys)
    message = "expected 30 x 20 pixels, as do_resize is false, found 50 x 30"
    with pytest.raises(InvalidArgument, match=message):
        prepared(NOISE, **keys)


@pytest.mark.parametrize("mode", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (1, 1)])
def test_pictures_of_any_aspect_are_prepared(mode: str, shape: tuple[int, int]):
    tensor, transform = prepared(
        np.zeros((*shape, 3), np.uint8), input_size=(64, 64), resize_mode=mode
    )
    assert tensor.shape == (1, 3, 64, 64)
    assert transform.picture == shape


# -- the way back ------------------------------------------------------------------------------

SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300))
MODES = st.sampled_from(["stretch", "letterbox", "crop"])


@given(SIZES, SIZES, MODES)
def test_the_pictures_corners_come_back(here: tuple[int, int], there: tuple[int, int], mode: str):
    picture = np.zeros((*here, 3), np.uint8)
    _, transform = prepared(picture, input_size=there, resize_mode=mode)
    height, width = here
    corners = np.array([[0.0, 0.0], [width, height], [width / 2, height / 2]])
    given = corners * transform.scale + transform.offset
    found = transform.points(given)
    assert found.dtype == np.float32
    assert np.allclose(found, corners, atol=1e-3)
    # The picture's middle is the input's, but for a pixel that cannot be halved.
    assert np.abs(given[2] - np.array(there[::-1]) / 2).max() <= 0.5


def test_a_dot_is_found_where_it_was():
    pixels = np.zeros((120, 200, 3), np.uint8)
    pixels[90:94, 40:44] = 255
    for mode in ("stretch", "letterbox", "crop"):
        tensor, transform = prepared(pixels, input_size=(60, 60), resize_mode=mode)
        y, x = np.unravel_index(tensor[0, 0].argmax(), (60, 60))
        found = transform.points(np.array([x + 0.5, y + 0.5]))
        assert np.abs(found - [42, 92]).max() < 3.5, mode


def test_boxes_end_at_the_pictures_edges():
    transform = Transform((30, 50), (64, 64), (1.28, 1.28), (0, 12.8))
    boxes = np.array([[-10, 0, 70, 64], [12.8, 25.6, 25.6, 38.4]])
    found = transform.boxes(boxes)
    assert np.allclose(found, [[0, 0, 50, 30], [10, 10, 20, 20]])
    assert transform.boxes(np.zeros((0, 4))).shape == (0, 4)


def test_a_grid_of_the_pictures_size_comes_back_unchanged():
    transform = Transform((5, 7), (5, 7), (1.0, 1.0), (0.0, 0.0))
    rng = np.random.default_rng(2)
    values = rng.normal(size=(5, 7)).astype(np.float32)
    assert np.array_equal(transform.values(values), values)
    logits = rng.normal(size=(4, 5, 7)).astype(np.float32)
    assert np.array_equal(transform.classes(logits), logits.argmax(axis=0))
    classes = rng.integers(0, 9, (5, 7))
    found = transform.classes(classes)
    assert found.dtype == np.uint8
    assert np.array_equal(found, classes)


def test_a_coarse_grid_is_interpolated_between_its_centres():
    transform = Transform((1, 8), (1, 4), (0.5, 1.0), (0.0, 0.0))
    grid = np.array([[0.0, 4.0]], np.float32)  # two cells for four pixels of the input
    assert transform.values(grid).tolist() == [[0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4]]


def test_margins_of_a_letterbox_stay_outside():
    transform = Transform((2, 4), (4, 4), (1.0, 1.0), (0.0, 1.0))
    grid = np.array([[9] * 4, [1, 2, 3, 4], [5, 6, 7, 8], [9] * 4])
    assert transform.classes(grid).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert transform.values(grid.astype(np.float32)).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_map_of_many_classes_is_made_in_stripes(monkeypatch: pytest.MonkeyPatch):
    transform = Transform((37, 11), (16, 16), (16 / 11, 16 / 37), (0.0, 0.0))
    logits = np.random.default_rng(3).normal(size=(20, 4, 4)).astype(np.float32)
    whole = transform.classes(logits)
    monkeypatch.setattr("vaccel.inference.preprocess._BLOCK", 1)
    assert np.array_equal(transform.classes(logits), whole)


def test_more_classes_than_a_mask_holds_are_refused():
    transform = Transform((2, 2), (2, 2), (1.0, 1.0), (0.0, 0.0))
    with pytest.raises(InvalidArgument, match="at most 256 classes, found 257"):
        transform.classes(np.zeros((257, 2, 2), np.float32))
    with pytest.raises(InvalidArgument, match="classes from 0 to 255, found 300"):
        transform.classes(np.full((2, 2), 300))
