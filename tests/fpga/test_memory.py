"""The simulated board's memory: what is handed out, and who sees what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("amaranth", reason="pip install 'vaccel[sim]'")

from tests.fpga.boards import BASE, copy, filled, numbers, simulator
from vaccel.error import InvalidArgument, ResourceExhausted, SessionClosed
from vaccel.fpga import simulator as module
from vaccel.fpga.memory import Ranges
from vaccel.fpga.registers import Status
from vaccel.fpga.simulator import Simulator

PAGE = 4096


@pytest.fixture
def board() -> Iterator[Simulator]:
    with simulator() as device:
        yield device


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
