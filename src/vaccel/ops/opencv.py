"""The functions of the opencv operation, by name.

    thumbnail = session.opencv("resize", image, width=64, height=48)

Names are OpenCV's own, of arguments in snake case; so are the numbers that choices stand for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vaccel.ops.functions import Function, Shaped, unfit
from vaccel.ops.parameters import Choice, Image, Int, Matrix, Real

INTERPOLATIONS = {
    "nearest": 0,
    "linear": 1,
    "cubic": 2,
    "area": 3,
    "lanczos4": 4,
    "linear_exact": 5,
    "nearest_exact": 6,
}
BORDERS = {"constant": 0, "replicate": 1, "reflect": 2, "wrap": 3, "reflect_101": 4}
THRESHOLDS = {"binary": 0, "binary_inv": 1, "trunc": 2, "tozero": 3, "tozero_inv": 4}
AUTOMATIC = {"none": 0, "otsu": 8, "triangle": 16}
MATCHES = {
    "sqdiff": 0,
    "sqdiff_normed": 1,
    "ccorr": 2,
    "ccorr_normed": 3,
    "ccoeff": 4,
    "ccoeff_normed": 5,
}
_COLORS = {  # by channels before and after
    (1, 3): {"GRAY2BGR": 8, "GRAY2RGB": 8},
    (1, 4): {"GRAY2BGRA": 9, "GRAY2RGBA": 9},
    (3, 1): {"BGR2GRAY": 6, "RGB2GRAY": 7},
    (4, 1): {"BGRA2GRAY": 10, "RGBA2GRAY": 11},
    (3, 4): {"BGR2BGRA": 0, "RGB2RGBA": 0, "BGR2RGBA": 2, "RGB2BGRA": 2},
    (4, 3): {"BGRA2BGR": 1, "RGBA2RGB": 1, "BGRA2RGB": 3, "RGBA2BGR": 3},
    (4, 4): {"BGRA2RGBA": 5, "RGBA2BGRA": 5},
    (3, 3): {
        "BGR2RGB": 4,
        "RGB2BGR": 4,
        "BGR2XYZ": 32,
        "RGB2XYZ": 33,
        "XYZ2BGR": 34,
        "XYZ2RGB": 35,
        "BGR2YCrCb": 36,
        "RGB2YCrCb": 37,
        "YCrCb2BGR": 38,
        "YCrCb2RGB": 39,
        "BGR2HSV": 40,
        "RGB2HSV": 41,
        "HSV2BGR": 54,
        "HSV2RGB": 55,
        "BGR2Lab": 44,
        "RGB2Lab": 45,
        "Lab2BGR": 56,
        "Lab2RGB": 57,
        "BGR2Luv": 50,
        "RGB2Luv": 51,
        "Luv2BGR": 58,
        "Luv2RGB": 59,
        "BGR2HLS": 52,
        "RGB2HLS": 53,
        "HLS2BGR": 60,
        "HLS2RGB": 61,
    },
}
COLORS = {name: number for names in _COLORS.values() for name, number in names.items()}
_CHANNELS = {n: channels for channels, names in _COLORS.items() for n in names.values()}
# What OpenCV has for some elements only, which its errors do not say in these words.
_EIGHT_BITS_OR_REAL = ("HSV", "HLS", "Lab", "Luv")
_HISTOGRAMS = {AUTOMATIC["otsu"]: ("uint8", "uint16"), AUTOMATIC["triangle"]: ("uint8",)}
_WARPS = {name: n for name, n in INTERPOLATIONS.items() if not name.endswith("_exact")}
_BLURS = {name: n for name, n in BORDERS.items() if name != "wrap"}
_MAX_SIGMA = 4000.0  # whose kernel has at most MAX_SIDE elements


def _channels(image: Any) -> int:
    return int(image.shape[2]) if image.ndim == 3 else 1


def _same(v: dict[str, Any]) -> list[Shaped]:
    return [(v["image"].shape, v["image"].dtype)]


def _blurred(v: dict[str, Any]) -> list[Shaped]:
    sigma_x = v["sigma_x"]
    for side, sigma in (("width", sigma_x), ("height", v["sigma_y"] or sigma_x)):
        if v[f"kernel_{side}"] == 0 and not sigma > 0:  # OpenCV derives the size from it
            raise unfit(f"kernel_{side}", "an odd number, or 0 with a sigma above 0", "0 without")
    return _same(v)


def _sized(v: dict[str, Any]) -> list[Shaped]:
    return [((v["height"], v["width"], *v["image"].shape[2:]), v["image"].dtype)]


def _converted(v: dict[str, Any]) -> list[Shaped]:
    image, (before, after) = v["image"], _CHANNELS[v["code"]]
    name = next(name for name, number in COLORS.items() if number == v["code"])
    if _channels(image) != before:
        raise unfit("image", f"{before} channels for {name}", f"{_channels(image)} channels")
    if image.dtype == np.uint16 and any(space in name for space in _EIGHT_BITS_OR_REAL):
        raise unfit("image", f"uint8 or float32 for {name}", image.dtype)
    return [((*image.shape[:2], after) if after > 1 else image.shape[:2], image.dtype)]


def _edges(v: dict[str, Any]) -> list[Shaped]:
    return [(v["image"].shape[:2], np.uint8)]


def _limited(v: dict[str, Any]) -> list[Shaped]:
    image, dtypes = v["image"], _HISTOGRAMS.get(v["automatic"])
    if dtypes and (image.dtype.name not in dtypes or _channels(image) != 1):
        name = next(name for name, number in AUTOMATIC.items() if number == v["automatic"])
        found = f"{_channels(image)} channels of {image.dtype}"
        raise unfit("image", f"1 channel of {' or '.join(dtypes)} for {name}", found)
    return [((), np.float64), *_same(v)]


def _matched(v: dict[str, Any]) -> list[Shaped]:
    image, template = v["image"], v["template"]
    if template.dtype != image.dtype or _channels(template) != _channels(image):
        expected = f"{_channels(image)} channels of {image.dtype}, as the image has"
        found = f"{_channels(template)} channels of {template.dtype}"
        raise unfit("template", expected, found)
    height, width = (1 + a - b for a, b in zip(image.shape, template.shape[:2], strict=False))
    if height < 1 or width < 1:
        expected = f"at most the image's shape {image.shape}"
        raise unfit("template", expected, f"shape {template.shape}")
    return [((height, width), np.float32)]


_WIDTH, _HEIGHT = Int("width", least=1), Int("height", least=1)
_INTERPOLATION = Choice("interpolation", "linear", INTERPOLATIONS)
_EIGHT_BITS = ("uint8",)

FUNCTIONS = (
    Function(
        1,
        "resize",
        "The image in another size.",
        (Image("image"), _WIDTH, _HEIGHT, _INTERPOLATION),
        _sized,
    ),
    Function(
        2,
        "cvtColor",
        "The image in other colours; `code` is OpenCV's, without `COLOR_`.",
        (Image("image", dtypes=("uint8", "uint16", "float32")), Choice("code", names=COLORS)),
        _converted,
    ),
    Function(
        3,
        "GaussianBlur",
        "The image, blurred. A side of 0 follows from its sigma, a sigma of 0 from its side.",
        (
            Image("image"),
            Int("kernel_width", odd=True),
            Int("kernel_height", odd=True),
            Real("sigma_x", 0.0, 0.0, _MAX_SIGMA),
            Real("sigma_y", 0.0, 0.0, _MAX_SIGMA),
            Choice("border", "reflect_101", _BLURS),
        ),
        _blurred,
    ),
    Function(
        4,
        "Canny",
        "The edges of the image: 255 where one is, else 0.",
        (
            Image("image", dtypes=_EIGHT_BITS),
            Real("threshold1"),
            Real("threshold2"),
            Int("aperture_size", 3, 3, 7, odd=True),
            Int("l2_gradient", 0, 0, 1),
        ),
        _edges,
        {"result": "an image of uint8"},
    ),
    Function(
        5,
        "threshold",
        "The image, split at a threshold; `automatic` finds one from the image's histogram.",
        (
            Image("image"),
            Real("thresh"),
            Real("maxval", 255.0),
            Choice("type", "binary", THRESHOLDS),
            Choice("automatic", "none", AUTOMATIC),
        ),
        _limited,
        {"used": "the threshold", "result": "an image"},
    ),
    Function(
        6,
        "warpAffine",
        "The image, its points moved by `matrix`; with `inverse`, `matrix` leads from the "
        "result to the image.",
        (
            Image("image"),
            Matrix("matrix"),
            _WIDTH,
            _HEIGHT,
            Choice("interpolation", "linear", _WARPS),
            Int("inverse", 0, 0, 1),
            Choice("border", "constant", BORDERS),
            Real("border_value", 0.0),
        ),
        _sized,
    ),
    Function(
        7,
        "matchTemplate",
        "How well the template fits at each place of the image.",
        (
            Image("image", dtypes=("uint8", "float32")),
            Image("template", dtypes=("uint8", "float32")),
            Choice("method", "ccoeff_normed", MATCHES),
        ),
        _matched,
        {"result": "float32 of shape (image height - template height + 1, the same for widths)"},
    ),
)
"""Function codes, as the operation's first argument carries them, and what each function takes."""

BY_NAME = {function.name: function for function in FUNCTIONS}
BY_CODE = {function.code: function for function in FUNCTIONS}
