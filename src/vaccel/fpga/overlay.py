"""What stands around the kernels on the chip: names and sizes that the `.hwh` and Vivado share."""

from __future__ import annotations

from typing import NamedTuple

from vaccel.fpga import registers
from vaccel.fpga.registers import Kernel

NAME = "vaccel"
"""Of the block design, and so of `vaccel.bit` and `vaccel.hwh`."""

PART = "xc7z020clg400-1"

MEMORY_BYTES = 512 << 20
"""The board's DDR, at address 0 of the HP port."""

BYTES_PER_BEAT = registers.ALIGNMENT

LANES = 16
"""Multiply-accumulate units of the matrix kernel, where nobody asks for another number."""

PROCESSOR = "processing_system7_0"
PROCESSOR_VLNV = "xilinx.com:ip:processing_system7:5.5"
REGISTERS_PORT = "M_AXI_GP0"
MEMORY_PORT = "S_AXI_HP0"
MEMORY_BLOCK = "HP0_DDR_LOWOCM"
CONCAT = "interrupts"
CONCAT_VLNV = "xilinx.com:ip:xlconcat:2.1"

# pynq finds interrupts behind an AXI interrupt controller (PG099) only, and the processor's Linux
# has a device for the first line from the fabric only. Where its registers are is ours to choose.
CONTROLLER = "interrupt_controller"
CONTROLLER_VLNV = "xilinx.com:ip:axi_intc:4.1"
CONTROLLER_BASE = 0x4180_0000
CONTROLLER_REGISTERS = "s_axi"

# Ports and interfaces of a kernel, by the names that Vitis HLS gives them.
CLOCK = "ap_clk"
RESET = "ap_rst_n"
INTERRUPT = "interrupt"
CONTROL = "s_axi_control"
MEMORY = "m_axi_gmem"

ADDRESS_BLOCK = "Reg"


def vlnv(kernel: Kernel) -> str:
    """Vendor, library, name and version of the kernel's IP."""
    return f"vaccel:fpga:{kernel.name}:{version()}"


def version() -> str:
    """As in the kernels' version register: major.minor."""
    return registers.dotted(registers.VERSION)


class Clock(NamedTuple):
    """How FCLK0 is made from the IO PLL."""

    divisor0: int
    divisor1: int

    @property
    def hz(self) -> float:
        return IO_PLL_HZ / (self.divisor0 * self.divisor1)


IO_PLL_HZ = 1_000_000_000
MAX_DIVISOR = 63  # six bits each (UG585, FPGA0_CLK_CTRL)


def clock(hz: int = registers.CLOCK_HZ) -> Clock:
    """The fastest setting of FCLK0 that is not above `hz`."""
    pairs = [
        Clock(first, second)
        for first in range(1, MAX_DIVISOR + 1)
        for second in range(1, first + 1)
        if first * second * hz >= IO_PLL_HZ
    ]
    return min(pairs, key=lambda pair: (pair.divisor0 * pair.divisor1, pair.divisor0))


def processor_settings() -> dict[str, str]:
    """Configuration of the processing system's IP (PG082): what differs from its defaults."""
    return {
        # The board's crystal and memory, from which Vivado finds clocks and addresses.
        "PCW_CRYSTAL_PERIPHERAL_FREQMHZ": "50",
        "PCW_UIPARAM_DDR_PARTNO": "MT41J256M16 RE-125",
        "PCW_UIPARAM_DDR_BUS_WIDTH": "16 Bit",
        "PCW_FPGA0_PERIPHERAL_FREQMHZ": f"{clock().hz / 1e6:g}",
        "PCW_FPGA_FCLK0_ENABLE": "1",
        "PCW_EN_CLK0_PORT": "1",
        "PCW_EN_RST0_PORT": "1",
        "PCW_USE_M_AXI_GP0": "1",
        "PCW_USE_S_AXI_HP0": "1",
        "PCW_S_AXI_HP0_DATA_WIDTH": str(8 * BYTES_PER_BEAT),
        "PCW_USE_FABRIC_INTERRUPT": "1",
        "PCW_IRQ_F2P_INTR": "1",
    }
