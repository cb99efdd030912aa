"""The elementwise kernel between models of AXI that are not ours."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb.utils import get_sim_time

from tests.cocotb.bench import CHANNELS, PERIOD, Bench, U32s
from vaccel.fpga.registers import ELEMENTWISE, Control, Operation, Status

LIMIT = {"timeout_time": 2, "timeout_unit": "ms"}
LINE = 128
INPUTS = ("in1", "in2")
OUTPUTS = ("out1", "out2")
QUARTERS = {name: number << 30 for number, name in enumerate((*INPUTS, *OUTPUTS))}
"""Where in the 4 GiB of address space each buffer lies."""


class Job:
    """A job on random values; each buffer is anywhere in its quarter, if `at` says nothing else."""

    def __init__(
        self, bench: Bench, operation: Operation, length: int, at: Mapping[str, int] = QUARTERS
    ) -> None:
        rng = bench.rng
        self.bench, self.operation, self.length = bench, operation, length
        if at is QUARTERS:
            at = {name: base + 8 * int(rng.integers(100, 2**24)) for name, base in at.items()}
        self.at = at
        self.span = 8 * ((length + 1) // 2)
        values = [_values(rng, length) for _ in INPUTS]
        self.results = dict(zip(OUTPUTS, _expected(operation, *values), strict=False))
        for name, array in zip(INPUTS, values, strict=True):
            bench.memory.put(at[name], array)
        for name in OUTPUTS:
            bench.memory.fill(at[name], 4 * length)

    @property
    def arguments(self) -> dict[str, int]:
        return {**self.at, "length": self.length, "operation": self.operation}

    def check(self) -> None:
        """The results are there, nothing else is, and each word was moved once."""
        memory, monitor = self.bench.memory, self.bench.monitor
        for name in OUTPUTS:
            assert memory.guards_are_intact(self.at[name], 4 * self.length), name
            if name in self.results:
                found = memory.get(self.at[name], self.length)
                np.testing.assert_array_equal(found, self.results[name])
            else:
                assert memory.is_filled(self.at[name], 4 * self.length), name
        read = INPUTS[: 1 if self.operation == Operation.COPY else 2]
        for bursts, names in ((monitor.reads, read), (monitor.writes, self.results)):
            words = sorted(address for burst in bursts for address in burst.span[::8])
            wanted = (range(self.at[name], self.at[name] + self.span, 8) for name in names)
            assert words == sorted(itertools.chain.from_iterable(wanted))


def _values(rng: np.random.Generator, length: int) -> U32s:
    """Bits of ordinary numbers, and any bits."""
    ordinary = rng.standard_normal(length).astype(np.float32).view(np.uint32)
    arbitrary = rng.integers(2**32, size=length, dtype=np.uint32)
    return np.where(rng.random(length) < 0.5, ordinary, arbitrary)


def _expected(operation: Operation, a: U32s, b: U32s) -> list[U32s]:
    if operation == Operation.COPY:
        return [a]
    with np.errstate(all="ignore"):
        x, y = a.view(np.float32), b.view(np.float32)
        both = [x + y, x * y]
    results = [np.where(np.isnan(each), 0x7FC0_0000, each.view(np.uint32)) for each in both]
    wanted = {Operation.ADD: slice(1), Operation.MULTIPLY: slice(1, 2)}
    return results[wanted.get(operation, slice(2))]


@cocotb.test(**LIMIT)
async def each_operation_is_exact_whenever_the_memory_answers(dut: Any) -> None:
    bench = await Bench.ready(dut)
    for operation, share in itertools.product(Operation, (0, 0.3, 0.6)):
        bench.pause_memory(share)
        job = Job(bench, operation, int(bench.rng.integers(100, 300)))
        assert await bench.run(job.arguments) == Status.OK
        job.check()


@cocotb.test(**LIMIT)
async def all_short_lengths_from_any_place_within_a_line(dut: Any) -> None:
    bench = await Bench.ready(dut)
    bench.pause_memory(0.2)
    for length in range(1, 36):
        job = Job(bench, Operation(length % len(Operation)), length)
        assert await bench.run(job.arguments) == Status.OK
        job.check()


@cocotb.test(**LIMIT)
async def no_channel_waits_for_another_that_hardly_moves(dut: Any) -> None:
    bench = await Bench.ready(dut)
    for slow in CHANNELS:
        bench.pause_memory(0.93, [slow])
        job = Job(bench, Operation.ADD_AND_MULTIPLY, 90)
        assert await bench.run(job.arguments) == Status.OK
        job.check()


@cocotb.test(**LIMIT)
async def buffers_may_be_the_first_and_the_last_of_the_address_space(dut: Any) -> None:
    bench = await Bench.ready(dut)
    names, length = (*INPUTS, *OUTPUTS), 67
    places = (2**32 - 8 * (length // 2 + 1), 0, 2**32 - 1024, 2**31)
    for order in (names, names[::-1]):
        at = dict(zip(order, places, strict=True))
        job = Job(bench, Operation.ADD_AND_MULTIPLY, length, at)
        assert await bench.run(job.arguments) == Status.OK
        job.check()


@cocotb.test(**LIMIT)
async def wrong_jobs_touch_no_memory(dut: Any) -> None:
    bench = await Bench.ready(dut)
    right = Job(bench, Operation.ADD_AND_MULTIPLY, 10).arguments
    wrong = {
        Status.UNALIGNED: [{name: right[name] + n} for name in (*INPUTS, *OUTPUTS) for n in (1, 4)],
        Status.EMPTY: [{"length": 0}],
        Status.OPERATION: [{"operation": n} for n in (4, 7, 2**31)],
    }
    for status, changes in wrong.items():
        for change in changes:
            assert await bench.run({**right, **change}) == status, change
            assert (bench.monitor.reads, bench.monitor.writes) == ([], [])
            assert await bench.read("fault") == 0
    assert await bench.run(right) == Status.OK


@cocotb.test(**LIMIT)
async def a_refused_access_ends_the_job_and_not_the_next_one(dut: Any) -> None:
    """SLVERR for one word at the start, within or at the end of each buffer."""
    bench = await Bench.ready(dut)
    for name, share in itertools.product((*INPUTS, *OUTPUTS), (0, 0.4)):
        for place in (0, 0.5, 1):
            bench.pause_memory(share)
            job = Job(bench, Operation.ADD_AND_MULTIPLY, 150)
            word = job.at[name] + int(place * (job.span // 8 - 1)) * 8
            bench.memory.refused = range(word, word + 8)
            status = await bench.run(job.arguments)
            assert status == (Status.READ_ERROR if name in INPUTS else Status.WRITE_ERROR)
            first = max(job.at[name], word - word % LINE)
            assert await bench.read("fault") == first, name
            for output in OUTPUTS:
                assert bench.memory.guards_are_intact(job.at[output], 4 * job.length)
            bench.memory.refused = range(0)
    job = Job(bench, Operation.ADD, 33)
    assert await bench.run(job.arguments) == Status.OK
    assert await bench.read("fault") == 0
    job.check()


@cocotb.test(**LIMIT)
async def a_running_job_is_not_disturbed(dut: Any) -> None:
    """Neither by a second start, nor by the arguments of the next job, nor by who looks on."""
    bench = await Bench.ready(dut)
    bench.pause_memory(0.5)
    job = Job(bench, Operation.MULTIPLY, 200)
    await bench.start(job.arguments)
    for register in ELEMENTWISE.arguments:
        await bench.write(register.name, 0)
        assert await bench.read("control") == Control.START
    await bench.write("control", Control.START)
    assert await bench.finish() == Status.OK
    job.check()
    await ClockCycles(dut.clk, 50)
    assert await bench.read("control") == Control.IDLE
    assert {name: await bench.read(name) for name in job.arguments} == job.arguments


@cocotb.test(**LIMIT)
async def reset_ends_a_job_and_the_next_one_is_whole(dut: Any) -> None:
    bench = await Bench.ready(dut)
    for cycles in (1, 10, 30, 70, 110):
        bench.pause_memory(0.3)
        await bench.start(Job(bench, Operation.ADD, 300).arguments)
        await ClockCycles(dut.clk, cycles)
        await bench.reset()
        assert await bench.read("control") == Control.IDLE
        job = Job(bench, Operation.ADD, 31)
        assert await bench.run(job.arguments) == Status.OK
        job.check()


@cocotb.test(**LIMIT)
async def cycles_are_those_from_start_to_done(dut: Any) -> None:
    bench = await Bench.ready(dut)
    for length in (1, 100, 301):
        await bench.start(Job(bench, Operation.ADD, length).arguments)
        begin = get_sim_time("ns")
        await RisingEdge(dut.irq)
        passed = (get_sim_time("ns") - begin) / PERIOD
        assert await bench.finish() == Status.OK
        # The start was answered a few cycles after it.
        assert 0 < await bench.read("cycles") - passed < 8
