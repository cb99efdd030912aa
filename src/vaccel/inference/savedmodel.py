"""TensorFlow's files, as far as a caller's names for tensors ask for it, read without TensorFlow.

A SavedModel names the tensors of its graph twice: by signature (`x`) and in the graph
(`serving_default_x:0`). The protocol's callers know the second, engines may know the first alone.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vaccel.error import InvalidArgument
from vaccel.inference import inputs
from vaccel.ops.tf import Node

if TYPE_CHECKING:
    from vaccel.blob import Blob
    from vaccel.resource import Resource

FILE = "saved_model.pb"
SUFFIXES = (".pb",)

# Numbers of fields in TensorFlow's messages.
_GRAPH_NODE = 1
_SAVED_META_GRAPH = 2
_META_GRAPH_SIGNATURES = 5
_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS = 1, 2
_TENSOR_NAME = 1


@dataclass
class Names:
    """A signature: its own name of each tensor → the graph's, such as `serving_default_x:0`."""

    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)


def is_saved(blob: Blob) -> bool:
    return blob.name.rpartition("/")[2] == FILE


def model_file(resource: Resource) -> Blob:
    """The SavedModel of a resource, or else its frozen graph; InvalidArgument: it has none."""
    saved = [blob for blob in resource.blobs() if is_saved(blob)]
    return saved[0] if len(saved) == 1 else inputs.model_file(resource, SUFFIXES)


def signatures(content: memoryview) -> dict[str, Names]:
    """The signatures of a `saved_model.pb`. InvalidArgument: it is none."""
    found: dict[str, Names] = {}
    graphs = list(_messages(content, _SAVED_META_GRAPH))
    if not graphs:
        raise InvalidArgument("it is no SavedModel: it has no graph")
    for graph in graphs:
        for entry in _messages(graph, _META_GRAPH_SIGNATURES):
            name, signature = _entry(entry)
            found[name] = Names(
                _tensors(signature, _SIGNATURE_INPUTS), _tensors(signature, _SIGNATURE_OUTPUTS)
            )
    return found


def tensor_name(node: Node, known: Container[str]) -> str:
    """What a graph calls the tensor of `node`: `NAME:ID`; or NAME alone, if that is known."""
    return node.name if node.id == 0 and node.name in known else f"{node.name}:{node.id}"


def check_graph(content: memoryview) -> None:
    """InvalidArgument: this is no frozen graph. What its nodes hold is for the engine to check."""
    if not any(True for _ in _messages(content, _GRAPH_NODE)):
        raise InvalidArgument("it is no frozen graph: it has no nodes")
    for _ in _fields(content):
        pass


def _tensors(signature: memoryview, which: int) -> dict[str, str]:
    return {
        name: _text(info, _TENSOR_NAME)
        for name, info in map(_entry, _messages(signature, which))
        if _text(info, _TENSOR_NAME)
    }


def _entry(content: memoryview) -> tuple[str, memoryview]:
    """Key and value of a map."""
    return _text(content, 1), next(_messages(content, 2), memoryview(b""))


def _text(content: memoryview, number: int) -> str:
    return bytes(next(_messages(content, number), b"")).decode(errors="replace")


def _messages(content: memoryview, number: int) -> Iterator[memoryview]:
    """The contents of the fields `number` that hold messages or texts."""
    for found, value in _fields(content):
        if found == number and value is not None:
            yield value


def _fields(content: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """Number and content of each field of a protobuf message; None where it is a number."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, wire = key >> 3, key & 7
        value: Any = None
        if wire == 0:
            _, at = _varint(content, at)
        elif wire == 2:
            size, at = _varint(content, at)
            value = content[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise _broken(at)
        if at > len(content) or not number:
            raise _broken(at)
        yield number, value


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """A number of up to ten bytes, and where it ends."""
    value = 0
    for i, byte in enumerate(content[at : at + 10]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    raise _broken(at)


def _broken(at: int) -> InvalidArgument:
    return InvalidArgument(f"it is no protobuf message: see byte {at}")
