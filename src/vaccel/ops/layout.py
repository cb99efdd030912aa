"""Arrays of known dtypes and shapes in received memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class Desk:
    """Arrays in the places where they stand in frames of one kind.

    Copying a small frame here costs less than making arrays over it.
    """

    __slots__ = ("_copies", "_memory", "arrays")

    def __init__(self, memory: bytearray, inside: list[np.ndarray[Any, Any]]) -> None:
        self._memory = memory
        self.arrays = [a if a.flags.aligned else np.empty_like(a) for a in inside]
        self._copies = [
            (own, a) for own, a in zip(self.arrays, inside, strict=True) if own is not a
        ]

    def load(self, frame: bytes) -> list[np.ndarray[Any, Any]]:
        """The arrays of `frame`; they change with the next one."""
        self._memory[:] = frame
        for own, source in self._copies:
            own[...] = source
        return self.arrays


class Layout:
    """Arrays of known dtypes and shapes over received memory."""

    def __init__(self, arrays: Sequence[np.ndarray[Any, Any]]) -> None:
        self._specs = [(array.dtype, array.shape) for array in arrays]
        self.single = self._specs[0] if len(self._specs) == 1 else None
        """Dtype and shape, if there is just one array."""

    def __len__(self) -> int:
        return len(self._specs)

    def over(self, views: Sequence[memoryview]) -> list[np.ndarray[Any, Any]]:
        """The arrays; writable and aligned, at the cost of a copy where `views` are not."""
        arrays = []
        for view, (dtype, shape) in zip(views, self._specs, strict=False):
            # Only small messages arrive in immutable memory, at any alignment.
            array = np.frombuffer(bytearray(view) if view.readonly else view, dtype)
            if not array.flags.aligned:
                array = array.copy()
            arrays.append(array if len(shape) == 1 else array.reshape(shape))
        return arrays

    def desk(self, size: int, offsets: Sequence[int]) -> Desk:
        """Where frames of `size` bytes are read, whose arrays begin at `offsets`."""
        memory = bytearray(size)
        inside = [
            np.frombuffer(memory, dtype, math.prod(shape), offset).reshape(shape)
            for (dtype, shape), offset in zip(self._specs, offsets, strict=True)
        ]
        return Desk(memory, inside)

    def reader(self, offsets: Sequence[int]) -> Callable[[bytearray], Any]:
        """A function from a frame to the result: an array, or a tuple of several.

        They begin at `offsets` and keep the frame's memory.
        """
        specs = [
            (dtype, math.prod(shape), offset, shape)
            for (dtype, shape), offset in zip(self._specs, offsets, strict=True)
        ]
        frombuffer = np.frombuffer
        if len(specs) == 1 and len(specs[0][3]) == 1 and _aligned(specs[0][0], offsets[0]):
            dtype, count, offset, _ = specs[0]
            return lambda frame: frombuffer(frame, dtype, count, offset)

        def read(frame: bytearray) -> Any:
            arrays = tuple(
                [
                    np.require(frombuffer(frame, dtype, count, offset).reshape(shape), None, "A")
                    for dtype, count, offset, shape in specs
                ]
            )
            return arrays[0] if len(arrays) == 1 else arrays or None

        return read

    def matches(self, arrays: Sequence[Any]) -> bool:
        """`arrays` are contiguous, of these dtypes and shapes."""
        if len(arrays) != len(self._specs):
            return False
        for array, (dtype, shape) in zip(arrays, self._specs, strict=True):
            if type(array) is not np.ndarray or array.dtype is not dtype or array.shape != shape:
                return False
            if not array.flags.c_contiguous:
                return False
        return True


def _aligned(dtype: np.dtype[Any], offset: int) -> bool:
    """Memory of a bytearray begins at a multiple of 8."""
    return offset % min(dtype.itemsize, 8) == 0
