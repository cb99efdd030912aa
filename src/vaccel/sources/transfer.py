"""HTTP: one answer, after redirects, within limits."""

from __future__ import annotations

import functools
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from vaccel._version import __version__
from vaccel.error import (
    ConnectionFailed,
    ConnectionLost,
    DeadlineExceeded,
    FFIError,
    NotFound,
    PermissionDenied,
    ProtocolError,
)
from vaccel.sources import urls
from vaccel.sources.urls import Prefixes, Url
from vaccel.sources.watch import Watch

_POLL = 0.05
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class UrlLimits:
    """`size`: bytes of the file. `silence`: seconds without a byte, or until connected. `total`:
    seconds in all. `redirects` of one answer; `attempts` at a transfer that breaks off."""

    size: int = 16 << 30
    silence: float = 30.0
    total: float = 3600.0
    redirects: int = 10
    attempts: int = 5


class _Connection(http.client.HTTPConnection):
    """Looks at the other end before anything is sent there."""

    connected: Callable[[Any], None]

    def connect(self) -> None:
        super().connect()
        self.connected(self.sock)


class _TlsConnection(http.client.HTTPSConnection, _Connection):
    """HTTPSConnection.connect asks _Connection's, and wraps the socket then."""


class _Handler(urllib.request.AbstractHTTPHandler):
    def __init__(self, connected: Callable[[Any, bool], None]) -> None:
        super().__init__()
        self._seen = connected

    http_request = urllib.request.AbstractHTTPHandler.do_request_
    https_request = urllib.request.AbstractHTTPHandler.do_request_

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self._open(_Connection, request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self._open(_TlsConnection, request)

    def _open(self, kind: Any, request: urllib.request.Request) -> http.client.HTTPResponse:
        # The other end of a connection through a proxy is the proxy.
        direct = not (request.has_proxy() or getattr(request, "_tunnel_host", None))

        def connection(host: str, **options: Any) -> _Connection:
            made: _Connection = kind(host, **options)
            made.connected = functools.partial(self._seen, direct)
            return made

        return self.do_open(connection, request)


class Transfer:
    """Asks for one URL, once or several times; `allow` holds for each redirect."""

    def __init__(self, url: Url, limits: UrlLimits, watch: Watch, allow: Prefixes | None) -> None:
        self._url = url
        self._limits = limits
        self._watch = watch
        self._allow = allow
        self._now = url
        self._first = ""
        # Neither urllib's redirects nor its other schemes (file:, ftp:, data:).
        self._opener = urllib.request.OpenerDirector()
        self._opener.add_handler(urllib.request.ProxyHandler())
        self._opener.add_handler(_Handler(self._connected))
        self._opener.addheaders = [("User-Agent", f"vaccel/{__version__}")]

    def get(self, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """The first answer that is no redirect, whatever its status. To be closed."""
        self._now, self._first = self._url, ""
        for _ in range(self._limits.redirects + 1):
            if self._allow is not None:
                self._allow.check(self._now)
            response = self._answer(headers)
            if response.status not in _REDIRECTS:
                return response
            response.close()
            self._now = urls.redirected(self._now, response.headers.get("Location"))
        raise ProtocolError(
            f"{self._url}: expected at most {self._limits.redirects} redirects, found more; the "
            f"last leads to {self._now}"
        )

    def _answer(self, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        request = urllib.request.Request(
            self._now.text, headers={"Accept-Encoding": "identity", **headers}
        )
        seconds = min(self._limits.silence, self._watch.left())
        try:
            self.check_time()
            # Without urllib's error processor this is what the handler gives.
            return cast(http.client.HTTPResponse, self._opener.open(request, timeout=seconds))
        except FFIError:
            raise
        except (OSError, http.client.HTTPException, UnicodeError) as exc:  # of a host's name
            self.check_time()
            raise self._unanswered(exc) from None

    def check_time(self) -> None:
        if self._watch.expired or not self._watch.left():
            raise DeadlineExceeded(
                f"{self._url}: expected it within {round(self._watch.seconds, 2):g} s, "
                "found it unfinished"
            )

    def _unanswered(self, exc: Exception) -> FFIError:
        reason = getattr(exc, "reason", None) or exc
        if isinstance(reason, TimeoutError):
            return DeadlineExceeded(
                f"{self._now}: no answer for {self._limits.silence:g} s; try again later"
            )
        if isinstance(reason, ssl.SSLError):
            return ConnectionFailed(
                f"{self._now}: no trust in the server: {reason}; SSL_CERT_FILE names certificates "
                "to trust"
            )
        if isinstance(reason, http.client.HTTPException) and not isinstance(reason, OSError):
            return ProtocolError(f"{self._now}: expected HTTP, found {reason!r:.200}")
        kind = ConnectionLost if isinstance(reason, ConnectionResetError) else ConnectionFailed
        return kind(
            f"{self._now} cannot be reached: {reason}; check the address, the network, and "
            "http_proxy, https_proxy and no_proxy"
        )

    def wait(self) -> None:
        """Until something else may have come to its end."""
        self.check_time()
        self._watch.wait(_POLL)

    def refused(self, response: http.client.HTTPResponse) -> FFIError:
        """The error that the status stands for."""
        text = f"{self._now}: the server answers {response.status} {response.reason:.200}"
        if response.status in (404, 410):
            return NotFound(f"{text}; check the address")
        if response.status in (401, 403, 407):
            return PermissionDenied(f"{text}; fetch it yourself and pass the file")
        return ConnectionFailed(f"{text}; try again later")

    def _connected(self, direct: bool, sock: Any) -> None:
        self._watch.watch(sock)
        if direct:
            address = sock.getpeername()[0]
            self._first = self._first or address
            urls.check_peer(self._now, address, self._first)
