"""Functions with typed arguments that travel as `Arg`s: images, matrices, numbers, choices.

What travels: an image as two read arguments, its shape (INT64_ARRAY) and its elements (the array
type of its dtype); a matrix as FLOAT64_ARRAY; a number as INT32 or FLOAT64; a choice as the number
that it stands for (INT32). All arguments are given, in order. Each result fills a write argument,
whose size follows from the arguments.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vaccel.error import InvalidArgument
from vaccel.ops.args import DTYPES, Arg, ArgType, array_type, as_array, mismatch

MAX_SIDE = 32767
"""Pixels; where OpenCV computes places in a picture, it has 16 bits for them."""
MAX_RESULT = 2**30
"""Bytes; the longest message that could carry a result."""

REQUIRED = inspect.Parameter.empty

_ANY = ("uint8", "uint16", "int16", "float32", "float64")


@dataclass(frozen=True)
class Parameter:
    """A typed argument. `check` gives the value as the function takes it."""

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
            raise mismatch(f"an image of {' or '.join(self.dtypes)}", array.dtype.name)
        channels = array.shape[2] if array.ndim == 3 else 1
        if array.ndim not in (2, 3) or not array.size or channels > 4:
            expected = "an image of shape (height, width) or (height, width, 1 to 4)"
            raise mismatch(expected, f"shape {array.shape}")
        # OpenCV reads rows of whole, native elements; others are converted.
        return np.require(array, array.dtype.newbyteorder("="), ["C", "A"])

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
            raise mismatch(f"a matrix of shape {self.shape}", f"{value!r:.60}") from None
        if array.shape != self.shape:
            raise mismatch(f"a matrix of shape {self.shape}", f"shape {array.shape}")
        return array

    def encode(self, value: Any) -> list[Arg]:
        return [Arg(value, ArgType.FLOAT64_ARRAY)]

    def decode(self, args: Iterator[Arg]) -> Any:
        data = _elements(next(args), (ArgType.FLOAT64_ARRAY,))
        if data.size != math.prod(self.shape):
            raise mismatch(f"a matrix of shape {self.shape}", f"{data.size} elements")
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
            raise mismatch(f"one of {', '.join(self.names)}", f"{value!r:.60}") from None

    def encode(self, value: Any) -> list[Arg]:
        return [Arg(value, ArgType.INT32)]

    def decode(self, args: Iterator[Arg]) -> Any:
        return self.check(_elements(next(args), (ArgType.INT32,))[0].item())


def _elements(arg: Arg, types: Sequence[ArgType]) -> np.ndarray[Any, Any]:
    """The memory of an argument as 1-D array."""
    if arg.type not in types:
        raise mismatch(" or ".join(t.name for t in types), arg.type.name)
    return np.frombuffer(arg.view(), DTYPES[arg.type])


Shaped = tuple[tuple[int, ...], Any]
"""Shape and dtype of a result."""


@dataclass(frozen=True)
class Function:
    code: int
    name: str
    parameters: tuple[Parameter, ...]
    shapes: Callable[[dict[str, Any]], list[Shaped]]

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Checked values by name, defaults filled in."""
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        signature = inspect.Signature(
            [inspect.Parameter(p.name, kind, default=p.default) for p in self.parameters]
        )
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as exc:
            names = ", ".join(p.name for p in self.parameters)
            raise self.invalid(f"{exc}; expected {self.name}({names})") from None
        bound.apply_defaults()
        return {p.name: self._checked(p, p.check, bound.arguments[p.name]) for p in self.parameters}

    def decode(self, read: Sequence[Arg]) -> dict[str, Any]:
        """Checked values by name, from the arguments that travelled."""
        wanted = sum(1 + isinstance(p, Image) for p in self.parameters)
        if len(read) != wanted:
            names = ", ".join(p.name for p in self.parameters)
            raise self.invalid(f"expected {wanted} read arguments ({names}), found {len(read)}")
        args = iter(read)
        return {p.name: self._checked(p, p.decode, args) for p in self.parameters}

    def _checked(self, parameter: Parameter, check: Callable[[Any], Any], value: Any) -> Any:
        try:
            return check(value)
        except InvalidArgument as exc:
            raise self.invalid(f"{parameter.name}: {exc.message}") from None

    def results(self, values: dict[str, Any]) -> list[Shaped]:
        """Shape and dtype of each result."""
        try:
            found = self.shapes(values)
        except InvalidArgument as exc:
            raise self.invalid(exc.message) from None
        size = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in found)
        if size > MAX_RESULT:
            raise self.invalid(f"expected a result of at most {MAX_RESULT} bytes, found {size}")
        return found

    def outputs(self, values: dict[str, Any], write: Sequence[Arg]) -> list[np.ndarray[Any, Any]]:
        """The memory of the write arguments, as arrays for the results."""
        found = self.results(values)
        if len(write) != len(found):
            raise self.invalid(f"expected {len(found)} write arguments, found {len(write)}")
        arrays = []
        for i, ((shape, dtype), arg) in enumerate(zip(found, write, strict=True)):
            type, size = array_type(np.dtype(dtype)), math.prod(shape) * np.dtype(dtype).itemsize
            if arg.type != type or arg.capacity != size:
                raise self.invalid(
                    f"write argument {i}: expected {type.name} of {size} bytes for shape {shape}, "
                    f"found {arg.type.name} of {arg.capacity} bytes"
                )
            arrays.append(np.frombuffer(arg.room(), dtype).reshape(shape))
        return arrays

    def invalid(self, text: str) -> InvalidArgument:
        return InvalidArgument(f"opencv {self.name}: {text}")


def unfit(name: str, expected: object, found: object) -> InvalidArgument:
    """What `Function.shapes` raises for an argument that does not go with the others."""
    return InvalidArgument(f"{name}: {mismatch(expected, found).message}")
