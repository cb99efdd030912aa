"""Sessions: where a program calls operations."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from vaccel import genop, log, runtime
from vaccel.error import (
    FFIError,
    InvalidArgument,
    NotFound,
    NotSupported,
    PermissionDenied,
    SessionClosed,
    of_kernel,
)
from vaccel.handle import Handle
from vaccel.model import Model
from vaccel.ops.args import Arg
from vaccel.ops.catalog import Operations
from vaccel.ops.objects import ResourceLike
from vaccel.ops.spec import Operation
from vaccel.plugin import Direct, Kernel, Plugin, PluginType, explained

if TYPE_CHECKING:
    from types import TracebackType

    from vaccel.blob import ResourceType
    from vaccel.resource import Resource
    from vaccel.runtime import Runtime


class Session(Handle, Operations):
    """A program's use of the loaded plugins, or of the agent at `endpoint`.

    `flags` (PluginType bits) prefers plugins of a type. A context manager; threads may share it.
    One that the program drops is closed when the program next opens, closes or calls something.
    """

    def __init__(self, flags: PluginType | int = 0, *, endpoint: str | None = None) -> None:
        self._runtime = runtime.current()
        self._runtime.release_dropped()
        self._dropped = self._runtime.dropped
        self._split()
        self.flags = _bits(flags)
        if not isinstance(endpoint, (str, type(None))):
            raise InvalidArgument(f"endpoint: expected such as tcp://HOST:8192, found {endpoint!r}")
        self.endpoint = endpoint
        self._plugins = self._choose(endpoint)
        self._lock = threading.RLock()
        self.kernels: dict[int, Callable[..., Any]] = {}
        """By operation code, those found so far, bound to the session."""
        self.direct: dict[int, Direct] = {}
        """By operation code, what is tried before all else."""
        self._resources: list[Resource] = []
        self._attached: list[Plugin] = []
        self._closed = ""
        self.permissions: frozenset[str] | None = None
        """An agent's client has these only (see `Plugin.permission`); None is all."""
        self.remote_id = 0
        self.id = next(self._runtime.session_ids)
        # A session that is remote in the first place shows an unreachable agent at once.
        if self.is_remote:
            self._attach_plugin(self._plugins[0])
        self._runtime.opened(self)
        log.debug("session:%d New session", self.id)

    def _choose(self, endpoint: str | None) -> list[Plugin]:
        if endpoint is None:
            plugins = list(self._runtime.plugins)
            return sorted(plugins, key=lambda p: not (self.flags and p.type & self.flags))
        return [self._runtime.remote()]

    def __repr__(self) -> str:
        return f"<Session {self.id}{' closed' if self._closed else ''}>"

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_remote(self) -> bool:
        """Operations go to an agent first."""
        return bool(self._plugins) and self._plugins[0].is_remote

    def has_resource(self, resource: Resource) -> bool:
        if not isinstance(resource, ResourceLike):
            raise InvalidArgument(f"has_resource: expected a Resource, found {resource!r:.60}")
        return resource.registered_with(self)

    @property
    def resources(self) -> list[Resource]:
        """Those registered with the session, and those that its plugins have for it."""
        for plugin in list(self._attached):
            if not self._closed:
                plugin.make_resources(self.core)
        return list(self._resources)

    def registered(self, type: ResourceType | None = None) -> list[Resource]:
        """Those of `type`, or all, that are registered already, the latest last; what plugins have
        yet to make is left out."""
        return [one for one in list(self._resources) if type is None or one.type is type]

    @property
    def runtime(self) -> Runtime:
        """What the session was opened in."""
        return self._runtime

    def model(self, resource: Resource, engine: str) -> Model:
        """Load the model in `resource` with `engine` (tf, tflite, torch, onnx): a context manager
        that unloads it at its end."""
        return Model(self, resource, engine)

    def update(self, flags: PluginType | int) -> None:
        """Prefer plugins of another type from now on."""
        with self._lock:
            self._check_open()
            self.flags = _bits(flags)
            self._plugins = self._choose(self.endpoint)
            self.kernels, self.direct = {}, {}
            for plugin in self._attached:
                plugin.update_session(self.core)

    def close(self) -> None:
        """Release the session and what is registered with it. Repeatable."""
        with self._lock:
            if self._closed:
                return
            self._end("is closed")
            resources, plugins = list(self._resources), list(self._attached)
        for resource in resources:
            _quietly(resource.unregister, self.core)
        for plugin in plugins:
            _quietly(plugin.close_session, self.core)
        log.debug("session:%d Free session", self.id)
        self._runtime.closed(self)
        self._runtime.release_dropped()

    def disown(self) -> None:
        """In a forked child: the session, and its connection, stay with the parent."""
        self._lock = threading.RLock()
        self._end("belongs to the parent process")
        self._resources, self._attached = [], []

    def _end(self, why: str) -> None:
        self._closed = f"session {self.id} {why}; open a new Session"
        self.kernels, self.direct = _ClosedKernels(self._closed), {}

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosed(self._closed)

    # -- operations ----------------------------------------------------------------------------

    def invoke(self, op: Operation, args: tuple[Any, ...]) -> Any:
        """Call `op` with positional values; what its method does where no direct way takes them."""
        if self._dropped and self._core is not None:  # not for a kernel, which may hold a lock
            self._runtime.release_dropped()
        if not args or (op.plain and op.fits(args)):
            return self.run(op, args)
        checked, dims = op.check(args)
        if op.resource is not None:
            checked[op.resource] = self._registered(op, checked[op.resource])
        result = self.run(op, checked)
        return op.restore(args, checked, dims, result)

    def _registered(self, op: Operation, resource: Resource) -> Resource:
        if resource.registered_with(self._core or self):
            return resource.core
        self._check_open()  # one that is closed has no resources left
        raise NotFound(
            f"{op.name}: resource {resource.id} is not registered with session "
            f"{self.id}: call resource.register(session) first"
        )

    def run(self, op: Operation, checked: Sequence[Any]) -> Any:
        """Call the kernel for `op` with checked values."""
        kernel = self.kernels.get(op.code) or self._find(op)
        try:
            return kernel(*checked)
        except FFIError:
            raise
        except Exception as exc:
            raise of_kernel(op.name, exc) from exc

    def genop(self, arg_read: list[Arg], arg_write: list[Arg]) -> None:
        """Call the operation whose code is arg_read[0]; fills `arg_write` in place."""
        genop.call(self, arg_read, arg_write)

    def require(self, op: Operation) -> tuple[Plugin, Kernel]:
        """The plugin that serves `op`, and its kernel; raises NotSupported if there is none."""
        for plugin in self._plugins:
            kernel = plugin.find(op)
            if kernel is not None:
                self._check_permitted(op, plugin)
                return plugin, kernel
        loaded = ", ".join(p.name for p in self._plugins) or "none"
        loaded += "".join(f"; not loaded: {reason}" for reason in self._runtime.left_out)
        where, remedy = "", "name one that does in VACCEL_PLUGINS"
        if self.permissions is not None:  # who reads this cannot see the agent's configuration
            where, remedy = "at the agent, ", "start the agent with one that does"
            remedy += " (--vaccel-config plugins=A:B; for exec: --allow exec)"
        raise NotSupported(
            f"{op.name}: {where}no loaded plugin implements it (loaded: {loaded}); "
            f"{remedy}; `vaccel plugins` lists what each has"
        )

    def _check_permitted(self, op: Operation, plugin: Plugin) -> None:
        needed = plugin.permission
        if needed and self.permissions is not None and needed not in self.permissions:
            raise PermissionDenied(
                f"{op.name}: the agent does not serve its plugin {plugin.name} to clients; "
                f"start the agent with --allow {needed} to allow that"
            )

    def _find(self, op: Operation) -> Callable[..., Any]:
        with self._lock:
            self._check_open()
            log.debug("session:%d Looking for plugin implementing %s", self.id, op.phrase)
            plugin, kernel = self.require(op)
            log.debug("Found implementation in %s plugin", plugin.name)
            self._attach_plugin(plugin)
            bound = functools.partial(plugin.bind(op, self.core) or kernel, self.core)
            if self._runtime.instrumented:
                return self._timed(op, bound)
            self.kernels[op.code] = bound
            direct = plugin.direct(op, self.core)
            if direct is not None:
                self.direct[op.code] = direct
            return bound

    def _timed(self, op: Operation, kernel: Callable[..., Any]) -> Callable[..., Any]:
        profiler = self._runtime.profiler

        def timed(*values: Any) -> Any:
            start = time.monotonic_ns()
            try:
                return kernel(*values)
            finally:
                if profiler.enabled:
                    profiler.add(f"[{op.name}] plugin", start, time.monotonic_ns() - start)

        return timed

    # -- plugins and resources -----------------------------------------------------------------

    def _attach_plugin(self, plugin: Plugin) -> None:
        """Tell `plugin` of the session before its first call there."""
        if plugin not in self._attached:
            with explained(plugin.name, f"begin session {self.id}"):
                plugin.open_session(self.core)
            self._attached.append(plugin)
            try:
                for resource in self._resources:
                    plugin.register(self.core, resource)
            except BaseException:  # the next call is to begin anew
                self._attached.remove(plugin)
                _quietly(plugin.close_session, self.core)
                raise

    def attach(self, resource: Resource) -> None:
        """Called by `Resource.register`."""
        with self._lock:
            self._check_open()
            for plugin in self._attached:
                plugin.register(self.core, resource.core)
            self._resources.append(resource.core)

    def detach(self, resource: Resource) -> None:
        """Called by `Resource.unregister`."""
        with self._lock:
            self._resources.remove(resource)
            for plugin in self._attached:
                plugin.unregister(self.core, resource.core)

    def sync(self, resource: Resource) -> None:
        """Called by `Resource.sync`."""
        with self._lock:
            self._check_open()
            for plugin in self._attached:
                plugin.sync(self.core, resource.core)


class _ClosedKernels(dict[int, Kernel]):
    """Makes calls on a closed session fail without a check on the way of every other call."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self._why = why

    def get(self, *_: Any) -> NoReturn:
        raise SessionClosed(self._why)


def _bits(flags: Any) -> PluginType:
    if not isinstance(flags, int) or not 0 <= flags < 2**32:
        raise InvalidArgument(f"flags: expected PluginType bits, found {flags!r}")
    return PluginType(flags)


def _quietly(release: Any, argument: Any) -> None:
    """Release the rest even where one part fails, for instance on a lost connection."""
    try:
        release(argument)
    except Exception as exc:
        log.debug("%s", exc.message if isinstance(exc, FFIError) else repr(exc))
