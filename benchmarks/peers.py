"""Raw sockets: the least that moving the same bytes between two Python processes costs.

`python peers.py echo|bulk|save` serves connections on loopback, one after the other, and prints its
port. The client ends are functions of this module.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

BULK_ELEMENTS = 16 << 20
"""float32 elements of each operand of a bulk call: 64 MiB."""
BULK_BYTES = 4 * BULK_ELEMENTS
SAVE_BYTES = 512 << 20

Bytes = npt.NDArray[np.uint8]


def echo(sock: socket.socket, message: bytes) -> bytes:
    """Send `message`, wait for as many bytes."""
    sock.sendall(message)
    answer = sock.recv(65536)
    while len(answer) < len(message):
        answer += sock.recv(65536)
    return answer


def bulk(sock: socket.socket, a: Bytes, b: Bytes) -> Bytes:
    """Send both, wait for as many bytes as one has."""
    sock.sendall(a.data)
    sock.sendall(b.data)
    return _receive(sock, BULK_BYTES)


def _receive(sock: socket.socket, size: int) -> Bytes:
    """Into new memory: a receiver that hands out what it received has no old memory to reuse."""
    memory = np.empty(size, np.uint8)
    view = memory.data
    while view.nbytes:
        count = sock.recv_into(view)
        if not count:
            raise ConnectionError("the peer has ended the connection")
        view = view[count:]
    return memory


def _serve_echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def _serve_bulk(sock: socket.socket) -> None:
    while True:
        sock.sendall(_receive(sock, 2 * BULK_BYTES)[:BULK_BYTES].data)


def _serve_save(sock: socket.socket) -> None:
    """Into a file on disk, as an agent does; a byte says that all is there."""
    left = SAVE_BYTES
    memory = memoryview(bytearray(1 << 20))
    with tempfile.TemporaryFile(dir=os.environ.get("TMPDIR", "/var/tmp"), buffering=0) as file:
        while left:
            count = sock.recv_into(memory)
            if not count:
                return
            file.write(memory[:count])
            left -= count
        sock.sendall(b".")
        sock.close()  # freeing the file takes its time, too


_SERVE: dict[str, Callable[[socket.socket], None]] = {
    "echo": _serve_echo,
    "bulk": _serve_bulk,
    "save": _serve_save,
}


def main(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(f"listening on {server.getsockname()[1]}", flush=True)
        while True:
            sock, _ = server.accept()
            with sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    _SERVE[kind](sock)
                except ConnectionError:
                    continue  # this client has gone; the next one may come


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(130)
