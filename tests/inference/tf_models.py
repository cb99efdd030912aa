"""TensorFlow models, written without TensorFlow: its messages, as far as these tests need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from vaccel.ops.tf import TensorType

# Message → fields, as `name=number [rep] type`. Numbers and types are TensorFlow's.
_MESSAGES = {
    "Dim": "size=1 int64",
    "Shape": "dim=2 rep Dim, unknown_rank=3 bool",
    "Tensor": "dtype=1 int32, tensor_shape=2 Shape, tensor_content=4 bytes",
    "AttrValue": "i=3 int64, b=5 bool, type=6 int32, shape=7 Shape, tensor=8 Tensor",
    "Attr": "key=1 string, value=2 AttrValue",
    "NodeDef": "name=1 string, op=2 string, input=3 rep string, attr=5 rep Attr",
    "Versions": "producer=1 int32",
    "GraphDef": "node=1 rep NodeDef, versions=4 Versions",
    "TensorInfo": "name=1 string, dtype=2 int32, tensor_shape=3 Shape",
    "InfoEntry": "key=1 string, value=2 TensorInfo",
    "SignatureDef": "inputs=1 rep InfoEntry, outputs=2 rep InfoEntry, method_name=3 string",
    "SignatureEntry": "key=1 string, value=2 SignatureDef",
    "MetaInfo": "tags=4 rep string",
    "MetaGraph": "meta_info_def=1 MetaInfo, graph_def=2 GraphDef, signature_def=5 rep"
    " SignatureEntry",
    "SavedModel": "saved_model_schema_version=1 int64, meta_graphs=2 rep MetaGraph",
}


def _classes() -> dict[str, Any]:
    proto = descriptor_pb2.FieldDescriptorProto
    # proto2 writes fields that hold their defaults, as attributes of TensorFlow's oneof must be.
    file = descriptor_pb2.FileDescriptorProto(name="tf", package="tf", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in fields.split(", "):
            key, *label, kind = text.split()
            field_name, _, number = key.partition("=")
            field = message.field.add(name=field_name, number=int(number))
            field.label = proto.LABEL_REPEATED if label else proto.LABEL_OPTIONAL
            if kind in _MESSAGES:
                field.type, field.type_name = proto.TYPE_MESSAGE, f".tf.{kind}"
            else:
                field.type = getattr(proto, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    factory: Any = message_factory
    make = (
        factory.GetMessageClass
        if hasattr(factory, "GetMessageClass")
        else factory.MessageFactory(pool).GetPrototype
    )
    return {name: make(pool.FindMessageTypeByName(f"tf.{name}")) for name in _MESSAGES}


_C = _classes()

Dims = Sequence[int]


def shape(dims: Dims) -> Any:
    return _C["Shape"](dim=[_C["Dim"](size=extent) for extent in dims])


def node(name: str, op: str, *inputs: str, **attributes: Any) -> Any:
    """Attributes: bool, int, a TensorType, a sequence for a shape, an array for a tensor."""
    entries = [_C["Attr"](key=key, value=_attribute(value)) for key, value in attributes.items()]
    return _C["NodeDef"](name=name, op=op, input=inputs, attr=entries)


def _attribute(value: Any) -> Any:
    if isinstance(value, bool):
        return _C["AttrValue"](b=value)
    if isinstance(value, TensorType):
        return _C["AttrValue"](type=int(value))
    if isinstance(value, int):
        return _C["AttrValue"](i=value)
    if isinstance(value, np.ndarray):
        return _C["AttrValue"](
            tensor=_C["Tensor"](
                dtype=int(_type(value)),
                tensor_shape=shape(value.shape),
                tensor_content=value.tobytes(),
            )
        )
    return _C["AttrValue"](shape=shape(value))


def _type(array: Any) -> TensorType:
    return next(kind for kind in TensorType if kind.dtype == array.dtype)


def placeholder(name: str, dims: Dims, type: TensorType = TensorType.FLOAT) -> Any:
    return node(name, "Placeholder", dtype=type, shape=dims)


def const(name: str, array: Any) -> Any:
    return node(name, "Const", dtype=_type(array), value=array)


def _graph(nodes: Sequence[Any]) -> Any:
    return _C["GraphDef"](node=nodes, versions=_C["Versions"](producer=1395))


def frozen(*nodes: Any) -> bytes:
    """A frozen graph."""
    return bytes(_graph(nodes).SerializeToString())


def saved(
    nodes: Sequence[Any],
    signatures: Mapping[str, tuple[Mapping[str, tuple[str, Dims]], Mapping[str, tuple[str, Dims]]]],
) -> bytes:
    """A `saved_model.pb`; signature → its inputs and outputs, name → (tensor, dims), of floats."""
    entries = [
        _C["SignatureEntry"](
            key=key,
            value=_C["SignatureDef"](
                inputs=[_info(*one) for one in inputs.items()],
                outputs=[_info(*one) for one in outputs.items()],
                method_name="tensorflow/serving/predict",
            ),
        )
        for key, (inputs, outputs) in signatures.items()
    ]
    meta = _C["MetaGraph"](
        meta_info_def=_C["MetaInfo"](tags=["serve"]),
        graph_def=_graph(nodes),
        signature_def=entries,
    )
    made = _C["SavedModel"](saved_model_schema_version=1, meta_graphs=[meta])
    return bytes(made.SerializeToString())


def _info(key: str, tensor: tuple[str, Dims]) -> Any:
    name, dims = tensor
    info = _C["TensorInfo"](name=name, dtype=int(TensorType.FLOAT), tensor_shape=shape(dims))
    return _C["InfoEntry"](key=key, value=info)
