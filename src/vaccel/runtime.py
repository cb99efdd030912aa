"""The runtime of a process: configuration, plugins, the rundir, and what must be released."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from vaccel import config as configuration
from vaccel import log, plugin, profiling
from vaccel._version import __version__
from vaccel.config import Config
from vaccel.ending import Ending
from vaccel.error import FFIError, InvalidArgument, PluginError, SessionClosed
from vaccel.handle import Handle
from vaccel.plugin import Plugin
from vaccel.rundir import Rundir, disk_folder


class Runtime:
    """Everything that lives between `bootstrap` and `cleanup`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.profiler = profiling.Profiler("vaccel", enabled=config.profiling_enabled)
        self.plugins: list[Plugin] = []
        self._aside: list[Plugin] = []
        """Started too, but only for sessions that name an endpoint."""
        self.left_out: list[str] = []
        self.session_ids = itertools.count(1)
        self.resource_ids = itertools.count(1)
        self._lock = threading.RLock()  # memory taken under it may end an object, which closes
        self._starting = threading.RLock()
        """Plugins are started one by one, each once; one may start others."""
        self._open: dict[Handle, weakref.ref[Handle]] = {}
        """Cores, and how to learn that the program has dropped their handles."""
        self.dropped: deque[Handle] = deque()
        """Cores whose handles have ended."""
        self._releasing = threading.Lock()
        self._disk: Rundir | None = None
        log.configure(config.log_level, config.log_file)
        log.debug("Initializing vAccel")
        self.rundir = Rundir.create()
        log.debug("Created top-level rundir: %s", self.rundir.path)
        try:
            for name in config.plugin_names:
                if name.endswith(configuration.OPTIONAL):
                    self._try(name.removesuffix(configuration.OPTIONAL))
                else:
                    self.load(name)
        except BaseException:
            self.close()
            raise

    @property
    def disk(self) -> Rundir:
        """As `rundir`, which is often in memory, but on disk: for large files."""
        with self._lock:
            if self._disk is None:
                self._disk = Rundir.create(disk_folder())
            return self._disk

    @property
    def instrumented(self) -> bool:
        """Each call is logged or timed."""
        return self.profiler.enabled or log.debug_enabled()

    def load(self, name: str) -> Plugin:
        """Load the plugin called `name` and register what it implements."""
        loaded, origin = plugin.load(name)
        with plugin.explained(name, "be used"):
            loaded.check()
        return self.add(loaded, origin)

    def _try(self, name: str) -> None:
        """Load an optional plugin if what it needs is installed, which is imported only when it is
        used. Whatever is wrong with the plugin is a warning."""
        try:
            loaded, origin = plugin.load(name)
            reason = loaded.missing()
            if not reason:
                self.add(loaded, origin)
                return
            log.debug("Plugin %s is left out: %s", name, reason)
        except Exception as exc:  # whatever an import or a start raises
            reason = exc.message if isinstance(exc, FFIError) else f"{type(exc).__name__}: {exc}"
            log.warn("plugin %s is left out: %s", name, reason)
        self.left_out.append(f"{name}: {reason}")

    def add(self, loaded: Plugin, origin: str) -> Plugin:
        """Start a plugin, which comes from `origin`, unless it runs already."""
        with self._starting:
            if loaded in self._aside:
                self._aside.remove(loaded)
                self.plugins.append(loaded)
            elif loaded not in self.plugins:
                self._start(loaded, origin, self.plugins)
        return loaded

    def remote(self) -> Plugin:
        """What sessions with an endpoint use: a loaded plugin, or rpc, started for them alone."""
        with self._starting:
            found = next((one for one in self.plugins + self._aside if one.is_remote), None)
            if found is None:
                found, origin = plugin.load("rpc")
                self._start(found, origin, self._aside)
            return found

    def _start(self, loaded: Plugin, origin: str, among: list[Plugin]) -> None:
        self._check_version(loaded)
        log.debug("Registered plugin %s", loaded.name)
        with plugin.explained(loaded.name, "be started"):
            loaded.start(self.config)
        among.append(loaded)
        for op in loaded.operations():
            log.debug("Registered function %s from plugin %s", op.title, loaded.name)
        log.debug("Loaded plugin %s from %s", loaded.name, origin)

    def _check_version(self, loaded: Plugin) -> None:
        """Releases of one major.minor number are compatible."""
        made_for = loaded.vaccel_version
        if not made_for or made_for.split(".")[:2] == __version__.split(".")[:2]:
            return
        text = f"plugin {loaded.name} was made for vaccel {made_for}, this is {__version__}"
        if not self.config.version_ignore:
            raise PluginError(f"{text}; update it, or set VACCEL_VERSION_IGNORE=1 to load it")
        log.warn("%s", text)

    def opened(self, handle: Handle) -> None:
        core, dropped = handle.core, self.dropped
        # An object ends on any thread, at any point, perhaps within a lock: so only a note is made.
        reference = weakref.ref(handle, lambda _: dropped.append(core))
        with self._lock:
            self._open[core] = reference

    def closed(self, handle: Handle) -> None:
        with self._lock:
            self._open.pop(handle, None)

    def release_dropped(self) -> None:
        """Close what the program has dropped; called where it opens, closes or calls something."""
        if not self.dropped or not self._releasing.acquire(blocking=False):
            return
        try:
            while self.dropped:
                _attempt(self.dropped.popleft().drop)
        finally:
            self._releasing.release()

    def disown(self) -> None:
        """In a forked child: let go of everything, release nothing."""
        rundirs = [self.rundir] if self._disk is None else [self.rundir, self._disk]
        owned: list[Any] = [*self._open, *self.plugins, *self._aside, *rundirs]
        for thing in owned:
            thing.disown()

    def close(self) -> None:
        """Release sessions and resources, newest first, then the plugins and the rundir."""
        with self._lock:
            things = list(reversed(self._open))
        for thing in things:
            _attempt(thing.close)
        for line in self.profiler.summary():
            log.info("%s", line)
        log.debug("Shutting down vAccel")
        log.debug("Cleaning up plugins")
        for plugins in (self.plugins, self._aside):
            while plugins:
                loaded = plugins.pop(0)
                _attempt(loaded.close)
                log.debug("Unregistered plugin %s", loaded.name)
        self.remove_files()
        log.release()

    def remove_files(self) -> None:
        """All that is left to do where there is no time for more."""
        self.rundir.remove()
        if self._disk is not None:
            self._disk.remove()


def _attempt(close: Callable[[], None]) -> None:
    """Whatever one plugin raises, the rest is released, and the rundir with it."""
    try:
        close()
    except Exception as exc:
        log.warn("%s", exc.message if isinstance(exc, FFIError) else repr(exc))


_lock = threading.RLock()
_runtime: Runtime | None = None
_closing: Runtime | None = None


def current() -> Runtime:
    """The running runtime; starts one from the environment where there is none."""
    runtime = _runtime
    if runtime is not None:
        if not _ending.handled:
            _ending.arm()
        return runtime
    with _lock:
        if _runtime is None:
            if not configuration.auto_bootstrap():
                raise SessionClosed(
                    "vAccel is not initialised and VACCEL_BOOTSTRAP_ENABLED=0: "
                    "call vaccel.bootstrap() first"
                )
            bootstrap()
        return _running()


def bootstrap(config: Config | None = None) -> None:
    """Start the runtime with `config`, or as the environment says; ends one that runs."""
    global _runtime
    if config is not None and not isinstance(config, Config):
        raise InvalidArgument(f"bootstrap: expected a Config or None, found {config!r:.60}")
    with _lock:
        cleanup()
        _runtime = Runtime(Config.from_env() if config is None else config)
        _ending.arm()


def cleanup() -> None:
    """Release every session, resource, plugin and file. Harmless when nothing runs."""
    global _runtime, _closing
    with _lock:
        # What an interrupt has kept from its end is ended first.
        for runtime in (_closing, _runtime):
            _closing, _runtime = runtime, None if runtime is _runtime else _runtime
            if runtime is not None:
                runtime.close()
        _closing = None


def _running() -> Runtime:
    if _runtime is None:
        raise SessionClosed("vAccel was shut down by another thread")
    return _runtime


def _remove_files() -> None:
    for runtime in (_runtime, _closing):
        if runtime is not None:
            runtime.remove_files()


_ending = Ending(cleanup, _remove_files)


def _forget() -> None:
    """In a forked child: the sessions, sockets and files belong to the parent."""
    global _runtime, _lock
    _lock = threading.RLock()
    runtime, _runtime = _runtime, None
    if runtime is not None:
        runtime.disown()


os.register_at_fork(after_in_child=_forget)
