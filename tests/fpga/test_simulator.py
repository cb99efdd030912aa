"""The simulated board: memory, time, failures and what can be seen of a job."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'vaccel[sim]'")

from tests.fpga.boards import BASE, Result, copy, filled, finish, numbers, simulator, start
from vaccel.error import DeviceError, InvalidArgument
from vaccel.fpga import registers, tools
from vaccel.fpga import simulator as module
from vaccel.fpga.model.system import Event, Kind
from vaccel.fpga.registers import ELEMENTWISE, KERNELS, WINDOW, Operation, Status
from vaccel.fpga.simulator import Simulator

PAGE = 4096


@pytest.fixture
def board() -> Iterator[Simulator]:
    with simulator() as device:
        yield device


# -- registers ----------------------------------------------------------------------------------


def test_programming_gives_each_kernels_base_address(board: Simulator) -> None:
    assert board.program() == {name: kernel.base for name, kernel in KERNELS.items()}
    assert board.read32(BASE + registers.IDENTIFICATION.offset) == ELEMENTWISE.identification


@pytest.mark.parametrize("address", [0, BASE - 4, BASE + 2 * WINDOW, 0xFFFF_FFFC, BASE + 2])
def test_an_address_without_a_register_is_named(board: Simulator, address: int) -> None:
    with pytest.raises(DeviceError, match=f"bus error: .* {address:#010x}"):
        board.read32(address)
    with pytest.raises(DeviceError, match=f"bus error: .* {address:#010x}"):
        board.write32(address, 1)


def test_programming_resets_the_registers_and_keeps_the_buffers(board: Simulator) -> None:
    in1 = BASE + ELEMENTWISE.offset("in1")
    board.write32(in1, 0x1234)
    buffer = filled(board, numbers(100))
    buffer.flush()
    assert board.read32(in1) == 0x1234
    board.program()
    assert board.read32(in1) == 0
    buffer.array[:] = 0
    buffer.invalidate()
    assert buffer.array.view(np.int32).tolist() == numbers(100).tolist()


# -- time ---------------------------------------------------------------------------------------


def run(board: Simulator, length: int = 300) -> Result:
    source, target = filled(board, numbers(length)), board.allocate(4 * length)
    source.flush()
    result = copy(board, source.physical_address, target.physical_address, length)
    target.invalidate()
    assert target.array.view(np.int32).tolist() == numbers(length).tolist()
    return result


def test_latency_and_wait_states_cost_cycles_and_the_same_seed_the_same_ones() -> None:
    def cycles(**options: float) -> int:
        with simulator(**options) as board:
            return run(board).cycles

    assert cycles(latency=0) < cycles(latency=20) < cycles(latency=100)
    some = [cycles(stall=0.3, seed=seed) for seed in (1, 1, 2)]
    assert some[0] == some[1] != some[2]
    assert cycles() < some[0] < cycles(stall=0.7)


def test_timing_can_change_between_jobs(board: Simulator) -> None:
    before = run(board).cycles
    board.set_timing(latency=100)
    assert run(board).cycles > before
    board.set_timing(latency=20)
    board.program()  # or the kernel takes up its turns where it left off
    assert run(board).cycles == before
    with pytest.raises(InvalidArgument, match=r"stall from 0.0 to 1.0, found 20 and 1.5"):
        board.set_timing(stall=1.5)
    with pytest.raises(InvalidArgument, match=r"latency of 0 or more cycles .* found -1"):
        Simulator(latency=-1)


def test_a_job_that_hangs_can_be_given_up_and_the_next_one_is_right(board: Simulator) -> None:
    board.set_timing(stall=1.0)
    start(board, module.BASE, 0, module.BASE, length=100, operation=Operation.COPY)
    before = board.cycles
    assert not board.wait(BASE, 5000)
    assert board.cycles - before == 5000
    board.set_timing(stall=0.0)
    board.program()
    assert run(board).status == Status.OK


def test_an_interrupt_stays_until_it_is_cleared(board: Simulator) -> None:
    buffer = board.allocate(4000)
    address = buffer.physical_address
    start(board, address, 0, address, length=100, operation=Operation.COPY)
    assert not board.wait(BASE, 10)
    assert board.wait(BASE, 10_000)
    assert board.wait(BASE, 1)
    assert finish(board).status == Status.OK
    assert not board.wait(BASE, 100)


def test_signals_are_handled_during_a_long_wait(board: Simulator) -> None:
    def alarm(*_: object) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(InterruptedError):
            board.wait(BASE, 10**15)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert run(board).status == Status.OK


def test_boards_in_one_process_share_nothing() -> None:
    with simulator() as one, simulator(stall=0.2) as other:
        first, second = filled(one, numbers(50, seed=1)), filled(other, numbers(50, seed=2))
        first.flush()
        second.flush()
        address = first.physical_address
        assert address == second.physical_address
        start(one, address, 0, address + 1024, length=50, operation=Operation.COPY)
        cycles = one.cycles
        start(other, address, 0, address + 2048, length=50, operation=Operation.COPY)
        assert finish(other).cycles > finish(one).cycles
        assert one.cycles > cycles
        one.close()
        target = other.allocate(200)
        copy(other, address + 2048, target.physical_address, 50)
        target.invalidate()
        assert target.array.view(np.int32).tolist() == numbers(50, seed=2).tolist()


# -- bus errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("outside", [0, module.BASE - 8, module.BASE + 16 * PAGE, 0xFFFF_F000])
def test_addresses_outside_of_the_memory_are_refused_and_remembered(outside: int) -> None:
    with simulator(memory=16 * PAGE) as board:
        buffer = filled(board, numbers(2 * PAGE))
        buffer.flush()
        inside = buffer.physical_address
        result = copy(board, outside, inside, 2)
        assert (result.status, result.fault) == (Status.READ_ERROR, outside)
        assert copy(board, inside, outside, 2).status == Status.WRITE_ERROR
        assert board.refused() == [("elementwise", outside, False), ("elementwise", outside, True)]
        before = buffer.array.copy()
        buffer.invalidate()
        assert (buffer.array == before).all()
        board.program()
        assert board.refused() == []
        assert run(board, 100).status == Status.OK


# -- events -------------------------------------------------------------------------------------


def events_of(board: Simulator) -> tuple[list[Event], Result, int]:
    buffer = board.allocate(4096)
    address = buffer.physical_address
    with board.recording() as events:
        start(board, address, 0, address + 2048, length=33, operation=Operation.COPY)
        result = finish(board)
    return events, result, address


def test_a_recording_tells_a_jobs_life(board: Simulator) -> None:
    events, result, address = events_of(board)
    assert {event.kernel for event in events} == {"elementwise"}
    assert [event.cycle for event in events] == sorted(event.cycle for event in events)
    at = {event.kind: event for event in events}

    def of(kind: Kind) -> list[tuple[int, int]]:
        return [(event.address, event.value) for event in events if event.kind is kind]

    assert of(Kind.READ_BURST) == [(address, 16), (address + 128, 1)]
    assert of(Kind.READ_LAST) == [(address, 0), (address + 128, 0)]
    assert of(Kind.WRITE_BURST) == [(address + 2048, 16), (address + 2176, 1)]
    assert of(Kind.WRITE_LAST) == [(address + 2048, 16), (address + 2176, 1)]
    assert of(Kind.WRITE_RESPONSE) == [(address + 2048, 0), (address + 2176, 0)]
    assert of(Kind.REGISTER_WRITE)[2] == (0x10, address)
    assert of(Kind.REGISTER_READ)[-1] == (registers.CYCLES.offset, result.cycles)
    once = [Kind.BUSY, Kind.WRITE_RESPONSE, Kind.DONE, Kind.INTERRUPT_UP, Kind.INTERRUPT_DOWN]
    assert [at[kind].cycle for kind in once] == sorted(at[kind].cycle for kind in once)
    assert abs(at[Kind.DONE].cycle - at[Kind.BUSY].cycle - result.cycles) <= 3


def test_nothing_is_recorded_outside_of_the_block(board: Simulator) -> None:
    run(board)
    events, _, _ = events_of(board)
    count = len(events)
    run(board)
    assert len(events) == count
    assert len(events_of(board)[0]) == count


def test_a_recording_goes_on_when_the_board_is_programmed(board: Simulator) -> None:
    with board.recording() as events:
        board.read32(BASE)
        board.program()
        board.read32(BASE)
    assert [event.kind for event in events] == [Kind.REGISTER_READ] * 2
    assert events[0].cycle < events[1].cycle


# -- tools --------------------------------------------------------------------------------------


@pytest.mark.skipif(
    any(tool.missing() for tool in tools.TOOLS.values()), reason="needs Verilator and CXXRTL"
)
def test_verilator_and_cxxrtl_agree_in_each_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    lives = []
    for name in tools.TOOLS:
        monkeypatch.setenv(tools.VARIABLE, name)
        with simulator(stall=0.3) as board:
            assert run(board).status == Status.OK
            assert board.info().overlay.endswith(name)
            lives.append(events_of(board)[0])
    assert lives[0] == lives[1]


def test_changed_sources_are_not_mixed_with_those_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "_digest", lambda: "another")
    with simulator() as board, pytest.raises(DeviceError, match=r"changed since .* start it again"):
        board.read32(BASE)
    assert os.listdir(tmp_path / "vaccel") == []
