"""One kernel of a simulated board, by its registers, with all of the board's memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tests.fpga.boards import Result
from vaccel.fpga import registers
from vaccel.fpga.registers import Control, Kernel, Status
from vaccel.fpga.simulator import Simulator

Words = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]
ENDED = Control.DONE | Control.IDLE | Control.READY


class Bench:
    """Offsets are those of registers, addresses those of the fabric.

    A job is a named tuple of the kernel's arguments.
    """

    def __init__(self, board: Simulator, kernel: Kernel) -> None:
        self.board, self.kernel = board, kernel
        self.buffer = board.allocate(board.info().memory_free)
        self.start = self.buffer.physical_address
        self.end = self.start + len(self.buffer.array)

    @property
    def words(self) -> Words:
        return self.buffer.array.view(np.uint32)

    def index(self, address: int) -> int:
        return (address - self.start) // 4

    def places(self, address: int, rows: int, columns: int, stride: int) -> Places:
        """Of a matrix's elements among `words`; outside of them where there is no memory."""
        first = self.index(address) + stride // 4 * np.arange(rows, dtype=np.int64)
        return first[:, None] + np.arange(columns)

    def holds(self, address: int, beats: int) -> bool:
        return self.start <= address and address + 8 * beats <= self.end

    def read(self, offset: int) -> int:
        return self.board.read32(self.kernel.base + offset)

    def write(self, offset: int, value: int) -> None:
        self.board.write32(self.kernel.base + offset, value)

    def set_arguments(self, job: Any) -> None:
        for name, value in job._asdict().items():
            self.write(self.kernel.offset(name), value)

    def run(self, job: Any, limit: int = 1_000_000) -> Result:
        """Write back the cache, run the job to its end, read memory anew."""
        self.buffer.flush()
        self.write(registers.GLOBAL_INTERRUPT.offset, 1)
        self.write(registers.INTERRUPT_ENABLE.offset, 1)
        self.set_arguments(job)
        self.write(registers.CONTROL.offset, Control.START)
        assert self.board.wait(self.kernel.base, limit), f"{job} hangs"
        self.write(registers.INTERRUPT_STATUS.offset, 1)
        assert self.read(registers.CONTROL.offset) == ENDED
        self.buffer.invalidate()
        status, fault, cycles = (
            self.read(register.offset)
            for register in (registers.STATUS, registers.FAULT, registers.CYCLES)
        )
        return Result(Status(status), fault, cycles)
