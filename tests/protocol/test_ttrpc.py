"""Frames and streams: any segmentation gives the same events, garbage raises only ProtocolError."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaccel.error import ProtocolError
from vaccel.rpc.transport import RECEIVE_SIZE
from vaccel.rpc.ttrpc import (
    ALIGNMENT,
    HEADER,
    HEADER_SIZE,
    LAST_STREAM,
    MAX_OPEN_STREAMS,
    Connection,
    Event,
    Flag,
    Kind,
    Reader,
    Role,
)

UNARY = 0
PART_COST = 64  # of each message of a stream, beside its content
LIMIT = 150_000  # above the size from which frames get memory of their own
SIZES = st.sampled_from([0, 1, 9, 10, 11, 200, 65_535, 65_536, 65_537, 100_000])

Wire = tuple[int, int, int, bytes]  # stream id, type, flags, data
Seen = tuple[int, bytes, "tuple[bytes, ...] | None", int]


def frame(stream: int, kind: int, flags: int = 0, data: bytes = b"") -> bytes:
    return HEADER.pack(len(data), stream, kind, flags) + data


def request(stream: int, data: bytes = b"", flags: int = UNARY) -> bytes:
    return frame(stream, Kind.REQUEST, flags, data)


def opening(stream: int, data: bytes = b"") -> bytes:
    return request(stream, data, Flag.REMOTE_OPEN)


def part(stream: int, data: bytes = b"", flags: int = 0) -> bytes:
    return frame(stream, Kind.DATA, flags, data)


def feed(connection: Connection, pieces: Iterable[bytes]) -> list[Event]:
    """Deliver pieces as a transport does: large frames go straight into `space()`."""
    events = []
    for piece in pieces:
        while piece:
            space = connection.reader.space()
            if not space:
                events += connection.receive(piece)
                break
            count = min(len(space), len(piece))
            space[:count] = piece[:count]
            events += connection.filled(count)
            piece = piece[count:]
    return events


def seen(events: Iterable[Event]) -> list[Seen]:
    return [(e.stream, bytes(e.data), joined(e.parts), e.excess) for e in events]


def joined(parts: tuple[Any, ...] | None) -> tuple[bytes, ...] | None:
    return None if parts is None else tuple(map(bytes, parts))


def cut(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return (data[start:stop] for start, stop in itertools.pairwise(edges))


def filler(size: int, salt: int) -> bytes:
    """`size` bytes that differ from frame to frame, and from their neighbours."""
    return bytes((salt + i) % 251 for i in range(251)) * (size // 251 + 1)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[Wire], list[Seen]]:
    """Frames that a client may send, and the requests that they are."""
    frames: list[Wire] = []
    expected: list[Seen] = []
    unfinished: dict[int, tuple[bytes, list[bytes]]] = {}
    costs: dict[int, int] = {}
    stream = -1
    for salt in range(draw(st.integers(0, 8))):
        size = draw(SIZES)
        data = filler(size, salt)[:size]
        if len(unfinished) > 0 and draw(st.booleans()):
            target = draw(st.sampled_from(sorted(unfinished)))
            flags = draw(st.sampled_from([0, Flag.REMOTE_CLOSED, Flag.NO_DATA, 0x05]))
            data = b"" if flags & Flag.NO_DATA else data
            frames.append((target, Kind.DATA, int(flags), data))
            first, parts = unfinished[target]
            if not flags & Flag.NO_DATA:
                parts.append(data)
            costs[target] += len(data) + PART_COST
            if sum(costs.values()) > LIMIT:
                expected.append((target, b"", (), costs.pop(target)))
                del unfinished[target]
            elif flags & Flag.REMOTE_CLOSED:
                expected.append((target, first, tuple(parts), 0))
                del unfinished[target], costs[target]
            continue
        stream += 2 * draw(st.integers(1, 3))
        if draw(st.booleans()):
            unfinished[stream] = (data, [])
            costs[stream] = len(data) + PART_COST
            frames.append((stream, Kind.REQUEST, Flag.REMOTE_OPEN, data))
        elif draw(st.booleans()):
            excess = filler(LIMIT + 1 + size, salt)[: LIMIT + 1 + size]
            frames.append((stream, Kind.REQUEST, 0, excess))
            expected.append((stream, b"", None, len(excess)))
        else:
            flags = draw(st.sampled_from([0, Flag.REMOTE_CLOSED]))
            frames.append((stream, Kind.REQUEST, int(flags), data))
            expected.append((stream, data, None, 0))
    return frames, expected


@given(conversations(), st.lists(st.integers(0, 2**20), max_size=12))
def test_any_segmentation_gives_the_same_requests(
    conversation: tuple[list[Wire], list[Seen]], places: list[int]
) -> None:
    frames, expected = conversation
    wire = b"".join(frame(*one) for one in frames)
    connection = Connection(Role.SERVER, LIMIT)
    assert seen(feed(connection, cut(wire, places))) == expected
    assert connection.between


SAMPLE = [
    request(1, b"first"),
    request(3),
    opening(5, b"streaming"),
    part(5, b"one"),
    request(7, b"between", Flag.REMOTE_CLOSED),
    part(5, b"two", Flag.REMOTE_CLOSED),
]
SAMPLE_EVENTS = [
    (1, b"first", None, 0),
    (3, b"", None, 0),
    (7, b"between", None, 0),
    (5, b"streaming", (b"one", b"two"), 0),
]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(SAMPLE, id="whole"),
        pytest.param([b"".join(SAMPLE)], id="glued"),
        pytest.param([bytes([b]) for b in b"".join(SAMPLE)], id="byte by byte"),
    ],
)
def test_frames_arrive_whole_glued_and_byte_by_byte(pieces: Sequence[bytes]) -> None:
    assert seen(feed(Connection(Role.SERVER), pieces)) == SAMPLE_EVENTS


def test_trailing_data_waits_for_the_rest_of_its_frame() -> None:
    connection = Connection(Role.SERVER)
    last = request(9, b"the end")
    assert seen(feed(connection, [b"".join(SAMPLE) + last[:12]])) == SAMPLE_EVENTS
    assert not connection.between
    assert seen(feed(connection, [last[12:]])) == [(9, b"the end", None, 0)]
    assert connection.between


@pytest.mark.parametrize("size", [0, 5, 70_000])
def test_a_truncated_frame_is_no_event(size: int) -> None:
    wire = request(1, bytes(size))
    for end in {0, 1, HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + 1, len(wire) - 1}:
        if end < len(wire):
            connection = Connection(Role.SERVER)
            assert feed(connection, [wire[:end]]) == []
            assert connection.between == (end == 0)


@given(st.binary(max_size=300), st.sampled_from(Role))
def test_garbage_raises_only_protocol_error(garbage: bytes, role: Role) -> None:
    try_to_feed(role, [garbage])


@given(
    st.sampled_from(Role),
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(0, 7), st.binary(max_size=5))
    ),
    st.lists(st.integers(0, 500), max_size=5),
)
def test_frames_out_of_place_raise_only_protocol_error(
    role: Role, frames: list[Wire], places: list[int]
) -> None:
    try_to_feed(role, cut(b"".join(frame(*one) for one in frames), places))


def try_to_feed(role: Role, pieces: Iterable[bytes]) -> None:
    with contextlib.suppress(ProtocolError):
        assert all(isinstance(event, Event) for event in feed(Connection(role, 1000), pieces))


@pytest.mark.parametrize("size", [101, 70_000, 200_000])
def test_an_oversized_request_is_reported_and_skipped(size: int) -> None:
    wire = request(1, bytes(size)) + request(3, b"next")
    assert seen(feed(Connection(Role.SERVER, 100), cut(wire, range(0, len(wire), 999)))) == [
        (1, b"", None, size),
        (3, b"next", None, 0),
    ]


def test_an_oversized_request_is_reported_before_its_body_arrives() -> None:
    connection = Connection(Role.SERVER, 100)
    assert seen(connection.receive(request(1, bytes(101))[:HEADER_SIZE])) == [(1, b"", None, 101)]


def test_a_request_of_just_the_limit_is_accepted() -> None:
    assert seen(feed(Connection(Role.SERVER, 100), [request(1, bytes(100))])) == [
        (1, bytes(100), None, 0)
    ]


def test_an_oversized_response_is_reported_to_the_client() -> None:
    wire = frame(1, Kind.RESPONSE, 0, bytes(101)) + frame(3, Kind.RESPONSE, 0, b"ok")
    assert seen(feed(Connection(Role.CLIENT, 100), [wire])) == [
        (1, b"", None, 101),
        (3, b"ok", None, 0),
    ]


@pytest.mark.parametrize("streams", [[0], [2], [1, 1], [3, 1], [1, 4], [5, 3]])
def test_stream_ids_are_odd_and_grow(streams: list[int]) -> None:
    *before, last = streams
    connection = Connection(Role.SERVER)
    feed(connection, map(request, before))
    with pytest.raises(ProtocolError, match=f"stream id {last}: expected an odd number above"):
        feed(connection, [request(last)])


def test_stream_ids_begin_anew_after_the_largest() -> None:
    connection = Connection(Role.SERVER)
    assert len(feed(connection, map(request, [LAST_STREAM - 2, LAST_STREAM, 1, 3]))) == 4
    with pytest.raises(ProtocolError, match="stream id 1: expected an odd number above 3"):
        feed(connection, [request(1)])


def test_the_id_of_an_open_stream_is_not_taken_again() -> None:
    connection = Connection(Role.SERVER)
    feed(connection, [frame(1, Kind.REQUEST, Flag.REMOTE_OPEN, b""), request(LAST_STREAM)])
    with pytest.raises(ProtocolError, match="stream id 1: expected an odd number"):
        feed(connection, [request(1)])


def test_stream_ids_may_skip_and_end_at_the_largest() -> None:
    wire = [request(5), request(2**32 - 1)]
    assert [e.stream for e in feed(Connection(Role.SERVER), wire)] == [5, 2**32 - 1]


@pytest.mark.parametrize(
    ("role", "wire"),
    [
        (Role.SERVER, frame(1, Kind.RESPONSE)),
        (Role.SERVER, frame(1, 0)),
        (Role.SERVER, frame(1, 4)),
        (Role.SERVER, request(1, flags=Flag.NO_DATA)),
        (Role.SERVER, request(1, flags=0x80)),
        (Role.SERVER, opening(1) + part(1, flags=Flag.REMOTE_OPEN)),
        (Role.CLIENT, request(1)),
        (Role.CLIENT, part(1)),
        (Role.CLIENT, frame(1, Kind.RESPONSE, Flag.REMOTE_CLOSED)),
        (Role.SERVER, b"GET / HTTP/1.1\r\nHost: board\r\n\r\n"),
    ],
)
def test_types_and_flags_out_of_place_are_refused(role: Role, wire: bytes) -> None:
    with pytest.raises(ProtocolError, match="does not speak ttRPC"):
        # HTTP's first bytes promise over a gigabyte, so more must not be waited for.
        feed(Connection(role), [wire])


@pytest.mark.parametrize(
    ("last", "parts"),
    [
        (part(1, b"b", Flag.REMOTE_CLOSED), (b"a", b"b")),
        (part(1, b"", Flag.REMOTE_CLOSED), (b"a", b"")),
        (part(1, b"", Flag.REMOTE_CLOSED | Flag.NO_DATA), (b"a",)),
    ],
)
def test_a_stream_ends_with_remote_closed(last: bytes, parts: tuple[bytes, ...]) -> None:
    connection = Connection(Role.SERVER)
    assert feed(connection, [opening(1, b"r"), part(1, b"a")]) == []
    assert seen(feed(connection, [last])) == [(1, b"r", parts, 0)]


def test_streams_may_interleave() -> None:
    wire = [
        opening(1),
        opening(3),
        part(3, b"3a"),
        part(1, b"1a"),
        part(1, b"1b", Flag.REMOTE_CLOSED),
        part(3, b"3b", Flag.REMOTE_CLOSED),
    ]
    assert seen(feed(Connection(Role.SERVER), wire)) == [
        (1, b"", (b"1a", b"1b"), 0),
        (3, b"", (b"3a", b"3b"), 0),
    ]


@pytest.mark.parametrize("before", [[request(1)], [opening(1), part(1, flags=Flag.REMOTE_CLOSED)]])
def test_late_data_of_an_answered_stream_is_dropped(before: list[bytes]) -> None:
    connection = Connection(Role.SERVER)
    feed(connection, before)
    assert feed(connection, [part(1, b"late"), part(1, b"er", Flag.REMOTE_CLOSED)]) == []
    assert seen(feed(connection, [request(3)])) == [(3, b"", None, 0)]


@pytest.mark.parametrize("stream", [0, 2, 3])
def test_data_of_a_stream_never_opened_is_refused(stream: int) -> None:
    connection = Connection(Role.SERVER)
    feed(connection, [request(1)])
    with pytest.raises(ProtocolError, match=f"data on stream {stream}, which was never opened"):
        feed(connection, [part(stream, b"x")])


def test_a_stream_is_limited_as_a_whole() -> None:
    connection = Connection(Role.SERVER, 100)
    wire = [opening(1), part(1, bytes(60)), part(1, bytes(41)), part(1, b"late", 1), request(3)]
    assert seen(feed(connection, wire)) == [(1, b"", (), 188), (3, b"", None, 0)]


def test_an_oversized_part_ends_its_stream() -> None:
    connection = Connection(Role.SERVER, 100)  # a part costs 64 bytes beside its content
    wire = [opening(1), part(1, b"fits"), part(1, bytes(200)), request(3)]
    assert seen(feed(connection, wire)) == [(1, b"", (), 132), (3, b"", None, 0)]


def test_parts_without_content_count_against_the_limit() -> None:
    connection = Connection(Role.SERVER, 1000)
    events = feed(connection, [opening(1), part(1) * 10_000])
    assert len(events) == 1, "memory for them would grow without end"
    assert events[0].excess > 1000


def test_streams_begun_and_not_ended_are_limited() -> None:
    connection = Connection(Role.SERVER)
    feed(connection, [opening(2 * i + 1) for i in range(MAX_OPEN_STREAMS)])
    with pytest.raises(ProtocolError, match=f"more than {MAX_OPEN_STREAMS} streams"):
        feed(connection, [opening(2 * MAX_OPEN_STREAMS + 1)])


def test_large_frames_are_received_where_they_stay_and_aligned() -> None:
    reader = Reader(Role.SERVER)
    data = filler(200_000, 1)[:200_000]
    assert not reader.space()
    assert reader.receive(request(1, data)[:1000]) == []
    frames: list[Any] = []
    memory = reader.space()
    assert len(memory) == 200_000 - 990
    at = 990
    while space := reader.space():
        count = min(len(space), 7_777)
        space[:count] = data[at : at + count]
        at += count
        frames += reader.filled(count)
    (whole,) = frames
    assert whole.data == data
    assert address_of(whole.data) % ALIGNMENT == 0
    assert address_of(memory) == address_of(whole.data) + 990, "it was not copied"


def address_of(memory: Any) -> int:
    return int(np.frombuffer(memory, np.uint8).ctypes.data)


@pytest.mark.parametrize("size", [65_537, 100_000, 1 << 20])
def test_every_large_frame_is_aligned(size: int) -> None:
    wire = request(1, bytes(size)) + request(3, bytes(size))
    events = feed(Connection(Role.SERVER), cut(wire, range(0, len(wire), RECEIVE_SIZE)))
    assert [address_of(event.data) % ALIGNMENT for event in events] == [0, 0]


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_header_that_promises_a_gigabyte_takes_no_memory() -> None:
    reader = Reader(Role.SERVER)
    before = resident()
    assert reader.receive(HEADER.pack(1 << 30, 1, Kind.REQUEST, 0) + bytes(100)) == []
    assert len(reader.space()) == (1 << 30) - 100
    assert resident() - before < 16 << 20


@settings(max_examples=20)
@given(st.lists(st.integers(1, 70_000), min_size=1, max_size=30))
def test_memory_becomes_resident_as_bytes_arrive(counts: list[int]) -> None:
    connection = Connection(Role.SERVER)
    wire = HEADER.pack(1 << 28, 1, Kind.REQUEST, 0)
    before = resident()
    feed(connection, [wire, *map(bytes, counts)])
    assert resident() - before < sum(counts) + (16 << 20)
