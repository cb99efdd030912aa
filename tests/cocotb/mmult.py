"""The matrix kernel between models of AXI that are not ours."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.triggers import ClockCycles

from tests.cocotb.bench import CHANNELS, GUARD, Bench
from vaccel.fpga.registers import MMULT, Control, Flags, Status

F32s = npt.NDArray[np.float32]

ADDRESSES = ("in1", "in2", "out")
STRIDES = ("stride1", "stride2", "stride_out")
SIZES = ("rows", "inner", "columns")

LIMIT = {"timeout_time": 3, "timeout_unit": "ms"}


class Matrix:
    """Float32 in memory, rows `stride` bytes apart, and what lies between and around them."""

    def __init__(self, bench: Bench, base: int, values: F32s) -> None:
        rng = bench.rng
        self._bytes = bench.memory.bytes
        self.values = values
        self.row_bytes = 4 * values.shape[1]
        self.address = base + 8 * int(rng.integers(100, 2**24))
        self.stride = self.row_bytes + 8 * int(rng.choice([0, 0, 1, 5, 16]))
        self.before = self._with(values, rng.bytes(2 * GUARD + len(values) * self.stride))
        self._bytes.write(self.address - GUARD, self.before)

    def _with(self, values: F32s, surroundings: bytes) -> bytes:
        room = bytearray(surroundings)
        for row, numbers in enumerate(values):
            start = GUARD + row * self.stride
            room[start : start + self.row_bytes] = numbers.tobytes()
        return bytes(room)

    @property
    def words(self) -> Iterator[int]:
        """Addresses of the 64-bit words that hold elements."""
        for row in range(len(self.values)):
            start = self.address + row * self.stride
            yield from range(start, start + self.row_bytes, 8)

    def holds(self, values: F32s) -> bool:
        """These values, and around them what was there at first."""
        found = self._bytes.read(self.address - GUARD, len(self.before))
        return bool(found == self._with(values, self.before))

    def get(self) -> F32s:
        rows = range(self.address, self.address + len(self.values) * self.stride, self.stride)
        data = b"".join(self._bytes.read(row, self.row_bytes) for row in rows)
        return np.frombuffer(data, np.float32).reshape(self.values.shape)


class Job:
    """A product of random matrices in random places; `sizes` are rows, inner and columns."""

    def __init__(self, bench: Bench, sizes: tuple[int, int, int], flags: int = 0) -> None:
        rows, inner, columns = sizes
        shapes = [(rows, inner), (inner, columns), (rows, columns)]
        self.bench, self.sizes, self.flags = bench, sizes, flags
        self.a, self.b, self.c = (
            Matrix(bench, number << 30, bench.rng.standard_normal(shape).astype(np.float32))
            for number, shape in enumerate(shapes)
        )
        self.result = np.where(flags & Flags.ACCUMULATE, self.c.values, np.float32(0))
        for k in range(inner):
            self.result += self.a.values[:, k : k + 1] * self.b.values[k : k + 1]

    @property
    def arguments(self) -> dict[str, int]:
        matrices = (self.a, self.b, self.c)
        return {
            **dict(zip(ADDRESSES, (each.address for each in matrices), strict=True)),
            **dict(zip(STRIDES, (each.stride for each in matrices), strict=True)),
            **dict(zip(SIZES, self.sizes, strict=True)),
            "flags": self.flags,
        }

    def check(self) -> None:
        """C is right, all else as before; nothing else was read, and each word written once."""
        assert self.c.holds(self.result)
        assert self.a.holds(self.a.values)
        assert self.b.holds(self.b.values)
        monitor = self.bench.monitor
        read = {*self.a.words, *self.b.words, *(self.c.words if self.flags else ())}
        assert {word for burst in monitor.reads for word in burst.span[::8]} == read
        written = [word for burst in monitor.writes for word in burst.span[::8]]
        assert sorted(written) == list(self.c.words)

    def check_failed(self) -> None:
        """What was written is right, nothing but C is touched."""
        found = self.c.get()
        new = np.where(found == self.c.values, self.result, found)
        np.testing.assert_array_equal(new, self.result)
        assert self.c.holds(found)
        assert self.a.holds(self.a.values)
        assert self.b.holds(self.b.values)


class Unit(NamedTuple):
    """The sizes that the kernel was built with."""

    lanes: int
    rows: int
    depth: int

    @classmethod
    async def of(cls, bench: Bench) -> Unit:
        value = await bench.read("capability")
        fields = MMULT.capability.fields
        return cls(*(value >> each.bit & (1 << each.width) - 1 for each in fields))

    def sizes(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """Of a random job, at most two tiles high and four wide."""
        tall, half, wide = (int(rng.integers(1, most + 1)) for most in (2, self.depth // 2, 4))
        return tall * self.rows, 2 * half, wide * self.lanes


@cocotb.test(**LIMIT)
async def products_are_exact_whenever_the_memory_answers(dut: Any) -> None:
    bench = await Bench.ready(dut)
    unit = await Unit.of(bench)
    for share, flags in itertools.product((0, 0.2, 0.5, 0.7), (Flags(0), Flags.ACCUMULATE)):
        bench.pause_memory(share)
        job = Job(bench, unit.sizes(bench.rng), flags)
        assert await bench.run(job.arguments) == Status.OK
        job.check()


@cocotb.test(**LIMIT)
async def the_smallest_and_the_deepest_products(dut: Any) -> None:
    bench = await Bench.ready(dut)
    unit = await Unit.of(bench)
    for inner, flags in itertools.product((2, unit.depth), (Flags(0), Flags.ACCUMULATE)):
        job = Job(bench, (unit.rows, inner, unit.lanes), flags)
        assert await bench.run(job.arguments) == Status.OK
        job.check()


@cocotb.test(**LIMIT)
async def no_channel_waits_for_another_that_hardly_moves(dut: Any) -> None:
    bench = await Bench.ready(dut)
    unit = await Unit.of(bench)
    for slow in CHANNELS:
        bench.pause_memory(0.9, [slow])
        job = Job(bench, (unit.rows, 4, 3 * unit.lanes), Flags.ACCUMULATE)
        assert await bench.run(job.arguments) == Status.OK
        job.check()


@cocotb.test(**LIMIT)
async def wrong_jobs_touch_no_memory(dut: Any) -> None:
    bench = await Bench.ready(dut)
    unit = await Unit.of(bench)
    right = Job(bench, (unit.rows, 4, unit.lanes)).arguments
    wrong = {
        Status.UNALIGNED: [
            {name: right[name] + n} for name in (*ADDRESSES, *STRIDES) for n in (1, 4)
        ],
        Status.EMPTY: [{name: 0} for name in SIZES],
        Status.SHAPE: [
            {"rows": unit.rows + 1},
            {"columns": unit.lanes + 2},
            {"inner": 3},
            {"inner": unit.depth + 2},
            {"inner": 2**16 + 2},
        ],
    }
    for status, changes in wrong.items():
        for change in changes:
            assert await bench.run({**right, **change}) == status, change
            assert (bench.monitor.reads, bench.monitor.writes) == ([], [])
            assert await bench.read("fault") == 0
    assert await bench.run(right) == Status.OK


@cocotb.test(**LIMIT)
async def a_refused_access_ends_the_job_and_not_the_next_one(dut: Any) -> None:
    """SLVERR for one word in each matrix, early or late; what was read wrong is not written."""
    bench = await Bench.ready(dut)
    unit = await Unit.of(bench)
    sizes = (2 * unit.rows, unit.depth, 2 * unit.lanes)
    for name, place, share in itertools.product("abc", (0, 0.5, 1), (0, 0.4)):
        for flags in (Flags(0), Flags.ACCUMULATE) if name == "c" else (Flags(0),):
            bench.pause_memory(share)
            job = Job(bench, sizes, flags)
            words = list(getattr(job, name).words)
            word = words[int(place * (len(words) - 1))]
            bench.memory.refused = range(word, word + 8)
            written = name == "c" and not flags
            status = Status.WRITE_ERROR if written else Status.READ_ERROR
            assert await bench.run(job.arguments) == status
            bursts = bench.monitor.writes if written else bench.monitor.reads
            refused = next(burst for burst in bursts if word in burst.span)
            assert await bench.read("fault") == refused.address
            job.check_failed()
            bench.memory.refused = range(0)
    job = Job(bench, unit.sizes(bench.rng))
    assert await bench.run(job.arguments) == Status.OK
    assert await bench.read("fault") == 0
    job.check()


@cocotb.test(**LIMIT)
async def reset_ends_a_job_and_the_next_one_is_whole(dut: Any) -> None:
    bench = await Bench.ready(dut)
    unit = await Unit.of(bench)
    for cycles in (1, 20, 100, 200):
        bench.pause_memory(0.3)
        await bench.start(Job(bench, (2 * unit.rows, 16, 2 * unit.lanes)).arguments)
        await ClockCycles(dut.clk, cycles)
        await bench.reset()
        assert await bench.read("control") == Control.IDLE
        job = Job(bench, (unit.rows, 2, unit.lanes))
        assert await bench.run(job.arguments) == Status.OK
        job.check()
