"""The operations on a device: arrays in, arrays out, whatever their size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from vaccel.error import ResourceExhausted
from vaccel.fpga.device import Buffer, Device
from vaccel.fpga.fabric import Fabric, Work
from vaccel.fpga.pool import Pool, Share
from vaccel.fpga.registers import ELEMENTWISE, MMULT, Kernel, Operation
from vaccel.fpga.tasks import ElementwiseTask, MatrixTask, Task

F32s = npt.NDArray[np.float32]
I32s = npt.NDArray[np.int32]
T = TypeVar("T", np.float32, np.int32)


class Accelerator:
    """A device with its kernels. Except for `pool.share`, for one thread at a time.

    Arrays are native and C-contiguous. Buffers come from a share of the pool, by default the
    accelerator's own. Raises DeviceError, DeadlineExceeded, ResourceExhausted, and SessionClosed
    if the share ends during the call.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.pool = Pool(device)
        self._fabric = Fabric(device)
        self._own = self.pool.share()
        self._lost: list[Buffer] = []
        self.last = Work("", 0, 0)
        """What the last call took; nothing for empty arrays."""

    @property
    def bytes_copied(self) -> int:
        """To and from device memory, in all calls so far."""
        return self._fabric.bytes_copied

    def close(self) -> None:
        self.device.close()

    def prepare(self, kernel: Kernel) -> None:
        """Do now what the first call of `kernel` would: program the device, check the kernel."""
        self._fabric.prepare(kernel)

    def copy(self, a: I32s, share: Share | None = None) -> I32s:
        """[n] → [n]"""
        return self._elementwise(Operation.COPY, [a], share)[0]

    def add(self, a: F32s, b: F32s, share: Share | None = None) -> F32s:
        """[n], [n] → [n]"""
        return self._elementwise(Operation.ADD, [a, b], share)[0]

    def multiply(self, a: F32s, b: F32s, share: Share | None = None) -> F32s:
        """[n], [n] → [n]"""
        return self._elementwise(Operation.MULTIPLY, [a, b], share)[0]

    def add_and_multiply(self, a: F32s, b: F32s, share: Share | None = None) -> tuple[F32s, F32s]:
        """[n], [n] → sum [n], product [n]"""
        added, multiplied = self._elementwise(Operation.ADD_AND_MULTIPLY, [a, b], share, outputs=2)
        return added, multiplied

    def matmul(self, a: F32s, b: F32s, share: Share | None = None) -> F32s:
        """[n, n], [n, n] → [n, n]; each sum starts at 0, in ascending order of the inner index."""
        result = np.empty_like(a)
        self.last = Work(MMULT.name, 0, 0)
        if a.size:
            units = {u: self._fabric.capability(MMULT, u) for u in ("rows", "lanes", "depth")}
            self._run(MatrixTask(a, b, result, **units), share)
        return result

    def _elementwise(
        self,
        operation: Operation,
        inputs: Sequence[npt.NDArray[T]],
        share: Share | None,
        outputs: int = 1,
    ) -> list[npt.NDArray[T]]:
        self.last = Work(ELEMENTWISE.name, 0, 0)
        results = [np.empty_like(inputs[0]) for _ in range(outputs)]
        if inputs[0].size:
            self._run(ElementwiseTask(operation, inputs, results), share)
        return results

    def _run(self, task: Task, share: Share | None) -> None:
        share = share or self._own
        self._fabric.prepare(task.kernel)
        with self._buffers(task, share) as (extent, buffers):
            jobs = task.jobs(extent, buffers)
            try:
                self.last = self._fabric.run(task.kernel, jobs, lambda: share.ended)
            finally:
                if self._fabric.running:  # it could not be stopped: leave it its memory for ever
                    self._lost += buffers
                    buffers.clear()

    @contextmanager
    def _buffers(self, task: Task, share: Share) -> Iterator[tuple[int, list[Buffer]]]:
        """The largest extent, halved as often as need be, whose buffers can be had; and these."""
        extent = task.most
        with ExitStack() as stack:
            while True:
                try:
                    lent = stack.enter_context(self.pool.borrow(share, task.sizes(extent)))
                    break
                except ResourceExhausted as exc:
                    if extent <= task.least:
                        sizes = ", ".join(map(str, task.sizes(extent)))
                        raise ResourceExhausted(
                            f"the {task.kernel.name} kernel needs buffers of at least {sizes} "
                            f"bytes: {exc.message}; end programs that hold device memory"
                        ) from exc
                extent = max(task.least, extent // 2)
            yield extent, lent


class Function(NamedTuple):
    """What carries out an operation."""

    kernel: Kernel
    call: Callable[..., Any]


OPERATIONS: Mapping[str, Function] = {
    "fpga_arraycopy": Function(ELEMENTWISE, Accelerator.copy),
    "fpga_vadd": Function(ELEMENTWISE, Accelerator.add),
    "fpga_parallel": Function(ELEMENTWISE, Accelerator.add_and_multiply),
    "fpga_mmult": Function(MMULT, Accelerator.matmul),
}
"""By name, in the order in which the original plugin registers them."""
