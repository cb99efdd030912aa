"""What a remote call says on the wire, byte for byte: a relay that records."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import vaccel


class Exchange(NamedTuple):
    request: bytes
    response: bytes


def record(endpoint: str, call: Callable[[vaccel.Session], object]) -> Exchange:
    """The frames of the second `call` on a session of the agent at `endpoint`.

    The second: what is learned in the first one is known by then.
    """
    said: tuple[bytearray, bytearray] = (bytearray(), bytearray())
    with _relay(endpoint, said) as relayed, vaccel.Session(endpoint=relayed) as session:
        call(session)
        said[0].clear()
        said[1].clear()
        call(session)
        return Exchange(bytes(said[0]), bytes(said[1]))


def opening(endpoint: str) -> Exchange:
    """The frames with which a session at the agent at `endpoint` is opened."""
    said: tuple[bytearray, bytearray] = (bytearray(), bytearray())
    with _relay(endpoint, said) as relayed, vaccel.Session(endpoint=relayed):
        return Exchange(bytes(said[0]), bytes(said[1]))


@contextmanager
def _relay(endpoint: str, said: tuple[bytearray, bytearray]) -> Iterator[str]:
    parts = urlsplit(endpoint)
    if parts.scheme != "tcp" or parts.port is None:
        raise ValueError(f"expected a tcp endpoint with a port, found {endpoint}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_run, args=(server, (parts.hostname, parts.port), said))
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _run(
    server: socket.socket, target: tuple[str | None, int], said: tuple[bytearray, bytearray]
) -> None:
    try:
        near, _ = server.accept()
    except OSError:  # shut down before anybody came
        return
    with near, socket.create_connection(target) as far, selectors.DefaultSelector() as ready:
        ready.register(near, selectors.EVENT_READ, (near, far, said[0]))
        ready.register(far, selectors.EVENT_READ, (far, near, said[1]))
        while True:
            for key, _ in ready.select():
                source, sink, record = key.data
                data = source.recv(65536)
                if not data:
                    return
                record += data  # before it goes on: who has the answer finds all of it here
                sink.sendall(data)
