"""Small calls of known shapes, with as little as possible between the caller and the socket."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from vaccel.config import Timeouts
from vaccel.error import ConnectionLost
from vaccel.rpc.client import Client
from vaccel.rpc.codec import Match, Shape
from vaccel.rpc.frames import Template
from vaccel.rpc.ttrpc import DEFAULT_LIMIT, Event, Kind
from vaccel.rpc.waiting import Waiter

_UNARY = bytes((Kind.REQUEST, 0))

# Threads that make quick calls take the connection in turns. Switching threads costs more than such
# a call, so one keeps the connection for a while, as long as it comes back for it at once.
_TURN = 0.002
_GLANCE = 0.001  # times the place in the line: when to look whether the connection is free


class QuickClient(Client):
    """A client that also calls by whole frames."""

    def __init__(
        self, endpoint: str, timeouts: Timeouts | None = None, limit: int = DEFAULT_LIMIT
    ) -> None:
        super().__init__(endpoint, timeouts, limit)
        self._line: deque[threading.Lock] = deque()
        """Threads that wait for the read lock; to release theirs passes it on to them."""
        self._turn_ends = 0.0

    def quick(
        self, method: str, template: Template, contents: Sequence[Any], match: Match
    ) -> bytearray | tuple[Shape, list[memoryview]]:
        """A small call whose answer is expected to fit `match`: the answer's whole frame.

        Where it does not, or the connection is busy with a slow call, the same as from `call`.
        """
        if not self._read_lock.acquire(False) and not self._queue_up():
            return self.call(method, template, contents)
        event = None
        try:
            number = self._send_alone(template, contents)
            if number is not None:
                # Memory of its own, which the result can keep.
                frame = bytearray(match.size)
                count = self._sock.recv_into(frame)
                if count == match.size and frame[4:8] == number and match.fits(frame):
                    return frame
                data = bytes(frame[:count])
                event = self._answer_to(int.from_bytes(number, "big"), data)
        except BaseException as exc:
            self._broken(exc)
        finally:
            if self._line and time.monotonic() > self._turn_ends:
                self._pass_on()
            else:
                self._read_lock.release()
            if self._pending:
                self._wake_next()
        return self._decode(method, event) if event else self.call(method, template, contents)

    def _queue_up(self) -> bool:
        """Wait for the read lock; False if its holder is in a slow call, and we do not have it."""
        mine = threading.Lock()
        mine.acquire()
        self._line.append(mine)
        try:
            return self._wait_in_line(mine)
        except BaseException:  # from a signal handler: the lock must not be passed on to nobody
            try:
                self._line.remove(mine)
            except ValueError:
                mine.acquire(timeout=_GLANCE)  # unless it was before the signal
                self._pass_on()
                if self._pending:
                    self._wake_next()
            raise

    def _wait_in_line(self, mine: threading.Lock) -> bool:
        stream = -1
        while not mine.acquire(timeout=_GLANCE * self._place(mine)):
            if self._read_lock.acquire(False):
                free = True  # its holder has not come back
            elif stream == self._stream or self._lost is not None:
                free = False  # nothing was sent since the last look
            else:
                stream = self._stream
                continue
            try:
                self._line.remove(mine)
            except ValueError:  # it is passed on to us just now
                mine.acquire()
                return True
            if free:
                self._turn_ends = time.monotonic() + _TURN
            return free
        return True

    def _place(self, mine: threading.Lock) -> int:
        """In the line, from 1."""
        try:
            return self._line.index(mine) + 1
        except (ValueError, RuntimeError):  # it is passed on to us, or the line moves just now
            return 1

    def _pass_on(self) -> None:
        """Give the read lock, which we hold, to the next in line."""
        try:
            heir = self._line.popleft()
        except IndexError:
            self._read_lock.release()
        else:
            self._turn_ends = time.monotonic() + _TURN
            heir.release()

    def _send_alone(self, template: Template, contents: Sequence[Any]) -> bytes | None:
        """Send without a waiter: we hold the read lock. None: nothing was sent.

        No call may be waiting: the peer may read nothing more before its answer to that is read.
        """
        if not self._send_lock.acquire(False):
            return None
        try:
            if self._pending or not (self._plain or self._make_plain()):
                return None
            number = self._stream.to_bytes(4, "big")
            self._stream += 2
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
