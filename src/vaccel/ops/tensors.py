"""Tensors of the inference frameworks: an element type, dims, and memory used where it lies.

One implementation; `ops.tf`, `ops.tf.lite` and `ops.torch` give it their element types.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from enum import IntEnum
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

import numpy as np

from vaccel.error import InvalidArgument
from vaccel.ops.args import as_array, bytes_of, mismatch, pack

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_RANK = 32
"""The most dims that every supported numpy can hold."""


class ElementType(IntEnum):
    """A framework's element types: `NAME = number on the wire, numpy dtype`.

    A dtype `V2` means two bytes an element that numpy cannot compute with; none at all means that
    the size of the data does not follow from the dims.
    """

    dtype: np.dtype[Any] | None
    numeric: bool
    """Whether numpy arrays can hold such elements."""

    def __new__(cls, number: int, dtype: str = "") -> Self:
        member = int.__new__(cls, number)
        member._value_ = number
        member.dtype = np.dtype(dtype) if dtype else None
        member.numeric = member.dtype is not None and member.dtype.kind != "V"
        return member


TypeT = TypeVar("TypeT", bound=ElementType)


class Tensor(Generic[TypeT]):
    """`dims` (row-major), an element type, and the data: a flat list, or a buffer.

    A buffer (bytes, numpy array, …) is not copied if it is contiguous and little-endian. Types that
    numpy lacks hold bytes as the framework lays them out.

    InvalidArgument: negative or too large dims; data that does not fit dims or type.
    """

    # Of an array the bytes are looked at only when somebody asks for them: beside a model that has
    # just run, each step takes microseconds, as it is no longer in the processor's caches.
    __slots__ = ("_array", "_memory", "_shape", "_type")

    _array: np.ndarray[Any, Any] | None
    """With the data as they are to lie; None if the tensor was made over `_memory`."""
    _memory: memoryview | None
    """The bytes; None if they are those of `_array`, and nobody has asked for them."""

    types: ClassVar[type[ElementType]]
    max_dim: ClassVar[int] = 2**63 - 1
    _known_types: ClassVar[dict[np.dtype[Any], Any]]
    """Of dtypes that were looked up before; a framework has few."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._known_types = {}

    def __init__(self, dims: Sequence[int], data_type: TypeT | int, data: Any) -> None:
        self._type = self._known(data_type)
        try:
            self._shape = self._checked(dims)
            self._array, self._memory = None, self._hold(data)
            self._check_length()
        except InvalidArgument as exc:
            raise self._invalid(exc) from None

    @classmethod
    def from_buffer(cls, dims: Sequence[int], data_type: TypeT | int, data: Any) -> Self:
        """A tensor over the caller's memory."""
        return cls(dims, data_type, data)

    @classmethod
    def from_wire(cls, dims: Sequence[int], data_type: int, data: memoryview) -> Self:
        """A tensor over received bytes; InvalidArgument also for an unknown type number."""
        return cls(dims, data_type, data)

    @classmethod
    def from_numpy(cls, array: Any) -> Self:
        """A tensor over the memory of `array`; its dims and type are the array's."""
        return cls._over(array, "from_numpy", ".astype()")

    @classmethod
    def _over(cls, array: Any, maker: str, convert: str) -> Self:
        """As `from_numpy`. Errors name `maker`, which was called, and what would `convert`."""
        data_type = cls._known_types.get(array.dtype) if type(array) is np.ndarray else None
        if data_type is None:
            try:
                array = as_array(array)
                data_type = cls._type_of(array.dtype, convert)
            except InvalidArgument as exc:
                raise InvalidArgument(f"Tensor.{maker}: {exc.message}") from None
            cls._known_types[array.dtype] = data_type
        # Not by way of __init__: what is left to check of an array is little.
        self = cls.__new__(cls)
        self._type, self._shape, self._memory = data_type, array.shape, None
        wanted = data_type.dtype
        if array.dtype is not wanted:  # another name of the same type, or byte-swapped
            array = array.view(wanted) if array.dtype == wanted else array.astype(wanted)
        # A view, as its owner may give the array another shape.
        self._array = array.view() if array.flags.c_contiguous else np.ascontiguousarray(array)
        if array.ndim > MAX_RANK or not 0 < array.size <= cls.max_dim:
            try:
                self._checked(array.shape)
            except InvalidArgument as exc:
                raise self._invalid(exc) from None
        return self

    @classmethod
    def empty(cls) -> Self:
        """A place-holder: no dims and no data, although a tensor without dims has one element."""
        return cls((), cls._type_of(np.dtype(np.float32)), b"")

    def __repr__(self) -> str:
        return (
            f"Tensor({self._type.name}, {list(self._shape)}, {self.as_memoryview().nbytes} bytes)"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tensor) or self.types is not other.types:
            return NotImplemented
        return (self._type, self._shape, self.as_memoryview()) == (
            other._type,
            other._shape,
            other.as_memoryview(),
        )

    __hash__ = None  # type: ignore[assignment]  # the memory may change

    @property
    def dims(self) -> list[int]:
        return list(self._shape)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def data_type(self) -> TypeT:
        return self._type

    @property
    def data(self) -> list[Any]:
        """The elements as a new flat list; of types that numpy lacks, the bytes."""
        if not self._type.numeric:
            return self.as_memoryview().tolist()
        return [] if self._is_placeholder() else cast("list[Any]", self.as_numpy().ravel().tolist())

    def as_memoryview(self) -> memoryview:
        """The bytes, C order, little-endian; not copied."""
        if self._memory is None:
            self._memory = bytes_of(cast("np.ndarray[Any, Any]", self._array))
        return self._memory

    as_bytelike = as_memoryview

    def to_bytes(self) -> bytes:
        """A copy of the bytes."""
        return bytes(self.as_memoryview())

    def as_numpy(self) -> np.ndarray[Any, Any]:
        """A view of the memory in the tensor's shape, read-only if the memory is.

        InvalidArgument: numpy has no such dtype, or the tensor is the place-holder.
        """
        view: np.ndarray[Any, Any]
        if self._array is not None:
            view = self._array.view()
            return view
        if not self._type.numeric:
            raise self._invalid(mismatch("a type numpy has", self._type.name, "use to_bytes()"))
        if self._is_placeholder():
            raise self._invalid(mismatch("a tensor with data", "the empty place-holder"))
        view = np.ndarray(self._shape, self._type.dtype, self._memory)
        return view

    @classmethod
    def _known(cls, data_type: Any) -> TypeT:
        # The families number their types differently: FLOAT of one would be INT of another.
        if not isinstance(data_type, IntEnum) or isinstance(data_type, cls.types):
            try:
                return cast("TypeT", cls.types(data_type))
            except ValueError:
                pass
        expected = f"{cls.types.__module__}.TensorType ({min(cls.types)} to {max(cls.types)})"
        raise InvalidArgument(f"Tensor: data_type: expected {expected}, found {data_type!r}")

    @classmethod
    def _type_of(cls, dtype: np.dtype[Any], convert: str = "") -> TypeT:
        little = dtype.newbyteorder("<")
        for member in cls.types:
            if member.dtype == little and member.numeric:
                return cast("TypeT", member)
        known = ", ".join(dict.fromkeys(m.dtype.name for m in cls.types if m.dtype and m.numeric))
        raise mismatch(f"a dtype of {known}", dtype.name, f"convert it with {convert}")

    def _checked(self, dims: Sequence[int]) -> tuple[int, ...]:
        try:
            shape = tuple(operator.index(dim) for dim in dims)
        except TypeError:
            raise mismatch("dims as a list of whole numbers", f"{dims!r:.60}") from None
        if len(shape) > MAX_RANK:
            raise mismatch(f"at most {MAX_RANK} dims", len(shape))
        for dim in shape:
            if not 0 <= dim <= self.max_dim:
                raise mismatch(f"dims from 0 to {self.max_dim}", dim)
        # numpy refuses such shapes even where one dim is 0.
        itemsize = self._type.dtype.itemsize if self._type.dtype else 1
        if prod(dim for dim in shape if dim) * itemsize > sys.maxsize:
            raise mismatch("dims of a tensor that fits in memory", list(shape))
        return shape

    def _hold(self, data: Any) -> memoryview:
        dtype = self._type.dtype if self._type.numeric else None
        if isinstance(data, (list, tuple)):
            return bytes_of(pack(data, dtype or np.dtype("u1")))
        array = as_array(data)
        elements = array.dtype.newbyteorder("<")
        untyped = elements.kind in "uS" and elements.itemsize == 1
        if dtype is not None and elements != dtype and not untyped:
            fix = f"convert it with .astype({dtype.name!r})"
            raise mismatch(f"{dtype.name} elements or bytes", f"{elements.name} elements", fix)
        return bytes_of(array)

    def _check_length(self) -> None:
        dtype = self._type.dtype
        if dtype is None or self._is_placeholder():
            return
        expected = prod(self._shape) * dtype.itemsize
        found = self.as_memoryview().nbytes
        if found != expected:
            raise mismatch(
                f"{expected} bytes (dims {list(self._shape)} of {dtype.itemsize} bytes each)",
                f"{found} bytes",
                "make dims and data agree",
            )

    def _is_placeholder(self) -> bool:
        return not (self._shape or self.as_memoryview().nbytes)

    def _invalid(self, exc: InvalidArgument) -> InvalidArgument:
        return InvalidArgument(f"Tensor {self._type.name}: {exc.message}")


class Buffer:
    """Opaque bytes for a framework, such as serialised run options; `data` is not copied."""

    __slots__ = ("_memory", "data")

    def __init__(self, data: Any) -> None:
        try:
            self._memory = bytes_of(as_array(data))
        except InvalidArgument as exc:
            raise InvalidArgument(f"Buffer: {exc.message}") from None
        self.data = data

    def __repr__(self) -> str:
        return f"Buffer({self.size} bytes)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Buffer) and self._memory == other._memory

    __hash__ = None  # type: ignore[assignment]  # the memory may change

    @property
    def size(self) -> int:
        """Bytes of data."""
        return self._memory.nbytes

    def as_memoryview(self) -> memoryview:
        """The bytes; not copied."""
        return self._memory

    def to_bytes(self) -> bytes:
        """A copy of the bytes."""
        return bytes(self._memory)
