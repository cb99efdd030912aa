"""The client's side of uploads (see `content`), and of fetching back what kernels changed."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from vaccel import log
from vaccel.error import FFIError, InvalidArgument
from vaccel.progress import Progress
from vaccel.rpc import codec, messages
from vaccel.rpc.arguments import Contents
from vaccel.rpc.content import CHUNK, Content, key_of, proof
from vaccel.rpc.link import Link

_WORKERS = 3
"""Chunks under way at once: one is written there, one on its way, one read here."""
_LOOK = 0.05
"""Seconds between two looks at the progress."""


class Piece(NamedTuple):
    """A blob that is to be uploaded."""

    name: str
    type: int
    content: Content


class _Chunk(NamedTuple):
    blob: int
    offset: int
    size: int
    prove: bool


def upload(
    link: Link, session: int, type: int, pieces: Sequence[Piece], timeout: float | None
) -> int:
    """Bring `pieces` to the agent as a resource of `session`; its id there.

    Each message may take `timeout` seconds. An exception on the way, from a signal handler for
    instance, ends the upload and not the connection.
    """
    offer = messages.OfferResourceRequest(session_id=session, resource_type=type)
    for piece in pieces:
        key = key_of(piece.content)
        offer.blobs.add(type=piece.type, name=piece.name, size=piece.content.size, key=key)
    answer, _ = link.call("OfferResource", offer, timeout)
    ending = messages.EndUploadRequest(session_id=session, upload_id=answer.upload_id)
    try:
        _Upload(link, pieces, ending, answer, timeout).run()
    except BaseException:
        if link.client.alive:
            with contextlib.suppress(FFIError):
                link.call("AbandonResource", ending, timeout)
        raise
    return int(link.call("CommitResource", ending, timeout)[0].resource_id)


class _Upload:
    """Threads that send chunks: each waits for its answer, so together they keep the connection
    busy; and an interrupt of the main thread finds no frame sent in part."""

    def __init__(
        self, link: Link, pieces: Sequence[Piece], ids: Any, answer: Any, timeout: float | None
    ) -> None:
        self._link = link
        self._pieces = pieces
        self._ids = ids
        self._chunk: int = answer.chunk
        self._nonce: bytes = answer.nonce
        # A chunk waits for those before it.
        self._timeout = None if timeout is None else _WORKERS * timeout
        self._lock = threading.Lock()
        self._known: dict[int, int] = dict.fromkeys(answer.known, 0)
        """Blobs that the agent seems to have, and how many bytes it certainly has."""
        self._left = deque((i, 0) for i, piece in enumerate(pieces) if piece.content.size)
        self._size = sum(piece.content.size for piece in pieces)
        self._done = 0
        self._proving = bool(self._known)
        """What was begun last is compared with what the agent has, not sent."""
        self._failure: BaseException | None = None
        self._stopped = False
        if not 0 < self._chunk <= CHUNK:
            raise InvalidArgument(f"the agent asks for chunks of {self._chunk} bytes")

    def run(self) -> None:
        count = min(_WORKERS, -(-self._size // self._chunk))
        threads = [
            threading.Thread(target=self._work, name="vaccel-upload", daemon=True)
            for _ in range(count)
        ]
        progress = Progress(self._doing, self._size)
        started: list[threading.Thread] = []
        try:
            for thread in threads:
                thread.start()
                started.append(thread)
            for thread in started:
                while thread.is_alive():
                    thread.join(_LOOK)
                    progress.what = self._doing
                    progress.show(self._done)
        finally:
            self._stopped = True
            for thread in started:
                thread.join()
            progress.what = self._doing
            progress.close(self._done)
        if self._failure is not None:
            raise self._failure

    @property
    def _doing(self) -> str:
        return f"{'checking' if self._proving else 'uploading'} {self._pieces[0].name}"

    def _work(self) -> None:
        memory = memoryview(bytearray(self._chunk))
        try:
            while not self._stopped:
                chunk = self._next()
                if chunk is None:
                    return
                self._put(chunk, memory)
        except BaseException as exc:
            self._failure = self._failure or exc
            self._stopped = True

    def _next(self) -> _Chunk | None:
        with self._lock:
            if not self._left:
                return None
            blob, offset = self._left[0]
            size = min(self._chunk, self._pieces[blob].content.size - offset)
            if offset + size < self._pieces[blob].content.size:
                self._left[0] = (blob, offset + size)
            else:
                self._left.popleft()
            self._proving = blob in self._known
            return _Chunk(blob, offset, size, self._proving)

    def _put(self, chunk: _Chunk, memory: memoryview) -> None:
        content = self._pieces[chunk.blob].content
        request = messages.PutChunkRequest(
            session_id=self._ids.session_id,
            upload_id=self._ids.upload_id,
            blob=chunk.blob,
            offset=chunk.offset,
        )
        contents = Contents()
        if chunk.prove:
            data = content.read(chunk.offset, memory[: chunk.size])
            request.proof = proof(self._nonce, chunk.offset, data)
        else:
            request.data = contents.put(content.part(chunk.offset, chunk.size), chunk.size)
        answer, _ = self._link.call("PutChunk", request, self._timeout, contents)
        with self._lock:
            if chunk.prove and chunk.blob not in self._known:
                return  # another chunk differed meanwhile
            if answer.differs:
                self._send_instead(chunk.blob)
                return
            self._done += chunk.size
            if chunk.prove:
                self._known[chunk.blob] += chunk.size

    def _send_instead(self, blob: int) -> None:
        """The agent has another content with the same key."""
        log.debug("%s is not what the agent has", self._pieces[blob].name)
        self._done -= self._known.pop(blob)
        if self._left and self._left[0][0] == blob:
            self._left.popleft()
        self._left.append((blob, 0))


def fetch(
    link: Link,
    ids: tuple[int, int],
    contents: Sequence[Content],
    patch: Callable[[int, int, memoryview], None],
    timeout: float | None,
) -> None:
    """Call patch(blob, offset, data) where the agent's resource differs from `contents`.

    `ids` are those of a session and the resource there.
    """
    memory = memoryview(bytearray(CHUNK))
    for blob, content in enumerate(contents):
        for offset in range(0, content.size, CHUNK):
            data = content.read(offset, memory[: min(CHUNK, content.size - offset)])
            request = messages.FetchChunkRequest(
                session_id=ids[0],
                resource_id=ids[1],
                blob=blob,
                offset=offset,
                size=len(data),
                proof=proof(b"", offset, data),
            )
            answer, views = link.call("FetchChunk", request, timeout)
            if answer.differs:
                new = memoryview(codec.bulk(answer.data, views))
                if len(new) != len(data):
                    raise InvalidArgument(
                        f"FetchChunk: expected {len(data)} bytes, found {len(new)}"
                    )
                patch(blob, offset, new)
