"""Small calls of known shapes, with as little as possible between the caller and the socket.

A thread that finds the connection free makes its call alone. Those that come meanwhile form a line.
Who is done with the connection sends the requests of the whole line in one piece and gives the
connection to the first of the line, which reads all their answers. The threads are woken one by
one, each by the one before, and that first one last: more than one could not run, and the agent
computes in the meantime.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence, Sized
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np

from vaccel.config import Timeouts
from vaccel.error import ConnectionLost, FFIError
from vaccel.rpc.client import Client
from vaccel.rpc.codec import SMALL_FRAME, Shape
from vaccel.rpc.plan import Plan
from vaccel.rpc.ttrpc import DEFAULT_LIMIT, LAST_STREAM, Event, Kind
from vaccel.rpc.waiting import Queued, Waiter

_UNARY = bytes((Kind.REQUEST, 0))

Answer = bytearray | tuple[Shape, list[memoryview]]
"""The whole frame of an answer of the planned shape, or what `Client.call` gives."""

_PATIENCE = 0.002
"""Seconds. A call in the line that sees nothing being sent for so long goes by itself."""


class QuickClient(Client):
    """A client that also calls by whole frames."""

    def __init__(
        self, endpoint: str, timeouts: Timeouts | None = None, limit: int = DEFAULT_LIMIT
    ) -> None:
        super().__init__(endpoint, timeouts, limit)
        self._line: deque[Queued] = deque()
        self._desk = bytearray(SMALL_FRAME)
        """Where answers are received by whose turn it is."""

    def caller(
        self,
        method: str,
        plan: Plan,
        finish: Callable[[Sequence[Any], Answer], Any],
        dropped: Sized = (),
    ) -> Callable[[Sequence[Any]], Any]:
        """A function from arrays to the result, for small calls of `plan`.

        NotImplemented if the arrays are not as planned, or while anything is in `dropped`. An
        answer that comes in another way than planned is given to `finish`, with the arrays.
        """
        # The way of small calls. Its steps stand in one place: each that is taken elsewhere costs
        # memory that is not in a cache, once the thread has slept.
        pieces = plan.template.pieces(_UNARY)
        size = plan.match.size
        specs = dict(zip(range(3, len(pieces), 2), plan.inputs.specs, strict=False))
        pieces[3 + 2 * len(specs) :: 2] = map(bytes, plan.zeros)
        stream_and_parts, (length, *others) = plan.match.stream_and_parts, plan.match.constants
        desk = self._desk
        copy = plan.outputs.copier(desk, plan.match.offsets)
        join, ndarray = b"".join, np.ndarray
        turn, send_lock, line, pending = (
            self._turn.token,
            self._send_lock,
            self._line,
            self._pending,
        )

        def call(values: Sequence[Any]) -> Any:
            if dropped:
                return NotImplemented
            parts = pieces.copy()
            at = 3
            for value in values:
                dtype, shape = specs[at]
                if type(value) is not ndarray or value.dtype is not dtype or value.shape != shape:
                    return NotImplemented
                # A copy of few bytes costs less than a look at the array's memory.
                parts[at] = value.tobytes()
                at += 2
            busy = False
            try:
                turn.pop()
            except IndexError:
                busy = True
            if busy:
                return finish(values, self._queue_up(method, Queued(plan, parts)))
            event = None
            try:
                # Without the lock, see `_sending`.
                self._sending = True
                if not send_lock.locked() and not pending and (self._plain or self._make_plain()):
                    stream = self._stream
                    if stream > LAST_STREAM:
                        stream = self._next_stream()
                    else:  # as `_next_stream` where nothing is pending
                        self._stream = stream + 2
                    number = parts[1] = stream.to_bytes(4, "big")
                    self._sock.sendall(join(parts))
                    self._sending = False
                    count = self._sock.recv_into(desk, size)
                    # As in `Match.fits`; the call would cost as much again.
                    if count == size and stream_and_parts(desk) == (length, number, *others):
                        return copy()
                    data = bytes(desk[:count])
                    event = self._answer_to(int.from_bytes(number, "big"), data)
                else:
                    self._sending = False
            except BaseException as exc:
                self._sending = False
                self._broken(exc)
            finally:
                # As `_let_go`, which costs more where nobody waits.
                if line:
                    self._let_go()
                else:
                    turn.append(None)
                    if line or pending:
                        self._see_to_others()
            answer = self._decode(method, event) if event else self._again(method, plan, parts)
            return finish(values, answer)

        return call

    def _again(self, method: str, plan: Plan, parts: Sequence[Any]) -> Answer:
        """A call of which nothing was sent, in the general way."""
        return self.call(method, plan.template, parts[3::2])

    def _see_to_others(self) -> None:
        """Who has come just before the turn was given back has found it taken."""
        if self._line and self._turn.take():
            self._let_go()
        elif self._pending:
            self._wake_next()

    def _let_go(self, done: Sequence[Queued] = ()) -> None:
        """Give the turn, which we have, to the first in line, or to nobody; wake `done`."""
        chain: list[Queued] = []
        mine = True
        try:
            chain += done
            while not (self._line and self._send_line(chain)):
                mine = False
                # Not by `give`, where a signal handler could come before it is done.
                self._turn.token.append(None)
                # Who came to the line just before that has found the turn taken.
                mine = bool(self._line) and self._turn.take()
                if not mine:
                    break
        except BaseException:  # from a signal handler
            if mine:
                self._turn.give()
            raise
        finally:
            for call, following in pairwise(chain):
                call.next = following
            if chain:
                chain[0].wake()
        if self._pending:
            self._wake_next()

    # -- in line -------------------------------------------------------------------------------

    def _queue_up(self, method: str, mine: Queued) -> Answer:
        try:
            self._line.append(mine)
            if self._turn.take():  # it was given back before we were in the line
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
            return self._again(method, mine.plan, mine.parts)
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
        # Whose turn it is, is in a slow call.
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
        """Send for those in line, and give the first the turn; False if that is still ours.

        Adds to `chain` who is to be woken.
        """
        batch: list[Queued] = []
        size = 0
        with suppress(IndexError):  # one may leave the line at any time
            # So few bytes that the sockets hold them and the answers, whether read or not.
            while self._line and size < SMALL_FRAME:
                call = self._line.popleft()
                size += call.plan.template.length + call.plan.match.size
                batch.append(call)
        if not batch:
            return False
        chain += batch
        if not self._send_together(batch):
            return False
        del chain[len(chain) - len(batch) + 1 :]
        batch[0].batch = batch
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
                call.number = call.parts[1] = self._next_stream().to_bytes(4, "big")
                frames += call.parts
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
            frames = [bytearray(call.plan.match.size) for call in batch]
            count = self._sock.recvmsg_into(frames)[0]
            for place, (call, frame) in enumerate(zip(batch, frames, strict=True)):
                size = len(frame)
                if count < size or frame[4:8] != call.number or not call.plan.match.fits(frame):
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

    # -- not as expected ------------------------------------------------------------------------

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
