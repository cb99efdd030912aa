"""The plugin, over the kernels' RTL: what sessions and agents rely on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vaccel
from tests.fpga.devices import Through, Waits, built
from tests.fpga.lines import arrive
from tests.fpga.reference import bits, matrices, ordered_product, vectors
from vaccel import Config, Session, runtime
from vaccel.cli import main
from vaccel.error import DeadlineExceeded, DeviceError, FFIError, PluginError, SessionClosed
from vaccel.fpga import boards
from vaccel.fpga.registers import ELEMENTWISE
from vaccel.fpga.simulator import Simulator
from vaccel.ops.catalog import Operations
from vaccel.plugin import Plugin, PluginType, load
from vaccel.plugins import cpu
from vaccel.plugins.pynq import PynqPlugin
from vaccel.testing import check_plugin

OPERATIONS = ["fpga_arraycopy", "fpga_vadd", "fpga_parallel", "fpga_mmult"]
LANES = 4
OLD_NAME = "/usr/local/lib/arm-linux-gnueabihf/libvaccel-pynq.so"


ready = pytest.fixture(built, scope="module")


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(lanes=LANES)


@pytest.fixture
def device(simulator: Simulator) -> Waits:
    """The plugin's; closed with it."""
    return Waits(simulator)


@pytest.fixture
def plugin(device: Waits) -> Iterator[PynqPlugin]:
    vaccel.bootstrap(Config(plugins=""))
    plugin = PynqPlugin(lambda: device)
    runtime.current().add(plugin, "the test")
    yield plugin
    vaccel.cleanup()


def reference() -> Plugin:
    """cpu, but matrix products with the sums in the kernel's order."""
    plugin = Plugin("reference")
    plugin.kernel(Operations.fpga_arraycopy)(cpu.fpga_arraycopy)
    plugin.kernel(Operations.fpga_parallel)(cpu.fpga_parallel)
    plugin.kernel(Operations.fpga_vadd)(cpu.fpga_vadd)
    plugin.kernel(Operations.fpga_mmult)(lambda session, a, b: ordered_product(a, b))
    return plugin


def test_it_keeps_what_is_asked_of_every_plugin_bit_for_bit() -> None:
    plugin = PynqPlugin(lambda: Simulator(lanes=LANES))
    sizes = (0, 1, 2, 3, 7, 21)
    assert check_plugin(plugin, oracle=reference(), tolerance=0, sizes=sizes) == OPERATIONS


def test_its_matrix_products_are_those_of_the_cpu_within_rounding() -> None:
    plugin = PynqPlugin(lambda: Simulator(lanes=LANES))
    check_plugin(plugin, operations=["fpga_mmult"], sizes=(5, 33))


@pytest.mark.parametrize("name", ["pynq", "libvaccel-pynq.so", OLD_NAME])
def test_it_is_found_by_its_names(name: str) -> None:
    plugin, origin = load(name)
    assert (plugin.name, plugin.type) == ("fpga_functions", PluginType.FPGA)
    assert [op.name for op in plugin.operations()] == OPERATIONS
    assert origin.endswith("pynq.py")


# -- the choice of a device --------------------------------------------------------------------


def machine(monkeypatch: pytest.MonkeyPatch, path: Path, *compatible: str) -> None:
    path.write_bytes(b"".join(name.encode() + b"\0" for name in compatible))
    monkeypatch.setattr(boards, "COMPATIBLE", path)


def test_elsewhere_than_on_a_board_the_device_is_to_be_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(monkeypatch, tmp_path / "compatible", "linux,dummy-virt")
    with pytest.raises(PluginError, match=r"no PYNQ board.*VACCEL_PYNQ_DEVICE=sim.*vaccel\[sim\]"):
        vaccel.bootstrap(Config(plugins="pynq"))
    monkeypatch.setattr(boards, "COMPATIBLE", tmp_path / "missing")
    with pytest.raises(DeviceError, match="VACCEL_PYNQ_DEVICE=board"):
        boards.choose()


def test_a_board_is_known_by_its_chip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, tmp_path / "compatible", "digilent,zynq-pynqz1", "xlnx,zynq-7000")
    assert boards.choose() == "board"
    monkeypatch.setenv("VACCEL_PYNQ_DEVICE", "sim")
    assert boards.choose() == "sim"
    assert boards.choose("board") == "board"


@pytest.mark.parametrize("name", ["zynq", "SIM", "board "])
def test_a_device_that_does_not_exist_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("VACCEL_PYNQ_DEVICE", name)
    with pytest.raises(PluginError, match=f"expected board or sim, found '{name}'"):
        vaccel.bootstrap(Config(plugins="pynq"))


def test_a_board_that_is_asked_for_is_never_simulated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VACCEL_PYNQ_DEVICE", "board")
    monkeypatch.setenv("VACCEL_PYNQ_BITSTREAM", str(tmp_path / "vaccel.bit"))
    with pytest.raises(PluginError, match=r"vaccel\.bit"):
        vaccel.bootstrap(Config(plugins="pynq"))


def test_a_simulation_that_cannot_be_built_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VACCEL_PYNQ_DEVICE", "sim")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PluginError, match=r"g\+\+ \(apt install g\+\+\)"):
        vaccel.bootstrap(Config(plugins="pynq"))


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ({}, "set VACCEL_PYNQ_DEVICE=sim"),
        ({"VACCEL_PYNQ_DEVICE": "simulator"}, "expected board or sim, found 'simulator'"),
        ({"VACCEL_PYNQ_DEVICE": "board"}, "vaccel fpga build"),
        ({"VACCEL_PYNQ_DEVICE": "board", "VACCEL_PYNQ_BITSTREAM": "a.bit"}, "vaccel[pynq]"),
        ({"VACCEL_PYNQ_DEVICE": "sim", "PATH": ""}, "apt install g++"),
        ({"VACCEL_PYNQ_DEVICE": "sim", "VACCEL_PYNQ_SIMULATOR": "icarus"}, "verilator, cxxrtl"),
    ],
)
def test_doctor_says_why_it_would_not_work_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    setting: dict[str, str],
    remedy: str,
) -> None:
    machine(monkeypatch, tmp_path / "compatible", "linux,dummy-virt")
    monkeypatch.chdir(tmp_path)
    for name in ("a.bit", "a.hwh"):
        Path(name).write_bytes(b"")
    with monkeypatch.context() as patch:
        for name, value in {"VACCEL_PLUGINS": "pynq", **setting}.items():
            patch.setenv(name, value)
        code = main.main(["doctor"])
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("plugin    "))
    assert code == 1
    assert line.startswith("plugin    pynq: FAILED: ")
    assert remedy in line


def test_doctor_finds_nothing_wrong_where_it_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("VACCEL_PLUGINS", "pynq")
        patch.setenv("VACCEL_PYNQ_DEVICE", "sim")
        assert main.main(["doctor"]) == 0
    assert "plugin    pynq: works (fpga_arraycopy" in capsys.readouterr().out


# -- sessions ----------------------------------------------------------------------------------


def in_the_middle(device: Waits) -> tuple[threading.Event, threading.Event]:
    """The next call stops, with its kernel running; it sets the first event, awaits the second."""
    reached, go = threading.Event(), threading.Event()

    def stop() -> bool:
        reached.set()
        go.wait(60)
        return device.wait(ELEMENTWISE.base, 10_000_000)

    device.instead = stop
    return reached, go


def test_calls_are_served_in_the_order_in_which_they_arrive(
    plugin: PynqPlugin, device: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    register = ELEMENTWISE.base + ELEMENTWISE.offset("length")

    def write32(address: int, value: int) -> None:
        if address == register:
            lengths.append(value)
        Through.write32(device, address, value)

    monkeypatch.setattr(device, "write32", write32)
    results: dict[int, bool] = {}

    def call(session: Session, length: int) -> None:
        a, b = vectors(length)
        results[length] = bits(session.fpga_vadd(a, b)) == bits(a + b)

    reached, go = in_the_middle(device)
    with Session() as one, Session() as two:
        first = threading.Thread(target=call, args=(one, 100))
        first.start()
        assert reached.wait(60)
        expected = [40, 7, 90, 3, 60, 5]
        rest = arrive(
            plugin._turns,
            *(lambda n=n: call((one, two)[n % 2], n) for n in expected),
        )
        go.set()
        for thread in (first, *rest):
            thread.join()
    assert lengths == [100, *expected]
    assert results == dict.fromkeys(lengths, True)


def test_a_session_can_be_closed_while_its_kernel_runs(plugin: PynqPlugin, device: Waits) -> None:
    free = device.info().memory_free
    errors: list[BaseException] = []
    a, b = vectors(1_000_000)
    one, two = Session(), Session()

    def call(session: Session) -> None:
        try:
            session.fpga_vadd(a, b)
        except SessionClosed as exc:
            errors.append(exc)

    reached, go = in_the_middle(device)
    running = threading.Thread(target=call, args=(one,))
    running.start()
    assert reached.wait(60)
    (waiting,) = arrive(plugin._turns, lambda: call(two))
    for session in (one, two):
        session.close()  # does not wait for the kernel
    go.set()
    for thread in (running, waiting):
        thread.join()
    during, before = (str(error) for error in errors)
    assert during == "the session was closed during the call"
    assert before == f"session {two.id} was closed before its call began"
    assert (device.info().memory_free, device.programmed) == (free, 1)
    with Session() as session:
        assert session.fpga_vadd([1.0], [2.0]) == [3.0]


def test_closing_stops_a_long_job_and_its_call_fails(
    plugin: PynqPlugin, simulator: Simulator, device: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session()
    simulator.set_timing(stall=1.0)
    reached = threading.Event()

    def wait(base: int, cycles: int, ended: Callable[[], bool]) -> bool:
        reached.set()
        return simulator.wait(base, 1000 * cycles, ended)  # for minutes

    monkeypatch.setattr(device, "wait", wait)
    errors: list[str] = []

    def call() -> None:
        try:
            session.fpga_vadd([1.0], [2.0])
        except FFIError as exc:
            errors.append(exc.message)

    thread = threading.Thread(target=call)
    thread.start()
    assert reached.wait(60)
    vaccel.cleanup()
    thread.join()
    assert errors == ["the session was closed during the call"]


def test_what_a_session_held_is_free_when_it_is_closed(plugin: PynqPlugin, device: Waits) -> None:
    free = device.info().memory_free
    with Session() as session:
        session.fpga_mmult(*matrices(5))
        session.fpga_parallel(*vectors(5))
        assert device.info().memory_free < free
    assert device.info().memory_free == free


def test_a_kernel_that_hangs_is_reported_and_the_next_call_right(
    plugin: PynqPlugin, simulator: Simulator, device: Waits
) -> None:
    with Session() as session:
        simulator.set_timing(stall=1.0)
        with pytest.raises(DeadlineExceeded, match="elementwise kernel did not finish ADD of 5"):
            session.fpga_vadd(*vectors(5))
        simulator.set_timing(stall=0.0)
        a, b = vectors(5)
        assert bits(session.fpga_vadd(a, b)) == bits(a + b)
    assert device.programmed == 2


FORKING = """
import os
import numpy as np
import vaccel
from vaccel import Session

session = Session()
assert session.fpga_vadd([1.0], [2.0]) == [3.0]
pid = os.fork()
if not pid:
    with Session() as own:
        assert own.fpga_vadd([3.0], [4.0]) == [7.0]
    vaccel.cleanup()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
a = np.arange(5000, dtype=np.float32)
assert (session.fpga_vadd(a, a) == a + a).all()
"""


@pytest.mark.subprocess
@pytest.mark.usefixtures("ready")
def test_a_forked_child_has_a_device_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING],
        env={**os.environ, "VACCEL_PLUGINS": "pynq", "VACCEL_PYNQ_DEVICE": "sim"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- what it prints ----------------------------------------------------------------------------


def printed(path: Path, **settings: Any) -> list[str]:
    """The log of one call of each operation."""
    vaccel.bootstrap(Config(plugins="", log_file=str(path), log_level=4, **settings))
    runtime.current().add(PynqPlugin(lambda: Simulator(lanes=LANES)), "the test")
    with Session() as session:
        session.fpga_vadd([1.0], [2.0])
        session.fpga_arraycopy([1, 2])
        session.fpga_parallel([1.0], [2.0])
        session.fpga_mmult(*matrices(3))
        if settings:
            assert runtime.current().profiler.regions().keys() >= {
                "[fpga_vadd] elementwise kernel (estimate)",
                "[fpga_mmult] mmult kernel (estimate)",
            }
    vaccel.cleanup()
    return path.read_text().splitlines()


def test_each_call_is_announced_and_nothing_more(tmp_path: Path) -> None:
    lines = [line for line in printed(tmp_path / "log") if "<debug>" not in line]
    assert lines == [
        "Calling Vector Add function (FPGA) 1",
        "Calling Array copy function (FPGA) 1",
        "Calling Parallel acceleration function (FPGA) 1",
        "Calling Matrix multiplication function (FPGA) 1",
    ]


def test_profiling_reports_the_cycles_of_each_call_and_their_time(tmp_path: Path) -> None:
    lines = printed(tmp_path / "log", profiling_enabled=True)
    (line,) = (line for line in lines if "[prof] fpga_vadd: elementwise kernel: " in line)
    words = line.partition("kernel: ")[2].split()
    cycles, microseconds = int(words[0]), float(words[5])
    assert words[1:5] == ["cycles", "in", "1", "job,"]
    assert words[6:] == ["us", "at", "100", "MHz", "(estimate)"]
    assert 10 < cycles < 1000
    assert microseconds == pytest.approx(cycles / 100)
