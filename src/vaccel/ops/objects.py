"""Texts, bytes, argument lists and Python objects as values of operations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vaccel.error import InvalidArgument
from vaccel.ops import rasters
from vaccel.ops.args import Arg, ArgType, as_array, mismatch
from vaccel.ops.kinds import Dims, Kind, WireArg, bind, type_name

TEXT_CAPACITY = 512
"""Bytes that 0.8 clients offer for a returned name or tag, the closing NUL included."""

TEXTS_CAPACITY = 2**24
"""Bytes offered for a result of several strings; a number only."""


@dataclass(frozen=True)
class Text(Kind):
    """A string; travels NUL-terminated."""

    def __str__(self) -> str:
        return "str"

    def check(self, value: Any, dims: Dims) -> str:
        if not isinstance(value, str):
            value = str(value) if hasattr(value, "__fspath__") else value
            if not isinstance(value, str):
                raise mismatch("str", type(value).__name__)
        if "\0" in value:
            raise mismatch("text without NUL", repr(value))
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise mismatch("text that UTF-8 can hold", exc) from None
        return value

    def to_wire(self, value: Any) -> WireArg:
        data = value.encode() + b"\0"
        return WireArg(ArgType.STRING, len(data), data)

    def from_wire(self, arg: WireArg, dims: Dims) -> str:
        if arg.type not in (ArgType.STRING, *_CHARS, ArgType.RAW):
            raise mismatch("STRING", type_name(arg.type))
        return decode_text(arg.buf)

    def dummy(self, dims: Dims, fill: Any) -> str:
        return str(fill or "")


class Name(Text):
    """A short text result in a fixed-size UCHAR_ARRAY, as 0.8 returns names and tags."""

    def size(self, dims: Dims) -> WireArg:
        return WireArg(ArgType.UCHAR_ARRAY, TEXT_CAPACITY, None)

    def to_wire(self, value: Any) -> WireArg:
        data = value.encode()
        return WireArg(ArgType.UCHAR_ARRAY, len(data), data)


@dataclass(frozen=True)
class Texts(Kind):
    """A result of several strings; each travels with a closing NUL."""

    def __str__(self) -> str:
        return "str …"

    def check(self, value: Any, dims: Dims) -> list[str]:
        return [Text().check(item, dims) for item in value]

    def result(self, value: Any, dims: Dims) -> list[str]:
        # Without a look into each: a model may have thousands of classes.
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise mismatch("a list of str", f"{value!r:.60}")
        return value

    def to_wire(self, value: Any) -> WireArg:
        data = b"".join(item.encode() + b"\0" for item in value)
        return WireArg(ArgType.BUFFER, len(data), data)

    def from_wire(self, arg: WireArg, dims: Dims) -> list[str]:
        if arg.type != ArgType.BUFFER:
            raise mismatch("BUFFER", type_name(arg.type))
        return [item.decode(errors="replace") for item in bytes(arg.buf).split(b"\0")[:-1]]

    def size(self, dims: Dims) -> WireArg:
        return WireArg(ArgType.BUFFER, TEXTS_CAPACITY, None)

    def dummy(self, dims: Dims, fill: Any) -> list[str]:
        return list(fill or ())


@dataclass(frozen=True)
class Bytes(Kind):
    """Opaque bytes, such as an encoded picture."""

    def __str__(self) -> str:
        return "bytes"

    def check(self, value: Any, dims: Dims) -> memoryview:
        try:
            view = memoryview(value)
        except TypeError:
            raise mismatch(
                "bytes or an array", type(value).__name__, "read the file and pass its bytes"
            ) from None
        # A strided picture is no single piece of memory that could travel; cast refuses empty ones.
        whole = view.c_contiguous and view.nbytes
        return view.cast("B") if whole else memoryview(view.tobytes())

    def to_wire(self, value: Any) -> WireArg:
        return WireArg(ArgType.BUFFER, value.nbytes, value)

    def from_wire(self, arg: WireArg, dims: Dims) -> memoryview:
        if arg.type not in (ArgType.BUFFER, *_CHARS, ArgType.RAW):
            raise mismatch("BUFFER", type_name(arg.type))
        return memoryview(arg.buf)

    def dump(self, name: str, value: Any) -> str:
        return f"len_{name}: {value.nbytes} "


@dataclass(frozen=True)
class Picture(Bytes):
    """A picture: encoded (bytes, or a 1-D uint8 array), or its pixels.

    Pixels are a uint8 or uint16 array, height × width, or × 1, 3 (RGB) or 4 (RGBA), or a PIL
    image, which counts as its file would. They become an encoded picture, PNM or PNG, of 8 bits a
    channel: the upper ones, as of 16-bit files.
    """

    def __str__(self) -> str:
        return "picture"

    def check(self, value: Any, dims: Dims) -> memoryview:
        if isinstance(value, bytes):
            return memoryview(value)
        value = rasters.pixels(value)
        try:
            array = as_array(value)
        except InvalidArgument:
            found, fix = type(value).__name__, "read the file and pass its bytes"
            raise mismatch("bytes or an array", found, fix) from None
        if array.ndim == 1 and array.itemsize == 1 and array.dtype.kind != "b":
            return super().check(array, dims)
        found = f"{array.dtype.name} array of shape {array.shape}"
        if array.dtype.kind != "u" or array.itemsize > 2:
            fix = "" if array.dtype.kind != "f" else "scale it to 0…255: .round().astype('uint8')"
            raise mismatch("an encoded picture, or uint8 or uint16 pixels", found, fix)
        pixels = array[..., np.newaxis] if array.ndim == 2 else array
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
            first = (
                pixels.ndim == 3
                and pixels.shape[0] in (1, 3, 4)
                and pixels.shape[0] < min(pixels.shape[1:])
            )
            fix = "channels come last" if first else ""
            raise mismatch("pixels [height, width], or [height, width, 1, 3 or 4]", found, fix)
        return rasters.encoded(pixels if pixels.itemsize == 1 else (pixels >> 8).astype(np.uint8))


@dataclass(frozen=True)
class Args(Kind):
    """Any number of `Arg`s: what a library function or a generic operation takes or fills."""

    writes: bool = False  # type: ignore[misc]
    variadic: ClassVar[bool] = True

    def __str__(self) -> str:
        return "Arg …"

    def check(self, value: Any, dims: Dims) -> list[Arg]:
        items = [] if value is None else [value] if isinstance(value, Arg) else value
        if not isinstance(items, Iterable):
            raise mismatch("a list of Arg", type(value).__name__)
        args = list(items)
        for arg in args:
            if not isinstance(arg, Arg):
                raise mismatch("a list of Arg", f"{type(arg).__name__} in it", "use Arg(value)")
            if self.writes and arg.obstacle:
                raise mismatch("Args that can take results", arg.obstacle)
        return args

    def from_wire(self, arg: Any, dims: Dims) -> list[Arg]:
        return [from_wire(one, writable=self.writes) for one in arg]

    def dump(self, name: str, value: Any) -> str:
        return f"nr_{name}: {len(value)} "


@dataclass(frozen=True)
class Object(Kind):
    """A Python object of one class, or a list of them; travels in messages of its own.

    The length of a list may bind a dimension, `dim`.
    """

    cls: type
    many: bool = False
    optional: bool = False
    dim: str = ""

    def __str__(self) -> str:
        name = self.cls.__name__
        return f"{name} …" if self.many else f"{name} or None" if self.optional else name

    def check(self, value: Any, dims: Dims) -> Any:
        if self.optional and value is None:
            return None
        if not self.many:
            if not isinstance(value, self.cls):
                raise mismatch(_whole_name(self.cls), _whole_name(type(value)))
            return value
        items = [value] if isinstance(value, self.cls) else value
        if not isinstance(items, (list, tuple)):
            raise mismatch(self._list(), _whole_name(type(value)))
        for item in items:
            if not isinstance(item, self.cls):
                raise mismatch(self._list(), f"{_whole_name(type(item))} in it")
        if self.dim:
            bind(dims, self.dim, len(items))
        return list(items)

    def _list(self) -> str:
        return f"a list of {_whole_name(self.cls)}"

    def dummy(self, dims: Dims, fill: Any) -> Any:
        return fill

    def dump(self, name: str, value: Any) -> str:
        return f"nr_{name}: {len(value)} " if self.many else f"{name}: {value} "


def _whole_name(cls: type) -> str:
    """With the module, as each framework has a Tensor, but of built-in types."""
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


class ResourceLike:
    """What an operation needs to know of a resource (`vaccel.resource.Resource` is one)."""

    id: int
    core: Any
    """See `vaccel.handle`."""

    def registered_with(self, session: Any) -> bool:
        raise NotImplementedError


@dataclass(frozen=True)
class ResourceRef(Object):
    """A resource registered with the session; travels as its id on the other side."""

    cls: type = ResourceLike

    def __str__(self) -> str:
        return "Resource"

    def check(self, value: Any, dims: Dims) -> Any:
        if not isinstance(value, ResourceLike):
            raise mismatch("a Resource", type(value).__name__)
        return value

    def to_wire(self, value: Any) -> WireArg:
        return WireArg(ArgType.INT64, 8, int(value).to_bytes(8, "little", signed=True))

    def from_wire(self, arg: WireArg, dims: Dims) -> int:
        if arg.size != 8:
            raise mismatch("an INT64 resource id", f"{arg.size} bytes")
        return int.from_bytes(bytes(arg.buf), "little", signed=True)

    def dump(self, name: str, value: Any) -> str:
        return f"{name}: {value.id} "


def to_wire(arg: Arg) -> WireArg:
    return WireArg(arg.type, arg.size, arg.view(), arg.custom_type_id)


def to_wire_as_room(arg: Arg) -> WireArg:
    """All of the memory that `arg` has for a result, whatever was stored there before."""
    return WireArg(arg.type, arg.capacity, arg.room(), arg.custom_type_id)


def from_wire(arg: WireArg, *, writable: bool) -> Arg:
    """An Arg over received memory; one to be written gets memory of its own."""
    data = arg.buf
    if writable:
        # Zeros become resident only where they are written.
        data = np.zeros(arg.size, np.uint8).data if data is None else bytearray(data)
    return Arg(data, ArgType(arg.type), arg.custom_type_id)


def decode_text(buf: Any) -> str:
    """UTF-8 up to the first NUL, if there is one."""
    return bytes(buf).split(b"\0", 1)[0].decode(errors="replace")


_CHARS = (ArgType.UCHAR_ARRAY, ArgType.CHAR_ARRAY, ArgType.UINT8_ARRAY, ArgType.INT8_ARRAY)
