"""A plugin whose kernels wait, fail and misbehave on request: `Config(plugins=NAME)`."""

from __future__ import annotations

import builtins
import threading
from typing import Any

import numpy as np

from vaccel import error
from vaccel.error import FFIError, NotFound
from vaccel.ops.args import Arg
from vaccel.ops.catalog import Operations
from vaccel.plugin import Plugin, PluginType
from vaccel.resource import Resource
from vaccel.session import Session

NAME = "tests.agent.kernels"
TIMEOUT = 30.0  # of what a test waits for; a broken test ends, a good one never gets near

plugin = Plugin("kernels", PluginType.CPU | PluginType.SOFTWARE)


class Gate:
    """Where kernels wait until the test lets them pass."""

    def __init__(self) -> None:
        self._waiting = threading.Semaphore(0)
        self._open = threading.Event()
        self.count = 0
        """Kernels that came so far."""

    def wait(self) -> None:
        self.count += 1
        self._waiting.release()
        self._open.wait(TIMEOUT)

    def reached(self, kernels: int = 1) -> None:
        """Wait until that many more kernels stand at the gate."""
        for _ in range(kernels):
            if not self._waiting.acquire(timeout=TIMEOUT):
                raise AssertionError("no kernel came to the gate")

    def open(self) -> None:
        self._open.set()


gate = Gate()


def new_gate() -> Gate:
    global gate
    gate = Gate()
    return gate


@plugin.kernel(Operations.exec)
def execute(session: Session, library: str, symbol: str, read: list[Arg], write: list[Arg]) -> None:
    """`symbol` says what to do; `library` is its argument."""
    _SYMBOLS[symbol](library, session, read, write)


@plugin.kernel(Operations.exec_with_resource)
def execute_with_resource(
    session: Session, resource: Resource, symbol: str, read: list[Arg], write: list[Arg]
) -> None:
    if not resource.registered_with(session):
        raise NotFound(f"resource {resource.id} is not registered with session {session.id}")
    resource.files()
    _SYMBOLS[symbol]("", session, read, write)


def _double(library: str, session: Session, read: list[Arg], write: list[Arg]) -> None:
    for source, target in zip(read, write, strict=True):
        target.store(np.frombuffer(source.view(), np.int32) * 2)


def _wait(library: str, session: Session, read: list[Arg], write: list[Arg]) -> None:
    gate.wait()
    _double(library, session, read, write)


def _raise(library: str, session: Session, read: list[Arg], write: list[Arg]) -> None:
    """Raise the error class named by `library`, or FFIError with the errno that it is."""
    if library.isdigit():
        raise FFIError(int(library), "as you wish")
    cls = getattr(error, library, None) or getattr(builtins, library)
    raise cls("as you wish")


def _session(library: str, session: Session, read: list[Arg], write: list[Arg]) -> None:
    write[0].store(np.int64(session.id).tobytes())


_SYMBOLS: dict[str, Any] = {
    "nothing": lambda *_: None,
    "double": _double,
    "mytestfunc": _double,
    "wait": _wait,
    "raise": _raise,
    "session": _session,
}


@plugin.kernel(Operations.fpga_parallel)
def misbehave(session: Session, a: Any, b: Any) -> Any:
    """What a[0] says: results that no plugin should return."""
    return _MISDEEDS[int(a[0])][0](a)


_MISDEEDS: list[tuple[Any, str]] = [
    (lambda a: None, "results: expected add_output, mult_output, found 0 values"),
    (lambda a: a, "results: expected add_output, mult_output, found 1 values"),
    (lambda a: 5, "results: expected add_output, mult_output, found 1 values"),
    (lambda a: (a, a, a), "results: expected add_output, mult_output, found 3 values"),
    (lambda a: ("text", "text"), "add_output: expected an array or bytes, found str"),
    (lambda a: (a, None), "mult_output: expected an array or bytes, found NoneType"),
    (lambda a: (a, np.zeros(len(a))), r"mult_output: expected float32\[n\], found float64"),
    (lambda a: (a, np.zeros(7, "f4")), r"mult_output: .* of 3 elements, found shape \(7,\)"),
    (lambda a: (a[:1].copy(), a), r"add_output: .* of 3 elements, found shape \(1,\)"),
    (lambda a: (a.tolist(), a.tolist()), ""),
    (lambda a: (np.repeat(a, 2)[::2],) * 2, ""),
    (lambda a: (a.astype(">f4"),) * 2, ""),
    (lambda a: (a + 1, a + 2), ""),
]
MISDEEDS = [message for _, message in _MISDEEDS]
"""What is said of each, as a pattern; "" of those that are put right."""
GOOD = len(_MISDEEDS) - 1
