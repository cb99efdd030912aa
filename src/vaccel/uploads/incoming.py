"""Uploads that are under way."""

from __future__ import annotations

import contextlib
import errno
import hmac
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vaccel.blob import BlobType, ResourceType
from vaccel.error import InvalidArgument, NotFound, ResourceExhausted
from vaccel.rpc.content import NONCE_SIZE, FileContent, proof
from vaccel.session import Session
from vaccel.sources.names import MAX_FILES, check_names
from vaccel.uploads.store import Store, Stored
from vaccel.uploads.uploaded import Piece, Uploaded

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Offered:
    """A blob that a client announces."""

    def __init__(self, blob: Any, number: int) -> None:
        self.name = blob.name or f"blob.{number}"
        self.size: int = blob.size
        self.key: bytes = blob.key
        self.type = blob_type(blob.type)


def check_offer(type: int, blobs: Sequence[Offered]) -> ResourceType:
    if not 0 < len(blobs) <= MAX_FILES:
        raise InvalidArgument(
            f"OfferResource: blobs: expected 1 to {MAX_FILES}, found {len(blobs)}"
        )
    check_names(blob.name for blob in blobs)
    try:
        return ResourceType(type)
    except ValueError:
        raise InvalidArgument(
            f"resource type: expected LIB (0), DATA (1) or MODEL (2), found {type}"
        ) from None


class Upload:
    """A resource that is being sent."""

    def __init__(
        self,
        session: Session,
        type: ResourceType,
        blobs: Sequence[Offered],
        chunk: int,
        store: Store,
        give: Callable[[int], None],
    ) -> None:
        """`give` gets the bytes back once neither the upload nor its resource takes any."""
        self.session = session
        self.parts: list[Part] = []
        self.nonce = secrets.token_bytes(NONCE_SIZE)
        self._type = type
        self._size = sum(blob.size for blob in blobs)
        self._store = store
        self._give = give
        try:
            for blob in blobs:
                self.parts.append(Part(store, blob, chunk))
        except BaseException:
            for part in self.parts:
                part.abandon()
            raise

    def abandon(self) -> None:
        for part in self.parts:
            part.abandon()
        self._give(self._size)

    def finish(self) -> Uploaded:
        """The resource, if all has come; the upload ends in either case."""
        pieces: list[Piece] = []
        try:
            for part in self.parts:
                part.check_complete()
            pieces.extend(
                Piece(part.blob.name, part.blob.type, part.finish()) for part in self.parts
            )
        except BaseException:
            for piece in pieces:
                self._store.release(piece.stored)
            self.abandon()
            raise
        return Uploaded(self._type, pieces, self._store, lambda: self._give(self._size))


class Part:
    """One blob of an upload. Chunks come in any order: several requests run at once."""

    def __init__(self, store: Store, blob: Offered, chunk: int) -> None:
        self.blob = blob
        self._store = store
        self._chunk = chunk
        self._lock = threading.Lock()
        self._begun: set[int] = set()
        self._done = 0
        self._path: Path | None = None
        # The one that we know stays ours to the end: a proof may still be under way.
        self._pinned = self.known = store.find(blob.key, blob.size)
        if self.known is None:
            self._path = store.create(blob.size)

    def prove(self, offset: int, found: bytes, nonce: bytes) -> bool:
        """Whether the client's chunk is that of the content that we know."""
        with self._lock:
            known = self.known
            if known is None:
                return False
            memory = bytearray(self._begin(offset))
        with contextlib.closing(FileContent(known.path)) as content:
            data = content.read(offset, memoryview(memory))
            same = hmac.compare_digest(proof(nonce, offset, data), found)
        with self._lock:
            if self.known is None:
                return False
            if same:
                self._done += 1
                return True
            self._path = self._store.create(self.blob.size)
            self.known = None
            self._begun.clear()
            self._done = 0
            return False

    def receive(self, offset: int, data: memoryview) -> None:
        with self._lock:
            path = self._path
            if path is None:
                raise InvalidArgument(f"{self._what}: expected a proof first, found data")
            size = self._size_at(offset)
            if len(data) != size:
                raise InvalidArgument(
                    f"{self._what}: expected {size} bytes from {offset}, found {len(data)}"
                )
            self._begin(offset)
        try:
            _write(path, offset, data)
        except FileNotFoundError:  # its session or connection has ended meanwhile
            raise NotFound(f"{self._what}: the upload has ended") from None
        except OSError as exc:
            if exc.errno not in _FULL:
                raise
            raise ResourceExhausted(f"{self._what}: the agent's disk: {exc.strerror}") from exc
        with self._lock:
            self._done += 1

    def check_complete(self) -> None:
        expected = -(-self.blob.size // self._chunk)
        if self._done != expected:
            raise InvalidArgument(
                f"{self._what}: expected {expected} chunks of {self._chunk} bytes, "
                f"found {self._done}"
            )

    def finish(self) -> Stored:
        """The content, whose user is the caller from now on."""
        if self._path is None and self._pinned is not None:
            stored, self._pinned = self._pinned, None
            return stored
        path, self._path = self._path, None
        if path is None:
            raise NotFound(f"{self._what}: the upload has ended")
        try:
            stored = self._store.keep(path, self.blob.size)
        except BaseException:
            self._store.discard(path, self.blob.size)
            raise
        finally:
            self.abandon()
        return stored

    def abandon(self) -> None:
        path, self._path = self._path, None
        pinned, self._pinned = self._pinned, None
        if path is not None:
            self._store.discard(path, self.blob.size)
        if pinned is not None:
            self._store.release(pinned)

    @property
    def _what(self) -> str:
        return f"blob {self.blob.name!r}"

    def _size_at(self, offset: int) -> int:
        if offset % self._chunk or offset >= self.blob.size:
            raise InvalidArgument(
                f"{self._what}: offset: expected a multiple of {self._chunk} below "
                f"{self.blob.size}, found {offset}"
            )
        return min(self._chunk, self.blob.size - offset)

    def _begin(self, offset: int) -> int:
        size = self._size_at(offset)
        if offset in self._begun:
            raise InvalidArgument(f"{self._what}: the chunk at {offset} has come already")
        self._begun.add(offset)
        return size


def blob_type(number: int) -> BlobType:
    try:
        return BlobType(number)
    except ValueError:
        raise InvalidArgument(f"blob type: expected 0, 1 or 2, found {number}") from None


def _write(path: Path, offset: int, data: memoryview) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        while data:
            count = os.pwrite(file, data, offset)
            offset, data = offset + count, data[count:]
    finally:
        os.close(file)
