"""Which device it is: the board of this machine, or a simulated one. Never one for the other."""

from __future__ import annotations

import os
from pathlib import Path

from vaccel.error import DeviceError
from vaccel.fpga.device import Device

VARIABLE = "VACCEL_PYNQ_DEVICE"
CHOICES = ("board", "sim")

COMPATIBLE = Path("/proc/device-tree/compatible")
"""What the machine is, from its device tree: names of boards and chips, each ended by a NUL."""
CHIP = b"xlnx,zynq-7000"


def choose(name: str | None = None) -> str:
    """`name`, or what VACCEL_PYNQ_DEVICE says; with neither, "board" on a Zynq-7000.

    Raises DeviceError that says how to choose.
    """
    name = name or os.environ.get(VARIABLE)
    if name in CHOICES:
        return name
    if name:
        raise DeviceError(f"{VARIABLE}: expected board or sim, found {name!r}")
    if is_board():
        return "board"
    raise DeviceError(
        f"this machine is no PYNQ board ({COMPATIBLE} does not name {CHIP.decode()}): set "
        f"{VARIABLE}=sim for a simulated one (it needs pip install 'vaccel[sim]'), or "
        f"{VARIABLE}=board if it is one"
    )


def is_board() -> bool:
    """This machine is a Zynq-7000, as a PYNQ-Z1 is."""
    try:
        return CHIP in COMPATIBLE.read_bytes().split(b"\0")
    except OSError:
        return False


def open_device(name: str | None = None, bitstream: str | Path | None = None) -> Device:
    """The device that `choose` says. Raises DeviceError or NotFound where it cannot be had.

    bitstream: for the board; see `vaccel.fpga.board.find_bitstream`.
    """
    if choose(name) == "board":
        from vaccel.fpga.board import Board

        return Board(bitstream)
    from vaccel.fpga import tools
    from vaccel.fpga.simulator import Simulator

    tools.choose()  # raises now what the first call would
    return Simulator()


def check() -> None:
    """Raise what `open_device` would as far as that can be known without opening anything."""
    if choose() == "board":
        from vaccel.fpga import board

        board.check()
    else:
        from vaccel.fpga import tools

        tools.choose()
