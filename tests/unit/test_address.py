"""Endpoints and the sockets they become, over real sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.processes import abstract
from vaccel.config import DEFAULT_ENDPOINT
from vaccel.error import (
    ConnectionFailed,
    DeadlineExceeded,
    FFIError,
    InvalidArgument,
    NotSupported,
    PermissionDenied,
    ProtocolError,
)
from vaccel.rpc.address import (
    Endpoint,
    bound,
    connect,
    listen,
    parse,
    tune,
    unlisten,
)

PATIENCE = 20.0  # seconds; only a broken build waits so long


@contextlib.contextmanager
def listening(text: str, backlog: int = 8) -> Iterator[tuple[Endpoint, socket.socket]]:
    endpoint = parse(text)
    with listen(endpoint, backlog) as listener:
        listener.settimeout(PATIENCE)
        yield bound(endpoint, listener), listener
    unlisten(endpoint)


@contextlib.contextmanager
def answering(path: Path, talk: Callable[[socket.socket], None]) -> Iterator[None]:
    """A virtual machine monitor's vsock socket at `path`: `talk` serves its one connection."""
    with listening(f"unix://{path}") as (_, listener):

        def serve() -> None:
            with listener.accept()[0] as peer:
                peer.settimeout(PATIENCE)
                talk(peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join()


def read_line(peer: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += peer.recv(1)
    return line


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("tcp://127.0.0.1:65500", Endpoint("tcp", "127.0.0.1", 65500)),
        ("tcp://board.lan:0", Endpoint("tcp", "board.lan", 0)),
        ("tcp://[::1]:8192", Endpoint("tcp", "::1", 8192)),
        ("unix:///run/vaccel.sock", Endpoint("unix", "/run/vaccel.sock")),
        ("unix://@vaccel", Endpoint("unix", "@vaccel")),
        ("unix:///run/v.sock?vsock=2048", Endpoint("unix", "/run/v.sock", 2048)),
        ("vsock://2:2048", Endpoint("vsock", "2", 2048)),
        ("vsock://any:2048", Endpoint("vsock", "any", 2048)),
    ],
)
def test_endpoint_is_parsed_and_printed_in_canonical_form(text: str, endpoint: Endpoint) -> None:
    assert parse(text) == endpoint
    assert str(endpoint) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("vsock://-1:2048", "vsock://any:2048"),
        ("tcp://h:0080", "tcp://h:80"),
        (DEFAULT_ENDPOINT, "tcp://127.0.0.1:65500"),
    ],
)
def test_other_spellings_become_canonical(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "scheme"),
        ("board:8192", "scheme"),
        ("http://board:8192", "scheme"),
        ("tcp://board", "port is missing"),
        ("tcp://:8192", "no host"),
        ("tcp://a b:8192", "no host"),
        ("tcp://board:65536", "port '65536' is not a number from 0 to 65535"),
        ("tcp://board:-1", "port"),
        ("tcp://board:\u0661", "port"),
        ("tcp://board:8192/", "port"),
        ("tcp://::1:8192", "brackets"),
        ("unix://relative", "absolute"),
        ("unix://@", "absolute"),
        ("unix:///" + "x" * 107, "107 bytes"),
        ("unix:///\u00e9" + "x" * 105, "107 bytes"),
        ("unix:///run/v.sock?port=1", "'port=1' is no option"),
        ("unix:///run/v.sock?vsock=4294967295", "vsock port"),
        ("vsock://host:1", "CID"),
        ("vsock://3", "port"),
    ],
)
def test_malformed_endpoint_says_why_and_shows_every_form(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert reason in str(caught.value)
    assert repr(text) in str(caught.value)
    for form in ("tcp://HOST:PORT", "unix:///PATH", "unix://@NAME", "?vsock=PORT", "vsock://CID:"):
        assert form in str(caught.value)


@given(st.tuples(st.sampled_from(["tcp://", "unix:///", "unix://@", "vsock://", ""]), st.text()))
def test_any_text_parses_to_a_fixed_point_or_is_an_invalid_argument(parts: tuple[str, str]) -> None:
    try:
        endpoint = parse("".join(parts))
    except InvalidArgument:
        return
    assert parse(str(endpoint)) == endpoint


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:0", "tcp://[::1]:0", "unix", "abstract"])
def test_bytes_pass_both_ways_over_blocking_sockets(text: str, tmp_path: Path) -> None:
    named = {"unix": f"unix://{tmp_path}/s", "abstract": abstract("test")}
    with (
        listening(named.get(text, text)) as (endpoint, listener),
        connect(endpoint, timeout=PATIENCE, keepalive=60) as client,
        listener.accept()[0] as server,
    ):
        assert parse(str(endpoint)) == endpoint
        tune(server, keepalive=60)
        for sock in (client, server):
            assert sock.gettimeout() is None
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                assert not any(sock.getsockopt(socket.SOL_SOCKET, option, 16))
        client.sendall(b"ping")
        assert server.recv(4, socket.MSG_WAITALL) == b"ping"
        server.sendall(b"pong")
        assert client.recv(4, socket.MSG_WAITALL) == b"pong"


def test_kernel_chosen_port_stands_in_the_bound_endpoint() -> None:
    with listening("tcp://127.0.0.1:0") as (endpoint, listener):
        assert endpoint == Endpoint("tcp", "127.0.0.1", listener.getsockname()[1])
        assert bound(endpoint, listener) is endpoint


def test_tcp_sends_at_once_and_notices_a_dead_peer_at_both_ends() -> None:
    def options(sock: socket.socket) -> dict[str, int]:
        names = ("NODELAY", "KEEPIDLE", "KEEPINTVL", "KEEPCNT", "USER_TIMEOUT")
        found = {
            name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}"))
            for name in names
        }
        found["KEEPALIVE"] = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        return found

    with (
        listening("tcp://127.0.0.1:0") as (endpoint, listener),
        connect(endpoint, PATIENCE, keepalive=60) as client,
        listener.accept()[0] as server,
        connect(endpoint, PATIENCE) as plain,
    ):
        tune(server, keepalive=60)
        for sock in (client, server):
            found = options(sock)
            assert found["NODELAY"]
            assert found["KEEPALIVE"]
            assert found["KEEPIDLE"] + found["KEEPINTVL"] * found["KEEPCNT"] == 60
            assert found["USER_TIMEOUT"] == 60_000
        assert options(plain)["NODELAY"]
        assert not options(plain)["KEEPALIVE"]
        tune(plain, keepalive=0.1)  # shorter than the kernel can count: the shortest it can
        assert options(plain)["USER_TIMEOUT"] == 3_000


def closed_port() -> Endpoint:
    with listening("tcp://127.0.0.1:0") as (endpoint, _):
        return endpoint


def test_refused_names_the_endpoint_and_the_command_that_starts_an_agent() -> None:
    endpoint = closed_port()
    with pytest.raises(ConnectionFailed) as caught:
        connect(endpoint, PATIENCE)
    assert f"connect to {endpoint}: nothing listens" in str(caught.value)
    assert f"`vaccelrt-agent -a {endpoint}`" in str(caught.value)


def test_failed_connection_leaves_no_descriptor_open() -> None:
    endpoint = closed_port()
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(ConnectionFailed):
            connect(endpoint, PATIENCE)
    assert os.listdir("/proc/self/fd") == before


def resolving_to(monkeypatch: pytest.MonkeyPatch, *endpoints: Endpoint) -> None:
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (endpoint.address, endpoint.port))
        for endpoint in endpoints
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_every_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening("tcp://127.0.0.1:0") as (endpoint, _):
        resolving_to(monkeypatch, closed_port(), endpoint)
        with connect(Endpoint("tcp", "board", 1), PATIENCE) as client:
            assert client.getpeername()[1] == endpoint.port


def fill_backlog(listener: socket.socket, stack: contextlib.ExitStack) -> None:
    """Connect to a `listen(backlog=0)` socket until it takes no more."""
    for _ in range(3):
        filler = stack.enter_context(socket.socket(listener.family, socket.SOCK_STREAM))
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_peer_that_accepts_nothing_exceeds_the_deadline(scheme: str, tmp_path: Path) -> None:
    text = {"tcp": "tcp://127.0.0.1:0", "unix": f"unix://{tmp_path}/s"}[scheme]
    with listening(text, backlog=0) as (endpoint, listener), contextlib.ExitStack() as stack:
        fill_backlog(listener, stack)
        with pytest.raises(DeadlineExceeded, match="timed out") as caught:
            connect(endpoint, timeout=0.1)
    assert str(endpoint) in str(caught.value)


def test_silent_address_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        listening("tcp://127.0.0.1:0", backlog=0) as (silent, full),
        listening("tcp://127.0.0.1:0") as (endpoint, _),
        contextlib.ExitStack() as stack,
    ):
        fill_backlog(full, stack)
        resolving_to(monkeypatch, silent, endpoint)
        with connect(Endpoint("tcp", "board", 1), timeout=1) as client:
            assert client.getpeername()[1] == endpoint.port


def test_unix_client_waits_for_room_in_a_full_backlog(tmp_path: Path) -> None:
    with (
        listening(f"unix://{tmp_path}/s", backlog=0) as (endpoint, listener),
        contextlib.ExitStack() as stack,
    ):
        fill_backlog(listener, stack)
        opened: list[socket.socket] = []
        client = threading.Thread(target=lambda: opened.append(connect(endpoint, PATIENCE)))
        client.start()
        stack.enter_context(listener.accept()[0])
        client.join()
        assert len(opened) == 1
        opened[0].close()


def test_spent_time_is_a_deadline_exceeded() -> None:
    with (
        listening("tcp://127.0.0.1:0") as (endpoint, _),
        pytest.raises(DeadlineExceeded),
    ):
        connect(endpoint, timeout=0)


def test_host_that_is_no_name_does_not_resolve() -> None:
    with pytest.raises(
        ConnectionFailed, match=r"tcp://a\.\.b:1: not a valid host name; check the host name"
    ):
        connect(parse("tcp://a..b:1"), PATIENCE)
    with pytest.raises(ConnectionFailed, match="check the host name"):
        listen(parse("tcp://a..b:1"))


@pytest.mark.parametrize(
    ("code", "cls", "reason"),
    [
        (errno.EACCES, PermissionDenied, "mode of the socket"),
        (errno.EPERM, PermissionDenied, "sandbox"),
        (errno.ENETUNREACH, ConnectionFailed, "this machine's network"),
        (errno.EHOSTUNREACH, ConnectionFailed, "this machine's network"),
        (errno.ETIMEDOUT, DeadlineExceeded, "firewalls"),
        (errno.ENODEV, NotSupported, "kernel module"),
        (errno.ENOBUFS, ConnectionFailed, os.strerror(errno.ENOBUFS)),
    ],
)
def test_each_failure_of_the_system_has_its_class_and_advice(
    monkeypatch: pytest.MonkeyPatch, code: int, cls: type[FFIError], reason: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(socket.socket, "connect", fail)
    with pytest.raises(cls, match=reason) as caught:
        connect(parse(DEFAULT_ENDPOINT), PATIENCE)
    assert str(caught.value).startswith(f"cannot connect to {DEFAULT_ENDPOINT}: ")


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:0", "vsock://any:2048", "vsock://2:0"])
def test_endpoint_that_names_no_peer_cannot_be_connected_to(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is for listening"):
        connect(parse(text), PATIENCE)


def test_host_may_be_called_any(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening("tcp://127.0.0.1:0") as (endpoint, _):
        resolving_to(monkeypatch, endpoint)
        connect(parse("tcp://any:1"), PATIENCE).close()


def test_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(FFIError, match=r"0\.0\.0\.0 or \[::\]") as caught:
        listen(parse("tcp://198.51.100.1:0"))  # a documentation address, nobody's
    assert caught.value.code == errno.EADDRNOTAVAIL


def test_taken_tcp_port_is_in_use() -> None:
    with (
        listening("tcp://127.0.0.1:0") as (endpoint, _),
        pytest.raises(
            FFIError, match=f"cannot listen on {endpoint}: Address already in use"
        ) as caught,
    ):
        listen(endpoint)
    assert caught.value.code == errno.EADDRINUSE


def test_unix_socket_file_is_private_and_goes_with_its_listener(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening(f"unix://{path}"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()
    unlisten(parse(f"unix://{path}"))  # a second time is no error


def test_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    listen(parse(f"unix://{tmp_path}/s")).close()
    assert (tmp_path / "s").exists()
    with listening(f"unix://{tmp_path}/s") as (endpoint, _), connect(endpoint, PATIENCE):
        pass


@pytest.mark.parametrize("backlog", [0, 8])
def test_unix_socket_in_use_is_left_alone(tmp_path: Path, backlog: int) -> None:
    with (
        listening(f"unix://{tmp_path}/s", backlog) as (endpoint, listener),
        contextlib.ExitStack() as stack,
    ):
        if backlog == 0:
            fill_backlog(listener, stack)
        with pytest.raises(FFIError, match="Address already in use") as caught:
            listen(endpoint)
        assert caught.value.code == errno.EADDRINUSE
        unlisten(endpoint)
        assert (tmp_path / "s").exists()


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    endpoint = parse(f"unix://{tmp_path}/s")
    with pytest.raises(FFIError, match="Address already in use"):
        listen(endpoint)
    unlisten(endpoint)
    assert (tmp_path / "s").read_text() == "precious"


def test_missing_unix_socket_names_path_and_command(tmp_path: Path) -> None:
    endpoint = parse(f"unix://{tmp_path}/none")
    with pytest.raises(
        ConnectionFailed,
        match=f"nothing listens there .No such file.*vaccelrt-agent -a {endpoint}`",
    ):
        connect(endpoint, PATIENCE)
    with pytest.raises(FFIError, match="No such file") as caught:
        listen(parse(f"unix://{tmp_path}/no-folder/s"))
    assert caught.value.code == errno.ENOENT


def test_hybrid_vsock_is_greeted_and_its_later_bytes_are_kept(tmp_path: Path) -> None:
    lines: list[bytes] = []

    def talk(peer: socket.socket) -> None:
        lines.append(read_line(peer))
        peer.sendall(b"OK 1073741824\nfirst bytes")

    with (
        answering(tmp_path / "v", talk),
        connect(parse(f"unix://{tmp_path}/v?vsock=2048"), PATIENCE) as client,
    ):
        assert client.gettimeout() is None
        assert client.recv(11, socket.MSG_WAITALL) == b"first bytes"
    assert lines == [b"CONNECT 2048\n"]


def test_closed_hybrid_vsock_port_is_refused(tmp_path: Path) -> None:
    with (
        answering(tmp_path / "v", lambda _: None),
        pytest.raises(ConnectionFailed, match="vaccelrt-agent -a vsock://any:2048`"),
    ):
        connect(parse(f"unix://{tmp_path}/v?vsock=2048"), PATIENCE)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\n", b"OK" * 1000, b"OK\n"])
def test_hybrid_vsock_peer_of_another_kind_is_a_protocol_error(
    tmp_path: Path, answer: bytes
) -> None:
    def talk(peer: socket.socket) -> None:
        read_line(peer)
        peer.sendall(answer)

    with (
        answering(tmp_path / "v", talk),
        pytest.raises(ProtocolError, match="expected `OK <n>`"),
    ):
        connect(parse(f"unix://{tmp_path}/v?vsock=2048"), PATIENCE)


def test_hybrid_vsock_peer_that_never_answers_exceeds_the_deadline(tmp_path: Path) -> None:
    with (
        listening(f"unix://{tmp_path}/v"),
        pytest.raises(DeadlineExceeded, match="timed out"),
    ):
        connect(parse(f"unix://{tmp_path}/v?vsock=2048"), timeout=0.1)


def test_hybrid_vsock_is_not_listened_on(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=f"listen on unix://{tmp_path}/v_2048"):
        listen(parse(f"unix://{tmp_path}/v?vsock=2048"))


def test_python_without_vsock_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_VSOCK", raising=False)
    with pytest.raises(NotSupported, match=r"connect to vsock://2:2048: .*kernel module"):
        connect(parse("vsock://2:2048"), PATIENCE)
    with pytest.raises(NotSupported, match="kernel module"):
        listen(parse("vsock://any:2048"))


def vsock_listener() -> contextlib.AbstractContextManager[tuple[Endpoint, socket.socket]]:
    try:
        with listening("vsock://any:0"):
            return listening("vsock://any:0")
    except NotSupported as error:
        pytest.skip(f"no vsock on this machine: {error}")


def test_vsock_time_out_reads_as_refused() -> None:
    with vsock_listener() as (endpoint, _):
        pass
    with pytest.raises(ConnectionFailed, match="nothing listens there") as caught:
        connect(Endpoint("vsock", "1", endpoint.port), timeout=0.1)
    assert f"`vaccelrt-agent -a vsock://any:{endpoint.port}`" in str(caught.value)


def test_vsock_carries_bytes() -> None:
    with vsock_listener() as (endpoint, listener):
        assert endpoint.port
        try:
            client = connect(Endpoint("vsock", "1", endpoint.port), timeout=0.5)
        except (ConnectionFailed, NotSupported) as error:
            pytest.skip(f"no vsock loopback on this machine: {error}")
        with client, listener.accept()[0] as server:
            client.sendall(b"ping")
            assert server.recv(4, socket.MSG_WAITALL) == b"ping"
