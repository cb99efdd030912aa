"""The simulated board: memory, time, failures and what can be seen of a job."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("amaranth", reason="pip install 'vaccel[sim]'")

from tests.fpga.boards import BASE, Result, copy, filled, finish, simulator, start
from vaccel.error import DeviceError, InvalidArgument, ResourceExhausted, SessionClosed
from vaccel.fpga import registers, tools
from vaccel.fpga import simulator as module
from vaccel.fpga.memory import Ranges
from vaccel.fpga.model.system import Event, Kind
from vaccel.fpga.registers import ELEMENTWISE, KERNELS, WINDOW, Operation, Status
from vaccel.fpga.simulator import Simulator

PAGE = 4096
I32s = npt.NDArray[np.int32]


@pytest.fixture
def board() -> Iterator[Simulator]:
    with simulator() as device:
        yield device


def numbers(length: int, seed: int = 1) -> I32s:
    return np.random.default_rng(seed).integers(-(2**31), 2**31, length, dtype=np.int32)


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


# -- coherence ----------------------------------------------------------------------------------


def test_the_fabric_reads_what_was_flushed_and_the_processor_what_was_invalidated(
    board: Simulator,
) -> None:
    source, target = filled(board, numbers(100)), board.allocate(400)
    addresses = source.physical_address, target.physical_address
    assert copy(board, *addresses, 100).status == Status.OK
    target.invalidate()
    assert not target.array.any()  # nothing was flushed
    source.flush(200)
    assert copy(board, *addresses, 100).status == Status.OK
    assert not target.array.any()  # nothing was invalidated
    target.invalidate(120)
    found = target.array.view(np.int32)
    assert found.tolist() == [*numbers(100)[:30], *[0] * 70]
    target.invalidate()
    assert found.tolist() == [*numbers(100)[:50], *[0] * 50]


def test_on_a_coherent_board_both_see_the_same_memory() -> None:
    with simulator(coherent=True) as board:
        source, target = filled(board, numbers(100)), board.allocate(400)
        copy(board, source.physical_address, target.physical_address, 100)
        assert target.array.view(np.int32).tolist() == numbers(100).tolist()
        target.invalidate()
        source.flush()
        assert target.array.view(np.int32).tolist() == numbers(100).tolist()


# -- memory -------------------------------------------------------------------------------------


def test_buffers_start_at_pages_and_do_not_overlap(board: Simulator) -> None:
    buffers = [board.allocate(nbytes) for nbytes in (0, 1, PAGE, PAGE + 1, 3)]
    starts = [buffer.physical_address - module.BASE for buffer in buffers]
    assert starts == [0, PAGE, 2 * PAGE, 3 * PAGE, 5 * PAGE]
    assert [len(buffer.array) for buffer in buffers] == [0, 1, PAGE, PAGE + 1, 3]
    assert all(buffer.array.ctypes.data % PAGE == 0 for buffer in buffers)
    assert board.info().memory - board.info().memory_free == 6 * PAGE


def test_too_little_memory_tells_what_was_asked_and_what_is_free() -> None:
    with simulator(memory=4 * PAGE) as board:
        kept = [board.allocate(PAGE) for _ in range(4)]
        for buffer in kept[::2]:
            buffer.free()
        with pytest.raises(
            ResourceExhausted, match=r"no 4097 bytes .* 8192 of 16384 are free, .* piece has 4096"
        ):
            board.allocate(PAGE + 1)
        kept[1].free()
        assert board.allocate(3 * PAGE).physical_address == module.BASE


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20)), max_size=60))
def test_ranges_never_overlap_and_join_again(steps: list[tuple[bool, int]]) -> None:
    ranges, taken = Ranges(1000, 64), dict[int, int]()
    for takes, size in steps:
        if not takes and taken:
            address = sorted(taken)[size % len(taken)]
            ranges.give_back(address, taken.pop(address))
        elif (found := ranges.take(size)) is not None:
            others = (range(at, at + length) for at, length in taken.items())
            assert not any(set(range(found, found + size)) & set(other) for other in others)
            assert 1000 <= found <= 1064 - size
            taken[found] = size
        else:
            assert size > ranges.largest
        assert ranges.free == 64 - sum(taken.values())
    for address, size in taken.items():
        ranges.give_back(address, size)
    assert ranges.largest == 64


def test_memory_that_is_not_touched_takes_no_room() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE

    with simulator(memory=1 << 30) as board:
        before = resident()
        buffers = [board.allocate(100 << 20) for _ in range(10)]
        buffers[9].flush(PAGE)
        assert resident() - before < 50 << 20


@pytest.mark.parametrize("memory", [0, -PAGE, PAGE + 1])
def test_memory_that_is_no_multiple_of_a_page_is_refused(memory: int) -> None:
    with pytest.raises(InvalidArgument, match=f"multiple of {PAGE} bytes, found {memory}"):
        Simulator(memory=memory)


def test_what_is_used_after_its_end_says_so() -> None:
    board = Simulator(coherent=True)
    buffer, freed = board.allocate(10), board.allocate(10)
    array = buffer.array
    freed.free()
    freed.free()
    with pytest.raises(SessionClosed, match="buffer was freed"):
        freed.flush()
    board.read32(BASE)
    board.close()
    board.close()
    buffer.free()
    array[:] = 1  # what still shows the memory keeps it
    for use in (
        lambda: buffer.array,
        lambda: buffer.physical_address,
        buffer.flush,
        buffer.invalidate,
        board.program,
        board.info,
        lambda: board.allocate(1),
        lambda: board.read32(BASE),
        lambda: board.wait(BASE, 1),
    ):
        with pytest.raises(SessionClosed):
            use()


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
