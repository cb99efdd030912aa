"""Watches both buses of a kernel, cycle by cycle, and raises AssertionError where a rule is broken.

The rules are those of AXI (IHI 0022, sections in parentheses) and what the project promises beyond
them. The monitor knows no kernel: what a job may touch is for the tests to say, from `reads` and
`writes`.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import cocotb
from cocotb.triggers import RisingEdge

LINE = 128  # bytes that a burst stays within
BEAT = 8  # bytes

_ADDRESS = ("addr", "len", "size", "burst", "cache", "prot")
_MASTER = {
    "ar": _ADDRESS,
    "aw": _ADDRESS,
    "w": ("data", "strb", "last"),
    "r": ("data", "resp", "last"),
    "b": ("resp",),
}
_SLAVE = {
    "ar": ("addr",),
    "aw": ("addr",),
    "w": ("data", "strb"),
    "r": ("data", "resp"),
    "b": ("resp",),
}

Payload = dict[str, int]


class Burst(NamedTuple):
    """`beats` of 8 bytes from `address` up."""

    address: int
    beats: int

    @property
    def span(self) -> range:
        return range(self.address, self.address + BEAT * self.beats)


class Channel:
    """One channel: what is offered stays as it is until it is taken (A3.2.1)."""

    def __init__(self, dut: Any, name: str, fields: tuple[str, ...]) -> None:
        self._name = name
        self._valid = getattr(dut, f"{name}valid")
        self._ready = getattr(dut, f"{name}ready")
        self._fields = {field: getattr(dut, f"{name}{field}") for field in fields}
        self.offered: Payload | None = None

    def sample(self) -> Payload | None:
        """What is transferred in this cycle, if anything is."""
        if not self._valid.value:
            assert self.offered is None, f"{self._name}valid fell without {self._name}ready"
            return None
        payload = {field: int(signal.value) for field, signal in self._fields.items()}
        assert self.offered in (None, payload), (
            f"{self._name}: {self.offered} became {payload} without {self._name}ready"
        )
        taken = bool(self._ready.value)
        self.offered = None if taken else payload
        return payload if taken else None

    def is_silent(self) -> bool:
        return not self._valid.value


class Monitor:
    """Watches to the end of the test; `reads` and `writes` are those since `forget`, in order."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut
        self._master = {name: Channel(dut, f"m_axi_{name}", _MASTER[name]) for name in _MASTER}
        self._slave = {name: Channel(dut, f"s_axi_{name}", _SLAVE[name]) for name in _SLAVE}
        self.forget()
        self._reset()
        cocotb.start_soon(self._run())

    def forget(self) -> None:
        self.reads: list[Burst] = []
        self.writes: list[Burst] = []

    def _reset(self) -> None:
        for channel in (*self._master.values(), *self._slave.values()):
            channel.offered = None
        self._reading: deque[int] = deque()  # beats to come, for each burst that was asked for
        self._asked: deque[int] = deque()  # sizes of bursts whose data was not all sent,
        self._sent: deque[int] = deque()  # and of those sent before their address was
        self._beats = 0  # sent of a burst that is not complete
        self._answers = 0  # due for bursts that are complete
        self._requests = {"ar": 0, "aw": 0, "w": 0}  # to registers, not yet answered

    @property
    def quiet(self) -> bool:
        """Nothing is under way between the kernel and the memory."""
        under_way = (self._reading, self._asked, self._sent, self._beats, self._answers)
        return not any(under_way)

    async def _run(self) -> None:
        edge = RisingEdge(self._dut.clk)
        interrupted = resetting = False
        while True:
            await edge
            if self._dut.rst.value:
                # Reset is synchronous: its first edge still finds what was there before (A3.1.2).
                assert not resetting or self._is_silent(), "a valid is high during reset"
                self._reset()
                interrupted, resetting = False, True
                continue
            resetting = False
            self._watch_reads()
            self._watch_writes()
            self._watch_registers()
            interrupt = bool(self._dut.irq.value)
            assert interrupted or not interrupt or self.quiet, "irq before the last transfer ended"
            interrupted = interrupt

    def _is_silent(self) -> bool:
        ours = [self._master[name] for name in ("ar", "aw", "w")]
        ours += [self._slave[name] for name in ("r", "b")]
        return all(channel.is_silent() for channel in ours)

    # -- the memory's bus --------------------------------------------------------------------------

    def _watch_reads(self) -> None:
        if beat := self._master["r"].sample():
            assert self._reading, "rready without a burst that was asked for"
            self._reading[0] -= 1
            assert bool(beat["last"]) == (not self._reading[0]), "the memory sent a wrong rlast"
            if not self._reading[0]:
                self._reading.popleft()
        if request := self._master["ar"].sample():
            burst = _checked(request)
            self._reading.append(burst.beats)
            self.reads.append(burst)

    def _watch_writes(self) -> None:
        """The data of a burst may come before its address (A3.3)."""
        if self._master["b"].sample():
            assert self._answers, "bready without a burst that is complete"
            self._answers -= 1
        if request := self._master["aw"].sample():
            burst = _checked(request)
            self.writes.append(burst)
            self._asked.append(burst.beats)
        if beat := self._master["w"].sample():
            self._beats += 1
            partial = 0x0F if beat["last"] else 0xFF  # an odd length ends within a beat
            assert beat["strb"] in (0xFF, partial), f"wstrb {beat['strb']:#04x}"
            if beat["last"]:
                self._sent.append(self._beats)
                self._beats = 0
        if self._asked:
            assert self._beats < self._asked[0] or self._sent, "wlast is missing"
        if self._asked and self._sent:
            asked, sent = self._asked.popleft(), self._sent.popleft()
            assert sent == asked, f"wlast with beat {sent} of a burst of {asked}"
            self._answers += 1

    # -- the registers' bus ------------------------------------------------------------------------

    def _watch_registers(self) -> None:
        due = self._requests
        if answer := self._slave["r"].sample():
            assert due["ar"], "rvalid without a read"
            assert answer["resp"] == 0, "rresp is not OKAY"
            due["ar"] -= 1
        if answer := self._slave["b"].sample():
            assert min(due["aw"], due["w"]), "bvalid before address and data were taken (A3.3.1)"
            assert answer["resp"] == 0, "bresp is not OKAY"
            due["aw"] -= 1
            due["w"] -= 1
        for name in due:
            due[name] += self._slave[name].sample() is not None


def _checked(request: Payload) -> Burst:
    burst = Burst(request["addr"], request["len"] + 1)
    fixed = {"size": 3, "burst": 1, "cache": 0b0011, "prot": 0}
    assert {name: request[name] for name in fixed} == fixed, f"{request}: expected {fixed}"
    assert burst.beats <= 16, f"{burst} is longer than AXI3 allows"
    assert burst.address % BEAT == 0, f"{burst} is not aligned"
    assert burst.span[0] // LINE == burst.span[-1] // LINE, f"{burst} crosses a line"
    return burst
