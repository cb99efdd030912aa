"""Encoded pictures → RGB, 8 bit. What arrives may come from anybody and may be anything.

The formats' readers are called by name: Pillow's `open` would try dozens of others, and would warn
about large pictures, which have a limit of our own here.
"""

from __future__ import annotations

import functools
import importlib
import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.error import FFIError, InvalidArgument
from vaccel.inference.loaded import import_engine

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 80_000_000
"""Of one picture. Decoded it takes 3 bytes a pixel, and up to 10 on the way there."""

_READERS = {
    "JPEG": (rb"\xff\xd8\xff", "JpegImagePlugin", "JpegImageFile"),
    "PNG": (rb"\x89PNG\r\n\x1a\n", "PngImagePlugin", "PngImageFile"),
    "WebP": (rb"RIFF....WEBP", "WebPImagePlugin", "WebPImageFile"),
    "BMP": (rb"BM", "BmpImagePlugin", "BmpImageFile"),
    "TIFF": (rb"II[*+]\0|MM\0[*+]", "TiffImagePlugin", "TiffImageFile"),
    "GIF": (rb"GIF8[79]a", "GifImagePlugin", "GifImageFile"),
    "PNM": (rb"P[1-6]\s", "PpmImagePlugin", "PpmImageFile"),
}
_SIGNATURES = [
    (re.compile(pattern, re.DOTALL), name, module, reader)
    for name, (pattern, module, reader) in _READERS.items()
]
_ORIENTATION = 0x0112
# EXIF orientation → what brings the pixels upright, as Pillow's `Transpose` calls it.
_UPRIGHT = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


@functools.cache
def pillow() -> Any:
    """Pillow's module `Image`; PluginError with the install line where it is missing."""
    return import_engine("PIL.Image", "onnx")


def decode(content: Any, *, what: str = "image", max_pixels: int = MAX_PIXELS) -> Image:
    """The picture in `content` (bytes or their like) as it is shown, mode RGB.

    JPEG, PNG, WebP, BMP, TIFF, GIF and PNM; of several frames the first. EXIF orientation is
    applied, 16-bit pixels lose their lower byte, transparent ones stand on white.
    InvalidArgument: `content` is none of these, is cut short or contradicts itself, or has more
    than `max_pixels`, which is seen before the pixels are decoded.
    """
    name, image = _opened(content, what)
    width, height = image.size
    if not 0 < width * height <= max_pixels:
        raise InvalidArgument(
            f"{what}: expected 1 to {max_pixels} pixels, "
            f"found {width} x {height} = {width * height} ({name}); send it smaller"
        )
    try:
        image.load()
        orientation = _orientation(image)
        image = _rgb(image)
        step = _UPRIGHT.get(orientation)
        return image if step is None else image.transpose(getattr(pillow().Transpose, step))
    except (FFIError, MemoryError) as exc:
        if isinstance(exc, FFIError):
            raise InvalidArgument(f"{what}: {exc.message}") from None
        raise
    except Exception as exc:  # of any class: the readers trust what they read
        raise _broken(what, name, exc) from None


def _opened(content: Any, what: str) -> tuple[str, Image]:
    """The format, and the picture with its header read."""
    pillow()
    view = memoryview(content)
    start = bytes(view[:16])
    format = next((one for one in _SIGNATURES if one[0].match(start)), None)
    if format is None:
        found = f"{view.nbytes} bytes that begin with {start!r}" if start else "no bytes"
        raise InvalidArgument(f"{what}: expected {', '.join(_READERS)}, found {found}")
    _, name, module, reader = format
    try:
        # A copy unless `content` is bytes: readers want a file. It is small beside the pixels.
        file = io.BytesIO(content)
        image: Image = getattr(importlib.import_module(f"PIL.{module}"), reader)(file)
    except MemoryError:
        raise
    except Exception as exc:
        raise _broken(what, name, exc) from None
    return name, image


def _broken(what: str, name: str, exc: Exception) -> InvalidArgument:
    reason = " ".join(str(exc).split()) or type(exc).__name__
    return InvalidArgument(
        f"{what}: expected a whole {name} picture, found one that cannot be decoded: {reason:.200}"
    )


def _orientation(image: Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # EXIF is a tree of its own; a picture without one is shown as it lies
        return 1


def _rgb(image: Image) -> Image:
    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.mode[-1] in "Aa" or "transparency" in image.info:
        return _on_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image) -> Image:
    pixels = np.asarray(image)
    # Pillow holds 16-bit grey in 16 or in 32 bits; wider pixels have no range that is known.
    if pixels.dtype.kind == "f" or not 0 <= pixels.min() <= pixels.max() <= 0xFFFF:
        raise InvalidArgument(f"expected 8 or 16 bits a channel, found {pixels.dtype} pixels")
    grey: Image = pillow().fromarray((pixels >> 8).astype(np.uint8))
    return grey


def _on_white(image: Image) -> Image:
    # Drawings on transparent ground are made for pages, and those are white; on black, their dark
    # lines would vanish.
    canvas: Image = pillow().new("RGB", image.size, "white")
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas
