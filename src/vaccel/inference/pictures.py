"""Encoded pictures → RGB, 8 bit. What arrives may come from anybody and may be anything.

The formats' readers are called by name: Pillow's `open` would try dozens of others, and would warn
about large pictures, which have a limit of our own here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel import quiet
from vaccel.error import FFIError, InvalidArgument
from vaccel.inference import room
from vaccel.inference.loaded import import_engine

if TYPE_CHECKING:
    from PIL.Image import Image

_BAND = 2**18
"""Pixels that are converted at once: else there would be several whole pictures on the way."""
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
_ROOM = room.Room()
_WARN = r"PIL\.(Image|JpegImagePlugin|PngImagePlugin|TiffImagePlugin)$"
"""Modules that warn of damaged headers, of which the pixels may be whole."""
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


def reset() -> None:
    """In a forked child: nobody else decodes."""
    _ROOM.reset()


@contextlib.contextmanager
def decoded(content: Any, *, what: str = "image", drawn: int = 0) -> Iterator[Image]:
    """The picture in `content` (bytes or their like) as it is shown, mode RGB; for the block.

    JPEG, PNG, WebP, BMP, TIFF, GIF and binary PNM; of several frames the first. EXIF orientation is
    applied, 16-bit pixels lose their lower byte, transparent ones stand on white. `drawn`: bytes a
    pixel that the block takes, the picture included; they wait for room, too.
    InvalidArgument: `content` is none of these, is cut short or contradicts itself, or would take
    more than `room.limit()`, which is seen before the pixels are decoded. DeadlineExceeded: there
    was no room for it in time.
    """
    limit = room.limit()
    encoded = whole(content)
    copied = 0 if isinstance(encoded, bytes) else encoded.nbytes
    if copied > limit:
        raise InvalidArgument(
            f"{what}: expected an encoded picture of at most {_mib(limit)}, found {_mib(copied)}; "
            f"send it smaller, or set {room.VARIABLE} where it is decoded"
        )
    name, image = _opened(encoded, what)
    try:
        # A PNG may tell at its end only, after its pixels.
        turn = None if name == "PNG" else _UPRIGHT.get(_orientation(image))
        pixels = image.width * image.height
        small = name != "TIFF" and copied + pixels * room.MOST <= min(room.SMALL, limit)
        turned = turn is not None or name == "PNG"
        needed = copied + (0 if small else room.needed(name, image, turned=turned))
    except Exception as exc:  # of any class: the readers trust what they read
        raise _broken(what, name, exc) from None
    _check(what, name, image, needed, limit)
    if small and not drawn:
        yield _upright(what, name, image, turn)
        return
    with _ROOM.take(max(needed, copied + drawn * pixels), room.AT_ONCE * limit):
        yield _upright(what, name, image, turn)


def whole(content: Any) -> bytes | memoryview:
    """As bytes, which nobody can change nor has to copy, if `content` is or shows a whole one."""
    view = memoryview(content)
    shown = view.obj
    if type(shown) is bytes and view.nbytes == len(shown) and view.c_contiguous:
        return shown
    return view


def _check(what: str, name: str, image: Image, needed: int, limit: int) -> None:
    if not (image.width and image.height):
        raise InvalidArgument(
            f"{what}: expected a pixel at least, found {image.width} x {image.height} ({name})"
        )
    if needed > limit:
        raise InvalidArgument(
            f"{what}: expected a picture that is decoded with at most {_mib(limit)}, found "
            f"{image.width} x {image.height} pixels ({name}, {image.mode}), which take "
            f"{_mib(needed)}; send it smaller, or set {room.VARIABLE} where it is decoded"
        )


def _mib(count: int) -> str:
    return f"{count / 2**20:.3g} MiB" if count < 2**30 else f"{count / 2**20:.0f} MiB"


def _upright(what: str, name: str, image: Image, turn: str | None) -> Image:
    """`turn`: as told before the pixels, with which a PNG tells, and a TIFF's reader turns it."""
    try:
        image.load()
        if name in ("PNG", "TIFF"):
            turn = _UPRIGHT.get(_orientation(image))
        shown = _rgb(image)
        if shown is not image:
            image.close()  # its memory, now
        if turn is None:
            return shown
        turned = shown.transpose(getattr(pillow().Transpose, turn))
        shown.close()
        return turned
    except MemoryError:
        raise
    except FFIError as exc:
        raise InvalidArgument(f"{what}: {exc.message}") from None
    except Exception as exc:
        raise _broken(what, name, exc) from None


def _opened(content: bytes | memoryview, what: str) -> tuple[str, Image]:
    """The format, and the picture with its header read."""
    pillow()
    quiet.ignore(UserWarning, module=_WARN)
    start = bytes(content[:16])
    format = next((one for one in _SIGNATURES if one[0].match(start)), None)
    if format is None:
        found = f"{len(content)} bytes that begin with {start!r}" if start else "no bytes"
        raise InvalidArgument(f"{what}: expected {', '.join(_READERS)}, found {found}")
    _, name, module, reader = format
    try:
        # A copy unless `content` is bytes: readers want a file.
        file = io.BytesIO(content)
        image: Image = _reader(module, reader)(file)
    except MemoryError:
        raise
    except Exception as exc:
        raise _broken(what, name, exc) from None
    if name == "PNM" and image.tile[0][0] != "raw":  # type: ignore[attr-defined]
        # Pillow reads these in Python, pixel for pixel: slow, and with much memory.
        raise InvalidArgument(
            f"{what}: expected binary PNM: P4, P5 with a maxval of 255 or 65535, or P6 with 255; "
            f"found another range, or pixels as text, after {start!r}"
        )
    return name, image


@functools.cache
def _reader(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"PIL.{module}"), name)


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
    """In bands of rows, so that beside the two pictures there is little else."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    # Drawings on transparent ground are made for pages, and those are white; on black, their dark
    # lines would vanish.
    canvas: Image = pillow().new("RGB", image.size, "white")
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        band = image.crop(box)
        if band.mode == "F" or band.mode.startswith("I"):
            band = _eight_bits(band)
        if band.mode[-1] in "Aa" or "transparency" in band.info:
            band = band.convert("RGBA")
            canvas.paste(band, box, band.getchannel("A"))
        else:
            canvas.paste(band.convert("RGB"), box)
    return canvas


def _eight_bits(image: Image) -> Image:
    pixels = np.asarray(image)
    # Pillow holds 16-bit grey in 16 or in 32 bits; wider pixels have no range that is known.
    if pixels.dtype.kind == "f" or not 0 <= pixels.min() <= pixels.max() <= 0xFFFF:
        raise InvalidArgument(f"expected 8 or 16 bits a channel, found {pixels.dtype} pixels")
    grey: Image = pillow().fromarray((pixels >> 8).astype(np.uint8))
    return grey
