"""A client connection that threads share.

There is no reader thread: of the threads that wait for an answer, one reads for all. A single
caller so sends and receives by itself, without a thread switch.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from vaccel.config import Timeouts
from vaccel.error import ConnectionLost, DeadlineExceeded, FFIError, ProtocolError, from_errno
from vaccel.rpc import address, transport
from vaccel.rpc.codec import Decoder, Shape
from vaccel.rpc.frames import Template
from vaccel.rpc.messages import METHODS, RpcResponse
from vaccel.rpc.status import to_error
from vaccel.rpc.ttrpc import DEFAULT_LIMIT, LAST_STREAM, Connection, Event, Flag, Kind, Role
from vaccel.rpc.waiting import Limit, Turn, Waiter

_BRIEFLY = 20e-6
"""Seconds."""


class Client:
    """A connection to the agent at `endpoint`; connects at once.

    Raises ConnectionFailed or DeadlineExceeded, naming the endpoint.
    """

    def __init__(
        self, endpoint: str, timeouts: Timeouts | None = None, limit: int = DEFAULT_LIMIT
    ) -> None:
        timeouts = timeouts or Timeouts()
        self.endpoint = address.parse(endpoint)
        self._sock = address.connect(self.endpoint, timeouts.connect, timeouts.keepalive)
        self._connection = Connection(Role.CLIENT, limit)
        self._decoder = Decoder(RpcResponse, {name: m[1] for name, m in METHODS.items()})
        self._pending: dict[int, Waiter] = {}
        self._stream = 1
        self._around = False
        """All stream ids have been used, and are used anew."""
        self._send_lock = threading.Lock()
        self._sending = False
        """A small frame is being sent without the lock (see `QuickClient.caller`): who has the
        lock, but not the turn, waits for that. Who sets this looks at the lock afterwards."""
        self._turn = Turn()
        self._send_limit = Limit(self._sock, socket.SO_SNDTIMEO)
        self._receive_limit = Limit(self._sock, socket.SO_RCVTIMEO)
        self._answered = False
        self._plain = False
        """The socket has no time limit, and no frame was received in part."""
        self._lost: FFIError | None = None

    def __repr__(self) -> str:
        return f"<client of {self.endpoint}>"

    def close(self) -> None:
        """End the connection. Calls that wait raise ConnectionLost."""
        self._lose(ConnectionLost(f"the connection to {self.endpoint} was closed"))
        # The socket is freed only once nobody reads from it.
        waiter = Waiter()
        waiter.stream = -id(waiter)  # not one of ours
        self._pending[waiter.stream] = waiter
        try:
            self._turn.wait(waiter, None)
        finally:
            del self._pending[waiter.stream]
        try:
            with self._send_lock:
                self._sock.close()
        finally:
            self._turn.give()
        # A call that found the turn taken by us now waits for its holder to wake it.
        for waiter in list(self._pending.values()):
            waiter.wake()

    def disown(self) -> None:
        """In a forked child: close our descriptor; the connection goes on in the parent."""
        self._sock.close()

    @property
    def alive(self) -> bool:
        """The connection is usable, as far as can be told without asking the peer."""
        if self._lost is None and not self._pending:
            try:
                flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
                if not self._sock.recv(1, flags):
                    self._lose(self._ended(None))
            except BlockingIOError:
                pass
            except OSError as exc:
                self._lose(self._ended(exc))
        return self._lost is None

    # -- calls ---------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        template: Template,
        contents: Sequence[Any] = (),
        timeout: float | None = None,
        parts: Sequence[tuple[Template, Sequence[Any]]] = (),
        *,
        what: str = "",
    ) -> tuple[Shape, list[memoryview]]:
        """Send a request (with `parts`: a streaming one) and wait for its answer.

        `what` names the call in errors. Raises the error that the peer reports; DeadlineExceeded
        after `timeout` seconds; ConnectionLost.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        waiter = Waiter()
        try:
            self._send_for(waiter, template, contents, parts, deadline)
            event = self._wait(waiter, deadline)
        except BaseException as exc:
            # Whoever fails here may have been woken to read just now, and wakes another one.
            self._pending.pop(waiter.stream, None)
            self._wake_next()
            if isinstance(exc, DeadlineExceeded) and self._lost is None:
                raise self._no_answer(what or method, timeout) from None
            raise
        self._pending.pop(waiter.stream, None)
        try:
            return self._decode(method, event)
        except DeadlineExceeded as exc:
            # The agent was quicker to see that our limit has passed; or it is a plugin's own limit.
            if timeout is None or exc.message != f"{method}: not done within {timeout:g} s":
                raise
            raise self._no_answer(what or method, timeout) from None

    def _no_answer(self, what: str, timeout: float | None) -> DeadlineExceeded:
        return DeadlineExceeded(f"{what}: no answer from {self.endpoint} within {timeout} s")

    def _next_stream(self) -> int:
        stream = self._stream
        while stream > LAST_STREAM or stream in self._pending:
            self._around |= stream > LAST_STREAM
            stream = (stream + 2) & LAST_STREAM
        self._stream = stream + 2
        return stream

    def _send_for(
        self,
        waiter: Waiter,
        template: Template,
        contents: Sequence[Any],
        parts: Sequence[tuple[Template, Sequence[Any]]],
        deadline: float | None,
    ) -> None:
        """Send a request whose answer `waiter` gets."""
        left = -1.0 if deadline is None else max(deadline - time.monotonic(), 0.0)
        if not self._send_lock.acquire(timeout=left):
            raise DeadlineExceeded
        try:
            while self._sending:  # few bytes, which an idle connection takes at once
                if deadline is not None and time.monotonic() > deadline:
                    raise DeadlineExceeded
                time.sleep(_BRIEFLY)
            self._check()
            waiter.stream = self._next_stream()
            self._pending[waiter.stream] = waiter
            self._plain = False
            self._send(waiter.stream, template, contents, parts, deadline)
        finally:
            self._send_lock.release()

    def _send(
        self,
        stream: int,
        template: Template,
        contents: Sequence[Any],
        parts: Sequence[tuple[Template, Sequence[Any]]],
        deadline: float | None,
    ) -> None:
        if deadline is not None or self._send_limit.seconds is not None:
            self._send_limit.set(deadline)
        flags = Flag.REMOTE_OPEN if parts else 0
        frame = template.frame(stream, Kind.REQUEST, flags, contents)
        try:
            transport.send(self._sock, template.length, frame)
            if parts:
                self._send_parts(stream, parts)
        except BlockingIOError:
            # Part of a frame is out, so nothing more can be said on this connection.
            self._lose(DeadlineExceeded(f"{self.endpoint} took no data within the time limit"))
        except BaseException as exc:
            self._broken(exc)

    def _decode(self, method: str, event: Event) -> tuple[Shape, list[memoryview]]:
        if event.excess:
            raise ProtocolError(
                f"{method}: the answer of {self.endpoint} is {event.excess} bytes long, "
                f"more than the limit"
            )
        shape, views = self._decoder.decode(event.data, method)
        if shape.failed:
            raise to_error(shape.envelope.status)
        return shape, views

    def _broken(self, exc: BaseException) -> None:
        """Raise what `exc` means; part of a frame may have been sent or received."""
        if isinstance(exc, OSError) and not isinstance(exc, FFIError):
            self._lose(self._ended(exc))
            self._check()
        if not isinstance(exc, FFIError):  # from a signal handler, for instance
            self._lose(ConnectionLost(f"a call to {self.endpoint} was interrupted by {exc!r}"))
        raise exc

    def _send_parts(self, stream: int, parts: Sequence[tuple[Template, Sequence[Any]]]) -> None:
        for number, (part, buffers) in enumerate(parts, 1):
            flags = Flag.REMOTE_CLOSED if number == len(parts) else 0
            frame = part.frame(stream, Kind.DATA, flags, buffers)
            transport.send(self._sock, part.length, frame)

    def _wait(self, waiter: Waiter, deadline: float | None) -> Event:
        while waiter.event is None:
            if self._turn.wait(waiter, deadline):
                try:
                    self._read_until(waiter, deadline)
                finally:
                    self._turn.give()
                    if len(self._pending) > 1:
                        self._wake_next()
        return waiter.event

    def _wake_next(self) -> None:
        """Let another thread that waits take over the reading."""
        for waiter in list(self._pending.values()):
            if waiter.event is None and waiter.wakeup is not None:
                waiter.wake()
                return

    # -- reading -------------------------------------------------------------------------------

    def _read_until(self, waiter: Waiter, deadline: float | None) -> None:
        while waiter.event is None:
            self._check()
            try:
                if deadline is not None or self._receive_limit.seconds is not None:
                    self._receive_limit.set(deadline)
                if self._connection.reader.large is None:
                    data = self._sock.recv(transport.RECEIVE_SIZE)
                    self._received(self._connection.receive, data)
                else:
                    count = self._sock.recv_into(self._connection.reader.space())
                    self._received(self._connection.filled, count)
            except BlockingIOError:
                continue  # the socket's time limit; setting it anew looks at the deadline
            except BaseException as exc:
                self._broken(exc)

    def _received(self, take: Callable[[Any], list[Event]], what: bytes | int) -> None:
        """`take` what was received, and deliver the answers that it completes."""
        self._plain = False
        if not what:
            self._lose(self._ended(None))
            return
        try:
            for event in take(what):
                self._deliver(event)
        except ProtocolError as exc:
            self._lose(self._no_peer(exc))

    def _deliver(self, event: Event) -> None:
        waiter = self._pending.get(event.stream)
        if waiter is not None:
            self._answered = True
            waiter.event = event
            if waiter.wakeup is not None:
                waiter.wake()
        elif event.stream % 2 == 0 or (event.stream >= self._stream and not self._around):
            raise ProtocolError(f"an answer on stream {event.stream}, which was never opened")
        # Otherwise it answers a call that was given up at its deadline.

    # -- the end -------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._lost is not None:
            raise from_errno(self._lost.code, self._lost.message)

    def _lose(self, reason: FFIError) -> None:
        """No more calls; those that wait raise `reason`."""
        if self._lost is None:
            self._lost = reason
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            for waiter in list(self._pending.values()):
                waiter.wake()

    def _ended(self, exc: OSError | None) -> FFIError:
        why = f" ({exc.strerror})" if exc is not None and exc.strerror else ""
        if not self._answered:
            return ConnectionLost(
                f"{self.endpoint} ended the connection before answering{why}: is it a vAccel agent?"
            )
        return ConnectionLost(
            f"the connection to {self.endpoint} was lost{why}; open a new Session to connect again"
        )

    def _no_peer(self, exc: ProtocolError) -> FFIError:
        return ProtocolError(
            f"{self.endpoint} does not speak ttRPC ({exc.message}): is it a vAccel agent?"
        )
