"""Jobs for the matrix kernel: what they are to do, burst by burst and word by word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tests.fpga.bench import Bench, Places, Words
from vaccel.fpga.registers import MMULT, Flags

BASE = MMULT.base
LANES, ROWS, DEPTH = 4, 16, 512
MEMORY = 1 << 20
LINE = 128
SUM = Flags(0)

F32s = npt.NDArray[np.float32]


class Job(NamedTuple):
    """Addresses are those of the fabric."""

    in1: int
    in2: int
    out: int
    rows: int
    inner: int
    columns: int
    stride1: int
    stride2: int
    stride_out: int
    flags: Flags = SUM

    def tiles(self) -> Iterator[tuple[int, int]]:
        """First row and column of each, in the order of the kernel."""
        for row in range(0, self.rows, ROWS):
            yield from ((row, column) for column in range(0, self.columns, LANES))

    def reads(self) -> Iterator[tuple[int, int]]:
        """Address and beats of each burst, in the order of the kernel."""
        for row, column in self.tiles():
            tile = self.out + row * self.stride_out + 4 * column
            if column == 0:
                panel = self.in1 + row * self.stride1
                yield from bursts(panel, self.stride1, self.inner, ROWS)
            if self.flags & Flags.ACCUMULATE:
                yield from bursts(tile, self.stride_out, LANES, ROWS)
            yield from bursts(self.in2 + 4 * column, self.stride2, LANES, self.inner)

    def writes(self) -> Iterator[tuple[int, int]]:
        for row, column in self.tiles():
            tile = self.out + row * self.stride_out + 4 * column
            yield from bursts(tile, self.stride_out, LANES, ROWS)


def bursts(address: int, stride: int, words: int, rows: int) -> Iterator[tuple[int, int]]:
    """Rows, each cut where a line of memory ends."""
    for start in range(address, address + max(stride, 1) * rows, stride):
        here, end = start, start + 4 * words
        while here < end:
            stop = min(end, (here // LINE + 1) * LINE)
            yield here, (stop - here) // 8
            here = stop


def taken(words: Words, places: Places) -> F32s:
    """NaN where there is no memory."""
    values: F32s = np.full(places.shape, np.nan, np.float32)
    inside = (places >= 0) & (places < len(words))
    values[inside] = words[places[inside]].view(np.float32)
    return values


def ordered_sums(c: F32s, a: F32s, b: F32s) -> F32s:
    """C + A·B in float32, in ascending order of the inner index."""
    total: F32s = c.copy()
    with np.errstate(all="ignore"):
        for k in range(len(b)):
            total += a[:, k : k + 1] * b[k : k + 1]
    return total


def expected(bench: Bench, job: Job) -> Words:
    """All of memory after the job."""
    after: Words = bench.words.copy()
    out = bench.places(job.out, job.rows, job.columns, job.stride_out)
    c = taken(after, out) if job.flags & Flags.ACCUMULATE else np.zeros(out.shape, np.float32)
    a = taken(after, bench.places(job.in1, job.rows, job.inner, job.stride1))
    b = taken(after, bench.places(job.in2, job.inner, job.columns, job.stride2))
    inside = (out >= 0) & (out < len(after))
    after[out[inside]] = ordered_sums(c, a, b).view(np.uint32)[inside]
    return after


def alike(found: Words, wanted: Words) -> npt.NDArray[np.bool_]:
    """Which words are equal; any NaN is like any other."""
    x, y = found.view(np.float32), wanted.view(np.float32)
    same: npt.NDArray[np.bool_] = (found == wanted) | (np.isnan(x) & np.isnan(y))
    return same


def job_of(
    bench: Bench,
    rows: int,
    inner: int,
    columns: int,
    flags: Flags = SUM,
    gaps: Sequence[int] = (0, 0, 0),
    order: Sequence[int] = (0, 1, 2),
    offset: int = 0,
) -> Job:
    """Matrices one after another in this order, and as many bytes after each row as `gaps` says."""
    strides = [4 * width + gap for width, gap in zip((inner, columns, columns), gaps, strict=True)]
    addresses, address = [0, 0, 0], bench.start + offset
    for i in order:
        addresses[i] = address
        address += strides[i] * (rows, inner, rows)[i]
    assert address <= bench.end
    return Job._make([*addresses, rows, inner, columns, *strides, flags])
