"""Messages ↔ bytes, with large byte fields kept out of protobuf.

protobuf builds and parses the structure; the contents of `BULK` fields are spliced in and cut out
by hand, so that arrays are neither copied into messages nor out of them. In the structure a marker
stands where such content belongs.

What was learned of one message is kept: the next one that differs only in bulk contents needs no
parsing (`Decoder`) and no building (`Template`).
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any

from vaccel.error import ProtocolError
from vaccel.rpc.messages import BULK
from vaccel.rpc.ttrpc import HEADER, HEADER_SIZE, Data

INLINE = 1
"""Bulk contents up to this size stay in the structure: the operation code of a Genop does."""
_MARKER = b"\xffbulk"
_MARKER_SIZE = len(_MARKER) + 4  # longer than INLINE, so no content is taken for a marker

SKELETON_LIMIT = 4 << 20
"""Bytes of structure in one message, bulk contents not counted."""
_SHAPES_KEPT = 64
_LARGEST_KEPT = 64 << 10

SMALL_FRAME = 32 << 10
"""Up to here frames are matched as a whole; above it, parsing costs little beside the data."""
_SHAPES_PER_LENGTH = 8


def mark(index: int) -> bytes:
    """What stands in a message for the bulk content number `index`."""
    return _MARKER + index.to_bytes(4, "little")


def bulk(field: bytes, views: Sequence[memoryview]) -> Any:
    """The content of a bulk field of a decoded message: itself, or the view it stands for."""
    index = bulk_index(field)
    return field if index is None else views[index]


def bulk_index(field: bytes) -> int | None:
    """Which view a bulk field of a decoded message stands for; None: it is the content itself."""
    if len(field) == _MARKER_SIZE and field.startswith(_MARKER):
        return int.from_bytes(field[-4:], "little")
    return None


# -- decoding ----------------------------------------------------------------------------------


class Shape:
    """What a message says apart from its bulk contents, and where those stand."""

    __slots__ = (
        "checked",
        "constants",
        "envelope",
        "failed",
        "message",
        "prepared",
        "quick",
        "spans",
        "timeout_nano",
    )

    def __init__(self, envelope: Any, message: Any, spans: list[tuple[int, int]], data: Data):
        self.envelope = envelope
        self.message = message
        self.spans = spans
        self.timeout_nano: int = getattr(envelope, "timeout_nano", 0)
        self.failed = hasattr(envelope, "status") and envelope.status.code != 0
        """A response that carries an error."""
        self.checked = ""
        """The method of a request, once it is known to be served."""
        edges = [0, *(edge for span in spans for edge in span), len(data)]
        self.constants = [
            (start, stop, bytes(data[start:stop]))
            for start, stop in zip(edges[::2], edges[1::2], strict=True)
        ]
        self.quick: Any = None
        """Set by who serves requests, if it can: given the `Match` of this shape, makes a function
        from request frames to answer frames."""
        self.prepared: Any = None
        """Whatever the receiver derives from `message`, once."""


class Match:
    """Recognises a small frame of a known shape as a whole, the stream id aside."""

    __slots__ = ("constant_parts", "constants", "offsets", "shape", "size", "stream_and_parts")

    def __init__(self, shape: Shape, kind: int) -> None:
        self.shape = shape
        length = shape.constants[-1][1]
        header = HEADER.pack(length, 0, kind, 0)
        self.size = HEADER_SIZE + length
        """Bytes of the frame."""
        self.offsets = [HEADER_SIZE + start for start, _ in shape.spans]
        """Where the bulk contents stand in the frame."""
        (_, stop, first), *others = shape.constants
        self.constants = (header[:4], header[8:] + first, *(part for _, _, part in others))
        layout = f"4s4x{len(self.constants[1])}s"
        for start, end, part in others:
            layout += f"{start - stop}x{len(part)}s"
            stop = end
        self.constant_parts = Struct(layout).unpack
        """A frame's bytes at the places of `constants`: equal if it is one of the shape."""
        self.stream_and_parts = Struct(layout.replace("4x", "4s", 1)).unpack_from
        """As `constant_parts`, with the stream id, as in the header, after the first; from memory
        that begins with the frame."""

    def fits(self, frame: bytes | bytearray) -> bool:
        """`frame` (of our size) is one frame of the shape."""
        return self.constant_parts(frame) == self.constants


class Decoder:
    """Decodes the messages of one connection: requests, or responses to one method."""

    def __init__(self, envelope: Any, payloads: dict[str, Any]) -> None:
        self._envelope = envelope
        self._payloads = payloads
        self._shapes: dict[tuple[int, str], list[Shape]] = {}

    def decode(self, data: Data, method: str = "") -> tuple[Shape, list[memoryview]]:
        """The shape of `data` and its bulk contents. `method`: of a response, what was called."""
        for shape in self._shapes.get((len(data), method), ()):
            # Lengths stand in the constant parts, so equal constants mean equal structure.
            for start, stop, constant in shape.constants:
                if data[start:stop] != constant:
                    break
            else:
                break
        else:
            shape = self._parse(data, method)
        view = memoryview(data)
        return shape, [view[start:stop] for start, stop in shape.spans]

    def _parse(self, data: Data, method: str) -> Shape:
        view = memoryview(data)
        skeleton, spans = split(view, 0, len(view), self._envelope.DESCRIPTOR.full_name)
        envelope = _from_bytes(self._envelope, skeleton)
        payload = self._payloads.get(method or getattr(envelope, "method", ""))
        if payload is None:
            return Shape(envelope, None, [], data)
        content = envelope.payload
        index = bulk_index(content)
        if index is None:
            spans = []
        else:
            start, stop = spans[index]
            content, spans = split(view, start, stop, payload.DESCRIPTOR.full_name)
        shape = Shape(envelope, _from_bytes(payload, content), spans, data)
        self._keep((len(data), method), shape)
        return shape

    def _keep(self, key: tuple[int, str], shape: Shape) -> None:
        if sum(len(constant) for _, _, constant in shape.constants) > _LARGEST_KEPT:
            return
        if len(self._shapes) >= _SHAPES_KEPT:
            self._shapes.clear()
        shapes = self._shapes.setdefault(key, [])
        shapes.insert(0, shape)
        del shapes[_SHAPES_PER_LENGTH:]


def decode_message(cls: Any, data: Data) -> tuple[Any, list[memoryview]]:
    """One bare message, such as those that follow a streaming request."""
    view = memoryview(data)
    skeleton, spans = split(view, 0, len(view), cls.DESCRIPTOR.full_name)
    return _from_bytes(cls, skeleton), [view[start:stop] for start, stop in spans]


def split(
    view: memoryview, start: int, stop: int, name: str
) -> tuple[bytes, list[tuple[int, int]]]:
    """Message `name` at view[start:stop] without its bulk contents, and where those stand."""
    spans: list[tuple[int, int]] = []
    return bytes(_split(view, start, stop, BULK[name], spans)), spans


def _split(
    view: memoryview, at: int, stop: int, table: dict[int, str | None], spans: list[tuple[int, int]]
) -> bytearray:
    out = bytearray()
    while at < stop:
        begin = at
        tag, at = read_varint(view, at, stop)
        wire = tag & 7
        if wire == 2:
            length, at = read_varint(view, at, stop)
            body, at = at, at + length
        elif wire == 0:
            _, at = read_varint(view, at, stop)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ProtocolError(f"malformed message: wire type {wire} at byte {begin}")
        if at > stop:
            raise ProtocolError(f"malformed message: the field at byte {begin} is cut off")
        verbatim = wire != 2 or table.get(tag >> 3, "") == ""
        if len(out) + (at - begin if verbatim else 0) > SKELETON_LIMIT:
            raise ProtocolError(f"a message with more than {SKELETON_LIMIT} bytes of structure")
        nested = table.get(tag >> 3, "")
        if wire != 2 or nested == "" or (nested is None and at - body <= INLINE):
            out += view[begin:at]
        elif nested is None:
            out += varint(tag) + varint(_MARKER_SIZE) + mark(len(spans))
            spans.append((body, at))
        else:
            inner = _split(view, body, at, BULK[nested], spans)
            out += varint(tag) + varint(len(inner)) + inner
    return out


def read_varint(view: Data, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while at < stop and shift < 70:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ProtocolError(f"malformed message: no end to the number at byte {at}")


def _from_bytes(cls: Any, data: bytes) -> Any:
    try:
        return cls.FromString(data)
    except Exception as exc:  # each protobuf implementation has a class of its own for this
        raise ProtocolError(f"malformed {cls.DESCRIPTOR.full_name}: {exc}") from exc


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
