"""The other end of a connection, written without the code that it tests."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from vaccel.rpc import messages
from vaccel.rpc.messages import METHODS, RpcRequest, RpcResponse

SYNC, ASYNC = messages.SERVICES
TIMEOUT = 30.0
REQUEST, RESPONSE, DATA = 1, 2, 3
REMOTE_CLOSED, REMOTE_OPEN, NO_DATA = 1, 2, 4
UINT8, INT32, INT64, FLOAT32_ARRAY, STRING = 9, 5, 7, 18, 27


def frame(stream: int, kind: int, flags: int, data: bytes) -> bytes:
    return struct.pack(">IIBB", len(data), stream, kind, flags) + data


def dial(endpoint: str) -> socket.socket:
    """A socket connected to a tcp or unix endpoint."""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "tcp":
        host, _, port = rest.rpartition(":")
        sock = socket.create_connection((host.strip("[]"), int(port)), TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(TIMEOUT)
    sock.connect("\0" + rest[1:] if rest.startswith("@") else rest)
    return sock


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def read_frame(sock: socket.socket) -> tuple[int, int, int, bytes]:
    """(stream id, type, flags, data). EOFError: the peer hung up."""
    length, stream, kind, flags = struct.unpack(">IIBB", read_exactly(sock, 10))
    return stream, kind, flags, read_exactly(sock, length)


class Refused(Exception):
    """The agent answered with a status."""

    def __init__(self, status: Any) -> None:
        super().__init__(f"{status.code}: {status.message}")
        self.code: int = status.code
        self.message: str = status.message
        self.details = list(status.details)

    @property
    def errno(self) -> int | None:
        """The errno detail; None if there is none."""
        for detail in self.details:
            if detail.type_url == messages.ERROR_TYPE_URL:
                return int(messages.ProtoError.FromString(detail.value).ffi_error)
        return None


class RawClient:
    """Speaks to an agent in frames and Google's protobuf messages."""

    def __init__(self, endpoint: str) -> None:
        self.sock = dial(endpoint)
        self._next = 1
        self._answers: dict[int, bytes] = {}

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(
        self,
        method: str,
        message: Any = None,
        *,
        service: str = SYNC,
        timeout_nano: int = 0,
        flags: int = 0,
    ) -> int:
        """Send a request; its stream id."""
        stream, data = self.request(method, message, service=service, timeout_nano=timeout_nano)
        self.sock.sendall(frame(stream, REQUEST, flags, data))
        return stream

    def request(
        self, method: str, message: Any = None, *, service: str = SYNC, timeout_nano: int = 0
    ) -> tuple[int, bytes]:
        """A new stream id and a request's data."""
        stream, self._next = self._next, self._next + 2
        payload = b"" if message is None else message.SerializeToString()
        envelope = RpcRequest(
            service=service, method=method, payload=payload, timeout_nano=timeout_nano
        )
        return stream, envelope.SerializeToString()

    def stream_part(self, stream: int, message: Any, flags: int = 0) -> None:
        data = b"" if message is None else message.SerializeToString()
        self.sock.sendall(frame(stream, DATA, flags, data))

    def answered(self) -> int:
        """Wait for the next answer; its stream id."""
        stream, kind, flags, data = read_frame(self.sock)
        assert (kind, flags) == (RESPONSE, 0)
        assert stream not in self._answers, f"a second answer on stream {stream}"
        self._answers[stream] = data
        return stream

    def answer(self, stream: int) -> Any:
        """The answer on `stream`, a RpcResponse; raises Refused."""
        while stream not in self._answers:
            self.answered()
        response = RpcResponse.FromString(self._answers.pop(stream))
        if response.status.code:
            raise Refused(response.status)
        return response

    def call(self, method: str, message: Any = None, **options: Any) -> Any:
        """The response message of `method`."""
        response = self.answer(self.send(method, message, **options))
        return METHODS[method][1].FromString(response.payload)

    def session(self, flags: int = 0) -> int:
        answer = self.call("CreateSession", messages.CreateSessionRequest(flags=flags))
        return int(answer.session_id)

    def resource(self, session: int, content: bytes = b"abc", name: str = "model.onnx") -> int:
        blob = messages.Blob(name=name, data=content, size=len(content))
        request = messages.RegisterResourceRequest(
            blobs=[blob], resource_type=2, session_id=session
        )
        return int(self.call("RegisterResource", request).resource_id)

    def closed_by_agent(self) -> bool:
        """The agent has ended the connection; answers before that are dropped."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True


def arg(kind: int, buf: bytes) -> Any:
    return messages.Arg(buf=buf, size=len(buf), arg_type=kind)


def text(value: str) -> Any:
    return arg(STRING, value.encode() + b"\0")


def genop(session: int, code: int, *read: Any, write: tuple[Any, ...] = ()) -> Any:
    return messages.GenopRequest(
        session_id=session, read_args=[arg(UINT8, bytes([code])), *read], write_args=write
    )


def execute(session: int, symbol: str, value: int = 21, library: str = "lib") -> Any:
    """A request for exec(library, symbol, [value], [room for an int32])."""
    number = value.to_bytes(4, "little", signed=True)
    return genop(
        session, 1, text(library), text(symbol), arg(INT32, number), write=(arg(INT32, bytes(4)),)
    )


def result(response: Any) -> int:
    """The int32 that `execute` answered with."""
    message = messages.GenopResponse.FromString(response.payload)
    return int.from_bytes(message.write_args[0].buf, "little", signed=True)


Script = Callable[[socket.socket], None]


@contextlib.contextmanager
def fake_peer(script: Script) -> Iterator[str]:
    """An endpoint where `script` serves one connection after another; gives the endpoint."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(TIMEOUT)
        failures: list[BaseException] = []

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    sock.settimeout(TIMEOUT)
                    try:
                        script(sock)
                    except (EOFError, ConnectionError):
                        pass
                    except BaseException as exc:
                        failures.append(exc)

        thread = threading.Thread(target=serve, name="fake-peer")
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(TIMEOUT)
        if failures:
            raise failures[0]


def hang_up(sock: socket.socket) -> None:
    """Read until the client hangs up."""
    while sock.recv(65536):
        pass


def ok(message: Any) -> bytes:
    """The data of a successful response."""
    return bytes(RpcResponse(payload=message.SerializeToString()).SerializeToString())


def reply(sock: socket.socket, stream: int, data: bytes) -> None:
    sock.sendall(frame(stream, RESPONSE, 0, data))


def read_request(sock: socket.socket) -> tuple[int, Any, Any]:
    """(stream id, envelope, payload message) of the next unary request."""
    stream, kind, flags, data = read_frame(sock)
    assert (kind, flags) == (REQUEST, 0)
    envelope = RpcRequest.FromString(data)
    return stream, envelope, METHODS[envelope.method][0].FromString(envelope.payload)
