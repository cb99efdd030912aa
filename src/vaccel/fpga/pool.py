"""Device buffers, kept for reuse by the session that they were allocated for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vaccel.error import ResourceExhausted
from vaccel.fpga.device import Buffer, Device

PAGE = 1 << 12


def size_class(nbytes: int) -> int:
    """What is allocated for `nbytes`: whole pages, of four sizes between powers of two."""
    step = max(PAGE, 1 << nbytes.bit_length() >> 3)
    return -(-nbytes // step) * step


class Share:
    """The buffers of one session. `ended` may be set by any thread, at any time."""

    def __init__(self) -> None:
        self.ended = False
        self.idle: dict[int, list[Buffer]] = {}

    def drop(self) -> int:
        """Free the idle buffers; how many."""
        buffers = [buffer for kept in self.idle.values() for buffer in kept]
        self.idle.clear()
        for buffer in buffers:
            buffer.free()
        return len(buffers)


class Pool:
    """The shares of all sessions. Except for `share` and `due`, for one thread at a time."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._shares: list[Share] = []

    def share(self) -> Share:
        share = Share()
        with self._lock:
            self._shares.append(share)
        return share

    @property
    def due(self) -> bool:
        """A share has ended and was not swept yet."""
        with self._lock:
            return any(share.ended for share in self._shares)

    def sweep(self) -> None:
        """Free what ended shares hold."""
        with self._lock:
            ended = [share for share in self._shares if share.ended]
            self._shares = [share for share in self._shares if not share.ended]
        for share in ended:
            share.drop()

    @contextmanager
    def borrow(self, share: Share, sizes: Sequence[int]) -> Iterator[list[Buffer]]:
        """A buffer for each of `sizes`, in bytes; what is left in the list is kept for reuse.

        Raises ResourceExhausted.
        """
        classes: dict[int, int] = {}
        lent: list[Buffer] = []
        try:
            for size in map(size_class, sizes):
                lent.append(self._take(share, size))
                classes[id(lent[-1])] = size
            yield lent
        finally:
            for buffer in reversed(lent):  # the same call gets the same ones
                share.idle.setdefault(classes[id(buffer)], []).append(buffer)

    def _take(self, share: Share, size: int) -> Buffer:
        kept = share.idle.get(size)
        if kept:
            return kept.pop()
        try:
            return self._device.allocate(size)
        except ResourceExhausted:
            if not self._trim():
                raise
            return self._device.allocate(size)

    def _trim(self) -> int:
        """Free all idle buffers, of every session; how many."""
        with self._lock:
            shares = list(self._shares)
        return sum(share.drop() for share in shares)
