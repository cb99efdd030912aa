"""Values of the TensorFlow operations."""

from __future__ import annotations

from dataclasses import dataclass

from vaccel.ops import tensors
from vaccel.ops.tensors import Buffer

__all__ = ["Buffer", "Node", "Status", "Tensor", "TensorType"]


class TensorType(tensors.ElementType):
    """TensorFlow's element types, with its own numbers."""

    FLOAT = 1, "<f4"
    DOUBLE = 2, "<f8"
    INT32 = 3, "<i4"
    UINT8 = 4, "u1"
    INT16 = 5, "<i2"
    INT8 = 6, "i1"
    STRING = 7
    COMPLEX64 = 8, "<c8"
    INT64 = 9, "<i8"
    BOOL = 10, "?"
    BFLOAT16 = 14, "V2"
    UINT16 = 17, "<u2"
    COMPLEX128 = 18, "<c16"
    HALF = 19, "<f2"
    RESOURCE = 20
    VARIANT = 21
    UINT32 = 22, "<u4"
    UINT64 = 23, "<u8"
    # Last, so that a numpy array becomes a tensor of the plain type.
    QINT8 = 11, "i1"
    QUINT8 = 12, "u1"
    QINT32 = 13, "<i4"
    QINT16 = 15, "<i2"
    QUINT16 = 16, "<u2"


class Tensor(tensors.Tensor[TensorType]):
    __doc__ = tensors.Tensor.__doc__
    __slots__ = ()
    types = TensorType


@dataclass(frozen=True)
class Node:
    """An input or output of a graph: its operation's name, and which of its tensors."""

    name: str
    id: int = 0


@dataclass(frozen=True)
class Status:
    """What TensorFlow says of a call; code 0 means success."""

    code: int = 0
    message: str = ""
