"""Resources whose contents are files of the store."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from vaccel.blob import Blob, BlobType, ResourceType
from vaccel.error import InvalidArgument
from vaccel.resource import Resource
from vaccel.rpc.content import Content, FileContent, MemoryContent
from vaccel.sources.trees import SMALL_FILE, place
from vaccel.uploads.store import Store, Stored


class Piece(NamedTuple):
    """A content, and what the client calls it."""

    name: str
    type: BlobType
    stored: Stored


class Uploaded(Resource):
    """As a resource in memory, but what nobody asks for takes none.

    Kernels may write to the blobs: each resource's memory is its own, while the store's files,
    which others share, stay as they are.
    """

    def __init__(
        self,
        type: ResourceType,
        pieces: Sequence[Piece],
        store: Store,
        released: Callable[[], None],
    ) -> None:
        self._pieces = pieces
        self._store = store
        self._released = released
        self._held = True
        self._init(type, [], [])

    def blobs(self) -> list[Blob]:
        with self._lock:
            if not self._blobs:
                self._check_open()
                self._blobs = [Blob(p.name, _map(p.stored.path), p.type) for p in self._pieces]
            return list(self._blobs)

    def files(self) -> list[Path]:
        with self._lock:
            self._check_open()
            if not self._files:
                folder = self.rundir()
                self._files = [_link(p.stored.path, place(folder, p.name)) for p in self._pieces]
            return list(self._files)

    def rundir(self) -> Path:
        """On the store's disk, so that it can have links to its files."""
        with self._lock:
            self._check_open()
            if self._rundir is None:
                self._rundir = self._runtime.disk.subfolder(f"resource.{self.id}")
            return self._rundir

    def content(self, index: int) -> Content:
        """What blob `index` is now, without mapping it for that."""
        with self._lock:
            self._check_open()
            if self._blobs:
                return MemoryContent(self._blobs[index].data)
            return FileContent(self._pieces[index].stored.path)

    def __len__(self) -> int:
        return len(self._pieces)

    def close(self) -> None:
        try:
            super().close()
        finally:
            with self._lock:
                held, self._held = self._held, False
            if held:
                for piece in self._pieces:
                    self._store.release(piece.stored)
                self._released()


def content_of(resource: Resource, index: int) -> Content:
    """Of any resource's blob; InvalidArgument if there is none of this number."""
    blobs = [] if isinstance(resource, Uploaded) else resource.blobs()
    count = len(resource) if isinstance(resource, Uploaded) else len(blobs)
    if index >= count:
        raise InvalidArgument(f"blob: expected a number below {count}, found {index}")
    if isinstance(resource, Uploaded):
        return resource.content(index)
    return MemoryContent(blobs[index].data)


def _map(path: Path) -> memoryview:
    """Memory that can be written to, and shows the file where it was not."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size <= SMALL_FILE:
            return memoryview(bytearray(file.read()))
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def _link(path: Path, name: Path) -> Path:
    try:
        name.hardlink_to(path)
    except OSError:  # a file system without links
        shutil.copyfile(path, name)
    return name
