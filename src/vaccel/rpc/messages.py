"""The protobuf schema of the vAccel 0.8 protocol, as one table, and the classes built from it.

The classes are built at import from run-time descriptors: generated code is tied to a range of
protobuf versions, descriptors work with every one from 3.20 to 7.x.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# Package → message → fields, as `name=number [rep|opt|map] type`. Types: u32 u64 i32 i64 (plain
# varints), string, bytes, bulk (bytes that may be large: see BULK), else a message or enum of the
# same package, or of another one by its full name. `map T` is map<string, T>. An enum numbers its
# names from 0; on the wire and in parsed messages it is any int32. Packages stand in dependency
# order.
_SCHEMA: dict[str, dict[str, str]] = {
    "ttrpc": {
        "KeyValue": "key=1 string, value=2 string",
        "Request": "service=1 string, method=2 string, payload=3 bulk, timeout_nano=4 i64,"
        " metadata=5 rep KeyValue",
        "Any": "type_url=1 string, value=2 bytes",
        "Code": "enum OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND"
        " ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED"
        " OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED",
        "Status": "code=1 Code, message=2 string, details=3 rep Any",
        "Response": "status=1 Status, payload=2 bulk",
    },
    "vaccel": {
        "Status": "code=3 u32, message=4 string",
        "ErrorType": "enum FFI FFI_WITH_STATUS INVALID_ARGUMENT UNINITIALIZED OUT_OF_BOUNDS"
        " EMPTY_VALUE CONVERSION_FAILED",
        "ProtoError": "type=1 ErrorType, ffi_error=2 opt u32, status=3 opt Status",
    },
    "vaccel.empty": {
        "Empty": "",
    },
    "vaccel.session": {
        # `features` is ours: 0.8 peers skip the unknown field, and absent reads as 0.
        "CreateRequest": "flags=1 u32, features=100 u32",
        "CreateResponse": "session_id=1 i64, features=100 u32",
        "UpdateRequest": "session_id=1 i64, flags=2 u32",
        "DestroyRequest": "session_id=1 i64",
    },
    "vaccel.resource": {
        "BlobType": "enum FILE BUFFER MAPPED",
        "Blob": "type=1 BlobType, name=2 string, data=3 bulk, size=4 u32",
        "ResourceType": "enum LIB DATA MODEL",
        "RegisterRequest": "paths=1 rep string, blobs=2 rep Blob, resource_type=3 ResourceType,"
        " resource_id=4 i64, session_id=5 i64",
        "RegisterResponse": "resource_id=1 i64",
        "UnregisterRequest": "resource_id=1 i64, session_id=2 i64",
        "SyncRequest": "resource_id=1 i64",
        "SyncResponse": "blobs=1 rep Blob",
    },
    "vaccel.image": {
        "Request": "session_id=1 i64, image=2 bulk",
        "Response": "tags=1 bytes",
    },
    "vaccel.tf": {
        "TensorType": "enum UNSPECIFIED FLOAT DOUBLE INT32 UINT8 INT16 INT8 STRING COMPLEX64 INT64"
        " BOOL QINT8 QUINT8 QINT32 BFLOAT16 QINT16 QUINT16 UINT16 COMPLEX128 HALF RESOURCE VARIANT"
        " UINT32 UINT64",
        "Node": "name=1 string, id=2 i32",
        "Tensor": "data=1 bulk, dims=2 rep i64, type=3 TensorType",
        "ModelLoadRequest": "session_id=1 i64, model_id=2 i64",
        "ModelLoadResponse": "graph_def=1 bytes, status=2 opt vaccel.Status",
        "ModelUnloadRequest": "session_id=1 i64, model_id=2 i64",
        "ModelUnloadResponse": "status=1 opt vaccel.Status",
        "ModelRunRequest": "session_id=1 i64, model_id=2 i64, run_options=3 opt bytes,"
        " in_nodes=4 rep Node, out_nodes=5 rep Node, in_tensors=6 rep Tensor",
        "ModelRunResponse": "out_tensors=1 rep Tensor, status=2 opt vaccel.Status",
    },
    "vaccel.tflite": {
        "TensorType": "enum UNSPECIFIED NOTYPE FLOAT32 INT32 UINT8 INT64 STRING BOOL INT16"
        " COMPLEX64 INT8 FLOAT16 FLOAT64 COMPLEX128 UINT64 RESOURCE VARIANT UINT32 UINT16 INT4",
        "Tensor": "data=1 bulk, dims=2 rep i32, type=3 TensorType",
        "ModelLoadRequest": "session_id=1 i64, model_id=2 i64",
        "ModelUnloadRequest": "session_id=1 i64, model_id=2 i64",
        "ModelRunRequest": "session_id=1 i64, model_id=2 i64, in_tensors=3 rep Tensor,"
        " nr_out_tensors=4 u64",
        "ModelRunResponse": "out_tensors=1 rep Tensor, status=2 opt vaccel.Status",
    },
    "vaccel.torch": {
        "TensorType": "enum UNSPECIFIED BYTE CHAR SHORT INT LONG HALF FLOAT",
        "Tensor": "data=1 bulk, dims=2 rep i64, type=3 TensorType",
        "ModelLoadRequest": "session_id=1 i64, model_id=2 i64",
        "ModelRunRequest": "session_id=1 i64, model_id=2 i64, run_options=3 opt bytes,"
        " in_tensors=4 rep Tensor, nr_out_tensors=5 u64",
        "ModelRunResponse": "out_tensors=1 rep Tensor",
    },
    "vaccel.genop": {
        "ArgType": "enum RAW INT8 INT8_ARRAY INT16 INT16_ARRAY INT32 INT32_ARRAY INT64 INT64_ARRAY"
        " UINT8 UINT8_ARRAY UINT16 UINT16_ARRAY UINT32 UINT32_ARRAY UINT64 UINT64_ARRAY"
        " FLOAT32 FLOAT32_ARRAY FLOAT64 FLOAT64_ARRAY BOOL BOOL_ARRAY CHAR CHAR_ARRAY"
        " UCHAR UCHAR_ARRAY STRING BUFFER CUSTOM",
        "Arg": "buf=1 bulk, size=2 u32, arg_type=3 ArgType, custom_type_id=4 u32, parts=5 u32,"
        " part_no=6 u32",
        "Request": "session_id=1 i64, read_args=2 rep Arg, write_args=3 rep Arg",
        "Response": "write_args=1 rep Arg",
    },
    "vaccel.profiling": {
        "Sample": "start=1 u64, time=2 u64",
        "Region": "samples=1 rep Sample",
        "Profiler": "component_name=1 string, regions=2 map Region",
        "Request": "session_id=1 i64",
        "Response": "profiler=1 Profiler",
    },
}

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
    return _SCHEMA[package][name]


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
    for name, definition in _SCHEMA[package].items():
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
for _package in _SCHEMA:
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
    for package, definitions in _SCHEMA.items()
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
    "ImageClassification": (ClassifyRequest, ClassifyResponse),
    "TensorflowModelLoad": (TfLoadRequest, TfLoadResponse),
    "TensorflowModelUnload": (TfUnloadRequest, TfUnloadResponse),
    "TensorflowModelRun": (TfRunRequest, TfRunResponse),
    "TensorflowLiteModelLoad": (TfliteLoadRequest, Empty),
    "TensorflowLiteModelUnload": (TfliteUnloadRequest, Empty),
    "TensorflowLiteModelRun": (TfliteRunRequest, TfliteRunResponse),
    "TorchModelLoad": (TorchLoadRequest, Empty),
    "TorchModelRun": (TorchRunRequest, TorchRunResponse),
    "Genop": (GenopRequest, GenopResponse),
    "GenopStream": (GenopRequest, GenopResponse),
    "GetProfiler": (ProfilerRequest, ProfilerResponse),
}
"""Method name → (request class, response class); GenopStream takes a stream of its requests."""
