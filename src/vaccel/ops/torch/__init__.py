"""Values of the Torch operations. Torch itself is imported only by `Tensor.as_torch`."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.error import InvalidArgument, NotSupported
from vaccel.ops import tensors
from vaccel.ops.tensors import Buffer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Buffer", "Tensor", "TensorType"]


class TensorType(tensors.ElementType):
    """Torch's element types, with the numbers of the vAccel 0.8 protocol."""

    BYTE = 1, "u1"
    CHAR = 2, "i1"
    SHORT = 3, "<i2"
    INT = 4, "<i4"
    LONG = 5, "<i8"
    HALF = 6, "<f2"
    FLOAT = 7, "<f4"


def _on_host(tensor: Any) -> Any:
    """The array of a dense torch.Tensor, of which only some need `force`, which takes longer."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(tensor, torch.Tensor):
        try:
            return tensor.numpy()
        except (RuntimeError, TypeError):  # it has gradients, or is on a GPU
            pass
    return tensor.numpy(force=True)


class Tensor(tensors.Tensor[TensorType]):
    __doc__ = tensors.Tensor.__doc__
    __slots__ = ()
    types = TensorType

    @classmethod
    def from_torch(cls, tensor: Any) -> Self:
        """A tensor over the memory of a dense `torch.Tensor`; one on a GPU is copied to the host.

        InvalidArgument: not a torch tensor, or of a type that `TensorType` lacks.
        """
        try:
            array = _on_host(tensor)
        except (AttributeError, RuntimeError, TypeError) as exc:
            found = f"{type(tensor).__name__} ({exc})"
            raise InvalidArgument(
                f"Tensor.from_torch: expected a dense torch.Tensor, found {found}"
            ) from None
        return cls._over(array, "from_torch", ".to()")

    def as_torch(self) -> Any:
        """A `torch.Tensor` over this memory; over a copy if the memory is read-only or unaligned.

        NotSupported: torch is not installed.
        """
        try:
            torch = importlib.import_module("torch")
        except ImportError as exc:
            raise NotSupported(
                f"Tensor.as_torch: torch cannot be imported ({exc}); pip install 'vaccel[torch]'"
            ) from None
        # Torch has no read-only tensors, and its kernels load whole elements.
        return torch.from_numpy(np.require(self.as_numpy(), requirements=["A", "W"]))
