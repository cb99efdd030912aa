"""Strings in tensors: their number, where each begins and the last ends (int32), their bytes.

The layout is TensorFlow Lite's. TensorFlow's own holds pointers, and ONNX has none, so tensors of
these travel in it, too.
"""

from __future__ import annotations

import itertools
import struct
from typing import Any

import numpy as np

from vaccel.error import InvalidArgument
from vaccel.ops.tensors import Tensor

_Array = np.ndarray[Any, Any]


def strings(tensor: Tensor[Any]) -> _Array:
    """The elements of a STRING tensor, as an array of bytes objects."""
    data = tensor.to_bytes()
    try:
        (count,) = struct.unpack_from("<i", data)
        places = struct.unpack_from(f"<{max(count, 0) + 1}i", data, 4)
    except (MemoryError, struct.error):
        raise _strange(tensor) from None
    ends = (4 * (count + 2), *places, len(data))
    if count != np.prod(tensor.shape, dtype=object) or list(ends) != sorted(ends):
        raise _strange(tensor)
    found = np.empty(count, object)
    found[:] = [data[start:end] for start, end in itertools.pairwise(places)]
    return found.reshape(tensor.shape)


def texts(tensor: Tensor[Any]) -> list[str]:
    """The elements of a STRING tensor as a flat list; InvalidArgument if they are not UTF-8."""
    try:
        return [one.decode() for one in strings(tensor).flat]
    except UnicodeDecodeError as exc:
        raise InvalidArgument(f"in_tensors: expected strings in UTF-8, found {exc}") from None


def packed(array: _Array) -> bytes:
    """The data of a STRING tensor with the elements of `array`: str or bytes."""
    items = [one.encode() if isinstance(one, str) else bytes(one) for one in array.ravel().tolist()]
    places = np.cumsum([4 * (len(items) + 2), *map(len, items)]).astype("<i4")
    return struct.pack("<i", len(items)) + places.tobytes() + b"".join(items)


def _strange(tensor: Tensor[Any]) -> InvalidArgument:
    return InvalidArgument(
        f"in_tensors: expected the strings of {tensor.dims}: their number, the offset of each and "
        f"of the end as int32, and their bytes; found {len(tensor.to_bytes())} other bytes"
    )
