"""cpu: numpy. The definition of each operation, and the oracle for every other plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vaccel.ops.catalog import Operations
from vaccel.plugin import Plugin, PluginType

if TYPE_CHECKING:
    from vaccel.session import Session

F32s = npt.NDArray[np.float32]
F64s = npt.NDArray[np.float64]
I32s = npt.NDArray[np.int32]

plugin = Plugin("cpu", PluginType.CPU | PluginType.SOFTWARE, summary="numpy on this machine")


@plugin.kernel(Operations.noop)
def noop(session: Session) -> None:
    return None


@plugin.kernel(Operations.sgemm)
def sgemm(
    session: Session,
    m: int,
    n: int,
    k: int,
    alpha: float,
    a: F32s,
    lda: int,
    b: F32s,
    ldb: int,
    beta: float,
    ldc: int,
    c: F32s,
) -> F32s:
    block = _rows(c, m, n, ldc)
    product = np.float32(alpha) * (_rows(a, m, k, lda) @ _rows(b, k, n, ldb))
    # As in BLAS, beta = 0 does not read C, which may hold NaN.
    block[...] = product + np.float32(beta) * block if beta else product
    return c


def _rows(flat: F32s, rows: int, columns: int, leading: int) -> F32s:
    """A rows × columns view of memory whose rows start `leading` elements apart."""
    size = flat.itemsize
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), (leading * size, size))


@plugin.kernel(Operations.fpga_arraycopy)
def fpga_arraycopy(session: Session, a: I32s) -> I32s:
    return np.copy(a)


@plugin.kernel(Operations.fpga_mmult)
def fpga_mmult(session: Session, a: F32s, b: F32s) -> F32s:
    return a @ b


@plugin.kernel(Operations.fpga_parallel)
def fpga_parallel(session: Session, a: F32s, b: F32s) -> tuple[F32s, F32s]:
    return a + b, a * b


@plugin.kernel(Operations.fpga_vadd)
def fpga_vadd(session: Session, a: F32s, b: F32s) -> F32s:
    return a + b


@plugin.kernel(Operations.minmax)
def minmax(
    session: Session, indata: F64s, ndata: int, low_threshold: int, high_threshold: int
) -> tuple[Any, float, float]:
    clipped = np.clip(indata, low_threshold, high_threshold)
    if not ndata:
        return clipped, np.inf, -np.inf
    return clipped, float(indata.min()), float(indata.max())
