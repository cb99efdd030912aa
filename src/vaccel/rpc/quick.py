"""Small calls of known shapes, with as little as possible between the caller and the socket.

A thread that finds the connection free makes its call alone. Those that come meanwhile form a line.
Who is done with the connection sends the requests of the whole line in one piece and gives the
connection to the first of the line, which reads all their answers. The threads are woken one by
one, each by the one before, and that first one last: more than one could not run, and the agent
computes in the meantime.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

from vaccel.config import Timeouts
from vaccel.error import ConnectionLost, FFIError
from vaccel.rpc.client import Client
from vaccel.rpc.codec import SMALL_FRAME, Match, Shape
from vaccel.rpc.frames import Template
from vaccel.rpc.ttrpc import DEFAULT_LIMIT, LAST_STREAM, Event, Kind
from vaccel.rpc.waiting import Waiter

_UNARY = bytes((Kind.REQUEST, 0))

_PATIENCE = 0.002
"""Seconds. A call in the line that sees nothing being sent for so long goes by itself."""


class Queued:
    """A call in the line, which the thread with the connection sends."""

    __slots__ = (
        "batch",
        "contents",
        "frame",
        "match",
        "next",
        "number",
        "ready",
        "template",
        "waiter",
        "woken",
    )

    def __init__(self, template: Template, contents: Sequence[Any], match: Match) -> None:
        self.template = template
        self.contents = contents
        self.match = match
        self.number = b""
        """Of its stream, as in the header; once it is sent."""
        self.frame: bytearray | None = None
        """The answer."""
        self.waiter: Waiter | None = None
        """Gets the answer, which is late or not as expected."""
        self.batch: Sequence[Queued] = ()
        """It has the read lock, and is to read the answers of these, of which it is the first."""
        self.next: Queued | None = None
        """Who is to be woken then."""
        self.woken = False
        """With `frame`, `waiter` or `batch`, or with none of them if nothing was sent."""
        self.ready = threading.Lock()
        self.ready.acquire()

    def wake(self) -> None:
        self.woken = True
        self.ready.release()


class QuickClient(Client):
    """A client that also calls by whole frames."""

    def __init__(
        self, endpoint: str, timeouts: Timeouts | None = None, limit: int = DEFAULT_LIMIT
    ) -> None:
        super().__init__(endpoint, timeouts, limit)
        self._line: deque[Queued] = deque()

    def quick(
        self, method: str, template: Template, contents: Sequence[Any], match: Match
    ) -> bytearray | tuple[Shape, list[memoryview]]:
        """A small call whose answer is expected to fit `match`: the answer's whole frame.

        Where it does not, or the connection is busy with a slow call, the same as from `call`.
        """
        if not self._read_lock.acquire(False):
            return self._queue_up(method, Queued(template, contents, match))
        event = None
        try:
            number = self._send_alone(template, contents)
            if number is not None:
                # Memory of its own, which the result can keep.
                frame = bytearray(match.size)
                count = self._sock.recv_into(frame)
                # As in `match.fits`; the call would cost as much again.
                if (
                    count == match.size
                    and frame[4:8] == number
                    and match.constant_parts(frame) == match.constants
                ):
                    return frame
                data = bytes(frame[:count])
                event = self._answer_to(int.from_bytes(number, "big"), data)
        except BaseException as exc:
            self._broken(exc)
        finally:
            # As `_let_go`, which costs more where nobody waits.
            if self._line:
                self._let_go()
            else:
                self._read_lock.release()
                if self._line or self._pending:
                    self._see_to_others()
        return self._decode(method, event) if event else self.call(method, template, contents)

    def _see_to_others(self) -> None:
        """Who has come just before the read lock was released has found it taken."""
        if self._line and self._read_lock.acquire(False):
            self._let_go()
        elif self._pending:
            self._wake_next()

    def _let_go(self, done: Sequence[Queued] = ()) -> None:
        """Give the read lock, which we hold, to the first in line, or to nobody; wake `done`."""
        chain = list(done)
        try:
            while not (self._line and self._send_line(chain)):
                self._read_lock.release()
                # Who came to the line just before that has found the lock taken.
                if not self._line or not self._read_lock.acquire(False):
                    break
        except BaseException:  # from a signal handler
            self._read_lock.release()
            raise
        finally:
            for call, following in pairwise(chain):
                call.next = following
            if chain:
                chain[0].wake()
        if self._pending:
            self._wake_next()

    # -- in line -------------------------------------------------------------------------------

    def _queue_up(self, method: str, mine: Queued) -> bytearray | tuple[Shape, list[memoryview]]:
        try:
            self._line.append(mine)
            if self._read_lock.acquire(False):  # it was released before we were in the line
                self._let_go()
            if not mine.ready.acquire(timeout=_PATIENCE):
                self._wait_in_line(mine)
            if mine.batch:
                self._read_answers(mine)
            elif mine.next is not None:
                mine.next.wake()
        except BaseException as exc:
            self._leave(mine, exc)
            raise
        if mine.frame is not None:
            return mine.frame
        if mine.waiter is None:
            return self.call(method, mine.template, mine.contents)
        try:
            event = self._wait(mine.waiter, None)
        finally:
            self._pending.pop(_stream(mine), None)
            self._wake_next()
        return self._decode(method, event)

    def _wait_in_line(self, mine: Queued) -> None:
        stream = 0
        while stream != self._stream:
            stream = self._stream
            if mine.ready.acquire(timeout=_PATIENCE):
                return
        # Who has the read lock is in a slow call.
        try:
            self._line.remove(mine)
        except ValueError:  # somebody has just taken us along
            mine.ready.acquire()

    def _leave(self, mine: Queued, exc: BaseException) -> None:
        """After an error, or an exception from a signal handler."""
        try:
            self._line.remove(mine)
        except ValueError:
            with suppress(FFIError, type(exc)):
                self._broken(exc)
            # Who reads finds the connection lost, and wakes us if that has not happened.
            while not mine.woken:
                mine.ready.acquire(timeout=_PATIENCE)
            self._pending.pop(_stream(mine), None)
            if mine.batch:
                self._let_go(mine.batch[1:])
            elif mine.next is not None:
                with suppress(RuntimeError):  # already awake
                    mine.next.wake()

    # -- a line at a time ----------------------------------------------------------------------

    def _send_line(self, chain: list[Queued]) -> bool:
        """Send for those in line, and give the first the read lock; False if that is still ours.

        Adds to `chain` who is to be woken.
        """
        batch: list[Queued] = []
        size = 0
        with suppress(IndexError):  # one may leave the line at any time
            # So few bytes that the sockets hold them and the answers, whether read or not.
            while self._line and size < SMALL_FRAME:
                call = self._line.popleft()
                size += call.template.length + call.match.size
                batch.append(call)
        if not batch:
            return False
        chain += batch
        if not self._send_together(batch):
            return False
        batch[0].batch = batch
        del chain[len(chain) - len(batch) + 1 :]
        return True

    def _send_together(self, batch: Sequence[Queued]) -> bool:
        """As `_send_alone`, for several; False also if the connection is lost."""
        if not self._send_lock.acquire(False):
            return False
        try:
            if self._pending or not (self._plain or self._make_plain()):
                return False
            frames = []
            for call in batch:
                call.number = self._next_stream().to_bytes(4, "big")
                frames.append(call.template.joined(call.number, _UNARY, call.contents))
            # One system call, and one wake-up of the peer, are worth a copy of small frames.
            self._sock.sendall(b"".join(frames))
        except BaseException as exc:
            with suppress(FFIError):  # the calls of the batch will raise it
                self._broken(exc)
            return False
        finally:
            self._send_lock.release()
        return True

    def _read_answers(self, mine: Queued) -> None:
        batch, mine.batch = mine.batch, ()
        try:
            frames = [bytearray(call.match.size) for call in batch]
            count = self._sock.recvmsg_into(frames)[0]
            for place, (call, frame) in enumerate(zip(batch, frames, strict=True)):
                size = len(frame)
                if count < size or frame[4:8] != call.number or not call.match.fits(frame):
                    self._expect(batch[place:])
                    rest = b"".join(frames[place:])[:count]
                    if rest or not place:
                        self._received(self._connection.receive, rest)
                    break
                call.frame = frame
                count -= size
        except BaseException as exc:
            self._broken(exc)
        finally:
            self._let_go(batch[1:])

    def _expect(self, batch: Sequence[Queued]) -> None:
        """Let each call of a batch wait for its answer like any other."""
        for call in batch:
            call.waiter = self._pending[_stream(call)] = Waiter()

    # -- alone ---------------------------------------------------------------------------------

    def _send_alone(self, template: Template, contents: Sequence[Any]) -> bytes | None:
        """Send without a waiter: we hold the read lock. None: nothing was sent.

        No call may be waiting: the peer may read nothing more before its answer to that is read.
        """
        if not self._send_lock.acquire(False):
            return None
        try:
            if self._pending or not (self._plain or self._make_plain()):
                return None
            stream = self._stream
            if stream > LAST_STREAM:
                stream = self._next_stream()
            else:  # as `_next_stream` where nothing is pending
                self._stream = stream + 2
            number = stream.to_bytes(4, "big")
            self._sock.sendall(template.joined(number, _UNARY, contents))
            return number
        finally:
            self._send_lock.release()

    def _answer_to(self, stream: int, data: bytes) -> Event:
        """The answer, of which `data` is a part or which comes with others."""
        waiter = self._pending[stream] = Waiter()
        try:
            self._received(self._connection.receive, data)
            self._read_until(waiter, None)
        finally:
            self._pending.pop(stream, None)
        if waiter.event is None:
            raise ConnectionLost(f"no answer from {self.endpoint}")
        return waiter.event

    def _make_plain(self) -> bool:
        self._check()
        self._send_limit.set(None)
        self._receive_limit.set(None)
        self._plain = self._connection.between
        return self._plain


def _stream(call: Queued) -> int:
    return int.from_bytes(call.number, "big")
