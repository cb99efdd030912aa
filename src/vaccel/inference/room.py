"""Memory for pictures: what decoding one takes, how much one may take, and all of them at once."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vaccel import deadline
from vaccel.config import size
from vaccel.error import DeadlineExceeded, InvalidArgument

if TYPE_CHECKING:
    from PIL.Image import Image

VARIABLE = "VACCEL_PICTURE_LIMIT"
DEFAULT = 256 << 20
AT_ONCE = 4
"""Pictures of the largest size for which there is room at the same time."""

MOST = 16
"""Bytes that a pixel of any format takes at most, but for TIFF."""
SMALL = 1 << 20
"""Bytes of a picture that is not worth the reckoning, nor the lock: each thread may decode one."""

_HELD = {**dict.fromkeys(("1", "L", "P"), 1), "I;16": 2, "I;16B": 2, "I;16L": 2}
"""Bytes of a pixel in Pillow's memory, by mode; others have 4, also RGB."""
_TILE_WIDTH, _TILE_HEIGHT = 322, 323


def limit(environ: Mapping[str, str] = os.environ) -> int:
    """The bytes that decoding one picture may take."""
    text = environ.get(VARIABLE, "")
    try:
        return size(text) if text else DEFAULT
    except ValueError as exc:
        raise InvalidArgument(f"{VARIABLE}: {exc}") from None


def needed(name: str, image: Image, *, turned: bool) -> int:
    """Bytes at the peak of bringing `image` (opened, not yet decoded) to upright RGB.

    `name` is its format; `turned`: its pixels may have to change places.
    """
    pixels = image.width * image.height
    if name == "WebP":  # two pictures in its decoder, one on the way, one in Pillow
        return MOST * pixels
    decoder = 0
    if name == "JPEG" and _in_several_scans(image):
        decoder = 2 * len(image.getbands())  # all coefficients
    elif name == "TIFF" and image.info.get("compression") != "raw":
        # A piece with up to four channels of 16 bits; it may be as large as the picture, or larger.
        decoder = 8
        tags = image.tag_v2  # type: ignore[attr-defined]
        pixels = max(pixels, int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_HEIGHT, 0)))
    plain = image.mode == "RGB" and "transparency" not in image.info and not turned
    return pixels * (_HELD.get(image.mode, 4) + max(decoder, 0 if plain else 4))


def _in_several_scans(image: Image) -> bool:
    """Progressive, or one channel after the other. The file stands behind its first scan's head."""
    if "progressive" in image.info:
        return True
    file, layers = image.fp, image.layers  # type: ignore[attr-defined]
    length = 2 * layers + 6
    file.seek(-length, os.SEEK_CUR)
    return bool(file.read(3) != bytes([0, length, layers]))


class Share:
    """What one has; given back at the end of the block."""

    __slots__ = ("_count", "_room")

    def __init__(self, room: Room, count: int) -> None:
        self._room, self._count = room, count

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._room.give_back(self._count)


class Room:
    """Bytes that are given out in the order in which they were asked for. Thread-safe."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """All is free; in a forked child, those who had some are not there."""
        self._changed = threading.Condition()
        self._taken = 0
        self._line: deque[object] = deque()

    def take(self, count: int, total: int) -> Share:
        """Have `count` bytes of `total`, for a `with` block; waits until so many are free.

        More than `total` waits until all are. DeadlineExceeded: the request's deadline passed.
        """
        count = min(count, total)
        with self._changed:
            if self._line or self._taken + count > total:
                self._wait(count, total)
            self._taken += count
        return Share(self, count)

    def give_back(self, count: int) -> None:
        with self._changed:
            self._taken -= count
            if self._line:
                self._changed.notify_all()

    def _wait(self, count: int, total: int) -> None:
        me, moment = object(), deadline.current()
        self._line.append(me)
        try:
            left = None if moment is None else moment - time.monotonic()
            if not self._changed.wait_for(lambda: self._my_turn(me, count, total), left):
                raise DeadlineExceeded(
                    f"expected room for {count >> 20} MiB within the deadline, found other "
                    f"pictures that are decoded; together they may take {total >> 20} MiB, "
                    f"{AT_ONCE} times {VARIABLE}"
                )
        finally:
            self._line.remove(me)
            self._changed.notify_all()

    def _my_turn(self, me: object, count: int, total: int) -> bool:
        return self._line[0] is me and self._taken + count <= total
