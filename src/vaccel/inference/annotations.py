"""Annotated pictures: what image operations name in their results, as resources of the session."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vaccel.blob import Blob, ResourceType
from vaccel.error import NotFound, SessionClosed
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

    __slots__ = ("_found", "_png", "content", "gone", "id", "making", "name", "resource")

    def __init__(self, session: Session, found: Found, content: bytes) -> None:
        self._found, self.content = found, content
        self._png: bytes | None = None
        self.id = next(session.runtime.resource_ids)
        self.name = f"{found.description.task}.{self.id}.png"
        self.resource: Annotated | None = None
        self.making = self.gone = False

    def png(self) -> bytes:
        if self._png is None:
            self._png = self._found.annotated(self.content)
        return self._png


class Annotated(Resource):
    """A DATA resource with one PNG, which is drawn when somebody asks for it."""

    def __init__(self, session: Session, note: _Note) -> None:
        self._init(ResourceType.DATA, [], [], (session.runtime, note.id))
        self._note = note

    def blobs(self) -> list[Blob]:
        with self._lock:
            if not self._blobs:
                self._blobs.append(Blob(self._note.name, memoryview(self._note.png())))
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
        # Held for no call of anything else: other plugins hear of a resource, over a network, too.
        self._lock = threading.Lock()
        self._kept: dict[Session, deque[_Note]] = {}

    def open(self, session: Session) -> None:
        """`session` begins."""
        with self._lock:
            self._kept[session] = deque()

    def keep(self, session: Session, found: Found, content: bytes) -> str:
        """Name a picture: of what was `found` in `content`, which is held until it goes."""
        note = _Note(session, found, content)
        dropped = []
        with self._lock:
            kept = self._kept.get(session)
            if kept is not None:  # it has not been closed meanwhile
                kept.append(note)
                while len(kept) > KEPT or (len(kept) > 1 and _size(kept) > KEPT_BYTES):
                    dropped.append(kept.popleft())
            for old in dropped:
                old.gone = True
        _close(dropped)
        return note.name

    def make_resources(self, session: Session) -> None:
        """Register what is noted, and what no other thread is just registering."""
        for note in self._to_make(session):
            made = Annotated(session, note)
            try:
                made.register(session)
            except BaseException as exc:
                note.making = False
                made.close()
                if isinstance(exc, SessionClosed):
                    return
                raise
            with self._lock:
                note.resource, gone = made, note.gone
            if gone:
                made.close()

    def _to_make(self, session: Session) -> Iterator[_Note]:
        while True:
            with self._lock:
                kept = self._kept.get(session, ())
                note = next((one for one in kept if not (one.resource or one.making)), None)
                if note is None:
                    return
                note.making = True
            yield note

    def find(self, session: Session, name: str) -> bytes:
        """The PNG; NotFound if the session does not have it any more."""
        with self._lock:
            notes = list(self._kept.get(session, ()))
        kept = [one for one in notes if not one.resource or one.resource.registered_with(session)]
        for one in kept:
            if one.name == name:
                return one.png()
        names = ", ".join(one.name for one in kept) or "none"
        raise NotFound(
            f"session {session.id} has no annotated picture {name!r}; "
            f"it keeps the last {KEPT}: {names}"
        )

    def drop(self, session: Session) -> None:
        """`session` ends."""
        with self._lock:
            dropped = list(self._kept.pop(session, ()))
            for one in dropped:
                one.gone = True
        _close(dropped)


def _size(notes: Iterable[_Note]) -> int:
    return sum([len(note.content) for note in notes])


def _close(notes: Iterable[_Note]) -> None:
    for note in notes:
        if note.resource is not None:
            note.resource.close()
