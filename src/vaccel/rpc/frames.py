"""Messages → frames: protobuf builds the structure, bulk contents are spliced in (see `codec`)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from vaccel.error import ResourceExhausted
from vaccel.rpc.codec import bulk_index, read_varint, varint
from vaccel.rpc.messages import BULK, RpcRequest, RpcResponse
from vaccel.rpc.ttrpc import ALIGNMENT, HEADER, HEADER_SIZE, LARGE

# An unknown field, which peers skip, fills the gap before an aligned array.
_PADDING_TAG = b"\xa2\x06"  # field 100, length-delimited

_TEMPLATES_KEPT = 256
_LARGEST_KEPT = 2 << 10
"""Bytes of structure; larger messages are rare, and their templates are not kept."""


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

    def pieces(self, kind: bytes) -> list[Any]:
        """What `joined` joins, but for the stream and the contents: None stands for each."""
        length, stream, _, first, *rest = self._parts
        return [length, stream, kind + first, *rest]

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
    return _template(_request(service, method, timeout_nano), message, sizes)


def response(message: Any, sizes: Sequence[int] = ()) -> Template:
    """A successful response."""
    return _template(_RESPONSE, message, sizes)


def failure(status: dict[str, Any]) -> Template:
    """A response that carries a status (see `messages`) and no payload."""
    return Template([RpcResponse(status=status).SerializeToString()])


def stream_part(message: Any, sizes: Sequence[int]) -> Template:
    """A bare message, as the data of a streaming request."""
    return _template(None, message, sizes)


class _Envelope(NamedTuple):
    """What stands around a message, its payload."""

    head: bytes
    tag: bytes
    tail: bytes


_RESPONSE = _Envelope(b"", bytes([2 << 3 | 2]), b"")


@functools.lru_cache(_TEMPLATES_KEPT)
def _request(service: str, method: str, timeout_nano: int) -> _Envelope:
    head = RpcRequest(service=service, method=method).SerializeToString()
    tail = RpcRequest(timeout_nano=timeout_nano).SerializeToString()
    return _Envelope(head, bytes([3 << 3 | 2]), tail)


def _template(envelope: _Envelope | None, message: Any, sizes: Sequence[int]) -> Template:
    skeleton = message.SerializeToString()
    build = _build if len(skeleton) <= _LARGEST_KEPT else _build.__wrapped__
    return build(envelope, message.DESCRIPTOR.full_name, skeleton, tuple(sizes))


@functools.lru_cache(_TEMPLATES_KEPT)
def _build(
    envelope: _Envelope | None, name: str, skeleton: bytes, sizes: tuple[int, ...]
) -> Template:
    """Of message `name`. Programs repeat themselves, and building takes longer than looking up."""
    if envelope is None:
        return Template(_payload(name, skeleton, sizes, 0)[0])
    head, tag, tail = envelope
    base = len(head) + len(tag)
    # The payload's padding depends on how long its own length field is.
    width = len(varint(len(skeleton) + sum(sizes)))
    for _ in range(3):
        payload, length = _payload(name, skeleton, sizes, base + width)
        guessed, width = width, len(varint(length))
        if width == guessed:
            break
    if not length and not sizes:
        return Template([head + tail])
    return Template([head + tag + varint(length), *payload, tail])


def _payload(name: str, skeleton: bytes, sizes: Sequence[int], base: int) -> tuple[Parts, int]:
    """The parts, and their bytes together."""
    if not sizes:
        return [skeleton], len(skeleton)
    # A large frame is received with its data aligned, a small one as a whole.
    align = Align(0, ALIGNMENT) if base + sum(sizes) > LARGE else Align(HEADER_SIZE, 8)
    return _expand(skeleton, BULK[name], sizes, base, align)


def _expand(
    skeleton: bytes,
    table: dict[int, str | None],
    sizes: Sequence[int],
    base: int,
    align: Align | None,
) -> tuple[Parts, int]:
    """The inverse of `split`: slots for markers, lengths made good, content aligned.

    `base` is where the message will stand in the frame's data. The parts, and their bytes together.
    """
    parts: Parts = []
    at, stop = 0, len(skeleton)
    written = 0
    while at < stop:
        begin = at
        tag, at = read_varint(skeleton, at, stop)
        length, at = read_varint(skeleton, at, stop)  # our messages hold no fixed-width fields
        nested = table.get(tag >> 3, "")
        if tag & 7 != 2 or nested == "":
            at += length if tag & 7 == 2 else 0
            parts.append(skeleton[begin:at])
            written += at - begin
            continue
        field = skeleton[at : at + length]
        at += length
        new, size = _content(field, nested, sizes)
        opening = varint(tag) + varint(size)
        if align is not None:
            padding = _padding(opening, new, base + written, align)
            opening = padding + opening
        parts.append(opening)
        parts += new
        written += len(opening) + size
    return parts, written


def _content(field: bytes, nested: str | None, sizes: Sequence[int]) -> tuple[Parts, int]:
    if nested is not None:
        return _expand(field, BULK[nested], sizes, 0, None)
    index = bulk_index(field)
    return ([field], len(field)) if index is None else ([Slot(index, sizes[index])], sizes[index])


def _padding(opening: bytes, parts: Parts, base: int, align: Align) -> bytes:
    """An unknown field that, before `opening`, brings the first slot of `parts` to an aligned
    place."""
    before = align.header + base + len(opening)
    for part in parts:
        if isinstance(part, Slot) and part.size >= align.to:
            gap = -before % align.to
            if not gap:
                break
            while gap < len(_PADDING_TAG) + 1:
                gap += align.to
            fill = gap - len(_PADDING_TAG) - 1
            return _PADDING_TAG + bytes([fill]) + bytes(fill)
        before += part.size if isinstance(part, Slot) else len(part)
    return b""


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
