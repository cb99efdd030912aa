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
from collections.abc import Callable

import numpy as np

from vaccel import log
from vaccel.error import DeadlineExceeded, ProtocolError
from vaccel.rpc import status, transport
from vaccel.rpc.codec import Decoder, Shape
from vaccel.rpc.handler import Handler, Owner, Reply, failed, failure, method_of
from vaccel.rpc.known import KnownFrames, Serve
from vaccel.rpc.messages import METHODS, RpcRequest
from vaccel.rpc.outbox import Outbox
from vaccel.rpc.status import RpcFailure
from vaccel.rpc.ttrpc import LARGE, Connection, Event, Kind, Role

_RESPONSE = bytes((Kind.RESPONSE, 0))


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
        self._known = KnownFrames()
        self._backlog: deque[Event | tuple[bytes, Serve]] = deque()
        self._outbox = Outbox(sock, self._not_sent)
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
        try:
            thread.start()
        except RuntimeError:  # the system has no thread to give
            self._guard(lambda: None)
            raise

    def _guard(self, target: Callable[[], None]) -> None:
        try:
            target()
        finally:
            with self._state_lock:
                self._threads -= 1
                last = self._threads == 0
            if last:  # nobody uses the socket any more
                self._disconnect()
                self._watch.remove(self._fd, self)
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

    @property
    def pending(self) -> bool:
        return bool(self._backlog or self._outbox.gathered)

    def take_over(self) -> bool:
        if not self._owner.spare.acquire(blocking=False):
            return False
        try:
            self._claim.popitem()
        except KeyError:  # its holder came back just now
            self._owner.spare.release()
            return True
        self.rounds += 1  # in the place of the one who has lost the claim
        with self._state_lock:
            self._readers += 1
        try:
            self._spawn(self._read_thread)
        except RuntimeError as exc:
            # Nobody reads any more. The client would wait for ever, so it is told.
            log.error("%s: %s; connection closed", self._owner.endpoint, exc)
            with self._state_lock:
                self._readers -= 1
            self._owner.spare.release()
            self._disconnect()
        return True

    def _read_thread(self) -> None:
        try:
            # Results are IEEE; a floating-point warning would reach nobody who could act on it.
            np.seterr(all="ignore")
            self._outbox.flush()  # answers that the thread before gathered must not wait for it
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
        connection, recv, find = self._connection, self._sock.recv, self._known.find
        try:
            while True:
                while self._backlog:
                    if not self._run_backlog():
                        return
                if connection.reader.large is None:
                    data = recv(transport.RECEIVE_SIZE)
                    if not data:
                        break
                    serve = find(data)
                    if serve is not None and connection.between:
                        if not self._run_quick(data, serve):
                            return
                        continue
                    if self._known and connection.between:
                        frames, data = self._known.cut(data)
                        for frame, _ in frames:
                            connection.opened(frame)
                        self._backlog.extend(frames)
                    self._backlog.extend(connection.receive(data))
                else:
                    events = transport.receive(self._sock, connection)
                    if events is None:
                        break
                    self._backlog.extend(events)
                    del events  # while we wait for more, a large request must not stay in memory
        except ProtocolError as exc:
            log.warn("%s: %s; connection closed", self._owner.endpoint, exc.message)
        except OSError as exc:
            log.debug("%s: %s; connection closed", self._owner.endpoint, exc.strerror)
        if not self._owner.stopping:
            self._disconnect()

    def _run_quick(self, frame: bytes, serve: Serve) -> bool:
        """As `_run_backlog`, for one frame of a shape that was seen before."""
        self._connection.opened(frame)
        # `_watched` and `_reclaim`, without the calls.
        token = object()
        self._claim[token] = True
        self.rounds += 1
        watch = self._watch
        watch.active[self._fd] = self
        if watch.asleep:
            watch.wake()
        try:
            answer = serve(frame)
        except Exception as exc:
            answer = _refusal(frame, exc)
        mine = self._claim.pop(token, False)
        if mine:
            self.rounds += 1
        self._outbox.send_bytes(answer)
        return mine

    @staticmethod
    def _serve(frame: bytes, serve: Serve) -> bytes:
        try:
            return serve(frame)
        except Exception as exc:
            return _refusal(frame, exc)

    def _run_backlog(self) -> bool:
        """Run what was read; False if another thread reads now."""
        token = self._watched()
        while self._backlog:
            try:
                work = self._backlog.popleft()
            except IndexError:  # another thread took it
                break
            if not isinstance(work, Event):
                self._outbox.gather(self._serve(*work))
                continue
            reply = self._answer(work)
            # A large answer may have to wait for the client, which may itself be sending: somebody
            # must read meanwhile, so it goes out under the eyes of the watch.
            large = reply is not None and reply[0].length > LARGE
            if not self._backlog and not self._outbox.gathered and not large:
                # Before the answer goes out: what the client sends next is ours to read.
                mine = self._reclaim(token)
                self._send(work.stream, reply)
                return mine
            self._send(work.stream, reply)
        mine = self._reclaim(token)
        self._outbox.flush()
        return mine

    def _watched(self) -> object:
        """Let the watch give the reading to another thread, until `_reclaim`."""
        token = object()
        self._claim[token] = True
        self.rounds += 1
        self._watch.active[self._fd] = self
        if self._watch.asleep:
            self._watch.wake()
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
            method = shape.checked or method_of(shape)
            if shape.timeout_nano > 0:
                return self._answer_in_time(event, method, shape, views)
            if event.parts is not None or method not in self._methods:
                return self._stream(method, event)
            reply = self._methods[method](shape, views)
            self._known.remember(shape, len(event.data))
            return reply
        except Exception as exc:
            return failed(exc)

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
            self._spawn(lambda: self._send(event.stream, failure(late)))

        self._watch.deadline(key, time.monotonic() + seconds, expire)
        try:
            if event.parts is None and method in self._methods:
                reply = self._methods[method](shape, views)
            else:
                reply = self._stream(method, event)
        except Exception as exc:
            reply = failed(exc)
        return reply if self._watch.settle(key) else None

    def _too_long(self, what: str, length: int) -> Reply:
        limit = self._owner.limits.message
        text = f"{what} of {length} bytes, the limit is {limit}"
        return failure(RpcFailure(status.RESOURCE_EXHAUSTED, text))

    def _send(self, stream: int, reply: Reply | None) -> None:
        if reply is None or self._gone:
            return
        template, contents = reply
        if template.length > self._owner.limits.message:
            template, contents = self._too_long("an answer", template.length)
        self._outbox.send(stream, template, contents)

    def _not_sent(self, exc: OSError) -> None:
        log.debug("%s: answer not sent: %s", self._owner.endpoint, exc.strerror)
        self._disconnect()


def _refusal(frame: bytes, exc: Exception) -> bytes:
    template, contents = failed(exc)
    return template.joined(frame[4:8], _RESPONSE, contents)
