"""Annotated pictures: what image operations name in their results, as resources of the session."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from vaccel.blob import Blob, ResourceType
from vaccel.error import NotFound
from vaccel.resource import Resource

if TYPE_CHECKING:
    from pathlib import Path

    from vaccel.session import Session

KEPT = 8
"""How many annotated pictures a session has; an older one goes when a new one comes."""
KEPT_BYTES = 2**26
"""Bytes of a session's pictures together, as they came in, before fewer than that are kept."""


class Annotated(Resource):
    """A DATA resource with one PNG, which is drawn when somebody asks for it."""

    def __init__(self, task: str, size: int, draw: Callable[[], bytes]) -> None:
        self._init(ResourceType.DATA, [], [])
        self.name = f"{task}.{self.id}.png"
        self.size = size
        self._draw = draw

    def blobs(self) -> list[Blob]:
        with self._lock:
            if not self._blobs:
                self._blobs.append(Blob(self.name, memoryview(self._draw())))
            return super().blobs()

    def files(self) -> list[Path]:
        self.blobs()
        return super().files()


class Annotations:
    """The annotated pictures of all sessions. Thread-safe."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything, as the child of a fork must."""
        self._lock = threading.Lock()
        self._kept: dict[Session, list[Annotated]] = {}

    def keep(self, session: Session, task: str, size: int, draw: Callable[[], bytes]) -> str:
        """Register a picture with `session`; its name. `draw` holds `size` bytes until it goes."""
        made = Annotated(task, size, draw)
        try:
            made.register(session)
        except BaseException:  # the session has been closed meanwhile
            made.close()
            raise
        with self._lock:
            kept = self._kept.setdefault(session, [])
            kept.append(made)
            dropped = []
            if not made.registered_with(session):  # it has been closed meanwhile, and is dropped
                dropped = self._kept.pop(session)
            while len(kept) > KEPT or (len(kept) > 1 and sum(a.size for a in kept) > KEPT_BYTES):
                dropped.append(kept.pop(0))
        for old in dropped:
            old.close()
        return made.name

    def find(self, session: Session, name: str) -> Annotated:
        with self._lock:
            kept = [one for one in self._kept.get(session, ()) if one.registered_with(session)]
        for one in kept:
            if one.name == name:
                return one
        names = ", ".join(one.name for one in kept) or "none"
        raise NotFound(
            f"session {session.id} has no annotated picture {name!r}; "
            f"it keeps the last {KEPT}: {names}"
        )

    def drop(self, session: Session) -> None:
        """`session` ends."""
        with self._lock:
            dropped = self._kept.pop(session, [])
        for one in dropped:
            one.close()
