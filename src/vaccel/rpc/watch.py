"""One thread that looks after connections whose own thread is busy with a request.

It sees a peer hang up, more data arrive, and deadlines pass, in the middle of a kernel.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from typing import Any, Protocol

GRACE = 0.001
"""Seconds that a connection's thread may leave new data unread before another takes over."""


class Watched(Protocol):
    """A connection as the watch sees it."""

    rounds: int
    """Grows each time the connection's thread goes back to reading."""

    def hung_up(self) -> None:
        """The peer has gone."""

    def take_over(self) -> bool:
        """Read on another thread; False if none is free now."""


class Watch:
    """An epoll set of busy connections, and the deadlines of running calls."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self._watched: dict[int, Watched] = {}
        self._suspects: dict[int, tuple[int, float]] = {}
        self._deadlines: dict[Any, tuple[float, Any]] = {}
        self._next_deadline = float("inf")
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="vaccel-watch", daemon=True)
        self._thread.start()

    def add(self, fd: int, connection: Watched) -> None:
        self._watched[fd] = connection
        self._epoll.register(fd, select.EPOLLONESHOT)

    def remove(self, fd: int) -> None:
        if self._watched.pop(fd, None) is not None:
            with contextlib.suppress(OSError, ValueError):  # ValueError: stopped before
                self._epoll.unregister(fd)

    # Each call of a connection arms and disarms the watch, so these are one system call each.

    def arm(self, fd: int) -> None:
        self._epoll.modify(fd, _ARMED)

    def disarm(self, fd: int) -> None:
        try:  # noqa: SIM105  (costs less)
            self._epoll.modify(fd, _DISARMED)
        except ValueError:  # the server has stopped meanwhile and did not wait for this call
            pass

    def deadline(self, key: Any, at: float, expire: Any) -> None:
        """Call expire() at time `at` unless `settle(key)` comes first."""
        with self._lock:
            self._deadlines[key] = (at, expire)
            earlier = at < self._next_deadline
            if earlier:
                self._next_deadline = at
        if earlier:
            os.eventfd_write(self._wakeup, 1)

    def settle(self, key: Any) -> bool:
        """The call is answered; False if its deadline came first."""
        return self._deadlines.pop(key, None) is not None

    def stop(self) -> None:
        self._stopped = True
        os.eventfd_write(self._wakeup, 1)
        self._thread.join()
        self._epoll.close()
        os.close(self._wakeup)

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped:
            now = time.monotonic()
            timeout = self._next_deadline - now
            if self._suspects:
                timeout = min(timeout, GRACE)
            limit = None if timeout == float("inf") else max(timeout, 0.0)
            for fd, events in self._epoll.poll(limit):
                self._event(fd, events)
            if self._suspects:
                self._review()
            if self._next_deadline <= time.monotonic():
                self._expire()

    def _event(self, fd: int, events: int) -> None:
        if fd == self._wakeup:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(fd)
            return
        connection = self._watched.get(fd)
        if connection is None:
            return
        if events & _GONE:
            self._suspects.pop(fd, None)
            connection.hung_up()
        else:
            self._suspects[fd] = (connection.rounds, time.monotonic())

    def _review(self) -> None:
        """Take over where a connection's thread has not come back to read within GRACE."""
        now = time.monotonic()
        for fd, (rounds, since) in list(self._suspects.items()):
            connection = self._watched.get(fd)
            if connection is None or connection.rounds != rounds:
                del self._suspects[fd]
            elif now - since >= GRACE:
                if connection.take_over():
                    del self._suspects[fd]
                else:
                    # All threads are busy; meanwhile a hang-up must still be seen.
                    with contextlib.suppress(OSError):
                        self._epoll.modify(fd, _HANG_UP)

    def _expire(self) -> None:
        now = time.monotonic()
        for key, (at, expire) in list(self._deadlines.items()):
            if at <= now and self._deadlines.pop(key, None) is not None:
                expire()
        with self._lock:
            remaining = [at for at, _ in list(self._deadlines.values())]
            self._next_deadline = min(remaining, default=float("inf"))


_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_ARMED = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT
_HANG_UP = select.EPOLLRDHUP | select.EPOLLONESHOT
_DISARMED = select.EPOLLONESHOT
