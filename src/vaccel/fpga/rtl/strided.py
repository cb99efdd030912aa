"""Rows of matrices to and from memory: jobs of rows of one length, a stride apart, in AXI bursts.

Addresses and strides count beats of 8 bytes here. Whatever the alignment, a burst lies within one
line of 128 bytes: so it has at most 16 beats, and does not cross a 4 KiB boundary (AXI, A3.4.1).
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.stream import Signature as Stream
from amaranth.lib.wiring import In, Out

from ..registers import ALIGNMENT, BURST_BEATS
from .axi import ReadPort, WritePort

ADDRESS = 29
"""Bits of an address in beats."""

OUTSTANDING = 8
"""Bursts that may wait for their answers at once, in each direction."""

ROWS = StructLayout({"base": ADDRESS, "stride": ADDRESS, "beats": 16, "rows": 16})
"""A job: `rows` rows of `beats` beats; neither is 0."""


def in_beats(address: Any) -> Any:
    """An address or stride in bytes as one in beats."""
    return address[ALIGNMENT.bit_length() - 1 :]


def in_bytes(address: Any) -> Any:
    return Cat(Const(0, ALIGNMENT.bit_length() - 1), address)


class RowBursts(wiring.Component):
    """Cut jobs into bursts, in order, and put them on an address channel.

    `able`: a burst of `beats` beats can start; `start` starts it. `pending`: some that were started
    have no answer yet, the oldest at address `oldest`; `answered` says that it has.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "jobs": In(Stream(ROWS)),
                "able": Out(1),
                "beats": Out(5),
                "start": In(1),
                "address": Out(32),
                "len": Out(8),
                "valid": Out(1),
                "ready": In(1),
                "answered": In(1),
                "oldest": Out(32),
                "pending": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.started = started = SyncFIFO(width=ADDRESS, depth=OUTSTANDING)
        address = Signal(ADDRESS)
        self._cut(m, address)
        with m.If(self.start):
            m.d.sync += [
                self.address.eq(in_bytes(address)),
                self.len.eq(self.beats - 1),
                self.valid.eq(1),
            ]
        with m.Elif(self.ready):
            m.d.sync += self.valid.eq(0)
        m.d.comb += [
            self.able.eq((self.beats != 0) & started.w_rdy & (~self.valid | self.ready)),
            started.w_data.eq(address),
            started.w_en.eq(self.start),
            started.r_en.eq(self.answered),
            self.oldest.eq(in_bytes(started.r_data)),
            self.pending.eq(started.r_rdy),
        ]
        return m

    def _cut(self, m: Module, address: Signal) -> None:
        """Hold the next burst in registers, `address` and `beats`: the path from cutting it to the
        decision whether it can start would be long. 0 beats: there is none yet."""
        beats = self.beats
        job, left, busy = Signal(ROWS), Signal(16), Signal()
        row, place = Signal(ADDRESS), Signal(ADDRESS)
        to_line_end, count = Signal(5), Signal(5)
        m.d.comb += [
            self.jobs.ready.eq(~busy),
            to_line_end.eq(BURST_BEATS - place[:4]),
            count.eq(Mux(left < to_line_end, left, to_line_end)),
            row.eq(job.base + job.stride),
        ]
        with m.If(self.start):
            m.d.sync += beats.eq(0)
        with m.If(~busy):
            start = self.jobs.p
            m.d.sync += [job.eq(start), place.eq(start.base), left.eq(start.beats)]
            m.d.sync += busy.eq(self.jobs.valid)
        with m.Elif(self.start | (beats == 0)):
            m.d.sync += [address.eq(place), beats.eq(count)]
            m.d.sync += [place.eq(place + count), left.eq(left - count)]
            with m.If(left == count):
                m.d.sync += [job.base.eq(row), place.eq(row), left.eq(job.beats)]
                m.d.sync += [job.rows.eq(job.rows - 1), busy.eq(job.rows != 1)]


class _Engine(wiring.Component):
    """What reading and writing have in common.

    `stop` keeps further bursts from being started, `quiet` says that all which were started have
    been answered. `refused` tells of an answer that is not OKAY, for the burst at `fault`.
    """

    def __init__(self, depth: int, **members: Any) -> None:
        self._depth = depth
        super().__init__(
            {
                "jobs": In(Stream(ROWS)),
                "stop": In(1),
                "quiet": Out(1),
                "refused": Out(1),
                "fault": Out(32),
                **members,
            }
        )

    def _submodules(self, m: Module) -> tuple[RowBursts, SyncFIFOBuffered]:
        m.submodules.bursts = bursts = RowBursts()
        m.submodules.queue = queue = SyncFIFOBuffered(width=64, depth=self._depth)
        wiring.connect(m, wiring.flipped(self.jobs), bursts.jobs)
        m.d.comb += [self.quiet.eq(~bursts.pending), self.fault.eq(bursts.oldest)]
        return bursts, queue


class StridedReader(_Engine):
    """Reads jobs. It asks only for beats that its queue has room for, and so is always ready for
    them; a queue of `depth` beats hides as many cycles of latency at a beat a cycle."""

    def __init__(self, depth: int = 64) -> None:
        super().__init__(depth, axi=Out(ReadPort), beats=Out(Stream(64)))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        bursts, queue = self._submodules(m)
        room = Signal(range(self._depth + 1), init=self._depth)  # for beats not asked for yet
        m.d.sync += room.eq(room - Mux(bursts.start, bursts.beats, 0) + (queue.r_rdy & queue.r_en))
        m.d.comb += [
            bursts.start.eq(~self.stop & bursts.able & (bursts.beats <= room)),
            axi.araddr.eq(bursts.address),
            axi.arlen.eq(bursts.len),
            axi.arvalid.eq(bursts.valid),
            bursts.ready.eq(axi.arready),
            axi.rready.eq(1),
            queue.w_data.eq(axi.rdata),
            queue.w_en.eq(axi.rvalid),
            bursts.answered.eq(axi.rvalid & axi.rlast),
            self.refused.eq(axi.rvalid & (axi.rresp != 0)),
            self.beats.p.eq(queue.r_data),
            self.beats.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.beats.ready),
        ]
        return m


class StridedWriter(_Engine):
    """Writes jobs, each burst once all its beats are at hand. `empty`: none wait to be sent."""

    def __init__(self, depth: int = 32) -> None:
        super().__init__(depth, axi=Out(WritePort), beats=In(Stream(64)), empty=Out(1))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        bursts, queue = self._submodules(m)
        left = Signal(5)  # beats of the burst that is being sent
        with m.If(bursts.start):
            m.d.sync += left.eq(bursts.beats)
        with m.Elif(axi.wvalid & axi.wready):
            m.d.sync += left.eq(left - 1)
        m.d.comb += [
            bursts.start.eq(~self.stop & bursts.able & (left == 0) & (bursts.beats <= queue.level)),
            axi.awaddr.eq(bursts.address),
            axi.awlen.eq(bursts.len),
            axi.awvalid.eq(bursts.valid),
            bursts.ready.eq(axi.awready),
            axi.wvalid.eq((left != 0) & queue.r_rdy),
            axi.wdata.eq(queue.r_data),
            axi.wstrb.eq(0xFF),
            axi.wlast.eq(left == 1),
            queue.r_en.eq(axi.wvalid & axi.wready),
            axi.bready.eq(1),
            bursts.answered.eq(axi.bvalid),
            self.refused.eq(axi.bvalid & (axi.bresp != 0)),
            self.empty.eq(queue.level == 0),
            queue.w_data.eq(self.beats.p),
            queue.w_en.eq(self.beats.valid),
            self.beats.ready.eq(queue.w_rdy),
        ]
        return m
