"""A kernel's RTL and the processing system around it, compiled: the binding to `system.cpp`."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping
from ctypes import POINTER, c_bool, c_char_p, c_size_t, c_uint32, c_uint64, c_void_p
from enum import IntEnum
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from vaccel.error import DeviceError
from vaccel.fpga.device import never
from vaccel.fpga.registers import CONTROL, Control

WHILE_HELD_MS = 1
"""Milliseconds that a run may hold the interpreter's lock: small jobs end within them."""
CHUNK_MS = 100
"""Milliseconds after which a long run looks for signals, Ctrl-C among them, and at `ended`."""


class Kind(IntEnum):
    """What happens: at a kernel's registers, at its memory port, in itself, at its interrupt.

    The address is a register's offset, or a burst's. The value is a register's, the beats of a
    burst, or the response to one (`READ_LAST`, `WRITE_RESPONSE`). A kernel is BUSY from the start
    bit on, and DONE when it interrupts or its done bit is read.
    """

    REGISTER_READ = 0
    REGISTER_WRITE = 1
    READ_BURST = 2
    READ_LAST = 3
    WRITE_BURST = 4
    WRITE_LAST = 5
    WRITE_RESPONSE = 6
    BUSY = 7
    DONE = 8
    INTERRUPT_UP = 9
    INTERRUPT_DOWN = 10


class Event(NamedTuple):
    """Something that can be seen from outside a kernel."""

    cycle: int
    """Of the board's clock, since the board exists."""
    kernel: str
    kind: Kind
    address: int
    value: int


class Refused(NamedTuple):
    """A burst that the memory answered with a bus error."""

    kernel: str
    address: int
    is_write: bool


class Memory(NamedTuple):
    """The DDR: where its bytes are in this process, its physical base address, its bytes."""

    pointer: int
    base: int
    size: int


class Timing(NamedTuple):
    """How the memory answers.

    latency: cycles from a burst to the first answer. stall: the probability of a wait state, in
    each cycle and channel; 1.0 never answers. seed: of the wait states.
    """

    latency: int = 20
    stall: float = 0.0
    seed: int = 1


class _Refused(ctypes.Structure):
    _fields_ = (("address", c_uint64), ("is_write", c_uint64))


class _Event(ctypes.Structure):
    _fields_ = tuple((name, c_uint64) for name in ("cycle", "kind", "address", "value"))


_FUNCTIONS: Mapping[str, tuple[Any, ...]] = {
    # name: result, arguments after the system
    "ps_destroy": (None,),
    "ps_set_timing": (None, c_uint64, c_uint64, c_uint64, c_uint32),
    "ps_write": (c_bool, c_uint32, c_uint32),
    "ps_read": (c_bool, c_uint32, POINTER(c_uint32)),
    "ps_run": (c_uint64, c_uint64, c_uint32),
    "ps_interrupts": (c_bool,),
    "ps_violation": (c_char_p,),
    "ps_refused": (c_size_t, POINTER(POINTER(_Refused))),
    "ps_record": (None, c_bool),
    "ps_events": (c_size_t, POINTER(POINTER(_Event))),
}


def harness() -> Mapping[str, str]:
    """The C++ to build with a kernel, by file name."""
    files = ("system.cpp", "system.h", "ports.h", "memory.h", "events.h")
    texts = {name: (resources.files(__package__) / name).read_text() for name in files}
    return {**texts, "registers.h": _registers()}


def _registers() -> str:
    """What the model needs of the register map."""
    constants = {"CONTROL": CONTROL.offset, "START": Control.START, "IS_DONE": Control.DONE}
    lines = (f"constexpr uint32_t {name} = {value:d};" for name, value in constants.items())
    return "\n".join(("#pragma once", "#include <cstdint>", *lines, ""))


@functools.cache
def _load(library: Path) -> tuple[ctypes.PyDLL, Callable[..., int]]:
    """Its functions; they hold the interpreter's lock, except the second one, `ps_run`."""
    try:
        held, released = ctypes.PyDLL(str(library)), ctypes.CDLL(str(library))
    except OSError as error:
        raise DeviceError(
            f"the simulator's library does not load: {error}; delete {library}, and it is built "
            "anew, or set XDG_CACHE_HOME if programs may not run from its disk"
        ) from None
    for each in (held, released):
        each.ps_create.restype = c_void_p
        each.ps_create.argtypes = [c_void_p, c_uint64, c_uint64, POINTER(c_uint64)]
        for name, (result, *arguments) in _FUNCTIONS.items():
            function = getattr(each, name)
            function.restype = result
            function.argtypes = [c_void_p, *arguments]
    return held, released.ps_run


class System:
    """One kernel on one board. Registers are named by their offsets.

    Raises DeviceError when the kernel breaks a rule of its buses.
    """

    def __init__(self, kernel: str, library: Path, memory: Memory, clock: c_uint64) -> None:
        self._kernel = kernel
        self._functions, self._run_released = _load(library)
        self._clock = clock  # the model points to it
        self._system: int = self._functions.ps_create(*memory, ctypes.byref(clock))
        self._word = c_uint32()

    def destroy(self) -> None:
        self._functions.ps_destroy(self._system)
        self._system = 0

    def set_timing(self, timing: Timing) -> None:
        latency, stall, seed = timing
        threshold = round(stall * 2**32)
        self._functions.ps_set_timing(self._system, latency, latency, threshold, seed)

    def read(self, offset: int) -> int:
        if not self._functions.ps_read(self._system, offset, ctypes.byref(self._word)):
            self._fail(offset)
        return self._word.value

    def write(self, offset: int, value: int) -> None:
        if not self._functions.ps_write(self._system, offset, value):
            self._fail(offset)

    def run(self, cycles: int, ended: Callable[[], bool] = never) -> bool:
        """Until the kernel interrupts; False if it has not after so many cycles, or `ended()`."""
        left = cycles - self._functions.ps_run(self._system, cycles, WHILE_HELD_MS)
        while left and not self.interrupts and not ended():
            self._check()
            left -= self._run_released(self._system, left, CHUNK_MS)
        self._check()
        return self.interrupts

    @property
    def interrupts(self) -> bool:
        return bool(self._functions.ps_interrupts(self._system))

    def refused(self) -> list[Refused]:
        """The bursts that the memory refused, up to a thousand, in order."""
        found = POINTER(_Refused)()
        count = self._functions.ps_refused(self._system, ctypes.byref(found))
        return [Refused(self._kernel, r.address, bool(r.is_write)) for r in found[:count]]

    def record(self, on: bool) -> None:
        """Begin with no events, or forget them."""
        self._functions.ps_record(self._system, on)

    def events(self) -> list[Event]:
        """What happened since `record`."""
        found = POINTER(_Event)()
        count = self._functions.ps_events(self._system, ctypes.byref(found))
        return [
            Event(e.cycle, self._kernel, Kind(e.kind), e.address, e.value) for e in found[:count]
        ]

    def _fail(self, offset: int) -> None:
        self._check()
        raise DeviceError(f"the {self._kernel} kernel does not answer at register {offset:#x}")

    def _check(self) -> None:
        rule = self._functions.ps_violation(self._system)
        if rule:
            raise DeviceError(
                f"the {self._kernel} kernel breaks a rule of AXI in cycle {self._clock.value}: "
                f"{rule.decode()}"
            )
