"""A picture → the tensor that a model takes, and the way back for what the model found.

Coordinates are (x, y) in pixels from the top left corner; the centre of the first pixel lies at
0.5. Sizes are (height, width).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vaccel.error import InvalidArgument
from vaccel.inference.pictures import pillow

if TYPE_CHECKING:
    from PIL.Image import Image

    from vaccel.inference.description import Description

F32s = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Array = np.ndarray[Any, Any]
_Three = tuple[float, ...] | None

_BLOCK = 2**22
"""Values that a map in the making may have at once; a larger one is made in stripes."""


@dataclass(frozen=True)
class Transform:
    """Where the picture lies in the model's input: there = here · scale + offset, by axis (x, y).

    `scale` is the input's pixels for one of the picture's.
    """

    picture: tuple[int, int]
    input: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]

    def points(self, points: Array) -> F32s:
        """Points [..., 2] of the input in the picture; those outside of it stay outside."""
        moved: F32s = ((points - np.array(self.offset)) / self.scale).astype(np.float32)
        return moved

    def boxes(self, boxes: Array) -> F32s:
        """Boxes [n, 4] (left, top, right, bottom) in the picture, cut off at its edges."""
        corners = self.points(boxes.reshape(-1, 2, 2))
        height, width = self.picture
        return np.clip(corners, 0, np.array([width, height], np.float32)).reshape(-1, 4)

    def classes(self, grid: Array) -> Array:
        """The class of each pixel of the picture, uint8 [height, width].

        `grid` covers the input: classes [h, w], or logits [classes, h, w], which are interpolated
        before the largest is taken.
        """
        if grid.ndim == 2:
            worst = int(grid.min()) if grid.min() < 0 else int(grid.max())
            if not 0 <= worst <= 255:
                raise InvalidArgument(f"model: expected classes from 0 to 255, found {worst}")
            rows, columns = (near for near, _, _ in self._samples(grid.shape))
            return grid[rows[:, None], columns].astype(np.uint8)
        if len(grid) > 256:
            raise InvalidArgument(f"model: expected at most 256 classes, found {len(grid)}")
        classes = np.empty(self.picture, np.uint8)
        for part in self._stripes(len(grid)):
            classes[part] = self._interpolate(grid, part).argmax(axis=0)
        return classes

    def values(self, grid: Array) -> F32s:
        """Numbers of [h, w] that cover the input, for each pixel of the picture; interpolated."""
        values = np.empty(self.picture, np.float32)
        for part in self._stripes(8):  # small beside the map itself
            values[part] = self._interpolate(grid, part)
        return values

    def _stripes(self, maps: int) -> Iterator[slice]:
        height, width = self.picture
        step = max(1, _BLOCK // (maps * width))
        return (slice(top, top + step) for top in range(0, height, step))

    def _interpolate(self, grid: Array, part: slice) -> Array:
        """Bilinear, between centres; beyond the outermost centres as there. [..., part, width]."""
        (_, above, down), (_, left, right) = self._samples(grid.shape[-2:])
        above, down = above[part], down[part, None]
        rows = grid[..., above, :]
        # One rounding after the other as in a + t · (b - a): exact where a pixel hits a centre.
        rows = rows + down * (grid[..., np.minimum(above + 1, grid.shape[-2] - 1), :] - rows)
        columns = rows[..., left]
        beside = rows[..., np.minimum(left + 1, grid.shape[-1] - 1)]
        return np.asarray(columns + right * (beside - columns))

    def _samples(self, shape: tuple[int, ...]) -> list[tuple[Array, Array, F32s]]:
        """By axis (y, x), for each pixel: the nearest cell, the cell before it, and how far on."""
        axes = []
        for axis, cells in enumerate(shape):
            extent, scale, offset = self.picture[axis], self.scale[1 - axis], self.offset[1 - axis]
            there = ((np.arange(extent) + 0.5) * scale + offset) * (cells / self.input[axis])
            nearest = np.clip(np.floor(there), 0, cells - 1).astype(np.intp)
            between = np.clip(there - 0.5, 0, cells - 1)
            before = np.floor(between).astype(np.intp)
            axes.append((nearest, before, (between - before).astype(np.float32)))
        return axes


def prepare(picture: Image, description: Description) -> tuple[Array, Transform]:
    """The model's input for a picture (mode RGB): a batch of one, and where the picture lies in it.

    InvalidArgument: the model takes one size only, and its description forbids to resize.
    """
    fitted, transform = _fit(picture, description)
    return _tensor(np.asarray(fitted), description), transform


class _Placement(NamedTuple):
    """Where a picture of one size goes."""

    transform: Transform
    box: tuple[float, float, float, float]
    """The part of the picture that is seen: left, top, right, bottom."""
    size: tuple[int, int]
    """Width and height that this part is resized to."""
    corner: tuple[int, int]
    """Its left top corner in the input."""


def _fit(picture: Image, description: Description) -> tuple[Image, Transform]:
    """The picture, resized and put into the middle of the input; what stands over is cut off."""
    width, height = picture.size
    transform, box, size, corner = _placement(
        (height, width),
        description.do_resize,
        description.resize_mode,
        description.input_size,
        description.model_size,
    )
    if (height, width) == transform.input and transform.scale == (1, 1):
        return picture, transform
    resample = getattr(pillow().Resampling, description.resample.upper())
    fitted = picture.resize(size, resample, box=box)
    height, width = transform.input
    if size == (width, height):
        return fitted, transform
    canvas: Image = pillow().new("RGB", (width, height), (round(description.pad_value),) * 3)
    canvas.paste(fitted, corner)
    return canvas, transform


@functools.lru_cache(maxsize=256)
def _placement(
    here: tuple[int, int],
    do_resize: bool,
    mode: str,
    input_size: tuple[int, int] | None,
    model_size: tuple[int, int] | None,
) -> _Placement:
    """For a picture of size `here`; the rest as in the description."""
    there = model_size or here
    size = _resized(here, there, do_resize, mode, input_size or here)
    # Of an odd rest the larger half lies right and below, of margins and of what is cut off.
    top, left = (int((there[axis] - size[axis]) / 2) for axis in (0, 1))
    scale = (size[1] / here[1], size[0] / here[0])
    # What is cut off is not even made: beside a long, thin picture it would be huge.
    inside = (
        max(left, 0),
        max(top, 0),
        min(left + size[1], there[1]),
        min(top + size[0], there[0]),
    )
    box = [(edge - (left, top)[i % 2]) / scale[i % 2] for i, edge in enumerate(inside)]
    box = [min(max(edge, 0), here[1 - i % 2]) for i, edge in enumerate(box)]  # rounding
    return _Placement(
        Transform(here, there, scale, (left, top)),
        (box[0], box[1], box[2], box[3]),
        (inside[2] - inside[0], inside[3] - inside[1]),
        inside[:2],
    )


def _resized(
    here: tuple[int, int],
    there: tuple[int, int],
    do_resize: bool,
    mode: str,
    wanted: tuple[int, int],
) -> tuple[int, int]:
    """What a picture of size `here` is resized to for an input of size `there`."""
    if not do_resize:
        if mode != "crop" and here != there:
            raise InvalidArgument(
                f"image: expected {there[1]} x {there[0]} pixels, as do_resize is false, "
                f"found {here[1]} x {here[0]}"
            )
        return here
    if mode == "stretch":
        return there
    ratios = wanted[0] / here[0], wanted[1] / here[1]
    ratio = min(ratios) if mode == "letterbox" else max(ratios)
    return max(1, round(here[0] * ratio)), max(1, round(here[1] * ratio))


def _tensor(pixels: Pixels, description: Description) -> Array:
    """RGB pixels [height, width, 3] as numbers, in the model's order."""
    if description.color_order == "BGR":
        pixels = pixels[..., ::-1]
    first = description.layout == "NCHW"
    tensor: Array
    if first and description.dtype == np.float32:
        tensor = pixels.transpose(2, 0, 1).astype(np.float32, order="C")
        _normalize(tensor, *_normalization(description))
    else:
        # Each channel has 256 values only, and a table has their numbers: rounded as if each pixel
        # had been computed. Other types, and steps over channels, are slow to compute with.
        table = _table(*_normalization(description), description.dtype)
        planes = [np.take(row, pixels[..., channel]) for channel, row in enumerate(table)]
        tensor = np.stack(planes, axis=0 if first else -1)
    return tensor.reshape(1, *tensor.shape)


def _normalization(description: Description) -> tuple[float | None, _Three, _Three]:
    return description.rescale_factor, description.image_mean, description.image_std


def _normalize(values: F32s, factor: float | None, mean: _Three, std: _Three) -> None:
    """In place; [3, …], in the order of the model's channels."""
    each = (-1, *[1] * (values.ndim - 1))
    if factor is not None:
        values *= np.float32(factor)
    if mean is not None:
        values -= np.array(mean, np.float32).reshape(each)
    if std is not None:
        values /= np.array(std, np.float32).reshape(each)


@functools.lru_cache(maxsize=64)
def _table(factor: float | None, mean: _Three, std: _Three, dtype: np.dtype[Any]) -> Array:
    """What the model gets for each value from 0 to 255, [3, 256]; row 0 is its first channel."""
    table = np.tile(np.arange(256, dtype=np.float32), (3, 1))
    _normalize(table, factor, mean, std)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        table = np.clip(np.rint(table), info.min, info.max)
    return table.astype(dtype)
