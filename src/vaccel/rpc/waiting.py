"""Threads that wait for answers, and for how long a socket may wait."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from vaccel.error import DeadlineExceeded
from vaccel.rpc import transport
from vaccel.rpc.plan import Plan
from vaccel.rpc.ttrpc import Event


class Waiter:
    """A call that waits for its answer."""

    stream = 0
    """Of the request, once that has one."""
    event: Event | None = None
    wakeup: threading.Lock | None = None

    def wake(self) -> None:
        if self.wakeup is not None:
            with contextlib.suppress(RuntimeError):  # already awake
                self.wakeup.release()


class Turn:
    """The right to read: one thread has it at a time."""

    def __init__(self) -> None:
        self.token: list[None] = [None]
        """Whoever pops it has the turn, and puts it back."""

    def take(self) -> bool:
        try:
            self.token.pop()
        except IndexError:
            return False
        return True

    def give(self) -> None:
        self.token.append(None)

    def wait(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait for the turn, which we then have, or for the event of a pending `waiter`: False.

        Raises DeadlineExceeded.
        """
        while waiter.event is None:
            if self.take():
                return True
            if waiter.wakeup is None:
                # Once more from the start: the turn's holder may have looked for us before this.
                waiter.wakeup = threading.Lock()
                waiter.wakeup.acquire()
                continue
            left = -1.0 if deadline is None else max(deadline - time.monotonic(), 0.0)
            if not waiter.wakeup.acquire(timeout=left) and waiter.event is None:
                raise DeadlineExceeded
        return False


class Queued:
    """A call in the line, which the thread with the connection sends."""

    __slots__ = (
        "batch",
        "frame",
        "next",
        "number",
        "parts",
        "plan",
        "ready",
        "waiter",
        "woken",
    )

    def __init__(self, plan: Plan, parts: list[Any]) -> None:
        self.plan = plan
        self.parts = parts
        """Of the request's frame, as in `Template.pieces`."""
        self.number = b""
        """Of its stream, as in the header; once it is sent."""
        self.frame: bytearray | None = None
        """The answer."""
        self.waiter: Waiter | None = None
        """Gets the answer, which is late or not as expected."""
        self.batch: Sequence[Queued] = ()
        """It has the turn, and is to read the answers of these, of which it is the first."""
        self.next: Queued | None = None
        """Who is to be woken then."""
        self.woken = False
        """With `frame`, `waiter` or `batch`, or with none of them if nothing was sent."""
        self.ready = threading.Lock()
        self.ready.acquire()

    def wake(self) -> None:
        self.woken = True
        self.ready.release()


class Limit:
    """A time limit on a socket's next operation.

    As a socket option, which costs nothing where it stays the same, while Python's own time-outs
    add a system call to each operation.
    """

    def __init__(self, sock: socket.socket, option: int) -> None:
        self._sock = sock
        self._option = option
        self.seconds: float | None = None

    def set(self, deadline: float | None) -> None:
        """Raises DeadlineExceeded if the deadline has passed."""
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None:
            if left <= 0:
                raise DeadlineExceeded
            if self.seconds is not None and 0 <= self.seconds - left < self.seconds / 64:
                return
        elif self.seconds is None:
            return
        transport.limit(self._sock, self._option, left or 0.0)
        self.seconds = left
