"""The register map as a Markdown document."""

from __future__ import annotations

from collections.abc import Iterable

from vaccel.fpga import overlay, registers
from vaccel.fpga.registers import Access, Kernel, Operation, Register, Status

_INTRODUCTION = f"""\
# Registers of the kernels

Made by `vaccel fpga registers --markdown`.

Each kernel has {registers.WINDOW // 1024} KiB of addresses. All registers have 32 bits; offsets are
in bytes, addresses and strides multiples of {registers.ALIGNMENT}. The first four are the control
registers of Vitis HLS (`ap_ctrl_hs`). The interrupt line is high while `global_interrupt` is on and
`interrupt_status` is not zero; its bits are set only where `interrupt_enable` has them.
"""


def markdown() -> str:
    return "\n".join(
        [
            _INTRODUCTION,
            *(_kernel(kernel) for kernel in registers.KERNELS.values()),
            "## Values\n",
            _table(
                ("`status`", "Name", "How the job ended"),
                ((str(int(s)), f"`{s.name}`", s.meaning) for s in Status),
            ),
            _table(
                ("`operation`", "Name"),
                ((str(int(operation)), f"`{operation.name}`") for operation in Operation),
            ),
            _interrupts(),
        ]
    ).rstrip("\n")


def _kernel(kernel: Kernel) -> str:
    rows = (
        (
            f"`0x{register.offset:02X}`",
            f"`{register.name}`",
            "read" if register.access is Access.READ_ONLY else "read, write",
            _contents(register),
        )
        for register in kernel.registers
    )
    return (
        f"## `{kernel.name}`\n\n"
        f"{kernel.summary[0].upper()}{kernel.summary[1:]}. Base address `0x{kernel.base:08X}`, "
        f"identification `{registers.letters(kernel.identification)}`, "
        f"version {overlay.version()}.\n\n"
    ) + _table(("Offset", "Register", "Access", "What it holds"), rows)


def _contents(register: Register) -> str:
    return "; ".join([register.description, *map(_field, register.fields)]).replace("|", "\\|")


def _field(field: registers.Field) -> str:
    last = field.bit + field.width - 1
    bits = f"bit {field.bit}" if field.width == 1 else f"bits {field.bit} to {last}"
    return f"{bits}, `{field.name}`: {field.description}"


def _interrupts() -> str:
    names = enumerate(registers.KERNELS)
    inputs = ", ".join(f"input {index} is `{name}`" for index, name in names)
    return (
        "## Interrupts\n\n"
        f"Both lines go to an AXI interrupt controller at `0x{overlay.CONTROLLER_BASE:08X}`: "
        f"{inputs}. Its output is the first interrupt from the fabric.\n"
    )


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
