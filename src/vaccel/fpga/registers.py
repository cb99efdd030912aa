"""The register map: the only source for hardware, drivers, `.hwh`, Vivado script and documents.

Each kernel has an AXI4-Lite slave with the control registers of Vitis HLS (`ap_ctrl_hs`, UG1399),
its arguments, and what it reports. Offsets are in bytes; all registers have 32 bits. While a job
runs, the arguments cannot be written.
"""

from __future__ import annotations

from enum import Enum, IntEnum, IntFlag
from typing import NamedTuple

CLOCK_HZ = 100_000_000
"""FCLK0, the clock of all kernels and of the HP port."""

VERSION = 0x0001_0000
"""Major in the upper half, minor in the lower; a driver runs kernels of its own major version."""

WINDOW = 0x1_0000
"""Bytes of address space that each kernel's registers occupy."""

ALIGNMENT = 8
"""Bytes: buffer addresses and row strides are multiples of the port's width."""

BURST_BEATS = 16
"""64-bit beats in the longest burst: what AXI3, and so the HP port of a Zynq-7000, allows."""


class Access(Enum):
    READ_WRITE = "read-write"
    READ_ONLY = "read-only"


class Field(NamedTuple):
    """Bits of a register, from `bit` up."""

    name: str
    bit: int
    width: int
    description: str
    access: Access = Access.READ_WRITE


class Register(NamedTuple):
    name: str
    offset: int
    description: str
    access: Access = Access.READ_WRITE
    fields: tuple[Field, ...] = ()


class Control(IntFlag):
    """Bits of `control`. Reading the register clears DONE."""

    START = 1
    DONE = 2
    IDLE = 4
    READY = 8


class Status(IntEnum):
    """How the last job ended; a job that is refused ends at once and touches no memory."""

    OK = 0
    UNALIGNED = 1
    EMPTY = 2
    OPERATION = 3
    SHAPE = 4
    READ_ERROR = 5
    WRITE_ERROR = 6

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Status.OK: "the job is done",
    Status.UNALIGNED: f"an address or stride is not a multiple of {ALIGNMENT}",
    Status.EMPTY: "a length is zero",
    Status.OPERATION: "the operation does not exist",
    Status.SHAPE: "a size is no multiple of the unit's, more than it holds, or ends beyond 4 GiB",
    Status.READ_ERROR: "the memory refused a read",
    Status.WRITE_ERROR: "the memory refused a write",
}


class Operation(IntEnum):
    """Values of the elementwise kernel's `operation`."""

    COPY = 0
    ADD = 1
    MULTIPLY = 2
    ADD_AND_MULTIPLY = 3


class Flags(IntFlag):
    """Bits of the matrix kernel's `flags`."""

    ACCUMULATE = 1


_RO = Access.READ_ONLY

CONTROL = Register(
    "control",
    0x00,
    "start and state of the kernel",
    fields=(
        Field("start", 0, 1, "write 1 to start; ignored while the kernel runs"),
        Field("done", 1, 1, "a job has ended since the last read", _RO),
        Field("idle", 2, 1, "no job runs", _RO),
        Field("ready", 3, 1, "same as done", _RO),
    ),
)
GLOBAL_INTERRUPT = Register(
    "global_interrupt", 0x04, "enables the interrupt line", fields=(Field("enable", 0, 1, "on"),)
)
INTERRUPT_ENABLE = Register(
    "interrupt_enable", 0x08, "events that interrupt", fields=(Field("done", 0, 1, "a job ended"),)
)
INTERRUPT_STATUS = Register(
    "interrupt_status",
    0x0C,
    "events that happened; writing 1 toggles a bit",
    fields=(Field("done", 0, 1, "a job ended"),),
)
STATUS = Register("status", 0x40, "how the last job ended: one of Status", _RO)
CYCLES = Register("cycles", 0x44, "clock cycles of the last job, from start to done", _RO)
FAULT = Register("fault", 0x48, "address of the first burst that the memory refused", _RO)
IDENTIFICATION = Register("identification", 0x4C, "which kernel this is: four letters", _RO)
VERSION_REGISTER = Register("version", 0x50, "major << 16 | minor", _RO)
CAPABILITY = Register("capability", 0x54, "sizes that the kernel was built with", _RO)

_BEFORE = (CONTROL, GLOBAL_INTERRUPT, INTERRUPT_ENABLE, INTERRUPT_STATUS)
_AFTER = (STATUS, CYCLES, FAULT, IDENTIFICATION, VERSION_REGISTER)


class Kernel(NamedTuple):
    """A kernel's registers and place in the overlay."""

    name: str
    summary: str
    identification: int
    base: int
    arguments: tuple[Register, ...]
    capability: Register

    @property
    def registers(self) -> tuple[Register, ...]:
        return (*_BEFORE, *self.arguments, *_AFTER, self.capability)

    def offset(self, name: str) -> int:
        """The offset of the argument `name`."""
        return next(r.offset for r in self.arguments if r.name == name)


def letters(identification: int) -> str:
    """The four letters of an identification register; others are shown as dots."""
    data = identification.to_bytes(4, "big")
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 0x80 else "." for byte in data)


def dotted(version: int) -> str:
    """A version register as major.minor."""
    return f"{version >> 16}.{version & 0xFFFF}"


def _word(text: str) -> int:
    return int.from_bytes(text.encode("ascii"), "big")


def _arguments(*rows: tuple[str, str]) -> tuple[Register, ...]:
    return tuple(Register(name, 0x10 + 4 * i, text) for i, (name, text) in enumerate(rows))


ELEMENTWISE = Kernel(
    "elementwise",
    "copy, add, multiply, or add and multiply in one pass",
    _word("VAEW"),
    0x43C0_0000,
    _arguments(
        ("in1", "address of the first operand"),
        ("in2", "address of the second operand; not read by COPY"),
        ("out1", "address of the result (of the sum, for ADD_AND_MULTIPLY)"),
        ("out2", "address of the product, for ADD_AND_MULTIPLY only"),
        ("length", "32-bit elements"),
        ("operation", "one of Operation"),
    ),
    CAPABILITY._replace(fields=(Field("lanes", 0, 8, "elements a cycle", _RO),)),
)

MMULT = Kernel(
    "mmult",
    "matrix product, k summed in ascending order",
    _word("VAMM"),
    0x43C1_0000,
    _arguments(
        ("in1", "address of A, rows by inner"),
        ("in2", "address of B, inner by columns"),
        ("out", "address of C, rows by columns"),
        ("rows", "of A and C, a multiple of the unit's rows"),
        ("inner", "columns of A and rows of B, even, at most the unit's depth"),
        ("columns", "of B and C, a multiple of the unit's lanes"),
        ("stride1", "bytes from one row of A to the next"),
        ("stride2", "bytes from one row of B to the next"),
        ("stride_out", "bytes from one row of C to the next"),
        ("flags", "ACCUMULATE: add to C, whose values come first in each sum"),
    ),
    CAPABILITY._replace(
        fields=(
            Field("lanes", 0, 8, "columns of C at a time", _RO),
            Field("rows", 8, 8, "rows of C at a time", _RO),
            Field("depth", 16, 16, "the largest inner size", _RO),
        )
    ),
)

KERNELS = {kernel.name: kernel for kernel in (ELEMENTWISE, MMULT)}
