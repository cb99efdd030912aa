"""The tiles of the matrix kernel: what arrives for them becomes steps, their sums go to memory."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.stream import Signature as Stream
from amaranth.lib.wiring import In, Out

from ..registers import MMULT, Flags
from .lanes import bits, steps, sums
from .strided import ADDRESS, ROWS, in_beats

ARGUMENTS = StructLayout({each.name: 32 for each in MMULT.arguments})

TILE = StructLayout({"new_panel": 1, "last": 1, "address": ADDRESS})
"""A tile of C, at `address`: the first with these rows, a panel, of A? The last of the job?"""

RESULT = StructLayout({"address": ADDRESS, "last": 1, "bank": 1})
"""A tile whose sums are all but ready, and the bank that they are in."""

_ONE = 0x3F80_0000  # 1.0


def accumulates(arguments: Any) -> Any:
    return arguments.flags[bits(Flags.ACCUMULATE)]


class Feed(wiring.Component):
    """Beats in, steps out.

    Beats come as the tiles ask: a panel of A if it is new, C if its sums go on, then B. A row of C
    or B is gathered, then held for one *pass* while the next is gathered: B's row k meets A[i, k]
    for one i a cycle; C's row i takes a single step, as 1·C, to the sums of row i.

    The last pass of a tile starts when `results` takes the tile, after the tile before has left its
    bank of sums: which therefore is free for the tile to come.
    """

    def __init__(self, lanes: int, rows: int, depth: int) -> None:
        self._lanes, self._rows, self._depth = lanes, rows, depth
        super().__init__(
            {
                "arguments": In(ARGUMENTS),
                "tiles": In(Stream(TILE)),
                "read": In(Stream(64)),
                "steps": Out(steps(lanes, rows)),
                "results": Out(Stream(RESULT)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.panel = panel = Memory(shape=64, depth=self._rows * self._depth // 2, init=[])
        self._gathering, self._gathered = Signal(), Signal()
        number = range(max(self._rows, self._depth))
        layout = StructLayout({"number": number, "first": 1, "load": 1, "last": 1, "bank": 1})
        self._coming, self._start = Signal(layout), Signal()  # the next pass, and that it starts
        self._active = Signal()  # the present one has steps left
        self._follow_tiles(m, panel.write_port())
        self._gather(m)
        self._take_steps(m, panel.read_port())
        return m

    def _follow_tiles(self, m: Module, panel: Any) -> None:
        tile, bank = Signal(TILE), Signal()
        number, load = Signal.like(self._coming.number), Signal()
        with m.FSM():
            with m.State("TILE"):
                m.d.sync += [tile.eq(self.tiles.p), number.eq(0)]
                m.d.sync += load.eq(accumulates(self.arguments))
                # The last pass may still read the old panel, but row i in its cycle i, and the new
                # row i cannot be here by then.
                m.d.comb += self.tiles.ready.eq(1)
                with m.If(self.tiles.valid):
                    m.next = "PASSES"
                    with m.If(self.tiles.p.new_panel):
                        m.next = "PANEL"
            with m.State("PANEL"):
                with m.If(self._store(m, panel)):
                    m.next = "PASSES"
            with m.State("PASSES"):
                m.d.comb += self._gathering.eq(1)
                with m.If(self._start):
                    m.d.sync += number.eq(number + 1)
                    with m.If(load & (number == self._rows - 1)):
                        m.d.sync += [number.eq(0), load.eq(0)]
                    with m.If(self._coming.last):
                        m.d.sync += bank.eq(~bank)
                        m.next = "TILE"
        starts_at_zero = (number == 0) & ~accumulates(self.arguments)
        m.d.comb += [
            self._coming.number.eq(number),
            self._coming.first.eq(load | starts_at_zero),
            self._coming.load.eq(load),
            self._coming.last.eq(~load & (number == self.arguments.inner - 1)),
            self._coming.bank.eq(bank),
            self.results.p.address.eq(tile.address),
            self.results.p.last.eq(tile.last),
            self.results.p.bank.eq(bank),
        ]

    def _store(self, m: Module, panel: Any) -> Signal:
        """Put what arrives into the panel; true with the last beat of it."""
        row, beat, last = Signal(range(self._rows)), Signal(range(self._depth // 2)), Signal()
        m.d.comb += [
            self.read.ready.eq(1),
            panel.en.eq(self.read.valid),
            panel.addr.eq(Cat(row, beat)),
            panel.data.eq(self.read.p),
        ]
        with m.If(self.read.valid):
            m.d.sync += beat.eq(beat + 1)
            with m.If(beat == (self.arguments.inner >> 1) - 1):
                m.d.sync += [beat.eq(0), row.eq(row + 1)]
                m.d.comb += last.eq(row == self._rows - 1)
        return last

    def _gather(self, m: Module) -> None:
        """Shift beats in until the row is whole. Its pass, once started, takes it two cycles later:
        when the first step has its element of A."""
        row, beat = Signal(32 * self._lanes), Signal(range(self._lanes // 2))
        leaving = Signal(2)
        with m.If(self._gathering & ~self._gathered & (leaving == 0)):
            m.d.comb += self.read.ready.eq(1)
            with m.If(self.read.valid):
                m.d.sync += [row.eq(Cat(row[64:], self.read.p)), beat.eq(beat + 1)]
                m.d.sync += self._gathered.eq(beat == self._lanes // 2 - 1)
        m.d.sync += leaving.eq(Cat(self._start, leaving[0]))
        with m.If(self._start):
            m.d.sync += self._gathered.eq(0)
        with m.If(leaving[1]):
            m.d.sync += self.steps.b.eq(row)

    def _take_steps(self, m: Module, panel: Any) -> None:
        """A step for each row: ask for the beat with its element of A; choose the half; hand on."""
        present, row, ending = Signal.like(self._coming), Signal(range(self._rows)), Signal()
        step, then, odd = Signal.like(self.steps.step), Signal.like(self.steps.step), Signal()
        possible = Signal()
        m.d.comb += [
            ending.eq(present.load | (row == self._rows - 1)),
            possible.eq(self._gathering & self._gathered & (~self._active | ending)),
            self.results.valid.eq(possible & self._coming.last),
            self._start.eq(possible & (self.results.ready | ~self._coming.last)),
            panel.addr.eq(Cat(row, present.number[1:])),
            step.valid.eq(self._active),
            step.place.eq(Cat(row, present.bank)),
            step.first.eq(present.first),
            step.load.eq(present.load),
            step.final.eq(present.last & ending),
        ]
        m.d.sync += [
            row.eq(row + 1),
            then.eq(step),
            odd.eq(present.number[0]),
            self.steps.step.eq(then),
            self.steps.a.eq(Mux(odd, panel.data[32:], panel.data[:32])),
        ]
        with m.If(self._start):
            m.d.sync += [self._active.eq(1), present.eq(self._coming)]
            m.d.sync += row.eq(Mux(self._coming.load, self._coming.number, 0))
        with m.Elif(ending):
            m.d.sync += self._active.eq(0)
        with m.If(then.load):
            m.d.sync += self.steps.a.eq(_ONE)


class Drain(wiring.Component):
    """Has the sums of a result written to memory, once they are all ready; meanwhile it takes no
    other. `finished` after the job's last."""

    def __init__(self, lanes: int, rows: int) -> None:
        self._lanes, self._rows = lanes, rows
        super().__init__(
            {
                "arguments": In(ARGUMENTS),
                "results": In(Stream(RESULT)),
                "sums": In(sums(lanes, rows)),
                "jobs": Out(Stream(ROWS)),
                "beats": Out(Stream(64)),
                "finished": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        result = Signal(RESULT)
        row, beat = Signal(range(self._rows)), Signal(range(self._lanes // 2))
        m.d.comb += [
            self.sums.place.eq(Cat(row, result.bank)),
            self.jobs.p.base.eq(result.address),
            self.jobs.p.stride.eq(in_beats(self.arguments.stride_out)),
            self.jobs.p.beats.eq(self._lanes // 2),
            self.jobs.p.rows.eq(self._rows),
            self.beats.p.eq(self.sums.data.word_select(beat, 64)),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.results.ready.eq(1)
                m.d.sync += result.eq(self.results.p)
                with m.If(self.results.valid):
                    m.next = "FLUSH"
            with m.State("FLUSH"):
                with m.If(self.sums.flushed):
                    m.next = "JOB"
            with m.State("JOB"):
                m.d.comb += self.jobs.valid.eq(1)
                with m.If(self.jobs.ready):
                    m.next = "BEATS"
            with m.State("BEATS"):
                m.d.comb += self.beats.valid.eq(1)
                with m.If(self.beats.ready):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If(beat == self._lanes // 2 - 1):
                        m.d.sync += row.eq(row + 1)
                        with m.If(row == self._rows - 1):
                            m.d.sync += self.finished.eq(result.last)
                            m.next = "IDLE"
        return m
