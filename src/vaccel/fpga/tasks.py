"""Calls, split into jobs that fit the kernels and the device's memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vaccel.fpga.device import Buffer
from vaccel.fpga.fabric import Job
from vaccel.fpga.registers import ELEMENTWISE, MMULT, Flags, Kernel, Operation

F32s = npt.NDArray[np.float32]

ITEM = 4
"""Bytes of an element, float32 or int32."""
PIECE = 1 << 18
"""Elements in the longest piece of a vector: 1 MiB for each buffer."""
LEAST_PIECE = 1 << 10
LONGEST = 2_000_000
"""Cycles that a job of the matrix kernel should take at most, 20 ms at 100 MHz: on the
board a job is not stopped for a session that has ended."""


class Task(Protocol):
    """One call. Its `extent`, the size of its pieces, is chosen so that their buffers fit."""

    kernel: Kernel
    most: int
    least: int

    def sizes(self, extent: int) -> list[int]:
        """Bytes of the buffers that `jobs` needs."""

    def jobs(self, extent: int, buffers: Sequence[Buffer]) -> Iterator[Job]: ...


class ElementwiseTask:
    """Vectors in pieces of `extent` elements."""

    kernel = ELEMENTWISE

    def __init__(self, operation: Operation, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        self._operation, self._inputs, self._outputs = operation, inputs, outputs
        self._length = len(inputs[0])
        self.most = min(self._length, PIECE)
        self.least = min(self._length, LEAST_PIECE)

    def sizes(self, extent: int) -> list[int]:
        vectors = len(self._inputs) + len(self._outputs)
        return [extent * ITEM] * vectors * _sets(self._length > extent)

    def jobs(self, extent: int, buffers: Sequence[Buffer]) -> Iterator[Job]:
        sets = _split(buffers, len(self._inputs) + len(self._outputs))
        for start in range(0, self._length, extent):
            piece = slice(start, start + extent)
            yield _Piece(
                self._operation,
                [array[piece] for array in self._inputs],
                [array[piece] for array in self._outputs],
                next(sets),
            )


@dataclass(frozen=True)
class _Piece:
    operation: Operation
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    buffers: Sequence[Buffer]

    def __str__(self) -> str:
        return f"{self.operation.name} of {len(self.inputs[0])} elements"

    @property
    def cycles(self) -> int:
        return len(self.inputs[0])

    @property
    def arguments(self) -> Mapping[str, int]:
        count = len(self.inputs)
        addresses = [buffer.physical_address for buffer in self.buffers]
        ins, outs = [*addresses[:count], 0], [*addresses[count:], 0]
        return {
            "in1": ins[0],
            "in2": ins[1],
            "out1": outs[0],
            "out2": outs[1],
            "length": len(self.inputs[0]),
            "operation": self.operation,
        }

    def load(self) -> int:
        for array, buffer in zip(self.inputs, self.buffers, strict=False):
            _over(buffer, array.shape, array.dtype)[...] = array
            buffer.flush(array.nbytes)
        return sum(array.nbytes for array in self.inputs)

    def unload(self) -> int:
        for array, buffer in zip(self.outputs, self.buffers[len(self.inputs) :], strict=True):
            buffer.invalidate(array.nbytes)
            array[...] = _over(buffer, array.shape, array.dtype)
        return sum(array.nbytes for array in self.outputs)


class MatrixTask:
    """A square product C = A·B, by blocks of C of `extent` rows and columns.

    A block stays in device memory while the kernel adds to it, one stretch of the inner dimension
    after the other, in ascending order; a stretch is worked through in bands of rows. The kernel
    wants sizes that are multiples of its own: what is missing is filled with zeros, and a sum that
    starts at +0 does not change by adding them.
    """

    kernel = MMULT

    def __init__(self, a: F32s, b: F32s, c: F32s, *, rows: int, lanes: int, depth: int) -> None:
        """rows, lanes, depth: of the kernel."""
        self._a, self._b, self._c = a, b, c
        self._rows, self._lanes = rows, lanes
        self._size = len(a)
        self._depth = min(depth, self._size)
        self.most = self._size
        self.least = min(self._size, max(rows, lanes))

    def sizes(self, extent: int) -> list[int]:
        rows, inner, columns = self._padded(extent, self._depth, extent)
        more = self._size > min(extent, self._depth)
        return [rows * columns * ITEM, *[rows * inner * ITEM, inner * columns * ITEM] * _sets(more)]

    def jobs(self, extent: int, buffers: Sequence[Buffer]) -> Iterator[Job]:
        result, sets = buffers[0], _split(buffers[1:], 2)
        places = range(0, self._size, extent)
        for i, j in itertools.product(places, places):
            c = self._c[i : i + extent, j : j + extent]
            for k in range(0, self._size, self._depth):
                stretch = slice(k, k + self._depth)
                a, b = self._a[i : i + extent, stretch], self._b[stretch, j : j + extent]
                sizes = self._padded(len(a), len(b), b.shape[1])
                flags = Flags.ACCUMULATE if k else Flags(0)
                lent = (*next(sets), result)
                last = k + self._depth >= self._size
                band = self._band(sizes)
                for top in range(0, sizes[0], band):
                    rows = range(top, min(top + band, sizes[0]))
                    output = c if last and rows.stop == sizes[0] else None
                    yield _Band((a, b), output, sizes, rows, flags, self._lanes, lent)

    def _band(self, sizes: tuple[int, int, int]) -> int:
        """Rows that a job has at most."""
        _, inner, columns = sizes
        rows = LONGEST * self._lanes // (inner * columns)
        return max(rows - rows % self._rows, self._rows)

    def _padded(self, rows: int, inner: int, columns: int) -> tuple[int, int, int]:
        return _up(rows, self._rows), _up(inner, 2), _up(columns, self._lanes)


@dataclass(frozen=True)
class _Band:
    """Some rows of a block. The first one loads the block, the last one unloads it."""

    inputs: tuple[F32s, F32s]
    output: F32s | None
    """None: more rows, or sums, come in the next job."""
    sizes: tuple[int, int, int]
    """Of the block, padded: rows, inner, columns."""
    rows: range
    flags: Flags
    lanes: int
    buffers: Sequence[Buffer]

    def __str__(self) -> str:
        (height, inner), (_, columns) = (array.shape for array in self.inputs)
        rows = min(self.rows.stop, height) - self.rows.start
        return f"a product of {rows} by {inner} and {inner} by {columns} elements"

    @property
    def cycles(self) -> int:
        _, inner, columns = self.sizes
        rows = len(self.rows)
        # Each block of A is read once, and B again for each; C perhaps read, and written.
        words = (rows * inner + rows * inner * columns // self.lanes + 2 * rows * columns) // 2
        return rows * inner * columns // self.lanes + words

    @property
    def arguments(self) -> Mapping[str, int]:
        _, inner, columns = self.sizes
        in1, in2, out = (buffer.physical_address for buffer in self.buffers)
        return {
            "in1": in1 + self.rows.start * inner * ITEM,
            "in2": in2,
            "out": out + self.rows.start * columns * ITEM,
            "rows": len(self.rows),
            "inner": inner,
            "columns": columns,
            "stride1": inner * ITEM,
            "stride2": columns * ITEM,
            "stride_out": columns * ITEM,
            "flags": self.flags,
        }

    def load(self) -> int:
        if self.rows.start:
            return 0
        rows, inner, columns = self.sizes
        shapes = ((rows, inner), (inner, columns))
        for array, shape, buffer in zip(self.inputs, shapes, self.buffers, strict=False):
            height, width = array.shape
            padded = _over(buffer, shape, array.dtype)
            padded[:height, :width] = array
            padded[height:] = 0
            padded[:height, width:] = 0
            buffer.flush(padded.nbytes)
        return sum(array.nbytes for array in self.inputs)

    def unload(self) -> int:
        if self.output is None:
            return 0
        rows, _, columns = self.sizes
        out = _over(self.buffers[2], (rows, columns), self.output.dtype)
        self.buffers[2].invalidate(out.nbytes)
        height, width = self.output.shape
        self.output[...] = out[:height, :width]
        return self.output.nbytes


def _sets(several: bool) -> int:
    """Of two sets of buffers, one is loaded while the kernel works on the other."""
    return 2 if several else 1


def _split(buffers: Sequence[Buffer], size: int) -> Iterator[Sequence[Buffer]]:
    """The sets, in turn, for ever."""
    return itertools.cycle(buffers[i : i + size] for i in range(0, len(buffers), size))


def _over(buffer: Buffer, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """The beginning of `buffer` as an array."""
    return buffer.array[: math.prod(shape) * ITEM].view(dtype).reshape(shape)


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
