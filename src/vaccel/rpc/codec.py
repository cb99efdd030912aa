"""Messages ↔ bytes, with large byte fields kept out of protobuf.

protobuf builds and parses the structure; the contents of `BULK` fields are spliced in and cut out
by hand, so that arrays are neither copied into messages nor out of them. In the structure a marker
stands where such content belongs.

What was learned of one message is kept: the next one that differs only in bulk contents needs no
parsing (`Decoder`) and no building (`Template`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from vaccel.error import ProtocolError
from vaccel.rpc.messages import BULK, RpcRequest, RpcResponse
from vaccel.rpc.ttrpc import ALIGNMENT, HEADER, Data

INLINE = 1
"""Bulk contents up to this size stay in the structure: the operation code of a Genop does."""
_MARKER = b"\xffbulk"
_MARKER_SIZE = len(_MARKER) + 4  # longer than INLINE, so no content is taken for a marker

SKELETON_LIMIT = 4 << 20
"""Bytes of structure in one message, bulk contents not counted."""
# Arrays from this size on are placed at a multiple of ALIGNMENT in the message.
_ALIGN_FROM = 4 << 10
# An unknown field, which peers skip, fills the gap before an aligned array.
_PADDING_TAG = b"\xa2\x06"  # field 100, length-delimited
_SHAPES_KEPT = 64
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
        self.prepared: Any = None
        """Whatever the receiver derives from `message`, once."""


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
        if spans:
            start, stop = spans[-1]  # of a repeated field the last one counts
            content, spans = split(view, start, stop, payload.DESCRIPTOR.full_name)
        shape = Shape(envelope, _from_bytes(payload, content), spans, data)
        self._keep((len(data), method), shape)
        return shape

    def _keep(self, key: tuple[int, str], shape: Shape) -> None:
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
        tag, at = _read_varint(view, at, stop)
        wire = tag & 7
        if wire == 2:
            length, at = _read_varint(view, at, stop)
            body, at = at, at + length
        elif wire == 0:
            _, at = _read_varint(view, at, stop)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ProtocolError(f"malformed message: wire type {wire} at byte {begin}")
        if at > stop:
            raise ProtocolError(f"malformed message: the field at byte {begin} is cut off")
        nested = table.get(tag >> 3, "")
        if wire != 2 or nested == "" or (nested is None and at - body <= INLINE):
            out += view[begin:at]
        elif nested is None:
            out += _varint(tag) + _varint(_MARKER_SIZE) + mark(len(spans))
            spans.append((body, at))
        else:
            inner = _split(view, body, at, BULK[nested], spans)
            out += _varint(tag) + _varint(len(inner)) + inner
        if len(out) > SKELETON_LIMIT:
            raise ProtocolError(f"a message with more than {SKELETON_LIMIT} bytes of structure")
    return out


def _read_varint(view: memoryview, at: int, stop: int) -> tuple[int, int]:
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


# -- encoding ----------------------------------------------------------------------------------


class Slot(NamedTuple):
    """Room for bulk content."""

    number: int
    size: int


Parts = list["bytes | Slot"]


class Template:
    """A frame without its stream id and bulk contents."""

    __slots__ = ("_head", "_rest", "length")

    def __init__(self, parts: Parts) -> None:
        merged = _merge(parts)
        self.length = _size(merged)
        # Constants and slots alternate, a constant first.
        self._head: Any = merged[0]
        self._rest = [part if isinstance(part, bytes) else part.number for part in merged[1:]]

    def frame(self, stream: int, kind: int, flags: int, contents: Sequence[Any]) -> list[Any]:
        """The frame as a list of buffers: `contents` fill the slots, by index."""
        out: list[Any] = [HEADER.pack(self.length, stream, kind, flags) + self._head]
        out += [contents[part] if type(part) is int else part for part in self._rest]
        return out


def request(
    service: str, method: str, message: Any, sizes: Sequence[int] = (), timeout_nano: int = 0
) -> Template:
    """A request. `message` holds `mark(i)` where content of sizes[i] bytes belongs."""
    head = RpcRequest(service=service, method=method).SerializeToString()
    tail = RpcRequest(timeout_nano=timeout_nano).SerializeToString()
    return Template(_envelope(head, 3, message, sizes, tail))


def response(message: Any, sizes: Sequence[int] = ()) -> Template:
    """A successful response."""
    return Template(_envelope(b"", 2, message, sizes, b""))


def failure(status: dict[str, Any]) -> Template:
    """A response that carries a status (see `messages`) and no payload."""
    return Template([RpcResponse(status=status).SerializeToString()])


def stream_part(message: Any, sizes: Sequence[int]) -> Template:
    """A bare message, as the data of a streaming request."""
    return Template(_payload(message, sizes, 0))


def _envelope(head: bytes, number: int, message: Any, sizes: Sequence[int], tail: bytes) -> Parts:
    tag = _varint(number << 3 | 2)
    base = len(head) + len(tag)
    payload = _payload(message, sizes, base + 1)
    # The payload's padding depends on how long its own length field is.
    for _ in range(2):
        payload = _payload(message, sizes, base + len(_varint(_size(payload))))
    length = _size(payload)
    if not length and not sizes:
        return [head + tail]
    return [head + tag + _varint(length), *payload, tail]


def _payload(message: Any, sizes: Sequence[int], base: int) -> Parts:
    skeleton = memoryview(message.SerializeToString())
    if not sizes:
        return [bytes(skeleton)]
    return _expand(skeleton, BULK[message.DESCRIPTOR.full_name], sizes, base)


def _expand(
    skeleton: memoryview, table: dict[int, str | None], sizes: Sequence[int], base: int | None
) -> Parts:
    """The inverse of `split`: slots for markers, lengths made good, large content aligned.

    `base` is where the message will stand in the frame's data; None: do not align.
    """
    parts: Parts = []
    at, stop = 0, len(skeleton)
    written = 0
    while at < stop:
        begin = at
        tag, at = _read_varint(skeleton, at, stop)
        if tag & 7 != 2:
            _, at = _read_varint(skeleton, at, stop)  # our messages hold no fixed-width fields
            new: Parts = [bytes(skeleton[begin:at])]
        else:
            length, at = _read_varint(skeleton, at, stop)
            body, at = at, at + length
            nested = table.get(tag >> 3, "")
            if nested == "":
                new = [bytes(skeleton[begin:at])]
            else:
                inner = _content(skeleton[body:at], nested, sizes)
                new = [_varint(tag) + _varint(_size(inner)), *inner]
        if base is not None:
            new = _padding(new, base + written) + new
        written += _size(new)
        parts += new
    return parts


def _content(field: memoryview, nested: str | None, sizes: Sequence[int]) -> Parts:
    if nested is not None:
        return _expand(field, BULK[nested], sizes, None)
    content = bytes(field)
    index = bulk_index(content)
    return [content] if index is None else [Slot(index, sizes[index])]


def _padding(parts: Parts, base: int) -> Parts:
    """An unknown field that brings the first large slot of `parts` to an aligned place."""
    before = 0
    for part in parts:
        if isinstance(part, Slot) and part.size >= _ALIGN_FROM:
            gap = -(base + before) % ALIGNMENT
            if not gap:
                break
            if gap < len(_PADDING_TAG) + 1:
                gap += ALIGNMENT
            fill = gap - len(_PADDING_TAG) - 1
            return [_PADDING_TAG + bytes([fill]) + bytes(fill)]
        before += part.size if isinstance(part, Slot) else len(part)
    return []


def _merge(parts: Parts) -> Parts:
    merged: Parts = [b""]
    for part in parts:
        if isinstance(part, bytes) and isinstance(merged[-1], bytes):
            merged[-1] += part
        elif isinstance(part, Slot) and isinstance(merged[-1], Slot):
            merged += [b"", part]
        else:
            merged.append(part)
    return merged


def _size(parts: Parts) -> int:
    return sum(part.size if isinstance(part, Slot) else len(part) for part in parts)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
