"""The elementwise kernel: copy, add, multiply, or add and multiply in one pass."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ...error import InvalidArgument
from ..registers import ELEMENTWISE, Operation, Status
from .axi import MasterPort, join
from .control import Control, RegisterPort
from .fp32 import FAdd, FMul
from .linear import Reader, Writer

LANES = 2
"""Elements in a beat."""


class Elementwise(wiring.Component):
    """Works on `lanes` elements a cycle; 2, as many as the memory port carries."""

    def __init__(self, lanes: int = LANES) -> None:
        if lanes != LANES:
            raise InvalidArgument(f"lanes: expected {LANES}, the elements of a beat; found {lanes}")
        super().__init__({"s_axi": In(RegisterPort), "m_axi": Out(MasterPort), "irq": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.control = control = Control(ELEMENTWISE, {"lanes": LANES})
        reader, writer = Reader(channels=2), Writer(channels=2)
        m.submodules.reader = ResetInserter(control.done)(reader)
        m.submodules.writer = ResetInserter(control.done)(writer)
        wiring.connect(m, wiring.flipped(self.s_axi), control.bus)
        join(m, self.m_axi, reader.axi, writer.axi)
        m.d.comb += self.irq.eq(control.irq)
        _sequence(m, control, reader, writer)
        _compute(m, control, reader, writer)
        return m


def _sequence(m: Module, control: Control, reader: Reader, writer: Writer) -> None:
    """Check the arguments, let the transfers run, tell how they ended."""
    failed, refusal = Signal(), Signal(Status)
    m.d.comb += [
        failed.eq(reader.error | writer.error),
        reader.stop.eq(failed),
        writer.stop.eq(failed),
    ]
    with m.FSM():
        _check(m, control, reader, writer, refusal)
        with m.State("BEGIN"):
            with m.If(refusal == Status.OK):
                m.d.comb += [reader.load.eq(1), writer.load.eq(1)]
                m.next = "RUN"
            with m.Else():
                m.d.comb += [control.done.eq(1), control.status.eq(refusal)]
                m.next = "IDLE"
        with m.State("RUN"):
            with m.If(~reader.busy & ~writer.busy):
                m.d.comb += control.done.eq(1)
                m.next = "IDLE"
            with m.If(reader.error):
                m.d.comb += [control.status.eq(Status.READ_ERROR), control.fault.eq(reader.fault)]
            with m.Elif(writer.error):
                m.d.comb += [control.status.eq(Status.WRITE_ERROR), control.fault.eq(writer.fault)]


def _check(m: Module, control: Control, reader: Reader, writer: Writer, refusal: Signal) -> None:
    """Make the transfers of the arguments, and look at one buffer after the other."""
    args = control.arguments
    buffers = (args.in1, args.in2, args.out1, args.out2)
    used = (1, args.operation != Operation.COPY, 1, args.operation == Operation.ADD_AND_MULTIPLY)
    # Beats of 2**32 - 1 elements, and the end of that many from any address, fit as well.
    beats, address, end = Signal(32), Signal(32), Signal(33)
    number = Signal(range(len(buffers)))
    m.d.comb += [
        beats.eq(args.length[1:] + args.length[0]),
        writer.half.eq(args.length[0]),
        address.eq(Array(buffers)[number]),
        end.eq(address[3:] + beats),
    ]
    for i, transfer in enumerate((*reader.transfers, *writer.transfers)):
        m.d.comb += [transfer.address.eq(buffers[i][3:]), transfer.beats.eq(Mux(used[i], beats, 0))]
    with m.State("IDLE"):
        m.d.sync += [number.eq(0), refusal.eq(Status.OK)]
        with m.If(args.operation > max(Operation)):
            m.d.sync += refusal.eq(Status.OPERATION)
        with m.Elif(args.length == 0):
            m.d.sync += refusal.eq(Status.EMPTY)
        with m.If(control.start):
            m.next = "CHECK"
    with m.State("CHECK"):
        with m.If((refusal == Status.OK) & Array(used)[number]):
            with m.If(address[:3] != 0):
                m.d.sync += refusal.eq(Status.UNALIGNED)
            with m.Elif(end > 1 << 29):
                m.d.sync += refusal.eq(Status.SHAPE)
        m.d.sync += number.eq(number + 1)
        with m.If(number == len(buffers) - 1):
            m.next = "BEGIN"


def _compute(m: Module, control: Control, reader: Reader, writer: Writer) -> None:
    """From the reader's words to the writer's, through units that never stand still."""
    operation = control.arguments.operation
    copy, both, enter = Signal(), Signal(), Signal()
    (a, b), (out1, out2) = reader.words, writer.words
    m.d.comb += [
        copy.eq(operation == Operation.COPY),
        both.eq(operation == Operation.ADD_AND_MULTIPLY),
        enter.eq(a.valid & (copy | b.valid) & writer.room[0] & (~both | writer.room[1])),
        a.ready.eq(enter),
        b.ready.eq(enter),
        writer.reserve[0].eq(enter),
        writer.reserve[1].eq(enter & both),
    ]
    # Bit i: words entered the units i + 1 cycles ago.
    age = Signal(max(FAdd.LATENCY, FMul.LATENCY))
    m.d.sync += age.eq(Mux(control.done, 0, Cat(enter, age)))
    sums, products = [], []
    for lane in range(LANES):
        m.submodules[f"add{lane}"] = add = FAdd()
        m.submodules[f"multiply{lane}"] = multiply = FMul()
        for unit in (add, multiply):
            m.d.comb += unit.a.eq(a.payload.word_select(lane, 32))
            m.d.comb += unit.b.eq(b.payload.word_select(lane, 32))
        sums.append(add.o)
        products.append(multiply.o)
    has_product = age[FMul.LATENCY - 1]
    with m.Switch(operation):
        with m.Case(Operation.COPY):
            m.d.comb += [out1.payload.eq(a.payload), out1.valid.eq(enter)]
        with m.Case(Operation.MULTIPLY):
            m.d.comb += [out1.payload.eq(Cat(*products)), out1.valid.eq(has_product)]
        with m.Default():
            m.d.comb += [out1.payload.eq(Cat(*sums)), out1.valid.eq(age[FAdd.LATENCY - 1])]
    m.d.comb += [out2.payload.eq(Cat(*products)), out2.valid.eq(has_product & both)]
