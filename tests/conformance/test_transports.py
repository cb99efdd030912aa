"""Every transport keeps what `check_transport` asks of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import abstract
from vaccel.error import FFIError
from vaccel.rpc import address
from vaccel.testing import check_transport


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_tcp(host: str) -> None:
    check_transport(f"tcp://{host}:0")


def test_unix_path(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    check_transport(f"unix://{path}")
    assert not path.exists()


def test_unix_abstract_name() -> None:
    check_transport(abstract("conformance"))


def test_an_endpoint_may_come_from_a_function(tmp_path: Path) -> None:
    check_transport(lambda: f"unix://{tmp_path}/s", connections=2, large=1 << 10)


def test_hybrid_vsock(tmp_path: Path) -> None:
    """Host to guest: the monitor's socket leads to an agent on port 1024 in the guest."""
    monitor = tmp_path / "v.sock"
    with Monitor(monitor, guest=tmp_path / "guest.sock"):
        check_transport(
            f"unix://{tmp_path}/guest.sock", connect=lambda _: f"unix://{monitor}?vsock=1024"
        )


def test_guest_to_host_vsock(tmp_path: Path) -> None:
    """Guest to host: the agent listens on the path that stands for its port."""
    check_transport(f"unix://{tmp_path}/v.sock_1024")


def test_vsock_loopback() -> None:
    reason = vsock_obstacle()
    if reason:
        pytest.skip(f"NO VSOCK LOOPBACK ON THIS KERNEL, vsock:// stays untested: {reason}")
    check_transport("vsock://any:10240", connect=lambda _: "vsock://1:10240")


def vsock_obstacle() -> str:
    endpoint = address.parse("vsock://any:10239")
    try:
        with contextlib.closing(address.listen(endpoint)):
            address.connect(address.parse("vsock://1:10239"), 1.0).close()
    except FFIError as exc:
        return exc.message
    return ""


class Monitor:
    """A virtual machine monitor's vsock socket: answers CONNECT and carries bytes to the guest."""

    def __init__(self, path: Path, guest: Path) -> None:
        self._guest = str(guest)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._acceptor = threading.Thread(target=self._accept)
        self._carriers: list[threading.Thread] = []

    def __enter__(self) -> Monitor:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for carrier in self._carriers:
            carrier.join()

    def _accept(self) -> None:
        while True:
            try:
                host, _ = self._listener.accept()
            except OSError:  # shut down
                return
            carrier = threading.Thread(target=self._carry, args=(host,))
            carrier.start()
            self._carriers.append(carrier)

    def _carry(self, host: socket.socket) -> None:
        with contextlib.closing(host), socket.socket(socket.AF_UNIX) as guest:
            with host.makefile("rb", buffering=0) as file:
                if file.readline() != b"CONNECT 1024\n":
                    return
            try:
                guest.connect(self._guest)
            except OSError:  # nobody listens in the guest: the monitor hangs up
                return
            host.sendall(b"OK 5\n")
            back = threading.Thread(target=pump, args=(guest, host))
            back.start()
            pump(host, guest)
            back.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes until one side ends, then end both."""
    with contextlib.suppress(OSError):
        for data in chunks(source):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def chunks(source: socket.socket) -> Iterator[bytes]:
    while data := source.recv(1 << 16):
        yield data
