"""Genop arguments ↔ messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vaccel.error import InvalidArgument, ResourceExhausted
from vaccel.ops.kinds import WireArg
from vaccel.rpc import messages
from vaccel.rpc.codec import INLINE, bulk, decode_message, mark
from vaccel.rpc.ttrpc import DEFAULT_LIMIT, Data

EMPTY_WRITE_ARGS = 0x1
"""Feature bit: write arguments may come with a size and no memory. 0.8 peers lack it."""


class Contents:
    """Bulk contents of a message that is being built."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.buffers: list[Any] = []

    def put(self, buf: Any, size: int) -> bytes:
        """What to write into the message for `buf`."""
        if size <= INLINE:
            return bytes(buf)
        self.sizes.append(size)
        self.buffers.append(buf)
        return mark(len(self.sizes) - 1)


def encode(args: Sequence[WireArg], contents: Contents, *, empty: bool = False) -> list[Any]:
    """Messages for `args`. `empty`: those without memory stay so, else they get zeros."""
    out = []
    for kind, size, buf, custom_type_id in args:
        if size > 0xFFFFFFFF:
            raise InvalidArgument(f"an argument of {size} bytes; the protocol allows 4 GiB - 1")
        if buf is None and not empty:
            buf = np.zeros(size, np.uint8)
        out.append(
            messages.Arg(
                buf=b"" if buf is None else contents.put(buf, size),
                size=size,
                arg_type=kind,
                custom_type_id=custom_type_id,
            )
        )
    return out


def decode(args: Sequence[Any], views: Sequence[memoryview]) -> list[WireArg]:
    """Arguments from messages; one with a size and no content has `buf` None."""
    out = []
    total = 0
    for arg in args:
        content = bulk(arg.buf, views)
        size = len(content)
        promised = arg.size & 0xFFFFFFFF  # some protobuf builds for ARM read a u32 as negative
        total += promised
        if total > DEFAULT_LIMIT:
            raise ResourceExhausted(
                f"arguments of {total} bytes together, the limit is {DEFAULT_LIMIT}"
            )
        if size == 0 and promised:
            out.append(WireArg(arg.arg_type, promised, None, arg.custom_type_id))
            continue
        if promised not in (0, size):
            raise InvalidArgument(
                f"an argument of size {promised} that carries {size} bytes: they must be equal"
            )
        out.append(WireArg(arg.arg_type, size, content, arg.custom_type_id))
    return out


def gather(parts: Sequence[Data]) -> tuple[int, list[WireArg], list[WireArg]]:
    """Session id, read and write arguments of a streamed Genop.

    Arguments in one piece come as usual; one in chunks comes as consecutive messages of one
    argument each, `part_no` 1 to `parts`.
    """
    session_id = 0
    lists: tuple[list[WireArg], list[WireArg]] = ([], [])
    partial: list[_Chunks | None] = [None, None]
    for part in parts:
        message, views = decode_message(messages.GenopRequest, part)
        session_id = message.session_id or session_id
        for which, args in enumerate((message.read_args, message.write_args)):
            for arg in args:
                if arg.parts:
                    chunks = partial[which] or _Chunks(arg)
                    partial[which] = chunks if not chunks.add(arg, views) else None
                    if partial[which] is None:
                        lists[which].append(chunks.whole())
                elif partial[which] is not None:
                    raise InvalidArgument("a new argument before the last part of the one before")
                else:
                    lists[which].extend(decode([arg], views))
    total = sum(arg.size for args in lists for arg in args)
    if total > DEFAULT_LIMIT:
        raise ResourceExhausted(f"arguments of {total} bytes, the limit is {DEFAULT_LIMIT}")
    if any(partial):
        raise InvalidArgument("the stream ended before the last part of an argument")
    return session_id, *lists


class _Chunks:
    """An argument that arrives in parts."""

    def __init__(self, first: Any) -> None:
        self._first = first
        self._whole = first.size & 0xFFFFFFFF
        self._chunks: list[Any] = []
        self._size = 0

    def add(self, arg: Any, views: Sequence[memoryview]) -> bool:
        """Take the next part; True if it is the last."""
        first = self._first
        wanted = (len(self._chunks) + 1, first.parts, self._whole, first.arg_type)
        found = (arg.part_no, arg.parts, arg.size & 0xFFFFFFFF, arg.arg_type)
        if found != wanted:
            raise InvalidArgument(
                f"part {wanted[0]} of {first.parts} of an argument: expected part, parts, size and "
                f"type {wanted}, found {found}"
            )
        content = bulk(arg.buf, views)
        self._size += len(content)
        self._chunks.append(content)
        if self._size > self._whole:
            raise InvalidArgument(
                f"parts of {self._size} bytes for an argument of size {self._whole}"
            )
        return bool(arg.part_no == first.parts)

    def whole(self) -> WireArg:
        first = self._first
        if self._size != self._whole:
            raise InvalidArgument(
                f"parts of {self._size} bytes for an argument of size {self._whole}"
            )
        # The one copy that a streamed argument costs: its parts lie in separate messages.
        memory = np.empty(self._whole, np.uint8).data
        at = 0
        for chunk in self._chunks:
            memory[at : at + len(chunk)] = chunk
            at += len(chunk)
        return WireArg(first.arg_type, self._whole, memory, first.custom_type_id)
