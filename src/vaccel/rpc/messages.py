"""The classes of the protocol's messages, built from its schema.

The classes are built at import from run-time descriptors: generated code is tied to a range of
protobuf versions, descriptors work with every one from 3.20 to 7.x.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from vaccel.rpc.schema import SCHEMA

_Proto = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "u32": _Proto.TYPE_UINT32,
    "u64": _Proto.TYPE_UINT64,
    "i32": _Proto.TYPE_INT32,
    "i64": _Proto.TYPE_INT64,
    "string": _Proto.TYPE_STRING,
    "bytes": _Proto.TYPE_BYTES,
    "bulk": _Proto.TYPE_BYTES,
}


class _Field(NamedTuple):
    name: str
    number: int
    label: str
    type: str  # a key of _SCALARS, or the full name of a message or enum


def _definition(full_name: str) -> str:
    package, _, name = full_name.rpartition(".")
    return SCHEMA[package][name]


def _is_enum(definition: str) -> bool:
    return definition.startswith("enum ")


def _is_message(kind: str) -> bool:
    return kind not in _SCALARS and not _is_enum(_definition(kind))


def _fields(full_name: str) -> Iterator[_Field]:
    package = full_name.rpartition(".")[0]
    for text in filter(None, _definition(full_name).split(", ")):
        key, *label, kind = text.split()
        name, _, number = key.partition("=")
        if kind not in _SCALARS and "." not in kind:
            kind = f"{package}.{kind}"
        yield _Field(name, int(number), label[0] if label else "", kind)


def _describe_field(message: Any, field: _Field) -> None:
    """Add `field` to the DescriptorProto `message`."""
    proto = message.field.add(name=field.name, number=field.number, label=_Proto.LABEL_OPTIONAL)
    if field.type in _SCALARS:
        proto.type = _SCALARS[field.type]
    else:
        proto.type = _Proto.TYPE_MESSAGE if _is_message(field.type) else _Proto.TYPE_ENUM
        proto.type_name = f".{field.type}"
    if field.label in ("rep", "map"):
        proto.label = _Proto.LABEL_REPEATED
    elif field.label == "opt":
        # What protoc emits for proto3 `optional`: a oneof of this one field.
        proto.proto3_optional = True
        proto.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{field.name}")


def _describe_message(file: Any, full_name: str) -> None:
    """Add the message to the FileDescriptorProto `file`."""
    message = file.message_type.add(name=full_name.rpartition(".")[2])
    for field in _fields(full_name):
        if field.label == "map":
            # map<string, T> is on the wire a repeated entry; protobuf asks for this entry name.
            entry = message.nested_type.add(name=f"{field.name.capitalize()}Entry")
            entry.options.map_entry = True
            _describe_field(entry, _Field("key", 1, "", "string"))
            _describe_field(entry, _Field("value", 2, "", field.type))
            _describe_field(message, field)
            message.field[-1].type_name = f".{full_name}.{entry.name}"
        else:
            _describe_field(message, field)


def _describe_package(package: str) -> Any:
    """The package as a FileDescriptorProto."""
    file = descriptor_pb2.FileDescriptorProto(name=package, package=package, syntax="proto3")
    needed: set[str] = set()
    for name, definition in SCHEMA[package].items():
        full_name = f"{package}.{name}"
        if _is_enum(definition):
            enum = file.enum_type.add(name=name)
            for number, value in enumerate(definition.split()[1:]):
                enum.value.add(name=value, number=number)
        else:
            _describe_message(file, full_name)
            needed.update(field.type.rpartition(".")[0] for field in _fields(full_name))
    file.dependency.extend(sorted(needed - {package, ""}))
    return file


_POOL = descriptor_pool.DescriptorPool()
for _package in SCHEMA:
    _POOL.AddSerializedFile(_describe_package(_package).SerializeToString())

# protobuf before 4.22 has no GetMessageClass, from 5.26 on it has no GetPrototype.
_factory: Any = message_factory
_message_class = (
    _factory.GetMessageClass
    if hasattr(_factory, "GetMessageClass")
    else _factory.MessageFactory(_POOL).GetPrototype
)


def message(full_name: str) -> Any:
    """The class of a message, by full name (`vaccel.genop.Arg`). KeyError if there is none."""
    return _message_class(_POOL.FindMessageTypeByName(full_name))


def _bulk_fields(full_name: str) -> dict[int, str | None]:
    found: dict[int, str | None] = {}
    for field in _fields(full_name):
        if field.type == "bulk":
            found[field.number] = None
        elif _is_message(field.type) and _bulk_fields(field.type):
            found[field.number] = field.type
    return found


BULK: dict[str, dict[int, str | None]] = {
    f"{package}.{name}": _bulk_fields(f"{package}.{name}")
    for package, definitions in SCHEMA.items()
    for name, definition in definitions.items()
    if not _is_enum(definition)
}
"""Where bytes that may be large stand: message full name → field number → None if the field is
such bytes itself, else the full name of the nested message that holds some further down."""

RpcRequest = message("ttrpc.Request")
RpcResponse = message("ttrpc.Response")
ProtoError = message("vaccel.ProtoError")
ERROR_TYPE_URL = "type.googleapis.com/vaccel.ProtoError"
"""The `type_url` of the one detail in a failed operation's status; its value is a ProtoError."""

Empty = message("vaccel.empty.Empty")
CreateSessionRequest = message("vaccel.session.CreateRequest")
CreateSessionResponse = message("vaccel.session.CreateResponse")
UpdateSessionRequest = message("vaccel.session.UpdateRequest")
DestroySessionRequest = message("vaccel.session.DestroyRequest")
Blob = message("vaccel.resource.Blob")
RegisterResourceRequest = message("vaccel.resource.RegisterRequest")
RegisterResourceResponse = message("vaccel.resource.RegisterResponse")
UnregisterResourceRequest = message("vaccel.resource.UnregisterRequest")
SyncResourceRequest = message("vaccel.resource.SyncRequest")
SyncResourceResponse = message("vaccel.resource.SyncResponse")
UploadBlob = message("vaccel.upload.Blob")
OfferResourceRequest = message("vaccel.upload.OfferRequest")
OfferResourceResponse = message("vaccel.upload.OfferResponse")
PutChunkRequest = message("vaccel.upload.PutRequest")
PutChunkResponse = message("vaccel.upload.PutResponse")
EndUploadRequest = message("vaccel.upload.EndRequest")
FetchChunkRequest = message("vaccel.upload.FetchRequest")
FetchChunkResponse = message("vaccel.upload.FetchResponse")
ClassifyRequest = message("vaccel.image.Request")
ClassifyResponse = message("vaccel.image.Response")
TfNode = message("vaccel.tf.Node")
TfTensor = message("vaccel.tf.Tensor")
TfLoadRequest = message("vaccel.tf.ModelLoadRequest")
TfLoadResponse = message("vaccel.tf.ModelLoadResponse")
TfUnloadRequest = message("vaccel.tf.ModelUnloadRequest")
TfUnloadResponse = message("vaccel.tf.ModelUnloadResponse")
TfRunRequest = message("vaccel.tf.ModelRunRequest")
TfRunResponse = message("vaccel.tf.ModelRunResponse")
TfliteTensor = message("vaccel.tflite.Tensor")
TfliteLoadRequest = message("vaccel.tflite.ModelLoadRequest")
TfliteUnloadRequest = message("vaccel.tflite.ModelUnloadRequest")
TfliteRunRequest = message("vaccel.tflite.ModelRunRequest")
TfliteRunResponse = message("vaccel.tflite.ModelRunResponse")
TorchTensor = message("vaccel.torch.Tensor")
TorchLoadRequest = message("vaccel.torch.ModelLoadRequest")
TorchRunRequest = message("vaccel.torch.ModelRunRequest")
TorchRunResponse = message("vaccel.torch.ModelRunResponse")
OnnxTensor = message("vaccel.onnx.Tensor")
OnnxRunRequest = message("vaccel.onnx.ModelRunRequest")
OnnxRunResponse = message("vaccel.onnx.ModelRunResponse")
Arg = message("vaccel.genop.Arg")
GenopRequest = message("vaccel.genop.Request")
GenopResponse = message("vaccel.genop.Response")
ProfilerRequest = message("vaccel.profiling.Request")
ProfilerResponse = message("vaccel.profiling.Response")

SERVICES = ("vaccel.sync.agent.AgentService", "vaccel.asynchronous.agent.AgentService")
"""Two names of one service; only the second has GenopStream."""

METHODS: dict[str, tuple[Any, Any]] = {
    "CreateSession": (CreateSessionRequest, CreateSessionResponse),
    "UpdateSession": (UpdateSessionRequest, Empty),
    "DestroySession": (DestroySessionRequest, Empty),
    "RegisterResource": (RegisterResourceRequest, RegisterResourceResponse),
    "UnregisterResource": (UnregisterResourceRequest, Empty),
    "SyncResource": (SyncResourceRequest, SyncResourceResponse),
    "OfferResource": (OfferResourceRequest, OfferResourceResponse),
    "PutChunk": (PutChunkRequest, PutChunkResponse),
    "CommitResource": (EndUploadRequest, RegisterResourceResponse),
    "AbandonResource": (EndUploadRequest, Empty),
    "FetchChunk": (FetchChunkRequest, FetchChunkResponse),
    "ImageClassification": (ClassifyRequest, ClassifyResponse),
    "TensorflowModelLoad": (TfLoadRequest, TfLoadResponse),
    "TensorflowModelUnload": (TfUnloadRequest, TfUnloadResponse),
    "TensorflowModelRun": (TfRunRequest, TfRunResponse),
    "TensorflowLiteModelLoad": (TfliteLoadRequest, Empty),
    "TensorflowLiteModelUnload": (TfliteUnloadRequest, Empty),
    "TensorflowLiteModelRun": (TfliteRunRequest, TfliteRunResponse),
    "TorchModelLoad": (TorchLoadRequest, Empty),
    "TorchModelRun": (TorchRunRequest, TorchRunResponse),
    "OnnxModelRun": (OnnxRunRequest, OnnxRunResponse),
    "Genop": (GenopRequest, GenopResponse),
    "GenopStream": (GenopRequest, GenopResponse),
    "GetProfiler": (ProfilerRequest, ProfilerResponse),
}
"""Method name → (request class, response class); GenopStream takes a stream of its requests."""
