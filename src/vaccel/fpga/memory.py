"""Memory of a simulated board: pages handed out by address, and the processor's view of them."""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt

from vaccel.error import InvalidArgument, ResourceExhausted, SessionClosed
from vaccel.fpga.device import Buffer

Bytes = npt.NDArray[np.uint8]


def pages(nbytes: int) -> Bytes:
    """Zeroed bytes that start at a page; they take no room before they are touched."""
    return np.frombuffer(
        mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8
    )


class Ranges:
    """The free parts of a range of addresses: the first that fits is taken."""

    def __init__(self, base: int, size: int) -> None:
        self._free = [(base, size)]  # by address; no two touch

    @property
    def free(self) -> int:
        """Bytes, in all parts together."""
        return sum(size for _, size in self._free)

    @property
    def largest(self) -> int:
        return max((size for _, size in self._free), default=0)

    def take(self, size: int) -> int | None:
        for i, (address, room) in enumerate(self._free):
            if room >= size:
                self._free[i : i + 1] = [(address + size, room - size)] if room > size else []
                return address
        return None

    def give_back(self, address: int, size: int) -> None:
        merged: list[tuple[int, int]] = []
        for start, room in sorted([*self._free, (address, size)]):
            before, length = merged[-1] if merged else (0, 0)
            if before + length == start and merged:
                merged[-1] = (before, length + room)
            else:
                merged.append((start, room))
        self._free = merged


class Ddr:
    """The memory that the kernels reach, and the buffers in it.

    coherent: buffers show the memory itself, so nothing needs to be flushed or invalidated.
    """

    def __init__(self, base: int, size: int, coherent: bool) -> None:
        if size < mmap.PAGESIZE or size % mmap.PAGESIZE:
            raise InvalidArgument(
                f"memory: expected a multiple of {mmap.PAGESIZE} bytes, found {size}"
            )
        self.base = base
        self.size = size
        self.bytes = pages(size)
        self._coherent = coherent
        self._ranges: Ranges | None = Ranges(base, size)

    @property
    def free(self) -> int:
        return self.live().free

    def allocate(self, nbytes: int) -> Buffer:
        ranges = self.live()
        if nbytes < 0:
            raise InvalidArgument(f"nbytes: expected 0 or more, found {nbytes}")
        room = max(1, -(-nbytes // mmap.PAGESIZE)) * mmap.PAGESIZE
        address = ranges.take(room)
        if address is None:
            raise ResourceExhausted(
                f"the board's memory has no {nbytes} bytes in one piece: {ranges.free} of "
                f"{self.size} are free, the largest piece has {ranges.largest}"
            )
        shared = self.bytes[address - self.base :][:nbytes]
        array = shared if self._coherent else pages(room)[:nbytes]
        return _Buffer(self, address, room, shared, array)

    def give_back(self, address: int, room: int) -> None:
        if self._ranges:
            self._ranges.give_back(address, room)

    def close(self) -> None:
        """Buffers are gone; what still shows the memory itself keeps it."""
        self._ranges = None
        self.bytes = np.empty(0, np.uint8)

    def live(self) -> Ranges:
        """Raises SessionClosed once it is closed."""
        if self._ranges is None:
            raise SessionClosed("the simulated board is closed")
        return self._ranges


class _Buffer:
    def __init__(self, ddr: Ddr, address: int, room: int, shared: Bytes, array: Bytes) -> None:
        self._ddr = ddr
        self._address = address
        self._room = room
        self._shared: Bytes | None = shared
        self._array = array

    @property
    def array(self) -> Bytes:
        self._live()
        return self._array

    @property
    def physical_address(self) -> int:
        self._live()
        return self._address

    def flush(self, nbytes: int | None = None) -> None:
        shared = self._live()
        if shared is not self._array:
            shared[:nbytes] = self._array[:nbytes]

    def invalidate(self, nbytes: int | None = None) -> None:
        shared = self._live()
        if shared is not self._array:
            self._array[:nbytes] = shared[:nbytes]

    def free(self) -> None:
        if self._shared is not None:
            self._shared = None
            self._ddr.give_back(self._address, self._room)

    def _live(self) -> Bytes:
        if self._shared is None:
            raise SessionClosed("the buffer was freed")
        self._ddr.live()
        return self._shared
