"""Contents of resources in chunks: what both sides of an upload must agree on."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Protocol

from vaccel.error import InvalidArgument, NotFound
from vaccel.rpc.transport import FileSlice
from vaccel.rpc.ttrpc import LARGE

UPLOADS = 0x2
"""Feature bit: resources may come in chunks. 0.8 peers lack it."""
SMALL = 1 << 20
"""Contents up to this size, together, go in one message."""
CHUNK = 1 << 20
"""Bytes of a chunk at most. Longer ones no longer fit into a processor's cache on their way, and
take so long to write that the agent gives the reading to another thread."""
NONCE_SIZE = 32

_SAMPLES = 16
_SAMPLE = 4096


class Content(Protocol):
    """Bytes that are read in pieces."""

    size: int

    def read(self, offset: int, memory: memoryview) -> memoryview:
        """The `len(memory)` bytes from `offset`; may use `memory` for them."""

    def part(self, offset: int, size: int) -> Any:
        """What a message carries for these bytes."""

    def close(self) -> None: ...


class FileContent:
    """A file, read and not mapped: nothing of it stays in memory, and one that shrinks meanwhile
    is an error and not a signal. NotFound if it cannot be opened."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise NotFound(f"resource file {self._path}: {exc.strerror}") from exc
        self.size = os.fstat(self._fd).st_size

    def read(self, offset: int, memory: memoryview) -> memoryview:
        done = 0
        while done < len(memory):
            count = os.preadv(self._fd, [memory[done:]], offset + done)
            if not count:
                raise InvalidArgument(
                    f"resource file {self._path}: expected {self.size} bytes as before, found "
                    f"{offset + done}: it was changed while it was read"
                )
            done += count
        return memory

    def part(self, offset: int, size: int) -> Any:
        # Small frames are sent as a whole, and so are read before.
        if size > LARGE:
            return FileSlice(self._fd, offset, size)
        return self.read(offset, memoryview(bytearray(size)))

    def close(self) -> None:
        os.close(self._fd)


class MemoryContent:
    """Bytes in memory, of which pieces are views."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self.size = view.nbytes

    def read(self, offset: int, memory: memoryview) -> memoryview:
        return self._view[offset : offset + len(memory)]

    def part(self, offset: int, size: int) -> Any:
        return self._view[offset : offset + size]

    def close(self) -> None:
        pass


def key_of(content: Content) -> bytes:
    """A hash of the size and of samples: equal contents have equal keys, others may have them."""
    sample = memoryview(bytearray(min(_SAMPLE, content.size)))
    last = content.size - len(sample)
    found = hashlib.sha256(content.size.to_bytes(8, "little"))
    for number in range(_SAMPLES if last else 1):
        found.update(content.read(last * number // (_SAMPLES - 1), sample))
    return found.digest()


def proof(nonce: bytes, offset: int, data: memoryview) -> bytes:
    """Shows that one has `data`, to a peer that has it, too, and chose `nonce`.

    SHA-256: with the instructions that processors have for it, it is twice as fast as BLAKE2.
    """
    found = hashlib.sha256(nonce + offset.to_bytes(8, "little"))
    found.update(data)
    return found.digest()
