"""Many connections at once, of a few processes that do as little as possible for each.

A load generator: it says what the agent can serve. What many whole clients get, each a process with
an interpreter of its own, is measured by `clients`.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from vaccel.ops.catalog import BY_NAME
from vaccel.rpc import arguments, frames, messages
from vaccel.rpc.arguments import Contents
from vaccel.rpc.ttrpc import HEADER_SIZE, Kind

_UNARY = bytes((Kind.REQUEST, 0))
_LIMIT = 60.0


class Connection:
    """A session, and the call that it makes again and again: five float32, doubled."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self.sock = socket.create_connection((parts.hostname, parts.port), _LIMIT)
        self.sock.settimeout(None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = 1
        opening = messages.CreateSessionRequest(features=arguments.EMPTY_WRITE_ARGS)
        self._template = frames.request(messages.SERVICES[0], "CreateSession", opening)
        self._contents: list[Any] = []
        answer = messages.RpcResponse.FromString(self.call()[HEADER_SIZE:])
        session = messages.CreateSessionResponse.FromString(answer.payload)
        self._template, self._contents = _vadd(session.session_id)
        answer = messages.RpcResponse.FromString(self.call()[HEADER_SIZE:])
        result = messages.GenopResponse.FromString(answer.payload)
        doubled = np.frombuffer(result.write_args[0].buf, np.float32)
        if doubled.tolist() != [0.0, 2.0, 4.0, 6.0, 8.0]:
            raise RuntimeError(f"fpga_vadd: a wrong result: {doubled}")
        self._expected = self.call()

    def send(self) -> None:
        number = self._stream.to_bytes(4, "big")
        self._stream += 2
        self.sock.sendall(self._template.joined(number, _UNARY, self._contents))

    def receive(self) -> bytes:
        answer = self.sock.recv(65536)
        if not answer:
            raise ConnectionError("the agent has ended the connection")
        return answer

    def call(self) -> bytes:
        self.send()
        return self.receive()

    def check(self, answer: bytes) -> None:
        """All answers are alike but for the stream id."""
        if answer[8:] != self._expected[8:]:
            raise RuntimeError(f"a wrong answer: {answer!r}")


def _vadd(session: int) -> tuple[frames.Template, list[Any]]:
    op, values = BY_NAME["fpga_vadd"], [np.arange(5, dtype=np.float32)] * 2
    contents = Contents()
    read = arguments.encode(op.read_args(values), contents)
    write = arguments.encode(op.write_args(values, op.check(values)[1]), contents, empty=True)
    message = messages.GenopRequest(session_id=session, read_args=read, write_args=write)
    template = frames.request(messages.SERVICES[0], "Genop", message, contents.sizes)
    return template, contents.buffers


def calls(connections: list[Connection], stop: float) -> int:
    """How many calls are answered until time.monotonic() is `stop`, with one under way on each."""
    if len(connections) == 1:
        return _calls_of_one(connections[0], stop)
    count = 0
    by_fd = {one.sock.fileno(): one for one in connections}
    with select.epoll() as ready:
        for fd, one in by_fd.items():
            ready.register(fd, select.EPOLLIN)
            one.send()
        waiting = len(connections)
        while waiting:
            for fd, _ in ready.poll():
                one = by_fd[fd]
                one.check(one.receive())
                if time.monotonic() < stop:
                    count += 1
                    one.send()
                else:
                    waiting -= 1
    return count


def _calls_of_one(one: Connection, stop: float) -> int:
    count = 0
    while True:
        one.check(one.call())
        if time.monotonic() >= stop:
            return count
        count += 1
