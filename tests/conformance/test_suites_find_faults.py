"""The suites see what they are for: each fault of a plugin, or of a transport, is named."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.processes import abstract
from vaccel import testing
from vaccel.error import InvalidArgument, PluginError
from vaccel.ops.catalog import Operations
from vaccel.plugin import Plugin
from vaccel.rpc import transport
from vaccel.session import Session
from vaccel.testing import ConformanceError, check_plugin, check_transport

Kernel = Callable[..., Any]


def plugin_with(method: Callable[..., Any], kernel: Kernel) -> Plugin:
    plugin = Plugin("mine")
    plugin.kernel(method)(kernel)
    return plugin


def add_into_argument(session: Session, a: Any, b: Any) -> Any:
    if a.flags.writeable:
        a += b
    return a + 0


def multiply(a: Any, b: Any) -> Any:
    if writable(a):
        a[...] = a @ b
    return a @ b


def writable(array: Any) -> bool:
    return bool(array.flags.writeable)


_answer = np.zeros(1000, np.float32)


def add_into_one_buffer(session: Session, a: Any, b: Any) -> Any:
    return np.add(a, b, out=_answer[: a.size])


def twice(session: Session, a: Any, b: Any) -> Any:
    total = a + b
    return total, total


def keeps_count(session: Session, a: Any, b: Any) -> Any:
    keeps_count.calls += 1  # type: ignore[attr-defined]
    return a + b + keeps_count.calls  # type: ignore[attr-defined]


keeps_count.calls = 0  # type: ignore[attr-defined]

VADD, PARALLEL, MMULT = Operations.fpga_vadd, Operations.fpga_parallel, Operations.fpga_mmult

FAULTS: dict[str, tuple[Callable[..., Any], Kernel, str]] = {
    "other dtype": (VADD, lambda s, a, b: (a + b).astype("f8"), "fpga_vadd: c: .*float64"),
    "other byte order": (VADD, lambda s, a, b: (a + b).astype(">f4"), "fpga_vadd: c"),
    "a list": (VADD, lambda s, a, b: (a + b).tolist(), "c: expected a float32 array.*found list"),
    "too short": (VADD, lambda s, a, b: (a + b)[:-1], r"c: .*shape \(1,\), found .*shape \(0,\)"),
    "flat": (MMULT, lambda s, a, b: (a @ b).ravel(), r"c: .*shape \(0, 0\), found .*shape \(0,\)"),
    "transposed": (MMULT, lambda s, a, b: (b.T @ a.T).T, "c: expected C-contiguous"),
    "one result of two": (PARALLEL, lambda s, a, b: a + b, "a tuple of 2 results"),
    "overwrites an argument": (MMULT, lambda s, a, b: multiply(a, b), "a: expected an unchanged"),
    "is an argument": (Operations.fpga_arraycopy, lambda s, a: a, "out_a: .*memory of a"),
    "results share memory": (PARALLEL, twice, "add_output: .*memory of mult_output"),
    "calls share memory": (VADD, add_into_one_buffer, "c: .*memory of c of the next call"),
    "changes an argument": (VADD, add_into_argument, "fpga_vadd: a: expected an unchanged arg"),
    "other values": (VADD, lambda s, a, b: a - b, r"fpga_vadd: c: expected .* at \[0\], found"),
    "swapped operands": (MMULT, lambda s, a, b: b @ a, "fpga_mmult: c: expected"),
    "state between calls": (VADD, keeps_count, "fpga_vadd: c: called again"),
    "read-only result": (
        VADD,
        lambda s, a, b: np.frombuffer((a + b).tobytes(), a.dtype),
        "c: expected memory that the caller may change",
    ),
    "a failing kernel": (VADD, lambda s, a, b: 1 // 0, "fpga_vadd: .*ZeroDivisionError"),
    "needs writable arguments": (
        VADD,
        lambda s, a, b: np.add(a, b, out=np.empty_like(a) if writable(a) else a),
        "fpga_vadd: arguments as read-only: ",
    ),
    "a number for a text": (Operations.detect, lambda s, image: 3, "image_name: expected str"),
    "a result where none is declared": (Operations.noop, lambda s: 3, "noop: expected None"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_kernel_is_found(fault: str) -> None:
    method, kernel, message = FAULTS[fault]
    with pytest.raises(ConformanceError, match=message) as caught:
        check_plugin(
            plugin_with(method, kernel), samples={"detect": lambda s: [(b"",)]}, sizes=(0, 1, 2, 7)
        )
    assert str(caught.value).startswith("mine: ")


def test_an_inexact_product_is_found_and_can_be_allowed() -> None:
    def coarse(session: Session, a: Any, b: Any) -> Any:
        return (a.astype(np.float16) @ b.astype(np.float16)).astype(np.float32)

    plugin = plugin_with(MMULT, coarse)
    with pytest.raises(ConformanceError, match="fpga_mmult: c: expected"):
        check_plugin(plugin)
    assert check_plugin(plugin, tolerance=1e-2) == ["fpga_mmult"]


class Hooks(Plugin):
    """Adds vectors; does something to its sessions."""

    def __init__(self) -> None:
        super().__init__("hooks")
        self.kernel(VADD)(self.add)
        self.sessions: list[Session] = []

    def add(self, session: Session, a: Any, b: Any) -> Any:
        return a + b


class KeepsSessions(Hooks):
    def open_session(self, session: Session) -> None:
        self.sessions.append(session)


class LeavesThreads(Hooks):
    def __init__(self) -> None:
        super().__init__()
        self.end = threading.Event()
        self.threads: list[threading.Thread] = []

    def start(self, config: object) -> None:
        self.threads.append(threading.Thread(target=self.end.wait))
        self.threads[-1].start()


class OneSessionAtATime(Hooks):
    """Keeps the operands of a call where the next call overwrites them."""

    def add(self, session: Session, a: Any, b: Any) -> Any:
        self.operands = a, b
        met.wait()
        a, b = self.operands
        return a + b


class _Meeting:
    """Lets two threads stand at the same place, if there are two; else lets pass."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2)

    def wait(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            self._barrier.wait(1)


met = _Meeting()


def test_a_plugin_that_keeps_its_sessions_is_found() -> None:
    with pytest.raises(ConformanceError, match="close_session: expected no reference"):
        check_plugin(KeepsSessions())


def test_a_plugin_that_leaves_threads_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaccel.testing.expect.SETTLE", 0.05)
    plugin = LeavesThreads()
    try:
        with pytest.raises(ConformanceError, match="after cleanup: expected at most"):
            check_plugin(plugin)
    finally:
        plugin.end.set()
        for thread in plugin.threads:
            thread.join()


def test_operands_that_threads_share_are_found() -> None:
    with pytest.raises(
        ConformanceError, match="two threads, a session each: hooks: fpga_vadd: c: called again"
    ):
        check_plugin(OneSessionAtATime(), sizes=(1, 2, 3))


def test_operations_that_are_not_there_are_named() -> None:
    with pytest.raises(ConformanceError, match="cpu: classify: expected a kernel, found none"):
        check_plugin("cpu", operations=["classify"])
    with pytest.raises(InvalidArgument, match="no operation 'add'"):
        check_plugin("cpu", operations=["add"])
    with pytest.raises(PluginError, match="'nonesuch' could not be loaded"):
        check_plugin("nonesuch")


def test_a_transport_that_loses_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    send = transport.send

    def cut(buffer: Any) -> Any:
        content = bytearray(buffer)
        if len(content) > 5000:
            content[-4:] = bytes(4)
        return content

    def lossy(sock: Any, length: int, buffers: Any) -> None:
        send(sock, length, [cut(buffer) for buffer in buffers])

    monkeypatch.setattr(transport, "send", lossy)
    with pytest.raises(ConformanceError, match="a vector add of 8191: expected 8191 times 8190"):
        check_transport(abstract("lossy"), connections=1)


def test_a_transport_that_stays_open_is_found() -> None:
    other = abstract("other")
    from vaccel.agent import Agent

    with Agent(other), pytest.raises(ConformanceError):
        check_transport(abstract("mine"), connect=lambda _: other, connections=1)


def test_strategies_say_how_to_get_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "vaccel.testing.strategies", raising=False)
    monkeypatch.delitem(vars(testing), "strategies", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'vaccel\[testing\]'"):
        _ = testing.strategies
