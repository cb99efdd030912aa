"""Linear transfers to and from memory, several at once, as AXI bursts.

Bursts never cross a line of 128 bytes: so they have at most 16 beats, all that AXI3 allows, and
stay within a page of 4 KiB (IHI 0022, A3.4.1). All have the same id, so answers come in order.
"""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from ..registers import BURST_BEATS
from .axi import ReadPort, WritePort

OFFSET = BURST_BEATS.bit_length() - 1
"""Bits of a beat's address that lie within a line."""

FIFO_DEPTH = 64
"""Beats that a channel holds; hides as many cycles of the memory's latency."""

OUTSTANDING = 8
"""Bursts on their way at once, in each direction."""

TRANSFER = StructLayout({"address": 29, "beats": 30})
"""What a channel shall move. Both count beats of 8 bytes; all of it must lie below 4 GiB."""

BURST = StructLayout({"address": 29, "len": OFFSET, "final": 1})
"""`len` is one less than its beats; `final` marks the last burst of a transfer."""


class Channel(wiring.Component):
    """Cuts a transfer into bursts: `burst` may be issued when `ready`, and is when `issue` is high.

    A burst is ready once there is a credit for each of its beats. The channel starts with
    `credits`, never has more than FIFO_DEPTH, and gains one in each cycle that `credit` is high.
    `stop` gives up what has not been issued.
    """

    def __init__(self, credits: int) -> None:
        self._credits = credits
        super().__init__(
            {
                "load": In(1),
                "stop": In(1),
                "transfer": In(TRANSFER),
                "credit": In(1),
                "burst": Out(BURST),
                "ready": Out(1),
                "issue": In(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        address, left = Signal(29), Signal(30)
        credits = Signal(range(FIFO_DEPTH + 1), init=self._credits)
        room, size, issued = Signal(5), Signal(5), Signal(5)
        m.d.comb += [
            room.eq(BURST_BEATS - address[:OFFSET]),
            issued.eq(Mux(self.issue, size, 0)),
            self.burst.address.eq(address),
            self.burst.len.eq(size - 1),
            self.ready.eq((size != 0) & (credits >= size)),
            self.busy.eq(left != 0),
        ]
        # Measured in a cycle of its own, so that what depends on it has the next to itself. A burst
        # issued in between would have the last one's size: other channels have their turn then.
        m.d.sync += [
            size.eq(Mux(left > room, room, left)),
            self.burst.final.eq(left <= room),
            credits.eq(credits + self.credit - issued),
        ]
        with m.If(self.load):
            m.d.sync += [address.eq(self.transfer.address), left.eq(self.transfer.beats)]
        with m.Elif(self.stop):
            m.d.sync += left.eq(0)
        with m.Else():
            m.d.sync += [address.eq(address + issued), left.eq(left - issued)]
        return m


class Bursts(wiring.Component):
    """Asks for the bursts of two or more channels by turns, on one AXI address channel.

    Those asked for queue up in `issued`, for who moves their data, with the number of their
    channel. `busy` until the transfers are all cut up, asked for, and taken from the queue.
    """

    def __init__(self, channels: int, credits: int) -> None:
        self._channels = [Channel(credits) for _ in range(channels)]
        self._issued = StructLayout({"burst": BURST, "channel": range(channels)})
        super().__init__(
            {
                "load": In(1),
                "stop": In(1),
                "transfers": In(TRANSFER).array(channels),
                "credits": In(1).array(channels),
                "addr": Out(32),
                "len": Out(8),
                "valid": Out(1),
                "ready": In(1),
                "issued": Out(stream.Signature(self._issued)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = SyncFIFOBuffered(width=self._issued.size, depth=OUTSTANDING)
        turn, issue, free = Signal(range(len(self._channels))), Signal(), Signal()
        issued = Signal(self._issued)
        busy = self.valid | (queue.level != 0)
        for i, channel in enumerate(self._channels):
            m.submodules[f"channel{i}"] = channel
            m.d.comb += [
                channel.load.eq(self.load),
                channel.stop.eq(self.stop),
                channel.transfer.eq(self.transfers[i]),
                channel.credit.eq(self.credits[i]),
                channel.issue.eq(issue & (turn == i)),
            ]
            busy |= channel.busy
        chosen = Array(self._channels)[turn]
        m.d.comb += [
            free.eq(queue.w_rdy & (~self.valid | self.ready)),
            issue.eq(chosen.ready & free & ~self.stop),
            issued.burst.eq(chosen.burst),
            issued.channel.eq(turn),
            queue.w_data.eq(issued),
            queue.w_en.eq(issue),
            self.issued.payload.eq(queue.r_data),
            self.issued.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.issued.ready),
            self.busy.eq(busy),
        ]
        m.d.sync += turn.eq(Mux(turn == len(self._channels) - 1, 0, turn + 1))
        with m.If(issue):
            m.d.sync += [
                self.valid.eq(1),
                self.addr.eq(issued.burst.address << 3),
                self.len.eq(issued.burst.len),
            ]
        with m.Elif(self.ready):
            m.d.sync += self.valid.eq(0)
        return m


class _Engine(wiring.Component):
    """A transfer on each channel, begun by `load`, `busy` to its end.

    After a refused burst, `error` is high and `fault` the burst's address. Raise `stop` then: no
    more bursts are begun, those on their way are finished, and no further refusal is noted. Reset
    the engine before the next `load`, when it is not `busy`.
    """

    def __init__(self, channels: int, **members: wiring.Member) -> None:
        self._channels = channels
        super().__init__(
            {
                "load": In(1),
                "stop": In(1),
                "transfers": In(TRANSFER).array(channels),
                "busy": Out(1),
                "error": Out(1),
                "fault": Out(32),
                **members,
            }
        )

    def _bursts(self, m: Module, way: str, credits: int) -> Bursts:
        """Bursts asked for on the address channel `way`, ar or aw; to connect: `credits`."""
        m.submodules.bursts = bursts = Bursts(self._channels, credits)
        axi = self.axi
        m.d.comb += [
            bursts.load.eq(self.load),
            bursts.stop.eq(self.stop),
            getattr(axi, f"{way}addr").eq(bursts.addr),
            getattr(axi, f"{way}len").eq(bursts.len),
            getattr(axi, f"{way}valid").eq(bursts.valid),
            bursts.ready.eq(getattr(axi, f"{way}ready")),
        ]
        for outer, inner in zip(self.transfers, bursts.transfers, strict=True):
            m.d.comb += inner.eq(outer)
        return bursts

    def _note(self, m: Module, answered: Value, response: Value, address: Value) -> None:
        with m.If(answered & (response != 0) & ~self.stop):
            m.d.sync += [self.error.eq(1), self.fault.eq(address << 3)]


class Reader(_Engine):
    """Reads, and gives the words of each channel on `words`, in order."""

    def __init__(self, channels: int) -> None:
        words = Out(stream.Signature(64)).array(channels)
        super().__init__(channels, axi=Out(ReadPort), words=words)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        bursts = self._bursts(m, "ar", credits=FIFO_DEPTH)
        issued, beat = bursts.issued, Signal()
        m.d.comb += [
            axi.rready.eq(issued.valid),
            beat.eq(axi.rvalid & axi.rready),
            issued.ready.eq(beat & axi.rlast),
            self.busy.eq(bursts.busy),
        ]
        for i, words in enumerate(self.words):
            m.submodules[f"fifo{i}"] = fifo = SyncFIFOBuffered(width=64, depth=FIFO_DEPTH)
            m.d.comb += [
                fifo.w_data.eq(axi.rdata),
                fifo.w_en.eq(beat & (issued.payload.channel == i)),
                words.payload.eq(fifo.r_data),
                words.valid.eq(fifo.r_rdy),
                fifo.r_en.eq(words.ready),
                bursts.credits[i].eq(fifo.r_rdy & fifo.r_en),
            ]
        self._note(m, beat, axi.rresp, issued.payload.burst.address)
        return m


class Writer(_Engine):
    """Writes what comes on the `words` of each channel.

    A pipeline cannot stand still, so `words` do not wait: for each a place must be taken
    beforehand, by `reserve` while there is `room`. With `half`, the last beat of each transfer has
    only its lower four bytes written.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(
            channels,
            axi=Out(WritePort),
            half=In(1),
            room=Out(1).array(channels),
            reserve=In(1).array(channels),
            words=In(stream.Signature(64, always_ready=True)).array(channels),
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        # Words are credits: a burst is asked for when all of it is here, and holds up no other.
        bursts = self._bursts(m, "aw", credits=0)
        issued, burst = bursts.issued, bursts.issued.payload.burst
        fifos = [self._fifo(m, i) for i in range(self._channels)]
        for credit, words in zip(bursts.credits, self.words, strict=True):
            m.d.comb += credit.eq(words.valid)
        m.submodules.unanswered = unanswered = SyncFIFOBuffered(width=29, depth=OUTSTANDING)
        number, beat = Signal(OFFSET), Signal()
        chosen = Array(fifos)[issued.payload.channel]
        m.d.comb += [
            axi.wvalid.eq(issued.valid & chosen.r_rdy & unanswered.w_rdy),
            axi.wdata.eq(chosen.r_data),
            axi.wlast.eq(number == burst.len),
            axi.wstrb.eq(Mux(self.half & burst.final & axi.wlast, 0x0F, 0xFF)),
            beat.eq(axi.wvalid & axi.wready),
            chosen.r_en.eq(beat),
            issued.ready.eq(beat & axi.wlast),
            unanswered.w_en.eq(issued.ready),
            unanswered.w_data.eq(burst.address),
            axi.bready.eq(unanswered.r_rdy),
            unanswered.r_en.eq(axi.bvalid),
            self.busy.eq(bursts.busy | (unanswered.level != 0)),
        ]
        with m.If(beat):
            m.d.sync += number.eq(Mux(axi.wlast, 0, number + 1))
        self._note(m, axi.bvalid & axi.bready, axi.bresp, unanswered.r_data)
        return m

    def _fifo(self, m: Module, i: int) -> SyncFIFOBuffered:
        m.submodules[f"fifo{i}"] = fifo = SyncFIFOBuffered(width=64, depth=FIFO_DEPTH)
        places = Signal(range(FIFO_DEPTH + 1), init=FIFO_DEPTH, name=f"places{i}")
        m.d.sync += places.eq(places + (fifo.r_rdy & fifo.r_en) - self.reserve[i])
        m.d.comb += [
            self.room[i].eq(places != 0),
            fifo.w_data.eq(self.words[i].payload),
            fifo.w_en.eq(self.words[i].valid),
        ]
        return fifo
