"""A pynq device whose fabric is the RTL simulation: below it nothing, above it pynq as released.

It does for pynq what pynq's own EmbeddedDevice does on a PYNQ-Z1.
"""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pynq.buffer
from pynq.buffer import PynqBuffer
from pynq.metadata.runtime_metadata_parser import RuntimeMetadataParser
from pynq.pl_server.device import Device
from pynqmetadata.frontends import Metadata

from tests.pynq.controller import InterruptController
from vaccel.fpga import overlay, registers
from vaccel.fpga.device import Buffer
from vaccel.fpga.simulator import Simulator

# Cycles of the fabric that a register access from Python takes, about, on the board.
ACCESS = 1000
# Cycles that pass, at most, while a program waits for an interrupt.
INTERRUPT = 200_000

# Offsets in the system-level control registers of a Zynq-7000 (UG585): those of the clocks.
PLLS = (0x100, 0x104, 0x108)
FCLKS = (0x170, 0x180, 0x190, 0x1A0)


class _Libc:
    """What pynq unmaps a buffer with."""

    def __init__(self) -> None:
        self.mapped: dict[int, Buffer] = {}

    def munmap(self, address: ctypes.c_void_p, nbytes: int) -> None:
        self.mapped.pop(address.value or 0).free()


# pynq.buffer has these two on a board only.
_LIBC = pynq.buffer.libc = _Libc()
pynq.buffer.ctypes = ctypes


class SimulatedDevice(Device):  # type: ignore[misc]
    """For `Device.active_device`.

    downloads: the bitstreams loaded so far. synced: the parts of buffers flushed or invalidated so
    far, as what, physical address, bytes. values: what registers read as, by address, whatever the
    fabric says. reads: of kernels' registers, how many so far.
    """

    _probe_priority_ = 10

    @classmethod
    def _probe_(cls) -> list[Device]:
        return []

    def __init__(self, simulator: Simulator, uio: Path) -> None:
        super().__init__("simulated")
        self.name = "a simulated PYNQ-Z1"
        self.arch = "armv7l"
        self.capabilities = {"REGISTER_RW": True}
        self.simulator = simulator
        self.controller = InterruptController(uio)
        self.downloads: list[str] = []
        self.synced: list[tuple[str, int, int]] = []
        self.values: dict[int, int] = {}
        self.reads = 0
        self._inputs: dict[int, int] = {}  # of the interrupt controller, by kernels' addresses
        self._used: set[int] = set()  # kernels; others need not be simulated
        # At 50 MHz times 20, divided by 25 and 1: not yet what the overlay wants.
        self._slcr = dict.fromkeys(PLLS, 20 << 12) | dict.fromkeys(FCLKS, 1 << 20 | 25 << 8)

    # -- the overlay -------------------------------------------------------------------------------

    def get_bitfile_metadata(self, bitfile_name: str, partial: bool = False) -> Any:
        return RuntimeMetadataParser(Metadata(input=Path(bitfile_name).with_suffix(".hwh")))

    def download(self, bitstream: Any, parser: Any = None) -> None:
        self.downloads.append(bitstream.bitfile_name)
        self.simulator.program()
        self.controller.reset()
        self._inputs = {
            entry["phys_addr"]: line["index"]
            for entry in parser.ip_dict.values()
            for line in entry["interrupts"].values()
        }
        self._used.clear()
        self.post_download(bitstream, parser, self.name)

    # -- registers ---------------------------------------------------------------------------------

    def read_registers(self, address: int, length: int) -> bytes:
        words = (self._read(address + at) for at in range(0, length, 4))
        return b"".join(struct.pack("<I", word) for word in words)

    def write_registers(self, address: int, data: bytes) -> None:
        for index, (word,) in enumerate(struct.iter_unpack("<I", data)):
            self._write(address + 4 * index, word)

    def _read(self, address: int) -> int:
        window, offset = divmod(address, registers.WINDOW)
        match window * registers.WINDOW:
            case 0xF800_0000:
                return self._slcr.get(offset, 0)
            case overlay.CONTROLLER_BASE:
                return self.controller.read(offset)
        self._use(address)
        self.reads += 1
        self.run(ACCESS)
        return self.values.get(address, self.simulator.read32(address))

    def _write(self, address: int, word: int) -> None:
        window, offset = divmod(address, registers.WINDOW)
        match window * registers.WINDOW:
            case 0xF800_0000:
                self._slcr[offset] = word
            case overlay.CONTROLLER_BASE:
                self.controller.write(offset, word)
                self.controller.update(self._interrupting())
                if self.controller.waited_for:
                    self.run(INTERRUPT)
                    self.controller.update(self._interrupting())
            case _:
                self._use(address)
                self.simulator.write32(address, word)

    def _use(self, address: int) -> None:
        base = address - address % registers.WINDOW
        if base not in self._inputs:
            raise RuntimeError(f"bus error: nothing answers at {address:#010x}")
        self._used.add(base)

    def _interrupting(self) -> int:
        """A bit for each kernel whose interrupt line is high."""
        return sum(1 << self._inputs[base] for base in self._used if self._is_high(base))

    def _is_high(self, base: int) -> bool:
        enabled, events, happened = (
            self.simulator.read32(base + register.offset)
            for register in (
                registers.GLOBAL_INTERRUPT,
                registers.INTERRUPT_ENABLE,
                registers.INTERRUPT_STATUS,
            )
        )
        return bool(enabled & 1 and events & happened)

    # -- time --------------------------------------------------------------------------------------

    @property
    def hz(self) -> float:
        """Of FCLK0, as the system-level control registers set it."""
        setting = self._slcr[FCLKS[0]]
        return 1e9 / ((setting >> 8 & 63) * (setting >> 20 & 63))

    def run(self, cycles: int) -> None:
        """Let the fabric run, up to the next interrupt at most."""
        for base in self._used:
            self.simulator.wait(base, cycles)

    # -- memory ------------------------------------------------------------------------------------

    @property
    def default_memory(self) -> SimulatedDevice:
        return self

    def allocate(self, shape: Any, dtype: Any, cacheable: bool = False) -> PynqBuffer:
        """Cacheable or not: what is not flushed, the fabric does not see."""
        buffer = self.simulator.allocate(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        memory = PynqBuffer(
            shape,
            dtype,
            buffer=buffer.array.data,
            device=self,
            device_address=buffer.physical_address,
            bo=buffer,
        )
        memory.memory = self
        _LIBC.mapped[memory.virtual_address] = buffer
        return memory

    def flush(self, buffer: Any, offset: int, virtual_address: int, nbytes: int) -> None:
        self.synced.append(("flush", buffer.physical_address + offset, nbytes))
        buffer.flush(offset + nbytes)

    def invalidate(self, buffer: Any, offset: int, virtual_address: int, nbytes: int) -> None:
        self.synced.append(("invalidate", buffer.physical_address + offset, nbytes))
        buffer.invalidate(offset + nbytes)


class BoardTime:
    """`time` for a program on the board: it passes as the fabric runs, and in no other way."""

    def __init__(self, device: SimulatedDevice) -> None:
        self._device = device

    def monotonic(self) -> float:
        return self._device.simulator.cycles / self._device.hz

    def sleep(self, seconds: float) -> None:
        self._device.run(round(seconds * self._device.hz))
