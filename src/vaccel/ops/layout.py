"""Arrays of known dtypes and shapes in received memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Desk(NamedTuple):
    """Arrays in the places where they stand in frames of one kind.

    Copying a small frame to `memory`, and then what is in `copies`, costs less than making arrays
    over it.
    """

    memory: bytearray
    copies: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]
    """Where an array is not aligned in `memory`: its copy, and itself."""
    arrays: list[np.ndarray[Any, Any]]


class Layout:
    """Arrays of known dtypes and shapes over received memory."""

    def __init__(self, arrays: Sequence[np.ndarray[Any, Any]]) -> None:
        self.specs = [(array.dtype, array.shape) for array in arrays]
        """Dtypes and shapes."""
        self.single = self.specs[0] if len(self.specs) == 1 else None
        """Dtype and shape, if there is just one array."""

    def __len__(self) -> int:
        return len(self.specs)

    def over(self, views: Sequence[memoryview]) -> list[np.ndarray[Any, Any]]:
        """The arrays; writable and aligned, at the cost of a copy where `views` are not."""
        arrays = []
        for view, (dtype, shape) in zip(views, self.specs, strict=False):
            # Only small messages arrive in immutable memory, at any alignment.
            array = np.frombuffer(bytearray(view) if view.readonly else view, dtype)
            if not array.flags.aligned:
                array = array.copy()
            arrays.append(array if len(shape) == 1 else array.reshape(shape))
        return arrays

    def desk(self, size: int, offsets: Sequence[int]) -> Desk:
        """Where frames of `size` bytes are read, whose arrays begin at `offsets`."""
        memory = bytearray(size)
        inside = self._inside(memory, offsets)
        arrays = [a if a.flags.aligned else np.empty_like(a) for a in inside]
        copies = [(own, a) for own, a in zip(arrays, inside, strict=True) if own is not a]
        return Desk(memory, copies, arrays)

    def _inside(self, memory: bytearray, offsets: Sequence[int]) -> list[np.ndarray[Any, Any]]:
        return [
            np.frombuffer(memory, dtype, math.prod(shape), offset).reshape(shape)
            for (dtype, shape), offset in zip(self.specs, offsets, strict=True)
        ]

    def copier(self, memory: bytearray, offsets: Sequence[int]) -> Callable[[], Any]:
        """A function that copies the result out of `memory`: an array, or a tuple of several."""
        copies = [array.copy for array in self._inside(memory, offsets)]
        if len(copies) == 1:
            return copies[0]
        return lambda: tuple([copy() for copy in copies]) or None

    def reader(self, offsets: Sequence[int]) -> Callable[[bytearray], Any]:
        """A function from a frame, whose memory is kept, to the result: as from `copier`."""
        if len(self) == 1:
            (dtype, shape), offset = self.specs[0], offsets[0]
            # Memory of a bytearray begins at a multiple of 8.
            if len(shape) == 1 and offset % min(dtype.itemsize, 8) == 0:
                return lambda frame: np.frombuffer(frame, dtype, shape[0], offset)

        def read(frame: bytearray) -> Any:
            arrays = tuple([np.require(a, None, "A") for a in self._inside(frame, offsets)])
            return arrays[0] if len(arrays) == 1 else arrays or None

        return read

    def matches(self, arrays: Sequence[Any]) -> bool:
        """`arrays` are contiguous, of these dtypes and shapes."""
        if len(arrays) != len(self.specs):
            return False
        for array, (dtype, shape) in zip(arrays, self.specs, strict=True):
            if type(array) is not np.ndarray or array.dtype is not dtype or array.shape != shape:
                return False
            if not array.flags.c_contiguous:
                return False
        return True
