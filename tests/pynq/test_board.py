"""Our board, over pynq as released."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pynq
import pytest

from tests.fpga.reference import bits, matrices, ordered_product, vectors
from tests.pynq.simulated import SimulatedDevice
from vaccel.cli import main
from vaccel.error import DeadlineExceeded, DeviceError, ResourceExhausted
from vaccel.fpga import board, interrupts, overlay, registers
from vaccel.fpga.board import Board
from vaccel.fpga.device import Device
from vaccel.fpga.drivers import Accelerator
from vaccel.fpga.registers import ELEMENTWISE, MMULT, Control, Operation, Status


@pytest.fixture
def polled(device: SimulatedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Linux has no UIO device for the overlay's interrupts."""
    monkeypatch.setattr(pynq.interrupt, "get_uio_irq", lambda irq: None)


@pytest.fixture(params=["interrupts", "polling"])
def either(request: pytest.FixtureRequest) -> None:
    if request.param == "polling":
        request.getfixturevalue("polled")


# -- jobs ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("length", [1, 2, 1001, 50_000])
def test_vectors_are_added_as_numpy_adds_them(opened: Board, length: int) -> None:
    a, b = vectors(length)
    assert bits(Accelerator(opened).add(a, b)) == bits(a + b)


@pytest.mark.usefixtures("either")
def test_the_other_operations_compute_what_they_say(opened: Board) -> None:
    accelerator = Accelerator(opened)
    a, b = vectors(333)
    total, product = accelerator.add_and_multiply(a, b)
    assert (bits(total), bits(product)) == (bits(a + b), bits(a * b))
    whole = np.arange(-5, 95, dtype=np.int32)
    assert bits(accelerator.copy(whole)) == bits(whole)
    for size in (3, 16):
        a, b = matrices(size)
        assert bits(accelerator.matmul(a, b)) == bits(ordered_product(a, b))


def test_a_long_job_is_waited_for_by_its_interrupt(opened: Board, device: SimulatedDevice) -> None:
    base = opened.program()["elementwise"]
    source, result = opened.allocate(1 << 20), opened.allocate(1 << 20)
    for jobs in (1, 2):
        copy(opened, base, source, result, 1 << 18)
        opened.write32(base + registers.INTERRUPT_STATUS.offset, 1)
        assert device.controller.interrupts == jobs


@pytest.mark.usefixtures("polled")
def test_a_long_job_is_polled_for_where_linux_has_no_device_for_its_interrupt(
    opened: Board, device: SimulatedDevice
) -> None:
    accelerator = Accelerator(opened)
    a, b = vectors(1 << 18)
    assert bits(accelerator.add(a, b)) == bits(a + b)
    assert device.controller.interrupts == 0
    assert device.reads < 100


def test_a_lost_interrupt_costs_a_moment(
    opened: Board, device: SimulatedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupts, "MAX_WAIT", 1e-3)
    device.controller.deaf = True
    a, b = vectors(1 << 18)
    assert bits(Accelerator(opened).add(a, b)) == bits(a + b)
    assert device.controller.interrupts == 0


def test_nobody_else_loads_an_overlay_while_the_board_is_used(
    opened: Board, device: SimulatedDevice, bitstream: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accelerator = Accelerator(opened)
    a, b = vectors(50)
    accelerator.add(a, b)
    with pytest.raises(DeviceError, match=f"process {os.getpid()} has the board.*VACCEL_PLUGINS"):
        Board(bitstream)
    assert main.main(["fpga", "info", "--device", "board", "--bitstream", str(bitstream)]) == 1
    assert f"process {os.getpid()} has the board" in capsys.readouterr().err
    assert bits(accelerator.add(a, b)) == bits(a + b)
    assert len(device.downloads) == 1
    opened.close()
    assert main.main(["fpga", "info", "--device", "board", "--bitstream", str(bitstream)]) == 0
    assert str(bitstream) in capsys.readouterr().out


def test_it_is_a_device(opened: Board) -> None:
    device: Device = opened
    assert not device.simulated
    assert dict(device.program()) == {k.name: k.base for k in registers.KERNELS.values()}
    assert device.clock_hz == 100e6


# -- memory ----------------------------------------------------------------------------------------


def test_only_the_bytes_that_are_asked_for_are_flushed(
    opened: Board, device: SimulatedDevice
) -> None:
    opened.program()
    buffer = opened.allocate(4096)
    address = buffer.physical_address
    buffer.flush(400)
    buffer.invalidate(8)
    buffer.flush()
    assert device.synced == [
        ("flush", address, 400),
        ("invalidate", address, 8),
        ("flush", address, 4096),
    ]


def test_the_fabric_sees_the_flushed_part_and_nothing_else(opened: Board) -> None:
    base = opened.program()["elementwise"]
    source, result = opened.allocate(64), opened.allocate(64)
    source.array[:] = 1
    source.flush()
    source.array[:] = 2
    source.flush(24)
    copy(opened, base, source, result, 16)
    result.array[:] = 9
    result.invalidate(48)
    assert result.array.tolist() == [2] * 24 + [1] * 24 + [9] * 16


def copy(board: Board, base: int, source: Any, result: Any, length: int) -> None:
    for register in (registers.GLOBAL_INTERRUPT, registers.INTERRUPT_ENABLE):
        board.write32(base + register.offset, 1)
    for name, value in {
        "in1": source.physical_address,
        "out1": result.physical_address,
        "length": length,
        "operation": Operation.COPY,
    }.items():
        board.write32(base + ELEMENTWISE.offset(name), value)
    board.write32(base + registers.CONTROL.offset, Control.START)
    assert board.wait(base, 10_000)
    assert board.read32(base + registers.STATUS.offset) == Status.OK


def test_too_large_a_buffer_says_what_is_free(
    opened: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 505000 kB\nCmaTotal:     131072 kB\nCmaFree:       1000 kB\n")
    monkeypatch.setattr(board, "MEMORY", meminfo)
    opened.program()
    with pytest.raises(ResourceExhausted, match="expected 1099511627776 bytes"):
        opened.allocate(1 << 40)


def test_closing_frees_all_memory_and_may_be_done_twice(
    opened: Board, device: SimulatedDevice
) -> None:
    opened.program()
    free = device.simulator.info().memory_free
    buffers = [opened.allocate(5000) for _ in range(3)]
    kept = [buffer._memory for buffer in buffers]  # as a traceback would
    assert device.simulator.info().memory_free < free
    buffers[1].free()
    buffers[1].free()
    opened.close()
    opened.close()
    assert device.simulator.info().memory_free == free
    assert len(kept) == 3
    with pytest.raises(DeviceError, match="closed"):
        opened.read32(ELEMENTWISE.base)


# -- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.usefixtures("either")
def test_a_kernel_that_hangs_is_reported_and_the_next_call_right(
    opened: Board, device: SimulatedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "MIN_PATIENCE", 0)
    accelerator = Accelerator(opened)
    a, b = vectors(100)
    accelerator.add(a, b)
    device.simulator.set_timing(stall=1.0)
    with pytest.raises(DeadlineExceeded, match="elementwise"):
        accelerator.add(a, b)
    device.simulator.set_timing(stall=0.0)
    assert bits(accelerator.add(a, b)) == bits(a + b)
    assert len(device.downloads) == 2


@pytest.mark.usefixtures("polled")
def test_a_short_job_is_waited_for_longer_than_its_cycles(
    opened: Board, device: SimulatedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "MIN_PATIENCE", 5e-3)
    base = opened.program()["elementwise"]
    before = device.simulator.cycles
    assert not opened.wait(base, 10)
    assert 500_000 <= device.simulator.cycles - before < 510_000


@pytest.mark.parametrize(
    ("register", "value", "message"),
    [
        (registers.IDENTIFICATION, 0x58595A30, "identification.*VAEW.*XYZ0"),
        (registers.IDENTIFICATION, 0xFFFFFFFF, "identification.*0xffffffff"),
        (registers.VERSION_REGISTER, 0x00020003, r"version 1\.x, found 2\.3"),
    ],
)
def test_kernels_that_are_not_ours_are_refused(
    opened: Board,
    device: SimulatedDevice,
    register: registers.Register,
    value: int,
    message: str,
) -> None:
    device.values[ELEMENTWISE.base + register.offset] = value
    with pytest.raises(DeviceError, match=message):
        Accelerator(opened).add(*vectors(4))


def test_an_overlay_without_a_kernel_is_refused(opened: Board, bitstream: Path) -> None:
    metadata = bitstream.with_suffix(".hwh")
    metadata.write_text(metadata.read_text().replace("vaccel:fpga:mmult:", "vaccel:fpga:fft:"))
    with pytest.raises(DeviceError, match=r"expected the kernels .*mmult, found .*fft"):
        opened.program()


def test_kernels_may_have_come_into_the_design_as_modules(opened: Board, bitstream: Path) -> None:
    metadata = bitstream.with_suffix(".hwh")
    metadata.write_text(metadata.read_text().replace("vaccel:fpga:", "xilinx.com:module_ref:"))
    assert opened.program()["mmult"] == MMULT.base


def test_metadata_that_does_not_parse_is_named(opened: Board, bitstream: Path) -> None:
    bitstream.with_suffix(".hwh").write_text("<EDKSYSTEM>")
    with pytest.raises(DeviceError, match=f"could not load {bitstream}: ParseError"):
        opened.program()


def test_nothing_is_used_before_the_overlay_is_loaded(opened: Board) -> None:
    for use in (
        lambda: opened.allocate(16),
        lambda: opened.read32(ELEMENTWISE.base),
        lambda: opened.write32(ELEMENTWISE.base, 0),
        lambda: opened.wait(ELEMENTWISE.base, 1),
    ):
        with pytest.raises(DeviceError, match=r"call program\(\) first"):
            use()


def test_an_address_that_is_no_kernels_is_refused(opened: Board) -> None:
    opened.program()
    with pytest.raises(DeviceError, match=r"0x41800000.*0x43c00000, 0x43c10000"):
        opened.read32(overlay.CONTROLLER_BASE)
