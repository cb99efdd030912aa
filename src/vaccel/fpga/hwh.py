"""The hardware hand-off file, made from the register map: what pynq reads to know an overlay.

It has what `pynq.Overlay` and pynqmetadata look at, in the form that Vivado writes: kernels with
their registers and addresses, the processing system with its clocks and ports, the interrupts. A
Vivado build writes its own, which describes the design that was really built.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from vaccel.fpga import overlay, registers
from vaccel.fpga.registers import Field, Kernel, Register

_AXI = "xilinx.com:interface:aximm:1.0"
_CLOCKS = 4  # FCLK0 to FCLK3, of which pynq sets each


def document() -> str:
    """The text of `vaccel.hwh`."""
    system = Element("EDKSYSTEM", EDWVERSION="1.2")
    SubElement(
        system,
        "SYSTEMINFO",
        ARCH="zynq",
        DEVICE="7z020",
        NAME=overlay.NAME,
        PACKAGE="clg400",
        SPEEDGRADE="-1",
    )
    SubElement(system, "EXTERNALPORTS")
    SubElement(system, "EXTERNALINTERFACES")
    modules = SubElement(system, "MODULES")
    modules.append(_processor())
    modules.append(_concat())
    modules.append(_controller())
    modules.extend(_kernel(kernel) for kernel in registers.KERNELS.values())
    ElementTree.indent(system)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(system, "unicode")}\n'


# -- modules -----------------------------------------------------------------------------------


def _module(instance: str, vlnv: str) -> Element:
    return Element(
        "MODULE",
        FULLNAME=f"/{instance}",
        INSTANCE=instance,
        IPTYPE="PERIPHERAL",
        IS_ENABLE="1",
        MODCLASS="PERIPHERAL",
        MODTYPE=vlnv.split(":")[2],
        VLNV=vlnv,
    )


def _kernel(kernel: Kernel) -> Element:
    index = list(registers.KERNELS).index(kernel.name)
    module = _module(kernel.name, overlay.vlnv(kernel))
    block = SubElement(
        SubElement(module, "ADDRESSBLOCKS"),
        "ADDRESSBLOCK",
        ACCESS="read-write",
        INTERFACE=overlay.CONTROL,
        NAME=overlay.ADDRESS_BLOCK,
        RANGE=str(registers.WINDOW),
        USAGE="register",
    )
    SubElement(block, "REGISTERS").extend(map(_register, kernel.registers))
    SubElement(module, "PARAMETERS")
    ports = SubElement(module, "PORTS")
    _port(ports, overlay.CLOCK, "I", "clk", [(overlay.PROCESSOR, "FCLK_CLK0")])
    _port(ports, overlay.RESET, "I", "rst")
    _port(ports, overlay.INTERRUPT, "O", "INTERRUPT", [(overlay.CONCAT, f"In{index}")])
    interfaces = SubElement(module, "BUSINTERFACES")
    _interface(interfaces, overlay.CONTROL, "SLAVE", 32)
    _interface(interfaces, overlay.MEMORY, "MASTER", 8 * overlay.BYTES_PER_BEAT)
    memory = SubElement(module, "MEMORYMAP")
    route = (overlay.MEMORY, overlay.PROCESSOR, overlay.MEMORY_PORT)
    _range(memory, route, overlay.MEMORY_BLOCK, "MEMORY", 0, overlay.MEMORY_BYTES)
    return module


def _processor() -> Element:
    module = _module(overlay.PROCESSOR, overlay.PROCESSOR_VLNV)
    module.set("IS_PL", "FALSE")
    parameters = SubElement(module, "PARAMETERS")
    for name, value in {**overlay.processor_settings(), **_clock_parameters()}.items():
        SubElement(parameters, "PARAMETER", NAME=name, VALUE=value)
    clocked = [(name, overlay.CLOCK) for name in registers.KERNELS]
    ports = SubElement(module, "PORTS")
    _port(ports, "FCLK_CLK0", "O", "clk", clocked)
    _port(ports, "FCLK_RESET0_N", "O", "rst")
    _port(ports, "IRQ_F2P", "I", "INTERRUPT", [(overlay.CONTROLLER, "irq")])
    interfaces = SubElement(module, "BUSINTERFACES")
    _interface(interfaces, overlay.REGISTERS_PORT, "MASTER", 32)
    _interface(interfaces, overlay.MEMORY_PORT, "SLAVE", 8 * overlay.BYTES_PER_BEAT)
    memory = SubElement(module, "MEMORYMAP")
    _registers_range(
        memory, overlay.CONTROLLER, overlay.CONTROLLER_REGISTERS, overlay.CONTROLLER_BASE
    )
    for kernel in registers.KERNELS.values():
        _registers_range(memory, kernel.name, overlay.CONTROL, kernel.base)
    return module


def _clock_parameters() -> dict[str, str]:
    parameters: dict[str, str] = {}
    for index in range(_CLOCKS):
        on = index == 0
        setting = overlay.clock() if on else overlay.Clock(1, 1)
        mhz = f"{setting.hz / 1e6:.6f}" if on else "0"
        parameters |= {
            f"PCW_FPGA_FCLK{index}_ENABLE": str(int(on)),
            f"PCW_FCLK{index}_PERIPHERAL_CLKSRC": "IO PLL",
            f"PCW_FCLK{index}_PERIPHERAL_DIVISOR0": str(setting.divisor0),
            f"PCW_FCLK{index}_PERIPHERAL_DIVISOR1": str(setting.divisor1),
            f"PCW_ACT_FPGA{index}_PERIPHERAL_FREQMHZ": mhz,
        }
    return parameters


def _concat() -> Element:
    """Joins the kernels' interrupts; the kernel that comes first in KERNELS has the lowest bit."""
    module = _module(overlay.CONCAT, overlay.CONCAT_VLNV)
    parameters = SubElement(module, "PARAMETERS")
    SubElement(parameters, "PARAMETER", NAME="NUM_PORTS", VALUE=str(len(registers.KERNELS)))
    ports = SubElement(module, "PORTS")
    for index, name in enumerate(registers.KERNELS):
        _port(ports, f"In{index}", "I", "", [(name, overlay.INTERRUPT)])
    _port(ports, "dout", "O", "", [(overlay.CONTROLLER, "intr")], len(registers.KERNELS))
    SubElement(module, "BUSINTERFACES")
    return module


def _controller() -> Element:
    module = _module(overlay.CONTROLLER, overlay.CONTROLLER_VLNV)
    SubElement(module, "PARAMETERS")
    ports = SubElement(module, "PORTS")
    concat = [(overlay.CONCAT, "dout")]
    _port(ports, "intr", "I", "INTERRUPT", concat, len(registers.KERNELS))
    _port(ports, "irq", "O", "INTERRUPT", [(overlay.PROCESSOR, "IRQ_F2P")])
    _interface(SubElement(module, "BUSINTERFACES"), overlay.CONTROLLER_REGISTERS, "SLAVE", 32)
    return module


# -- parts of modules --------------------------------------------------------------------------


def _port(
    ports: Element,
    name: str,
    direction: str,
    kind: str = "",
    connections: Iterable[tuple[str, str]] = (),
    width: int = 1,
) -> None:
    """`kind` is clk, rst, INTERRUPT or nothing; `connections` are instances and their ports."""
    port = SubElement(ports, "PORT", DIR=direction, NAME=name, SIGIS=kind or "undef")
    if width > 1:
        port.set("LEFT", str(width - 1))
        port.set("RIGHT", "0")
    joined = SubElement(port, "CONNECTIONS")
    for instance, other in connections:
        SubElement(joined, "CONNECTION", INSTANCE=instance, PORT=other)


def _interface(interfaces: Element, name: str, kind: str, width: int) -> None:
    interface = SubElement(
        interfaces,
        "BUSINTERFACE",
        BUSNAME="__NOC__",
        DATAWIDTH=str(width),
        NAME=name,
        TYPE=kind,
        VLNV=_AXI,
    )
    SubElement(interface, "PARAMETER", NAME="DATA_WIDTH", VALUE=str(width))
    SubElement(interface, "PORTMAPS")


def _registers_range(memory: Element, instance: str, interface: str, base: int) -> None:
    route = (overlay.REGISTERS_PORT, instance, interface)
    _range(memory, route, overlay.ADDRESS_BLOCK, "REGISTER", base, registers.WINDOW)


def _range(
    memory: Element, route: tuple[str, str, str], block: str, kind: str, base: int, size: int
) -> None:
    """Addresses of a master. The route: its port, the instance that it leads to, and the port."""
    master, instance, interface = route
    SubElement(
        memory,
        "MEMRANGE",
        ADDRESSBLOCK=block,
        BASENAME="C_BASEADDR",
        BASEVALUE=f"0x{base:08X}",
        HIGHNAME="C_HIGHADDR",
        HIGHVALUE=f"0x{base + size - 1:08X}",
        INSTANCE=instance,
        IS_DATA="TRUE",
        IS_INSTRUCTION="TRUE",
        MASTERBUSINTERFACE=master,
        MEMTYPE=kind,
        SLAVEBUSINTERFACE=interface,
    )


def _register(register: Register) -> Element:
    element = Element("REGISTER", NAME=register.name)
    _properties(
        element,
        DESCRIPTION=register.description,
        ADDRESS_OFFSET=f"0x{register.offset:02X}",
        SIZE="32",
        ACCESS=register.access.value,
        IS_ENABLED="true",
        RESET_VALUE="0x0",
    )
    SubElement(element, "FIELDS").extend(map(_field, register.fields))
    return element


def _field(field: Field) -> Element:
    element = Element("FIELD", NAME=field.name)
    _properties(
        element,
        DESCRIPTION=field.description,
        ADDRESS_OFFSET=str(field.bit),
        ACCESS=field.access.value,
        BIT_OFFSET=str(field.bit),
        BIT_WIDTH=str(field.width),
    )
    return element


def _properties(element: Element, **values: str) -> None:
    for name, value in values.items():
        SubElement(element, "PROPERTY", NAME=name, VALUE=value)
