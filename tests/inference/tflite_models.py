"""A writer of small TensorFlow Lite models: the FlatBuffer tables of the format, field by field."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Numbers of the format's enumerations.
ADD, FULLY_CONNECTED, MUL, RESHAPE, CUSTOM = 0, 9, 18, 22, 32
FULLY_CONNECTED_OPTIONS, ADD_OPTIONS, MUL_OPTIONS = 8, 11, 21
TYPES = {
    "float32": 0,
    "float16": 1,
    "int32": 2,
    "uint8": 3,
    "int64": 4,
    "STRING": 5,
    "bool": 6,
    "int16": 7,
    "complex64": 8,
    "int8": 9,
    "float64": 10,
    "complex128": 11,
    "uint64": 12,
    "uint32": 15,
    "uint16": 16,
}


@dataclass
class T:
    """A tensor: -1 among its dims is an extent that the caller chooses; with `data`, a constant."""

    name: str
    dims: Sequence[int]
    type: str = "float32"
    data: Any = None
    scale: float = 0.0


@dataclass
class Op:
    code: int
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: int = 0
    """The number of the table with the operation's options, left at their defaults; 0: none."""
    custom: str = ""


def model(
    tensors: Sequence[T], ops: Sequence[Op], inputs: Sequence[int], outputs: Sequence[int]
) -> bytes:
    """The file of a model with one graph."""
    b = importlib.import_module("flatbuffers").Builder(1024)
    contents = [b""] + [np.asarray(t.data).tobytes() for t in tensors if t.data is not None]
    buffers = [table(b, [(0, "ref", numbers(b, "u1", data))]) for data in contents]
    places = iter(range(1, len(contents)))
    made = [tensor(b, t, 0 if t.data is None else next(places)) for t in tensors]
    operators = [operator(b, i, op) for i, op in enumerate(ops)]
    codes = [code(b, op) for op in ops]
    graph = table(
        b,
        [
            (0, "ref", refs(b, made)),
            (1, "ref", numbers(b, "<i4", inputs)),
            (2, "ref", numbers(b, "<i4", outputs)),
            (3, "ref", refs(b, operators)),
        ],
    )
    root = table(
        b,
        [
            (0, "u32", 3),
            (1, "ref", refs(b, codes)),
            (2, "ref", refs(b, [graph])),
            (4, "ref", refs(b, buffers)),
        ],
    )
    b.Finish(root, b"TFL3")
    return bytes(b.Output())


def tensor(b: Any, t: T, buffer: int) -> int:
    quantization = []
    if t.scale:
        fields = [(2, numbers(b, "<f4", [t.scale])), (3, numbers(b, "<i8", [0]))]
        quantization = [(4, "ref", table(b, [(slot, "ref", ref) for slot, ref in fields]))]
    return table(
        b,
        [
            (0, "ref", numbers(b, "<i4", [max(d, 1) if d else 0 for d in t.dims])),
            (1, "i8", TYPES[t.type]),
            (2, "u32", buffer),
            (3, "ref", b.CreateString(t.name)),
            *quantization,
            (7, "ref", numbers(b, "<i4", t.dims)),
        ],
    )


def operator(b: Any, index: int, op: Op) -> int:
    options = [(3, "u8", op.options), (4, "ref", table(b, []))] if op.options else []
    lists = [(1, "ref", numbers(b, "<i4", op.inputs)), (2, "ref", numbers(b, "<i4", op.outputs))]
    return table(b, [(0, "u32", index), *lists, *options])


def code(b: Any, op: Op) -> int:
    custom = [(1, "ref", b.CreateString(op.custom))] if op.custom else []
    return table(b, [(0, "i8", op.code), *custom, (2, "i32", 1), (3, "i32", op.code)])


def table(b: Any, fields: Sequence[tuple[int, str, int]]) -> int:
    add = {
        "ref": b.PrependUOffsetTRelativeSlot,
        "i8": b.PrependInt8Slot,
        "u8": b.PrependUint8Slot,
        "i32": b.PrependInt32Slot,
        "u32": b.PrependUint32Slot,
    }
    b.StartObject(8)
    for slot, kind, value in fields:
        add[kind](slot, value, 0)
    return int(b.EndObject())


def numbers(b: Any, dtype: str, values: Any) -> int:
    data = np.frombuffer(values, dtype) if isinstance(values, bytes) else np.array(values, dtype)
    b.StartVector(data.itemsize, data.size, 16)  # kernels want constants aligned
    b.head -= data.nbytes
    b.Bytes[b.head : b.head + data.nbytes] = data.tobytes()
    return int(b.EndVector())


def refs(b: Any, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())
