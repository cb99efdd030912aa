"""Model operations ↔ messages. Inputs and outputs carry the names of the message fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vaccel.ops import onnx, tf, torch
from vaccel.ops.objects import Object, ResourceRef
from vaccel.ops.spec import Operation
from vaccel.rpc.arguments import Contents
from vaccel.rpc.codec import bulk
from vaccel.rpc.messages import METHODS, message


def encode_request(
    op: Operation, session_id: int, values: Sequence[Any], contents: Contents
) -> Any:
    """The request for `op`; a resource is given as its id on the other side."""
    request = METHODS[op.method][0]
    fields: dict[str, Any] = {"session_id": session_id}
    for (name, kind), value in zip(op.inputs.items(), values, strict=True):
        if value is not None:
            name = "model_id" if isinstance(kind, ResourceRef) else name
            fields[name] = _to_field(request, name, value, contents)
    return request(**fields)


def decode_request(
    op: Operation, request: Any, views: Sequence[memoryview], resource: Callable[[int], Any]
) -> list[Any]:
    """Checked values for `op`."""
    values: list[Any] = []
    for name, kind in op.inputs.items():
        if isinstance(kind, ResourceRef):
            values.append(resource(request.model_id))
        elif isinstance(kind, Object):
            values.append(_from_field(kind, request, name, views))
        else:
            values.append(getattr(request, name))
    return op.check(values)[0]


def encode_response(op: Operation, result: Any, contents: Contents) -> Any:
    response = METHODS[op.method][1]
    known = response.DESCRIPTOR.fields_by_name
    fields = {}
    for name, value in zip(op.outputs, op.results(result, {}), strict=True):
        if name == "status":
            value = value if isinstance(value, tf.Status) else tf.Status(int(value))
        if name in known:
            fields[name] = _to_field(response, name, value, contents)
    return response(**fields)


def decode_response(op: Operation, response: Any, views: Sequence[memoryview]) -> Any:
    values = []
    for name, kind in op.outputs.items():
        if name == "status":
            status = tf.Status(response.status.code, response.status.message)
            values.append(status if isinstance(kind, Object) else status.code)
        elif isinstance(kind, Object):
            values.append(_from_field(kind, response, name, views))
    return values[0] if len(values) == 1 else tuple(values) or None


def _to_field(owner: Any, name: str, value: Any, contents: Contents) -> Any:
    if isinstance(value, (tf.Buffer, torch.Buffer)):
        return value.to_bytes()
    if isinstance(value, tf.Status):
        status = message("vaccel.Status")
        return status(code=value.code, message=value.message)
    of = owner.DESCRIPTOR.fields_by_name[name].message_type
    if of is None:
        return value
    cls = message(of.full_name)
    if cls.DESCRIPTOR.name == "Node":
        return [cls(name=node.name, id=node.id) for node in value]
    return [_tensor(cls, tensor, contents) for tensor in value]


def _tensor(cls: Any, tensor: Any, contents: Contents) -> Any:
    data = tensor.as_memoryview()
    more = {"name": tensor.name} if isinstance(tensor, onnx.Tensor) else {}
    return cls(
        data=contents.put(data, data.nbytes), dims=tensor.dims, type=int(tensor.data_type), **more
    )


def _from_field(kind: Object, owner: Any, name: str, views: Sequence[memoryview]) -> Any:
    if not kind.many:
        return kind.cls(getattr(owner, name)) if owner.HasField(name) else None
    items = getattr(owner, name)
    if kind.cls is tf.Node:
        return [tf.Node(item.name, item.id) for item in items]
    if kind.cls is str:
        return list(items)
    return [_from_tensor(kind.cls, item, views) for item in items]


def _from_tensor(cls: Any, item: Any, views: Sequence[memoryview]) -> Any:
    more = (item.name,) if cls is onnx.Tensor else ()
    return cls.from_wire(list(item.dims), item.type, memoryview(bulk(item.data, views)), *more)
