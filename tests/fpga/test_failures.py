"""What the drivers say and do when something fails, over the kernels' RTL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fpga.devices import Astray, Registers, Through, Waits
from tests.fpga.reference import check_product, check_vectors, matrices, vectors
from vaccel.error import DeadlineExceeded, DeviceError
from vaccel.fpga import registers
from vaccel.fpga.drivers import Accelerator
from vaccel.fpga.registers import ELEMENTWISE, MMULT
from vaccel.fpga.simulator import Simulator


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    device = Simulator(lanes=4)
    yield device
    device.close()


def test_an_address_without_memory_is_named_and_the_next_call_right(simulator: Simulator) -> None:
    device = Astray(simulator)
    accelerator = Accelerator(device)
    device.lost = 1
    with pytest.raises(DeviceError, match=r"elementwise.*ADD of 77 .*refused a read.*0xf0000000"):
        accelerator.add(*vectors(77), accelerator.pool.share())
    device.lost = 1
    with pytest.raises(DeviceError, match=r"mmult.*9 by 9 .*refused a write.*0xf0000000"):
        accelerator.matmul(*matrices(9), accelerator.pool.share())
    check_vectors(accelerator, 77)
    check_product(accelerator, 9)
    assert device.programmed == 1


def test_a_kernel_that_hangs_is_reported_and_the_next_call_right(simulator: Simulator) -> None:
    device = Through(simulator)
    accelerator = Accelerator(device)
    check_vectors(accelerator, 3)
    free = device.info().memory_free
    simulator.set_timing(stall=1.0)
    with pytest.raises(
        DeadlineExceeded, match=r"elementwise.*ADD of 50 elements within 101000 cycles \(1.01 ms\)"
    ):
        accelerator.add(*vectors(50))
    simulator.set_timing(stall=0.0)
    assert (device.programmed, device.info().memory_free) == (2, free)
    check_vectors(accelerator, 50)
    check_product(accelerator, 5)


def test_an_interrupted_call_leaves_no_kernel_running(simulator: Simulator) -> None:
    device = Waits(simulator)
    accelerator = Accelerator(device)

    def interrupt() -> bool:
        raise KeyboardInterrupt

    device.instead = interrupt
    with pytest.raises(KeyboardInterrupt):
        accelerator.add(*vectors(50))
    assert device.programmed == 2
    check_vectors(accelerator, 50)


def test_memory_of_a_kernel_that_cannot_be_stopped_is_not_used_again(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Waits(simulator)
    accelerator = Accelerator(device)
    accelerator.add(*vectors(50))
    held = device.info().memory_free

    def fail() -> None:
        raise DeviceError("no bitstream")

    device.instead = lambda: False
    with monkeypatch.context() as patch:
        patch.setattr(device, "program", fail)
        for _ in range(2):
            with pytest.raises(DeviceError, match="no bitstream"):
                accelerator.add(*vectors(50))
    check_vectors(accelerator, 50)
    assert device.info().memory_free < held


# -- the overlay -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("register", "value", "message"),
    [
        (registers.IDENTIFICATION, 0x4142_4344, r"VAEW\), found 0x41424344 \(ABCD\)"),
        (registers.IDENTIFICATION, 0, r"expected identification 0x56414557 \(VAEW\), found 0x0"),
        (registers.VERSION_REGISTER, 0x0002_0003, r"expected version 1\.x, found 2\.3"),
    ],
)
def test_a_foreign_kernel_is_not_started(
    simulator: Simulator, register: registers.Register, value: int, message: str
) -> None:
    device = Registers(simulator, {ELEMENTWISE.base + register.offset: value})
    accelerator = Accelerator(device)
    for _ in range(2):
        with pytest.raises(DeviceError, match=f"elementwise.*{message}.*vaccel fpga build"):
            accelerator.add(*vectors(5))
    check_product(accelerator, 3)


def test_a_newer_minor_version_is_served(simulator: Simulator) -> None:
    version = ELEMENTWISE.base + registers.VERSION_REGISTER.offset
    device = Registers(simulator, {version: registers.VERSION + 5})
    check_vectors(Accelerator(device), 5)


def test_an_overlay_without_the_kernel_says_what_it_holds(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulator, "program", lambda: {MMULT.name: MMULT.base, "other": 0})
    with pytest.raises(DeviceError, match="named elementwise, found mmult, other"):
        Accelerator(simulator).add(*vectors(5))
