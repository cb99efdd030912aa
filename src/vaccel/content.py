"""What a resource holds: named pieces, in memory or in files."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaccel.blob import Blob, BlobType
from vaccel.error import InvalidArgument
from vaccel.sources.trees import map_file, place

if TYPE_CHECKING:
    from vaccel.runtime import Runtime

Named = list[tuple[str, Path]]
"""Files with the names that they have in a resource."""


class Content:
    """The part of a resource that does not know of sessions."""

    id: int
    _runtime: Runtime

    def _hold(self, files: Named, blobs: list[Blob]) -> None:
        self._names = [name for name, _ in files]
        self.paths = [path for _, path in files]
        self._make: Callable[[Any], Named] | None = None
        """Gives the files anew, after they have gone with the last session."""
        self._blobs = blobs
        self._lock = threading.RLock()
        self._rundir: Path | None = None
        self._files: list[Path] = []

    def _fill(self) -> None:
        with self._lock:
            if self._make is not None and not self.paths:
                files = self._make(self)
                self._names = [name for name, _ in files]
                self.paths = [path for _, path in files]

    def blobs(self) -> list[Blob]:
        """The content; files are mapped, not read. Names may hold folders: `a/b`."""
        self._fill()
        if not self.paths:
            return list(self._blobs)
        return [
            Blob(name, map_file(path), BlobType.FILE, path)
            for name, path in zip(self._names, self.paths, strict=True)
        ]

    def files(self) -> list[Path]:
        """The content as files; memory is written to the resource's rundir on first use."""
        self._fill()
        if self.paths:
            return list(self.paths)
        with self._lock:
            self._check_open()
            if not self._files:
                folder = self.rundir()
                for blob in self._blobs:
                    path = place(folder, blob.name)
                    path.write_bytes(blob.data)
                    self._files.append(path)
            return list(self._files)

    def update(self, contents: Sequence[Any]) -> None:
        """Take over the content that another side's copy has now; called by plugins' `sync`."""
        blobs = self.blobs()
        if len(contents) != len(blobs):
            raise InvalidArgument(
                f"resource {self.id}: expected {len(blobs)} blobs, found {len(contents)}"
            )
        for i, (blob, content) in enumerate(zip(blobs, contents, strict=True)):
            if blob.data == content:
                continue
            if self.paths:
                self._own(i).write_bytes(content)
            elif blob.data.readonly or blob.data.nbytes != len(content):
                self._blobs[i] = replace(blob, data=memoryview(content))
            else:
                blob.data[:] = content

    def patch(self, index: int, offset: int, content: memoryview) -> None:
        """As `update`, for a piece of blob `index`."""
        if self.paths:
            with self._own(index).open("r+b") as file:
                file.seek(offset)
                file.write(content)
            return
        blob = self._blobs[index]
        if blob.data.readonly:
            blob = self._blobs[index] = replace(blob, data=memoryview(bytearray(blob.data)))
        blob.data[offset : offset + len(content)] = content

    def _own(self, index: int) -> Path:
        """The file to write to: the user's, but not the cache's, which is for all."""
        if self._make is not None:
            path = place(self.rundir(), self._names[index])
            if path != self.paths[index]:
                shutil.copyfile(self.paths[index], path)
                self.paths[index] = path
        return self.paths[index]

    def rundir(self) -> Path:
        """A folder of the resource's own, mode 0700; on disk for what may be large."""
        with self._lock:
            self._check_open()
            if self._rundir is None:
                home = self._runtime.rundir if self._make is None else self._runtime.disk
                self._rundir = home.subfolder(f"resource.{self.id}")
            return self._rundir

    def _remove_files(self) -> None:
        if self._rundir is not None:
            self._runtime.rundir.remove_subfolder(self._rundir)
        self._rundir, self._files = None, []
        if self._make is not None:
            self._names, self.paths = [], []

    def _check_open(self) -> None:
        """SessionClosed: the resource is closed."""
        raise NotImplementedError
