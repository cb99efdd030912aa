"""Devices between the drivers and a device below: they watch, or they do harm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vaccel.fpga.device import Buffer, Device, Info, never
from vaccel.fpga.drivers import Accelerator
from vaccel.fpga.simulator import Simulator


def built() -> None:
    """Have the simulated board's vector kernel ready, which else the first call builds and says."""
    accelerator = Accelerator(Simulator())
    accelerator.add(*np.ones((2, 1), np.float32))
    accelerator.close()


class Through:
    """A device.Device that hands everything on."""

    def __init__(self, below: Device) -> None:
        self.below = below
        self.programmed = 0

    @property
    def simulated(self) -> bool:
        return self.below.simulated

    @property
    def clock_hz(self) -> float:
        return self.below.clock_hz

    def program(self) -> Mapping[str, int]:
        self.programmed += 1
        return self.below.program()

    def allocate(self, nbytes: int) -> Buffer:
        return self.below.allocate(nbytes)

    def read32(self, address: int) -> int:
        return self.below.read32(address)

    def write32(self, address: int, value: int) -> None:
        self.below.write32(address, value)

    def wait(self, base: int, cycles: int, ended: Callable[[], bool] = never) -> bool:
        return self.below.wait(base, cycles, ended)

    def info(self) -> Info:
        return self.below.info()

    def close(self) -> None:
        self.below.close()


class Handled:
    """A buffer whose `flush` and `invalidate` go through `handle(what, buffer, nbytes)`."""

    def __init__(self, below: Buffer, handle: Callable[[str, Any, int | None], None]) -> None:
        self._below = below
        self._handle = handle
        self.physical_address = below.physical_address

    @property
    def array(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return self._below.array

    def flush(self, nbytes: int | None = None) -> None:
        self._handle("flush", self._below, nbytes)

    def invalidate(self, nbytes: int | None = None) -> None:
        self._handle("invalidate", self._below, nbytes)

    def free(self) -> None:
        self._below.free()


class Cache(Through):
    """Keeps what was flushed and invalidated; leaves out what `skip` names."""

    def __init__(self, below: Device, skip: str = "") -> None:
        super().__init__(below)
        self.skip = skip
        self.done: list[tuple[str, int | None]] = []
        self.allocated = 0

    def allocate(self, nbytes: int) -> Buffer:
        self.allocated += 1
        return Handled(super().allocate(nbytes), self._handle)

    def _handle(self, what: str, buffer: Buffer, nbytes: int | None) -> None:
        self.done.append((what, nbytes))
        if what != self.skip:
            getattr(buffer, what)(nbytes)


class Registers(Through):
    """Some registers read as something else."""

    def __init__(self, below: Device, values: Mapping[int, int]) -> None:
        super().__init__(below)
        self._values = values

    def read32(self, address: int) -> int:
        value = super().read32(address)
        return self._values.get(address, value)


class Astray(Through):
    """The next buffers lie, for the fabric, where there is no memory."""

    NOWHERE = 0xF000_0000

    def __init__(self, below: Device) -> None:
        super().__init__(below)
        self.lost = 0

    def allocate(self, nbytes: int) -> Buffer:
        buffer = Handled(super().allocate(nbytes), lambda what, b, n: getattr(b, what)(n))
        if self.lost:
            self.lost -= 1
            buffer.physical_address = self.NOWHERE
        return buffer


class Waits(Through):
    """Calls `instead` in place of the next wait, if it is set; its result is the answer."""

    def __init__(self, below: Device) -> None:
        super().__init__(below)
        self.instead: Callable[[], bool] | None = None

    def wait(self, base: int, cycles: int, ended: Callable[[], bool] = never) -> bool:
        instead, self.instead = self.instead, None
        return super().wait(base, cycles, ended) if instead is None else instead()
