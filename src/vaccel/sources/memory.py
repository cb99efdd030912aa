"""Memory as a resource: bytes and arrays, not copied."""

from __future__ import annotations

from typing import Any

import numpy as np

from vaccel.error import InvalidArgument


def bytes_of(data: Any) -> memoryview:
    """The memory of contiguous `data`."""
    try:
        view = memoryview(data)
    except TypeError:
        raise InvalidArgument(
            f"Resource: data: expected bytes or an array, found {type(data).__name__}"
        ) from None
    if not view.c_contiguous:
        raise InvalidArgument(
            f"Resource: data: expected contiguous memory, found strides {view.strides}; pass a copy"
        )
    # An empty array has a zero in its shape, which cast refuses.
    return view.cast("B") if view.nbytes else memoryview(b"")


def check_array(array: Any) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.hasobject:
        found = getattr(array, "dtype", type(array).__name__)
        raise InvalidArgument(f"Resource: array: expected an array of numbers, found {found}")
