"""What a server sends on one connection, from several threads."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from vaccel.rpc import transport
from vaccel.rpc.frames import Template
from vaccel.rpc.ttrpc import Kind

_GATHER = 0.0002  # seconds that an answer may wait for others


class Outbox:
    """Sends whole frames. `failed` is called where the socket does not take them."""

    def __init__(self, sock: socket.socket, failed: Callable[[OSError], None]) -> None:
        self._sock = sock
        self.failed = failed
        self.lock = threading.Lock()
        self.gathered: deque[bytes] = deque()
        """Answers that are to be sent."""
        self._since = 0.0

    def send(self, stream: int, template: Template, contents: Sequence[Any]) -> None:
        buffers = template.frame(stream, Kind.RESPONSE, 0, contents)
        try:
            with self.lock:
                transport.send(self._sock, template.length, buffers)
        except OSError as exc:
            self.failed(exc)

    def send_bytes(self, frames: bytes) -> None:
        try:
            with self.lock:
                self._sock.sendall(frames)
        except OSError as exc:
            self.failed(exc)

    def gather(self, answer: bytes) -> None:
        """Send `answer` soon, with others: the client then wakes up once for all of them."""
        now = time.monotonic()
        if not self.gathered:
            self._since = now
        self.gathered.append(answer)
        if now - self._since > _GATHER:
            self.flush()

    def flush(self) -> None:
        """Send what was gathered."""
        if not self.gathered:
            return
        answers = []
        with contextlib.suppress(IndexError):  # two threads may flush at once
            while True:
                answers.append(self.gathered.popleft())
        self.send_bytes(b"".join(answers))
