"""Connections that share a reader do not hold each other up, whatever one of them does."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.agent import kernels, peers
from tests.agent.kernels import Gate
from tests.agent.peers import RawClient, arg, execute, genop, result
from vaccel.agent import Agent
from vaccel.rpc.ttrpc import LARGE
from vaccel.testing.expect import wait_for

COPY = 18
INT32_ARRAY = peers.INT32 + 1
WAIT = kernels.TIMEOUT


@pytest.fixture
def clients(agent: Agent) -> Iterator[list[RawClient]]:
    """Eight connections: the first is read apart as long as the others rest."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(RawClient(agent.endpoint)) for _ in range(8)]


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "vaccel-peer"]


def copied(client: RawClient, session: int, values: np.ndarray) -> np.ndarray:
    room = arg(INT32_ARRAY, bytes(values.nbytes))
    request = genop(session, COPY, arg(INT32_ARRAY, values.tobytes()), write=(room,))
    answer = client.call("Genop", request)
    return np.frombuffer(answer.write_args[0].buf, np.int32)


def double(client: RawClient, session: int) -> int:
    return result(client.answer(client.send("Genop", execute(session, "double"))))


def until(count: int) -> None:
    """Wait until so many threads read connections."""
    wait_for("threads that read", str(count), lambda: len(readers()) == count, WAIT)


def test_connections_that_are_busy_at_once_are_read_in_turn(clients: list[RawClient]) -> None:
    sessions = [client.session() for client in clients]
    for _ in range(2):
        assert [double(*pair) for pair in zip(clients, sessions, strict=True)] == [42] * 8
    until(1)


def test_the_only_busy_connection_is_read_apart(clients: list[RawClient]) -> None:
    sessions = [client.session() for client in clients]
    for _ in range(2):
        assert [double(*pair) for pair in zip(clients, sessions, strict=True)] == [42] * 8
    until(1)
    busy, session = clients[5], sessions[5]
    while len(readers()) == 1:
        assert double(busy, session) == 42
    assert double(busy, session) == 42
    for _ in range(2):  # its reader hears of the other one's request after the answer to that
        assert double(clients[0], sessions[0]) == 42
        assert double(busy, session) == 42
    until(1)


def test_quick_requests_are_answered_by_two_threads(clients: list[RawClient]) -> None:
    sessions = [client.session() for client in clients]
    for _ in range(20):
        sent = [
            c.send("Genop", execute(s, "double")) for c, s in zip(clients, sessions, strict=True)
        ]
        answers = [c.answer(stream) for c, stream in zip(clients, sent, strict=True)]
        assert [result(answer) for answer in answers] == [42] * len(clients)


def test_a_slow_request_of_one_connection_does_not_hold_up_the_others(
    clients: list[RawClient], gate: Gate
) -> None:
    sessions = [client.session() for client in clients]
    slow = clients[3].send("Genop", execute(sessions[3], "wait"))
    gate.reached()
    for client, session in zip(clients, sessions, strict=True):
        assert result(client.answer(client.send("Genop", execute(session, "double")))) == 42
    gate.open()
    assert result(clients[3].answer(slow)) == 42


def test_slow_requests_of_all_connections_run_at_once(clients: list[RawClient], gate: Gate) -> None:
    sessions = [client.session() for client in clients]
    sent = [c.send("Genop", execute(s, "wait")) for c, s in zip(clients, sessions, strict=True)]
    gate.reached(len(clients))
    gate.open()
    answers = [c.answer(stream) for c, stream in zip(clients, sent, strict=True)]
    assert [result(answer) for answer in answers] == [42] * len(clients)


def test_connections_that_were_slow_share_a_reader_again(
    clients: list[RawClient], gate: Gate
) -> None:
    sessions = [client.session() for client in clients]
    before = readers()
    sent = [c.send("Genop", execute(s, "wait")) for c, s in zip(clients, sessions, strict=True)]
    gate.reached(len(clients))
    during = readers()
    gate.open()
    for client, stream in zip(clients, sent, strict=True):
        client.answer(stream)
    assert len(during) >= len(clients)
    # The first connection's reader stays, and one of the others has become the shared one.
    deadline = time.monotonic() + WAIT
    while len(readers()) > 2 and time.monotonic() < deadline:
        next(thread for thread in readers() if thread not in before).join(0.05)
    assert len(readers()) <= 2
    for client, session in zip(clients, sessions, strict=True):
        assert result(client.answer(client.send("Genop", execute(session, "double")))) == 42


def test_a_client_that_takes_no_answers_does_not_hold_up_the_others(
    clients: list[RawClient],
) -> None:
    sessions = [client.session() for client in clients]
    deaf = clients[2]
    values = np.arange(1 << 18, dtype=np.int32)
    stream, data = deaf.request(
        "Genop",
        genop(
            sessions[2],
            COPY,
            arg(INT32_ARRAY, values.tobytes()),
            write=(arg(INT32_ARRAY, bytes(values.nbytes)),),
        ),
    )
    deaf.sock.settimeout(0.5)
    with contextlib.suppress(TimeoutError):  # until it is not read any more, either
        for sent in range(64):
            deaf.sock.sendall(peers.frame(stream + 2 * sent, peers.REQUEST, 0, data))
    for client, session in zip(clients, sessions, strict=True):
        if client is not deaf:
            assert result(client.answer(client.send("Genop", execute(session, "double")))) == 42


@pytest.mark.parametrize("size", [1, LARGE // 4, LARGE, 1 << 20])
def test_large_and_small_messages_of_several_connections_arrive_whole(
    clients: list[RawClient], size: int
) -> None:
    failures: list[BaseException] = []

    def use(number: int, client: RawClient) -> None:
        try:
            session = client.session()
            for step in range(5):
                values = np.arange(number, number + size + step, dtype=np.int32)
                np.testing.assert_array_equal(copied(client, session, values), values)
                small = client.answer(client.send("Genop", execute(session, "double", number)))
                assert result(small) == 2 * number
        except BaseException as exc:
            failures.append(exc)

    threads = [
        threading.Thread(target=use, args=(number, client)) for number, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    assert failures == []


def test_the_last_connection_has_a_reader_of_its_own_again(clients: list[RawClient]) -> None:
    last = clients[-1]
    session = last.session()
    for client in clients[:-1]:
        client.sock.close()
    for _ in range(3):
        assert result(last.answer(last.send("Genop", execute(session, "double")))) == 42


def test_connections_may_come_and_go_while_others_are_served(agent: Agent) -> None:
    with RawClient(agent.endpoint) as stays:
        session = stays.session()
        for _ in range(30):
            with RawClient(agent.endpoint) as first, RawClient(agent.endpoint) as second:
                for client in (first, second, stays):
                    number = session if client is stays else client.session()
                    answer = client.answer(client.send("Genop", execute(number, "double")))
                    assert result(answer) == 42
