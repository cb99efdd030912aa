"""pynq's own classes on the overlay, as a notebook uses them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pynq
import pytest
from pynq import MMIO, Clocks, DefaultIP, Overlay, allocate
from pynq.interrupt import _InterruptController

from tests.pynq.simulated import SimulatedDevice

ADD = 1


@pytest.fixture(autouse=True)
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """For the overlay's interrupts, which pynq keeps for the life of the process."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    _InterruptController._controllers.clear()
    while _InterruptController._uio_devices:
        loop.remove_reader(_InterruptController._uio_devices.popitem()[1].uio)
    asyncio.set_event_loop(None)
    loop.close()


class Elementwise(DefaultIP):  # type: ignore[misc]
    """A driver, bound by pynq to the kernel of this type."""

    bindto = ("vaccel:fpga:elementwise:1.0",)

    def start(self, a: Any, b: Any, out: Any) -> None:
        registers = self.register_map
        registers.in1 = a.physical_address
        registers.in2 = b.physical_address
        registers.out1 = out.physical_address
        registers.length = a.size
        registers.operation = ADD
        registers.control.start = 1

    def add(self, a: Any, b: Any, out: Any) -> None:
        a.flush()
        b.flush()
        self.start(a, b, out)
        while not self.register_map.control.done:
            pass
        out.invalidate()


@pytest.fixture
def loaded(device: SimulatedDevice, bitstream: Path) -> Any:
    return Overlay(str(bitstream))


def vectors(n: int) -> list[Any]:
    """Two random inputs and a result."""
    a, b, out = (allocate(n, np.float32) for _ in range(3))
    a[:], b[:] = np.random.default_rng(7).standard_normal((2, n), np.float32)
    out[:] = 0
    return [a, b, out]


def test_an_overlay_holds_the_kernels_and_is_loaded(
    loaded: Any, device: SimulatedDevice, bitstream: Path
) -> None:
    assert loaded.is_loaded()
    assert device.downloads == [str(bitstream)]
    assert {"elementwise", "mmult"} <= set(loaded.ip_dict)
    assert isinstance(loaded.elementwise, Elementwise)
    assert type(loaded.mmult) is DefaultIP
    assert loaded.elementwise.interrupt is not None


def test_a_driver_adds_vectors_by_the_register_map(loaded: Any) -> None:
    a, b, out = vectors(1000)
    loaded.elementwise.add(a, b, out)
    assert np.array_equal(out, np.asarray(a) + np.asarray(b))
    assert loaded.elementwise.register_map.status[:] == 0
    assert 1000 <= loaded.elementwise.register_map.cycles[:] < 2000


def test_what_is_not_flushed_the_fabric_does_not_see(loaded: Any) -> None:
    a, b, out = vectors(100)
    loaded.elementwise.add(a, b, out)
    before = np.array(out)
    a[:] = 1
    loaded.elementwise.start(a, b, out)
    while not loaded.elementwise.register_map.control.done:
        pass
    out.invalidate()
    assert np.array_equal(out, before)


def test_a_program_waits_for_the_interrupt(
    loaded: Any, event_loop: asyncio.AbstractEventLoop
) -> None:
    kernel = loaded.elementwise
    kernel.register_map.global_interrupt.enable = 1
    kernel.register_map.interrupt_enable.done = 1
    for n in (1, 1000):
        a, b, out = vectors(n)
        a.flush()
        b.flush()
        kernel.start(a, b, out)
        event_loop.run_until_complete(asyncio.wait_for(interrupted(kernel), 10))
        kernel.register_map.interrupt_status = 1
        out.invalidate()
        assert np.array_equal(out, np.asarray(a) + np.asarray(b))


async def interrupted(kernel: Any) -> None:
    """As pynq's documents have it: the controller may still hold the interrupt before."""
    while not kernel.register_map.interrupt_status.done:
        await kernel.interrupt.wait()


def test_mmio_reads_and_writes_a_kernels_registers(loaded: Any) -> None:
    entry = loaded.ip_dict["mmult"]
    registers = MMIO(entry["phys_addr"], entry["addr_range"])
    assert registers.read(0x4C).to_bytes(4, "big") == b"VAMM"
    registers.write(0x10, 0x1234_5678)
    assert registers.read(0x10) == 0x1234_5678


def test_the_overlay_sets_the_clock_and_programs_may_change_it(loaded: Any) -> None:
    assert Clocks.fclk0_mhz == 100
    Clocks.fclk0_mhz = 50
    assert Clocks.fclk0_mhz == 50


def test_a_buffer_is_an_array_with_a_physical_address_and_goes_back(loaded: Any) -> None:
    with allocate((4, 4), np.int32) as matrix:
        address = matrix.physical_address
        assert address % 4096 == 0
        assert matrix[1:].physical_address == address + 16
        assert matrix.cacheable
    with allocate(4) as another:
        assert another.physical_address == address


def test_another_overlay_takes_the_first_ones_place(loaded: Any, bitstream: Path) -> None:
    assert Overlay(str(bitstream)).is_loaded()
    assert not loaded.is_loaded()
    with pytest.raises(RuntimeError, match="not currently loaded"):
        _ = loaded.elementwise


def test_this_is_pynq_as_released() -> None:
    assert pynq.__version__ == "3.1.2"
