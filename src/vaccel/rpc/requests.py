"""Requests of one connection, at the server: their deadlines, and their way to an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from vaccel import deadline
from vaccel.error import DeadlineExceeded
from vaccel.rpc import status
from vaccel.rpc.codec import Decoder, Shape
from vaccel.rpc.handler import Handler, Reply, failed, failure, method_of
from vaccel.rpc.known import KnownFrames
from vaccel.rpc.messages import METHODS, RpcRequest
from vaccel.rpc.status import RpcFailure
from vaccel.rpc.ttrpc import Event
from vaccel.rpc.watch import Watch


class Request:
    """One that came in, to be decoded by `Requests.open`."""

    __slots__ = ("event", "method", "moment", "open", "refusal", "shape", "views")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.open = False
        self.shape: Shape
        self.views: list[memoryview]
        self.method = ""
        self.moment: float | None = None
        """When it must be done, in the time of time.monotonic()."""
        self.refusal: Reply | None = None


class Requests:
    """Opens and answers requests; several threads may."""

    def __init__(
        self,
        handler: Handler,
        known: KnownFrames,
        watch: Watch,
        limit: int,
        late: Callable[[int, Reply], None],
    ) -> None:
        """`late` sends, to a stream, the reply that says that its deadline has passed; called by
        the watch, whose thread must not block. `limit`: see `handler.Limits.message`."""
        self._handler = handler
        self._known = known
        self._watch = watch
        self._limit = limit
        self._late = late
        self._decoder = Decoder(RpcRequest, {name: m[0] for name, m in METHODS.items()})
        self._lock = threading.Lock()
        self._timed: set[Request] = set()
        """Those whose deadlines the watch knows."""
        self._closed = False

    def close(self) -> None:
        """The connection has ended: nobody waits for deadlines any more."""
        with self._lock:
            self._closed = True
            timed, self._timed = self._timed, set()
        for request in timed:
            self._watch.settle(request)

    def open(self, request: Request) -> None:
        """Decode, and let the deadline count, also while other requests are run first."""
        with self._lock:
            if request.open:
                return
            request.open = True
            event = request.event
            try:
                if event.excess:
                    raise RpcFailure(
                        status.RESOURCE_EXHAUSTED,
                        f"a request of {event.excess} bytes, the limit is {self._limit}",
                    )
                request.shape, request.views = self._decoder.decode(event.data)
                request.method = request.shape.checked or method_of(request.shape)
                if request.shape.timeout_nano > 0:
                    self._set_deadline(request, request.shape.timeout_nano / 1e9)
            except Exception as exc:
                request.refusal = failed(exc)

    def _set_deadline(self, request: Request, seconds: float) -> None:
        exceeded = DeadlineExceeded(f"{request.method}: not done within {seconds:g} s")
        request.moment = time.monotonic() + seconds
        if self._closed:
            return
        self._timed.add(request)
        stream = request.event.stream
        self._watch.deadline(request, request.moment, lambda: self._late(stream, failure(exceeded)))

    def answer(self, request: Request) -> Reply | None:
        """The reply, or None if the deadline passed and was answered for."""
        self.open(request)
        if request.refusal is not None:
            return request.refusal
        timed = request.moment is not None
        if timed and not self._watch.expects(request):
            self._timed.discard(request)
            return None
        try:
            with deadline.until(request.moment):
                reply = self._reply(request)
        except (Exception, SystemExit) as exc:  # a kernel may be any code
            reply = failed(exc)
        if timed:
            self._timed.discard(request)
            if not self._watch.settle(request):
                return None
        return reply

    def _reply(self, request: Request) -> Reply:
        method, event = request.method, request.event
        serve = self._handler.methods.get(method)
        if event.parts is None and serve is not None:
            reply = serve(request.shape, request.views)
            if request.moment is None:
                self._known.remember(request.shape, len(event.data))
            return reply
        stream = self._handler.streams.get(method)
        if stream is None or event.parts is None:
            wrong = "is not a streaming method" if stream is None else "expected a stream"
            raise RpcFailure(status.INVALID_ARGUMENT, f"{method}: {wrong}")
        return stream(event.parts)
