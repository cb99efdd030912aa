"""Simulated boards for tests, and jobs of the elementwise kernel by its registers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vaccel.fpga import registers
from vaccel.fpga.device import Buffer, Device
from vaccel.fpga.registers import ELEMENTWISE, Operation, Status
from vaccel.fpga.simulator import Simulator

BASE = ELEMENTWISE.base
CYCLES = 100_000
"""More than any job here takes."""


@contextmanager
def simulator(**options: Any) -> Iterator[Simulator]:
    """A programmed board that is closed with the block."""
    board = Simulator(**options)
    try:
        board.program()
        yield board
    finally:
        board.close()


class Result(NamedTuple):
    status: Status
    fault: int
    cycles: int


def start(board: Device, *addresses: int, length: int, operation: Operation) -> None:
    """Start a job: in1, in2, out1, out2."""
    values = [*addresses, *(0 for _ in range(4 - len(addresses))), length, operation]
    for register in (registers.GLOBAL_INTERRUPT, registers.INTERRUPT_ENABLE):
        board.write32(BASE + register.offset, 1)
    for register, value in zip(ELEMENTWISE.arguments, values, strict=True):
        board.write32(BASE + register.offset, value)
    board.write32(BASE + registers.CONTROL.offset, registers.Control.START)


def finish(board: Device) -> Result:
    """Wait for the job to end and clear the interrupt."""
    if not board.wait(BASE, CYCLES):
        raise TimeoutError(f"the job has not ended within {CYCLES} cycles")
    board.write32(BASE + registers.INTERRUPT_STATUS.offset, 1)
    status, fault, cycles = (
        board.read32(BASE + register.offset)
        for register in (registers.STATUS, registers.FAULT, registers.CYCLES)
    )
    return Result(Status(status), fault, cycles)


def copy(board: Device, source: int, target: int, length: int) -> Result:
    """Copy `length` words; source and target are physical addresses."""
    start(board, source, 0, target, length=length, operation=Operation.COPY)
    return finish(board)


def filled(board: Device, values: np.ndarray[Any, Any]) -> Buffer:
    """A buffer in which the processor, not yet the fabric, sees `values`."""
    buffer = board.allocate(values.nbytes)
    buffer.array.view(values.dtype)[:] = values
    return buffer


def numbers(length: int, seed: int = 1) -> npt.NDArray[np.int32]:
    """Any bits."""
    return np.random.default_rng(seed).integers(-(2**31), 2**31, length, dtype=np.int32)
