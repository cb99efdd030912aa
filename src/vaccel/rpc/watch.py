"""One thread that looks after connections whose own thread is busy with a request.

It sees a peer hang up, more data arrive, and deadlines pass, in the middle of a kernel. A quick
request costs it nothing: it looks at the active connections every few milliseconds, and sleeps
while there are none.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from vaccel import log

TICK = 0.002
"""Seconds between two looks. A request that runs over a whole tick counts as slow."""


class Connection(Protocol):
    """A connection as the watch sees it."""

    def hung_up(self) -> None:
        """The peer has gone."""


class Reader(Protocol):
    """Who reads connections, and runs their requests, as the watch sees it."""

    fd: int
    resting: bool
    """The watch does not look at it: who begins to run requests then calls `Watch.enter`."""
    rounds: int
    """Grows when the thread begins to run requests, and when it goes back to reading: odd while it
    runs them."""

    @property
    def pending(self) -> bool:
        """Requests were read, or answers are ready, that another thread could see to."""

    def take_over(self) -> bool:
        """Read on another thread, as data has come; False if none is free now."""


class Watch:
    """The connections of a server, and the deadlines of its running calls."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self._watched: dict[int, Connection | None] = {}
        """What becomes readable for a reader, and whose connection it is, if it is one."""
        self.active: dict[int, Reader] = {}
        """Readers that have run a request of late, by descriptor."""
        self._seen: dict[int, int] = {}
        """Descriptor → its reader's rounds at the last look."""
        self._slow: dict[int, tuple[Reader, int]] = {}
        """Descriptor → its reader, and the rounds when its slow request was noticed."""
        self._waiting: dict[int, Reader] = {}
        """Readers with something to do that no thread was free for."""
        self._asleep = False
        self._deadlines: dict[Any, tuple[float, Callable[[], None]]] = {}
        self._next_deadline = float("inf")
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="vaccel-watch", daemon=True)
        self._thread.start()

    def add(self, fd: int, connection: Connection | None = None) -> None:
        self._watched[fd] = connection
        self._epoll.register(fd, _HANG_UP)

    def remove(self, fd: int, connection: Connection | None = None) -> None:
        # By now the descriptor may be that of a later connection.
        if self._watched.get(fd, self) is connection and self._watched.pop(fd, self) is connection:
            self.active.pop(fd, None)
            with contextlib.suppress(OSError, ValueError):  # ValueError: stopped before
                self._epoll.unregister(fd)

    def deadline(self, key: Any, at: float, expire: Callable[[], None]) -> None:
        """Call expire() at time `at` unless `settle(key)` comes first."""
        with self._lock:
            self._deadlines[key] = (at, expire)
            earlier = at < self._next_deadline
            if earlier:
                self._next_deadline = at
        if earlier:
            self.wake()

    def expects(self, key: Any) -> bool:
        """The deadline of `key` has neither passed nor been settled."""
        return key in self._deadlines

    def settle(self, key: Any) -> bool:
        """The call is answered; False if its deadline came first."""
        return self._deadlines.pop(key, None) is not None

    def stop(self) -> None:
        self.wake()
        self._stopped = True
        os.eventfd_write(self._wakeup, 1)
        self._thread.join()
        self._epoll.close()
        os.close(self._wakeup)

    def enter(self, reader: Reader) -> None:
        """`reader` has begun to run requests."""
        reader.resting = False
        self.active[reader.fd] = reader
        if self._asleep:
            self.wake()

    def wake(self) -> None:
        self._asleep = False
        if self._stopped:
            return
        os.eventfd_write(self._wakeup, 1)

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped:
            try:
                self._round()
            except Exception as exc:  # without this thread no connection would be safe
                log.error("internal error of the watch", exc_info=exc)

    def _round(self) -> None:
        for fd, events in self._epoll.poll(self._timeout()):
            self._event(fd, events)
        self._look()
        for fd, reader in list(self._waiting.items()):
            if fd not in self._watched or reader.take_over():
                del self._waiting[fd]
        if self._next_deadline <= time.monotonic():
            self._expire()

    def _timeout(self) -> float | None:
        self._asleep = not self.active and not self._waiting
        if self.active:  # entered between the two looks
            self._asleep = False
        tick = float("inf") if self._asleep else TICK
        timeout = min(tick, self._next_deadline - time.monotonic())
        # A day is as good as what epoll can count to.
        return None if timeout == float("inf") else min(max(timeout, 0.0), 86_400.0)

    def _event(self, fd: int, events: int) -> None:
        if fd == self._wakeup:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(fd)
            return
        if fd not in self._watched:
            return
        connection = self._watched.get(fd)
        if connection is not None and events & _GONE:
            # The event may be that of an earlier connection with this descriptor.
            if _is_gone(fd) and self._watched.get(fd) is connection:
                self.remove(fd, connection)  # the kernel would report it again and again
                connection.hung_up()
        else:
            self._change(fd, _HANG_UP)
            reader, rounds = self._slow.pop(fd, (None, 0))
            if reader is not None and reader.rounds == rounds:  # still at the same request
                self._waiting[fd] = reader

    def _change(self, fd: int, events: int) -> None:
        with contextlib.suppress(OSError):  # removed just now
            self._epoll.modify(fd, events)

    def _look(self) -> None:
        """Watch the data for readers that have run one request since the last look."""
        for fd, reader in list(self.active.items()):
            rounds = reader.rounds
            if self._seen.get(fd) != rounds:
                self._seen[fd] = rounds
                continue
            # No change for a whole tick: the reader rests, or is busy with a slow request.
            reader.resting = True
            found = self.active.pop(fd, None)
            del self._seen[fd]
            if found is not None and found is not reader:
                self._again(fd, found)  # in the place of the other, just now
            elif reader.rounds != rounds and fd in self._watched:
                self._again(fd, reader)  # it began another one just now
            elif rounds % 2 and reader.pending:
                self._waiting[fd] = reader
            elif rounds % 2:
                self._slow[fd] = reader, rounds
                self._change(fd, _DATA)

    def _again(self, fd: int, reader: Reader) -> None:
        """As `enter`, unless the reader of a later connection has come first."""
        reader.resting = False
        self.active.setdefault(fd, reader)

    def _expire(self) -> None:
        now = time.monotonic()
        for key, (at, expire) in list(self._deadlines.items()):
            if at <= now and self._deadlines.pop(key, None) is not None:
                expire()
        with self._lock:
            remaining = [at for at, _ in list(self._deadlines.values())]
            self._next_deadline = min(remaining, default=float("inf"))


def _is_gone(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    return bool(poll.poll(0))


_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_HANG_UP = select.EPOLLRDHUP
_DATA = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT
