"""What belongs to a connection ends with it; slow calls, floods and garbage do not stop others."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agent import kernels, peers
from tests.agent.conftest import Serve
from tests.agent.kernels import Gate
from tests.agent.peers import RawClient, Refused, arg, execute, genop, result, text
from tests.processes import abstract
from vaccel import Arg, Config, Resource, ResourceType, Session, runtime
from vaccel.agent import Agent
from vaccel.error import ConnectionLost, InvalidArgument
from vaccel.rpc.handler import Limits

RESOURCE_EXHAUSTED = 8
WAIT = kernels.TIMEOUT


def held() -> list[str]:
    """What the runtime holds, by class."""
    return sorted(type(thing).__name__ for thing in runtime.current()._open)


def wait_for_connections(agent: Agent, count: int) -> None:
    quiet = agent.server._quiet
    with quiet:
        assert quiet.wait_for(lambda: agent.server.connections == count, WAIT)


class Closings:
    """Waits until sessions and resources are released, without asking again and again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._changed = threading.Condition()
        closed = runtime.Runtime.closed

        def noting(self_: runtime.Runtime, thing: Any) -> None:
            closed(self_, thing)
            with self._changed:
                self._changed.notify_all()

        monkeypatch.setattr(runtime.Runtime, "closed", noting)

    def wait(self, remaining: list[str]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: held() == remaining, WAIT), held()


@pytest.fixture
def closings(monkeypatch: pytest.MonkeyPatch) -> Closings:
    return Closings(monkeypatch)


def rundirs() -> list[Path]:
    return [p for p in runtime.current().rundir.path.iterdir() if p.is_dir()]


def exec_with_resource(session: int, resource: int, symbol: str) -> Any:
    return genop(
        session,
        2,
        arg(peers.INT64, resource.to_bytes(8, "little")),
        text(symbol),
        arg(peers.INT32, bytes([21, 0, 0, 0])),
        write=(arg(peers.INT32, bytes(4)),),
    )


# -- the end of a connection -----------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["close", "reset", "half"])
@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_a_connection_that_ends_in_the_middle_of_a_call_takes_all_with_it_at_once(
    serve: Serve, gate: Gate, closings: Closings, socket_path: Path, scheme: str, ending: str
) -> None:
    agent = serve("tcp://127.0.0.1:0" if scheme == "tcp" else f"unix://{socket_path}")
    with RawClient(agent.endpoint) as client, RawClient(agent.endpoint) as other:
        session, kept = client.session(), other.session()
        resource = client.resource(session, bytes(1000))
        client.send("Genop", exec_with_resource(session, resource, "wait"))
        gate.reached()
        assert held() == ["Resource", "Session", "Session"]
        assert len(rundirs()) == 1
        if ending == "reset":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if ending == "half":  # a frame that will not be finished
            client.sock.sendall(bytes.fromhex("00ffffff00001001"))
        client.sock.close()
        # The kernel still stands at the gate.
        closings.wait(["Session"])
        assert rundirs() == []
        assert result(other.answer(other.send("Genop", execute(kept, "double")))) == 42
        gate.open()
        wait_for_connections(agent, 1)


def test_a_connection_that_ends_while_idle_takes_all_with_it(
    agent: Agent, closings: Closings
) -> None:
    with RawClient(agent.endpoint) as client:
        client.resource(client.session())
        client.session()
    closings.wait([])
    assert rundirs() == []
    wait_for_connections(agent, 0)


def test_a_session_that_is_closed_during_its_call_lets_it_end(
    client: RawClient, gate: Gate
) -> None:
    from vaccel.rpc import messages

    session = client.session()
    slow = client.send("Genop", execute(session, "wait"))
    gate.reached()
    client.call("DestroySession", messages.DestroySessionRequest(session_id=session))
    gate.open()
    assert result(client.answer(slow)) == 42


# -- many requests in flight -----------------------------------------------------------------------


def test_thousands_of_requests_in_flight_are_answered_out_of_order(
    client: RawClient, gate: Gate
) -> None:
    session = client.session()
    slow = []
    for _ in range(8):
        slow.append(client.send("Genop", execute(session, "wait")))
        gate.reached()
    quick = [client.request("Genop", execute(session, "double")) for _ in range(2500)]
    frames = b"".join(peers.frame(stream, peers.REQUEST, 0, data) for stream, data in quick)
    sender = threading.Thread(target=client.sock.sendall, args=(frames,))
    sender.start()
    assert sorted(client.answered() for _ in quick) == [stream for stream, _ in quick]
    sender.join(WAIT)
    gate.open()
    assert sorted(client.answered() for _ in slow) == slow
    assert {result(client.answer(stream)) for stream in slow} == {42}


def test_quick_calls_glued_to_a_slow_one_do_not_wait_for_it(client: RawClient, gate: Gate) -> None:
    """All in one segment: after it nothing more arrives that could wake another thread."""
    session = client.session()
    calls = [client.request("Genop", execute(session, "wait"))]
    calls += [client.request("Genop", execute(session, "double")) for _ in range(20)]
    client.sock.sendall(b"".join(peers.frame(s, peers.REQUEST, 0, data) for s, data in calls))
    gate.reached()
    client.sock.settimeout(5.0)
    slow, *quick = [stream for stream, _ in calls]
    assert sorted(client.answered() for _ in quick) == quick
    gate.open()
    assert client.answered() == slow


def test_slow_calls_beyond_the_spare_threads_wait_and_are_answered(
    serve: Serve, gate: Gate
) -> None:
    agent = serve(limits=Limits(threads=3))
    with RawClient(agent.endpoint) as client, RawClient(agent.endpoint) as other:
        session = client.session()
        slow = [client.send("Genop", execute(session, "wait")) for _ in range(10)]
        gate.reached(4)  # the connection's own thread, and all spare ones
        number = other.session()
        assert result(other.answer(other.send("Genop", execute(number, "double")))) == 42
        gate.open()
        assert sorted(client.answered() for _ in slow) == slow


def test_a_hang_up_is_noticed_while_all_threads_are_busy(
    serve: Serve, gate: Gate, closings: Closings
) -> None:
    agent = serve(limits=Limits(threads=2))
    with RawClient(agent.endpoint) as client:
        session = client.session()
        for _ in range(6):
            client.send("Genop", execute(session, "wait"))
        gate.reached(3)
    closings.wait([])
    gate.open()
    wait_for_connections(agent, 0)


def test_threads_of_one_connection_are_spare_again_for_the_next(serve: Serve, gate: Gate) -> None:
    agent = serve(limits=Limits(threads=2))
    for _ in range(3):
        gate = kernels.new_gate()
        with RawClient(agent.endpoint) as client:
            session = client.session()
            slow = [client.send("Genop", execute(session, "wait")) for _ in range(3)]
            gate.reached(3)
            gate.open()
            assert sorted(client.answered() for _ in slow) == slow
        wait_for_connections(agent, 0)
    assert agent.server.spare._value == 2


def test_connections_are_limited(serve: Serve) -> None:
    agent = serve(limits=Limits(connections=2))
    with RawClient(agent.endpoint) as one, RawClient(agent.endpoint) as two:
        assert (one.session(), two.session()) == (1, 2)
        with RawClient(agent.endpoint) as three:
            assert three.closed_by_agent()
        one.sock.close()
        wait_for_connections(agent, 1)
        with RawClient(agent.endpoint) as three:
            assert three.session() == 3


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1001, 100_000, 3_000_000])
def test_an_oversized_request_is_refused_on_its_stream(serve: Serve, size: int) -> None:
    agent = serve(limits=Limits(message=1000))
    with RawClient(agent.endpoint) as client:
        session = client.session()
        stream, _ = client.request("Genop")
        sender = threading.Thread(
            target=client.sock.sendall, args=(peers.frame(stream, peers.REQUEST, 0, bytes(size)),)
        )
        sender.start()
        with pytest.raises(Refused, match=f"{size} bytes, the limit is 1000") as caught:
            client.answer(stream)
        sender.join(WAIT)
        assert caught.value.code == RESOURCE_EXHAUSTED
        assert result(client.answer(client.send("Genop", execute(session, "double")))) == 42


def test_an_oversized_stream_is_refused(serve: Serve) -> None:
    agent = serve(limits=Limits(message=1000))
    with RawClient(agent.endpoint) as client:
        session = client.session()
        stream = client.send("GenopStream", flags=peers.REMOTE_OPEN, service=peers.ASYNC)
        for _ in range(4):
            client.stream_part(stream, arg(6, bytes(300)))
        with pytest.raises(Refused, match="the limit is 1000") as caught:
            client.answer(stream)
        assert caught.value.code == RESOURCE_EXHAUSTED
        client.stream_part(stream, None, peers.REMOTE_CLOSED)  # too late, and no harm
        assert result(client.answer(client.send("Genop", execute(session, "double")))) == 42


def test_an_oversized_answer_is_refused(serve: Serve) -> None:
    agent = serve(limits=Limits(message=5000))
    with RawClient(agent.endpoint) as client:
        session = client.session()
        room = ({"size": 3000, "arg_type": 2}, {"size": 3000, "arg_type": 2})
        request = genop(session, 1, text("lib"), text("nothing"), write=room)
        with pytest.raises(Refused, match="the limit is 5000") as caught:
            client.call("Genop", request)
        assert caught.value.code == RESOURCE_EXHAUSTED
        del request.write_args[1]
        (answer,) = client.call("Genop", request).write_args
        assert answer.buf == bytes(3000)


# -- garbage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: board:65500\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # TLS
        b"\0" * 10,
        b"\xff" * 64,
        peers.frame(2, peers.REQUEST, 0, b""),
        peers.frame(1, peers.RESPONSE, 0, b""),
        peers.frame(7, peers.DATA, 0, b"never opened"),
        peers.frame(1, peers.REQUEST, 4, b""),
    ],
)
def test_garbage_ends_its_connection_and_no_other(
    agent: Agent, client: RawClient, closings: Closings, garbage: bytes
) -> None:
    session = client.session()
    with RawClient(agent.endpoint) as other:
        other.resource(other.session())
        with contextlib.suppress(ConnectionError):
            other.sock.sendall(garbage)
        assert other.closed_by_agent()
    closings.wait(["Session"])
    assert result(client.answer(client.send("Genop", execute(session, "double")))) == 42


def test_a_malformed_request_is_answered_and_the_connection_usable(client: RawClient) -> None:
    session = client.session()
    for data in (b"\xff\xff\xff", b"\x1a\x7f", b"\x12\x05Genop\x1a\x02\xff\xff"):
        stream, _ = client.request("Genop")
        client.sock.sendall(peers.frame(stream, peers.REQUEST, 0, data))
        with pytest.raises(Refused):
            client.answer(stream)
    assert result(client.answer(client.send("Genop", execute(session, "double")))) == 42


def test_random_bytes_never_stop_an_agent(agent: Agent, client: RawClient) -> None:
    session = client.session()
    connections = agent.server.connections

    def throw(data: bytes) -> None:
        with RawClient(agent.endpoint) as other:
            with contextlib.suppress(ConnectionError):
                other.sock.sendall(data)
                other.sock.shutdown(socket.SHUT_WR)
            assert other.closed_by_agent()

    @settings(max_examples=100)
    @given(st.binary(max_size=200))
    def bytes_(data: bytes) -> None:
        throw(data)

    methods = st.sampled_from(["Genop", "RegisterResource", "TensorflowModelRun", "UpdateSession"])

    @settings(max_examples=150)
    @given(
        st.lists(
            st.tuples(methods, st.sampled_from([1, 3]), st.integers(0, 7), st.binary(max_size=60)),
            max_size=6,
        )
    )
    def requests(calls: list[tuple[str, int, int, bytes]]) -> None:
        wire = b""
        for number, (method, kind, flags, payload) in enumerate(calls):
            head = b"\x0a%c%b\x12%c%b" % (
                len(peers.SYNC),
                peers.SYNC.encode(),
                len(method),
                method.encode(),
            )
            data = head + b"\x1a%c%b" % (len(payload), payload)
            wire += peers.frame(2 * number + 1, kind, flags, data)
        throw(wire)

    bytes_()
    requests()
    assert result(client.answer(client.send("Genop", execute(session, "double")))) == 42
    wait_for_connections(agent, connections)
    assert held() == ["Session"]
    assert agent.server.watch._thread.is_alive()


# -- sessions over a shared connection -------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["tcp", "tcp6", "unix", "abstract"])
def test_sessions_work_over_every_kind_of_socket(
    serve: Serve, socket_path: Path, scheme: str
) -> None:
    endpoints = {
        "tcp": "tcp://127.0.0.1:0",
        "tcp6": "tcp://[::1]:0",
        "unix": f"unix://{socket_path}",
        "abstract": abstract("test"),
    }
    if scheme == "tcp6" and not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    agent = serve(endpoints[scheme])
    big = np.arange(1 << 20, dtype=np.float32)
    with Session(endpoint=agent.endpoint) as session:
        assert session.fpga_vadd([1.0], [2.0]) == [3.0]
        assert np.array_equal(session.fpga_vadd(big, big), big + big)
    wait_for_connections(agent, 0)


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_sessions_of_a_process_share_one_connection(agent: Agent) -> None:
    with Session(endpoint=agent.endpoint) as one, Session(endpoint=agent.endpoint) as two:
        assert agent.server.connections == 1
        assert one.remote_id != two.remote_id
        one.close()
        assert two.fpga_vadd([1.0], [2.0]) == [3.0]
    wait_for_connections(agent, 0)


def test_threads_share_a_session_and_get_their_own_answers(agent: Agent) -> None:
    calls = 200
    failures: list[BaseException] = []
    start = threading.Barrier(8)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        start.wait(WAIT)
        try:
            for i in range(calls):
                if i % 10:
                    value = int(rng.integers(1 << 20))
                    assert session.exec("lib", "double", [Arg([value])], [Arg([0])]) == [
                        [2 * value]
                    ]
                else:
                    a = rng.random(int(rng.integers(1, 50_000)), np.float32)
                    assert np.array_equal(session.fpga_vadd(a, a), a + a)
        except BaseException as exc:
            failures.append(exc)

    with Session(endpoint=agent.endpoint) as session:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert agent.server.connections == 1
    assert failures == []


def test_a_slow_call_of_one_thread_does_not_hold_up_another(agent: Agent, gate: Gate) -> None:
    answers: list[Any] = []
    with Session(endpoint=agent.endpoint) as session:
        slow = threading.Thread(
            target=lambda: answers.extend(session.exec("lib", "wait", [Arg([1])], [Arg([0])]) or [])
        )
        slow.start()
        gate.reached()
        for value in range(20):
            assert session.exec("lib", "double", [Arg([value])], [Arg([0])]) == [[2 * value]]
        gate.open()
        slow.join(WAIT)
    assert answers == [[2]]


def test_a_resource_serves_several_sessions_over_one_registration(agent: Agent) -> None:
    with Session(endpoint=agent.endpoint) as one, Session(endpoint=agent.endpoint) as two:
        with Resource.from_buffer(b"content", ResourceType.LIB) as resource:
            resource.register(one)
            resource.register(two)
            for session in (one, two):
                assert session.exec_with_resource(resource, "double", [Arg([4])], [Arg([0])]) == [
                    [8]
                ]
            resource.unregister(one)
            assert two.exec_with_resource(resource, "double", [Arg([4])], [Arg([0])]) == [[8]]


# -- the end of an agent ---------------------------------------------------------------------------


def test_stop_lets_running_calls_finish_and_refuses_new_connections(
    agent: Agent, client: RawClient, gate: Gate
) -> None:
    session = client.session()
    slow = client.send("Genop", execute(session, "wait"))
    gate.reached()
    stopped: list[bool] = []
    stopper = threading.Thread(target=lambda: stopped.append(agent.stop(WAIT)))
    stopper.start()
    refused_by(agent.endpoint)
    gate.open()
    assert result(client.answer(slow)) == 42
    stopper.join(WAIT)
    assert stopped == [True]
    assert client.closed_by_agent()
    assert held() == []


def refused_by(endpoint: str) -> None:
    """Wait until nobody listens at the endpoint."""
    while True:
        try:
            peers.dial(endpoint).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # it was in the backlog
            continue


def test_stop_says_when_calls_did_not_finish_and_they_end_quietly_later(
    agent: Agent, client: RawClient, gate: Gate
) -> None:
    session = client.session()
    client.send("Genop", execute(session, "wait"))
    gate.reached()
    before = threading.enumerate()
    assert agent.stop(0.01) is False
    assert client.closed_by_agent()
    assert held() == [], "sessions are released all the same"
    gate.open()
    for thread in before:
        if thread.name == "vaccel-peer":
            thread.join(WAIT)
            assert not thread.is_alive()
    # An exception in one of these threads, or a socket left open, fails the test at its end.


def test_stop_removes_the_file_of_its_socket(serve: Serve, socket_path: Path) -> None:
    agent = serve(f"unix://{socket_path}")
    assert socket_path.is_socket()
    assert agent.stop()
    assert agent.stop()
    assert not socket_path.exists()


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:65433", "tcp://0.0.0.0:65433"])
def test_an_agent_that_would_call_itself_does_not_start(serve: Serve, endpoint: str) -> None:
    config = Config(plugins="cpu:rpc", endpoint="tcp://127.0.0.1:65433")
    with pytest.raises(InvalidArgument, match=r"rpc of this agent leads to the agent itself"):
        serve(endpoint, config=config)


def test_a_session_connects_anew_after_its_agent_was_restarted(serve: Serve) -> None:
    first = serve()
    old = Session(endpoint=first.endpoint)
    assert old.fpga_vadd([1.0], [2.0]) == [3.0]
    first.stop()
    for _ in range(2):
        with pytest.raises(ConnectionLost, match=f"{first.endpoint} was lost.*open a new Session"):
            old.fpga_vadd([1.0], [2.0])
    second = Agent(first.endpoint)
    try:
        with pytest.raises(ConnectionLost, match="open a new Session"):
            old.noop()
        with Session(endpoint=first.endpoint) as new:
            assert new.fpga_vadd([1.0], [2.0]) == [3.0]
            old.close()
            assert new.fpga_vadd([1.0], [2.0]) == [3.0]
    finally:
        second.stop()


def test_calls_that_wait_when_the_connection_is_lost_all_say_so(agent: Agent, gate: Gate) -> None:
    errors: list[Exception] = []

    def call() -> None:
        try:
            session.exec("lib", "wait", [Arg([1])], [Arg([0])])
        except ConnectionLost as exc:
            errors.append(exc)

    session = Session(endpoint=agent.endpoint)
    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.reached(4)
    agent.stop(0.0)
    for thread in threads:
        thread.join(WAIT)
    assert len(errors) == 4
    assert len({str(exc) for exc in errors}) == 1
    session.close()
    gate.open()


def test_the_agent_refuses_what_it_cannot_listen_on(serve: Serve) -> None:
    agent = serve()
    with pytest.raises(Exception, match=f"cannot listen on {agent.endpoint}"):
        Agent(agent.endpoint)


# -- the watch -------------------------------------------------------------------------------------


def test_a_hang_up_in_the_middle_of_a_slow_call_is_handled_once(
    agent: Agent, gate: Gate, closings: Closings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After both sides have shut the socket, the kernel would report it again and again."""
    started: list[str] = []
    start = threading.Thread.start

    def counting(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    with RawClient(agent.endpoint) as client, RawClient(agent.endpoint) as other:
        session, kept = client.session(), other.session()
        client.send("Genop", execute(session, "wait"))
        gate.reached()
        monkeypatch.setattr(threading.Thread, "start", counting)
        client.sock.close()
        closings.wait(["Session"])
        for _ in range(10):  # each at least a look of the watch
            late = other.send("Genop", execute(kept, "wait"), timeout_nano=2_000_000)
            with pytest.raises(Refused):
                other.answer(late)
            gate.reached()
        # One for the hang-up, and for each late call two: who takes over, who answers.
        assert len(started) <= 1 + 10 * 3
        gate.open()
