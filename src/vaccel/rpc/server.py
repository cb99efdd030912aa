"""The server side of ttRPC: one thread per connection, more where kernels are slow.

The thread that reads a connection also runs its requests, without a thread switch. While it runs
them the connection is watched: where it does not come back to read in time, another thread takes
over the reading, and the first one ends with its request. So many requests can be in flight on a
connection, and their answers come in the order in which they are ready.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vaccel import log
from vaccel.error import DeadlineExceeded, FFIError, ProtocolError
from vaccel.rpc import address, codec, status, transport
from vaccel.rpc.codec import Decoder, Shape, Template
from vaccel.rpc.messages import METHODS, SERVICES, RpcRequest
from vaccel.rpc.status import RpcFailure
from vaccel.rpc.ttrpc import DEFAULT_LIMIT, Connection, Data, Event, Kind, Role
from vaccel.rpc.watch import Watch

Reply = tuple[Template, Sequence[Any]]
_RESPONSE = int(Kind.RESPONSE)


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


class Server:
    """Listens on `endpoint` and serves each connection with a handler of its own."""

    def __init__(
        self, endpoint: str, connected: Callable[[str], Handler], limits: Limits | None = None
    ) -> None:
        self.limits = limits or Limits()
        wanted = address.parse(endpoint)
        self._connected = connected
        self._sock = address.listen(wanted)
        self.endpoint = address.bound(wanted, self._sock)
        self.watch = Watch()
        self.spare = threading.BoundedSemaphore(self.limits.threads)
        self.stopping = False
        self._peers: dict[_Peer, None] = {}
        self._quiet = threading.Condition()
        self._acceptor = threading.Thread(target=self._accept, name="vaccel-accept", daemon=True)
        self._acceptor.start()

    @property
    def connections(self) -> int:
        return len(self._peers)

    def _accept(self) -> None:
        for number in itertools.count(1):
            try:
                sock, _ = self._sock.accept()
            except OSError as exc:
                if self.stopping:
                    return
                log.error("cannot accept a connection: %s", exc.strerror)
                if exc.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    with self._quiet:  # until a connection ends and frees something
                        self._quiet.wait(1.0)
                continue
            if self.stopping or len(self._peers) >= self.limits.connections:
                log.warn("refused a connection: %d are open", len(self._peers))
                sock.close()
                continue
            address.tune(sock, 60)
            peer = _Peer(self, sock, self._connected(f"connection {number}"))
            self._peers[peer] = None
            peer.start()

    def ended(self, peer: _Peer) -> None:
        with self._quiet:
            self._peers.pop(peer, None)
            self._quiet.notify_all()

    def stop(self, grace: float = 5.0) -> bool:
        """End: no new requests; running ones may finish within `grace` seconds. Repeatable.

        False if some did not.
        """
        if self.stopping:
            return not self._peers
        self.stopping = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes the acceptor
        self._acceptor.join()
        self._sock.close()
        address.unlisten(self.endpoint)
        for peer in list(self._peers):
            peer.stop_reading()
        with self._quiet:
            finished = self._quiet.wait_for(lambda: not self._peers, grace)
        for peer in list(self._peers):
            peer.abandon()
        self.watch.stop()
        return finished


class _Peer:
    """One connection."""

    def __init__(self, server: Server, sock: socket.socket, handler: Handler) -> None:
        self._server = server
        self._watch = server.watch
        self._sock = sock
        self._fd = sock.fileno()
        self._handler = handler
        self._methods = handler.methods
        self._connection = Connection(Role.SERVER, server.limits.message)
        self._decoder = Decoder(RpcRequest, {name: m[0] for name, m in METHODS.items()})
        self._backlog: deque[Event] = deque()
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
                self._server.ended(self)

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
        if not self._server.stopping:  # then it was us who shut the socket
            self._spawn(self._disconnect)

    def take_over(self) -> bool:
        if not self._server.spare.acquire(blocking=False):
            return False
        try:
            self._claim.popitem()
        except KeyError:  # its holder came back just now
            self._server.spare.release()
            return True
        with self._state_lock:
            self._readers += 1
        self._spawn(self._read_thread)
        return True

    def _read_thread(self) -> None:
        try:
            self._read()
        finally:
            with self._state_lock:
                self._readers -= 1
                spare = self._readers > 0
            if spare:  # the thread that stays is the connection's own from now on
                self._server.spare.release()

    # -- reading and running -------------------------------------------------------------------

    def _read(self) -> None:
        """Read and run requests until the connection ends or another thread takes over."""
        pending = self._server.limits.pending
        try:
            while True:
                if len(self._backlog) < pending:
                    events = transport.receive(self._sock, self._connection)
                    if events is None:
                        break
                    self._backlog.extend(events)
                if self._backlog and not self._run_backlog():
                    return
        except ProtocolError as exc:
            log.warn("%s: %s; connection closed", self._server.endpoint, exc.message)
        except OSError as exc:
            log.debug("%s: %s; connection closed", self._server.endpoint, exc.strerror)
        if not self._server.stopping:
            self._disconnect()

    def _run_backlog(self) -> bool:
        """Run what was read; False if another thread reads now."""
        token = object()
        self._claim[token] = True
        self._watch.arm(self._fd)
        while self._backlog:
            try:
                event = self._backlog.popleft()
            except IndexError:  # another thread took it
                break
            reply = self._answer(event)
            if not self._backlog:
                # Before the answer goes out: what the client sends next is ours to read.
                mine = self._reclaim(token)
                self._send(event.stream, reply)
                return mine
            self._send(event.stream, reply)
        return self._reclaim(token)

    def _reclaim(self, token: object) -> bool:
        if not self._claim.pop(token, False):
            return False
        self.rounds += 1
        self._watch.disarm(self._fd)
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
            if event.parts is None and method in self._methods:
                return self._methods[method](shape, views)
            return self._stream(method, event)
        except (FFIError, RpcFailure) as exc:
            return _failure(exc)
        except Exception as exc:  # a client must get an answer, whatever is wrong here
            log.logger.exception("internal error while answering a request")
            return _failure(RpcFailure(status.INTERNAL, f"internal error of the agent: {exc!r}"))

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
        except (FFIError, RpcFailure) as exc:
            reply = _failure(exc)
        except BaseException:
            self._watch.settle(key)
            raise
        return reply if self._watch.settle(key) else None

    def _too_long(self, what: str, length: int) -> Reply:
        limit = self._server.limits.message
        text = f"{what} of {length} bytes, the limit is {limit}"
        return _failure(RpcFailure(status.RESOURCE_EXHAUSTED, text))

    def _send(self, stream: int, reply: Reply | None) -> None:
        if reply is None or self._gone:
            return
        template, contents = reply
        if template.length > self._server.limits.message:
            template, contents = self._too_long("an answer", template.length)
        try:
            with self._send_lock:
                buffers = template.frame(stream, _RESPONSE, 0, contents)
                transport.send(self._sock, template.length, buffers)
        except OSError as exc:
            log.debug("%s: answer not sent: %s", self._server.endpoint, exc.strerror)
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


def _failure(exc: FFIError | RpcFailure) -> Reply:
    return codec.failure(status.to_status(exc)), ()
