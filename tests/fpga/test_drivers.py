"""The drivers, over the kernels' RTL."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fpga.devices import Astray, Cache, Registers, Through, Waits
from tests.fpga.reference import bits, matrices, ordered_product, vectors
from vaccel.error import DeadlineExceeded, DeviceError, ResourceExhausted, SessionClosed
from vaccel.fpga import registers
from vaccel.fpga.device import Device
from vaccel.fpga.drivers import Accelerator
from vaccel.fpga.registers import ELEMENTWISE, MMULT
from vaccel.fpga.simulator import Simulator
from vaccel.fpga.tasks import LEAST_PIECE, MatrixTask

LANES = 4
SMALL = 1 << 16
"""Bytes of memory in which a vector soon needs several pieces."""
F32 = np.float32


@pytest.fixture(scope="module")
def accelerator() -> Iterator[Accelerator]:
    yield from opened(Simulator(lanes=LANES))


@pytest.fixture(scope="module")
def cramped() -> Iterator[Accelerator]:
    yield from opened(Simulator(lanes=LANES, memory=SMALL))


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    device = Simulator(lanes=LANES)
    yield device
    device.close()


def opened(device: Device) -> Iterator[Accelerator]:
    accelerator = Accelerator(device)
    yield accelerator
    accelerator.close()


def check_vectors(accelerator: Accelerator, length: int) -> None:
    a, b = vectors(length)
    integers = a.view(np.int32)
    assert bits(accelerator.add(a, b)) == bits(a + b)
    added, multiplied = accelerator.add_and_multiply(a, b)
    assert bits(added) == bits(a + b)
    assert bits(multiplied) == bits(a * b) == bits(accelerator.multiply(a, b))
    assert bits(accelerator.copy(integers)) == bits(integers)


def check_product(accelerator: Accelerator, size: int) -> None:
    a, b = matrices(size)
    assert bits(accelerator.matmul(a, b)) == bits(ordered_product(a, b))


# -- lengths and sizes -------------------------------------------------------------------------


@given(length=st.integers(0, 3000))
@settings(max_examples=25)
def test_vectors_of_any_length(accelerator: Accelerator, length: int) -> None:
    check_vectors(accelerator, length)


@pytest.mark.parametrize("length", [LEAST_PIECE - 1, LEAST_PIECE, LEAST_PIECE + 1, 20_001])
def test_vectors_that_do_not_fit_the_memory_come_in_pieces(
    cramped: Accelerator, length: int
) -> None:
    check_vectors(cramped, length)
    cramped.add(*vectors(length))
    assert (cramped.last.jobs > 1) == (length > 10_000)


@given(size=st.integers(0, 3 * LANES + 1) | st.sampled_from([16, 31, 33, 48, 63]))
@settings(max_examples=15)
def test_products_of_any_size(accelerator: Accelerator, size: int) -> None:
    check_product(accelerator, size)


@pytest.mark.parametrize("size", [70, 93])
def test_products_that_do_not_fit_the_memory_come_in_blocks(size: int) -> None:
    for accelerator in opened(Simulator(lanes=LANES, memory=SMALL)):
        check_product(accelerator, size)
        assert accelerator.last.jobs > 1


@pytest.mark.parametrize("size", [8, 21, 48])
def test_sums_longer_than_the_kernel_takes_go_on_in_its_next_job(
    accelerator: Accelerator, size: int
) -> None:
    a, b = matrices(size)
    result = np.empty_like(a)
    # The kernel's own depth would need matrices that take minutes to simulate.
    accelerator._run(MatrixTask(a, b, result, rows=16, lanes=LANES, depth=8), None)
    assert accelerator.last.jobs == -(-size // 8)
    assert bits(result) == bits(ordered_product(a, b))


def test_nothing_but_the_shape_is_asked_of_empty_arrays(simulator: Simulator) -> None:
    device = Through(simulator)
    accelerator = Accelerator(device)
    assert accelerator.add(*vectors(0)).shape == (0,)
    assert accelerator.matmul(*matrices(0)).shape == (0, 0)
    assert (accelerator.last.cycles, device.programmed) == (0, 0)


def test_special_values_and_padding(accelerator: Accelerator) -> None:
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -3e38, 3e38, 1.5], F32)
    a, b = (np.ascontiguousarray(x.reshape(-1)) for x in np.meshgrid(special, special))
    with np.errstate(all="ignore"):
        added = a + b
        matrix = np.resize(special, (7, 7))
        product = ordered_product(matrix, matrix.T)
    assert bits(accelerator.add(a, b)) == bits(added)
    assert bits(accelerator.matmul(matrix, matrix.T.copy())) == bits(product)


# -- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 1000, 20_001])
def test_each_byte_is_copied_once(
    accelerator: Accelerator, cramped: Accelerator, length: int
) -> None:
    for each in (accelerator, cramped):
        before = each.bytes_copied
        a, b = vectors(length)
        each.add_and_multiply(a, b)
        assert each.bytes_copied - before == 4 * a.nbytes


def test_each_byte_of_a_matrix_is_copied_once(accelerator: Accelerator) -> None:
    a, b = matrices(37)
    before = accelerator.bytes_copied
    accelerator.matmul(a, b)
    assert accelerator.bytes_copied - before == 3 * a.nbytes


def test_exactly_what_the_kernel_reads_is_flushed_and_what_it_wrote_invalidated(
    simulator: Simulator,
) -> None:
    device = Cache(simulator)
    accelerator = Accelerator(device)
    accelerator.add_and_multiply(*vectors(1001))
    assert device.done == [("flush", 4004)] * 2 + [("invalidate", 4004)] * 2
    device.done.clear()
    accelerator.copy(vectors(5)[0].view(np.int32))
    assert device.done == [("flush", 20), ("invalidate", 20)]
    device.done.clear()
    accelerator.matmul(*matrices(5))
    rows, columns, inner = 16, 2 * LANES, 6
    assert device.done == [
        ("flush", rows * inner * 4),
        ("flush", inner * columns * 4),
        ("invalidate", rows * columns * 4),
    ]


@pytest.mark.parametrize("skip", ["flush", "invalidate"])
def test_a_driver_that_forgot_the_cache_would_give_wrong_results(
    simulator: Simulator, skip: str
) -> None:
    a, b = vectors(1000)
    x, y = matrices(9)
    assert bits(Accelerator(Cache(simulator)).add(a, b)) == bits(a + b)
    accelerator = Accelerator(Cache(simulator, skip))
    assert bits(accelerator.add(a, b)) != bits(a + b)
    assert bits(accelerator.matmul(x, y)) != bits(ordered_product(x, y))


def test_buffers_are_used_again_and_freed_with_their_share(simulator: Simulator) -> None:
    device = Cache(simulator)
    accelerator = Accelerator(device)
    before = device.info().memory_free
    shares = [accelerator.pool.share(), accelerator.pool.share()]
    a, b = vectors(5000)
    for share in shares * 3:
        accelerator.add(a, b, share)
        accelerator.copy(a.view(np.int32), share)
    assert device.allocated == 2 * 3
    held = before - device.info().memory_free
    shares[0].ended = True
    assert accelerator.pool.due
    accelerator.pool.sweep()
    assert before - device.info().memory_free == held // 2
    shares[1].ended = True
    accelerator.pool.sweep()
    assert not accelerator.pool.due
    assert device.info().memory_free == before


def test_what_idle_sessions_hold_goes_to_those_that_need_it(cramped: Accelerator) -> None:
    first, second = cramped.pool.share(), cramped.pool.share()
    a, b = vectors(20_001)
    for share in (first, second, first):
        assert bits(cramped.add(a, b, share)) == bits(a + b)
    first.ended = second.ended = True
    cramped.pool.sweep()


def test_too_little_memory_says_what_is_needed_and_what_is_free(simulator: Simulator) -> None:
    for accelerator in opened(Simulator(lanes=LANES, memory=1 << 13)):
        with pytest.raises(ResourceExhausted, match=r"elementwise.*4096.*programs that hold"):
            accelerator.add(*vectors(9000))
        small = vectors(10)[0].view(np.int32)
        assert bits(accelerator.copy(small)) == bits(small)


def test_a_share_that_ends_during_a_call_ends_the_call(simulator: Simulator) -> None:
    device = Waits(simulator)
    accelerator = Accelerator(device)
    share = accelerator.pool.share()

    def end() -> bool:
        share.ended = True
        return device.wait(ELEMENTWISE.base, 10_000_000)

    device.instead = end
    before = device.info().memory_free
    with pytest.raises(SessionClosed, match="during the call"):
        accelerator.add(*vectors(1_000_000), share)
    accelerator.pool.sweep()
    assert (device.info().memory_free, device.programmed) == (before, 1)
    check_vectors(accelerator, 10)


# -- failures ----------------------------------------------------------------------------------


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
