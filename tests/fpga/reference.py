"""What the kernels are to compute, numbers for them, and checks of drivers by both."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vaccel.fpga.drivers import Accelerator

F32s = npt.NDArray[np.float32]


def bits(array: npt.NDArray[Any]) -> bytes:
    """Bytes that are equal where the values are: of a NaN, only that it is one."""
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    return repr(array.shape).encode() + array.tobytes()


def ordered_product(a: F32s, b: F32s) -> F32s:
    """A·B in float32, each sum from +0 in ascending order of the inner index."""
    total = np.zeros((len(a), b.shape[1]), np.float32)
    for k in range(len(b)):
        total += a[:, k : k + 1] * b[k : k + 1]
    return total


def vectors(length: int) -> tuple[F32s, F32s]:
    rng = np.random.default_rng(length)
    a, b = rng.standard_normal((2, length)).astype(np.float32)
    return a, b


def matrices(size: int) -> tuple[F32s, F32s]:
    a, b = vectors(size * size)
    return a.reshape(size, size), b.reshape(size, size)


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
