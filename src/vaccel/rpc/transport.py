"""Moving frames through a socket."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from vaccel.error import InvalidArgument
from vaccel.rpc.ttrpc import Connection, Event

RECEIVE_SIZE = 64 << 10
# Below this, one copy into one buffer is cheaper than a scatter-gather list.
_JOIN_BELOW = 32 << 10
_IOV_MAX = 512
# Where time has more bits than the processor, the options that take such have numbers of their own.
_TIMEVAL = struct.Struct("@qq" if socket.SO_RCVTIMEO == 66 else "@ll")


def limit(sock: socket.socket, option: int, seconds: float) -> None:
    """How long receiving (SO_RCVTIMEO), or sending, may wait; BlockingIOError after that; 0 is no
    limit."""
    microseconds = int(seconds % 1 * 1e6) or int(0 < seconds < 1)
    value = _TIMEVAL.pack(int(seconds), microseconds)
    sock.setsockopt(socket.SOL_SOCKET, option, value)


def receive(sock: socket.socket, connection: Connection) -> list[Event] | None:
    """Wait for bytes; the events they complete, or None at the end of the stream."""
    if connection.reader.large is not None:
        count = sock.recv_into(connection.reader.space())
        return connection.filled(count) if count else None
    data = sock.recv(RECEIVE_SIZE)
    return connection.receive(data) if data else None


class FileSlice(NamedTuple):
    """Bytes of a file, in the place of a buffer: sent without a way through our memory."""

    file: int
    offset: int
    size: int


def send(sock: socket.socket, length: int, buffers: Sequence[Any]) -> None:
    """Send a frame of `length` data bytes, given as buffers, without joining large ones.

    InvalidArgument: a file has become shorter; the frame was completed with zeros.
    """
    if length <= _JOIN_BELOW:
        sock.sendall(b"".join(buffers))
        return
    views: list[memoryview] = []
    missing = 0
    for buffer in buffers:
        if isinstance(buffer, FileSlice):
            _send_views(sock, views, socket.MSG_MORE)
            views = []
            missing += _send_file(sock, buffer)
        else:
            views.append(_flat(buffer))
    _send_views(sock, views)
    if missing:
        raise InvalidArgument(f"a file has lost {missing} bytes while it was sent")


def _send_views(sock: socket.socket, views: list[memoryview], flags: int = 0) -> None:
    views = [view for view in views if view.nbytes]
    while views:
        sent = sock.sendmsg(views[:_IOV_MAX], (), flags)
        done = 0
        while done < len(views) and sent >= views[done].nbytes:
            sent -= views[done].nbytes
            done += 1
        views = views[done:]
        if sent:
            views[0] = views[0][sent:]


def _send_file(sock: socket.socket, part: FileSlice) -> int:
    """Send the bytes of `part`; how many the file lacks, for which zeros are sent."""
    at, end = part.offset, part.offset + part.size
    while at < end:
        sent = os.sendfile(sock.fileno(), part.file, at, end - at)
        if not sent:
            # Part of a frame is out, and the connection is to go on.
            _send_views(sock, [memoryview(bytes(end - at))])
            break
        at += sent
    return end - at


def _flat(buffer: Any) -> memoryview:
    view = memoryview(buffer)
    # An empty array has a zero in its shape, which cast refuses.
    return view.cast("B") if view.nbytes else memoryview(b"")
