"""What a kernel did during one call: events of the simulated board, put together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from vaccel.error import InvalidArgument
from vaccel.fpga.model.system import Event, Kind
from vaccel.fpga.registers import KERNELS, Kernel

BEAT = 8
"""Bytes."""

_OPERANDS = ("in1", "in2", "out1", "out2", "out")
"""Arguments that are addresses, inputs first."""


class Access(NamedTuple):
    """The processor's, to a register."""

    cycle: int
    is_write: bool
    register: str
    value: int


class Burst(NamedTuple):
    """From its address to its last word, or to the response of a write.

    `data`: the cycle of the last word. Its words need `beats` cycles, and just these where the
    memory does not stall.
    """

    operand: str
    is_write: bool
    address: int
    beats: int
    start: int
    data: int
    end: int
    refused: bool


class Span(NamedTuple):
    """Cycles `start` to `end`, which is the first that is not part of it."""

    start: int
    end: int


@dataclass
class Timeline:
    """One call. Cycles count from its first event; lists are in the order of their starts."""

    kernel: Kernel
    cycles: int
    accesses: list[Access] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    busy: list[Span] = field(default_factory=list)
    interrupt: list[Span] = field(default_factory=list)

    @property
    def busy_cycles(self) -> int:
        return sum(span.end - span.start for span in self.busy)

    @property
    def operands(self) -> list[tuple[str, bool]]:
        """Argument and direction of each stream of bursts, reads first."""
        found = {(burst.operand, burst.is_write) for burst in self.bursts}
        return sorted(found, key=lambda each: (each[1], _OPERANDS.index(each[0])))

    def stream(self, operand: str, is_write: bool) -> list[Burst]:
        return [b for b in self.bursts if (b.operand, b.is_write) == (operand, is_write)]

    def beats(self, is_write: bool) -> int:
        return sum(burst.beats for burst in self.bursts if burst.is_write == is_write)

    def utilisation(self, is_write: bool) -> float:
        """The share of the busy cycles in which the port moved a word in this direction."""
        return self.beats(is_write) / self.busy_cycles if self.busy_cycles else 0.0


def assemble(events: Sequence[Event]) -> Timeline:
    """The call that `events`, sorted by cycle and of one kernel, tell of.

    Raises InvalidArgument if there are none, or of several kernels.
    """
    names = {event.kernel for event in events}
    if len(names) != 1:
        found = ", ".join(sorted(names)) or "none"
        raise InvalidArgument(f"expected a call that uses one kernel, found {found}")
    kernel = KERNELS[names.pop()]
    start, cycles = events[0].cycle, events[-1].cycle - events[0].cycle + 1
    events = [event._replace(cycle=event.cycle - start) for event in events]
    return Timeline(
        kernel,
        cycles,
        list(_accesses(kernel, events)),
        _bursts(kernel, events),
        _spans(events, Kind.BUSY, Kind.DONE, cycles),
        _spans(events, Kind.INTERRUPT_UP, Kind.INTERRUPT_DOWN, cycles),
    )


def _accesses(kernel: Kernel, events: Iterable[Event]) -> Iterable[Access]:
    names = {register.offset: register.name for register in kernel.registers}
    for event in events:
        if event.kind in (Kind.REGISTER_READ, Kind.REGISTER_WRITE):
            name = names.get(event.address, f"{event.address:#x}")
            yield Access(event.cycle, event.kind == Kind.REGISTER_WRITE, name, event.value)


def _spans(events: Iterable[Event], begin: Kind, end: Kind, cycles: int) -> list[Span]:
    """What began before the first event, or has not ended at the last, is cut off there."""
    spans, since = [], None
    for event in events:
        if event.kind == begin:
            since = event.cycle
        elif event.kind == end:
            spans.append(Span(since or 0, event.cycle))
            since = None
    if since is not None:
        spans.append(Span(since, cycles))
    return spans


def _bursts(kernel: Kernel, events: Iterable[Event]) -> list[Burst]:
    """All have one id, so answers come in the order of the requests (IHI 0022, A5.3)."""
    arguments = {r.offset: r.name for r in kernel.arguments if r.name in _OPERANDS}
    places: dict[str, int] = {}
    reads: deque[Burst] = deque()
    writes: deque[Burst] = deque()  # whose response is to come
    sending: deque[Burst] = deque()  # whose last word is to come
    done = []
    for cycle, _, kind, address, value in events:
        if kind == Kind.REGISTER_WRITE and address in arguments:
            places[arguments[address]] = value
        elif kind in (Kind.READ_BURST, Kind.WRITE_BURST):
            is_write = kind == Kind.WRITE_BURST
            operand = _owner(places, address)
            burst = Burst(operand, is_write, address, value, cycle, cycle, cycle, False)
            (sending if is_write else reads).append(burst)
        elif kind == Kind.READ_LAST:
            last = reads.popleft()
            done.append(last._replace(data=cycle, end=cycle + 1, refused=value != 0))
        elif kind == Kind.WRITE_LAST:
            writes.append(sending.popleft()._replace(data=cycle))
        elif kind == Kind.WRITE_RESPONSE:
            done.append(writes.popleft()._replace(end=cycle + 1, refused=value != 0))
    return sorted(done, key=lambda burst: burst.start)


def _owner(places: dict[str, int], address: int) -> str:
    """The operand that begins last before `address`: their buffers do not overlap."""
    return max(
        (name for name in places if places[name] <= address), key=lambda name: places[name]
    )
