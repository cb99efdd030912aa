"""Annotated pictures: what image operations name in their results, as resources of the session."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from vaccel import runtime
from vaccel.blob import Blob, ResourceType
from vaccel.error import NotFound
from vaccel.resource import Resource

if TYPE_CHECKING:
    from pathlib import Path

    from vaccel.inference.found import Found
    from vaccel.session import Session

KEPT = 8
"""How many annotated pictures a session has; an older one goes when a new one comes."""
KEPT_BYTES = 2**26
"""Bytes of a session's pictures together, as they came in, before fewer than that are kept."""


class _Note:
    """What a picture is made from, and its resource once there is one."""

    __slots__ = ("content", "found", "id", "name", "resource")

    def __init__(self, found: Found, content: bytes) -> None:
        self.found, self.content = found, content
        self.id = next(runtime.current().resource_ids)
        self.name = f"{found.description.task}.{self.id}.png"
        self.resource: Annotated | None = None


class Annotated(Resource):
    """A DATA resource with one PNG, which is drawn when somebody asks for it."""

    def __init__(self, note: _Note) -> None:
        self._init(ResourceType.DATA, [], [], note.id)
        self.name = note.name
        self._found, self._content = note.found, note.content

    def blobs(self) -> list[Blob]:
        with self._lock:
            if not self._blobs:
                png = self._found.annotated(self._content)
                self._blobs.append(Blob(self.name, memoryview(png)))
            return super().blobs()

    def files(self) -> list[Path]:
        self.blobs()
        return super().files()


class Annotations:
    """The annotated pictures of all sessions. Thread-safe.

    Most are never looked at, and to make a resource takes as long as all else that vaccel adds to
    the engine for a small picture. So a call leaves a note, and the resource is made from it when
    somebody looks at those of the session.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything, as the child of a fork must."""
        # Taken with a session's own lock held, so never held where that may be taken anew.
        self._lock = threading.RLock()
        self._kept: dict[Session, deque[_Note]] = {}

    def open(self, session: Session) -> None:
        """`session` begins."""
        self._kept[session] = deque()

    def keep(self, session: Session, found: Found, content: bytes) -> str:
        """Name a picture: of what was `found` in `content`, which is held until it goes."""
        note = _Note(found, content)
        kept = self._kept.get(session)
        if kept is None:  # it has been closed meanwhile
            return note.name
        with self._lock:
            kept.append(note)
            dropped = []
            while len(kept) > KEPT or (len(kept) > 1 and _size(kept) > KEPT_BYTES):
                dropped.append(kept.popleft())
        _close(dropped)
        return note.name

    def make_resources(self, session: Session) -> None:
        """Register what is noted; called with the session's lock held."""
        with self._lock:
            for note in self._kept.get(session, ()):
                if note.resource is None:
                    note.resource = Annotated(note)
                    note.resource.register(session)

    def find(self, session: Session, name: str) -> Annotated:
        kept = [one for one in session.resources if isinstance(one, Annotated)]
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
            dropped = self._kept.pop(session, deque())
        _close(dropped)


def _size(notes: Iterable[_Note]) -> int:
    return sum([len(note.content) for note in notes])


def _close(notes: Iterable[_Note]) -> None:
    for note in notes:
        if note.resource is not None:
            note.resource.close()
