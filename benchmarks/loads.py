"""A load generator: calls on many connections, with as little work as possible for each."""

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


class Load:
    """A connection with a session, and the call that it makes: five float32, doubled."""

    def __init__(self, endpoint: str) -> None:
        port = urlsplit(endpoint).port
        self.sock = socket.create_connection(("127.0.0.1", port or 0), _LIMIT)
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


def calls(loads: list[Load], stop: float) -> int:
    """How many calls are answered until time.monotonic() is `stop`, with one under way on each."""
    if len(loads) == 1:
        return _calls_of_one(loads[0], stop)
    count = 0
    by_fd = {one.sock.fileno(): one for one in loads}
    with select.epoll() as ready:
        for fd, one in by_fd.items():
            ready.register(fd, select.EPOLLIN)
            one.send()
        waiting = len(loads)
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


def _calls_of_one(one: Load, stop: float) -> int:
    count = 0
    while True:
        one.check(one.call())
        if time.monotonic() >= stop:
            return count
        count += 1
