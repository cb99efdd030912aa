"""Our splitting and splicing of messages against Google's protobuf."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.protocol.test_messages import SCALARS, TYPE_MESSAGE, field_values, is_repeated
from vaccel.error import ProtocolError
from vaccel.rpc import codec, frames, messages
from vaccel.rpc.codec import INLINE, Decoder, bulk, bulk_index, decode_message, mark
from vaccel.rpc.messages import BULK, METHODS, SERVICES, RpcRequest, RpcResponse
from vaccel.rpc.ttrpc import ALIGNMENT, HEADER, HEADER_SIZE, LARGE, Kind

ENVELOPES = ("ttrpc.Request", "ttrpc.Response")
PAYLOADS = sorted(set(BULK) - set(ENVELOPES))
REQUESTS = {name: pair[0] for name, pair in METHODS.items()}

# Around what stays inline, what looks like a marker, and what gets aligned.
CONTENTS = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([mark(0), mark(1), mark(7) + b"x"]),
    st.sampled_from([4095, 4096, 4097, 10_000]).map(lambda n: bytes(i % 251 for i in range(n))),
)


def bulk_values(cls: Any) -> st.SearchStrategy[Any]:
    """Messages of `cls` with contents of all sizes in their bulk fields."""
    table = BULK.get(cls.DESCRIPTOR.full_name, {})
    fields = {}
    for field in cls.DESCRIPTOR.fields:
        if field.number not in table:
            fields[field.name] = field_values(field)
            continue
        nested = table[field.number]
        one = CONTENTS if nested is None else bulk_values(messages.message(nested))
        fields[field.name] = st.lists(one, max_size=3) if is_repeated(field) else one
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: cls(**values))


def bulk_places(message: Any) -> list[tuple[Any, str]]:
    """(owner, field name) of each bulk field of `message`, nested ones included."""
    places = []
    for number, nested in BULK[message.DESCRIPTOR.full_name].items():
        name = message.DESCRIPTOR.fields_by_number[number].name
        if nested is None:
            places.append((message, name))
        else:
            for item in getattr(message, name):
                places += bulk_places(item)
    return places


def filled(message: Any, views: Sequence[memoryview]) -> Any:
    """A copy of a decoded message, with the contents where they belong."""
    whole = type(message)()
    whole.CopyFrom(message)
    for owner, name in bulk_places(whole):
        setattr(owner, name, bytes(bulk(getattr(owner, name), views)))
    return whole


def hollow(message: Any) -> tuple[Any, list[bytes]]:
    """A copy with marks for contents, as senders build it, and the contents."""
    marked = type(message)()
    marked.CopyFrom(message)
    contents: list[bytes] = []
    for owner, name in bulk_places(marked):
        content = getattr(owner, name)
        if len(content) > INLINE:
            setattr(owner, name, mark(len(contents)))
            contents.append(content)
    return marked, contents


def known_fields(message: Any) -> Any:
    message.DiscardUnknownFields()
    return message


# -- decoding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(BULK))
@settings(max_examples=25)
@given(data=st.data())
def test_split_and_filled_up_again_a_message_is_the_same(name: str, data: st.DataObject) -> None:
    message = data.draw(bulk_values(messages.message(name)))
    wire = memoryview(message.SerializeToString())
    skeleton, spans = codec.split(wire, 0, len(wire), name)
    parsed = messages.message(name).FromString(skeleton)
    assert filled(parsed, [wire[start:stop] for start, stop in spans]) == message
    assert decode_message(messages.message(name), wire)[0] == parsed


def test_contents_are_views_of_what_was_received() -> None:
    wire = bytearray(messages.Arg(buf=b"content", size=7).SerializeToString())
    parsed, (view,) = decode_message(messages.Arg, memoryview(wire))
    assert bulk_index(parsed.buf) == 0
    wire[wire.index(b"content")] = ord("C")
    assert bytes(view) == b"Content"


@pytest.mark.parametrize("size", [0, 1])
def test_tiny_contents_stay_in_the_message(size: int) -> None:
    wire = messages.Arg(buf=bytes(size)).SerializeToString()
    parsed, views = decode_message(messages.Arg, wire)
    assert (views, bulk(parsed.buf, views)) == ([], bytes(size))


@pytest.mark.parametrize("content", [mark(0), mark(3)])
def test_contents_that_look_like_marks_are_contents(content: bytes) -> None:
    parsed, views = decode_message(messages.Arg, messages.Arg(buf=content).SerializeToString())
    assert bulk(parsed.buf, views) == content


@pytest.mark.parametrize("method", sorted(METHODS))
@settings(max_examples=15)
@given(data=st.data())
def test_requests_decode_as_google_reads_them(method: str, data: st.DataObject) -> None:
    payload = data.draw(bulk_values(METHODS[method][0]))
    timeout = data.draw(SCALARS[3])
    wire = RpcRequest(
        service=SERVICES[0],
        method=method,
        payload=payload.SerializeToString(),
        timeout_nano=timeout,
    ).SerializeToString()
    shape, views = Decoder(RpcRequest, REQUESTS).decode(wire)
    assert (shape.envelope.service, shape.envelope.method) == (SERVICES[0], method)
    assert shape.envelope.timeout_nano == timeout
    assert filled(shape.message, views) == payload


@pytest.mark.parametrize("method", sorted(METHODS))
@settings(max_examples=15)
@given(data=st.data())
def test_responses_decode_as_google_reads_them(method: str, data: st.DataObject) -> None:
    payload = data.draw(bulk_values(METHODS[method][1]))
    wire = RpcResponse(payload=payload.SerializeToString()).SerializeToString()
    decoder = Decoder(RpcResponse, {name: pair[1] for name, pair in METHODS.items()})
    shape, views = decoder.decode(wire, method)
    assert filled(shape.message, views) == payload


def vector_add(a: bytes, b: bytes, code: int = 21, session: int = 1) -> bytes:
    args = [messages.Arg(buf=bytes([code]), size=1, arg_type=9)]
    args += [messages.Arg(buf=buf, size=len(buf), arg_type=18) for buf in (a, b)]
    payload = messages.GenopRequest(session_id=session, read_args=args, write_args=args[2:])
    return bytes(
        RpcRequest(
            service=SERVICES[0], method="Genop", payload=payload.SerializeToString()
        ).SerializeToString()
    )


def decoded(decoder: Decoder, wire: bytes) -> tuple[Any, Any, Any]:
    """What a message says: envelope, payload, and why it is malformed."""
    try:
        shape, views = decoder.decode(wire)
    except ProtocolError:
        return None, None, ProtocolError
    message = None if shape.message is None else filled(shape.message, views)
    fields = {
        f.name: getattr(shape.envelope, f.name)
        for f in RpcRequest.DESCRIPTOR.fields
        if f.name in ("service", "method", "timeout_nano")
    }
    return fields, message, None


def fresh() -> Decoder:
    return Decoder(RpcRequest, REQUESTS)


def test_a_known_shape_is_found_again_and_its_contents_are_the_new_ones() -> None:
    decoder = fresh()
    first, _ = decoder.decode(vector_add(b"aaaa", b"bbbb"))
    again, views = decoder.decode(vector_add(b"cccc", b"dddd"))
    assert again is first
    assert list(map(bytes, views)) == [b"cccc", b"dddd", b"dddd"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (vector_add(b"aaaa", b"bbbb"), vector_add(b"aaaa", b"bbbb", code=20)),
        (vector_add(b"aaaa", b"bbbb"), vector_add(b"aaaa", b"bbbb", session=2)),
        (vector_add(b"aaaaa", b"bb"), vector_add(b"aa", b"bbbbb")[:-3] + b"bbb"),
    ],
)
def test_different_shapes_of_one_length_are_told_apart(one: bytes, other: bytes) -> None:
    decoder = fresh()
    for wire in (one, other, one, other):
        assert decoded(decoder, wire) == decoded(fresh(), wire)


@settings(max_examples=400)
@given(st.data())
def test_after_any_mutation_a_warm_decoder_agrees_with_a_fresh_one(data: st.DataObject) -> None:
    wire = bytearray(vector_add(b"aaaa", data.draw(st.binary(min_size=2, max_size=6))))
    decoder = fresh()
    decoder.decode(bytes(wire))
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    changed = bytes(wire)
    expected = decoded(fresh(), changed)
    assert decoded(decoder, changed) == expected
    assert decoded(decoder, changed) == expected, "and the second time, when it is known"


@settings(max_examples=400)
@given(st.data())
def test_what_we_accept_google_reads_alike(data: st.DataObject) -> None:
    wire = bytearray(vector_add(b"aaaa", b"bbbb"))
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    fields, message, refused = decoded(fresh(), bytes(wire))
    assume(refused is None)
    envelope = RpcRequest.FromString(bytes(wire))
    assert fields is not None
    assert all(getattr(envelope, name) == value for name, value in fields.items())
    if message is not None:
        payload = REQUESTS[envelope.method].FromString(envelope.payload)
        assert known_fields(message) == known_fields(payload)


def test_of_a_repeated_payload_the_last_one_counts() -> None:
    long = messages.UpdateSessionRequest(session_id=3, flags=9).SerializeToString()
    twice = RpcRequest(service=SERVICES[0], method="UpdateSession", payload=long)
    for last in (b"", long[:2]):
        # protobuf itself leaves out an empty field, so this one is written by hand.
        wire = twice.SerializeToString() + bytes([3 << 3 | 2, len(last)]) + last
        shape, _ = fresh().decode(wire)
        expected = messages.UpdateSessionRequest.FromString(RpcRequest.FromString(wire).payload)
        assert shape.message == expected


@given(st.binary(max_size=60))
def test_garbage_raises_only_protocol_error(garbage: bytes) -> None:
    decoded(fresh(), garbage)
    for prefix in (b"\x1a" + bytes([len(garbage)]), b"\x12\x05Genop\x1a" + bytes([len(garbage)])):
        decoded(fresh(), prefix + garbage)


@pytest.mark.parametrize("name", PAYLOADS)
@settings(max_examples=20)
@given(garbage=st.binary(max_size=60))
def test_garbage_in_any_message_raises_only_protocol_error(name: str, garbage: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode_message(messages.message(name), garbage)


def test_an_unknown_method_is_no_error_of_the_decoder() -> None:
    shape, views = fresh().decode(
        RpcRequest(method="Frobnicate", payload=b"xyz").SerializeToString()
    )
    assert (shape.envelope.method, shape.message, views) == ("Frobnicate", None, [])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("00", 0),
        ("7f", 127),
        ("8001", 128),
        ("8000", 0),  # longer than needed, as protobuf allows
        ("ffffffff0f", 2**32 - 1),
        ("ffffffffffffffff7f", 2**63 - 1),
        ("ffffffffffffffffff01", -1),
    ],
)
def test_numbers_of_any_length_are_read(text: str, number: int) -> None:
    wire = b"\x08" + bytes.fromhex(text) + b"\x12\x02ab"
    request, (view,) = decode_message(messages.message("vaccel.image.Request"), wire)
    assert request.session_id == number
    assert bytes(view) == b"ab"


@pytest.mark.parametrize("text", ["", "80", "ff" * 9, "ff" * 10 + "01", "80" * 11 + "00"])
def test_numbers_without_an_end_are_malformed(text: str) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        decode_message(messages.message("vaccel.image.Request"), b"\x08" + bytes.fromhex(text))


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(b"\x0a\x05abc", id="bulk field"),
        pytest.param(b"\x10", id="number"),
        pytest.param(b"\x7a\x02a", id="unknown field"),
        pytest.param(b"\x79abcdefg", id="eight fixed bytes"),
        pytest.param(b"\x7dabc", id="four fixed bytes"),
        pytest.param(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", id="length of 64 bits"),
    ],
)
def test_fields_that_are_cut_off_are_malformed(field: bytes) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        decode_message(messages.Arg, field)


@pytest.mark.parametrize("fixed", [b"\x79abcdefgh", b"\x7dabcd"])
def test_unknown_fixed_width_fields_are_skipped(fixed: bytes) -> None:
    wire = fixed + messages.Arg(buf=b"content", size=7).SerializeToString() + fixed
    parsed, views = decode_message(messages.Arg, wire)
    assert (parsed.size, list(map(bytes, views))) == (7, [b"content"])


@pytest.mark.parametrize("wire_type", [3, 4, 6, 7])
def test_groups_and_reserved_wire_types_are_malformed(wire_type: int) -> None:
    with pytest.raises(ProtocolError, match=f"wire type {wire_type}"):
        decode_message(messages.Arg, bytes([15 << 3 | wire_type]))


def test_structure_is_limited_and_contents_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "SKELETON_LIMIT", 1000)
    arg = messages.Arg(buf=bytes(5000), size=5000)
    decode_message(
        messages.GenopRequest, messages.GenopRequest(read_args=[arg] * 3).SerializeToString()
    )
    many = messages.GenopRequest(read_args=[messages.Arg(size=1)] * 300)
    with pytest.raises(ProtocolError, match="more than 1000 bytes of structure"):
        decode_message(messages.GenopRequest, many.SerializeToString())
    long = RpcRequest(service="x" * 1001).SerializeToString()
    with pytest.raises(ProtocolError, match="more than 1000 bytes of structure"):
        fresh().decode(long)


# -- encoding --------------------------------------------------------------------------------------


def frame_of(template: frames.Template, kind: int, contents: Sequence[bytes]) -> bytes:
    """The data of the template's frame, whose header is checked."""
    frame = b"".join(template.frame(77, kind, 0, contents))
    assert HEADER.unpack_from(frame) == (len(frame) - HEADER_SIZE, 77, kind, 0)
    assert template.length == len(frame) - HEADER_SIZE
    return frame[HEADER_SIZE:]


def misaligned(template: frames.Template, sizes: Sequence[int]) -> list[int]:
    """Sizes of contents that do not start where they should.

    A small frame is received as a whole: 8 bytes suit every number in it. A large one is received
    with its data at a multiple of 64.
    """
    large = template.length > LARGE
    least = ALIGNMENT if large else 8
    # The contents as the template's own parts: their places follow without building the frame.
    slots = [np.zeros(size, np.uint8) for size in sizes]
    at = -HEADER_SIZE if large else 0
    found = []
    for part in template.frame(1, Kind.REQUEST, 0, slots):
        if isinstance(part, np.ndarray) and len(part) >= least and at % least:
            found.append(len(part))
        at += len(part)
    assert at == template.length + (0 if large else HEADER_SIZE)
    return found


@pytest.mark.parametrize("method", sorted(METHODS))
@settings(max_examples=25)
@given(data=st.data())
def test_requests_we_build_google_reads(method: str, data: st.DataObject) -> None:
    cls = METHODS[method][0]
    message = data.draw(bulk_values(cls))
    timeout = data.draw(st.integers(0, 2**62))
    marked, contents = hollow(message)
    template = frames.request(SERVICES[1], method, marked, [len(c) for c in contents], timeout)
    built = frame_of(template, Kind.REQUEST, contents)
    envelope = RpcRequest.FromString(built)
    assert (envelope.service, envelope.method) == (SERVICES[1], method)
    assert envelope.timeout_nano == timeout
    assert known_fields(cls.FromString(envelope.payload)) == message
    shape, views = fresh().decode(built)
    assert known_fields(filled(shape.message, views)) == message


@pytest.mark.parametrize("method", sorted(METHODS))
@settings(max_examples=25)
@given(data=st.data())
def test_responses_we_build_google_reads(method: str, data: st.DataObject) -> None:
    cls = METHODS[method][1]
    message = data.draw(bulk_values(cls))
    marked, contents = hollow(message)
    template = frames.response(marked, [len(c) for c in contents])
    built = frame_of(template, Kind.RESPONSE, contents)
    envelope = RpcResponse.FromString(built)
    assert not envelope.HasField("status")
    assert known_fields(cls.FromString(envelope.payload)) == message


@settings(max_examples=25)
@given(bulk_values(messages.GenopRequest))
def test_parts_of_streams_we_build_google_reads(message: Any) -> None:
    marked, contents = hollow(message)
    template = frames.stream_part(marked, [len(c) for c in contents])
    built = frame_of(template, Kind.DATA, contents)
    assert known_fields(messages.GenopRequest.FromString(built)) == message


@given(field_values(RpcResponse.DESCRIPTOR.fields_by_name["status"]))
def test_failures_we_build_google_reads(status: Any) -> None:
    fields = {
        "code": status.code,
        "message": status.message,
        "details": [{"type_url": d.type_url, "value": d.value} for d in status.details],
    }
    built = frame_of(frames.failure(fields), Kind.RESPONSE, [])
    assert RpcResponse.FromString(built).status == status


@settings(max_examples=100)
@given(
    st.one_of(
        st.lists(st.integers(2, 10_000), min_size=1, max_size=4),
        st.lists(st.integers(2, 200_000), max_size=3).map(lambda sizes: [*sizes, 80_000]),
    ),
    st.text(max_size=70),
    st.integers(0, 2**62),
)
def test_arrays_are_aligned_whatever_stands_before_them(
    sizes: list[int], method: str, timeout: int
) -> None:
    args = [messages.Arg(buf=mark(i), size=size) for i, size in enumerate(sizes)]
    request = messages.GenopRequest(session_id=1, read_args=args)
    template = frames.request(SERVICES[0], method, request, sizes, timeout)
    assert misaligned(template, sizes) == []


def test_a_template_serves_many_frames() -> None:
    template = frames.response(
        messages.GenopResponse(write_args=[{"buf": mark(0), "size": 3}]), [3]
    )
    for content in (b"abc", b"def"):
        payload = RpcResponse.FromString(frame_of(template, Kind.RESPONSE, [content])).payload
        assert messages.GenopResponse.FromString(payload).write_args[0].buf == content


def test_contents_are_not_copied_into_the_frame() -> None:
    array = np.zeros(10_000, np.uint8)
    request = messages.GenopRequest(read_args=[{"buf": mark(0), "size": 10_000}])
    template = frames.request(SERVICES[0], "Genop", request, [10_000])
    assert any(part is array for part in template.frame(1, Kind.REQUEST, 0, [array]))


# -- what is kept between messages -----------------------------------------------------------------


def test_a_known_shape_does_not_keep_the_memory_of_the_message_it_came_from() -> None:
    memory = np.frombuffer(vector_add(bytes(5000), bytes(5000)), np.uint8).copy()
    gone = weakref.ref(memory)
    decoder = fresh()
    shape, views = decoder.decode(memoryview(memory))
    del memory, views
    assert gone() is None
    assert shape.message.session_id == 1


def test_shapes_are_kept_in_bounded_number() -> None:
    decoder = fresh()
    for size in range(2, 300):
        decoder.decode(vector_add(bytes(size), b""))
    for session in range(1, 120):
        decoder.decode(vector_add(b"aaaa", b"bbbb", session=session))
    kept = sum(len(shapes) for shapes in decoder._shapes.values())
    assert kept <= codec._SHAPES_KEPT * codec._SHAPES_PER_LENGTH
    assert decoded(decoder, vector_add(b"aaaa", b"cccc")) == decoded(
        fresh(), vector_add(b"aaaa", b"cccc")
    )


def test_message_fields_are_what_the_strategies_assume() -> None:
    """Bulk fields are bytes; what holds them further down is a repeated message."""
    for name, table in BULK.items():
        for number, nested in table.items():
            field = messages.message(name).DESCRIPTOR.fields_by_number[number]
            assert (field.type == TYPE_MESSAGE) == (nested is not None)
            assert is_repeated(field) == (nested is not None)
