"""The forms in which callers pass an array, and arguments built from an operation's declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vaccel.ops.kinds import Dims, Kind
from vaccel.ops.numbers import Array, Scalar
from vaccel.ops.objects import Object
from vaccel.ops.spec import Operation

_Array = np.ndarray[Any, Any]

Value = Callable[[str, Kind, tuple[int, ...]], Any]
"""Makes the value of one input: (its name, its kind, its shape if it is an array)."""


def _strided(array: _Array) -> Any:
    return np.repeat(array, 2, axis=-1)[..., ::2]


def _unaligned(array: _Array) -> Any:
    return np.ndarray(array.shape, array.dtype, bytearray(1) + array.tobytes(), offset=1)


def _read_only(array: _Array) -> Any:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


ARRAY_FORMS: Mapping[str, Callable[[_Array], Any]] = {
    "contiguous": lambda array: array,
    "read-only": _read_only,
    "strided": _strided,
    "reversed": lambda array: array[::-1].copy()[::-1],
    "column-major": np.asfortranarray,
    "byte-swapped": lambda array: array.astype(array.dtype.newbyteorder("S")),
    "unaligned": _unaligned,
}
"""The same array, laid out otherwise in memory."""

FORMS: Mapping[str, Callable[[_Array], Any]] = {
    **ARRAY_FORMS,
    "list": lambda array: array.reshape(-1).tolist(),
    "tuple": lambda array: tuple(array.reshape(-1).tolist()),
    "bytes": lambda array: array.tobytes(),
    "bytearray": lambda array: bytearray(array.tobytes()),
    "memoryview": lambda array: array.reshape(-1).data,
}
"""Every form whose elements, in order, are those of the array."""


def dimensions(op: Operation) -> list[str]:
    """The names of the extents that a caller is free to choose, in signature order."""
    names: dict[str, None] = {}
    for kind in op.inputs.values():
        if isinstance(kind, Scalar) and kind.dim and kind.dim not in leading(op):
            names[kind.dim] = None
        elif isinstance(kind, Array):
            names.update(dict.fromkeys(kind.dims))
        elif isinstance(kind, Object) and kind.dim:
            names[kind.dim] = None
    return list(names)


def leading(op: Operation) -> dict[str, str]:
    """Leading dimensions: how far apart rows lie → the extent of a row."""
    kinds = [kind for kind in op.inputs.values() if isinstance(kind, Scalar)]
    return {kind.dim: kind.floor for kind in kinds if kind.floor}


def build(op: Operation, dims: Mapping[str, int], value: Value) -> tuple[Any, ...]:
    """Arguments for `op` whose extents are `dims`; `value` makes what these leave open."""
    extents: Dims = dict(dims)

    def one(name: str, kind: Kind) -> Any:
        if isinstance(kind, Scalar) and kind.dim:
            return extents[kind.dim]
        return value(name, kind, shape(kind, extents) if isinstance(kind, Array) else ())

    return tuple(one(name, kind) for name, kind in op.inputs.items())


def shape(kind: Array, extents: Dims) -> tuple[int, ...]:
    if kind.count is not None:
        return (kind.count(extents),)
    return tuple(extents[name] for name in kind.dims)
