"""The elementwise kernel's RTL against numpy: what it computes, refuses and leaves alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("amaranth", reason="pip install 'vaccel[sim]'")

from tests.fpga.bench import Bench, Words
from tests.fpga.boards import Result
from vaccel.fpga.model.system import Kind
from vaccel.fpga.registers import (
    CONTROL,
    ELEMENTWISE,
    GLOBAL_INTERRUPT,
    INTERRUPT_ENABLE,
    INTERRUPT_STATUS,
    STATUS,
    Control,
    Operation,
    Status,
)
from vaccel.fpga.simulator import Simulator

BASE = ELEMENTWISE.base
MEMORY = 2 << 20
AT_ONCE = 16  # cycles, for a job that is refused
LINE = 128


class Job(NamedTuple):
    """Addresses are those of the fabric."""

    in1: int
    in2: int
    out1: int
    out2: int
    length: int
    operation: int


def job_of(addresses: Sequence[int], length: int, operation: int) -> Job:
    return Job._make([*addresses, length, int(operation)])


@pytest.fixture(scope="module")
def board() -> Iterator[Simulator]:
    board = Simulator(memory=MEMORY)
    yield board
    board.close()


@pytest.fixture(scope="module")
def all_memory(board: Simulator) -> Bench:
    return Bench(board, ELEMENTWISE)


@pytest.fixture
def bench(all_memory: Bench) -> Bench:
    """The kernel as after power-up, and quick memory full of random words."""
    all_memory.board.program()
    all_memory.board.set_timing(latency=20, stall=0.0, seed=1)
    all_memory.words[:] = np.random.default_rng(0).integers(
        0, 2**32, len(all_memory.words), np.uint32
    )
    return all_memory


def results(operation: int, a: Words, b: Words) -> list[Words]:
    """What out1 and out2 hold in the end."""
    x, y = a.view(np.float32), b.view(np.float32)
    with np.errstate(all="ignore"):
        total, product = (x + y).view(np.uint32), (x * y).view(np.uint32)
    return {
        Operation.COPY: [a],
        Operation.ADD: [total],
        Operation.MULTIPLY: [product],
        Operation.ADD_AND_MULTIPLY: [total, product],
    }[Operation(operation)]


def expected(before: Words, bench: Bench, job: Job) -> Words:
    """All of memory after the job."""
    after: Words = before.copy()
    a, b = (before[bench.index(i) :][: job.length] for i in (job.in1, job.in2))
    for out, values in zip((job.out1, job.out2), results(job.operation, a, b), strict=False):
        after[bench.index(out) :][: job.length] = values
    return after


def alike(found: Words, wanted: Words, operation: int) -> npt.NDArray[np.bool_]:
    """Which words are equal; any NaN is like any other, unless it was copied."""
    same: npt.NDArray[np.bool_] = found == wanted
    if operation != Operation.COPY:
        same |= np.isnan(found.view(np.float32)) & np.isnan(wanted.view(np.float32))
    return same


def check(bench: Bench, job: Job) -> Result:
    """Run the job; all of memory must be as it was, but for the results."""
    before = bench.words.copy()
    outcome = bench.run(job)
    assert outcome[:2] == (Status.OK, 0)
    wanted = expected(before, bench, job)
    wrong = np.flatnonzero(~alike(bench.words, wanted, job.operation))
    assert wrong.size == 0, f"{job}: words {wrong[:8]} of {wrong.size} from {bench.start:#x}"
    return outcome


def place(rng: np.random.Generator, start: int, length: int) -> list[int]:
    """Four addresses, multiples of 8, for buffers in any order with no or small gaps."""
    addresses, address = [0] * 4, start + 8 * int(rng.integers(16))
    for i in rng.permutation(4):
        addresses[i] = address
        address += (4 * length + 7) // 8 * 8 + 8 * int(rng.choice([0, 1, 7]))
    return addresses


def random_job(rng: np.random.Generator, bench: Bench, longest: int = 700) -> Job:
    length = int(rng.integers(1, longest))
    return job_of(place(rng, bench.start, length), length, int(rng.integers(4)))


@pytest.mark.parametrize("seed", range(8))
def test_random_jobs_are_like_numpy_and_leave_other_words_alone(bench: Bench, seed: int):
    rng = np.random.default_rng(seed)
    for _ in range(25):
        bench.board.set_timing(
            latency=int(rng.choice([0, 1, 20, 60, 500])),
            stall=float(rng.choice([0, 0.1, 0.4, 0.8])),
            seed=int(rng.integers(1, 2**31)),
        )
        check(bench, random_job(rng, bench))


@pytest.mark.parametrize("operation", Operation)
def test_nothing_is_lost_while_reads_outrun_writes_and_the_other_way_round(
    bench: Bench, operation: Operation
):
    """In long jobs with many wait states each queue becomes full, and empty."""
    bench.board.set_timing(latency=1, stall=0.5, seed=7)
    check(bench, job_of([bench.start + (i << 19) for i in range(4)], 40_000, operation))


@pytest.mark.parametrize("operation", Operation)
def test_a_job_ends_after_the_answer_to_its_last_write(bench: Bench, operation: Operation):
    bench.board.set_timing(latency=500)
    with bench.board.recording() as events:
        check(bench, job_of([bench.start + (i << 14) for i in range(4)], 1000, operation))
    kinds = [each.kind for each in events]
    writes = kinds.count(Kind.WRITE_BURST)
    assert writes >= 1000 // 32
    assert kinds[: kinds.index(Kind.INTERRUPT_UP)].count(Kind.WRITE_RESPONSE) == writes


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("length", [1, 2, 3, 31, 32, 33])
def test_lengths_about_a_beat_and_about_a_burst(bench: Bench, operation: Operation, length: int):
    rng = np.random.default_rng(length)
    for offset in (0, 8, LINE - 8):
        places = [address + offset for address in place(rng, bench.start, length)]
        check(bench, job_of(places, length, operation))


@pytest.mark.parametrize("operation", Operation)
def test_a_result_may_replace_an_operand(bench: Bench, operation: Operation):
    a, b = bench.start + 8, bench.start + 0x1000
    for out1, out2 in ((a, b), (b, a)):
        check(bench, Job(a, b, out1, out2, 501, operation))


SPECIAL = (0x00000000, 0x00000001, 0x007FFFFF, 0x00800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000)
NANS = (0x7F800001, 0x7FC00000, 0x7FFFFFFF)


def test_special_values_meet_each_other_and_a_nan_result_is_always_the_same(bench: Bench):
    values = [word | sign for word in (*SPECIAL, *NANS) for sign in (0, 0x80000000)]
    pairs = np.array([(a, b) for a in values for b in values], np.uint32)
    length = len(pairs)
    addresses = [bench.start + 0x1000 * i for i in range(4)]
    for address, column in zip(addresses, pairs.T, strict=False):
        bench.words[bench.index(address) :][:length] = column
    check(bench, job_of(addresses, length, Operation.ADD_AND_MULTIPLY))
    for out in addresses[2:]:
        found = bench.words[bench.index(out) :][:length]
        nans = found[np.isnan(found.view(np.float32))]
        assert nans.size > 0
        assert set(nans.tolist()) == {0x7FC00000}


@pytest.mark.parametrize(
    ("operation", "limit"),
    [
        (Operation.COPY, 0.6),
        (Operation.ADD, 1.05),
        (Operation.MULTIPLY, 1.05),
        (Operation.ADD_AND_MULTIPLY, 1.2),
    ],
)
def test_cycles_per_element(bench: Bench, operation: Operation, limit: float):
    addresses = [bench.start + (i << 19) for i in range(4)]
    outcome = check(bench, job_of(addresses, 100_000, operation))
    assert outcome.cycles / 100_000 <= limit


@pytest.mark.parametrize("operation", Operation)
def test_each_word_is_read_and_written_once_in_bursts_within_a_line(
    bench: Bench, operation: Operation
):
    job = job_of([bench.start + 0x1000 * i + 8 * (3 * i + 1) for i in range(4)], 333, operation)
    both, binary = operation == Operation.ADD_AND_MULTIPLY, operation != Operation.COPY
    with bench.board.recording() as events:
        bench.run(job)
    moves = {
        Kind.READ_BURST: [job.in1, job.in2] if binary else [job.in1],
        Kind.WRITE_BURST: [job.out1, job.out2] if both else [job.out1],
    }
    for kind, addresses in moves.items():
        bursts = [(each.address, each.value) for each in events if each.kind == kind]
        beats = [address + 8 * i for address, count in bursts for i in range(count)]
        assert sorted(beats) == [start + 8 * i for start in addresses for i in range(167)]
        assert all(address // LINE == (address + 8 * n - 1) // LINE for address, n in bursts)


GOOD = Job(0, 0x1000, 0x2000, 0x3000, 100, Operation.ADD_AND_MULTIPLY)
TOP = 0xFFFF_FFF8  # the last beat of the address space


def refusals() -> Iterator[tuple[Status, Job]]:
    """Addresses are meant from the start of memory, if they are small."""
    for operation in (4, 5, 1 << 31):
        yield Status.OPERATION, GOOD._replace(operation=operation)
    for operation in Operation:
        job = GOOD._replace(operation=operation)
        yield Status.EMPTY, job._replace(length=0)
        for name in used(operation):
            for offset in (1, 2, 4):
                yield Status.UNALIGNED, job._replace(**{name: 0x4000 + offset})
            yield Status.SHAPE, job._replace(**{name: TOP}, length=3)
            yield Status.SHAPE, job._replace(**{name: 0x8000_0000}, length=(1 << 29) + 1)
        for length in ((1 << 30) + 1, (1 << 31) + 8, 0xFFFF_FFFF):
            yield Status.SHAPE, job._replace(length=length)


def used(operation: Operation) -> list[str]:
    also = {Operation.COPY: [], Operation.ADD_AND_MULTIPLY: ["in2", "out2"]}
    return ["in1", "out1", *also.get(operation, ["in2"])]


def moved(job: Job, by: int) -> Job:
    """The small addresses, from `by` on."""
    near = {name: getattr(job, name) for name in ("in1", "in2", "out1", "out2")}
    return job._replace(**{name: v + by for name, v in near.items() if v < 1 << 31})


@pytest.mark.parametrize("status", {status: None for status, _ in refusals()})
def test_wrong_arguments_end_the_job_at_once_and_touch_no_memory(bench: Bench, status: Status):
    before = bench.words.copy()
    for job in (moved(job, bench.start) for each, job in refusals() if each == status):
        with bench.board.recording() as events:
            outcome = bench.run(job)
        assert outcome[:2] == (status, 0), job
        assert outcome.cycles <= AT_ONCE
        assert {each.kind for each in events}.isdisjoint({Kind.READ_BURST, Kind.WRITE_BURST})
    assert np.array_equal(bench.words, before)
    check(bench, moved(GOOD, bench.start))


@pytest.mark.parametrize("operation", Operation)
def test_addresses_that_the_operation_does_not_use_may_be_anything(
    bench: Bench, operation: Operation
):
    unused = {"in2", "out2"}.difference(used(operation))
    job = moved(GOOD._replace(operation=operation), bench.start)
    before = bench.words.copy()
    outcome = bench.run(job._replace(**dict.fromkeys(unused, 0xFFFF_FFFF)))
    assert outcome[:2] == (Status.OK, 0)
    assert alike(bench.words, expected(before, bench, job), operation).all()


def test_a_transfer_may_end_where_addresses_do(bench: Bench):
    job = moved(GOOD, bench.start)._replace(operation=Operation.COPY)
    assert bench.run(job._replace(in1=TOP, length=2))[:2] == (Status.READ_ERROR, TOP)
    assert bench.run(job._replace(in1=0, length=1 << 30, out1=0))[:2] == (Status.READ_ERROR, 0)


TIMINGS = [(0, 0.0), (5, 0.5), (20, 0.0), (60, 0.2)]
OPERANDS = [(each, name) for each in Operation for name in used(each) if name.startswith("in")]
RESULTS = [(each, name) for each in Operation for name in used(each) if name.startswith("out")]


@pytest.mark.parametrize(("latency", "stall"), TIMINGS)
@pytest.mark.parametrize(("operation", "name"), OPERANDS)
def test_a_refused_read_ends_the_job_and_nothing_is_made_of_it(
    bench: Bench, operation: Operation, name: str, latency: int, stall: float
):
    for good in (0, 2, 18, 400):  # words before the end of memory
        bench.board.set_timing(latency, stall, seed=good + 1)
        job = moved(GOOD, bench.start)._replace(operation=operation, length=900)
        job = job._replace(**{name: bench.end - 4 * good})
        before = bench.words.copy()
        assert bench.run(job)[:2] == (Status.READ_ERROR, bench.end)

        wanted = expected(before, bench, job._replace(length=good))
        written = alike(bench.words, wanted, operation)
        assert (written | (bench.words == before)).all()
        check(bench, moved(GOOD, bench.start))


@pytest.mark.parametrize(("latency", "stall"), TIMINGS)
@pytest.mark.parametrize(("operation", "name"), RESULTS)
def test_a_refused_write_ends_the_job_after_all_that_was_granted(
    bench: Bench, operation: Operation, name: str, latency: int, stall: float
):
    for good in (0, 2, 18, 400):
        bench.board.set_timing(latency, stall, seed=good + 1)
        job = moved(GOOD, bench.start)._replace(operation=operation, length=900)
        job = job._replace(**{name: bench.end - 4 * good})
        before = bench.words.copy()
        assert bench.run(job)[:2] == (Status.WRITE_ERROR, bench.end)

        wanted = before.copy()
        a, b = (before[bench.index(i) :][:900] for i in (job.in1, job.in2))
        for out, values in zip((job.out1, job.out2), results(operation, a, b), strict=False):
            fitting = min(900, (bench.end - out) // 4)
            wanted[bench.index(out) :][:fitting] = values[:fitting]
        written = alike(bench.words, wanted, operation)
        assert (written | (bench.words == before)).all()
        assert written[len(written) - good :].all(), "bursts before the refused one count"
        check(bench, moved(GOOD, bench.start))


def test_of_refusals_in_both_directions_the_first_one_counts(bench: Bench):
    nowhere, seen = 0xF000_0000, []
    job = moved(GOOD, bench.start)._replace(operation=Operation.COPY, out1=nowhere)
    for good in range(16, 240, 8):  # words, before a single beat that is refused
        with bench.board.recording() as events:
            status, fault, _ = bench.run(job._replace(in1=bench.end - 4 * good, length=good + 2))
        read = next(
            (each.cycle for each in events if each[2:4] == (Kind.READ_LAST, bench.end)), None
        )
        written = next((each.cycle for each in events if each.kind == Kind.WRITE_RESPONSE), None)
        if written is None or (read is not None and read <= written):
            assert (status, fault) == (Status.READ_ERROR, bench.end), good
        else:
            assert (status, fault) == (Status.WRITE_ERROR, nowhere), good
        seen.append((read is not None, written is not None, status))
    assert {(True, True, Status.READ_ERROR), (True, True, Status.WRITE_ERROR)} <= set(seen)


def test_a_start_and_arguments_for_a_kernel_that_runs_are_ignored(bench: Bench):
    job = moved(GOOD, bench.start)._replace(length=700)
    before = bench.words.copy()
    bench.buffer.flush()
    bench.set_arguments(job)
    bench.write(INTERRUPT_ENABLE.offset, 1)
    bench.write(GLOBAL_INTERRUPT.offset, 1)
    bench.write(CONTROL.offset, Control.START)
    bench.set_arguments(Job(3, 3, 3, 3, 0, 9))
    bench.write(CONTROL.offset, Control.START)
    assert bench.read(CONTROL.offset) == Control.START
    assert bench.board.wait(BASE, 10_000)
    bench.write(INTERRUPT_STATUS.offset, 1)
    assert not bench.board.wait(BASE, 10_000), "there was one job"
    assert bench.read(STATUS.offset) == Status.OK
    bench.buffer.invalidate()
    assert alike(bench.words, expected(before, bench, job), job.operation).all()


def test_interrupts_are_enabled_pending_and_toggled(bench: Bench):
    bench.buffer.flush()
    bench.set_arguments(moved(GOOD, bench.start))

    def run() -> None:
        bench.write(CONTROL.offset, Control.START)
        while not bench.read(CONTROL.offset) & Control.DONE:
            pass

    run()
    assert bench.read(INTERRUPT_STATUS.offset) == 0
    bench.write(INTERRUPT_ENABLE.offset, 1)
    run()
    assert bench.read(INTERRUPT_STATUS.offset) == 1
    assert not bench.board.wait(BASE, 50), "the line is off"
    bench.write(GLOBAL_INTERRUPT.offset, 1)
    for _ in range(2):
        assert bench.board.wait(BASE, 50), "a level stays"
    bench.write(INTERRUPT_STATUS.offset, 1)
    assert not bench.board.wait(BASE, 50)
    bench.write(INTERRUPT_STATUS.offset, 1)
    assert bench.board.wait(BASE, 50), "writing 1 toggles"
