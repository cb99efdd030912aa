"""What an argument of a function may be: an image, a matrix, a number, a choice.

What travels: an image as two read arguments, its shape (INT64_ARRAY) and its elements (the array
type of its dtype); a matrix as FLOAT64_ARRAY; a number as INT32 or FLOAT64; a choice as the number
that it stands for (INT32).
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vaccel.ops.args import DTYPES, Arg, ArgType, array_type, as_array, mismatch

MAX_SIDE = 32767
"""Pixels; where OpenCV computes places in a picture, it has 16 bits for them."""
REQUIRED = inspect.Parameter.empty

_ANY = ("uint8", "uint16", "int16", "float32", "float64")


@dataclass(frozen=True)
class Parameter:
    """A typed argument. `check` gives the value as the function takes it; `str` says what that may
    be."""

    name: str
    default: Any = REQUIRED

    def check(self, value: Any) -> Any:
        raise NotImplementedError

    def encode(self, value: Any) -> list[Arg]:
        raise NotImplementedError

    def decode(self, args: Iterator[Arg]) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Image(Parameter):
    dtypes: tuple[str, ...] = _ANY

    def check(self, value: Any) -> np.ndarray[Any, Any]:
        array = as_array(value)
        if array.dtype.newbyteorder("=").name not in self.dtypes:
            raise mismatch(str(self), array.dtype.name)
        channels = array.shape[2] if array.ndim == 3 else 1
        if array.ndim not in (2, 3) or not array.size or channels > 4:
            expected = "an image of shape (height, width) or (height, width, 1 to 4)"
            raise mismatch(expected, f"shape {array.shape}")
        # OpenCV reads rows of whole, native elements; others are converted.
        return np.require(array, array.dtype.newbyteorder("="), ["C", "A"])

    def __str__(self) -> str:
        return f"an image of {', '.join(self.dtypes)}"

    def encode(self, value: Any) -> list[Arg]:
        shape = np.array(value.shape, np.int64)
        return [Arg(shape, ArgType.INT64_ARRAY), Arg(value, array_type(value.dtype))]

    def decode(self, args: Iterator[Arg]) -> Any:
        shape = _elements(next(args), (ArgType.INT64_ARRAY,)).tolist()
        data = _elements(next(args), tuple(array_type(np.dtype(name)) for name in self.dtypes))
        if min(shape, default=0) < 0 or len(shape) not in (2, 3) or math.prod(shape) != data.size:
            raise mismatch(f"an image of shape {shape}", f"{data.size} elements")
        return self.check(data.reshape(shape))


@dataclass(frozen=True)
class Matrix(Parameter):
    shape: tuple[int, ...] = (2, 3)

    def check(self, value: Any) -> np.ndarray[Any, Any]:
        try:
            array = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            raise mismatch(str(self), f"{value!r:.60}") from None
        if array.shape != self.shape:
            raise mismatch(str(self), f"shape {array.shape}")
        return array

    def __str__(self) -> str:
        return f"a matrix of shape {self.shape}"

    def encode(self, value: Any) -> list[Arg]:
        return [Arg(value, ArgType.FLOAT64_ARRAY)]

    def decode(self, args: Iterator[Arg]) -> Any:
        data = _elements(next(args), (ArgType.FLOAT64_ARRAY,))
        if data.size != math.prod(self.shape):
            raise mismatch(str(self), f"{data.size} elements")
        return self.check(data.reshape(self.shape))


@dataclass(frozen=True)
class Int(Parameter):
    least: int = 0
    most: int = MAX_SIDE
    odd: bool = False
    """Or 0, where `least` is."""

    def check(self, value: Any) -> int:
        try:
            number = operator.index(value)
        except TypeError:
            raise mismatch("a whole number", f"{value!r:.60}") from None
        if not self.least <= number <= self.most or (self.odd and number and not number % 2):
            raise mismatch(str(self), number)
        return number

    def __str__(self) -> str:
        if not self.odd:
            return f"a number from {self.least} to {self.most}"
        return (
            f"an odd number from {self.least or 1} to {self.most}{'' if self.least else ', or 0'}"
        )

    def encode(self, value: Any) -> list[Arg]:
        return [Arg(value, ArgType.INT32)]

    def decode(self, args: Iterator[Arg]) -> Any:
        return self.check(_elements(next(args), (ArgType.INT32,))[0].item())


@dataclass(frozen=True)
class Real(Parameter):
    least: float = -math.inf
    most: float = math.inf

    def check(self, value: Any) -> float:
        try:
            number = float(value)
        except (OverflowError, TypeError, ValueError):
            raise mismatch(str(self), f"{value!r:.60}") from None
        if number < self.least or number > self.most:
            raise mismatch(str(self), number)
        return number

    def __str__(self) -> str:
        limited = math.isfinite(self.most)
        return f"a number from {self.least:g} to {self.most:g}" if limited else "a number"

    def encode(self, value: Any) -> list[Arg]:
        return [Arg(value, ArgType.FLOAT64)]

    def decode(self, args: Iterator[Arg]) -> Any:
        return self.check(_elements(next(args), (ArgType.FLOAT64,))[0].item())


@dataclass(frozen=True)
class Choice(Parameter):
    """One of some names, or the number that OpenCV has for it."""

    names: Mapping[str, int] = field(default_factory=dict)

    def check(self, value: Any) -> int:
        known = self.names if isinstance(value, str) else {n: n for n in self.names.values()}
        try:
            return known[value]
        except (KeyError, TypeError):
            raise mismatch(str(self), f"{value!r:.60}") from None

    def __str__(self) -> str:
        return f"one of {', '.join(self.names)}"

    def encode(self, value: Any) -> list[Arg]:
        return [Arg(value, ArgType.INT32)]

    def decode(self, args: Iterator[Arg]) -> Any:
        return self.check(_elements(next(args), (ArgType.INT32,))[0].item())


def _elements(arg: Arg, types: Sequence[ArgType]) -> np.ndarray[Any, Any]:
    """The memory of an argument as 1-D array."""
    if arg.type not in types:
        raise mismatch(" or ".join(t.name for t in types), arg.type.name)
    return np.frombuffer(arg.view(), DTYPES[arg.type])
