"""Endpoints → stream sockets: tcp, unix, vsock. A new transport is one row in `_TRANSPORTS`."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from vaccel.error import ConnectionFailed, InvalidArgument, ProtocolError
from vaccel.rpc import sockets

_U32_MAX = 2**32 - 1  # in vsock addresses this value means "any"


@dataclass(frozen=True)
class Endpoint:
    """A parsed endpoint; `str()` gives its canonical text."""

    scheme: str
    address: str
    """tcp: host name or IP address; unix: path or `@NAME`; vsock: CID or `any`."""
    port: int | None = None
    """0: any free one, when listening. unix: the port inside the guest, or None."""

    def __str__(self) -> str:
        return f"{self.scheme}://{_TRANSPORTS[self.scheme].show(self)}"


class Transport:
    """What one scheme adds to `parse`, `listen` and `connect`; those explain its OSErrors."""

    forms: ClassVar[str]
    """How its endpoints are written, as shown to users."""
    refused: ClassVar[tuple[int, ...]] = (errno.ECONNREFUSED,)
    """The errnos of a connection attempt that mean: nothing listens there."""

    def parse(self, text: str) -> tuple[str, int | None]:
        """Address and port from the text after `://`. ValueError says what is wrong."""
        raise NotImplementedError

    def show(self, endpoint: Endpoint) -> str:
        """The inverse of parse, in canonical form."""
        return f"{endpoint.address}:{endpoint.port}"

    def resolve(self, endpoint: Endpoint, listening: bool) -> list[tuple[int, Any]]:
        """(address family, what bind and connect take in it), the best first.

        InvalidArgument for an endpoint that is not for listening, or for connecting.
        """
        raise NotImplementedError

    def bind(self, sock: socket.socket, address: Any) -> None:
        """Bind a new socket to a resolved address."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)

    def release(self, endpoint: Endpoint) -> None:
        """Remove what bind left behind."""

    def greet(self, sock: socket.socket, endpoint: Endpoint, deadline: float | None) -> None:
        """What a fresh connection needs before it carries ttRPC."""

    def agent(self, endpoint: Endpoint) -> Endpoint:
        """Where an agent has to listen for clients of this endpoint."""
        return endpoint


class _Tcp(Transport):
    forms = "tcp://HOST:PORT, tcp://[IPV6]:PORT"

    def parse(self, text: str) -> tuple[str, int | None]:
        host, colon, port = text.rpartition(":")
        if not colon:
            raise ValueError("the port is missing")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError("an IPv6 address stands in brackets")
        if not host or not host.isprintable() or " " in host or "/" in host:
            raise ValueError(f"{host!r} is no host")
        return host, _number("port", port, 65535)

    def show(self, endpoint: Endpoint) -> str:
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        return f"{host}:{endpoint.port}"

    def resolve(self, endpoint: Endpoint, listening: bool) -> list[tuple[int, Any]]:
        try:
            found = socket.getaddrinfo(endpoint.address, endpoint.port, type=socket.SOCK_STREAM)
        except UnicodeError:  # the IDNA codec's way to reject a name
            raise socket.gaierror(socket.EAI_NONAME, "not a valid host name") from None
        return [(family, address) for family, _, _, _, address in found]


class _Unix(Transport):
    """A path, an abstract `@NAME`, or a VMM's socket that leads to a vsock port of its guest.

    For the last, "hybrid vsock", the client says `CONNECT port` and waits for `OK n`.
    """

    forms = "unix:///PATH, unix://@NAME, unix:///PATH?vsock=PORT"
    # Also: no such path; the VMM hangs up as no program in the guest listens on the port.
    refused = (errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET, errno.EPIPE)

    def parse(self, text: str) -> tuple[str, int | None]:
        path, question, option = text.partition("?")
        if not path.startswith(("/", "@")) or len(path) < 2 or "\0" in path:
            raise ValueError("a UNIX socket is an absolute path, or @ and a name")
        if len(os.fsencode(path)) > 107:
            raise ValueError("the path of a UNIX socket has at most 107 bytes")
        if not question:
            return path, None
        if not option.startswith("vsock="):
            raise ValueError(f"{option!r} is no option")
        return path, _number("vsock port", option[len("vsock=") :], _U32_MAX - 1)

    def show(self, endpoint: Endpoint) -> str:
        option = "" if endpoint.port is None else f"?vsock={endpoint.port}"
        return f"{endpoint.address}{option}"

    def resolve(self, endpoint: Endpoint, listening: bool) -> list[tuple[int, Any]]:
        path = endpoint.address
        if listening and endpoint.port is not None:
            raise InvalidArgument(
                f"{endpoint}: ?vsock= is for connecting into a guest; to be reached from the guest,"
                f" listen on unix://{path}_{endpoint.port}"
            )
        return [(socket.AF_UNIX, f"\0{path[1:]}" if path.startswith("@") else path)]

    def bind(self, sock: socket.socket, address: Any) -> None:
        try:
            sock.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not sockets.remove_stale(address):
                raise
            sock.bind(address)
        if not address.startswith("\0"):
            os.chmod(address, 0o600)  # nobody connects before listen(), so there is no gap

    def release(self, endpoint: Endpoint) -> None:
        with contextlib.suppress(FileNotFoundError):
            sockets.remove_stale(endpoint.address)

    def greet(self, sock: socket.socket, endpoint: Endpoint, deadline: float | None) -> None:
        if endpoint.port is None:
            return
        sock.sendall(b"CONNECT %d\n" % endpoint.port)
        answer = b""
        while not answer.endswith(b"\n") and len(answer) < 32:
            sock.settimeout(sockets.left(deadline))
            byte = sock.recv(1)  # one at a time: what follows the line belongs to ttRPC
            if not byte:
                raise ConnectionResetError(errno.ECONNRESET, "closed without an answer")
            answer += byte
        if not (answer.startswith(b"OK ") and answer.endswith(b"\n")):
            raise ProtocolError(
                f"{endpoint}: expected `OK <n>` after CONNECT, got {answer!r};"
                " the path must be the vsock socket of a virtual machine monitor"
            )

    def agent(self, endpoint: Endpoint) -> Endpoint:
        return endpoint if endpoint.port is None else Endpoint("vsock", "any", endpoint.port)


class _Vsock(Transport):
    forms = "vsock://CID:PORT, vsock://any:PORT"
    # A closed port shows as a time-out, or a reset, depending on who carries the bytes.
    refused = (errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT)

    def parse(self, text: str) -> tuple[str, int | None]:
        cid, _, port = text.partition(":")
        cid = "any" if cid in ("any", "-1") else str(_number("CID", cid, _U32_MAX - 1))
        return cid, _number("port", port, _U32_MAX - 1)

    def resolve(self, endpoint: Endpoint, listening: bool) -> list[tuple[int, Any]]:
        if not hasattr(socket, "AF_VSOCK"):
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        if endpoint.address == "any" and not listening:
            raise InvalidArgument(f"{endpoint} is for listening; a client needs its agent's CID")
        cid = _U32_MAX if endpoint.address == "any" else int(endpoint.address)
        return [(socket.AF_VSOCK, (cid, endpoint.port or _U32_MAX))]

    def agent(self, endpoint: Endpoint) -> Endpoint:
        return replace(endpoint, address="any")


_TRANSPORTS: dict[str, Transport] = {"tcp": _Tcp(), "unix": _Unix(), "vsock": _Vsock()}


def parse(text: str) -> Endpoint:
    """Raises InvalidArgument that shows the accepted forms."""
    scheme, separator, rest = text.partition("://")
    try:
        if not separator or scheme not in _TRANSPORTS:
            raise ValueError("the scheme is missing or unknown")
        return Endpoint(scheme, *_TRANSPORTS[scheme].parse(rest))
    except ValueError as error:
        forms = ", ".join(transport.forms for transport in _TRANSPORTS.values())
        raise InvalidArgument(f"endpoint {text!r}: {error}; write it as {forms}") from None


def listen(endpoint: Endpoint, backlog: int = 128) -> socket.socket:
    """A listening socket. Close it, then call `unlisten`.

    A UNIX socket file that nobody listens on is replaced; the new one is for its owner only.
    """
    transport = _TRANSPORTS[endpoint.scheme]

    def prepare(sock: socket.socket, address: Any, _: int) -> None:
        transport.bind(sock, address)
        sock.listen(backlog)

    try:
        return sockets.first(transport.resolve(endpoint, True), prepare)
    except OSError as error:
        raise sockets.explained(f"cannot listen on {endpoint}", error) from error


def bound(endpoint: Endpoint, sock: socket.socket) -> Endpoint:
    """The endpoint that `sock` listens on: port 0 becomes the port that the kernel chose."""
    return replace(endpoint, port=sock.getsockname()[1]) if endpoint.port == 0 else endpoint


def unlisten(endpoint: Endpoint) -> None:
    """Remove what a listening socket, now closed, leaves behind, unless somebody else uses it."""
    _TRANSPORTS[endpoint.scheme].release(endpoint)


def connect(
    endpoint: Endpoint, timeout: float | None = None, keepalive: float | None = None
) -> socket.socket:
    """A blocking socket, ready for ttRPC, within `timeout` seconds (name resolution not counted).

    `keepalive`: see `tune`. Raises ConnectionFailed, DeadlineExceeded, PermissionDenied,
    NotSupported, or ProtocolError.
    """
    if endpoint.port == 0:
        raise InvalidArgument(f"{endpoint} is for listening; a client needs its agent's port")
    transport = _TRANSPORTS[endpoint.scheme]
    deadline = None if timeout is None else time.monotonic() + timeout

    def prepare(sock: socket.socket, address: Any, untried: int) -> None:
        # A share of the time for each address: a silent one must not starve the next.
        now = time.monotonic()
        until = None if deadline is None else now + (deadline - now) / untried
        sockets.dial(sock, address, until)
        tune(sock, keepalive)
        transport.greet(sock, endpoint, until)
        sock.settimeout(None)

    try:
        return sockets.first(transport.resolve(endpoint, False), prepare, transport.refused)
    except OSError as error:
        what = f"cannot connect to {endpoint}"
        if sockets.code(error) in transport.refused:
            raise ConnectionFailed(
                f"{what}: nothing listens there ({sockets.words(error)});"
                f" start an agent there with `vaccelrt-agent -a {transport.agent(endpoint)}`"
            ) from error
        raise sockets.explained(what, error, otherwise=ConnectionFailed) from error


def tune(sock: socket.socket, keepalive: float | None = None) -> None:
    """Options of a connected socket, for both ends; those that accept() gave included.

    A TCP peer that is silent, or acknowledges or takes nothing of what was sent, for `keepalive`
    seconds (whole, at least 3) counts as lost; None: never. UNIX and vsock sockets have no such
    option.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if keepalive is not None:
        seconds = max(3, round(keepalive))
        pause = max(1, seconds // 6)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, pause)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds - 2 * pause)
        # Probes rest while sent data is unacknowledged; this limit does not. The kernel takes it
        # for the probes' limit, too, in the place of their number.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, seconds * 1000)


def _number(name: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > most:
        raise ValueError(f"{name} {text!r} is not a number from 0 to {most}")
    return int(text)
