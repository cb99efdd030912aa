"""One connection at the server: its requests and its answers.

The thread that reads a connection (see `readers`) also runs its requests. While it runs them it is
watched: where it does not come back to read in time, another thread takes over the reading, and the
first one ends with its request. So many requests can be in flight on a connection, and their
answers come in the order in which they are ready.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable

from vaccel import log
from vaccel.error import ProtocolError
from vaccel.rpc import status, transport
from vaccel.rpc.handler import Handler, Owner, Reply, failed, failure
from vaccel.rpc.known import KnownFrames, Serve
from vaccel.rpc.outbox import Outbox
from vaccel.rpc.readers import LOST, READY, Outcome, Reader
from vaccel.rpc.requests import Request, Requests
from vaccel.rpc.status import RpcFailure
from vaccel.rpc.transport import RECEIVE_SIZE
from vaccel.rpc.ttrpc import LARGE, Connection, Kind, Role

_RESPONSE = bytes((Kind.RESPONSE, 0))


class Peer:
    """One connection."""

    def __init__(self, owner: Owner, sock: socket.socket, handler: Handler) -> None:
        self._owner = owner
        self._watch = owner.watch
        self._sock = sock
        self.fd = sock.fileno()
        self._handler = handler
        limit = owner.limits.message
        self._connection = Connection(Role.SERVER, limit)
        self._known = KnownFrames()
        self._requests = Requests(handler, self._known, owner.watch, limit, self._late)
        self._backlog: deque[Request | tuple[bytes, Serve]] = deque()
        self._fresh: list[Request] = []
        """Those of the backlog whose deadlines do not count yet."""
        self._outbox = Outbox(sock, self._not_sent)
        self._state_lock = threading.Lock()
        self._users = 0
        self._gone = False

    def start(self, reader: Callable[[Peer], None]) -> None:
        """`reader` takes care of the reading."""
        self.hold()
        try:
            self._watch.add(self.fd, self)
            reader(self)
        except Exception:  # the system has no thread or descriptor to give
            self.release()
            raise

    def hold(self) -> None:
        with self._state_lock:
            self._users += 1

    def release(self) -> None:
        with self._state_lock:
            self._users -= 1
            last = self._users == 0
        if last:  # nobody uses the socket any more
            self.disconnect()
            self._watch.remove(self.fd, self)
            self._sock.close()
            self._owner.ended(self)

    def limit_wait(self, seconds: float) -> None:
        with contextlib.suppress(OSError):  # disconnected just now
            transport.limit(self._sock, socket.SO_RCVTIMEO, seconds)

    def finish(self) -> None:
        if not self._owner.stopping:
            self.disconnect()
        self.release()

    def stop_reading(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)

    def disconnect(self) -> None:
        """End now, whatever still runs."""
        with self._state_lock:
            if self._gone:
                return
            self._gone = True
        self._backlog.clear()
        self._requests.close()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._handler.close()

    def hung_up(self) -> None:
        """Called by the watch, whose thread must not block."""
        if not self._owner.stopping:  # then it was us who shut the socket
            self._aside(self.disconnect)

    def _aside(self, task: Callable[[], None]) -> None:
        """Do `task` in a thread of its own."""

        def work() -> None:
            try:
                task()
            finally:
                self.release()

        self.hold()
        try:
            threading.Thread(target=work, name="vaccel-peer", daemon=True).start()
        except RuntimeError:  # the system has no thread to give
            self.release()
            raise

    @property
    def pending(self) -> bool:
        return bool(self._backlog or self._outbox.gathered)

    # -- reading and running -------------------------------------------------------------------

    def read(self, reader: Reader, flags: int = 0) -> Outcome:
        """Read and run requests; see `readers.Readable`."""
        connection = self._connection
        backlog, gathered = self._backlog, self._outbox.gathered
        done = False
        try:
            while True:
                # Also the answers that a thread before gathered: they must not wait for it.
                while backlog or gathered:
                    if not self._run_backlog(reader):
                        return LOST
                if connection.reader.large is not None:
                    if reader.once:
                        return Outcome.LARGE
                    events = transport.receive(self._sock, connection)
                    if events is None:
                        break
                    backlog.extend(map(Request, events))
                    del events  # while we wait for more, a large request must not stay in memory
                    continue
                if done:
                    return READY
                what = self._run_known(reader, flags)
                if what is LOST:
                    return LOST
                done = reader.once
                if isinstance(what, Outcome):
                    continue
                if not what:
                    break
                self._take(what)
        except BlockingIOError:
            return READY
        except ProtocolError as exc:
            log.warn("%s: %s; connection closed", self._owner.endpoint, exc.message)
        except OSError as exc:
            log.debug("%s: %s; connection closed", self._owner.endpoint, exc.strerror)
        return Outcome.ENDED

    def _take(self, data: bytes) -> None:
        """Into the backlog with the requests that `data` completes."""
        if self._known and self._connection.between:
            frames, data = self._known.cut(data)
            for frame, _ in frames:
                self._connection.opened(frame[4:8])
            self._backlog.extend(frames)
        self._fresh = list(map(Request, self._connection.receive(data)))
        self._backlog.extend(self._fresh)

    def _run_known(self, reader: Reader, flags: int) -> bytes | Outcome:
        """Receive, and answer frames of shapes that were seen before, until something else comes:
        that. LOST if another thread reads now; READY after one frame if `reader` reads once."""
        # The way of small calls. Its steps stand in one place: each that is taken elsewhere costs
        # memory that is not in a cache, once the thread has slept.
        sock, connection, claim = self._sock, self._connection, reader.claim
        known, between = self._known.by_size.get, connection.between
        while True:
            data = sock.recv(RECEIVE_SIZE, flags)
            for constant_parts, constants, serve, _ in known(len(data), ()):  # noqa: B007
                if constant_parts(data) == constants:  # as `Match.fits`
                    number = data[4:8]
                    break
            else:
                return data
            if not between or number <= connection.last or not number[3] & 1:
                return data
            connection.last = number
            token = reader.rounds = reader.rounds + 1  # as `reader.run`
            claim[token] = True
            if reader.resting:
                self._watch.enter(reader)
            try:
                answer = serve(data, number)
            except (Exception, SystemExit) as exc:
                answer = _refusal(number, exc)
            if reader.shared:  # the others must not wait for a client that takes no answers
                self._outbox.send_bytes(answer)
                if not claim.pop(token, False):
                    return LOST
                reader.rounds = token + 1
                return READY
            # As `reader.reclaim`. Before the answer goes out: what the client sends next is ours.
            if not claim.pop(token, False):
                self._outbox.send_bytes(answer)
                return LOST
            reader.rounds = token + 1
            # No other thread has anything to send, but for the notice of a deadline that has just
            # passed: the few bytes of either go out whole.
            if self._users == 1:
                sock.sendall(answer)
            else:
                self._outbox.send_bytes(answer)
            if reader.once:
                return READY

    @staticmethod
    def _serve(frame: bytes, serve: Serve) -> bytes:
        try:
            return serve(frame, frame[4:8])
        except (Exception, SystemExit) as exc:
            return _refusal(frame[4:8], exc)

    def _run_backlog(self, reader: Reader) -> bool:
        """Run what was read; False if another thread reads now."""
        token = reader.run()
        fresh, self._fresh = self._fresh, []
        if len(self._backlog) > 1:  # some wait, and for how long nobody knows
            for request in fresh:
                self._requests.open(request)
        del fresh
        while self._backlog:
            try:
                work = self._backlog.popleft()
            except IndexError:  # another thread took it
                break
            if not isinstance(work, Request):
                self._outbox.gather(self._serve(*work))
                continue
            reply = self._requests.answer(work)
            # An answer may have to wait for the client, which may itself be sending: somebody must
            # read meanwhile, so a large one goes out under the eyes of the watch, and any where
            # others than this client wait for the reader.
            watched = reader.shared or (reply is not None and reply[0].length > LARGE)
            if not self._backlog and not self._outbox.gathered and not watched:
                # Before the answer goes out: what the client sends next is ours to read.
                mine = reader.reclaim(token)
                self._send(work.event.stream, reply)
                return mine
            self._send(work.event.stream, reply)
        if reader.shared:
            self._outbox.flush()
            return reader.reclaim(token)
        mine = reader.reclaim(token)
        self._outbox.flush()
        return mine

    def _send(self, stream: int, reply: Reply | None) -> None:
        if reply is None or self._gone:
            return
        template, contents = reply
        limit = self._owner.limits.message
        if template.length > limit:
            text = f"an answer of {template.length} bytes, the limit is {limit}"
            template, contents = failure(RpcFailure(status.RESOURCE_EXHAUSTED, text))
        self._outbox.send(stream, template, contents)

    def _late(self, stream: int, reply: Reply) -> None:
        self._aside(lambda: self._send(stream, reply))

    def _not_sent(self, exc: OSError) -> None:
        log.debug("%s: answer not sent: %s", self._owner.endpoint, exc.strerror)
        self.disconnect()


def _refusal(number: bytes, exc: BaseException) -> bytes:
    template, contents = failed(exc)
    return template.joined(number, _RESPONSE, contents)
