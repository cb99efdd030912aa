"""ttRPC framing and stream state. No I/O happens here: bytes in, events out.

A frame is a 10-byte header (data length u32, stream id u32, type u8, flags u8, big-endian) and the
data. Both ends obey the same table of rules.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

import numpy as np

from vaccel.error import ProtocolError

HEADER = struct.Struct(">IIBB")
HEADER_SIZE = HEADER.size

DEFAULT_LIMIT = 1 << 30
"""Bytes of data in one message."""
MAX_OPEN_STREAMS = 4096
"""Streaming requests that a peer may have begun and not ended."""
ALIGNMENT = 64
"""Data of large frames starts at a multiple of this in memory, so that peers can align arrays."""

LARGE = 64 << 10
"""Smaller frames arrive together with their neighbours; a larger one gets memory of its own."""

LAST_STREAM = 0xFFFFFFFF
"""Of the stream ids; a client that has used it begins anew."""

Data = bytes | memoryview


class Kind(IntEnum):
    REQUEST = 1
    RESPONSE = 2
    DATA = 3


class Flag(IntFlag):
    REMOTE_CLOSED = 0x01
    REMOTE_OPEN = 0x02
    NO_DATA = 0x04


class Role(IntEnum):
    CLIENT = 0
    SERVER = 1


# What an empty part of a streaming request takes in memory counts against the limit, too.
_PART_COST = 64

# What each role may receive: frame types, and the flags that each may carry.
_RECEIVES: dict[Role, dict[int, int]] = {
    Role.SERVER: {
        Kind.REQUEST: int(Flag.REMOTE_CLOSED | Flag.REMOTE_OPEN),
        Kind.DATA: int(Flag.REMOTE_CLOSED | Flag.NO_DATA),
    },
    Role.CLIENT: {Kind.RESPONSE: 0},
}


class Frame(NamedTuple):
    stream: int
    kind: int
    flags: int
    data: Data
    excess: int = 0
    """The length that the header promised, where that is over the limit; the data is dropped."""


class Event(NamedTuple):
    """A whole request (for a server) or response (for a client)."""

    stream: int
    data: Data
    parts: tuple[Data, ...] | None = None
    """The messages that followed a streaming request; None for a unary one."""
    excess: int = 0
    """If not 0: the message was longer than the limit, this long; `data` is empty."""


class Reader:
    """Cuts received bytes into frames.

    Large frames are received where they stay: `space()` is the memory still to be filled (with
    recv_into), `filled()` says how much was. Memory for them is reserved, not touched, so a header
    that promises much costs nothing until its bytes arrive.
    """

    def __init__(self, role: Role, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._allowed = _RECEIVES[role]
        self.rest = b""
        self._head = (0, 0, 0, 0)
        self.large: memoryview | None = None
        """The frame that is being received in place, if one is."""
        self._at = 0
        self.skip = 0

    def receive(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes."""
        if self.rest:
            data = self.rest + data
            self.rest = b""
        frames: list[Frame] = []
        at, end = 0, len(data)
        while at < end:
            if self.skip:
                step = min(self.skip, end - at)
                self.skip -= step
                at += step
                continue
            if end - at < HEADER_SIZE:
                self.rest = data[at:]
                break
            length, stream, kind, flags = HEADER.unpack_from(data, at)
            self._check(kind, flags)
            body = at + HEADER_SIZE
            if length > self._limit:
                frames.append(Frame(stream, kind, flags, b"", length))
                self.skip, at = length, body
            elif body + length <= end:
                at = body + length
                # A small copy frees the receive buffer; a large frame never comes this way.
                frames.append(Frame(stream, kind, flags, data[body:at]))
            elif length <= LARGE:
                self.rest = data[at:]
                break
            elif self._begin_large(length, stream, kind, flags, data[body:]):
                break
            else:  # no memory for it is as good as too long
                frames.append(Frame(stream, kind, flags, b"", length))
                self.skip, at = length, body
        return frames

    def _check(self, kind: int, flags: int) -> None:
        """Before a body is waited for: other protocols' greetings make plausible lengths."""
        allowed = self._allowed.get(kind)
        if allowed is None or flags & ~allowed:
            raise ProtocolError(
                f"frame type {kind} with flags {flags:#04x} is not allowed here: "
                f"the peer does not speak ttRPC, or is out of step"
            )

    def _begin_large(self, length: int, stream: int, kind: int, flags: int, start: bytes) -> bool:
        try:
            memory = np.empty(length + ALIGNMENT, np.uint8)
        except MemoryError:
            return False
        offset = -memory.ctypes.data % ALIGNMENT
        self.large = memoryview(memory.data)[offset : offset + length]
        self.large[: len(start)] = start
        self._at = len(start)
        self._head = (length, stream, kind, flags)
        return True

    def space(self) -> memoryview:
        """Where to receive the rest of a large frame; empty outside of one."""
        return self.large[self._at :] if self.large is not None else memoryview(b"")

    def filled(self, count: int) -> list[Frame]:
        """`count` bytes of `space()` have been received."""
        self._at += count
        length, stream, kind, flags = self._head
        if self.large is None or self._at < length:
            return []
        data, self.large = self.large, None
        return [Frame(stream, kind, flags, data)]


class Connection:
    """One end of a connection: frames in, whole requests or responses out."""

    def __init__(self, role: Role, limit: int = DEFAULT_LIMIT) -> None:
        # An int: comparing with an enum member costs more.
        self._unary = int(Kind.REQUEST if role == Role.SERVER else Kind.RESPONSE)
        self._limit = limit
        self.reader = Reader(role, limit)
        self.last = bytes(4)
        """The stream id of the latest request, as in its header: these compare alike."""
        self.between = True
        """What comes next is the start of a frame."""
        self._streams: dict[int, _Stream] = {}
        self._streamed = 0

    def opened(self, number: bytes) -> None:
        """A request came, with this stream id, that was taken out of band. Raises ProtocolError."""
        if number <= self.last or not number[3] & 1:
            self._opened(int.from_bytes(number, "big"))
        self.last = number

    def receive(self, data: bytes) -> list[Event]:
        """Feed received bytes; the events they complete. Raises ProtocolError."""
        if len(data) > HEADER_SIZE and self.between:
            # The common case, one whole unary frame, without the general machinery.
            length, stream, kind, flags = HEADER.unpack_from(data)
            if (
                length + HEADER_SIZE == len(data)
                and kind == self._unary
                and not flags
                and (length <= self._limit)
            ):
                if kind == 1:
                    self.opened(data[4:8])
                return [Event(stream, data[HEADER_SIZE:])]
        return self._events(self.reader.receive(data))

    def filled(self, count: int) -> list[Event]:
        """As `receive`, for bytes received into `reader.space()`."""
        return self._events(self.reader.filled(count))

    def _events(self, frames: list[Frame]) -> list[Event]:
        reader = self.reader
        self.between = not reader.rest and not reader.skip and reader.large is None
        events = []
        for frame in frames:
            if frame.kind == Kind.REQUEST:
                event = self._request(frame)
            elif frame.kind == Kind.DATA:
                event = self._data(frame)
            else:
                event = Event(frame.stream, frame.data, None, frame.excess)
            if event is not None:
                events.append(event)
        return events

    def _opened(self, stream: int) -> None:
        last = int.from_bytes(self.last, "big")
        around = last - stream > LAST_STREAM // 2
        if stream % 2 == 0 or (stream <= last and not around) or stream in self._streams:
            raise ProtocolError(f"stream id {stream}: expected an odd number above {last}")
        self.last = stream.to_bytes(4, "big")

    def _request(self, frame: Frame) -> Event | None:
        self._opened(frame.stream)
        if frame.excess or not frame.flags & Flag.REMOTE_OPEN:
            return Event(frame.stream, frame.data, None, frame.excess)
        if len(self._streams) >= MAX_OPEN_STREAMS:
            raise ProtocolError(f"more than {MAX_OPEN_STREAMS} streams begun and not ended")
        self._streams[frame.stream] = _Stream(frame.data)
        self._streamed += len(frame.data) + _PART_COST
        return None

    def _data(self, frame: Frame) -> Event | None:
        stream = self._streams.get(frame.stream)
        if stream is None:
            if 0 < frame.stream <= int.from_bytes(self.last, "big") and frame.stream % 2:
                return None  # late data of a stream that was already answered
            raise ProtocolError(f"data on stream {frame.stream}, which was never opened")
        cost = len(frame.data) + frame.excess + _PART_COST
        stream.size += cost
        self._streamed += cost
        # All streams together may hold what one message may.
        if self._streamed > self._limit:
            self._forget(frame.stream)
            return Event(frame.stream, b"", (), stream.size)
        if not frame.flags & Flag.NO_DATA:
            stream.parts.append(frame.data)
        if not frame.flags & Flag.REMOTE_CLOSED:
            return None
        self._forget(frame.stream)
        return Event(frame.stream, stream.request, tuple(stream.parts))

    def _forget(self, number: int) -> None:
        self._streamed -= self._streams.pop(number).size


class _Stream:
    """A streaming request that is still arriving."""

    def __init__(self, request: Data) -> None:
        self.request = request
        self.parts: list[Data] = []
        self.size = len(request) + _PART_COST
