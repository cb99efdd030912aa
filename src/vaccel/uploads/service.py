"""The methods of uploads.

A client offers contents. Of each the agent says whether it may have it already; then the client
proves, chunk by chunk, that it has the same, and otherwise it sends the chunks. So nothing is sent
twice, and nobody gets a content of which it knows no more than a hash.
"""

from __future__ import annotations

import contextlib
import hmac
import threading
from collections.abc import Callable
from typing import Any

from vaccel.error import InvalidArgument, ResourceExhausted
from vaccel.resource import Resource
from vaccel.rpc import codec, messages, status
from vaccel.rpc.arguments import Contents
from vaccel.rpc.codec import Shape
from vaccel.rpc.content import CHUNK, proof
from vaccel.rpc.handler import Limits, Method, Reply, reply
from vaccel.rpc.status import RpcFailure
from vaccel.session import Session
from vaccel.uploads.incoming import Offered, Upload, check_offer
from vaccel.uploads.store import Store
from vaccel.uploads.uploaded import content_of

MAX_UPLOADS = 64
"""That one connection may have begun and not ended."""
_ENVELOPE = 4096
"""Bytes of a message beside its chunk, at most."""


class Uploads:
    """The uploads of one connection."""

    def __init__(
        self,
        store: Store,
        limits: Limits,
        session: Callable[[int], Session],
        resource: Callable[[int], Resource],
        enter: Callable[[Session, Resource], Reply],
    ) -> None:
        self._store = store
        self._limits = limits
        self._session, self._resource, self._enter = session, resource, enter
        self._lock = threading.Lock()
        self._open: dict[int, Upload] = {}
        self._last = 0
        self._held = 0
        """Bytes of uploads, and of the resources that they have become."""
        self._closed = False
        self.methods: dict[str, Method] = {
            "OfferResource": self._offer,
            "PutChunk": self._put,
            "CommitResource": self._commit,
            "AbandonResource": self._abandon,
            "FetchChunk": self._fetch,
        }

    def close(self, session: Session | None = None) -> None:
        """End the uploads of `session`, or all, for good."""
        with self._lock:
            self._closed = self._closed or session is None
            ended = [n for n, u in self._open.items() if session is None or u.session is session]
            uploads = [self._open.pop(number) for number in ended]
        for upload in uploads:
            upload.abandon()

    def _offer(self, shape: Shape, views: list[memoryview]) -> Reply:
        request = shape.message
        session = self._session(request.session_id)
        blobs = [Offered(blob, i) for i, blob in enumerate(request.blobs)]
        kind = check_offer(request.resource_type, blobs)
        size = sum(blob.size for blob in blobs)
        self._take(size)
        try:
            # A client of a small --max-message is not to be kept from sending.
            chunk = max(min(CHUNK, self._limits.message - _ENVELOPE), 1)
            upload = Upload(session, kind, blobs, chunk, self._store, self._give)
        except BaseException:
            self._give(size)
            raise
        with self._lock:
            full = len(self._open) >= MAX_UPLOADS
            if not full and not self._closed:
                self._last = number = self._last + 1
                self._open[number] = upload
        if full or self._closed:
            upload.abandon()
            raise RpcFailure(
                status.RESOURCE_EXHAUSTED if full else status.UNAVAILABLE,
                f"more than {MAX_UPLOADS} uploads at once" if full else "the connection has ended",
            )
        return reply(
            messages.OfferResourceResponse(
                upload_id=number,
                chunk=chunk,
                nonce=upload.nonce,
                known=[i for i, part in enumerate(upload.parts) if part.known is not None],
            )
        )

    def _put(self, shape: Shape, views: list[memoryview]) -> Reply:
        request = shape.message
        upload = self._upload(request)
        if request.blob >= len(upload.parts):
            raise InvalidArgument(
                f"PutChunk: blob: expected a number below {len(upload.parts)}, found {request.blob}"
            )
        part = upload.parts[request.blob]
        differs = False
        if request.proof:
            differs = not part.prove(request.offset, request.proof, upload.nonce)
        else:
            part.receive(request.offset, memoryview(codec.bulk(request.data, views)))
        return reply(messages.PutChunkResponse(differs=int(differs)))

    def _commit(self, shape: Shape, views: list[memoryview]) -> Reply:
        upload = self._upload(shape.message, end=True)
        return self._enter(upload.session, upload.finish())

    def _abandon(self, shape: Shape, views: list[memoryview]) -> Reply:
        self._upload(shape.message, end=True).abandon()
        return reply(messages.Empty())

    def _fetch(self, shape: Shape, views: list[memoryview]) -> Reply:
        """A chunk of a resource's content, unless the client has the same."""
        request = shape.message
        self._session(request.session_id)
        with contextlib.closing(content_of(self._resource(request.resource_id), request.blob)) as c:
            # protobuf's C++ core reads large unsigned numbers as negative ones on 32-bit machines.
            if not 0 <= request.size <= CHUNK or request.offset + request.size > c.size:
                raise InvalidArgument(
                    f"FetchChunk: expected at most {CHUNK} bytes within the {c.size} of blob "
                    f"{request.blob}, found {request.size} from {request.offset}"
                )
            data = c.read(request.offset, memoryview(bytearray(request.size)))
            contents = Contents()
            answer = messages.FetchChunkResponse()
            if not hmac.compare_digest(proof(b"", request.offset, data), request.proof):
                answer.differs = 1
                answer.data = contents.put(data, len(data))
            return reply(answer, contents)

    def _upload(self, request: Any, end: bool = False) -> Upload:
        session = self._session(request.session_id)
        with self._lock:
            upload = self._open.get(request.upload_id)
            if upload is None or upload.session is not session:
                raise RpcFailure(status.NOT_FOUND, f"Unknown upload {request.upload_id}")
            if end:
                del self._open[request.upload_id]
        return upload

    def _take(self, size: int) -> None:
        limit = self._limits.resources
        with self._lock:
            left = limit - self._held
            if size <= left:
                self._held += size
                return
        raise ResourceExhausted(
            f"a resource of {size} bytes: this client has {left} bytes left of {limit} for its "
            f"resources; start the agent with a larger --max-resources"
        )

    def _give(self, size: int) -> None:
        with self._lock:
            self._held -= size
