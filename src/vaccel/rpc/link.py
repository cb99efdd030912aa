"""What a client knows of an agent, and of a session there."""

from __future__ import annotations

import threading
from typing import NamedTuple

from vaccel.rpc.quick import QuickClient


class Link:
    """The connection to one agent, and the sessions that use it."""

    def __init__(self, client: QuickClient) -> None:
        self.client = client
        self.features = 0
        self.sessions = 0
        self.registering = threading.Lock()
        self.resources: dict[int, tuple[int, int]] = {}
        """Resource id → id at the agent, and the number of sessions it is registered with."""


class Remote(NamedTuple):
    """A session's other half."""

    link: Link
    id: int
