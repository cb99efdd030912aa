"""Hypothesis strategies for the arguments of operations, derived from their declarations."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from vaccel.blob import ResourceType
from vaccel.ops import tf, torch
from vaccel.ops.args import DTYPES, Arg, ArgType
from vaccel.ops.catalog import OPERATIONS
from vaccel.ops.kinds import Kind
from vaccel.ops.numbers import Array, InOut, Scalar
from vaccel.ops.objects import Args, Bytes, Object, ResourceRef, Text
from vaccel.ops.spec import Operation
from vaccel.ops.tensors import Tensor
from vaccel.resource import Resource
from vaccel.testing.forms import FORMS, build, dimensions, leading

try:
    from hypothesis import strategies as st
except ImportError as exc:
    raise ImportError(
        "vaccel.testing.strategies needs hypothesis: pip install 'vaccel[testing]' "
        "(or: pip install hypothesis)"
    ) from exc

MAX_EXTENT = 6


def operations(accept: Callable[[Operation], bool] = lambda op: True) -> st.SearchStrategy[Any]:
    """Operations of the catalog that `accept` takes."""
    return st.sampled_from([op for op in OPERATIONS.values() if accept(op)])


@st.composite
def arguments(
    draw: st.DrawFn,
    op: Operation,
    *,
    forms: tuple[str, ...] = ("contiguous",),
    resource: st.SearchStrategy[Any] | None = None,
) -> tuple[Any, ...]:
    """Valid positional arguments for `op`; arrays come in one of `forms` (keys of FORMS).

    `resource`: what to pass for resources; new ones of the running runtime by default.
    """
    dims = {name: draw(st.integers(0, MAX_EXTENT)) for name in dimensions(op)}
    for stride, columns in leading(op).items():
        dims[stride] = dims[columns] + draw(st.integers(0, 2))

    def value(name: str, kind: Kind, shape: tuple[int, ...]) -> Any:
        if isinstance(kind, ResourceRef) and resource is not None:
            return draw(resource)
        if isinstance(kind, Object) and kind.dim:
            length = dims[kind.dim]
            return draw(st.lists(objects(kind.cls), min_size=length, max_size=length))
        if not isinstance(kind, Array):
            return draw(values(kind))
        if isinstance(kind, InOut) and draw(st.booleans()):
            return None
        return FORMS[draw(st.sampled_from(forms))](draw(arrays(kind.dtype, shape)))

    return build(op, dims, value)


def arrays(dtype: np.dtype[Any], shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """Arrays of any bit patterns: NaN, infinities, subnormal numbers and extremes included."""
    nbytes = int(np.prod(shape)) * dtype.itemsize
    elements = numbers(dtype)

    def from_bytes(data: bytes) -> np.ndarray[Any, Any]:
        return np.frombuffer(bytearray(data), dtype).reshape(shape)

    def from_list(data: list[Any]) -> np.ndarray[Any, Any]:
        return np.array(data, dtype).reshape(shape)

    size = nbytes // dtype.itemsize
    return st.one_of(
        st.lists(elements, min_size=size, max_size=size).map(from_list),
        st.binary(min_size=nbytes, max_size=nbytes).map(from_bytes),
    )


def numbers(dtype: np.dtype[Any], least: int | None = None) -> st.SearchStrategy[Any]:
    """Python numbers that `dtype` holds exactly."""
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind == "f":
        return st.floats(width=_FLOAT_WIDTHS[dtype.itemsize])
    info = np.iinfo(dtype)
    return st.integers(int(info.min) if least is None else least, int(info.max))


_FLOAT_WIDTHS: dict[int, Any] = {2: 16, 4: 32, 8: 64}


def values(kind: Kind) -> st.SearchStrategy[Any]:
    """Valid values of a kind that is no array."""
    if isinstance(kind, Scalar):
        # An unbounded count would ask for as many results.
        return numbers(kind.dtype) if kind.least is None else st.integers(kind.least, MAX_EXTENT)
    if isinstance(kind, Text):
        return texts()
    if isinstance(kind, Bytes):
        return st.binary(max_size=64)
    if isinstance(kind, Args):
        return st.none() | st.lists(args(), max_size=3)
    if isinstance(kind, ResourceRef):
        return resources()
    if isinstance(kind, Object):
        one = objects(kind.cls)
        return st.lists(one, max_size=3) if kind.many else st.none() | one if kind.optional else one
    raise TypeError(f"no strategy for values of {kind!r}")


def texts() -> st.SearchStrategy[str]:
    """Text that can travel: no NUL, no lone surrogates."""
    return st.text().filter(lambda text: "\0" not in text and not _SURROGATE.search(text))


_SURROGATE = re.compile("[\ud800-\udfff]")


def args() -> st.SearchStrategy[Arg]:
    """Arguments of every type, as lists, numbers, bytes, arrays and text; all can take results."""
    return st.sampled_from(ArgType).flatmap(_args_of)


def _args_of(type: ArgType) -> st.SearchStrategy[Arg]:
    dtype = DTYPES.get(type)
    if type is ArgType.STRING:
        return texts().map(lambda text: Arg(text, type))
    if dtype is None:
        number = st.integers(0, 2**32 - 1) if type is ArgType.CUSTOM else st.just(0)
        return st.builds(Arg, st.binary(max_size=16), st.just(type), number)
    if not type.name.endswith("_ARRAY"):
        return numbers(dtype).map(lambda number: Arg(number, type))
    listed = st.lists(numbers(dtype), max_size=4)
    return listed.flatmap(
        lambda data: st.sampled_from([data, np.array(data, dtype)]).map(lambda v: Arg(v, type))
    )


def resources() -> st.SearchStrategy[Resource]:
    """Resources in memory; they need a running runtime and end with it."""
    return st.builds(Resource.from_buffer, st.binary(max_size=64), st.sampled_from(ResourceType))


def objects(cls: type) -> st.SearchStrategy[Any]:
    """Values of the classes in vaccel.ops.tf, .tf.lite, .torch and .onnx; texts for `str`."""
    if issubclass(cls, Tensor):
        return tensors(cls)
    if cls is str:
        return texts()
    if issubclass(cls, tf.Node):
        return st.builds(tf.Node, texts(), st.integers(-(2**31), 2**31 - 1))
    if issubclass(cls, tf.Status):
        return st.builds(tf.Status, st.integers(0, 2**32 - 1), texts())
    if issubclass(cls, (tf.Buffer, torch.Buffer)):
        return st.binary(max_size=32).map(cls)
    raise TypeError(f"no strategy for values of {cls.__name__}")


@st.composite
def tensors(draw: st.DrawFn, cls: Any) -> Any:
    """Tensors of every element type of `cls` that numpy has."""
    data_type = draw(st.sampled_from([member for member in cls.types if member.numeric]))
    dims = draw(st.lists(st.integers(0, 4), max_size=3))
    nbytes = int(np.prod(dims)) * data_type.dtype.itemsize
    data = draw(st.binary(min_size=nbytes, max_size=nbytes))
    if data_type.dtype.kind == "b":
        data = bytes(byte & 1 for byte in data)
    return cls(dims, data_type, data)
