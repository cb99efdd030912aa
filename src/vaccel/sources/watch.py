"""The time that a fetch may take in all, whatever its servers do."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Watch:
    """After `seconds` it shuts the connection down that `watch` was told of, so that whoever reads
    from it wakes up: a time limit of a socket begins anew with each byte."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> Watch:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        self._forget()

    @property
    def expired(self) -> bool:
        return self._over.is_set()

    def left(self) -> float:
        return max(self._end - time.monotonic(), 0.0)

    def wait(self, seconds: float) -> None:
        self._over.wait(seconds)

    def watch(self, sock: socket.socket) -> None:
        """The connection that is in use from now on."""
        self._forget()
        with self._lock:
            # One of our own: TLS takes the descriptor out of the socket that it wraps.
            self._socket = sock.dup()
        if self.expired:
            self._expire()

    def _forget(self) -> None:
        with self._lock:
            old, self._socket = self._socket, None
        if old is not None:
            old.close()

    def _expire(self) -> None:
        self._over.set()
        with self._lock:
            if self._socket is not None:
                with contextlib.suppress(OSError):  # it has ended by itself
                    self._socket.shutdown(socket.SHUT_RDWR)
