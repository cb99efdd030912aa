"""A web server whose answers a test chooses."""

from __future__ import annotations

import contextlib
import hashlib
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


class WebServer:
    """On a port of loopback; `routes` are paths and what answers them."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.routes: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.ended = threading.Event()
        """Set at the end; answers that hang wait for it."""
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                web.asked.append((self.path, dict(self.headers)))
                try:
                    web.routes.get(self.path.partition("?")[0], missing)(self)
                except ConnectionError:  # the client had enough
                    self.close_connection = True

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # a handshake that failed
                    super().handle()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._scheme = "http"
        if certificate is not None:
            self._scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # Its threads, not the one that accepts, wait for a client's handshake.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> WebServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def url(self, path: str) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}{path}"

    def asked_for(self, path: str) -> list[dict[str, str]]:
        """The headers of each request for `path`."""
        return [headers for asked, headers in self.asked if asked == path]


def missing(request: BaseHTTPRequestHandler) -> None:
    status(404)(request)


def status(code: int, **headers: str) -> Answer:
    """An answer without a body; headers with `_` for `-`."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def redirect(target: str, code: int = 302) -> Answer:
    return status(code, Location=target)


def tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


class File:
    """A file with an ETag, as ordinary servers give it: whole, in part, or not again.

    `cuts`: after how many bytes of the body each of the first answers breaks off.
    """

    def __init__(self, content: bytes, *, cuts: tuple[int, ...] = (), etag: bool = True) -> None:
        self.content = content
        self._cuts: Iterator[int] = iter(cuts)
        self._etag = etag

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        etag = tag(self.content) if self._etag else ""
        if etag and request.headers.get("If-None-Match") == etag:
            request.send_response(304)
            request.end_headers()
            return
        start = self._start(request, etag)
        body = memoryview(self.content)[start:]
        request.send_response(206 if start else 200)
        if etag:
            request.send_header("ETag", etag)
        if start:
            end = len(self.content)
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        cut = next(self._cuts, None)
        request.wfile.write(body[:cut])
        request.close_connection = cut is not None

    @staticmethod
    def _start(request: BaseHTTPRequestHandler, etag: str) -> int:
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        return int(match[1]) if match and etag and request.headers.get("If-Range") == etag else 0


def raw(*parts: bytes, then: Callable[[], object] = bool) -> Answer:
    """Bytes as they are, flushed one by one; then the connection ends."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        for part in parts:
            request.wfile.write(part)
            request.wfile.flush()
        then()

    return answer
