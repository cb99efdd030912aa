"""Arrays and numbers as values of operations."""

from __future__ import annotations

import ctypes
import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from vaccel.ops.args import array_type, as_array, mismatch, pack, scalar_type
from vaccel.ops.kinds import UNTYPED, Dims, Kind, WireArg, bind, type_name


@dataclass(frozen=True)
class Array(Kind):
    """A numpy array of `dtype`.

    One named dimension (`"n"`) accepts any shape and hands kernels 1-D; two (`"n n"`) accept 2-D,
    or 1-D for a square matrix. `count` instead gives the least number of elements of a flat buffer.
    """

    dtype: np.dtype[Any]
    dims: tuple[str, ...]
    count: Callable[[Dims], int] | None = None

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join(self.dims)}]"

    def check(self, value: Any, dims: Dims) -> np.ndarray[Any, Any]:
        if (
            type(value) is np.ndarray
            and value.dtype is self.dtype
            and value.flags.c_contiguous
            and value.ndim == 1 == len(self.dims)
            and value.flags.aligned
        ):
            array, extents = value, (len(value),)
        else:
            array, extents = self._convert(value)
        if self.count is not None:
            self._need(array.size, dims)
            return array
        for name, extent in zip(self.dims, extents, strict=True):
            if dims.setdefault(name, extent) != extent:
                bind(dims, name, extent)
        return array

    def _convert(self, value: Any) -> tuple[np.ndarray[Any, Any], tuple[Any, ...]]:
        array = self.native(value)
        if self.count is not None:
            return array.reshape(-1), ()
        if len(self.dims) == 1:
            return array.reshape(-1), (array.size if array.ndim == 1 else array.shape,)
        if array.ndim == 1:
            side = int(array.size**0.5)
            if side * side != array.size:
                raise mismatch(f"a square matrix, {self}", f"{array.size} elements")
            array = array.reshape(side, side)
        if array.ndim != len(self.dims):
            raise mismatch(self, f"shape {array.shape}")
        if len(set(self.dims)) == 1 and len(set(array.shape)) > 1:
            raise mismatch(f"a square matrix, {self}", f"shape {array.shape}")
        return array, array.shape

    def _need(self, size: int, dims: Dims) -> None:
        least = self.count(dims) if self.count else 0
        if size < least:
            raise mismatch(f"at least {least} elements ({', '.join(self.dims)})", size)

    def native(self, value: Any) -> np.ndarray[Any, Any]:
        """`value` as an aligned C-contiguous array of our dtype; copied only where it must be."""
        if isinstance(value, (bytes, bytearray)):
            if len(value) % self.dtype.itemsize:
                raise mismatch(
                    f"whole {self.dtype.name} elements of {self.dtype.itemsize} bytes",
                    f"{len(value)} bytes",
                )
            return np.require(np.frombuffer(value, self.dtype), requirements=["C", "A"])
        if isinstance(value, (list, tuple)):
            return pack(value, self.dtype)
        array = as_array(value)
        if array.dtype.newbyteorder("=") != self.dtype:
            raise mismatch(
                self,
                f"{array.dtype.name} array of shape {array.shape}",
                f"convert it with .astype('{self.dtype.name}')",
            )
        return np.require(array, self.dtype, ["C", "A"])

    def result(self, value: Any, dims: Dims) -> np.ndarray[Any, Any]:
        array, shape = self.native(value), self.shape(dims)
        if array.shape != shape:
            if array.size != math.prod(shape):
                raise mismatch(f"{self} of {math.prod(shape)} elements", f"shape {array.shape}")
            array = array.reshape(shape)
        return array

    def to_wire(self, value: Any) -> WireArg:
        array = self.native(value)
        return WireArg(self.wire_type, array.nbytes, array)

    def from_wire(self, arg: WireArg, dims: Dims) -> np.ndarray[Any, Any]:
        if arg.type != self.wire_type and arg.type not in UNTYPED:
            raise mismatch(type_name(self.wire_type), type_name(arg.type))
        if arg.size % self.dtype.itemsize:
            raise mismatch(f"whole {self.dtype.name} elements", f"{arg.size} bytes")
        array = np.frombuffer(arg.buf, self.dtype)
        if not array.flags.aligned:
            array = array.copy()  # engines and FPGA drivers need aligned memory
        return self.check(array, dims)

    @property
    def wire_type(self) -> int:
        return _ARRAY_TYPES[self.dtype]

    def size(self, dims: Dims) -> WireArg:
        return WireArg(self.wire_type, self.dtype.itemsize * self._elements(dims), None)

    def _elements(self, dims: Dims) -> int:
        if self.count is not None:
            return self.count(dims)
        total = 1
        for name in self.dims:
            extent = dims[name]
            total *= extent if isinstance(extent, int) else int(np.prod(extent))
        return total

    def shape(self, dims: Dims) -> tuple[int, ...]:
        """The result's shape as kernels give it."""
        if len(self.dims) == 1 or self.count is not None:
            return (self._elements(dims),)
        return tuple(dims[name] for name in self.dims)

    def dummy(self, dims: Dims, fill: Any) -> np.ndarray[Any, Any]:
        return np.full(self.shape(dims), fill or 0, self.dtype)

    def dump(self, name: str, value: Any) -> str:
        return f"len_{name}: {value.size} "


@dataclass(frozen=True)
class InOut(Array):
    """An optional array that the caller may pre-fill and the operation updates."""

    writes: ClassVar[bool] = True

    def check(self, value: Any, dims: Dims) -> np.ndarray[Any, Any]:
        if value is None:
            count = self._elements(dims)
            try:
                return np.zeros(count, self.dtype)
            except (MemoryError, OverflowError, ValueError):
                raise mismatch("a result that fits in memory", f"{count} elements") from None
        # The kernel writes here; the caller's array stays as it is.
        array = np.array(self.native(value).reshape(-1))
        self._need(array.size, dims)
        return array

    def result(self, value: Any, dims: Dims) -> np.ndarray[Any, Any]:
        array = self.native(value).reshape(-1)
        self._need(array.size, dims)
        return array

    def offer(self, value: Any) -> WireArg:
        """The write argument for `value`; of zeros, such as what nobody gave, only the size."""
        arg = self.to_wire(value)
        bits = arg.buf.view(f"u{self.dtype.itemsize}")  # in which -0.0 is not zero
        return arg if bits[:64].any() or bits.any() else arg._replace(buf=None)

    def from_wire(self, arg: WireArg, dims: Dims) -> np.ndarray[Any, Any]:
        # A write argument without memory, only a size, starts as zeros.
        if arg.buf is not None:
            return super().from_wire(arg, dims)
        self._need(arg.size // self.dtype.itemsize, dims)
        return self.check(None, dims)

    def dummy(self, dims: Dims, fill: Any) -> np.ndarray[Any, Any]:
        return np.full(self._elements(dims), fill or 0, self.dtype)


@dataclass(frozen=True)
class Scalar(Kind):
    """One number of `dtype`. An integer may bind a dimension, `dim`.

    `floor` names a dimension below which it must not be.
    """

    dtype: np.dtype[Any]
    dim: str = ""
    least: int | None = None
    floor: str = ""

    def __str__(self) -> str:
        return str(self.dtype)

    def check(self, value: Any, dims: Dims) -> Any:
        number: Any
        if self.dtype.kind == "f":
            if not isinstance(value, Real) and getattr(value, "ndim", None) != 0:
                raise mismatch(f"{self}, a number", f"{value!r:.60}")
            try:
                number = float(value)
            except (OverflowError, TypeError, ValueError) as exc:
                raise mismatch(f"{self}, a number", exc) from None
            # Kernels here get what an agent's would: the value that travels.
            return ctypes.c_float(number).value if self.dtype.itemsize == 4 else number
        try:
            number = operator.index(value)
        except TypeError:
            raise mismatch(f"{self}, a whole number", repr(value)) from None
        least, most = self._range
        if not least <= number <= most:
            raise mismatch(f"{self} from {least} to {most}", number)
        if self.floor and number < dims[self.floor]:
            raise mismatch(f"at least {self.floor}={dims[self.floor]}", number)
        if self.dim:
            extent = dims.get(self.dim, number)
            if not isinstance(extent, int):
                extent = int(np.prod(extent))
            if extent != number:
                raise mismatch(f"{extent}, the number of elements", number)
            dims.setdefault(self.dim, number)
        return number

    @functools.cached_property
    def _range(self) -> tuple[int, int]:
        """The least and the greatest integer."""
        info = np.iinfo(self.dtype)
        return int(info.min) if self.least is None else self.least, int(info.max)

    def to_wire(self, value: Any) -> WireArg:
        return WireArg(
            _SCALAR_TYPES[self.dtype], self.dtype.itemsize, self.dtype.type(value).tobytes()
        )

    def from_wire(self, arg: WireArg, dims: Dims) -> Any:
        wire_type = _SCALAR_TYPES[self.dtype]
        if arg.type != wire_type and arg.type not in UNTYPED:
            raise mismatch(type_name(wire_type), type_name(arg.type))
        if arg.size != self.dtype.itemsize:
            raise mismatch(f"{self} of {self.dtype.itemsize} bytes", f"{arg.size} bytes")
        return self.check(np.frombuffer(arg.buf, self.dtype)[0].item(), dims)

    def size(self, dims: Dims) -> WireArg:
        return WireArg(_SCALAR_TYPES[self.dtype], self.dtype.itemsize, None)

    def dummy(self, dims: Dims, fill: Any) -> Any:
        return self.dtype.type(fill or 0).item()


def as_form(form: Any, ndim: int, value: Any) -> Any:
    """`value` as the caller would have it: list, bytes, or an array of the shape of `form`."""
    if not isinstance(value, np.ndarray):
        return value
    if isinstance(form, (list, tuple)):
        return value.reshape(-1).tolist()
    if isinstance(form, (bytes, bytearray)):
        return type(form)(value.tobytes())
    shape = as_array(form).shape
    if len(shape) != ndim and value.size == int(np.prod(shape)):
        return value.reshape(shape)
    return value


F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
I32, I64, U8 = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.uint8)

_SCALAR_TYPES = {dtype: int(scalar_type(dtype)) for dtype in (F32, F64, I32, I64, U8)}
_ARRAY_TYPES = {dtype: int(array_type(dtype)) for dtype in (F32, F64, I32, I64, U8)}
