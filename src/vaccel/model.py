"""Models as context managers: loaded at their beginning, unloaded at their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vaccel import log
from vaccel.error import FFIError, InternalError, InvalidArgument
from vaccel.ops.catalog import BY_NAME
from vaccel.ops.tf import Status

if TYPE_CHECKING:
    from vaccel.resource import Resource
    from vaccel.session import Session

_STEPS = ("load", "run", "unload")
ENGINES = tuple(
    sorted(
        engine
        for engine, _, _ in (name.rpartition("_model_load") for name in BY_NAME)
        if engine and all(f"{engine}_model_{step}" in BY_NAME for step in _STEPS)
    )
)
"""Those with three operations ENGINE_model_load, _run and _unload."""


class Model:
    """A model that `session` has loaded from `resource`, which is registered with it.

    Made by `Session.model`. A context manager; it ends with its session at the latest.
    """

    def __init__(self, session: Session, resource: Resource, engine: str) -> None:
        """Loads the model. Errors are those of ENGINE_model_load."""
        if engine not in ENGINES:
            raise InvalidArgument(
                f"model: engine: expected one of {', '.join(ENGINES)}, found {engine!r}"
            )
        self.session, self.resource, self.engine = session, resource, engine
        self._call("load")
        self._loaded = True

    def __repr__(self) -> str:
        return f"<{self.engine} model of {self.resource!r} in {self.session!r}>"

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Takes and gives what ENGINE_model_run does, less the resource."""
        return getattr(self.session, f"{self.engine}_model_run")(self.resource, *args, **kwargs)

    def close(self) -> None:
        """Unload it. Repeatable."""
        if not self._loaded:
            return
        self._loaded = False
        try:
            self._call("unload")
        except FFIError as exc:  # it has ended with its session, for instance
            log.debug("%s", exc.message)

    def _call(self, step: str) -> None:
        operation = f"{self.engine}_model_{step}"
        status = getattr(self.session, operation)(self.resource)
        if isinstance(status, Status) and status.code:
            raise InternalError(f"{operation}: status {status.code}: {status.message}")
