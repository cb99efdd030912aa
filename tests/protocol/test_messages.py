"""The protobuf schema against sample frames of vAccel 0.8 and against arbitrary values."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from vaccel.rpc import messages

VECTORS = json.loads(Path(__file__).with_name("wire_vectors.json").read_text())


def named(vectors: list[Any]) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


UNARY = named(VECTORS["unary"])
ANSWERED = named([vector for vector in VECTORS["unary"] if vector["response"] is not None])
STREAMING = named(VECTORS["streaming"])

REQUEST, RESPONSE, DATA = 1, 2, 3
REMOTE_CLOSED, REMOTE_OPEN = 0x01, 0x02


def split_frame(text: str) -> tuple[int, int, int, bytes]:
    """(stream id, type, flags, data) of a hexadecimal frame, whose header is big-endian."""
    frame = bytes.fromhex(text)
    length, stream, kind, flags = struct.unpack_from(">IIBB", frame)
    assert length == len(frame) - 10
    return stream, kind, flags, frame[10:]


def as_dict(message: Any) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def check_both_ways(cls: Any, content: Any, text: str) -> None:
    wire = bytes.fromhex(text)
    built = json_format.ParseDict(content, cls())
    assert built == cls.FromString(wire)
    assert cls.FromString(built.SerializeToString()) == built
    assert as_dict(cls.FromString(wire)) == content


@pytest.mark.parametrize("vector", UNARY)
def test_requests_build_and_parse_as_0_8_does(vector: Any) -> None:
    cls = messages.message(vector["request_type"])
    assert messages.METHODS[vector["method"]][0] is cls
    check_both_ways(cls, vector["request"], vector["request_hex"])


@pytest.mark.parametrize("vector", ANSWERED)
def test_responses_build_and_parse_as_0_8_does(vector: Any) -> None:
    cls = messages.message(vector["response_type"])
    assert messages.METHODS[vector["method"]][1] is cls
    check_both_ways(cls, vector["response"], vector["response_hex"])


@pytest.mark.parametrize("vector", UNARY)
def test_request_frames_name_service_and_method(vector: Any) -> None:
    stream, kind, flags, data = split_frame(vector["request_frame_hex"])
    assert (stream, kind, flags) == (vector["stream_id"], REQUEST, 0)
    built = messages.RpcRequest(
        service=vector["service"],
        method=vector["method"],
        payload=bytes.fromhex(vector["request_hex"]),
    )
    assert messages.RpcRequest.FromString(data) == built
    assert messages.RpcRequest.FromString(built.SerializeToString()) == built
    assert built.service in messages.SERVICES


@pytest.mark.parametrize("vector", UNARY)
def test_response_frames_carry_payload_or_status(vector: Any) -> None:
    stream, kind, flags, data = split_frame(vector["response_frame_hex"])
    assert (stream, kind, flags) == (vector["stream_id"], RESPONSE, 0)
    response = messages.RpcResponse.FromString(data)
    if vector["status"] is None:
        assert response.payload == bytes.fromhex(vector["response_hex"])
        assert response.status.code == 0
    else:
        assert as_dict(response.status) == vector["status"]
        assert not response.payload
        built = json_format.ParseDict({"status": vector["status"]}, messages.RpcResponse())
        assert built == response


def test_failed_operation_carries_its_errno_as_detail() -> None:
    (vector,) = (v for v in VECTORS["unary"] if v["name"] == "operation no plugin implements")
    data = split_frame(vector["response_frame_hex"])[3]
    (detail,) = messages.RpcResponse.FromString(data).status.details
    assert detail.type_url == messages.ERROR_TYPE_URL
    error = messages.ProtoError.FromString(detail.value)
    assert (error.type, error.ffi_error) == (0, 95)
    assert error.HasField("ffi_error")
    assert not error.HasField("status")


def test_error_detail_is_named_after_its_message() -> None:
    assert messages.ERROR_TYPE_URL.endswith(f"/{messages.ProtoError.DESCRIPTOR.full_name}")


@pytest.mark.parametrize("vector", STREAMING)
def test_streamed_chunks_join_to_the_answered_array(vector: Any) -> None:
    frames = [split_frame(text) for text in vector["request_frames_hex"]]
    assert {stream for stream, *_ in frames} == {vector["stream_id"]}
    assert [kind for _, kind, _, _ in frames] == [REQUEST] + [DATA] * (len(frames) - 1)
    assert frames[0][2] == REMOTE_OPEN
    assert [flags & REMOTE_CLOSED for _, _, flags, _ in frames[1:]] == [0] * (len(frames) - 2) + [1]

    opening = messages.RpcRequest.FromString(frames[0][3])
    assert (opening.service, opening.method) == (messages.SERVICES[1], vector["method"])
    requests = [messages.GenopRequest.FromString(data) for *_, data in frames[1:]]
    chunks = [arg for request in requests for arg in request.read_args if arg.parts]
    assert [chunk.part_no for chunk in chunks] == list(range(1, chunks[0].parts + 1))
    joined = b"".join(chunk.buf for chunk in chunks)
    assert {chunk.size for chunk in chunks} == {len(joined)}

    answer = messages.RpcResponse.FromString(split_frame(vector["response_frame_hex"])[3])
    (result,) = messages.GenopResponse.FromString(answer.payload).write_args
    assert result.buf == joined


# Messages and fields that no sample frame holds, encoded by hand: tag =
# number << 3 | (0 for a varint, 2 for lengths), then the value.
BY_HAND = [
    ("ttrpc.Request", {"timeout_nano": 300, "metadata": [{"key": "k", "value": "v"}]},
     "20ac02" "2a060a016b120176"),
    ("ttrpc.Status", {"code": 8, "message": "m"}, "0808" "12016d"),
    ("vaccel.session.CreateRequest", {"features": 1}, "a00601"),
    ("vaccel.session.CreateResponse", {"session_id": 1, "features": 3}, "0801" "a00603"),
    ("vaccel.resource.Blob", {"type": 2, "name": "n", "data": b"d", "size": 9},
     "0802" "12016e" "1a0164" "2009"),
    ("vaccel.resource.UnregisterRequest", {"resource_id": 1, "session_id": 2}, "0801" "1002"),
    ("vaccel.tf.Node", {"name": "n", "id": -1}, "0a016e" "10ffffffffffffffffff01"),
    ("vaccel.tf.Tensor", {"data": b"d", "dims": [1, -1], "type": 9},
     "0a0164" "120b01ffffffffffffffffff01" "1809"),
    ("vaccel.tf.ModelLoadResponse", {"graph_def": b"g", "status": {"code": 5}},
     "0a0167" "12021805"),
    ("vaccel.tf.ModelUnloadRequest", {"session_id": 1, "model_id": 2}, "0801" "1002"),
    ("vaccel.tf.ModelUnloadResponse", {"status": {"code": 5, "message": "m"}}, "0a05180522016d"),
    ("vaccel.tflite.ModelLoadRequest", {"session_id": 1, "model_id": 2}, "0801" "1002"),
    ("vaccel.tflite.ModelUnloadRequest", {"session_id": 1, "model_id": 2}, "0801" "1002"),
    ("vaccel.tflite.ModelRunRequest", {"nr_out_tensors": 2}, "2002"),
    ("vaccel.tflite.ModelRunResponse", {"status": {"code": 5}}, "12021805"),
    ("vaccel.tflite.Tensor", {"dims": [3], "type": 19}, "120103" "1813"),
    ("vaccel.torch.ModelLoadRequest", {"session_id": 1, "model_id": 2}, "0801" "1002"),
    ("vaccel.torch.ModelRunRequest", {"run_options": b"", "nr_out_tensors": 2}, "1a00" "2802"),
    ("vaccel.torch.Tensor", {"type": 7}, "1807"),
    ("vaccel.genop.Arg", {"custom_type_id": 7, "parts": 3, "part_no": 2}, "2007" "2803" "3002"),
    ("vaccel.ProtoError", {"type": 1, "ffi_error": 0, "status": {"code": 2, "message": "m"}},
     "0801" "1000" "1a05180222016d"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fields", "text"), BY_HAND, ids=[row[0] for row in BY_HAND])
def test_fields_stand_under_their_numbers(name: str, fields: dict[str, Any], text: str) -> None:
    built = messages.message(name)(**fields)
    assert built.SerializeToString() == bytes.fromhex(text)
    assert messages.message(name).FromString(bytes.fromhex(text)) == built


def test_every_optional_field_tells_absent_from_empty() -> None:
    for name, field in [
        ("vaccel.ProtoError", "ffi_error"),
        ("vaccel.ProtoError", "status"),
        ("vaccel.tf.ModelLoadResponse", "status"),
        ("vaccel.tf.ModelUnloadResponse", "status"),
        ("vaccel.tf.ModelRunRequest", "run_options"),
        ("vaccel.tf.ModelRunResponse", "status"),
        ("vaccel.tflite.ModelRunResponse", "status"),
        ("vaccel.torch.ModelRunRequest", "run_options"),
    ]:
        cls = messages.message(name)
        empty = {"ffi_error": 0, "run_options": b"", "status": {}}[field]
        assert not cls.FromString(b"").HasField(field)
        assert cls.FromString(cls(**{field: empty}).SerializeToString()).HasField(field)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("vaccel.genop.ArgType", {"RAW": 0, "INT32": 5, "INT32_ARRAY": 6, "INT64": 7, "UINT8": 9,
                                  "FLOAT32_ARRAY": 18, "FLOAT64_ARRAY": 20, "BOOL": 21, "CHAR": 23,
                                  "UCHAR_ARRAY": 26, "STRING": 27, "BUFFER": 28, "CUSTOM": 29}),
        ("vaccel.resource.BlobType", {"FILE": 0, "BUFFER": 1, "MAPPED": 2}),
        ("vaccel.resource.ResourceType", {"LIB": 0, "DATA": 1, "MODEL": 2}),
        ("vaccel.tf.TensorType", {"FLOAT": 1, "INT64": 9, "BFLOAT16": 14, "HALF": 19,
                                  "UINT64": 23}),
        ("vaccel.tflite.TensorType", {"NOTYPE": 1, "FLOAT32": 2, "INT8": 10, "UINT64": 14,
                                      "INT4": 19}),
        ("vaccel.torch.TensorType", {"BYTE": 1, "CHAR": 2, "LONG": 5, "FLOAT": 7}),
        ("ttrpc.Code", {"OK": 0, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5,
                        "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "UNIMPLEMENTED": 12,
                        "INTERNAL": 13, "UNAVAILABLE": 14, "UNAUTHENTICATED": 16}),
        ("vaccel.ErrorType", {"FFI": 0, "INVALID_ARGUMENT": 2, "EMPTY_VALUE": 5,
                              "CONVERSION_FAILED": 6}),
    ],
)  # fmt: skip
def test_enums_have_the_protocols_numbers(name: str, known: dict[str, int]) -> None:
    users = {
        "vaccel.genop.ArgType": (messages.Arg, "arg_type"),
        "vaccel.resource.BlobType": (messages.Blob, "type"),
        "vaccel.resource.ResourceType": (messages.RegisterResourceRequest, "resource_type"),
        "vaccel.tf.TensorType": (messages.TfTensor, "type"),
        "vaccel.tflite.TensorType": (messages.TfliteTensor, "type"),
        "vaccel.torch.TensorType": (messages.TorchTensor, "type"),
        "ttrpc.Code": (messages.message("ttrpc.Status"), "code"),
        "vaccel.ErrorType": (messages.ProtoError, "type"),
    }
    cls, field = users[name]
    enum = cls.DESCRIPTOR.fields_by_name[field].enum_type
    assert enum.full_name == name
    values = {value.name: value.number for value in enum.values}
    assert sorted(values.values()) == list(range(len(values)))
    assert known.items() <= values.items()


def is_repeated(field: Any) -> bool:
    # protobuf 7 deprecates `label`, versions before 6.31 have no `is_repeated`.
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == 3)


SCALARS: dict[int, st.SearchStrategy[Any]] = {
    3: st.integers(-(2**63), 2**63 - 1),
    4: st.integers(0, 2**64 - 1),
    5: st.integers(-(2**31), 2**31 - 1),
    9: st.text(),
    12: st.binary(),
    13: st.integers(0, 2**32 - 1),
    14: st.integers(-(2**31), 2**31 - 1),  # open enums: numbers without a name as well
}
TYPE_MESSAGE = 11


def field_values(field: Any) -> st.SearchStrategy[Any]:
    if field.type != TYPE_MESSAGE:
        one = SCALARS[field.type]
    elif field.message_type.GetOptions().map_entry:
        return st.dictionaries(
            st.text(), field_values(field.message_type.fields_by_name["value"]), max_size=3
        )
    else:
        one = message_values(messages.message(field.message_type.full_name))
    return st.lists(one, max_size=3) if is_repeated(field) else one


def field_dicts(cls: Any) -> st.SearchStrategy[dict[str, Any]]:
    optional = {field.name: field_values(field) for field in cls.DESCRIPTOR.fields}
    return st.fixed_dictionaries({}, optional=optional)


def message_values(cls: Any) -> st.SearchStrategy[Any]:
    return field_dicts(cls).map(lambda fields: cls(**fields))


@pytest.mark.parametrize("name", sorted(messages.BULK))
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_values_survive_serialising(name: str, data: st.DataObject) -> None:
    cls = messages.message(name)
    fields = data.draw(field_dicts(cls))
    parsed = cls.FromString(cls(**fields).SerializeToString())
    assert parsed == cls(**fields)
    for key, value in fields.items():
        found = getattr(parsed, key)
        if isinstance(value, list):
            found = list(found)
        elif isinstance(value, dict):
            found = dict(found)
        if isinstance(value, int) and found != value:
            # Debian's C++ protobuf for 32-bit ARM reads a u32 of 2**31 and more as negative.
            found &= 0xFFFFFFFF
        assert found == value


@settings(max_examples=100, deadline=None)
@given(st.binary())
def test_unknown_fields_are_no_error(value: bytes) -> None:
    future = messages.message("ttrpc.Any")(type_url="x", value=value).SerializeToString()
    session = messages.UpdateSessionRequest(session_id=7).SerializeToString()
    # Field 2 of Any has no place in DestroyRequest, field 1 has but not of this wire type.
    assert messages.DestroySessionRequest.FromString(session + future).session_id == 7


def test_every_method_of_the_service_is_listed() -> None:
    assert list(messages.METHODS) == [
        "CreateSession", "UpdateSession", "DestroySession",
        "RegisterResource", "UnregisterResource", "SyncResource",
        "OfferResource", "PutChunk", "CommitResource", "AbandonResource", "FetchChunk",
        "ImageClassification",
        "TensorflowModelLoad", "TensorflowModelUnload", "TensorflowModelRun",
        "TensorflowLiteModelLoad", "TensorflowLiteModelUnload", "TensorflowLiteModelRun",
        "TorchModelLoad", "TorchModelRun", "OnnxModelRun", "Genop", "GenopStream", "GetProfiler",
    ]  # fmt: skip


def test_message_gives_one_class_per_name() -> None:
    assert messages.message("vaccel.genop.Arg") is messages.Arg
    nested = type(messages.GenopRequest(read_args=[{}]).read_args[0])
    assert nested is messages.Arg
    with pytest.raises(KeyError):
        messages.message("vaccel.genop.Argument")


def test_bulk_leads_to_the_large_bytes_only() -> None:
    tensors = {f"vaccel.{kind}.Tensor": {1: None} for kind in ("tf", "tflite", "torch", "onnx")}
    large = {name: fields for name, fields in messages.BULK.items() if fields}
    assert large == tensors | {
        "ttrpc.Request": {3: None},
        "ttrpc.Response": {2: None},
        "vaccel.genop.Arg": {1: None},
        "vaccel.genop.Request": {2: "vaccel.genop.Arg", 3: "vaccel.genop.Arg"},
        "vaccel.genop.Response": {1: "vaccel.genop.Arg"},
        "vaccel.image.Request": {2: None},
        "vaccel.onnx.ModelRunRequest": {3: "vaccel.onnx.Tensor"},
        "vaccel.onnx.ModelRunResponse": {1: "vaccel.onnx.Tensor"},
        "vaccel.resource.Blob": {3: None},
        "vaccel.resource.RegisterRequest": {2: "vaccel.resource.Blob"},
        "vaccel.resource.SyncResponse": {1: "vaccel.resource.Blob"},
        "vaccel.tf.ModelRunRequest": {6: "vaccel.tf.Tensor"},
        "vaccel.tf.ModelRunResponse": {1: "vaccel.tf.Tensor"},
        "vaccel.tflite.ModelRunRequest": {3: "vaccel.tflite.Tensor"},
        "vaccel.tflite.ModelRunResponse": {1: "vaccel.tflite.Tensor"},
        "vaccel.upload.PutRequest": {5: None},
        "vaccel.upload.FetchResponse": {2: None},
        "vaccel.torch.ModelRunRequest": {4: "vaccel.torch.Tensor"},
        "vaccel.torch.ModelRunResponse": {1: "vaccel.torch.Tensor"},
    }
