"""Arrays whose shape only the kernel knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaccel.ops.args import ArgType, as_array, mismatch
from vaccel.ops.kinds import Dims, Kind, WireArg

_BYTES = int(ArgType.UINT8_ARRAY)

ROOM = 2**28
"""Bytes offered for a result of unknown size; a number only, no memory is taken for it."""


@dataclass(frozen=True)
class Found(Kind):
    """An array of `dtype` whose shape only the kernel knows; a number in `dims` is an extent."""

    dtype: np.dtype[Any]
    dims: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join(self.dims)}]"

    def check(self, value: Any, dims: Dims) -> np.ndarray[Any, Any]:
        array = np.require(as_array(value), self.dtype, ["C", "A"])
        wanted = [
            int(d) if d.isdigit() else e for d, e in zip(self.dims, array.shape, strict=False)
        ]
        if array.ndim != len(self.dims) or wanted != list(array.shape):
            raise mismatch(self, f"shape {array.shape}")
        return array

    def to_wire(self, value: Any) -> WireArg:
        # The extents travel before the elements, in one argument: hence the copy.
        array = self.check(value, {})
        data = np.empty(8 * array.ndim + array.nbytes, np.uint8)
        data[: 8 * array.ndim] = np.frombuffer(np.array(array.shape, "<i8"), np.uint8)
        data[8 * array.ndim :] = array.reshape(-1).view(np.uint8)
        return WireArg(_BYTES, data.nbytes, data)

    def from_wire(self, arg: WireArg, dims: Dims) -> np.ndarray[Any, Any]:
        head = 8 * len(self.dims)
        if arg.type != _BYTES or arg.size < head:
            raise mismatch(f"{self} after its extents", f"{arg.size} bytes")
        shape = np.frombuffer(arg.buf, "<i8", len(self.dims)).tolist()
        size = math.prod(shape) * self.dtype.itemsize
        if min(shape) < 0 or size != arg.size - head:
            raise mismatch(f"{self} of {arg.size - head} bytes", f"extents {shape}")
        flat = np.frombuffer(arg.buf, self.dtype, offset=head)
        return self.check(flat.reshape(shape), dims)

    def size(self, dims: Dims) -> WireArg:
        return WireArg(_BYTES, ROOM, None)

    def dummy(self, dims: Dims, fill: Any) -> np.ndarray[Any, Any]:
        return np.zeros([int(d) if d.isdigit() else 0 for d in self.dims], self.dtype)
