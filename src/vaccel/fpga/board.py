"""The board: a PYNQ-Z1 through `pynq` 3.1.2.

Unrun on a board so far: the tests run this module, and pynq itself, over the simulated fabric.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vaccel import quiet
from vaccel.error import DeviceError, NotFound, ResourceExhausted
from vaccel.fpga import registers
from vaccel.fpga.claim import Claim
from vaccel.fpga.device import Info, never
from vaccel.fpga.interrupts import Interrupts
from vaccel.fpga.overlay import NAME

BITSTREAM = f"{NAME}.bit"
VARIABLE = "VACCEL_PYNQ_BITSTREAM"
PLACES = tuple(Path(__file__).parents[1] / folder for folder in ("plugins", "data"))

MEMORY = Path("/proc/meminfo")
MODEL = Path("/proc/device-tree/chosen/pynq_board")
LOCK = Path("/run/vaccel-board.lock")

# Seconds. A processor with other work may look away for longer than a short job takes.
MIN_PATIENCE = 1.0
# Most jobs end within the first looks; who waits for longer leaves the core to others.
BUSY = 100e-6
MAX_SLEEP = 1e-3


def find_bitstream(explicit: str | Path | None = None) -> Path:
    """The overlay's `.bit`, next to which lies its `.hwh`.

    It is `explicit`, or what VACCEL_PYNQ_BITSTREAM names, or `vaccel.bit` in the folder of the
    plugins or of the package's data. Raises NotFound, with these places and what to do.
    """
    chosen = explicit or os.environ.get(VARIABLE)
    places = [Path(chosen)] if chosen else [place / BITSTREAM for place in PLACES]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise NotFound(
            f"expected a bitstream at {' or '.join(map(str, places))}, found none: `vaccel fpga "
            f"build` writes the Vivado project that makes one; {VARIABLE} may name it"
        )
    metadata = path.with_suffix(".hwh")
    if not metadata.is_file():
        raise NotFound(
            f"expected {metadata}, from which pynq learns what {path.name} holds, found none: "
            "the Vivado project that made the bitstream wrote both"
        )
    return path.absolute()


def check(bitstream: str | Path | None = None) -> None:
    """What can be known of a Board without opening it. Raises NotFound, DeviceError."""
    find_bitstream(bitstream)
    if importlib.util.find_spec("pynq") is None:
        raise DeviceError(_NO_PYNQ)


class Memory:
    """A device.Buffer in memory from pynq that the processor caches.

    On the board pynq 3.1.2 synchronises all of it, whatever part was asked for: what was written
    here and not flushed is lost in any `invalidate`.
    """

    def __init__(self, memory: Any) -> None:
        self._memory = memory
        self.array: npt.NDArray[np.uint8] = memory.view(np.ndarray)
        self.physical_address = int(memory.physical_address)

    def flush(self, nbytes: int | None = None) -> None:
        self._memory[:nbytes].flush()

    def invalidate(self, nbytes: int | None = None) -> None:
        self._memory[:nbytes].invalidate()

    def free(self) -> None:
        """Arrays over the memory must not be used afterwards. Freeing twice is fine."""
        memory, self._memory = self._memory, None
        if memory is not None:
            self.array = self.array[:0]
            memory.freebuffer()


class Board:
    """device.Device over the device that pynq finds. Loads nothing before `program`.

    It is this process's alone until it is closed. bitstream: as for find_bitstream. Raises
    NotFound without one, DeviceError without pynq, where pynq finds no board, and where another
    process has it.
    """

    simulated = False

    def __init__(self, bitstream: str | Path | None = None) -> None:
        self._bitstream = find_bitstream(bitstream)
        self._pynq = _import_pynq()
        self._device = _find_device(self._pynq)
        self._claim = Claim(LOCK)
        self._overlay: Any = None
        self._windows: dict[int, Any] = {}  # MMIO of each kernel by its base address
        self._interrupts: Interrupts | None = None
        self._clock_hz = 0.0  # when the overlay was loaded
        self._buffers: weakref.WeakSet[Memory] = weakref.WeakSet()

    @property
    def clock_hz(self) -> float:
        return float(self._pynq.Clocks.fclk0_mhz) * 1e6

    def program(self) -> Mapping[str, int]:
        """See device.Device. Raises DeviceError if the overlay does not load or lacks a kernel."""
        try:
            if self._overlay is None:
                overlay = self._pynq.Overlay(str(self._bitstream), device=self._device)
            else:
                overlay = self._overlay
                overlay.download()
        except Exception as error:  # pynq raises what its parsers, drivers and the system raise
            raise DeviceError(
                f"pynq could not load {self._bitstream}: {error!r}; it needs "
                "root, and a .bit and .hwh from one Vivado project"
            ) from error
        if self._overlay is None:
            self._open(overlay)
        self._clock_hz = self.clock_hz
        return dict(zip(registers.KERNELS, self._windows, strict=True))

    def allocate(self, nbytes: int) -> Memory:
        self._require_overlay()
        try:
            memory = self._pynq.allocate((nbytes,), np.uint8, target=self._device, cacheable=True)
        except (MemoryError, OSError, RuntimeError) as error:
            total, free = _contiguous_memory()
            raise ResourceExhausted(
                f"expected {nbytes} bytes of contiguous memory, found {free} of {total} free "
                f"({error}); a smaller job, or a larger cma= on the kernel's command line"
            ) from error
        buffer = Memory(memory)
        self._buffers.add(buffer)
        return buffer

    def read32(self, address: int) -> int:
        window = self._window(address)
        return int(window.read(address - window.base_addr))

    def write32(self, address: int, value: int) -> None:
        window = self._window(address)
        window.write(address - window.base_addr, int(value))  # MMIO takes no subclass of int

    def wait(self, base: int, cycles: int, ended: Callable[[], bool] = never) -> bool:
        """See device.Device. At least MIN_PATIENCE seconds, by the clock of the processor.

        `ended` is not asked: jobs are done sooner than an overlay is loaded.
        """
        window = self._window(base)
        start = time.monotonic()
        deadline = start + max(MIN_PATIENCE, cycles / self._clock_hz)
        sleep = BUSY / 2
        while True:
            now = time.monotonic()
            if window.read(registers.INTERRUPT_STATUS.offset):
                return True
            if now >= deadline:
                return False
            if now - start < BUSY:
                continue
            if self._interrupts is not None:
                self._interrupts.wait(deadline - now)
            else:
                sleep = min(2 * sleep, MAX_SLEEP, deadline - now)
                time.sleep(sleep)

    def info(self) -> Info:
        total, free = _contiguous_memory()
        model = MODEL.read_text().strip("\0\n ") if MODEL.is_file() else str(self._device.name)
        return Info(model, str(self._bitstream), self.clock_hz, total, free)

    def close(self) -> None:
        try:
            for buffer in list(self._buffers):
                buffer.free()
            if self._interrupts is not None:
                self._interrupts.close()
                self._interrupts = None
            self._windows.clear()
        finally:
            self._claim.release()

    def _open(self, overlay: Any) -> None:
        """Find the kernels in `overlay`: by their names, which are the third part of their VLNVs.

        Vendor and library depend on how the kernels came into the Vivado project; which kernel it
        really is says its identification register.
        """
        found = {
            str(entry["type"]).split(":")[2]: name
            for name, entry in overlay.ip_dict.items()
            if "phys_addr" in entry  # the processing system is an entry as well
        }
        missing = [name for name in registers.KERNELS if name not in found]
        if missing:
            raise DeviceError(
                f"{self._bitstream}: expected the kernels {', '.join(registers.KERNELS)}, found "
                f"{', '.join(sorted(found)) or 'none'}: load the overlay of `vaccel fpga build`"
            )
        entries = [overlay.ip_dict[found[name]] for name in registers.KERNELS]
        self._windows = {
            entry["phys_addr"]: self._pynq.MMIO(
                entry["phys_addr"], entry["addr_range"], device=self._device
            )
            for entry in entries
        }
        self._interrupts = Interrupts.find(overlay, self._device, entries)
        self._overlay = overlay

    def _window(self, address: int) -> Any:
        for base, window in self._windows.items():
            if base <= address < base + window.length:
                return window
        self._require_overlay()
        raise DeviceError(
            f"no kernel has a register at {address:#010x}: kernels are at "
            f"{', '.join(f'{base:#010x}' for base in self._windows) or 'no address (closed)'}"
        )

    def _require_overlay(self) -> None:
        if self._overlay is None:
            raise DeviceError("the board has no overlay yet: call program() first")


def _import_pynq() -> Any:
    try:
        import pynq
    except ModuleNotFoundError as error:
        if error.name != "pynq":
            raise DeviceError(f"pynq is installed and does not start: {error}") from error
        raise DeviceError(_NO_PYNQ) from error
    return pynq


_NO_PYNQ = (
    "pynq is not installed: pip install 'vaccel[pynq]' on the board; elsewhere "
    "VACCEL_PYNQ_DEVICE=sim chooses the simulated board"
)


def _find_device(pynq: Any) -> Any:
    """pynq's active device.

    Looking for devices, pynq asks for the event loop of its thread. Only the main thread gets one
    by asking, and calls come from any: so this thread of our own does the looking.
    """
    found: list[Any] = []
    errors: list[Exception] = []

    def look() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            # That there is none: the error below says it.
            quiet.ignore(UserWarning, module=r"pynq\.pl_server\.device")
            found.append(pynq.Device.active_device)
        except Exception as error:  # whatever pynq's drivers raise
            errors.append(error)
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    thread = threading.Thread(target=look, name="vaccel-pynq")
    thread.start()
    thread.join()
    if errors:
        raise DeviceError(
            f"pynq finds no board: {errors[0]}; elsewhere VACCEL_PYNQ_DEVICE=sim chooses the "
            "simulated board"
        ) from errors[0]
    return found[0]


def _contiguous_memory() -> tuple[int, int]:
    """Bytes of memory that Linux keeps for contiguous buffers: in all, and free."""
    sizes = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
    total, free = (int(sizes.get(name, "0 kB").split()[0]) for name in ("CmaTotal", "CmaFree"))
    return total << 10, free << 10
