"""Values of the TensorFlow Lite operations."""

from __future__ import annotations

from vaccel.ops import tensors

__all__ = ["Tensor", "TensorType"]


class TensorType(tensors.ElementType):
    """TensorFlow Lite's element types; the numbers are its own plus one."""

    NOTYPE = 1
    FLOAT32 = 2, "<f4"
    INT32 = 3, "<i4"
    UINT8 = 4, "u1"
    INT64 = 5, "<i8"
    STRING = 6
    BOOL = 7, "?"
    INT16 = 8, "<i2"
    COMPLEX64 = 9, "<c8"
    INT8 = 10, "i1"
    FLOAT16 = 11, "<f2"
    FLOAT64 = 12, "<f8"
    COMPLEX128 = 13, "<c16"
    UINT64 = 14, "<u8"
    RESOURCE = 15
    VARIANT = 16
    UINT32 = 17, "<u4"
    UINT16 = 18, "<u2"
    INT4 = 19


class Tensor(tensors.Tensor[TensorType]):
    __doc__ = tensors.Tensor.__doc__
    __slots__ = ()
    types = TensorType
    max_dim = 2**31 - 1  # dims travel as int32 here
