"""Resources: files or memory that sessions use, such as models and libraries."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaccel import runtime
from vaccel.blob import Blob, ResourceType
from vaccel.content import Content, Named
from vaccel.error import InvalidArgument, NotFound, SessionClosed
from vaccel.handle import Handle
from vaccel.ops.catalog import Operations
from vaccel.ops.objects import ResourceLike
from vaccel.sources import described, folders, memory
from vaccel.sources.names import check_names
from vaccel.sources.urls import Prefixes, is_url

if TYPE_CHECKING:
    from vaccel.runtime import Runtime
    from vaccel.session import Session
    from vaccel.sources.members import ArchiveLimits
    from vaccel.sources.transfer import UrlLimits


class Resource(Content, Handle, ResourceLike):
    """Files and folders (`paths`), what an archive or a URL holds (`from_archive`, `from_url`), or
    memory (`from_buffer`, `from_numpy`), of one type.

    Registered with any number of sessions. Memory is written to files only where a plugin asks for
    `files()`; these live in the resource's rundir while a session holds it, or until `close`.
    One that the program drops is closed like a dropped session, but stays while sessions hold it.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        type: ResourceType | int,
        *,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        """A folder stands for all regular files below it, named by their paths in it. `description`
        is for `describe`."""
        self._init(type, folders.files_of(paths), [])
        self._runtime.release_dropped()
        if description is not None:
            self.describe(description)

    @classmethod
    def from_archive(
        cls,
        archive: str | os.PathLike[str],
        type: ResourceType | int,
        *,
        limits: ArchiveLimits | None = None,
    ) -> Resource:
        """The files in a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file, which may be at a URL; see
        `sources.archives.unpack` and `from_url` for errors. Unpacked in the rundir."""
        # Here and below: HTTP, TLS and decompressors, which most programs do without.
        from vaccel.sources import archives, downloads

        fetched = downloads.fetch(str(archive)) if is_url(archive) else archive
        path = Path(fetched).absolute()
        return cls._made(type, lambda self: archives.unpack(path, self.rundir(), limits))

    @classmethod
    def from_url(
        cls,
        url: str | Sequence[str],
        type: ResourceType | int,
        *,
        limits: UrlLimits | None = None,
        allow: Prefixes | None = None,
    ) -> Resource:
        """The file at an http(s) URL, or those at several; `https://…/m.onnx#sha256=HEX` checks it.
        Fetched now, kept in the cache; see `sources.downloads.fetch` for errors."""
        from vaccel.sources import downloads

        urls = [url] if isinstance(url, str) else list(url)
        files = folders.files_of([downloads.fetch(each, limits, allow) for each in urls])
        return cls._made(type, lambda self: files)

    @classmethod
    def from_buffer(cls, data: Any, type: ResourceType | int, *, name: str = "buffer") -> Resource:
        """A resource over the memory of contiguous `data`, which is not copied."""
        return cls.from_blobs([Blob(name, memory.bytes_of(data))], type)

    @classmethod
    def from_numpy(cls, array: Any, *, name: str = "array") -> Resource:
        """A DATA resource over a contiguous array's memory, which is not copied."""
        memory.check_array(array)
        return cls.from_buffer(array, ResourceType.DATA, name=name)

    @classmethod
    def from_blobs(cls, blobs: Sequence[Blob], type: ResourceType | int) -> Resource:
        """A resource of several named pieces in memory."""
        check_names(blob.name for blob in blobs)
        self = cls.__new__(cls)
        self._init(type, [], list(blobs))
        self._runtime.release_dropped()
        return self

    @classmethod
    def _made(cls, type: ResourceType | int, make: Callable[[Resource], Named]) -> Resource:
        self = cls.__new__(cls)
        self._init(type, [], [])
        self._runtime.release_dropped()
        self._make = make
        try:
            self._fill()
        except BaseException:
            self.close()
            raise
        return self

    def _init(
        self,
        type: ResourceType | int,
        files: Named,
        blobs: list[Blob],
        place: tuple[Runtime, int] | None = None,
    ) -> None:
        """`place`: where it belongs, and the id that was taken for it there."""
        try:
            self.type = ResourceType(type)
        except ValueError:
            raise InvalidArgument(
                f"Resource: type: expected LIB (0), DATA (1) or MODEL (2), found {type!r}"
            ) from None
        self._hold(files, blobs)
        self._said: list[Blob] = []
        if place is None:
            current = runtime.current()
            place = current, next(current.resource_ids)
        self._runtime, self.id = place
        self._split()
        self._sessions: list[Session] = []
        self._closed = False
        self._unheld = False
        """The program has dropped it."""
        self.remote_id = 0
        self._runtime.opened(self)

    def __repr__(self) -> str:
        return f"<Resource {self.id} {self.type.name} in {len(self._sessions)} sessions>"

    def __enter__(self) -> Resource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- description ---------------------------------------------------------------------------

    def describe(self, description: Mapping[str, Any]) -> Resource:
        """Say of an image model what its files do not, or say wrongly, by the keys of
        docs/models.md. To be called before it is registered; returns the resource.
        InvalidArgument: it is no MODEL, or has a file `.vaccel.json`."""
        if self._sessions:
            raise InvalidArgument(f"resource {self.id}: describe it before it is registered")
        if described.GIVEN in (*self._names, *(blob.name for blob in self._blobs)):
            raise InvalidArgument(
                f"resource {self.id}: description: expected no file {described.GIVEN}, which is "
                f"the description's own name, found one; remove it, or write into it"
            )
        self._said = described.written(description, self.type)
        return self

    def whole(self, descriptions: bool = True) -> list[Blob]:
        """The content and, behind it, what else belongs to a MODEL: files beside those of `paths`,
        as they are now, and its `describe`d keys. An agent gets all of this; one that knows no
        `descriptions` gets of it the content and weights alone."""
        blobs = self.blobs()
        if self.type is ResourceType.MODEL and self._make is None:
            files = list(zip(self._names, self.paths, strict=True))
            blobs += described.beside(files, descriptions)
        return blobs + self._said if descriptions else blobs

    # -- sessions ------------------------------------------------------------------------------

    def register(self, session: Session) -> None:
        """Make the resource usable in `session`; a second time changes nothing."""
        _check_session(session)
        self._fill()
        for path in self.paths:
            if not path.is_file():
                raise NotFound(f"resource {self.id}: there is no file {path}")
        with self._lock:
            self._check_open()
            if session in self._sessions:
                return
            self._sessions.append(session.core)
        # Outside our lock: plugins called from here may ask for the files.
        try:
            session.attach(self)
        except BaseException:
            with self._lock:
                self._sessions.remove(session)
            raise

    def unregister(self, session: Session) -> None:
        """End the resource's use in `session`; with the last session its rundir goes."""
        _check_session(session)
        with self._lock:
            if session not in self._sessions:
                raise NotFound(f"resource {self.id} is not registered with session {session.id}")
            self._sessions.remove(session)
        try:
            session.detach(self)
        finally:
            with self._lock:
                last = not self._sessions
                if last:
                    self._remove_files()
            if last and self._unheld:
                self.close()

    def sync(self, session: Session) -> None:
        """Bring the content up to date with what kernels of `session` wrote."""
        _check_session(session)
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
        failed: Exception | None = None
        try:
            for session in sessions:
                try:
                    self.unregister(session)
                except Exception as exc:  # the others are to be released all the same
                    ended = isinstance(exc, NotFound) and session not in self._sessions
                    failed = failed if ended else failed or exc
        finally:
            with self._lock:
                self._remove_files()
            self._runtime.closed(self)
        if failed is not None:
            raise failed

    def drop(self) -> None:
        with self._lock:
            self._unheld = True
            used = bool(self._sessions)
        if not used:
            self.close()

    def disown(self) -> None:
        """In a forked child: the files, and the sessions, stay with the parent."""
        self._lock = threading.RLock()
        self._closed = True
        self._sessions = []

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosed(f"resource {self.id} is closed; create a new Resource")


def _check_session(session: Any) -> None:
    if not isinstance(session, Operations):
        raise InvalidArgument(f"expected a Session, found {session!r:.60}")
