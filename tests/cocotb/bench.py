"""A kernel between cocotbext-axi's models: a processor on its registers, a memory on its port."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiSlave
from cocotbext.axi.sparse_memory import SparseMemory

from tests.cocotb.monitor import Monitor
from vaccel.fpga.registers import CONTROL, KERNELS, Control, Status

GUARD = 256  # bytes around everything a job writes
PERIOD = 10  # ns
CHANNELS = ("ar", "r", "aw", "w", "b")
_FILL = 0xAA

U32s = npt.NDArray[np.uint32]


class Memory:
    """4 GiB behind AxiSlave, which answers SLVERR where this raises."""

    def __init__(self) -> None:
        self.bytes = SparseMemory(2**32)
        self.refused = range(0)
        """Addresses that exist no more."""

    async def read(self, address: int, length: int) -> bytes:
        self._check(address)
        data: bytes = self.bytes.read(address, length)
        return data

    async def write(self, address: int, data: bytes) -> None:
        self._check(address)
        self.bytes.write(address, data)

    def _check(self, address: int) -> None:
        if address in self.refused:
            raise PermissionError(f"{address:#x}")

    def put(self, address: int, array: npt.NDArray[Any]) -> None:
        self.bytes.write(address, array.tobytes())

    def get(self, address: int, count: int) -> U32s:
        return np.frombuffer(self.bytes.read(address, 4 * count), np.uint32)

    def fill(self, address: int, nbytes: int) -> None:
        """Prepare for a result: what is there, and the guards around it, has one known value."""
        start = max(0, address - GUARD)
        self.bytes.write(start, bytes([_FILL]) * (min(2**32, address + nbytes + GUARD) - start))

    def is_filled(self, address: int, nbytes: int) -> bool:
        untouched: bool = self.bytes.read(address, nbytes) == bytes([_FILL]) * nbytes
        return untouched

    def guards_are_intact(self, address: int, nbytes: int) -> bool:
        before = min(GUARD, address)
        end = address + nbytes
        return self.is_filled(address - before, before) and self.is_filled(
            end, min(GUARD, 2**32 - end)
        )


class Bench:
    """All that stands around the kernel; `rng` decides what is up to chance."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.kernel = KERNELS[dut._name.removesuffix("_top")]
        self.rng = np.random.default_rng(cocotb.RANDOM_SEED)
        for bus in ("s_axi", "m_axi"):
            # Every access is an INFO; every refused one a WARNING.
            logging.getLogger(f"cocotb.{dut._name}.{bus}").setLevel(logging.ERROR)
        cocotb.start_soon(Clock(dut.clk, PERIOD, unit="ns").start())
        self.memory = Memory()
        self.processor = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        self._slave = AxiSlave(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, self.memory)
        self.monitor = Monitor(dut)

    @classmethod
    async def ready(cls, dut: Any) -> Bench:
        bench = cls(dut)
        await bench.reset()
        return bench

    async def reset(self) -> None:
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 3)
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)

    # -- back-pressure -----------------------------------------------------------------------------

    def pause_memory(self, share: float, channels: Sequence[str] = CHANNELS) -> None:
        """Let these channels of the memory stand still in `share` of the cycles, the others not."""
        self._pause(self._slave, share, channels)

    def pause_processor(self, share: float) -> None:
        self._pause(self.processor, share, CHANNELS)

    def _pause(self, model: Any, share: float, channels: Sequence[str]) -> None:
        for name in CHANNELS:
            half = model.read_if if name in ("ar", "r") else model.write_if
            seed = int(self.rng.integers(2**32))
            chance = share if name in channels else 0
            getattr(half, f"{name}_channel").set_pause_generator(_pauses(seed, chance))

    # -- registers ---------------------------------------------------------------------------------

    async def write(self, name: str, value: int) -> None:
        await self.processor.write_dword(self._offset(name), value)

    async def read(self, name: str) -> int:
        value: int = await self.processor.read_dword(self._offset(name))
        return value

    def _offset(self, name: str) -> int:
        return next(each.offset for each in self.kernel.registers if each.name == name)

    # -- jobs --------------------------------------------------------------------------------------

    async def run(self, arguments: Mapping[str, int]) -> Status:
        """Run a job to its interrupt and acknowledge that; how the job ended."""
        await self.start(arguments)
        return await self.finish()

    async def start(self, arguments: Mapping[str, int]) -> None:
        self.monitor.forget()
        for name, value in arguments.items():
            await self.write(name, value)
        for name in ("global_interrupt", "interrupt_enable"):
            await self.write(name, 1)
        await self.write(CONTROL.name, Control.START)

    async def finish(self) -> Status:
        if not self.dut.irq.value:
            await RisingEdge(self.dut.irq)
        assert self.monitor.quiet
        assert await self.read("interrupt_status") == 1
        await self.write("interrupt_status", 1)
        assert not self.dut.irq.value, "irq outlives its acknowledgement"
        assert await self.read(CONTROL.name) == Control.DONE | Control.IDLE | Control.READY
        assert await self.read(CONTROL.name) == Control.IDLE, "reading control does not clear done"
        return Status(await self.read("status"))


def _pauses(seed: int, share: float) -> Iterator[bool]:
    chance = random.Random(seed)
    while True:
        yield chance.random() < share
