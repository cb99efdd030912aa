"""Arguments of generic operations: a value, its type tag, and its memory.

Everything here is little-endian, as on the wire. A value is packed once; the memory of numpy arrays
and other buffers is used where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from numbers import Complex, Integral, Real
from typing import Any

import numpy as np

from vaccel.error import InvalidArgument


class ArgType(IntEnum):
    """Type tags of arguments, with the numbers of the vAccel 0.8 protocol."""

    RAW = 0
    INT8, INT8_ARRAY = 1, 2
    INT16, INT16_ARRAY = 3, 4
    INT32, INT32_ARRAY = 5, 6
    INT64, INT64_ARRAY = 7, 8
    UINT8, UINT8_ARRAY = 9, 10
    UINT16, UINT16_ARRAY = 11, 12
    UINT32, UINT32_ARRAY = 13, 14
    UINT64, UINT64_ARRAY = 15, 16
    FLOAT32, FLOAT32_ARRAY = 17, 18
    FLOAT64, FLOAT64_ARRAY = 19, 20
    BOOL, BOOL_ARRAY = 21, 22
    CHAR, CHAR_ARRAY = 23, 24
    UCHAR, UCHAR_ARRAY = 25, 26
    STRING = 27
    BUFFER = 28
    CUSTOM = 29


_CHARS = {"CHAR": "int8", "UCHAR": "uint8"}
# From INT8 on, odd numbers are scalars, and the array type of each comes next.
_SCALARS = {
    type: np.dtype(np.dtype(_CHARS.get(type.name, type.name.lower())).newbyteorder("<").str)
    for type in ArgType
    if type % 2 and type <= ArgType.UCHAR
}
_ARRAYS = {ArgType(type + 1): dtype for type, dtype in _SCALARS.items()}

DTYPES: dict[ArgType, np.dtype[Any]] = {**_SCALARS, **_ARRAYS}
"""The dtype of one element, for every numeric type."""

# Reversed, so that of two types with one dtype the first, INT8 rather than CHAR, is found.
_SCALAR_OF = {dtype: type for type, dtype in reversed(_SCALARS.items())}
_ARRAY_OF = {dtype: type for type, dtype in reversed(_ARRAYS.items())}

_OPAQUE = (ArgType.RAW, ArgType.BUFFER, ArgType.CUSTOM)
_TEXTS = (*_OPAQUE, ArgType.STRING, ArgType.CHAR_ARRAY, ArgType.UCHAR_ARRAY)


def scalar_type(dtype: np.dtype[Any]) -> ArgType:
    """The type of one number of `dtype`; InvalidArgument if the wire has none."""
    return _type_of(dtype, _SCALAR_OF)


def array_type(dtype: np.dtype[Any]) -> ArgType:
    """The type of an array of `dtype`; InvalidArgument if the wire has none."""
    return _type_of(dtype, _ARRAY_OF)


def _type_of(dtype: np.dtype[Any], types: dict[np.dtype[Any], ArgType]) -> ArgType:
    try:
        return types[dtype.newbyteorder("<")]
    except KeyError:
        known = ", ".join(dict.fromkeys(d.name for d in _SCALARS.values()))
        raise mismatch(f"one of {known}", dtype.name) from None


def mismatch(expected: object, found: object, fix: str = "") -> InvalidArgument:
    return InvalidArgument(f"expected {expected}, found {found}{'; ' + fix if fix else ''}")


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """The memory of `value`, uncopied; takes the buffer protocol, `__array_interface__`, DLPack.

    bytes and their like become uint8.
    """
    try:
        if isinstance(value, np.ndarray):
            array: np.ndarray[Any, Any] = np.asarray(value)  # matrix and its like compute otherwise
        elif hasattr(value, "__array_interface__") and not isinstance(value, np.generic):
            array = np.asarray(value)
        elif hasattr(value, "__dlpack__"):
            array = np.from_dlpack(value)
        else:
            array = np.asarray(memoryview(value))
    except (BufferError, NotImplementedError, RuntimeError, TypeError, ValueError) as exc:
        raise mismatch("an array or bytes", f"{type(value).__name__} ({exc})") from None
    if array.dtype.kind not in "biufcSV" or array.dtype.hasobject:
        raise mismatch("an array of numbers", f"a numpy array of {array.dtype}")
    return array


def bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    """The bytes of `array`, C order, little-endian; a view unless they lie otherwise in memory."""
    # A strided or byte-swapped array has no single run of memory that could travel as it is.
    whole = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    if whole.nbytes == 0:
        return memoryview(bytearray())
    return whole.reshape(-1).view(np.uint8).data


def pack(values: Sequence[Any], dtype: np.dtype[Any] | None = None) -> np.ndarray[Any, Any]:
    """A flat list of numbers as an array of `dtype`.

    None means bool, int32 (int64 where a value needs it) or float32, as the values are. A float too
    large for `dtype` becomes infinity, as in C; a whole number never changes its value.
    """
    if dtype is None:
        dtype = _natural(values)
    least = Integral if dtype.kind in "biu" else Real if dtype.kind == "f" else Complex
    accepted = (least, np.bool_)
    if not all(issubclass(t, accepted) for t in set(map(type, values))):
        bad = next(v for v in values if not isinstance(v, accepted))
        fix = "pass a flat list, or a numpy array" if isinstance(bad, (list, tuple)) else ""
        raise mismatch(f"numbers that fit {dtype.name}", f"{bad!r:.60}", fix)
    if dtype.kind in "biu" and len(values):
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        smallest, largest = min(values), max(values)
        if smallest < low or largest > high:
            worst = smallest if smallest < low else largest
            raise mismatch(f"{dtype.name} from {low} to {high}", worst, "choose a wider type")
    try:
        with np.errstate(over="ignore"):
            return np.array(values, dtype)
    except (OverflowError, TypeError, ValueError) as exc:
        raise mismatch(f"numbers that fit {dtype.name}", exc) from None


def _natural(values: Sequence[Any]) -> np.dtype[Any]:
    types = set(map(type, values))
    if not types or not all(issubclass(t, (Integral, np.bool_)) for t in types):
        return DTYPES[ArgType.FLOAT32]
    if all(issubclass(t, (bool, np.bool_)) for t in types):
        return DTYPES[ArgType.BOOL]
    fits = min(values) >= -(2**31) and max(values) < 2**31
    return DTYPES[ArgType.INT32 if fits else ArgType.INT64]


class Arg:
    """A value that an operation reads, or room that it fills.

    `data` may be a list or tuple of numbers, a number, bytes, a str (UTF-8 with a closing NUL), a
    numpy array, or anything else with the buffer protocol, `__array_interface__` or DLPack. Lists
    and numbers are packed with the dtype of `type`; without one as int32 (int64 where a value needs
    it) or float32.

    Results go into the caller's memory for arrays and writable buffers, and into the Arg's own for
    bytes, str, lists and numbers, where `buf` gives them.

    InvalidArgument: the value does not fit `type`.
    """

    __slots__ = ("_custom_type_id", "_dtype", "_memory", "_type", "_used", "_value", "obstacle")

    def __init__(
        self, data: Any, type: ArgType | int = ArgType.RAW, custom_type_id: int = 0
    ) -> None:
        try:
            self._type = ArgType(type)
        except ValueError:
            raise InvalidArgument(f"Arg: expected an ArgType (0 to 29), found {type!r}") from None
        try:
            pack([custom_type_id], DTYPES[ArgType.UINT32])  # only whether it fits
        except InvalidArgument as exc:
            raise InvalidArgument(f"Arg: custom_type_id: {exc.message}") from None
        self._value, self._custom_type_id = data, custom_type_id
        self._used: int | None = None  # None: the content is still the value that was given
        try:
            self._memory, self._dtype, self.obstacle = _hold(data, self._type)
            self._check_length(self._memory.nbytes)
        except InvalidArgument as exc:
            raise self._invalid(exc) from None

    def __repr__(self) -> str:
        return f"Arg({self._type.name}, {self.size} bytes)"

    @property
    def type(self) -> ArgType:
        return self._type

    @property
    def custom_type_id(self) -> int:
        return self._custom_type_id

    @property
    def size(self) -> int:
        """Bytes of content: what was given, or what was stored last."""
        return self.capacity if self._used is None else self._used

    @property
    def capacity(self) -> int:
        """Bytes that fit: the size of the value that was given."""
        return self._memory.nbytes

    @property
    def buf(self) -> Any:
        """The value, in the type it came in; a list's elements have the type that was stored."""
        value = self._value
        held = isinstance(value, (bytes, str, list, tuple)) or _is_number(value)
        if self._used is None or not held:
            return value
        if isinstance(value, str):
            return bytes(self.view()).split(b"\0", 1)[0].decode(errors="replace")
        if isinstance(value, bytes):
            return bytes(self.view())
        array = np.frombuffer(self.view(), self._dtype)
        if isinstance(value, (list, tuple)):
            return tuple(array.tolist()) if isinstance(value, tuple) else array.tolist()
        return array[0] if isinstance(value, np.generic) else array[0].item()

    def view(self) -> memoryview:
        """The content as bytes, for reading; the caller's own memory where that is possible."""
        return self._memory[: self.size]

    def room(self) -> memoryview:
        """All `capacity` bytes, for writing; what is written there becomes the content.

        InvalidArgument: the caller's memory is read-only, strided or byte-swapped.
        """
        if self.obstacle:
            expected = "writable, contiguous, little-endian memory for a result"
            raise self._invalid(mismatch(expected, self.obstacle, "pass np.empty(shape, dtype)"))
        if self._memory.readonly:  # bytes and str, which other code may share
            self._memory = memoryview(bytearray(self._memory))
        self._used = self.capacity
        return self._memory

    def store(self, data: Any) -> None:
        """Replace the content by the bytes of `data`, a buffer of at most `capacity` bytes.

        Less data leaves the rest of a caller's array as it was.
        InvalidArgument: `data` is too long or no whole elements, or see `room`.
        """
        try:
            content = bytes_of(as_array(data))
            if content.nbytes > self.capacity:
                fix = "give the Arg a longer value"
                raise mismatch(f"at most {self.capacity} bytes", f"{content.nbytes} to store", fix)
            self._check_length(content.nbytes)
        except InvalidArgument as exc:
            raise self._invalid(exc) from None
        self.room()[: content.nbytes] = content
        self._used = content.nbytes

    def _check_length(self, nbytes: int) -> None:
        itemsize = self._dtype.itemsize
        if self._type in _SCALARS or _is_number(self._value):
            if nbytes != itemsize:
                found = f"{nbytes} bytes"
                raise mismatch(f"one value of {itemsize} bytes", found, "an _ARRAY type takes more")
        elif nbytes % itemsize:
            raise mismatch(f"whole elements of {itemsize} bytes", f"{nbytes} bytes")

    def _invalid(self, exc: InvalidArgument) -> InvalidArgument:
        return InvalidArgument(f"Arg {self._type.name}: {exc.message}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (Real, np.bool_))


def _hold(data: Any, type: ArgType) -> tuple[memoryview, np.dtype[Any], str]:
    """The memory of `data`, its elements' dtype, and why it cannot take results ("": it can)."""
    dtype = DTYPES.get(type)
    if isinstance(data, str):
        return memoryview(_text(data, type)), np.dtype("u1"), ""
    if isinstance(data, (list, tuple)) or _is_number(data):
        if type is ArgType.STRING:
            raise mismatch("str", f"{data!r:.60}")
        if not isinstance(data, (list, tuple)):
            if type in _ARRAYS:
                fix = f"use ArgType.{type.name.removesuffix('_ARRAY')} or a list"
                raise mismatch("a list, an array or bytes", repr(data), fix)
            if dtype is None and isinstance(data, np.generic):
                dtype = data.dtype.newbyteorder("<")  # a numpy number says what it is
            data = [data]
        packed = pack(data, dtype)
        return bytes_of(packed), packed.dtype, ""
    array = as_array(data)
    elements = array.dtype.newbyteorder("<")
    untyped = not isinstance(data, np.ndarray) and elements.kind in "iuS" and elements.itemsize == 1
    # Which char is signed depends on the processor, so both kinds fit both types.
    chars = type >= ArgType.CHAR and elements.kind in "iuS" and elements.itemsize == 1
    if (dtype or np.dtype("u1")) != elements and not (untyped or chars or type in _OPAQUE):
        fix = f"convert it with .astype({dtype.name!r})" if dtype else "pass a str"
        found = f"{elements.name} array of shape {array.shape}"
        raise mismatch(f"{dtype.name} elements" if dtype else "text", found, fix)
    return bytes_of(array), dtype or elements, _obstacle(data, array)


def _text(data: str, type: ArgType) -> bytes:
    if type not in _TEXTS:
        raise mismatch("numbers", f"{data!r:.60}", "use ArgType.STRING for text")
    if "\0" in data.rstrip("\0"):
        raise mismatch("text without NUL inside", f"{data!r:.60}", "pass bytes to send it all")
    try:
        return data.encode() + b"\0"
    except UnicodeEncodeError as exc:
        raise mismatch("text that UTF-8 can hold", exc) from None


def _obstacle(data: Any, array: np.ndarray[Any, Any]) -> str:
    if isinstance(data, bytes):
        return ""
    if not array.flags.c_contiguous:
        return f"an array of shape {array.shape} with strides {array.strides}"
    if array.dtype.newbyteorder("<") != array.dtype:
        return f"a big-endian {array.dtype.name} array"
    return "" if array.flags.writeable else "read-only memory"
