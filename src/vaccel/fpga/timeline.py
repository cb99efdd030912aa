"""What a kernel does during one call: the events of a simulated board, put together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from vaccel.error import InvalidArgument
from vaccel.fpga.canvas import Span
from vaccel.fpga.device import Device
from vaccel.fpga.drivers import OPERATIONS, Accelerator
from vaccel.fpga.model.system import Event, Kind
from vaccel.fpga.registers import KERNELS, Kernel

BEAT = 8
"""Bytes."""

_OPERANDS = ("in1", "in2", "out", "out1", "out2")
"""The arguments of kernels that are addresses."""


class Access(NamedTuple):
    """The processor's, to a register."""

    cycle: int
    is_write: bool
    register: str
    value: int


class Burst(NamedTuple):
    """`span`: from its address to its last word, or to the answer to a write. `data`: the cycles
    that end with its last word, one for each; its words move in just these if nothing stalls."""

    operand: str
    is_write: bool
    address: int
    beats: int
    span: Span
    data: Span
    refused: bool


@dataclass(frozen=True)
class Timeline:
    """One call. Cycles count from its first event; lists are in the order of their starts."""

    kernel: Kernel
    cycles: int
    accesses: Sequence[Access]
    bursts: Sequence[Burst]
    busy: Sequence[Span]
    interrupt: Sequence[Span]

    @property
    def busy_cycles(self) -> int:
        return sum(span.end - span.start for span in self.busy)

    def operands(self, is_write: bool) -> list[str]:
        """The arguments whose memory is read, or written."""
        return sorted({burst.operand for burst in self.bursts if burst.is_write == is_write})

    def stream(self, operand: str, is_write: bool) -> list[Burst]:
        return [b for b in self.bursts if (b.operand, b.is_write) == (operand, is_write)]

    def beats(self, is_write: bool) -> int:
        return sum(burst.beats for burst in self.bursts if burst.is_write == is_write)

    def utilisation(self, is_write: bool) -> float:
        """The share of the busy cycles in which a word moves in this direction."""
        return self.beats(is_write) / self.busy_cycles if self.busy_cycles else 0.0


class Recorder(Device, Protocol):
    """A board that can tell what happens on it."""

    def recording(self) -> AbstractContextManager[list[Event]]: ...


def record(board: Recorder, operation: str, values: Sequence[np.ndarray[Any, Any]]) -> Timeline:
    """A call of the operation, with checked arrays that are not empty."""
    accelerator, function = Accelerator(board), OPERATIONS[operation]
    accelerator.prepare(function.kernel)  # which else would be part of the picture
    with board.recording() as events:
        function.call(accelerator, *values)
    return assemble(events)


def assemble(events: Sequence[Event]) -> Timeline:
    """The call that `events`, of one kernel and in the order of their cycles, tell of.

    Raises InvalidArgument where there are none, or several kernels.
    """
    names = sorted({event.kernel for event in events})
    if len(names) != 1:
        raise InvalidArgument(
            f"expected the events of one kernel, found those of {', '.join(names) or 'none'}"
        )
    kernel, first = KERNELS[names[0]], events[0].cycle
    events = [event._replace(cycle=event.cycle - first) for event in events]
    cycles = events[-1].cycle + 1
    return Timeline(
        kernel,
        cycles,
        list(_accesses(kernel, events)),
        sorted(_bursts(kernel, events), key=lambda burst: burst.span),
        list(_spans(events, Kind.BUSY, Kind.DONE, cycles)),
        list(_spans(events, Kind.INTERRUPT_UP, Kind.INTERRUPT_DOWN, cycles)),
    )


def _accesses(kernel: Kernel, events: Iterable[Event]) -> Iterator[Access]:
    names = {register.offset: register.name for register in kernel.registers}
    for event in events:
        if event.kind in (Kind.REGISTER_READ, Kind.REGISTER_WRITE):
            name = names.get(event.address, f"{event.address:#x}")
            yield Access(event.cycle, event.kind == Kind.REGISTER_WRITE, name, event.value)


def _spans(events: Iterable[Event], begin: Kind, end: Kind, cycles: int) -> Iterator[Span]:
    """What has not ended with the last event ends there."""
    start: int | None = None
    for event in events:
        if event.kind == begin:
            start = event.cycle
        elif event.kind == end and start is not None:
            yield Span(start, event.cycle)
            start = None
    if start is not None:
        yield Span(start, cycles)


def _bursts(kernel: Kernel, events: Iterable[Event]) -> Iterator[Burst]:
    """All have the same id, so answers come in the order of the requests (IHI 0022, A5.3)."""
    operands = {each.offset: each.name for each in kernel.arguments if each.name in _OPERANDS}
    places: dict[str, int] = {}
    asked: dict[Kind, deque[Event]] = {Kind.READ_BURST: deque(), Kind.WRITE_BURST: deque()}
    sent: deque[int] = deque()  # cycles of the last words of writes
    for event in events:
        kind, cycle = event.kind, event.cycle
        if kind == Kind.REGISTER_WRITE and event.address in operands:
            places[operands[event.address]] = event.value
        elif kind in asked:
            asked[kind].append(event)
        elif kind == Kind.WRITE_LAST:
            sent.append(cycle)
        elif kind in (Kind.READ_LAST, Kind.WRITE_RESPONSE):
            is_write = kind == Kind.WRITE_RESPONSE
            request = asked[Kind.WRITE_BURST if is_write else Kind.READ_BURST].popleft()
            last = sent.popleft() if is_write else cycle
            yield Burst(
                _owner(places, request.address),
                is_write,
                request.address,
                request.value,
                Span(request.cycle, cycle + 1),
                Span(last + 1 - request.value, last + 1),
                event.value != 0,
            )


def _owner(places: Mapping[str, int], address: int) -> str:
    """The operand that begins last before the address: their buffers lie apart."""
    return max((name for name in places if places[name] <= address), key=places.__getitem__)
