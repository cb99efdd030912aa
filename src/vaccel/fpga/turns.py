"""A lock that threads get in the order in which they asked for it."""

from __future__ import annotations

import threading
from collections import deque


class Turns:
    """First come, first served; a context manager. The locks of `threading` promise no order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._line: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._line.append(mine)
        try:
            mine.acquire()
        except BaseException:  # an interrupt
            self._withdraw(mine)
            raise

    def __exit__(self, *_: object) -> None:
        self.leave()

    def enter_if_free(self) -> bool:
        """Take the turn if nobody has it; False otherwise."""
        with self._lock:
            if self._taken:
                return False
            self._taken = True
            return True

    def leave(self) -> None:
        with self._lock:
            if self._line:
                self._line.popleft().release()
            else:
                self._taken = False

    def _withdraw(self, mine: threading.Lock) -> None:
        with self._lock:
            waiting = mine in self._line
            if waiting:
                self._line.remove(mine)
        if not waiting:  # the turn was passed on to this thread meanwhile
            self.leave()
