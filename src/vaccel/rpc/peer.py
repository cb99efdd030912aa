"""One connection at the server: its threads, its requests, its answers.

The thread that reads a connection also runs its requests, without a thread switch. While it runs
them the connection is watched: where it does not come back to read in time, another thread takes
over the reading, and the first one ends with its request. So many requests can be in flight on a
connection, and their answers come in the order in which they are ready.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vaccel import log
from vaccel.error import DeadlineExceeded, FFIError, ProtocolError
from vaccel.rpc import frames, status, transport
from vaccel.rpc.address import Endpoint
from vaccel.rpc.codec import Decoder, Match, Shape
from vaccel.rpc.frames import Template
from vaccel.rpc.messages import METHODS, SERVICES, RpcRequest
from vaccel.rpc.status import RpcFailure
from vaccel.rpc.ttrpc import DEFAULT_LIMIT, HEADER_SIZE, Connection, Data, Event, Kind, Role
from vaccel.rpc.watch import Watch

Reply = tuple[Template, Sequence[Any]]
_RESPONSE = bytes((Kind.RESPONSE, 0))
Serve = Callable[[bytes], bytes]
_QUICK_BELOW = 32 << 10
_SIZES_KEPT = 64
_GATHER = 0.0002  # seconds that an answer may wait for others
_SHAPES_PER_SIZE = 8


Method = Callable[[Shape, list[memoryview]], Reply]
"""Answers a request, given its shape and its bulk contents. Raises FFIError or RpcFailure. May be
called from several threads at once."""
Stream = Callable[[Sequence[Data]], Reply]
"""Answers a streaming request, given the messages that came with it."""


class Handler(Protocol):
    """What a service does for one connection, by method name."""

    @property
    def methods(self) -> Mapping[str, Method]: ...

    @property
    def streams(self) -> Mapping[str, Stream]: ...

    def close(self) -> None:
        """The connection has ended."""


@dataclass(frozen=True)
class Limits:
    """What a client may use of a server."""

    message: int = DEFAULT_LIMIT
    """Bytes of one request."""
    threads: int = 32
    """Threads for slow requests, beyond one for each connection, for all connections together."""
    pending: int = 16_384
    """Requests of a connection that were received and not begun; beyond it, reading pauses."""
    connections: int = 4096


class Owner(Protocol):
    """The server, as its connections see it."""

    watch: Watch
    limits: Limits
    spare: threading.BoundedSemaphore
    endpoint: Endpoint
    stopping: bool

    def ended(self, peer: Peer) -> None: ...


class Peer:
    """One connection."""

    def __init__(self, owner: Owner, sock: socket.socket, handler: Handler) -> None:
        self._owner = owner
        self._watch = owner.watch
        self._sock = sock
        self._fd = sock.fileno()
        self._handler = handler
        self._methods = handler.methods
        self._connection = Connection(Role.SERVER, owner.limits.message)
        self._decoder = Decoder(RpcRequest, {name: m[0] for name, m in METHODS.items()})
        self._matches: dict[int, tuple[tuple[Match, Serve], ...]] = {}
        """By size: frames that can be served as a whole."""
        self._backlog: deque[Event | tuple[bytes, Serve]] = deque()
        self._answers: list[bytes] = []
        self._gathered_since = 0.0
        self._send_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._threads = 0
        self._gone = False
        self.rounds = 0
        self._readers = 0
        # The right to read, while its holder runs requests: whoever pops it has it.
        self._claim: dict[object, bool] = {}

    def start(self) -> None:
        self._watch.add(self._fd, self)
        self._readers = 1
        self._spawn(self._read_thread)

    def _spawn(self, target: Callable[[], None]) -> None:
        with self._state_lock:
            self._threads += 1
        thread = threading.Thread(target=self._guard, args=(target,), name="vaccel-peer")
        thread.daemon = True
        thread.start()

    def _guard(self, target: Callable[[], None]) -> None:
        try:
            target()
        finally:
            with self._state_lock:
                self._threads -= 1
                last = self._threads == 0
            if last:  # nobody uses the socket any more
                self._disconnect()
                self._watch.remove(self._fd)
                self._sock.close()
                self._owner.ended(self)

    def stop_reading(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)

    def abandon(self) -> None:
        """End now, whatever still runs."""
        self._disconnect()

    def _disconnect(self) -> None:
        with self._state_lock:
            if self._gone:
                return
            self._gone = True
        self._backlog.clear()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._handler.close()

    # -- called by the watch, whose thread must not block ----------------------------------------

    def hung_up(self) -> None:
        if not self._owner.stopping:  # then it was us who shut the socket
            self._spawn(self._disconnect)

    def take_over(self) -> bool:
        if not self._owner.spare.acquire(blocking=False):
            return False
        try:
            self._claim.popitem()
        except KeyError:  # its holder came back just now
            self._owner.spare.release()
            return True
        with self._state_lock:
            self._readers += 1
        self._spawn(self._read_thread)
        return True

    def _read_thread(self) -> None:
        try:
            self._flush()  # answers that the thread before gathered must not wait for it
            self._read()
        finally:
            with self._state_lock:
                self._readers -= 1
                spare = self._readers > 0
            if spare:  # the thread that stays is the connection's own from now on
                self._owner.spare.release()

    # -- reading and running -------------------------------------------------------------------

    def _read(self) -> None:
        """Read and run requests until the connection ends or another thread takes over."""
        connection, recv = self._connection, self._sock.recv
        try:
            while True:
                if connection.reader.large is None:
                    data = recv(transport.RECEIVE_SIZE)
                    if not data:
                        break
                    if self._matches and connection.between:
                        serve = self._quick(data)
                        if serve is not None:
                            if not self._run_quick(data, serve):
                                return
                            continue
                        data = self._cut_quick(data)
                    self._backlog.extend(connection.receive(data))
                else:
                    events = transport.receive(self._sock, connection)
                    if events is None:
                        break
                    self._backlog.extend(events)
                while self._backlog:
                    if not self._run_backlog():
                        return
        except ProtocolError as exc:
            log.warn("%s: %s; connection closed", self._owner.endpoint, exc.message)
        except OSError as exc:
            log.debug("%s: %s; connection closed", self._owner.endpoint, exc.strerror)
        if not self._owner.stopping:
            self._disconnect()

    def _quick(self, data: bytes) -> Serve | None:
        """What serves `data`, if that is a small frame of a shape that was seen before."""
        for match, serve in self._matches.get(len(data), ()):
            if match.fits(data):
                return serve
        return None

    def _cut_quick(self, data: bytes) -> bytes:
        """Move the frames at the start of `data` that can be served as a whole to the backlog."""
        at = 0
        while at < len(data):
            frame = data[at : at + HEADER_SIZE + int.from_bytes(data[at : at + 4], "big")]
            serve = self._quick(frame)
            if serve is None:
                break
            self._connection.opened(frame)
            self._backlog.append((frame, serve))
            at += len(frame)
        return data[at:]

    def _run_quick(self, frame: bytes, serve: Serve) -> bool:
        """As `_run_backlog`, for one frame of a shape that was seen before."""
        self._connection.opened(frame)
        token = self._watched()
        answer = self._serve(frame, serve)
        mine = self._reclaim(token)
        self._send_bytes(answer)
        return mine

    @staticmethod
    def _serve(frame: bytes, serve: Serve) -> bytes:
        try:
            return serve(frame)
        except Exception as exc:
            template, contents = _failed(exc)
            return template.joined(frame[4:8], _RESPONSE, contents)

    def _run_backlog(self) -> bool:
        """Run what was read; False if another thread reads now."""
        token = self._watched()
        while self._backlog:
            try:
                work = self._backlog.popleft()
            except IndexError:  # another thread took it
                break
            if not isinstance(work, Event):
                self._gather(self._serve(*work))
                continue
            reply = self._answer(work)
            if not self._backlog and not self._answers:
                # Before the answer goes out: what the client sends next is ours to read.
                mine = self._reclaim(token)
                self._send(work.stream, reply)
                return mine
            self._send(work.stream, reply)
        mine = self._reclaim(token)
        self._flush()
        return mine

    def _gather(self, answer: bytes) -> None:
        """Send `answer` soon, with others: the client then wakes up once for all of them."""
        now = time.monotonic()
        if not self._answers:
            self._gathered_since = now
        self._answers.append(answer)
        if now - self._gathered_since > _GATHER:
            self._flush()

    def _flush(self) -> None:
        answers, self._answers = self._answers, []
        if answers:
            self._send_bytes(b"".join(answers))

    def _send_bytes(self, frames: bytes) -> None:
        try:
            with self._send_lock:
                self._sock.sendall(frames)
        except OSError as exc:
            self._not_sent(exc)

    def _watched(self) -> object:
        """Let the watch give the reading to another thread, until `_reclaim`."""
        token = object()
        self._claim[token] = True
        self.rounds += 1
        self._watch.active(self._fd, self)
        return token

    def _reclaim(self, token: object) -> bool:
        if not self._claim.pop(token, False):
            return False
        self.rounds += 1
        return True

    def _answer(self, event: Event) -> Reply | None:
        """The reply, or None if the deadline passed and was answered for."""
        if event.excess:
            return self._too_long("a request", event.excess)
        try:
            shape, views = self._decoder.decode(event.data)
            method = shape.checked or _method(shape)
            if shape.timeout_nano > 0:
                return self._answer_in_time(event, method, shape, views)
            if event.parts is not None or method not in self._methods:
                return self._stream(method, event)
            reply = self._methods[method](shape, views)
            if shape.quick is not None and len(event.data) <= _QUICK_BELOW:
                self._remember(shape)
            return reply
        except Exception as exc:
            return _failed(exc)

    def _remember(self, shape: Shape) -> None:
        """Serve the next requests of `shape` as whole frames."""
        match = Match(shape, Kind.REQUEST)
        known = self._matches.get(match.size, ())
        if any(other.shape is shape for other, _ in known):
            return
        serve = shape.quick(match)
        if serve is not None:
            if len(self._matches) >= _SIZES_KEPT:
                self._matches.clear()
            # A new tuple: other threads may be reading the old one.
            self._matches[match.size] = ((match, serve), *known[: _SHAPES_PER_SIZE - 1])

    def _stream(self, method: str, event: Event) -> Reply:
        stream = self._handler.streams.get(method)
        if stream is None or event.parts is None:
            wrong = "is not a streaming method" if stream is None else "expected a stream"
            raise RpcFailure(status.INVALID_ARGUMENT, f"{method}: {wrong}")
        return stream(event.parts)

    def _answer_in_time(
        self, event: Event, method: str, shape: Shape, views: list[memoryview]
    ) -> Reply | None:
        key = (self._fd, event.stream, id(self))
        seconds = shape.timeout_nano / 1e9

        def expire() -> None:
            late = DeadlineExceeded(f"{method}: not done within {seconds:g} s")
            self._spawn(lambda: self._send(event.stream, _failure(late)))

        self._watch.deadline(key, time.monotonic() + seconds, expire)
        try:
            if event.parts is None and method in self._methods:
                reply = self._methods[method](shape, views)
            else:
                reply = self._stream(method, event)
        except Exception as exc:
            reply = _failed(exc)
        return reply if self._watch.settle(key) else None

    def _too_long(self, what: str, length: int) -> Reply:
        limit = self._owner.limits.message
        text = f"{what} of {length} bytes, the limit is {limit}"
        return _failure(RpcFailure(status.RESOURCE_EXHAUSTED, text))

    def _send(self, stream: int, reply: Reply | None) -> None:
        if reply is None or self._gone:
            return
        template, contents = reply
        if template.length > self._owner.limits.message:
            template, contents = self._too_long("an answer", template.length)
        try:
            with self._send_lock:
                buffers = template.frame(stream, Kind.RESPONSE, 0, contents)
                transport.send(self._sock, template.length, buffers)
        except OSError as exc:
            self._not_sent(exc)

    def _not_sent(self, exc: OSError) -> None:
        log.debug("%s: answer not sent: %s", self._owner.endpoint, exc.strerror)
        self._disconnect()


def _method(shape: Shape) -> str:
    """The method that a request names. The verdict holds for all requests of its shape."""
    method: str = shape.envelope.method
    if shape.message is None or shape.envelope.service not in SERVICES:
        raise RpcFailure(
            status.UNIMPLEMENTED,
            f"{shape.envelope.service}/{method} is not a method of this agent",
        )
    shape.checked = method
    return method


def _failed(exc: Exception) -> Reply:
    """A client must get an answer, whatever went wrong here."""
    if isinstance(exc, (FFIError, RpcFailure)):
        return _failure(exc)
    log.error("internal error while answering a request", exc_info=exc)
    return _failure(RpcFailure(status.INTERNAL, f"internal error of the agent: {exc!r}"))


def _failure(exc: FFIError | RpcFailure) -> Reply:
    return frames.failure(status.to_status(exc)), ()
