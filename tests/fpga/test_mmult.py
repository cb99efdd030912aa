"""The matrix kernel's RTL against numpy: what it computes, refuses and leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'vaccel[sim]'")

from tests.fpga.bench import Bench
from tests.fpga.boards import Result
from tests.fpga.mmult_jobs import (
    DEPTH,
    LANES,
    MEMORY,
    ROWS,
    SUM,
    Job,
    alike,
    expected,
    job_of,
    taken,
)
from vaccel.error import InvalidArgument
from vaccel.fpga.model.system import Kind
from vaccel.fpga.registers import CAPABILITY, MMULT, Flags, Status
from vaccel.fpga.rtl import export
from vaccel.fpga.simulator import Simulator

AT_ONCE = 16  # cycles, for a job that is refused
BOTH = [SUM, Flags.ACCUMULATE]
MATRICES = ["in1", "in2", "out"]


@pytest.fixture(scope="module")
def board() -> Iterator[Simulator]:
    board = Simulator(lanes=LANES, memory=MEMORY)
    yield board
    board.close()


@pytest.fixture(scope="module")
def all_memory(board: Simulator) -> Bench:
    return Bench(board, MMULT)


@pytest.fixture
def bench(all_memory: Bench) -> Bench:
    """The kernel as after power-up, and quick memory full of ordinary numbers."""
    all_memory.board.program()
    all_memory.board.set_timing(latency=20, stall=0.0, seed=1)
    numbers = np.random.default_rng(0).standard_normal(len(all_memory.words))
    all_memory.words[:] = numbers.astype(np.float32).view(np.uint32)
    return all_memory


def check(bench: Bench, job: Job) -> Result:
    """Run the job; all of memory must be as it was, but for C."""
    wanted = expected(bench, job)
    outcome = bench.run(job)
    assert outcome[:2] == (Status.OK, 0)
    wrong = np.flatnonzero(~alike(bench.words, wanted))
    assert wrong.size == 0, f"{job}: words {wrong[:8]} of {wrong.size} from {bench.start:#x}"
    return outcome


def random_job(rng: np.random.Generator, bench: Bench, deepest: int = 48) -> Job:
    return job_of(
        bench,
        rows=ROWS * int(rng.integers(1, 4)),
        inner=2 * int(rng.integers(1, deepest // 2 + 1)),
        columns=LANES * int(rng.integers(1, 7)),
        flags=Flags(int(rng.integers(2))),
        gaps=[8 * int(rng.integers(rng.choice([1, 2, 40]))) for _ in range(3)],
        order=rng.permutation(3).tolist(),
        offset=8 * int(rng.integers(16)),
    )


def random_timing(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "latency": int(rng.integers(60)),
        "stall": float(rng.choice([0, 0.1, 0.4, 0.8])),
        "seed": int(rng.integers(1, 2**31)),
    }


@pytest.mark.parametrize("seed", range(8))
def test_random_jobs_are_like_numpy_and_leave_other_words_alone(bench: Bench, seed: int):
    rng = np.random.default_rng(seed)
    for _ in range(12):
        bench.board.set_timing(**random_timing(rng))
        check(bench, random_job(rng, bench))


@pytest.mark.parametrize("flags", BOTH)
def test_any_words_are_like_numpy_and_a_nan_is_always_the_same(bench: Bench, flags: Flags):
    """Few terms for each sum: of many random ones the sum would always be a NaN."""
    rng = np.random.default_rng(int(flags))
    nans: set[int] = set()
    for _ in range(10):
        bench.words[:] = rng.integers(0, 2**32, len(bench.words), np.uint32)
        job = random_job(rng, bench, deepest=4)._replace(flags=flags)
        check(bench, job)
        c = taken(bench.words, bench.places(job.out, job.rows, job.columns, job.stride_out))
        nans.update(c[np.isnan(c)].view(np.uint32).tolist())
    assert nans == {0x7FC00000}


@pytest.mark.parametrize("flags", BOTH)
@pytest.mark.parametrize(("rows", "inner", "columns"), [(64, 2, 4), (16, 512, 8), (32, 510, 4)])
def test_the_least_and_the_deepest_sizes(
    bench: Bench, rows: int, inner: int, columns: int, flags: Flags
):
    bench.board.set_timing(latency=1)
    check(bench, job_of(bench, rows, inner, columns, flags))


def test_sums_that_go_on_are_those_of_one_pass(bench: Bench):
    whole = job_of(bench, 32, 40, 12, gaps=(8, 16, 24))
    check(bench, whole)
    places = bench.places(whole.out, 32, 12, whole.stride_out)
    once = bench.words[places]
    bench.words[places] = 0
    check(bench, whole._replace(inner=14))
    check(
        bench,
        whole._replace(
            inner=26,
            in1=whole.in1 + 4 * 14,
            in2=whole.in2 + whole.stride2 * 14,
            flags=Flags.ACCUMULATE,
        ),
    )
    assert np.array_equal(bench.words[places], once)


def test_sums_start_at_plus_zero_or_exactly_at_c(bench: Bench):
    job = job_of(bench, 16, 2, 16)
    c = bench.places(job.out, 16, 16, job.stride_out)
    starts = np.array([0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000])
    for a, flags in ((0x80000000, SUM), (0x80000000, Flags.ACCUMULATE), (0, Flags.ACCUMULATE)):
        bench.words[:] = 0x3F800000
        bench.words[bench.places(job.in1, 16, 2, job.stride1)] = a
        bench.words[c] = np.concatenate([starts, starts | 0x80000000])
        before = bench.words[c]
        check(bench, job._replace(flags=flags))
        if a and flags:
            assert alike(bench.words[c], before).all(), "adding -0 changes nothing"
        if not flags:
            assert not bench.words[c].any()


def test_a_stride_of_zero_repeats_a_row(bench: Bench):
    job = job_of(bench, 32, 10, 8)
    check(bench, job._replace(stride1=0))
    check(bench, job._replace(stride2=0))


@pytest.mark.parametrize("flags", BOTH)
@pytest.mark.parametrize("offset", range(0, 128, 8))
def test_bursts_are_those_of_the_matrices_cut_where_lines_end(
    bench: Bench, offset: int, flags: Flags
):
    job = job_of(bench, 32, 34, 12, flags, gaps=(8, 40, 120), offset=offset)
    with bench.board.recording() as events:
        check(bench, job)
    reads = [(e.address, e.value) for e in events if e.kind == Kind.READ_BURST]
    writes = [(e.address, e.value) for e in events if e.kind == Kind.WRITE_BURST]
    assert reads == list(job.reads())
    assert writes == list(job.writes())


def test_an_element_works_in_every_cycle_while_a_panel_lasts(bench: Bench):
    rows, inner, columns = 32, 128, 128
    outcome = check(bench, job_of(bench, rows, inner, columns))
    products = rows * inner * columns // LANES
    panels = rows * inner // 2
    edges = 400  # the memory's latency, the units', the last tile
    assert products + panels < outcome.cycles < products + panels + edges


def refusals() -> Iterator[tuple[Status, dict[str, Any]]]:
    """What is wrong with a job, at otherwise good values."""
    for name in ("in1", "in2", "out", "stride1", "stride2", "stride_out"):
        for low_bits in (1, 2, 4):
            yield Status.UNALIGNED, {name: 0x1000_0000 + low_bits}
    for name in ("rows", "inner", "columns"):
        yield Status.EMPTY, {name: 0}
    for size in (1, ROWS - 1, ROWS + 1, ROWS + 8, 0xFFFF_FFFF):
        yield Status.SHAPE, {"rows": size}
    for size in (1, 3, DEPTH + 1, DEPTH + 2, 1 << 31):
        yield Status.SHAPE, {"inner": size}
    for size in (1, LANES - 2, LANES + 2, 0xFFFF_FFFE):
        yield Status.SHAPE, {"columns": size}


@pytest.mark.parametrize("status", {status: None for status, _ in refusals()})
def test_wrong_arguments_end_the_job_at_once_and_touch_no_memory(bench: Bench, status: Status):
    good = job_of(bench, 32, 20, 12)
    before = bench.words.copy()
    for wrong in (wrong for each, wrong in refusals() if each == status):
        with bench.board.recording() as events:
            outcome = bench.run(good._replace(**wrong))
        assert outcome[:2] == (status, 0), wrong
        assert outcome.cycles <= AT_ONCE
        assert {each.kind for each in events}.isdisjoint({Kind.READ_BURST, Kind.WRITE_BURST})
    assert np.array_equal(bench.words, before)
    check(bench, good)


def astray(rng: np.random.Generator, bench: Bench, name: str) -> Job:
    """A job with one matrix across an end of the memory, or all outside; the others amid it."""
    job = random_job(rng, bench)
    if name != "out":
        job = job._replace(flags=SUM)
    places: dict[str, Any] = {each: getattr(job, each) + MEMORY // 2 for each in MATRICES}
    size = {
        "in1": job.stride1 * job.rows,
        "in2": job.stride2 * job.inner,
        "out": job.stride_out * job.rows,
    }[name]
    outside = 8 * int(rng.integers(1, size // 8 + 1))
    places[name] = int(rng.choice([bench.start - outside, bench.end - size + outside]))
    return job._replace(**places)


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("seed", range(4))
def test_a_refused_access_ends_the_job_and_nothing_is_made_of_it(
    bench: Bench, name: str, seed: int
):
    rng = np.random.default_rng(seed)
    ended = set()
    for _ in range(15):
        bench.board.set_timing(**random_timing(rng))
        job = astray(rng, bench, name)
        before, wanted = bench.words.copy(), expected(bench, job)
        refused = [(Status.READ_ERROR, a) for a, n in job.reads() if not bench.holds(a, n)][:1]
        refused += [(Status.WRITE_ERROR, a) for a, n in job.writes() if not bench.holds(a, n)][:1]

        outcome = bench.run(job)
        # All that is outside may be what follows the last row.
        assert outcome[:2] in (refused or [(Status.OK, 0)])
        ended.add(outcome.status)
        made = alike(bench.words, wanted) & ~np.isnan(wanted.view(np.float32))
        assert (made | (bench.words == before)).all()
        check(bench, random_job(rng, bench))
    assert (Status.WRITE_ERROR if name == "out" else Status.READ_ERROR) in ended


@pytest.mark.parametrize(("latency", "stall"), [(0, 0.0), (5, 0.5), (20, 0.0), (60, 0.2)])
def test_the_first_refusal_counts(bench: Bench, latency: int, stall: float):
    nowhere, far = 0xF000_0000, 0xE000_0000
    bench.board.set_timing(latency, stall)
    good = job_of(bench, 32, 40, 12)
    for job, ending in (
        (good._replace(in1=nowhere, in2=far, out=far), (Status.READ_ERROR, nowhere)),
        (good._replace(in2=nowhere, out=far), (Status.READ_ERROR, nowhere)),
        (good._replace(out=nowhere), (Status.WRITE_ERROR, nowhere)),
        (good._replace(out=nowhere, flags=Flags.ACCUMULATE), (Status.READ_ERROR, nowhere)),
    ):
        before = bench.words.copy()
        assert bench.run(job)[:2] == ending
        assert np.array_equal(bench.words, before)
        check(bench, good)


def test_sizes_are_reported(bench: Bench):
    found = bench.read(CAPABILITY.offset)
    assert (found & 0xFF, found >> 8 & 0xFF, found >> 16) == (LANES, ROWS, DEPTH)


@pytest.mark.parametrize(
    "sizes",
    [
        *({"lanes": lanes} for lanes in (0, 2, 6, 64)),
        *({"rows": rows} for rows in (4, 12, 256)),
        *({"depth": depth} for depth in (0, 3, 1 << 16)),
    ],
)
def test_a_unit_that_cannot_be_is_refused(sizes: dict[str, int]):
    ((name, size),) = sizes.items()
    with pytest.raises(InvalidArgument, match=f"{name}: expected .*; found {size}"):
        export.component("mmult", **sizes)


def test_the_element_is_written_once():
    text = export.verilog(export.component("mmult", lanes=4, rows=8, depth=2), "mmult")
    assert text.count("module mmult_element(") == 1
    assert text.count("mmult_element element") == 4
