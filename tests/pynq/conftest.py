"""pynq on a simulated PYNQ-Z1: each test gets a board of its own."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about a processor that pynq does not know
    import pynq
    import pynq.lib

from tests.pynq.simulated import BoardTime, SimulatedDevice
from vaccel.fpga import board, hwh
from vaccel.fpga.board import Board
from vaccel.fpga.simulator import Simulator

LANES = 4  # of the matrix kernel


@pytest.fixture
def bitstream(tmp_path: Path) -> Path:
    """The overlay: a real `.hwh`, and a `.bit` that nothing reads."""
    path = tmp_path / board.BITSTREAM
    path.write_bytes(b"")
    path.with_suffix(".hwh").write_text(hwh.document())
    return path


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDevice]:
    """pynq's active device, with a UIO device for the overlay's interrupts."""
    with contextlib.closing(Simulator(lanes=LANES)) as simulator:
        device = SimulatedDevice(simulator, tmp_path / "uio0")
        with contextlib.closing(device.controller):
            monkeypatch.setattr(pynq.Device, "_active_device", device, raising=False)
            # pynq keeps the clocks of the device that it saw first.
            monkeypatch.setattr(pynq.Clocks, "device", None)
            monkeypatch.delattr(pynq.Clocks, "_real_instance", raising=False)
            monkeypatch.setattr(board, "LOCK", tmp_path / "lock")
            monkeypatch.setattr(pynq.interrupt, "get_uio_irq", {61: str(tmp_path / "uio0")}.get)
            yield device


@pytest.fixture
def board_time(device: SimulatedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for our board: that of the fabric."""
    monkeypatch.setattr(board, "time", BoardTime(device))


@pytest.fixture
def opened(bitstream: Path, board_time: None) -> Iterator[Board]:
    """Our board, over the device; not programmed."""
    with contextlib.closing(Board(bitstream)) as opened:
        yield opened
