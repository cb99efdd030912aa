"""What Vivado makes a bitstream of: the kernels' Verilog, the register map as Tcl, the scripts.

The scripts lie in `tcl/` as they are written out; all that depends on the register map is in
`overlay.tcl`, generated here. Unrun: no bitstream has been built with them so far.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vaccel.error import InvalidArgument
from vaccel.fpga import hwh, overlay, registers
from vaccel.fpga.registers import Field, Kernel, Register
from vaccel.fpga.rtl import export

if TYPE_CHECKING:
    from amaranth.lib.wiring import Component

VERSION = "2024.1"
"""The Vivado that the scripts are written for."""

SCRIPTS = Path(__file__).with_name("tcl")


def build(folder: Path, *, lanes: int) -> list[Path]:
    """Write all that `vivado -mode batch -source build.tcl` needs; the paths, in the order written.

    lanes: of the matrix kernel.
    """
    files: dict[str, str] = {}
    for kernel in registers.KERNELS.values():
        sizes = {"lanes": lanes} if kernel is registers.MMULT else {}
        component = export.component(kernel.name, **sizes)
        files[f"{kernel.name}.v"] = export.verilog(component, kernel.name)
        files[f"{kernel.name}_ip.v"] = wrapper(kernel, component)
    files[f"{overlay.NAME}.hwh"] = hwh.document()
    files["overlay.tcl"] = settings()
    for script in sorted(SCRIPTS.glob("*.tcl")):
        files[script.name] = script.read_text(encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]


# -- Verilog around a kernel -------------------------------------------------------------------


class _Port(NamedTuple):
    """Of the wrapper."""

    name: str
    direction: str
    width: int
    interface: str
    signal: str
    """What the interface's definition calls it."""
    inner: str
    """The port of the kernel that it is joined to."""
    value: str
    """What the two have in common, as an expression."""


def wrapper(kernel: Kernel, component: Component) -> str:
    """Verilog of `<kernel>_ip`: the kernel with the names and the reset of an IP.

    Vivado's packager reads the attributes (UG1118), so that nothing hangs on what it guesses.
    """
    ports = list(_ports(component))
    described = dict(_INTERFACES)
    declared = []
    for port in ports:
        vlnv, parameters = _INTERFACES[port.interface]
        attributes = f'X_INTERFACE_INFO = "{vlnv} {port.interface} {port.signal}"'
        if described.pop(port.interface, None):  # once for each interface
            name = f"XIL_INTERFACENAME {port.interface}"
            attributes += f',\n     X_INTERFACE_PARAMETER = "{name}, {parameters}"'
        span = f"[{port.width - 1}:0] " if port.width > 1 else ""
        declared.append(f"  (* {attributes} *)\n  {port.direction} wire {span}{port.name}")
    joined = [f"    .{port.inner}({port.value})" for port in ports]
    return "\n".join(
        [
            f"// {kernel.name} as an IP: {kernel.summary}.",
            f"module {kernel.name}_ip (",
            ",\n".join(declared),
            ");",
            f"  {kernel.name} kernel (",
            ",\n".join(joined),
            "  );",
            "endmodule\n",
        ]
    )


_AXI = "xilinx.com:interface:aximm:1.0"
_INTERFACES = {
    overlay.CLOCK: (
        "xilinx.com:signal:clock:1.0",
        f"ASSOCIATED_BUSIF {overlay.CONTROL}:{overlay.MEMORY}, ASSOCIATED_RESET {overlay.RESET}",
    ),
    overlay.RESET: ("xilinx.com:signal:reset:1.0", "POLARITY ACTIVE_LOW"),
    overlay.INTERRUPT: ("xilinx.com:signal:interrupt:1.0", "SENSITIVITY LEVEL_HIGH"),
    overlay.CONTROL: (_AXI, "PROTOCOL AXI4LITE, DATA_WIDTH 32"),
    overlay.MEMORY: (
        _AXI,
        f"PROTOCOL AXI4, DATA_WIDTH {8 * overlay.BYTES_PER_BEAT}, "
        f"MAX_BURST_LENGTH {registers.BURST_BEATS}, SUPPORTS_NARROW_BURST 0",
    ),
}
"""Type and parameters of each."""

_BUSES = {"s_axi": overlay.CONTROL, "m_axi": overlay.MEMORY}


def _ports(component: Component) -> Iterator[_Port]:
    from amaranth.hdl import Shape

    clock, reset, interrupt = overlay.CLOCK, overlay.RESET, overlay.INTERRUPT
    yield _Port(clock, "input", 1, clock, "CLK", "clk", clock)
    yield _Port(reset, "input", 1, reset, "RST", "rst", f"~{reset}")
    yield _Port(interrupt, "output", 1, interrupt, "INTERRUPT", "irq", interrupt)
    for (first, *rest), member, _ in component.signature.flatten(component):
        if first in _BUSES:
            bus, signal = _BUSES[first], "_".join(map(str, rest))
            name = f"{bus}_{signal}"
            direction = "output" if member.flow.name == "Out" else "input"
            width = Shape.cast(member.shape).width
            yield _Port(name, direction, width, bus, signal.upper(), f"{first}_{signal}", name)
        elif first != "irq":
            raise InvalidArgument(f"expected the ports s_axi, m_axi and irq, found {first!r}")


# -- the register map as Tcl -------------------------------------------------------------------


def settings() -> str:
    """`overlay.tcl`: the dictionaries `overlay` and `kernels` that the scripts read."""
    return (
        "# Made from the register map by `vaccel fpga build`.\n\n"
        f"set overlay {_tcl(_overlay())}\n"
        f"set kernels {_tcl({k.name: _kernel(k) for k in registers.KERNELS.values()})}\n"
    )


def _overlay() -> dict[str, Any]:
    return {
        "vivado": VERSION,
        "name": overlay.NAME,
        "part": overlay.PART,
        "window": registers.WINDOW,
        "memory_bytes": overlay.MEMORY_BYTES,
        "processor": overlay.PROCESSOR,
        "processor_vlnv": overlay.PROCESSOR_VLNV,
        "processor_settings": {
            f"CONFIG.{name}": value for name, value in overlay.processor_settings().items()
        },
        "registers_port": overlay.REGISTERS_PORT,
        "memory_port": overlay.MEMORY_PORT,
        "memory_block": overlay.MEMORY_BLOCK,
        "concat": overlay.CONCAT,
        "concat_vlnv": overlay.CONCAT_VLNV,
        "controller": overlay.CONTROLLER,
        "controller_vlnv": overlay.CONTROLLER_VLNV,
        "controller_base": f"0x{overlay.CONTROLLER_BASE:08X}",
        "controller_registers": overlay.CONTROLLER_REGISTERS,
        # Of each kernel:
        "clock": overlay.CLOCK,
        "reset": overlay.RESET,
        "interrupt": overlay.INTERRUPT,
        "control": overlay.CONTROL,
        "memory": overlay.MEMORY,
        "block": overlay.ADDRESS_BLOCK,
    }


def _kernel(kernel: Kernel) -> dict[str, Any]:
    return {
        "vlnv": overlay.vlnv(kernel),
        "summary": kernel.summary,
        "base": f"0x{kernel.base:08X}",
        "registers": [_register(register) for register in kernel.registers],
    }


def _register(register: Register) -> dict[str, Any]:
    return {
        "name": register.name,
        "offset": f"0x{register.offset:02X}",
        "access": register.access.value,
        "description": register.description,
        "fields": [_field(field) for field in register.fields],
    }


def _field(field: Field) -> dict[str, Any]:
    return {**field._asdict(), "access": field.access.value}


def _tcl(value: Any, indent: str = "") -> str:
    """`value` as a Tcl word: a dictionary, a list, or text."""
    inner = indent + "    "
    if isinstance(value, Mapping):
        lines = [f"{inner}{name} {_tcl(each, inner)}" for name, each in value.items()]
    elif isinstance(value, list):
        lines = [f"{inner}{_tcl(each, inner)}" for each in value]
    else:
        return _tcl_text(str(value))
    return "{\n" + "\n".join(lines) + f"\n{indent}}}" if lines else "{}"


def _tcl_text(text: str) -> str:
    if re.search(r"[{}\\\n]", text):
        raise InvalidArgument(
            f"expected text without braces and backslashes for Tcl, found {text!r}"
        )
    return text if re.fullmatch(r"[\w.:%-]+", text) else f"{{{text}}}"
