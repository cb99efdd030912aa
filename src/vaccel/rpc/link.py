"""What a client knows of an agent, and of a session and a resource there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from vaccel.rpc import frames, messages
from vaccel.rpc.arguments import Contents
from vaccel.rpc.quick import QuickClient


class Registration:
    """A resource at an agent; the lock is held while that changes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.id = 0
        self.sessions = 0
        self.ended = False


class Link:
    """The connection to one agent, and the sessions that use it."""

    def __init__(self, client: QuickClient) -> None:
        self.client = client
        self.features = 0
        self.sessions = 0
        self.silent_until = 0.0
        """So long, by time.monotonic(), the agent counts as one that does not answer."""
        self._lock = threading.Lock()
        self.resources: dict[int, Registration] = {}
        """By our resource ids."""

    def call(
        self,
        method: str,
        request: Any,
        timeout: float | None,
        contents: Contents | None = None,
    ) -> tuple[Any, list[memoryview]]:
        """The answer's message and its bulk contents."""
        contents = contents or Contents()
        template = frames.request(
            messages.SERVICES[0], method, request, contents.sizes, nanoseconds(timeout)
        )
        shape, views = self.client.call(method, template, contents.buffers, timeout)
        return shape.message, views

    @contextlib.contextmanager
    def registration(self, resource_id: int) -> Iterator[Registration]:
        """The resource's registration, locked: other resources do not wait for a long upload.

        Where no session has it in the end, the agent has it no longer.
        """
        while True:
            with self._lock:
                found = self.resources.setdefault(resource_id, Registration())
            with found.lock:
                if found.ended:  # while we waited
                    continue
                try:
                    yield found
                finally:
                    if not found.sessions:
                        found.ended = True
                        with self._lock:
                            del self.resources[resource_id]
                return


class Remote(NamedTuple):
    """A session's other half."""

    link: Link
    id: int


def nanoseconds(timeout: float | None) -> int:
    return 0 if timeout is None else max(int(timeout * 1e9), 1)
