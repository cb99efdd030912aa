"""Threads that wait for answers, and for how long a socket may wait."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

from vaccel.error import DeadlineExceeded
from vaccel.rpc.ttrpc import Event

_TIMEVAL = struct.Struct("@ll")


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
        seconds = left or 0.0
        microseconds = int(seconds % 1 * 1e6) or int(left is not None)
        value = _TIMEVAL.pack(int(seconds), microseconds)
        self._sock.setsockopt(socket.SOL_SOCKET, self._option, value)
        self.seconds = left
