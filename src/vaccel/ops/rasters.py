"""Pixels in files that any reader of pictures takes; written without a library of pictures.

PIL images are known by their methods.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from vaccel.error import InvalidArgument

Pixels = npt.NDArray[np.uint8]


_ORIENTATION = 0x0112
# EXIF orientation → the pixels as they are shown.
_UPRIGHT: dict[int, Callable[[Any], Any]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def pixels(value: Any) -> Any:
    """A PIL image as an array of its pixels as they are shown; everything else as it is.

    InvalidArgument: pixels of more than 16 bits.
    """
    mode, convert = getattr(value, "mode", None), getattr(value, "convert", None)
    if not isinstance(mode, str) or not callable(convert):
        return value
    if mode.startswith("I"):
        array = _sixteen_bits(np.asarray(value))
    elif mode[-1:] in ("A", "a") or "transparency" in getattr(value, "info", {}):
        array = np.asarray(convert("RGBA"))
    else:  # of palettes and CMYK the array would not say what its numbers mean
        array = np.asarray(value if mode in ("L", "RGB", "F") else convert("RGB"))
    upright = _UPRIGHT.get(_orientation(value))
    return array if upright is None else upright(array)


def _sixteen_bits(grey: Any) -> Any:
    """Pillow holds 16-bit grey in 16 or in 32 bits; wider pixels have no range that is known."""
    if grey.size and not 0 <= grey.min() <= grey.max() <= 0xFFFF:
        raise InvalidArgument(
            f"expected 8 or 16 bits a channel, found {grey.dtype} pixels from {grey.min()} to "
            f"{grey.max()}"
        )
    return grey.astype(np.uint16)


def _orientation(image: Any) -> int:
    """Asked once the image is loaded: readers of some formats turn it themselves then."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # EXIF is a tree of its own; a picture without one is shown as it lies
        return 1


def encoded(pixels: Pixels) -> memoryview:
    """Pixels as PNM, or as PNG where they have alpha, which PNM lacks. Uncompressed.

    `pixels`: height × width × 1, 3 (RGB) or 4 (RGBA), none of these 0.
    """
    height, width, channels = pixels.shape
    if channels == 4:
        return _png(pixels)
    head = b"P%d %d %d 255\n" % (5 if channels == 1 else 6, width, height)
    return memoryview(head + pixels.tobytes())


def _png(pixels: Pixels) -> memoryview:
    height, width, _ = pixels.shape
    # Each row begins with the number of its filter; 0 is none.
    rows = np.zeros((height, 1 + 4 * width), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    pieces = [b"\x89PNG\r\n\x1a\n"]
    for name, data in (
        (b"IHDR", struct.pack(">2I5B", width, height, 8, 6, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.data, 0)),
        (b"IEND", b""),
    ):
        check = zlib.crc32(data, zlib.crc32(name))
        pieces += [struct.pack(">I", len(data)), name, data, struct.pack(">I", check)]
    return memoryview(b"".join(pieces))
