"""Small calls of known shapes, with as little as possible between the caller and the socket."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from vaccel.error import ConnectionLost
from vaccel.rpc import transport
from vaccel.rpc.client import Client
from vaccel.rpc.codec import Match, Shape
from vaccel.rpc.frames import Template
from vaccel.rpc.ttrpc import Event, Kind
from vaccel.rpc.waiting import Waiter

_UNARY = bytes((Kind.REQUEST, 0))
_PATIENCE = 0.0003  # seconds that a request waits to be sent together with others


class QuickClient(Client):
    """A client that also calls by whole frames."""

    def quick(
        self, method: str, template: Template, contents: Sequence[Any], match: Match
    ) -> bytes | tuple[Shape, list[memoryview]]:
        """A small call whose answer is expected to fit `match`: the answer's whole frame.

        Where it does not, or other threads use the connection, the same as from `call`.
        """
        if self._queue or not self._read_lock.acquire(False):
            return self._quick_together(method, template, contents)
        event = None
        try:
            number = self._send_alone(template, contents)
            if number is not None:
                data = self._sock.recv(transport.RECEIVE_SIZE)
                if data[4:8] == number and len(data) == match.size and match.fits(data):
                    return data
                event = self._answer_to(int.from_bytes(number, "big"), data)
        except BaseException as exc:
            self._broken(exc)
        finally:
            self._read_lock.release()
            if self._queue or self._pending:
                self._wake_next()
        return self._decode(method, event) if event else self.call(method, template, contents)

    def _quick_together(
        self, method: str, template: Template, contents: Sequence[Any]
    ) -> tuple[Shape, list[memoryview]]:
        """A quick call while other threads make theirs.

        Who gets the read lock next sends all requests that wait, in one piece. The agent answers
        them in one piece, so neither side wakes up for each of them.
        """
        waiter = Waiter()
        waiter.request = (template, contents)
        waiter.wakeup = threading.Lock()
        waiter.wakeup.acquire()
        self._queue.append(waiter)
        patience = _PATIENCE
        try:
            while waiter.event is None:
                if self._read_lock.acquire(False):
                    try:
                        self._send_queue()
                        if waiter.stream:
                            self._read_until(waiter, None)
                            break
                    finally:
                        self._read_lock.release()
                        self._wake_next()
                elif waiter.wakeup.acquire(timeout=patience):
                    continue
                # Who reads waits for something slow, or must not send: so we send ourselves.
                if self._withdraw(waiter):
                    return self.call(method, template, contents)
                patience = -1
        finally:
            self._withdraw(waiter)
            self._pending.pop(waiter.stream, None)
        if waiter.event is None:
            raise ConnectionLost(f"no answer from {self.endpoint}")
        return self._decode(method, waiter.event)

    def _withdraw(self, waiter: Waiter) -> bool:
        """Take back a request that nobody has sent."""
        try:
            self._queue.remove(waiter)
        except ValueError:
            return False
        return True

    def _send_queue(self) -> None:
        """Send the requests that wait, where `_send_alone` might send one."""
        if not self._send_lock.acquire(False):
            return
        try:
            if self._pending or not (self._plain or self._make_plain()):
                return
            frames, size = [], 0
            while self._queue and size < transport.RECEIVE_SIZE:
                waiter = self._queue.popleft()
                template, contents = waiter.request
                waiter.stream = self._stream
                self._stream += 2
                self._pending[waiter.stream] = waiter
                number = waiter.stream.to_bytes(4, "big")
                frames.append(template.joined(number, _UNARY, contents))
                size += template.length
            self._sock.sendall(b"".join(frames))
        except BaseException as exc:
            self._broken(exc)
        finally:
            self._send_lock.release()

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
