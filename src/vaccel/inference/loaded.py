"""Models that sessions have loaded: one of each resource, shared by its sessions."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vaccel.error import NotFound, PluginError
from vaccel.ops.numbers import Scalar
from vaccel.ops.objects import Object, ResourceLike
from vaccel.plugin import Direct, Plugin, PluginType

if TYPE_CHECKING:
    from vaccel.ops.spec import Operation
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
        self.by_ids: dict[tuple[int, int], tuple[Resource, M]] = {}
        """By the ids of a session and of a resource that it has loaded: that, and its model."""
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
        self.by_ids[session.id, resource.id] = resource.core, entry.model
        return entry.model

    def _check_registered(self, session: Session, resource: Resource) -> None:
        if not resource.registered_with(session):
            raise NotFound(
                f"{self._operation}: resource {resource.id} is not registered with session "
                f"{session.id}: call resource.register(session) first"
            )

    def get(self, session: Session, resource: Resource) -> M:
        """The model that `session` has loaded; NotFound if it has not."""
        found = self.by_ids.get((session.id, resource.id))
        if found is None:
            raise NotFound(
                f"session {session.id} has not loaded resource {resource.id}: "
                f"call {self._operation} first"
            )
        return found[1]

    def holds(self, session: Session, resource: Resource) -> bool:
        """Whether `session` has loaded the model."""
        return (session.id, resource.id) in self.by_ids

    def unload(self, session: Session, resource: Resource) -> bool:
        """End the use of the model in `session`; False if it had not loaded it."""
        with self._changed:
            entry = self._entries.get(resource)
            if entry is None or session not in entry.sessions:
                return False
            entry.sessions.discard(session)
            del self.by_ids[session.id, resource.id]
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

    def direct(self, op: Operation, session: Session) -> Direct | None:
        """For runs of models that `session` has loaded, with arguments as kernels get them."""
        run, fits = self.bind(op, session), _fits(op)
        if run is None or fits is None:
            return None
        kernel, takes = run, fits
        models, dropped, session_id = self.models.by_ids, session.runtime.dropped, session.id
        outputs = list(op.outputs.values())

        def call(args: Sequence[Any]) -> Any:
            resource = args[0]
            if dropped or not isinstance(resource, ResourceLike) or not takes(args):
                return NotImplemented
            found = models.get((session_id, resource.id))
            if found is None or found[0] is not resource.core:  # ids begin anew with a runtime
                return NotImplemented
            result = kernel(session, found[0], *args[1:])
            for kind, value in zip(outputs, op.values(result), strict=False):
                if isinstance(kind, Object) and type(value) is not list:
                    return op.restore(args, args, {}, result)
            return result

        return call

    def unregister(self, session: Session, resource: Resource) -> None:
        self.models.unload(session, resource)

    def close_session(self, session: Session) -> None:
        self.models.close_session(session)

    def disown(self) -> None:
        self.models.reset()


def _fits(op: Operation) -> Callable[[Sequence[Any]], bool] | None:
    """Whether arguments after the resource need neither a check nor a conversion: lists of the
    operation's objects, small numbers, and no options. None if it takes other kinds."""
    lists, numbers, options = [], [], []
    for i, kind in enumerate(list(op.inputs.values())[1:], 1):
        if isinstance(kind, Object) and kind.many and not kind.dim:
            lists.append((i, kind.cls))
        elif isinstance(kind, Scalar) and kind.least == 0 and not kind.dim:
            numbers.append(i)
        elif isinstance(kind, Object) and kind.optional:
            options.append(i)
        else:
            return None

    def fits(args: Sequence[Any]) -> bool:
        for i, cls in lists:
            if type(args[i]) is not list:
                return False
            for one in args[i]:
                if type(one) is not cls:
                    return False
        for i in numbers:
            if type(args[i]) is not int or not 0 <= args[i] < 1 << 31:
                return False
        return all(args[i] is None for i in options) if options else True

    return fits if lists and op.resource == 0 else None


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
