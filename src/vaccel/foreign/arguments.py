"""Arguments as C functions get them: arrays of vAccel 0.8's `struct vaccel_arg`."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vaccel.error import PluginError
from vaccel.ops.args import Arg

# struct vaccel_arg { void *buf; size_t size; uint32_t type; uint32_t custom_type_id; bool owned; }
# as the compiler lays it out here; 0N pads to the alignment of a pointer.
_STRUCTURE = struct.Struct("@PNII?0N")
_ALIGNMENT = 64  # of contents: whatever a function does with them, SIMD included

Bytes = npt.NDArray[np.uint8]


class Layout:
    """Where a call's structures and contents stand in one piece of memory."""

    def __init__(self, read: Sequence[Arg], write: Sequence[Arg]) -> None:
        self.read, self.write = read, write
        self.outputs = _STRUCTURE.size * len(read)
        """Offset of the structures of the outputs; those of the inputs begin at 0."""
        end = self.outputs + _STRUCTURE.size * len(write)
        self._sizes = [*(arg.size for arg in read), *(arg.capacity for arg in write)]
        self._offsets = []
        for size in self._sizes:
            offset = -(-end // _ALIGNMENT) * _ALIGNMENT
            self._offsets.append(offset)
            end = offset + size
        self.size = end

    def fill(self, memory: Bytes, address: int) -> None:
        """Write the call to `memory`, which the function will see at `address`."""
        if not self._sizes:
            return
        addresses = [address + offset for offset in self._offsets]
        _write(memory, addresses, self._sizes, (*self.read, *self.write))
        for arg, offset, size in zip(self.read, self._offsets, self._sizes, strict=False):
            if size:
                memory[offset : offset + size] = np.frombuffer(arg.view(), np.uint8)
        # A function may read what it then changes, so the outputs' contents go along.
        for arg, offset, size in self._places():
            if size:
                memory[offset : offset + size] = np.frombuffer(arg.room(), np.uint8)

    def take(self, memory: Bytes, address: int) -> None:
        """Store in `write` what the function wrote. PluginError: the structures are not right."""
        if not self.write:
            return
        addresses = [address + offset for _, offset, _ in self._places()]
        lengths = _lengths(memory[self.outputs :], addresses, self.write)
        for (arg, offset, _), length in zip(self._places(), lengths, strict=True):
            arg.store(memory[offset : offset + length])

    def _places(self) -> Iterator[tuple[Arg, int, int]]:
        """The outputs, with offset and size of each."""
        first = len(self.read)
        return zip(self.write, self._offsets[first:], self._sizes[first:], strict=True)


class InPlace:
    """The structures of a call in this process, whose contents stay where they are."""

    def __init__(self, read: Sequence[Arg], write: Sequence[Arg]) -> None:
        self._write = write
        self.outputs = _STRUCTURE.size * len(read)
        self._memory = np.zeros(self.outputs + _STRUCTURE.size * len(write), np.uint8)
        # Kept, since the memory must live until the call ends.
        self._contents = [
            np.frombuffer(view, np.uint8)
            for view in (*(arg.view() for arg in read), *(arg.room() for arg in write))
        ]
        self._addresses = [content.ctypes.data for content in self._contents]
        sizes = [content.nbytes for content in self._contents]
        _write(self._memory, self._addresses, sizes, (*read, *write))

    @property
    def address(self) -> int:
        return int(self._memory.ctypes.data)

    def take(self) -> None:
        """Shorten outputs that the function made shorter. PluginError as for `Layout`."""
        first = len(self._contents) - len(self._write)
        written = self._memory[self.outputs :]
        lengths = _lengths(written, self._addresses[first:], self._write)
        for arg, content, length in zip(self._write, self._contents[first:], lengths, strict=True):
            if length < arg.capacity:
                arg.store(content[:length].copy())  # it is the Arg's own memory


def _write(memory: Bytes, addresses: Sequence[int], sizes: Sequence[int], args: Any) -> None:
    structures = memory.data
    for i, (address, size, arg) in enumerate(zip(addresses, sizes, args, strict=True)):
        where = address if size else 0
        fields = (where, size, int(arg.type), arg.custom_type_id, False)
        _STRUCTURE.pack_into(structures, i * _STRUCTURE.size, *fields)


def _lengths(memory: Bytes, addresses: Sequence[int], write: Sequence[Arg]) -> list[int]:
    """How much of each output the function says that it wrote: all, if it does not touch that."""
    lengths = []
    for i, (arg, address) in enumerate(zip(write, addresses, strict=True)):
        where, length, *_ = _STRUCTURE.unpack_from(memory.data, i * _STRUCTURE.size)
        if where != (address if arg.capacity else 0):
            raise PluginError(
                f"output {i}: the function replaced the argument's buffer; "
                "it must write into the one that it is given"
            )
        if length > arg.capacity:
            raise PluginError(
                f"output {i}: the function set a size of {length} bytes, "
                f"the argument offers {arg.capacity}; give it a longer value"
            )
        lengths.append(length)
    return lengths
