"""The arithmetic of the matrix kernel: a row of elements that multiply and accumulate."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module, Mux, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .fp32 import FAdd, FMul

ELEMENT = "mmult_element"
"""Module name of `Element`."""


def bits(size: int) -> int:
    """Bits that count to `size`, a power of two."""
    return size.bit_length() - 1


def step_layout(rows: int) -> StructLayout:
    """What a step is for: the sums at `place` (row, then bank). `first`: they start with its
    products; `load`: they start as its products, exactly; `final`: it is the tile's last step."""
    return StructLayout({"valid": 1, "place": bits(rows) + 1, "first": 1, "load": 1, "final": 1})


def steps(lanes: int, rows: int) -> wiring.Signature:
    """Each cycle a step: every element multiplies the same `a` by its own part of `b`."""
    return wiring.Signature({"step": Out(step_layout(rows)), "a": Out(32), "b": Out(32 * lanes)})


def sums(lanes: int, rows: int) -> wiring.Signature:
    """The sums at `place`, of all elements; `flushed` when the final step's have been written."""
    return wiring.Signature(
        {"place": In(bits(rows) + 1), "data": Out(32 * lanes), "flushed": Out(1)}
    )


class Element(wiring.Component):
    """Multiplies `a` and `b`; adds the product, when it is there, to the sum at `read`; puts the
    new sum, when it is there, to `write`. There are two banks of `rows` sums.

    With `first` it adds to +0; with `load` also, to -0, which leaves even a product of -0 as it is.
    """

    def __init__(self, rows: int) -> None:
        place = bits(rows) + 1
        self._sums = 2 * rows
        super().__init__(
            {
                "a": In(32),
                "b": In(32),
                "read": In(place),
                "first": In(1),
                "load": In(1),
                "write": In(place),
                "enable": In(1),
                "drain": In(place),
                "sum": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.multiplier = multiplier = FMul()
        m.submodules.adder = adder = FAdd()
        m.submodules.sums = sums = Memory(shape=32, depth=self._sums, init=[])
        old, drain = sums.read_port(domain="comb"), sums.read_port(domain="comb")
        new = sums.write_port()
        zero = Signal(32)
        m.d.comb += [
            multiplier.a.eq(self.a),
            multiplier.b.eq(self.b),
            old.addr.eq(self.read),
            zero[31].eq(self.load),
            adder.a.eq(multiplier.o),
            adder.b.eq(Mux(self.first, zero, old.data)),
            new.addr.eq(self.write),
            new.data.eq(adder.o),
            new.en.eq(self.enable),
            drain.addr.eq(self.drain),
            self.sum.eq(drain.data),
        ]
        return m


class Elements(wiring.Component):
    """The row of elements: steps in, sums out."""

    def __init__(self, lanes: int, rows: int) -> None:
        self._lanes, self._step = lanes, step_layout(rows)
        super().__init__({"steps": In(steps(lanes, rows)), "sums": Out(sums(lanes, rows))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        add = self._delay(m, self.steps.step, FMul.LATENCY)
        write = self._delay(m, add, FAdd.LATENCY)
        m.d.comb += self.sums.flushed.eq(write.valid & write.final)
        for lane in range(self._lanes):
            m.submodules[f"element{lane}"] = Instance(
                ELEMENT,
                i_clk=ClockSignal(),
                i_rst=ResetSignal(),
                i_a=self.steps.a,
                i_b=self.steps.b.word_select(lane, 32),
                i_read=add.place,
                i_first=add.first,
                i_load=add.load,
                i_write=write.place,
                i_enable=write.valid,
                i_drain=self.sums.place,
                o_sum=self.sums.data.word_select(lane, 32),
            )
        return m

    def _delay(self, m: Module, step: Any, cycles: int) -> Any:
        for _ in range(cycles):
            delayed = Signal(self._step)
            m.d.sync += delayed.eq(step)
            step = delayed
        return step
