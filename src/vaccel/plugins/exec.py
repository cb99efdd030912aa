"""exec: functions of shared libraries that the caller names or brings along.

Each session's libraries run in a process of their own (`foreign.process`), one for each library or
resource, so that what goes wrong there costs one call. Calls of a session to the same libraries run
one after another, in the same process: what these keep in memory lasts until the session ends, the
resource is unregistered, the library's file changes, or the process fails.

What the libraries print goes to standard error. This protects from accidents, not from attacks:
foreign code may do whatever the user may who runs it, so an agent serves this plugin to clients
only with `--allow exec`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vaccel import config, deadline
from vaccel.config import Config
from vaccel.error import FFIError, InvalidArgument, SessionClosed, from_errno
from vaccel.foreign import libraries
from vaccel.foreign.inprocess import InProcess
from vaccel.foreign.libraries import Plan
from vaccel.foreign.process import MEMORY_VARIABLE, Gone, Limit, Worker
from vaccel.foreign.server import ForkServer
from vaccel.ops.args import Arg
from vaccel.ops.catalog import Operations
from vaccel.plugin import Plugin, PluginType

if TYPE_CHECKING:
    from vaccel.resource import Resource
    from vaccel.session import Session

TIMEOUT_VARIABLE = "VACCEL_EXEC_TIMEOUT"
INPROCESS_VARIABLE = "VACCEL_EXEC_INPROCESS"

_Key = tuple[str | int, Hashable]
"""A library's path and version, or a resource's id and None."""


@dataclass(frozen=True)
class Settings:
    """What the environment says."""

    timeout: float | None = 300.0
    """Seconds that a call may take."""
    memory: int | None = 4 << 30
    """Bytes of memory that a worker process may have."""
    inprocess: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        return cls(
            timeout=config.seconds(environ, TIMEOUT_VARIABLE, Settings.timeout),
            memory=_memory(environ),
            inprocess=config.flag(environ, INPROCESS_VARIABLE),
        )


def _memory(environ: Mapping[str, str]) -> int | None:
    text = environ.get(MEMORY_VARIABLE, "")
    if text in ("", "0"):
        return None if text else Settings.memory
    try:
        return config.size(text)
    except ValueError as exc:
        raise InvalidArgument(f"{MEMORY_VARIABLE}: {exc} (0: no limit)") from None


class _Owned:
    """What one session has loaded."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runners: dict[_Key, Worker | InProcess] = {}
        self.closed = False

    def close(self, chosen: Callable[[_Key], bool]) -> None:
        with self.lock:
            runners = [self.runners.pop(key) for key in list(self.runners) if chosen(key)]
        for runner in runners:
            runner.close()


class ExecPlugin(Plugin):
    permission = "exec"

    def __init__(self) -> None:
        super().__init__(
            "exec",
            PluginType.CPU | PluginType.SOFTWARE | PluginType.GENERIC,
            summary="functions of shared libraries, in processes of their own",
        )
        self.kernel(Operations.exec)(self._exec)
        self.kernel(Operations.exec_with_resource)(self._exec_with_resource)
        self._begin()

    def _begin(self) -> None:
        self._settings = Settings()
        self._lock = threading.Lock()
        self._server: ForkServer | None = None
        self._sessions: dict[Session, _Owned] = {}

    # -- lifetimes -----------------------------------------------------------------------------

    def start(self, config: Config) -> None:
        self._settings = Settings.from_env()

    def close(self) -> None:
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.close()

    def disown(self) -> None:
        for owned in list(self._sessions.values()):
            for runner in owned.runners.values():
                runner.disown()
        if self._server is not None:
            self._server.disown()
        self._begin()

    def open_session(self, session: Session) -> None:
        self._sessions[session] = _Owned()

    def close_session(self, session: Session) -> None:
        owned = self._sessions.pop(session, None)
        if owned is not None:
            with owned.lock:
                owned.closed = True
            owned.close(lambda _: True)

    def unregister(self, session: Session, resource: Resource) -> None:
        owned = self._sessions.get(session)
        if owned is not None:
            owned.close(lambda key: key[0] == resource.id)

    # -- calls ---------------------------------------------------------------------------------

    def _exec(
        self, session: Session, library: str, symbol: str, read: list[Arg], write: list[Arg]
    ) -> None:
        def plan() -> Plan:
            return libraries.by_name(library)

        self._call("exec", session, (library, _version(library)), plan, symbol, read, write)

    def _exec_with_resource(
        self, session: Session, resource: Resource, symbol: str, read: list[Arg], write: list[Arg]
    ) -> None:
        def plan() -> Plan:
            files = resource.files()
            names = ", ".join(path.name for path in files)
            return libraries.of_files(f"resource {resource.id} ({names})", files)

        self._call("exec_with_resource", session, (resource.id, None), plan, symbol, read, write)

    def _call(
        self,
        name: str,
        session: Session,
        key: _Key,
        plan: Callable[[], Plan],
        symbol: str,
        read: Sequence[Arg],
        write: Sequence[Arg],
    ) -> None:
        while True:
            try:
                runner = self._runner(session, key, plan)
                # From here on: the shim, if it must be compiled first, is no part of the call.
                runner.call(symbol, read, write, self._limit)
                return
            except Gone:  # another thread's call ended it
                continue
            except FFIError as exc:
                raise from_errno(exc.code, f"{name}: {symbol}: {exc.message}") from exc

    def _limit(self) -> Limit | None:
        seconds, moment = self._settings.timeout, deadline.current()
        if seconds is not None:
            own = time.monotonic() + seconds
            if moment is None or own < moment:
                return Limit(own, f"not done within {seconds:g} s ({TIMEOUT_VARIABLE})")
        if moment is None:
            return None
        return Limit(moment, "not done within the time that the client gave")

    def _runner(self, session: Session, key: _Key, plan: Callable[[], Plan]) -> Worker | InProcess:
        owned = self._sessions.get(session)
        if owned is None:
            raise SessionClosed(f"session {session.id} was closed before its call began")
        with owned.lock:
            runner = owned.runners.get(key)
            if runner is not None and not runner.ended:
                return runner
            if owned.closed:
                raise SessionClosed(f"session {session.id} was closed before its call began")
            runner = owned.runners[key] = self._new(plan())
        # Those of the file that was there before.
        owned.close(lambda other: other[0] == key[0] and other != key)
        return runner

    def _new(self, plan: Plan) -> Worker | InProcess:
        if self._settings.inprocess:
            return InProcess(plan)
        with self._lock:
            server = self._server
            if server is None or not server.alive:
                if server is not None:
                    server.close()
                server = self._server = ForkServer()
        return Worker(server, plan, self._settings.memory)


def _version(library: str) -> Hashable:
    """Of a library's file: another one is loaded anew."""
    try:
        status = os.stat(library)
    except OSError:  # what is wrong with it shows when it is loaded
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


plugin = ExecPlugin()
