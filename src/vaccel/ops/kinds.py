"""What every kind of value that an operation takes or gives can do.

A kind knows five things about a value: whether what a caller passed fits (`check`), whether what a
kernel gave does (`result`), how it travels as a Genop argument (`to_wire`, `from_wire`), its
place-holder result (`dummy`), and how noop dumps it (`dump`). An operation is a list of named
kinds; see `spec`. `numbers`, `found` and `objects` hold the kinds.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from vaccel.ops.args import ArgType, mismatch

Dims = dict[str, Any]
"""Extents bound so far, by name: an int, or the whole shape of an array that is not 1-D."""


class WireArg(NamedTuple):
    """One Genop argument: type tag, size in bytes, memory (None: only the size is known)."""

    type: int
    size: int
    buf: Any
    custom_type_id: int = 0


def owned(arg: WireArg) -> WireArg:
    """With memory that the caller may change. Only small answers arrive in immutable bytes."""
    if arg.buf is None:
        raise mismatch("content", f"a size of {arg.size} bytes without content")
    view = memoryview(arg.buf)
    return arg._replace(buf=bytearray(view)) if view.readonly else arg


class Kind:
    """What a value may be. Subclasses override what differs; `name` is set by the operation."""

    writes: ClassVar[bool] = False
    """Travels as a write argument although the caller passes it."""
    variadic: ClassVar[bool] = False
    """Stands for all remaining arguments."""

    def check(self, value: Any, dims: Dims) -> Any:
        """`value` as kernels get it; raises InvalidArgument("expected …, found …")."""
        raise NotImplementedError

    def result(self, value: Any, dims: Dims) -> Any:
        """What a kernel gave, as callers get it; raises InvalidArgument like `check`."""
        return self.check(value, {})

    def to_wire(self, value: Any) -> WireArg:
        raise NotImplementedError

    def from_wire(self, arg: WireArg, dims: Dims) -> Any:
        raise NotImplementedError

    def size(self, dims: Dims) -> WireArg:
        """The empty write argument that can take the result."""
        raise NotImplementedError

    def dummy(self, dims: Dims, fill: Any) -> Any:
        raise NotImplementedError

    def dump(self, name: str, value: Any) -> str:
        return f"{name}: {value} "


def bind(dims: Dims, name: str, extent: Any) -> None:
    if dims.setdefault(name, extent) != extent:
        raise mismatch(f"{name}={dims[name]} as in the other arguments", f"{name}={extent}")


def type_name(number: int) -> str:
    try:
        return ArgType(number).name
    except ValueError:
        return f"argument type {number}"


# 0.8 peers may send any value as plain memory.
UNTYPED = (int(ArgType.RAW), int(ArgType.BUFFER))
