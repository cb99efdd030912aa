"""The protobuf schema of the vAccel 0.8 protocol, and of what we add to it, as one table."""

from __future__ import annotations

# Package → message → fields, as `name=number [rep|opt|map] type`. Types: u32 u64 i32 i64 (plain
# varints), string, bytes, bulk (bytes that may be large: see BULK), else a message or enum of the
# same package, or of another one by its full name. `map T` is map<string, T>. An enum numbers its
# names from 0; on the wire and in parsed messages it is any int32. Packages stand in dependency
# order.
SCHEMA: dict[str, dict[str, str]] = {
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
    # Ours, and not in 0.8: resources in chunks (see `content`).
    "vaccel.upload": {
        "Blob": "type=1 vaccel.resource.BlobType, name=2 string, size=3 u64, key=4 bytes",
        "OfferRequest": "session_id=1 i64, resource_type=2 vaccel.resource.ResourceType,"
        " blobs=3 rep Blob",
        "OfferResponse": "upload_id=1 i64, chunk=2 u32, nonce=3 bytes, known=4 rep u32",
        "PutRequest": "session_id=1 i64, upload_id=2 i64, blob=3 u32, offset=4 u64, data=5 bulk,"
        " proof=6 bytes",
        "PutResponse": "differs=1 u32",
        "EndRequest": "session_id=1 i64, upload_id=2 i64",
        "FetchRequest": "session_id=1 i64, resource_id=2 i64, blob=3 u32, offset=4 u64,"
        " size=5 u32, proof=6 bytes",
        "FetchResponse": "differs=1 u32, data=2 bulk",
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
    # Ours, and not in 0.8.
    "vaccel.onnx": {
        "TensorType": "enum UNSPECIFIED FLOAT UINT8 INT8 UINT16 INT16 INT32 INT64 STRING BOOL"
        " FLOAT16 DOUBLE UINT32 UINT64 COMPLEX64 COMPLEX128 BFLOAT16 FLOAT8E4M3FN FLOAT8E4M3FNUZ"
        " FLOAT8E5M2 FLOAT8E5M2FNUZ",
        "Tensor": "data=1 bulk, dims=2 rep i64, type=3 TensorType, name=4 string",
        "ModelRunRequest": "session_id=1 i64, model_id=2 i64, in_tensors=3 rep Tensor,"
        " out_names=4 rep string",
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
