"""Request frames of shapes that were seen before: served as a whole, without parsing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vaccel.rpc.codec import SMALL_FRAME, Match, Shape
from vaccel.rpc.ttrpc import HEADER_SIZE, Kind

Serve = Callable[[bytes], bytes]
"""From a request's frame to its answer's."""

_Known = tuple[Callable[[bytes], Any], tuple[bytes, ...], Serve, Shape]

_SIZES_KEPT = 64
_SHAPES_PER_SIZE = 8


class KnownFrames:
    """What serves which frames, for one connection. Several threads may use it."""

    def __init__(self) -> None:
        self._by_size: dict[int, tuple[_Known, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_size)

    def find(self, frame: bytes) -> Serve | None:
        # As in `Match.fits`; the call would cost as much again.
        for constant_parts, constants, serve, _ in self._by_size.get(len(frame), ()):
            if constant_parts(frame) == constants:
                return serve
        return None

    def cut(self, data: bytes) -> tuple[list[tuple[bytes, Serve]], bytes]:
        """The known frames at the start of `data`, and the rest."""
        found = []
        at = 0
        while at < len(data):
            frame = data[at : at + HEADER_SIZE + int.from_bytes(data[at : at + 4], "big")]
            serve = self.find(frame)
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
        known = self._by_size.get(match.size, ())
        if any(other is shape for _, _, _, other in known):
            return
        new = match.constant_parts, match.constants, shape.quick(match), shape
        if len(self._by_size) >= _SIZES_KEPT:
            self._by_size.clear()
        # A new tuple: another thread may be reading the old one.
        self._by_size[match.size] = (new, *known[: _SHAPES_PER_SIZE - 1])
