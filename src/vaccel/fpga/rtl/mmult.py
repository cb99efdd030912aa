# amaranth: UnusedElaboratable=no
"""C = A·B, or C + A·B, in float32.

A row of `lanes` multiply-accumulate elements works on a tile of C: `rows` rows, and a column for
each element. A panel, the rows of A that the tile needs, lies in block memory; it stays there for
all tiles of these rows. For each tile the rows of B's columns stream by. Row k, when it does, meets
A[i, k] for each row i in turn, one a cycle. So each sum is made in ascending k, and its terms come
`rows` cycles apart: later than the adder's latency, which therefore costs nothing.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.stream import Signature as Stream
from amaranth.lib.wiring import In, Out

from ...error import InvalidArgument
from ..overlay import LANES
from ..registers import ALIGNMENT, BURST_BEATS, MMULT, Status
from .axi import MasterPort, join
from .control import Control, RegisterPort
from .fp32 import FAdd
from .lanes import ELEMENT, Element, Elements, bits
from .strided import ADDRESS, ROWS, StridedReader, StridedWriter, in_beats
from .tiles import ARGUMENTS, TILE, Drain, Feed, accumulates


class MatrixMultiply(wiring.Component):
    """The kernel; its registers are `MMULT`. It touches nothing but the elements of A, B and C.

    C may not overlap A or B. When the memory refuses an access the job ends, after what was begun,
    with C undefined; but nothing that depends on a refused read is ever written.

    `lanes` (at least 4, its row in memory no longer than a burst) and `rows` (more than the adder's
    latency) are powers of two; `depth`, the most columns of A, is even. Raises InvalidArgument.
    """

    def __init__(self, lanes: int = LANES, rows: int = 16, depth: int = 512) -> None:
        _check_size("lanes", lanes, 4, 2 * BURST_BEATS)
        _check_size("rows", rows, FAdd.LATENCY + 1, 128)
        _check_depth(depth)
        self.lanes, self.rows, self.depth = lanes, rows, depth
        self.parts = {ELEMENT: Element(rows)}
        super().__init__({"s_axi": In(RegisterPort), "m_axi": Out(MasterPort), "irq": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sizes = {"lanes": self.lanes, "rows": self.rows, "depth": self.depth}
        m.submodules.control = control = Control(MMULT, sizes)
        wiring.connect(m, wiring.flipped(self.s_axi), control.bus)
        m.d.comb += self.irq.eq(control.irq)

        reader, writer = StridedReader(), StridedWriter()
        fetch, feed = Fetch(self.lanes, self.rows), Feed(self.lanes, self.rows, self.depth)
        elements, drain = Elements(self.lanes, self.rows), Drain(self.lanes, self.rows)
        # Every job finds these as new, whatever the last one left behind.
        new = ResetInserter(control.start)
        m.submodules.reader, m.submodules.writer = new(reader), new(writer)
        m.submodules.fetch, m.submodules.feed = new(fetch), new(feed)
        m.submodules.elements, m.submodules.drain = new(elements), new(drain)

        join(m, self.m_axi, reader.axi, writer.axi)
        wiring.connect(m, fetch.jobs, reader.jobs)
        wiring.connect(m, fetch.tiles, feed.tiles)
        wiring.connect(m, reader.beats, feed.read)
        wiring.connect(m, feed.steps, elements.steps)
        wiring.connect(m, feed.results, drain.results)
        wiring.connect(m, elements.sums, drain.sums)
        wiring.connect(m, drain.jobs, writer.jobs)
        wiring.connect(m, drain.beats, writer.beats)
        for part in (fetch, feed, drain):
            m.d.comb += part.arguments.eq(control.arguments)
        written = drain.finished & writer.empty
        self._supervise(m, control, fetch.start, reader, writer, written)
        return m

    def _supervise(
        self, m: Module, control: Control, start: Value, reader: Any, writer: Any, written: Value
    ) -> None:
        """Refuse a job or start it; end it when all is `written`, or refused by the memory."""
        failed = Signal()
        m.d.comb += [reader.stop.eq(failed), writer.stop.eq(failed)]
        status, fault = Signal(Status), Signal(32)
        m.d.comb += [control.status.eq(status), control.fault.eq(fault)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [status.eq(self._verdict(m, control.arguments)), fault.eq(0)]
                with m.If(control.start):
                    m.d.sync += failed.eq(0)  # not before: what a failed job left undone stays so
                    m.next = "START"
            with m.State("START"):
                with m.If(status == Status.OK):
                    m.d.comb += start.eq(1)
                    m.next = "RUN"
                with m.Else():
                    m.d.comb += control.done.eq(1)
                    m.next = "IDLE"
            with m.State("RUN"):
                with m.If(~failed & (reader.refused | writer.refused)):
                    m.d.sync += [
                        failed.eq(1),
                        status.eq(Mux(reader.refused, Status.READ_ERROR, Status.WRITE_ERROR)),
                        fault.eq(Mux(reader.refused, reader.fault, writer.fault)),
                    ]
                with m.If((failed | written) & reader.quiet & writer.quiet):
                    m.d.comb += control.done.eq(1)
                    m.next = "IDLE"

    def _verdict(self, m: Module, job: Any) -> Signal:
        """OK, or the first thing that is wrong with the arguments."""
        aligned = [job.in1, job.in2, job.out, job.stride1, job.stride2, job.stride_out]
        odd_ends = Cat(job.rows[: bits(self.rows)], job.columns[: bits(self.lanes)], job.inner[0])
        verdict = Signal(Status)
        with m.If(Cat(each[: bits(ALIGNMENT)] for each in aligned).any()):
            m.d.comb += verdict.eq(Status.UNALIGNED)
        with m.Elif((job.rows == 0) | (job.inner == 0) | (job.columns == 0)):
            m.d.comb += verdict.eq(Status.EMPTY)
        with m.Elif(odd_ends.any() | (job.inner > self.depth)):
            m.d.comb += verdict.eq(Status.SHAPE)
        return verdict


class Fetch(wiring.Component):
    """From `start` on, announces each tile, and has the reader get what it needs, in this order:
    A's rows if they are new, C's tile if its sums go on, B's columns."""

    def __init__(self, lanes: int, rows: int) -> None:
        self._lanes, self._rows = lanes, rows
        super().__init__(
            {
                "arguments": In(ARGUMENTS),
                "start": In(1),
                "tiles": Out(Stream(TILE)),
                "jobs": Out(Stream(ROWS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.tiles.ready):
            m.d.sync += self.tiles.valid.eq(0)
        self._follow(m)
        return m

    def _follow(self, m: Module) -> None:
        job = self.arguments
        a, b, c, c_row = (Signal(ADDRESS, name=name) for name in ("a", "b", "c", "c_row"))
        rows, columns = Signal(32 - bits(self._rows)), Signal(32 - bits(self._lanes))  # tiles left
        new_panel = Signal()
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [a.eq(in_beats(job.in1)), c_row.eq(in_beats(job.out))]
                m.d.sync += rows.eq(job.rows >> bits(self._rows))
                with m.If(self.start):
                    m.next = "ROW"
            with m.State("ROW"):
                m.d.sync += [b.eq(in_beats(job.in2)), c.eq(c_row), new_panel.eq(1)]
                m.d.sync += c_row.eq(c_row + (in_beats(job.stride_out) << bits(self._rows)))
                m.d.sync += columns.eq(job.columns >> bits(self._lanes))
                m.next = "TILE"
            with m.State("TILE"):
                with m.If(self._announce(m, c, new_panel, (rows == 1) & (columns == 1))):
                    m.next = "A"
            with m.State("A"):
                with m.If(self._ask(m, new_panel, a, job.stride1, job.inner >> 1, self._rows)):
                    step = Mux(new_panel, in_beats(job.stride1), 0) << bits(self._rows)
                    m.d.sync += [a.eq(a + step), new_panel.eq(0)]
                    m.next = "C"
            with m.State("C"):
                width = self._lanes // 2
                with m.If(self._ask(m, accumulates(job), c, job.stride_out, width, self._rows)):
                    m.next = "B"
            with m.State("B"):
                with m.If(self._ask(m, 1, b, job.stride2, width, job.inner)):
                    m.d.sync += [b.eq(b + width), c.eq(c + width), columns.eq(columns - 1)]
                    m.next = "TILE"
                    with m.If(columns == 1):
                        m.d.sync += rows.eq(rows - 1)
                        m.next = "ROW"
                        with m.If(rows == 1):
                            m.next = "IDLE"

    def _announce(self, m: Module, address: Any, new_panel: Any, last: Any) -> Value:
        """Put a tile where the feed takes it; true once there is room for it."""
        free = ~self.tiles.valid | self.tiles.ready
        with m.If(free):
            m.d.sync += self.tiles.p.address.eq(address)
            m.d.sync += [self.tiles.p.new_panel.eq(new_panel), self.tiles.p.last.eq(last)]
            m.d.sync += self.tiles.valid.eq(1)
        return free

    def _ask(self, m: Module, wanted: Any, base: Any, stride: Any, beats: Any, rows: Any) -> Value:
        """Offer a job to the reader if it is `wanted`; true once that is done."""
        m.d.comb += [
            self.jobs.valid.eq(wanted),
            self.jobs.p.base.eq(base),
            self.jobs.p.stride.eq(in_beats(stride)),
            self.jobs.p.beats.eq(beats),
            self.jobs.p.rows.eq(rows),
        ]
        return self.jobs.ready | ~self.jobs.valid


def _check_size(name: str, size: int, low: int, high: int) -> None:
    if not low <= size <= high or size & (size - 1):
        raise InvalidArgument(f"{name}: expected a power of two, {low} to {high}; found {size}")


def _check_depth(depth: int) -> None:
    high = (1 << 16) - 2  # what the capability register holds
    if not 2 <= depth <= high or depth % 2:
        raise InvalidArgument(f"depth: expected an even number, 2 to {high}; found {depth}")
