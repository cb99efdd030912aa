"""Values of the ONNX operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vaccel.error import InvalidArgument
from vaccel.ops import tensors

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Tensor", "TensorType"]


class TensorType(tensors.ElementType):
    """ONNX's element types, with its own numbers."""

    FLOAT = 1, "<f4"
    UINT8 = 2, "u1"
    INT8 = 3, "i1"
    UINT16 = 4, "<u2"
    INT16 = 5, "<i2"
    INT32 = 6, "<i4"
    INT64 = 7, "<i8"
    STRING = 8
    BOOL = 9, "?"
    FLOAT16 = 10, "<f2"
    DOUBLE = 11, "<f8"
    UINT32 = 12, "<u4"
    UINT64 = 13, "<u8"
    COMPLEX64 = 14, "<c8"
    COMPLEX128 = 15, "<c16"
    BFLOAT16 = 16, "V2"
    FLOAT8E4M3FN = 17, "V1"
    FLOAT8E4M3FNUZ = 18, "V1"
    FLOAT8E5M2 = 19, "V1"
    FLOAT8E5M2FNUZ = 20, "V1"


class Tensor(tensors.Tensor[TensorType]):
    """A tensor with the `name` of the model's input or output; "" is the one at its place.

    Otherwise as the tensors of the other frameworks: `dims`, an element type, and memory that is
    used where it lies. Strings lie as in TensorFlow Lite.
    """

    __slots__ = ("name",)
    types = TensorType

    def __init__(
        self, dims: Sequence[int], data_type: TensorType | int, data: Any, name: str = ""
    ) -> None:
        if not isinstance(name, str):
            raise InvalidArgument(f"Tensor: name: expected str, found {type(name).__name__}")
        super().__init__(dims, data_type, data)
        self.name = name

    @classmethod
    def from_buffer(
        cls, dims: Sequence[int], data_type: TensorType | int, data: Any, name: str = ""
    ) -> Self:
        """A tensor over the caller's memory."""
        return cls(dims, data_type, data, name)

    @classmethod
    def from_wire(
        cls, dims: Sequence[int], data_type: int, data: memoryview, name: str = ""
    ) -> Self:
        """A tensor over received bytes; InvalidArgument also for an unknown type number."""
        return cls(dims, data_type, data, name)

    @classmethod
    def from_numpy(cls, array: Any, name: str = "") -> Self:
        """A tensor over the memory of `array`; its dims and type are the array's."""
        tensor = super().from_numpy(array)
        tensor.name = name
        return tensor

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {self.name!r})" if self.name else super().__repr__()
