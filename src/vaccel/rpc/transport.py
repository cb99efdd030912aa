"""Moving frames through a socket."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from vaccel.rpc.ttrpc import Connection, Event

RECEIVE_SIZE = 64 << 10
# Below this, one copy into one buffer is cheaper than a scatter-gather list.
_JOIN_BELOW = 32 << 10
_IOV_MAX = 512


def receive(sock: socket.socket, connection: Connection) -> list[Event] | None:
    """Wait for bytes; the events they complete, or None at the end of the stream."""
    if connection.reader.large is not None:
        count = sock.recv_into(connection.reader.space())
        return connection.filled(count) if count else None
    data = sock.recv(RECEIVE_SIZE)
    return connection.receive(data) if data else None


def send(sock: socket.socket, length: int, buffers: Sequence[Any]) -> None:
    """Send a frame of `length` data bytes, given as buffers, without joining large ones."""
    if length <= _JOIN_BELOW:
        sock.sendall(b"".join(buffers))
        return
    views = [view for view in map(_flat, buffers) if view.nbytes]
    while views:
        sent = sock.sendmsg(views[:_IOV_MAX])
        done = 0
        while done < len(views) and sent >= views[done].nbytes:
            sent -= views[done].nbytes
            done += 1
        views = views[done:]
        if sent:
            views[0] = views[0][sent:]


def _flat(buffer: Any) -> memoryview:
    view = memoryview(buffer)
    # An empty array has a zero in its shape, which cast refuses.
    return view.cast("B") if view.nbytes else memoryview(b"")
