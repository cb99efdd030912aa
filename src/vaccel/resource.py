"""Resources: files or memory that sessions use, such as models and libraries."""

from __future__ import annotations

import builtins
import mmap
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel import log, runtime
from vaccel.error import InvalidArgument, NotFound, SessionClosed
from vaccel.ops.objects import ResourceLike

if TYPE_CHECKING:
    from types import TracebackType

    from vaccel.session import Session


class ResourceType(IntEnum):
    """What a resource is used as."""

    LIB = 0
    DATA = 1
    MODEL = 2


class BlobType(IntEnum):
    """Where the bytes of a blob are."""

    FILE = 0
    BUFFER = 1
    MAPPED = 2


@dataclass(frozen=True)
class Blob:
    """One named piece of a resource; `data` is bytes in memory, or the mapped file `path`."""

    name: str
    data: memoryview
    type: BlobType = BlobType.BUFFER
    path: Path | None = None


class Resource(ResourceLike):
    """Files (`paths`) or memory (`from_buffer`, `from_numpy`) of one type.

    Registered with any number of sessions. Memory is written to files only where a plugin asks for
    `files()`; these live in the resource's rundir while a session holds it, or until `close`.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        type: ResourceType | int,
    ) -> None:
        listed = [paths] if isinstance(paths, (str, os.PathLike)) else paths
        try:
            files = [Path(path) for path in listed if str(path)]
        except TypeError:
            files = []
        if not files or len(files) != len(listed):
            raise InvalidArgument(
                f"Resource: paths: expected one path or more, found {paths!r:.80}"
            )
        self._init(type, files, [])

    @classmethod
    def from_buffer(cls, data: Any, type: ResourceType | int, *, name: str = "buffer") -> Resource:
        """A resource over the memory of contiguous `data`, which is not copied."""
        try:
            view = memoryview(data)
        except TypeError:
            found = builtins.type(data).__name__
            raise InvalidArgument(
                f"Resource: data: expected bytes or an array, found {found}"
            ) from None
        if not view.c_contiguous:
            raise InvalidArgument(
                f"Resource: data: expected contiguous memory, found strides {view.strides}; "
                "pass a copy"
            )
        # An empty array has a zero in its shape, which cast refuses.
        return cls.from_blobs(
            [Blob(name, view.cast("B") if view.nbytes else memoryview(b""))], type
        )

    @classmethod
    def from_numpy(cls, array: Any, *, name: str = "array") -> Resource:
        """A DATA resource over a contiguous array's memory, which is not copied."""
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            found = getattr(array, "dtype", builtins.type(array).__name__)
            raise InvalidArgument(f"Resource: array: expected an array of numbers, found {found}")
        return cls.from_buffer(array, ResourceType.DATA, name=name)

    @classmethod
    def from_blobs(cls, blobs: Sequence[Blob], type: ResourceType | int) -> Resource:
        """A resource of several named pieces in memory."""
        for blob in blobs:
            check_name(blob.name)
        self = cls.__new__(cls)
        self._init(type, [], list(blobs))
        return self

    def _init(self, type: ResourceType | int, paths: list[Path], blobs: list[Blob]) -> None:
        try:
            self.type = ResourceType(type)
        except ValueError:
            raise InvalidArgument(
                f"Resource: type: expected LIB (0), DATA (1) or MODEL (2), found {type!r}"
            ) from None
        self.paths = paths
        self._blobs = blobs
        self._runtime = runtime.current()
        self.id = next(self._runtime.resource_ids)
        self._lock = threading.RLock()
        self._sessions: list[Session] = []
        self._rundir: Path | None = None
        self._files: list[Path] = []
        self._closed = False
        self.remote_id = 0
        self._runtime.opened(self)

    def __repr__(self) -> str:
        return f"<Resource {self.id} {self.type.name} in {len(self._sessions)} sessions>"

    def __enter__(self) -> Resource:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- content -------------------------------------------------------------------------------

    def blobs(self) -> list[Blob]:
        """The content; files are mapped, not read."""
        if not self.paths:
            return list(self._blobs)
        names: dict[str, int] = {}
        blobs = []
        for i, path in enumerate(self.paths):
            # Two folders may hold files of one name, which go to one folder elsewhere.
            name = path.name if names.setdefault(path.name, i) == i else f"{i}.{path.name}"
            blobs.append(Blob(name, _map(path), BlobType.FILE, path))
        return blobs

    def files(self) -> list[Path]:
        """The content as files; memory is written to the resource's rundir on first use."""
        if self.paths:
            return list(self.paths)
        with self._lock:
            self._check_open()
            if not self._files:
                folder = self.rundir()
                for blob in self._blobs:
                    path = folder / blob.name
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
                self.paths[i].write_bytes(content)
            elif blob.data.readonly or blob.data.nbytes != len(content):
                self._blobs[i] = replace(blob, data=memoryview(content))
            else:
                blob.data[:] = content

    def patch(self, index: int, offset: int, content: memoryview) -> None:
        """As `update`, for a piece of blob `index`."""
        if self.paths:
            with self.paths[index].open("r+b") as file:
                file.seek(offset)
                file.write(content)
            return
        blob = self._blobs[index]
        if blob.data.readonly:
            blob = self._blobs[index] = replace(blob, data=memoryview(bytearray(blob.data)))
        blob.data[offset : offset + len(content)] = content

    def rundir(self) -> Path:
        """A folder of the resource's own, mode 0700."""
        with self._lock:
            self._check_open()
            if self._rundir is None:
                self._rundir = self._runtime.rundir.subfolder(f"resource.{self.id}")
            return self._rundir

    # -- sessions ------------------------------------------------------------------------------

    def register(self, session: Session) -> None:
        """Make the resource usable in `session`; a second time changes nothing."""
        for path in self.paths:
            if not path.is_file():
                raise NotFound(f"resource {self.id}: there is no file {path}")
        with self._lock:
            self._check_open()
            if session in self._sessions:
                return
            self._sessions.append(session)
        # Outside our lock: plugins called from here may ask for the files.
        try:
            session.attach(self)
        except BaseException:
            with self._lock:
                self._sessions.remove(session)
            raise

    def unregister(self, session: Session) -> None:
        """End the resource's use in `session`; with the last session its rundir goes."""
        with self._lock:
            if session not in self._sessions:
                raise NotFound(f"resource {self.id} is not registered with session {session.id}")
            self._sessions.remove(session)
        try:
            session.detach(self)
        finally:
            with self._lock:
                if not self._sessions:
                    self._remove_files()

    def sync(self, session: Session) -> None:
        """Bring the content up to date with what kernels of `session` wrote."""
        if not self.registered_with(session):
            raise NotFound(f"resource {self.id} is not registered with session {session.id}")
        session.sync(self)

    def registered_with(self, session: Any) -> bool:
        return session in self._sessions

    def close(self) -> None:
        """Unregister from all sessions and remove the rundir. Repeatable."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            sessions = list(self._sessions)
        try:
            for session in sessions:
                self.unregister(session)
        finally:
            with self._lock:
                self._remove_files()
            self._runtime.closed(self)

    def disown(self) -> None:
        """In a forked child: the files, and the sessions, stay with the parent."""
        self._lock = threading.RLock()
        self._closed = True
        self._sessions = []

    def _remove_files(self) -> None:
        if self._rundir is not None:
            self._runtime.rundir.remove_subfolder(self._rundir)
        self._rundir, self._files = None, []

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosed(f"resource {self.id} is closed; create a new Resource")


def check_name(name: str) -> None:
    """Raises InvalidArgument: a blob becomes a file in the rundir, and must not leave it."""
    if not name or name in (".", "..") or "/" in name or "\0" in name or len(name.encode()) > 255:
        raise InvalidArgument(
            f"resource name: expected a file name of 1 to 255 bytes without '/' and NUL, "
            f"found {name!r}"
        )


def _map(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return memoryview(b"")  # an empty file cannot be mapped
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as exc:
        log.debug("cannot map %s: %s", path, exc)
        raise NotFound(f"resource file {path}: {exc.strerror}") from exc
