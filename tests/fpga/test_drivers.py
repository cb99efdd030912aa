"""The drivers, over the kernels' RTL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fpga.devices import Cache, Through, Waits
from tests.fpga.reference import (
    bits,
    check_product,
    check_vectors,
    matrices,
    ordered_product,
    vectors,
)
from vaccel.error import ResourceExhausted, SessionClosed
from vaccel.fpga import tasks
from vaccel.fpga.device import Device
from vaccel.fpga.drivers import Accelerator
from vaccel.fpga.registers import CLOCK_HZ, ELEMENTWISE, Operation
from vaccel.fpga.simulator import Simulator
from vaccel.fpga.tasks import LEAST_PIECE, ElementwiseTask, MatrixTask

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


@pytest.mark.parametrize("rows", [16, 32])
@pytest.mark.parametrize("depth", [512, 14])
@pytest.mark.parametrize("size", [17, 37, 50])
def test_a_block_that_takes_long_is_worked_through_in_bands_of_rows(
    accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch, size: int, depth: int, rows: int
) -> None:
    inner, columns = min(depth, size + size % 2), -(-size // LANES) * LANES
    monkeypatch.setattr(tasks, "LONGEST", rows * inner * columns // LANES)
    a, b = matrices(size)
    result = np.full_like(a, 7)
    before = accelerator.bytes_copied
    accelerator._run(MatrixTask(a, b, result, rows=16, lanes=LANES, depth=depth), None)
    bands, stretches = -(-size // rows), -(-size // depth)
    # The last stretch may be so short that its bands have more rows.
    assert bands * (stretches - 1) < accelerator.last.jobs <= bands * stretches
    assert accelerator.last.jobs > 1 or size <= rows
    assert bits(result) == bits(ordered_product(a, b))
    assert accelerator.bytes_copied - before == 3 * a.nbytes


def test_no_job_is_long_since_none_can_be_stopped_for_a_session_that_ends() -> None:
    vector, square = np.empty(3_000_000, F32), np.empty((1500, 1500), F32)
    long = (
        ElementwiseTask(Operation.ADD, [vector, vector], [vector]),
        MatrixTask(square, square, square, rows=16, lanes=16, depth=512),
    )
    for task in long:
        buffers: list[Any] = [None] * len(task.sizes(task.most))
        jobs = list(task.jobs(task.most, buffers))
        assert len(jobs) > 10
        assert max(job.cycles for job in jobs) < 0.05 * CLOCK_HZ


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
