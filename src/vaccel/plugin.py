"""Plugins: a name, and a kernel for each operation they implement.

A plugin is one module with a `Plugin` object named `plugin`:

    plugin = Plugin("mine", PluginType.CPU)

    @plugin.kernel(Operations.fpga_vadd)
    def fpga_vadd(session, a, b):
        return a + b

A kernel gets the session and the checked values in signature order (arrays: native byte order,
C-contiguous, aligned, perhaps read-only) and returns the outputs, a tuple where there are several.
The inputs belong to the caller: a kernel that keeps one beyond the call must copy it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import IntFlag
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from vaccel.error import FFIError, PluginError
from vaccel.ops.catalog import OPERATIONS
from vaccel.ops.declare import operation_of
from vaccel.ops.spec import Operation

if TYPE_CHECKING:
    from vaccel.config import Config
    from vaccel.resource import Resource
    from vaccel.session import Session

Kernel = Callable[..., Any]
K = TypeVar("K", bound=Kernel)
Direct = Callable[[Sequence[Any]], Any]
"""From a call's arguments, as the program gave them, to its result; NotImplemented for those that
need a check or a conversion."""


class PluginType(IntFlag):
    """What a plugin runs on; as a session's flags, what the session prefers."""

    CPU = 0x1
    GPU = 0x2
    FPGA = 0x4
    SOFTWARE = 0x8
    TENSORFLOW = 0x10
    TORCH = 0x20
    JETSON = 0x40
    GENERIC = 0x80
    DEBUG = 0x100
    REMOTE = 0x4000
    ALL = 0xFFFF


class Plugin:
    """An implementation of some operations. Subclass it where hooks or generic kernels are needed.

    Hooks may be called from several threads at once. `close_session` may be called while a kernel
    of that session still runs: its client has gone, and its result goes nowhere.
    """

    permission = ""
    """What an agent must be given (`--allow`) to serve this plugin to clients: its name; "" is
    nothing."""
    requires: Sequence[str] = ()
    """Top-level modules that it imports when they are first used, as that takes its time."""
    install = ""
    """What to install where they are missing, for pip."""

    def __init__(
        self,
        name: str,
        type: PluginType = PluginType.CPU,
        *,
        summary: str = "",
        vaccel_version: str = "",
    ) -> None:
        """`vaccel_version`: the release of vaccel that the plugin was made for; "" is any."""
        self.name = name
        self.vaccel_version = vaccel_version
        self.type = type
        self.summary = summary
        self._kernels: dict[int, Kernel] = {}

    def __repr__(self) -> str:
        return f"<plugin {self.name}>"

    def kernel(self, method: Callable[..., Any]) -> Callable[[K], K]:
        """Register the decorated function as the kernel of `method`, e.g. Operations.fpga_vadd."""
        op = operation_of(method)

        def register(function: K) -> K:
            self._kernels[op.code] = function
            return function

        return register

    def find(self, op: Operation) -> Kernel | None:
        """The kernel for `op`, called as kernel(session, *values); None if not implemented."""
        return self._kernels.get(op.code)

    def bind(self, op: Operation, session: Session) -> Kernel | None:
        """The kernel for further calls of `op` in `session`, which is open here."""
        return self.find(op)

    def direct(self, op: Operation, session: Session) -> Direct | None:
        """Asked after `bind`: a shorter way for most calls of `op`, if there is one."""
        return None

    def operations(self) -> list[Operation]:
        return [op for op in OPERATIONS.values() if self.find(op)]

    @property
    def is_remote(self) -> bool:
        return bool(self.type & PluginType.REMOTE)

    def missing(self) -> str:
        """Which of `requires` are not installed, and what to do; "" if none. Imports nothing."""
        names = [name for name in self.requires if not _is_installed(name)]
        if not names:
            return ""
        verb = "is" if len(names) == 1 else "are"
        return f"{' and '.join(names)} {verb} not installed; pip install '{self.install}'"

    def check(self) -> None:
        """The plugin was asked for by its name: raise PluginError if it could not work."""

    def start(self, config: Config) -> None:
        """The runtime has loaded the plugin."""

    def close(self) -> None:
        """The runtime shuts down; its sessions are closed already."""

    def disown(self) -> None:
        """In a forked child: let go of connections and devices, which stay with the parent."""

    def open_session(self, session: Session) -> None:
        """`session` begins and may call this plugin."""

    def update_session(self, session: Session) -> None:
        """The flags of `session` have changed."""

    def close_session(self, session: Session) -> None:
        """`session` ends."""

    def make_resources(self, session: Session) -> None:
        """Somebody looks at the resources of `session`: register those that the plugin has only
        promised so far."""

    def register(self, session: Session, resource: Resource) -> None:
        """`resource` becomes usable in `session`."""

    def unregister(self, session: Session, resource: Resource) -> None:
        """`resource` is no longer usable in `session`."""

    def sync(self, session: Session, resource: Resource) -> None:
        """Bring the content of `resource` up to date with what kernels wrote."""


BUILT_IN = {
    "cpu": "vaccel.plugins.cpu:plugin",
    "exec": "vaccel.plugins.exec:plugin",
    "noop": "vaccel.plugins.noop:plugin",
    "onnx": "vaccel.plugins.onnx:plugin",
    "opencv": "vaccel.plugins.opencv:plugin",
    "pynq": "vaccel.plugins.pynq:plugin",
    "rpc": "vaccel.plugins.rpc:plugin",
    "tf": "vaccel.plugins.tf:plugin",
    "tflite": "vaccel.plugins.tflite:plugin",
    "torch": "vaccel.plugins.torch:plugin",
    "vsock": "vaccel.plugins.rpc:vsock",
}
"""As declared in the package metadata, which a source tree that is not installed lacks."""

ENTRY_POINTS = "vaccel.plugins"


def load(text: str) -> tuple[Plugin, str]:
    """The plugin that `text` names, and where it came from.

    `text` is a plugin name, an old shared-object name (`[…/]libvaccel-NAME.so`), a Python file or
    an importable module. Raises PluginError that says why it failed and what is installed.
    """
    try:
        module, attribute = _import(text)
        plugin = getattr(module, attribute, None)
        if not isinstance(plugin, Plugin):
            raise PluginError(f"{module.__name__} has no Plugin object named {attribute!r}")
    except (Exception, SystemExit) as exc:  # whatever an import raises is the reason to report
        raise _failure(text, "be loaded", exc) from exc
    return plugin, getattr(module, "__file__", None) or module.__name__


@contextlib.contextmanager
def explained(name: str, what: str) -> Iterator[None]:
    """Around the code of a plugin: what it raises unawares becomes a PluginError."""
    try:
        yield
    except FFIError:  # that says itself what is wrong
        raise
    except (Exception, SystemExit) as exc:
        raise _failure(name, what, exc) from exc


def _failure(name: str, what: str, exc: BaseException) -> PluginError:
    reason = exc.message if isinstance(exc, FFIError) else f"{type(exc).__name__}: {exc}"
    known = ", ".join(sorted(installed()))
    return PluginError(f"plugin {name!r} could not {what}: {reason}; installed plugins: {known}")


def installed() -> dict[str, str]:
    """Plugin names, with the module and attribute that each stands for."""
    from importlib import metadata  # slow to import, and only needed for what is not built in

    found = {e.name: e.value for e in metadata.entry_points(group=ENTRY_POINTS)}
    return found | BUILT_IN


def _is_installed(module: str) -> bool:
    """A folder of that name in the way is no package, though Python would import it."""
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # it was imported, and made by hand
        return True
    return spec is not None and spec.origin is not None


def _import(text: str) -> tuple[ModuleType, str]:
    old = re.fullmatch(r"(?:.*/)?libvaccel-([A-Za-z0-9_]+)\.so(?:\.\d+)*", text)
    name = old[1] if old else text
    if not old and (name.endswith(".py") or "/" in name):
        return _import_file(Path(name)), "plugin"
    target = BUILT_IN.get(name) or installed().get(name)
    if target is None and (old or ("." not in name and not _is_installed(name))):
        raise PluginError("no plugin of this name is installed")
    module, _, attribute = (target or name).partition(":")
    return importlib.import_module(module), attribute or "plugin"


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise PluginError(f"there is no file {path}")
    name = f"vaccel_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
