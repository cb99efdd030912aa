"""Request frames of shapes that were seen before: served as a whole, without parsing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vaccel.rpc.codec import SMALL_FRAME, Match, Shape
from vaccel.rpc.ttrpc import HEADER_SIZE, Kind

Serve = Callable[[bytes, bytes], bytes]
"""From a request's frame, and its stream id as in the header, to its answer's frame."""

Known = tuple[Callable[[bytes], Any], tuple[bytes, ...], Serve, Shape]
"""How a frame is recognised (see `Match.fits`), and what serves it."""

_SIZES_KEPT = 64
_SHAPES_PER_SIZE = 8


class KnownFrames:
    """What serves which frames, for one connection. Several threads may use it."""

    def __init__(self) -> None:
        self.by_size: dict[int, tuple[Known, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self.by_size)

    def _find(self, frame: bytes) -> Serve | None:
        for constant_parts, constants, serve, _ in self.by_size.get(len(frame), ()):
            if constant_parts(frame) == constants:
                return serve
        return None

    def cut(self, data: bytes) -> tuple[list[tuple[bytes, Serve]], bytes]:
        """The known frames at the start of `data`, and the rest."""
        found = []
        at = 0
        while at < len(data):
            frame = data[at : at + HEADER_SIZE + int.from_bytes(data[at : at + 4], "big")]
            serve = self._find(frame)
            if serve is None:
                break
            found.append((frame, serve))
            at += len(frame)
        return found, data[at:]

    def remember(self, shape: Shape, length: int) -> None:
        """Serve the next requests of `shape`, with `length` bytes of data, as whole frames."""
        if shape.quick is None or length > SMALL_FRAME:
            return
        match = Match(shape, Kind.REQUEST)
        known = self.by_size.get(match.size, ())
        if any(other is shape for _, _, _, other in known):
            return
        new = match.constant_parts, match.constants, shape.quick(match), shape
        if len(self.by_size) >= _SIZES_KEPT:
            self.by_size.clear()
        # A new tuple: another thread may be reading the old one.
        self.by_size[match.size] = (new, *known[: _SHAPES_PER_SIZE - 1])
