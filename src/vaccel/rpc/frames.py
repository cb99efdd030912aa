"""Messages → frames: protobuf builds the structure, bulk contents are spliced in (see `codec`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from vaccel.error import ResourceExhausted
from vaccel.rpc.codec import bulk_index, read_varint, varint
from vaccel.rpc.messages import BULK, RpcRequest, RpcResponse
from vaccel.rpc.ttrpc import ALIGNMENT, HEADER, HEADER_SIZE, LARGE

# An unknown field, which peers skip, fills the gap before an aligned array.
_PADDING_TAG = b"\xa2\x06"  # field 100, length-delimited


class Slot(NamedTuple):
    """Room for bulk content."""

    number: int
    size: int


Parts = list["bytes | Slot"]


class Align(NamedTuple):
    """Where contents are placed: `header` + position in the data is a multiple of `to`."""

    header: int
    to: int


class Template:
    """A frame without its stream id and bulk contents."""

    __slots__ = ("_parts", "length")

    def __init__(self, parts: Parts) -> None:
        merged = _merge(parts)
        self.length = _size(merged)
        if self.length > 0xFFFFFFFF:
            raise ResourceExhausted(
                f"a message of {self.length} bytes; a frame holds at most 4 GiB - 1"
            )
        # length, stream, kind and flags; then constants and slots alternate, a constant first.
        constants: list[Any] = [p if isinstance(p, bytes) else None for p in merged]
        self._parts: list[Any] = [self.length.to_bytes(4, "big"), None, None, *constants]

    def frame(self, stream: int, kind: int, flags: int, contents: Sequence[Any]) -> list[Any]:
        """The frame as a list of buffers; `contents` fill the slots in order."""
        parts = self._parts.copy()
        parts[4::2] = contents
        parts[:4] = [HEADER.pack(self.length, stream, kind, flags) + parts[3]]
        return parts

    def joined(self, stream: bytes, kind: bytes, contents: Sequence[Any]) -> bytes:
        """A small frame in one piece; `kind` is the type and the flags, as in the header."""
        parts = self._parts.copy()
        parts[1], parts[2] = stream, kind
        parts[4::2] = contents
        return b"".join(parts)


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
    tag = varint(number << 3 | 2)
    base = len(head) + len(tag)
    # The payload's padding depends on how long its own length field is.
    width = len(varint(message.ByteSize() + sum(sizes)))
    for _ in range(3):
        payload = _payload(message, sizes, base + width)
        guessed, width = width, len(varint(_size(payload)))
        if width == guessed:
            break
    length = _size(payload)
    if not length and not sizes:
        return [head + tail]
    return [head + tag + varint(length), *payload, tail]


def _payload(message: Any, sizes: Sequence[int], base: int) -> Parts:
    skeleton = memoryview(message.SerializeToString())
    if not sizes:
        return [bytes(skeleton)]
    # A large frame is received with its data aligned, a small one as a whole.
    align = Align(0, ALIGNMENT) if base + sum(sizes) > LARGE else Align(HEADER_SIZE, 8)
    return _expand(skeleton, BULK[message.DESCRIPTOR.full_name], sizes, base, align)


def _expand(
    skeleton: memoryview,
    table: dict[int, str | None],
    sizes: Sequence[int],
    base: int,
    align: Align | None,
) -> Parts:
    """The inverse of `split`: slots for markers, lengths made good, content aligned.

    `base` is where the message will stand in the frame's data.
    """
    parts: Parts = []
    at, stop = 0, len(skeleton)
    written = 0
    while at < stop:
        begin = at
        tag, at = read_varint(skeleton, at, stop)
        if tag & 7 != 2:
            _, at = read_varint(skeleton, at, stop)  # our messages hold no fixed-width fields
            new: Parts = [bytes(skeleton[begin:at])]
        else:
            length, at = read_varint(skeleton, at, stop)
            body, at = at, at + length
            nested = table.get(tag >> 3, "")
            if nested == "":
                new = [bytes(skeleton[begin:at])]
            else:
                inner = _content(skeleton[body:at], nested, sizes)
                new = [varint(tag) + varint(_size(inner)), *inner]
        if align is not None:
            new = _padding(new, base + written, align) + new
        written += _size(new)
        parts += new
    return parts


def _content(field: memoryview, nested: str | None, sizes: Sequence[int]) -> Parts:
    if nested is not None:
        return _expand(field, BULK[nested], sizes, 0, None)
    content = bytes(field)
    index = bulk_index(content)
    return [content] if index is None else [Slot(index, sizes[index])]


def _padding(parts: Parts, base: int, align: Align) -> Parts:
    """An unknown field that brings the first slot of `parts` to an aligned place."""
    before = align.header + base
    for part in parts:
        if isinstance(part, Slot) and part.size >= align.to:
            gap = -before % align.to
            if not gap:
                break
            while gap < len(_PADDING_TAG) + 1:
                gap += align.to
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
