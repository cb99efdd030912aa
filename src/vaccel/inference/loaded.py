"""Models that sessions have loaded: one of each resource, shared by its sessions."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vaccel.error import NotFound, PluginError
from vaccel.plugin import Plugin, PluginType

if TYPE_CHECKING:
    from vaccel.resource import Resource
    from vaccel.session import Session

M = TypeVar("M")


class _Entry(Generic[M]):
    __slots__ = ("model", "sessions")

    def __init__(self, model: M) -> None:
        self.model = model
        self.sessions: set[Session] = set()


class Loaded(Generic[M]):
    """Models by resource. Thread-safe.

    `open` makes the model of a resource; it runs once for each, however many sessions load it, and
    anew after a failure. The model is let go with its last session; a call that still runs keeps
    its own reference. `operation` is what error messages tell the caller to call first.
    """

    def __init__(self, open: Callable[[Resource], M], operation: str) -> None:
        self._open = open
        self._operation = operation
        self.reset()

    def reset(self) -> None:
        """Forget everything; in a forked child a lock may be held by a thread that is not there."""
        self._changed = threading.Condition()
        self._entries: dict[Resource, _Entry[M]] = {}
        self._opening: set[Resource] = set()

    def __len__(self) -> int:
        """How many models are loaded."""
        return len(self._entries)

    def load(self, session: Session, resource: Resource) -> M:
        """The model of `resource`, for use in `session`; a second time changes nothing.

        NotFound: the resource is not registered with the session.
        """
        with self._changed:
            self._changed.wait_for(lambda: resource not in self._opening)
            entry = self._entries.get(resource)
            if entry is not None:
                return self._share(entry, session, resource)
            self._check_registered(session, resource)
            self._opening.add(resource)
        try:
            # Without the lock: other models may be large, and take their time.
            entry = _Entry(self._open(resource))
            with self._changed:
                model = self._share(entry, session, resource)
                self._entries[resource] = entry
                return model
        finally:
            with self._changed:
                self._opening.discard(resource)
                self._changed.notify_all()

    def _share(self, entry: _Entry[M], session: Session, resource: Resource) -> M:
        # A session may have ended while its model was opened; nobody would unload it then.
        self._check_registered(session, resource)
        entry.sessions.add(session)
        return entry.model

    def _check_registered(self, session: Session, resource: Resource) -> None:
        if not resource.registered_with(session):
            raise NotFound(
                f"{self._operation}: resource {resource.id} is not registered with session "
                f"{session.id}: call resource.register(session) first"
            )

    def get(self, session: Session, resource: Resource) -> M:
        """The model that `session` has loaded; NotFound if it has not."""
        entry = self._entries.get(resource)
        if entry is None or session not in entry.sessions:
            raise NotFound(
                f"session {session.id} has not loaded resource {resource.id}: "
                f"call {self._operation} first"
            )
        return entry.model

    def holds(self, session: Session, resource: Resource) -> bool:
        """Whether `session` has loaded the model."""
        entry = self._entries.get(resource)
        return entry is not None and session in entry.sessions

    def unload(self, session: Session, resource: Resource) -> bool:
        """End the use of the model in `session`; False if it had not loaded it."""
        with self._changed:
            entry = self._entries.get(resource)
            if entry is None or session not in entry.sessions:
                return False
            entry.sessions.discard(session)
            if not entry.sessions:
                del self._entries[resource]
            return True

    def close_session(self, session: Session) -> None:
        """`session` ends: unload all that it has loaded."""
        for resource in list(self._entries):
            self.unload(session, resource)


class ModelPlugin(Plugin, Generic[M]):
    """A plugin with models, which end in time; `engine` is the module that runs them."""

    def __init__(
        self,
        name: str,
        type: PluginType,
        open: Callable[[Resource], M],
        *,
        engine: str,
        summary: str = "",
    ) -> None:
        super().__init__(name, type, summary=summary)
        self.models: Loaded[M] = Loaded(open, f"{name}_model_load")
        self._engine = engine
        self.requires = [engine.partition(".")[0]]
        self.install = f"vaccel[{name}]"

    def check(self) -> None:
        import_engine(self._engine, self.name)

    def unload(self, session: Session, resource: Resource) -> None:
        """The kernel of the unload operation; NotFound if the session has not loaded it."""
        self.models.get(session, resource)
        self.models.unload(session, resource)

    def unregister(self, session: Session, resource: Resource) -> None:
        self.models.unload(session, resource)

    def close_session(self, session: Session) -> None:
        self.models.close_session(session)

    def disown(self) -> None:
        self.models.reset()


def import_engine(module: str, extra: str) -> Any:
    """The module of an inference engine; PluginError with the install line where it is missing."""
    # From their import on, onnxruntime and OpenVINO collect usage data in the user's folders and
    # send them to their makers. Their own functions to end that come too late; this they heed.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if module.partition(".")[0] == "openvino":
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        found: ModuleType = importlib.import_module(module)
    except Exception as exc:  # a broken engine raises whatever it likes
        kind = "" if isinstance(exc, ImportError) else f"{type(exc).__name__}: "
        raise PluginError(
            f"{module} cannot be imported ({kind}{exc}); pip install 'vaccel[{extra}]'"
        ) from exc
    return found
