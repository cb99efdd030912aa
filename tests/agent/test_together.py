"""Small calls of several threads over one connection: sent together, each with its own answer."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.agent import peers
from tests.agent.peers import TIMEOUT, fake_peer
from vaccel.error import ConnectionLost, DeadlineExceeded, FFIError, InvalidArgument
from vaccel.rpc import codec, frames, messages, quick
from vaccel.rpc.plan import Plan
from vaccel.rpc.quick import Answer, QuickClient
from vaccel.rpc.ttrpc import LAST_STREAM
from vaccel.testing.expect import wait_for

SIZE = 8
Request = tuple[int, bytes]
"""Stream id and content."""
Answers = Callable[[socket.socket, list[Request]], None]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls stay in the line, however slow this machine is."""
    monkeypatch.setattr(quick, "_PATIENCE", TIMEOUT)


class Caller:
    """Calls that send a number and get its double back, each from a thread of its own."""

    def __init__(self, client: QuickClient) -> None:
        self.client = client
        self.results: dict[int, int | FFIError] = {}
        self._threads: dict[int, threading.Thread] = {}
        message = messages.GenopRequest(session_id=1)
        message.read_args.add(buf=codec.mark(0), size=SIZE, arg_type=peers.INT64)
        template = frames.request(peers.SYNC, "Genop", message, [SIZE])
        shape, _ = client.call("Genop", template, [bytes(SIZE)])
        self._plan = Plan(template, [], {})
        example = [np.zeros(1, np.int64)]
        self._plan.expect(shape, example, example)
        self._call = client.caller("Genop", self._plan, self._finish)

    def call(self, number: int) -> int:
        return int(self._call([np.array([number], np.int64)])[0])

    def _finish(self, values: Sequence[Any], answer: Answer) -> Any:
        return self._plan.results(answer if isinstance(answer, bytearray) else answer[1])

    def start(self, number: int) -> None:
        self._threads[number] = threading.Thread(target=self._keep, args=(number,))
        self._threads[number].start()

    def queue(self, *numbers: int) -> None:
        """Start calls; they have come to the line in this order."""
        for number in numbers:
            length = len(self.client._line)
            self.start(number)
            self.line(length + 1)

    def line(self, length: int) -> None:
        """Wait until so many calls stand in line."""
        wait_for("the line", f"{length} calls", lambda: len(self.client._line) == length, TIMEOUT)

    def _keep(self, number: int) -> None:
        try:
            self.results[number] = self.call(number)
        except FFIError as exc:
            self.results[number] = exc

    def end(self, *numbers: int) -> None:
        """Wait for these calls, by default for all."""
        for number in numbers or self._threads:
            self._threads[number].join(TIMEOUT)
            assert not self._threads[number].is_alive(), f"call {number} hangs"


def answer(request: Request) -> bytes:
    """The frame with the double of the request's number."""
    stream, content = request
    double = (2 * int.from_bytes(content, "little")).to_bytes(SIZE, "little")
    message = messages.GenopResponse()
    message.write_args.add(buf=double, size=SIZE, arg_type=peers.INT64)
    return peers.frame(stream, peers.RESPONSE, 0, peers.ok(message))


def failure(request: Request) -> bytes:
    detail = messages.ProtoError(ffi_error=22).SerializeToString()
    status = {"code": 3, "details": [{"type_url": messages.ERROR_TYPE_URL, "value": detail}]}
    data = messages.RpcResponse(status=status).SerializeToString()
    return peers.frame(request[0], peers.RESPONSE, 0, data)


def requests(sock: socket.socket, count: int) -> list[Request]:
    found = []
    for _ in range(count):
        stream, _, message = peers.read_request(sock)
        found.append((stream, message.read_args[0].buf))
    return found


class Held:
    """A peer that holds back the answer to the first call until the line is as it should be."""

    def __init__(self, count: int, answers: Answers) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        self._count = count
        self._answers = answers

    def __call__(self, sock: socket.socket) -> None:
        sock.sendall(answer(*requests(sock, 1)))
        (first,) = requests(sock, 1)
        self.reached.set()
        self.go.wait(TIMEOUT)
        sock.sendall(answer(first))
        # All are sent before any is answered.
        self._answers(sock, requests(sock, self._count))
        self.serve(sock)

    @staticmethod
    def serve(sock: socket.socket) -> None:
        """Answer like an agent until the client hangs up."""
        while True:
            sock.sendall(answer(*requests(sock, 1)))


@contextlib.contextmanager
def first_call_held(count: int, answers: Answers) -> Iterator[tuple[Caller, threading.Event]]:
    """Call 0 has the connection until the event is set; the peer then reads `count` requests more.

    `answers` answers these.
    """
    peer = Held(count, answers)
    with fake_peer(peer) as endpoint, contextlib.closing(QuickClient(endpoint)) as client:
        caller = Caller(client)
        caller.start(0)
        assert peer.reached.wait(TIMEOUT)
        yield caller, peer.go


def in_order(sock: socket.socket, found: list[Request]) -> None:
    sock.sendall(b"".join(map(answer, found)))


def one_by_one(sock: socket.socket, found: list[Request]) -> None:
    for request in found:
        sock.sendall(answer(request))


def reversed_order(sock: socket.socket, found: list[Request]) -> None:
    sock.sendall(b"".join(map(answer, reversed(found))))


def in_pieces(sock: socket.socket, found: list[Request]) -> None:
    for byte in b"".join(map(answer, found)):
        sock.sendall(bytes([byte]))


def cut_in_the_last(sock: socket.socket, found: list[Request]) -> None:
    data = b"".join(map(answer, found))
    sock.sendall(data[:-3])
    sock.sendall(data[-3:])


@pytest.mark.parametrize(
    "answers", [in_order, one_by_one, reversed_order, in_pieces, cut_in_the_last]
)
def test_calls_sent_together_get_their_own_answers_however_these_come(answers: Answers) -> None:
    with first_call_held(5, answers) as (caller, go):
        caller.queue(1, 2, 3, 4, 5)
        go.set()
        caller.end()
        assert caller.results == {number: 2 * number for number in range(6)}
        assert caller.call(21) == 42, "the connection is as before"


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_among_answers_belongs_to_its_call(failing: int) -> None:
    def answers(sock: socket.socket, found: list[Request]) -> None:
        make = [answer, answer, answer]
        make[failing] = failure
        sock.sendall(b"".join(f(request) for f, request in zip(make, found, strict=True)))

    with first_call_held(3, answers) as (caller, go):
        caller.queue(1, 2, 3)
        go.set()
        caller.end()
        assert isinstance(caller.results.pop(failing + 1), InvalidArgument)
        assert all(result == 2 * number for number, result in caller.results.items())
        assert caller.call(21) == 42


@pytest.mark.parametrize("slow", [0, 1, 2])
def test_a_slow_call_does_not_hold_up_those_sent_with_it(slow: int) -> None:
    others_ended = threading.Event()

    def answers(sock: socket.socket, found: list[Request]) -> None:
        late = found.pop(slow)
        in_order(sock, found)
        others_ended.wait(TIMEOUT)
        sock.sendall(answer(late))

    with first_call_held(3, answers) as (caller, go):
        caller.queue(1, 2, 3)
        go.set()
        caller.end(0, *({1, 2, 3} - {slow + 1}))
        others_ended.set()
        caller.end()
        assert caller.results == {number: 2 * number for number in range(4)}


def test_a_line_is_as_long_as_the_sockets_can_hold() -> None:
    """Else neither side would read: both would wait until the other does."""

    def answers(sock: socket.socket, found: list[Request]) -> None:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        sock.settimeout(TIMEOUT)
        in_order(sock, found)

    with first_call_held(2, answers) as (caller, go):
        caller._plan.match.size += codec.SMALL_FRAME // 2  # as if its answers were that long
        caller.queue(1, 2, 3)
        go.set()
        caller.end(1, 2)
        caller.end()
        assert caller.results == {number: 2 * number for number in range(4)}


def test_a_call_that_waits_for_a_slow_one_goes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "_PATIENCE", 0.001)

    def peer(sock: socket.socket) -> None:
        sock.sendall(answer(*requests(sock, 1)))
        in_order(sock, requests(sock, 3))
        Held.serve(sock)

    with fake_peer(peer) as endpoint, contextlib.closing(QuickClient(endpoint)) as client:
        caller = Caller(client)
        for number in range(3):
            caller.start(number)
        caller.end()
        assert caller.results == {0: 0, 1: 2, 2: 4}
        assert caller.call(21) == 42


def test_a_connection_outlives_its_stream_ids() -> None:
    with fake_peer(Held.serve) as endpoint, contextlib.closing(QuickClient(endpoint)) as client:
        caller = Caller(client)
        client._stream = LAST_STREAM - 2
        assert [caller.call(number) for number in range(4)] == [0, 2, 4, 6]
        assert client._stream < 10


def test_a_stream_id_is_not_used_again_while_its_call_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quick, "_PATIENCE", 0.001)

    def peer(sock: socket.socket) -> None:
        sock.sendall(answer(*requests(sock, 1)))
        found = requests(sock, 1)
        client._stream = found[0][0]
        reached.set()
        found += requests(sock, 1)
        assert found[0][0] != found[1][0]
        in_order(sock, found)

    reached = threading.Event()
    with fake_peer(peer) as endpoint, contextlib.closing(QuickClient(endpoint)) as client:
        caller = Caller(client)
        one = threading.Thread(
            target=client.call, args=("Genop", caller._plan.template, [bytes(SIZE)])
        )
        one.start()
        reached.wait(TIMEOUT)
        caller.start(1)
        caller.end()
        one.join(TIMEOUT)
        assert caller.results == {1: 2}


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_all_calls_sent_together_learn_that_the_connection_is_lost(answered: int) -> None:
    def answers(sock: socket.socket, found: list[Request]) -> None:
        in_order(sock, found[:answered])
        sock.shutdown(socket.SHUT_RDWR)

    with first_call_held(3, answers) as (caller, go):
        caller.queue(1, 2, 3)
        go.set()
        caller.end()
        for number, result in caller.results.items():
            if number <= answered:
                assert result == 2 * number
            else:
                assert isinstance(result, ConnectionLost)


def test_calls_in_line_learn_that_the_connection_is_lost() -> None:
    def peer(sock: socket.socket) -> None:
        sock.sendall(answer(*requests(sock, 1)))
        requests(sock, 1)
        reached.set()
        go.wait(TIMEOUT)

    reached, go = threading.Event(), threading.Event()
    with fake_peer(peer) as endpoint, contextlib.closing(QuickClient(endpoint)) as client:
        caller = Caller(client)
        caller.start(0)
        reached.wait(TIMEOUT)
        caller.queue(1, 2, 3)
        go.set()
        caller.end()
        assert len(caller.results) == 4
        assert all(isinstance(result, ConnectionLost) for result in caller.results.values())


# -- interrupts ------------------------------------------------------------------------------------


def interrupt() -> None:
    signal.pthread_kill(threading.main_thread().ident or os.getpid(), signal.SIGINT)


def asleep() -> bool:
    """The main thread waits: Python overlooks a signal that comes just before it does."""
    stat = Path(f"/proc/self/task/{threading.main_thread().native_id}/stat").read_text()
    return stat.rpartition(") ")[2].startswith("S")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_who_is_interrupted_in_line_leaves_it(place: int) -> None:
    with first_call_held(2, in_order) as (caller, go):

        def rest() -> None:
            caller.line(place + 1)
            caller.queue(*range(place + 1, 3))
            wait_for("the main thread", "asleep", asleep, TIMEOUT)
            interrupt()
            caller.line(2)
            go.set()

        caller.queue(*range(1, place + 1))
        others = threading.Thread(target=rest)
        others.start()
        with pytest.raises(KeyboardInterrupt):
            caller.call(9)
        others.join(TIMEOUT)
        caller.end()
        assert caller.results == {0: 0, 1: 2, 2: 4}
        assert caller.call(21) == 42


@pytest.mark.parametrize("place", [0, 1, 2])
def test_who_is_interrupted_after_sending_ends_the_connection_for_all(place: int) -> None:
    interrupted = threading.Event()

    def answers(sock: socket.socket, found: list[Request]) -> None:
        interrupt()
        interrupted.wait(TIMEOUT)
        in_order(sock, found)

    with first_call_held(3, answers) as (caller, go):

        def rest() -> None:
            caller.line(place + 1)
            caller.queue(*range(place + 1, 3))
            go.set()

        caller.queue(*range(1, place + 1))
        others = threading.Thread(target=rest)
        others.start()
        with pytest.raises(KeyboardInterrupt):
            caller.call(9)
        interrupted.set()
        others.join(TIMEOUT)
        caller.end()
        # As with any call that is interrupted: its answer may have been read in part.
        assert caller.results.pop(0) == 0
        assert len(caller.results) == 2
        assert all(isinstance(result, ConnectionLost) for result in caller.results.values())


class Slow:
    """A socket that sends once it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.sent: list[bytes] = []
        self.go = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)
        self.go.wait(TIMEOUT)
        self._sock.sendall(data)


def test_nothing_is_sent_into_a_small_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    def peer(sock: socket.socket) -> None:
        sock.sendall(answer(*requests(sock, 1)))
        in_order(sock, requests(sock, 2))

    with fake_peer(peer) as endpoint, contextlib.closing(QuickClient(endpoint)) as client:
        caller = Caller(client)
        slow = Slow(client._sock)
        monkeypatch.setattr(client, "_sock", slow)
        caller.start(21)
        wait_for("a small frame", "on its way", lambda: bool(slow.sent), TIMEOUT)
        with pytest.raises(DeadlineExceeded):
            client.call("Genop", caller._plan.template, [bytes(SIZE)], 0.01)
        other = threading.Thread(
            target=client.call, args=("Genop", caller._plan.template, [bytes(SIZE)])
        )
        other.start()
        wait_for("the other call", "in the lock", client._send_lock.locked, TIMEOUT)
        assert len(slow.sent) == 1
        slow.go.set()
        caller.end()
        other.join(TIMEOUT)
        assert caller.results == {21: 42}
        assert len(slow.sent) == 2


def test_a_client_closes_once_nobody_reads_however_many_close_it() -> None:
    def peer(sock: socket.socket) -> None:
        sock.sendall(answer(*requests(sock, 1)))
        requests(sock, 1)
        reached.set()
        sock.recv(1)

    reached = threading.Event()
    with fake_peer(peer) as endpoint:
        client = QuickClient(endpoint)
        caller = Caller(client)
        caller.start(1)
        assert reached.wait(TIMEOUT)
        closing = [threading.Thread(target=client.close) for _ in range(3)]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(TIMEOUT)
            assert not thread.is_alive()
        caller.end()
        assert isinstance(caller.results[1], ConnectionLost)
        assert client._sock.fileno() == -1
