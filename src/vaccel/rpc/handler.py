"""What a server asks of a service, and grants to a client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vaccel import log
from vaccel.error import FFIError
from vaccel.rpc import frames, status
from vaccel.rpc.address import Endpoint
from vaccel.rpc.arguments import Contents
from vaccel.rpc.codec import Shape
from vaccel.rpc.frames import Template
from vaccel.rpc.messages import SERVICES
from vaccel.rpc.status import RpcFailure
from vaccel.rpc.ttrpc import DEFAULT_LIMIT, Data
from vaccel.rpc.watch import Watch

Reply = tuple[Template, Sequence[Any]]
Method = Callable[[Shape, list[memoryview]], Reply]
"""Answers a request, given its shape and its bulk contents. Raises FFIError or RpcFailure. May be
called from several threads at once."""
Stream = Callable[[Sequence[Data]], Reply]
"""Answers a streaming request, given the messages that came with it."""


class Handler(Protocol):
    """What a service does for one connection, by method name."""

    @property
    def methods(self) -> Mapping[str, Method]: ...

    @property
    def streams(self) -> Mapping[str, Stream]: ...

    def close(self) -> None:
        """The connection has ended."""


@dataclass(frozen=True)
class Limits:
    """What a client may use of a server."""

    message: int = DEFAULT_LIMIT
    """Bytes of one request, and of one answer."""
    threads: int = 32
    """Threads for slow requests, beyond one for each connection, for all connections together."""
    connections: int = 4096
    silence: float = 60.0
    """Seconds without a sign of life on TCP level after which a client counts as gone."""
    resources: int = 16 << 30
    """Bytes of the resources that one connection has uploaded."""
    store: int = 32 << 30
    """Bytes of all uploaded resources, and of those kept for the next client that has them."""


class Owner(Protocol):
    """The server, as its connections see it."""

    watch: Watch
    limits: Limits
    spare: threading.BoundedSemaphore
    endpoint: Endpoint
    stopping: bool

    def ended(self, peer: Any) -> None: ...


def method_of(shape: Shape) -> str:
    """The method that a request names. The verdict holds for all requests of its shape."""
    method: str = shape.envelope.method
    if shape.message is None or shape.envelope.service not in SERVICES:
        raise RpcFailure(
            status.UNIMPLEMENTED,
            f"{shape.envelope.service}/{method} is not a method of this agent",
        )
    shape.checked = method
    return method


def reply(message: Any, contents: Contents | None = None) -> Reply:
    if contents is None:
        return frames.response(message), ()
    return frames.response(message, contents.sizes), contents.buffers


def failed(exc: BaseException) -> Reply:
    """A client must get an answer, whatever went wrong here."""
    if isinstance(exc, (FFIError, RpcFailure)):
        return failure(exc)
    log.error("internal error while answering a request", exc_info=exc)
    return failure(RpcFailure(status.INTERNAL, f"internal error of the agent: {exc!r}"))


def failure(exc: FFIError | RpcFailure) -> Reply:
    return frames.failure(status.to_status(exc)), ()
