"""Jobs on the kernels of a programmed device: checked, started, waited for, and stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from vaccel.error import DeadlineExceeded, DeviceError, SessionClosed
from vaccel.fpga import registers
from vaccel.fpga.device import Device, never
from vaccel.fpga.registers import Control, Kernel, Register, Status

PATIENCE = 20
"""How many times the cycles that a job should take it may take."""
GRACE = 100_000
"""Cycles that any job may take besides: other masters may hold up the memory."""


class Job(Protocol):
    """One run of a kernel; as text, its sizes."""

    @property
    def arguments(self) -> Mapping[str, int]: ...

    @property
    def cycles(self) -> int:
        """About what it takes."""

    def load(self) -> int:
        """Copy in and flush what the kernel reads; the bytes copied."""

    def unload(self) -> int:
        """Invalidate what the kernel wrote and copy it out; the bytes copied."""


class Work(NamedTuple):
    """What the kernel did for a call."""

    kernel: str
    jobs: int
    cycles: int


class Identity(NamedTuple):
    """What a kernel says of itself; `capability` by the names of the register's fields."""

    identification: int
    version: int
    capability: Mapping[str, int]

    @staticmethod
    def read(device: Device, kernel: Kernel, base: int) -> Identity:
        """What is found at `base`, where `kernel` should be."""
        identification, version, capability = (
            device.read32(base + register.offset)
            for register in (
                registers.IDENTIFICATION,
                registers.VERSION_REGISTER,
                kernel.capability,
            )
        )
        sizes = {f.name: capability >> f.bit & (1 << f.width) - 1 for f in kernel.capability.fields}
        return Identity(identification, version, sizes)

    def fault(self, kernel: Kernel) -> str:
        """Why this is not `kernel` as this version of vaccel knows it; "" if it is."""
        if self.identification != kernel.identification:
            return (
                f"expected identification {_shown(kernel.identification)}, "
                f"found {_shown(self.identification)}"
            )
        if self.version >> 16 != registers.VERSION >> 16:
            return (
                f"expected version {registers.VERSION >> 16}.x, "
                f"found {registers.dotted(self.version)}"
            )
        return ""


class Fabric:
    """The kernels. For one thread at a time."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.bytes_copied = 0
        self._bases: Mapping[str, int] = {}
        self._capabilities: dict[str, Mapping[str, int]] = {}
        self._arguments: dict[str, Mapping[str, int]] = {}
        self.running = False
        """A job was started and may still read and write memory."""

    def prepare(self, kernel: Kernel) -> int:
        """Program the device and check `kernel`, where that is still to be done; its base address.

        Raises DeviceError.
        """
        if not self._bases:
            self._program()
        base = self._bases.get(kernel.name)
        if base is None:
            found = ", ".join(sorted(self._bases)) or "none"
            raise DeviceError(f"expected a kernel named {kernel.name}, found {found}; {_REMEDY}")
        if kernel.name not in self._capabilities:
            identity = Identity.read(self.device, kernel, base)
            if fault := identity.fault(kernel):
                raise DeviceError(f"{kernel.name} kernel at {base:#010x}: {fault}; {_REMEDY}")
            self._write(base, registers.GLOBAL_INTERRUPT, 1)
            self._write(base, registers.INTERRUPT_ENABLE, 1)
            self._capabilities[kernel.name] = identity.capability
        return base

    def capability(self, kernel: Kernel, name: str) -> int:
        """A field of the kernel's capability register."""
        self.prepare(kernel)
        return self._capabilities[kernel.name][name]

    def run(self, kernel: Kernel, jobs: Iterable[Job], ended: Callable[[], bool] = never) -> Work:
        """Run `jobs` in order; each is loaded while the one before it runs.

        Raises DeviceError if the kernel is not ours or reports an error, DeadlineExceeded if it
        does not finish a job, SessionClosed once `ended()`; with a job that runs, the device is
        programmed anew.
        """
        base = self.prepare(kernel)
        previous: Job | None = None
        cycles = []
        try:
            for job in jobs:
                self.bytes_copied += job.load()
                if previous is not None:
                    cycles.append(self._finish(kernel, base, previous, ended))
                # What is left of a call whose client has gone would only hold up others.
                _check(ended)
                self._start(kernel, base, job)
                previous = job
            if previous is not None:
                cycles.append(self._finish(kernel, base, previous, ended))
            _check(ended)
        except BaseException:
            if self.running:
                self._program()
            raise
        return Work(kernel.name, len(cycles), sum(cycles))

    def _start(self, kernel: Kernel, base: int, job: Job) -> None:
        values = job.arguments
        if values != self._arguments.pop(kernel.name, None):  # small calls are often alike
            for register in kernel.arguments:
                self._write(base, register, values[register.name])
        self._arguments[kernel.name] = values
        self.running = True
        self._write(base, registers.CONTROL, Control.START)

    def _finish(self, kernel: Kernel, base: int, job: Job, ended: Callable[[], bool]) -> int:
        """Wait for `job` and copy its results out; the cycles that it took."""
        limit = GRACE + PATIENCE * job.cycles
        if not self.device.wait(base, limit, ended):
            _check(ended)
            raise DeadlineExceeded(
                f"the {kernel.name} kernel did not finish {job} within {limit} cycles "
                f"({limit / self.device.clock_hz * 1e3:.3g} ms); the device is programmed anew"
            )
        self._write(base, registers.INTERRUPT_STATUS, 1)  # toggles, and it is set
        self._read(base, registers.CONTROL)  # clears DONE
        self.running = False
        status = self._read(base, registers.STATUS)
        if status != Status.OK:
            fault = self._read(base, registers.FAULT)
            raise DeviceError(
                f"the {kernel.name} kernel failed in {job}: {_meaning(status)} "
                f"(status {status}, fault address {fault:#010x})"
            )
        cycles = self._read(base, registers.CYCLES)
        self.bytes_copied += job.unload()
        return cycles

    # -- programming ---------------------------------------------------------------------------

    def _program(self) -> None:
        """(Re)load the overlay: a kernel that runs is stopped, and all are to be checked."""
        self._bases = {}
        self._capabilities.clear()
        self._arguments.clear()
        self._bases = dict(self.device.program())
        self.running = False

    def _read(self, base: int, register: Register) -> int:
        return self.device.read32(base + register.offset)

    def _write(self, base: int, register: Register, value: int) -> None:
        self.device.write32(base + register.offset, value)


def _check(ended: Callable[[], bool]) -> None:
    if ended():
        raise SessionClosed("the session was closed during the call")


_REMEDY = "load a bitstream made from this version of vaccel (vaccel fpga build)"


def _shown(identification: int) -> str:
    return f"{identification:#010x} ({registers.letters(identification)})"


def _meaning(status: int) -> str:
    try:
        return Status(status).meaning
    except ValueError:
        return "for a reason that this version does not know"
