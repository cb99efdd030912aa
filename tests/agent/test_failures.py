"""Errors reach the client as the class they had; calls end without an answer, too."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.agent import kernels, peers
from tests.agent.conftest import Serve
from tests.agent.kernels import Gate
from tests.agent.peers import RawClient, Refused, execute, fake_peer, result
from vaccel import Arg, ArgType, Config, Session, bootstrap, error, log, runtime
from vaccel.agent import Agent
from vaccel.config import Timeouts
from vaccel.error import (
    ConnectionFailed,
    ConnectionLost,
    DeadlineExceeded,
    FFIError,
    InternalError,
    ProtocolError,
    ResourceExhausted,
    SessionClosed,
)
from vaccel.rpc import codec, frames, messages
from vaccel.rpc.arguments import EMPTY_WRITE_ARGS
from vaccel.rpc.client import Client
from vaccel.rpc.handler import Limits
from vaccel.rpc.messages import SERVICES

DEADLINE_EXCEEDED = 4
SHORT = 0.05  # seconds, as time limit of what must not wait for the answer

CLASSES = [
    value
    for value in vars(error).values()
    if isinstance(value, type) and issubclass(value, FFIError) and hasattr(value, "ERRNO")
]


@pytest.fixture
def sessions(agent: Agent) -> Iterator[list[Session]]:
    """One session here and one at the agent, for the same kernels."""
    with Session() as local, Session(endpoint=agent.endpoint) as remote:
        assert [local.is_remote, remote.is_remote] == [False, True]
        yield [local, remote]


def fail(session: Session, how: str) -> FFIError:
    with pytest.raises(FFIError) as caught:
        session.exec(how, "raise")
    return caught.value


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_has_the_same_class_code_and_text_on_both_sides(
    sessions: list[Session], cls: type[FFIError]
) -> None:
    for session in sessions:
        found = fail(session, cls.__name__)
        assert type(found) is cls
        assert (found.code, found.message) == (cls.ERRNO, "as you wish")  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", [1, 17, 28, 113, 4000])
def test_an_errno_without_a_class_travels_too(sessions: list[Session], code: int) -> None:
    for session in sessions:
        found = fail(session, str(code))
        assert found.code == code
        assert found.message == "as you wish"
    assert type(fail(sessions[0], str(code))) in (FFIError, error.PermissionDenied)


@pytest.mark.parametrize(
    ("raised", "cls"),
    [
        ("ValueError", InternalError),
        ("KeyError", InternalError),
        ("OSError", InternalError),
        ("StopIteration", InternalError),
        ("AssertionError", InternalError),
        ("MemoryError", ResourceExhausted),
    ],
)
def test_a_kernels_own_exception_is_named(
    sessions: list[Session], raised: str, cls: type[FFIError]
) -> None:
    found = [fail(session, raised) for session in sessions]
    assert [type(exc) for exc in found] == [cls, cls]
    assert found[0].message == found[1].message
    assert "as you wish" in found[0].message
    assert "exec" in found[0].message
    assert sessions[1].exec("lib", "double", [Arg([4])], [Arg([0])]) == [[8]]


def test_errors_carry_the_errno_as_detail(client: RawClient) -> None:
    session = client.session()
    for how, code in (("NotFound", 2), ("28", 28), ("ValueError", 5)):
        with pytest.raises(Refused) as caught:
            client.call("Genop", execute(session, "raise", library=how))
        assert caught.value.errno == code
        (detail,) = caught.value.details
        proto = messages.ProtoError.FromString(detail.value)
        assert proto.type == 0  # FFI


def test_a_kernel_that_exits_ends_its_call_only(client: RawClient) -> None:
    session = client.session()
    for _ in range(2):
        with pytest.raises(Refused, match="SystemExit"):
            client.call("Genop", execute(session, "raise", library="SystemExit"))
    assert result(client.answer(client.send("Genop", execute(session, "double")))) == 42


def test_bad_arguments_fail_alike_on_both_sides(sessions: list[Session]) -> None:
    for session in sessions:
        with pytest.raises(ValueError, match=r"fpga_vadd: b: expected n=2 .* found n=3") as caught:
            session.fpga_vadd([1.0, 2.0], [1.0, 2.0, 3.0])
        assert isinstance(caught.value, error.InvalidArgument)


def test_a_closed_session_says_so(agent: Agent) -> None:
    session = Session(endpoint=agent.endpoint)
    session.close()
    session.close()
    with pytest.raises(SessionClosed, match="closed; open a new Session"):
        session.noop()


# -- the arguments of one call do not show in another ----------------------------------------------


def test_one_byte_arguments_of_different_types_are_told_apart(agent: Agent) -> None:
    """Templates of calls are reused; what differs besides bulk contents must not be."""
    seen: list[Any] = []
    call = agent_call_recorder(seen)
    with fake_peer(call) as endpoint, Session(endpoint=endpoint) as session:
        for kind in (ArgType.UINT8, ArgType.INT8, ArgType.BOOL, ArgType.CHAR):
            session.exec("lib", "f", [Arg(1, kind)])
    assert [args[3].arg_type for args, _ in seen] == [9, 1, 21, 23]


def test_read_and_write_arguments_are_told_apart(agent: Agent) -> None:
    seen: list[Any] = []
    call = agent_call_recorder(seen)
    with fake_peer(call) as endpoint, Session(endpoint=endpoint) as session:
        a, b = Arg(10, ArgType.INT32), Arg(11, ArgType.INT32)
        session.exec("lib", "f", [a], [b])
        session.exec("lib", "f", [a, b], [])
        session.exec("lib", "f", [a], [b])
    assert [(len(read), len(write)) for read, write in seen] == [(4, 1), (5, 0), (4, 1)]


def test_custom_types_are_told_apart(agent: Agent) -> None:
    seen: list[Any] = []
    call = agent_call_recorder(seen)
    with fake_peer(call) as endpoint, Session(endpoint=endpoint) as session:
        for number in (7, 8):
            session.exec("lib", "f", [Arg(b"abcd", ArgType.CUSTOM, number)])
    assert [read[3].custom_type_id for read, _ in seen] == [7, 8]


def gemm(session: Session, c: Any = None, beta: float = 1.0) -> list[float]:
    return session.sgemm(2, 2, 1, 1.0, [1.0, 2.0], 1, [3.0, 4.0], 2, beta, 2, c)


@pytest.mark.parametrize("features", [0, EMPTY_WRITE_ARGS])
def test_a_matrix_of_zeros_goes_up_as_its_size_where_the_agent_knows_that(
    agent: Agent, features: int
) -> None:
    seen: list[Any] = []
    call = agent_call_recorder(seen, features)
    ones = [1.0] * 4
    with fake_peer(call) as endpoint, Session(endpoint=endpoint) as session:
        for c in (None, [0.0] * 4, [-0.0] * 4, ones):
            gemm(session, c)
    sent = [arg for _, (arg,) in seen]
    assert [arg.size for arg in sent] == [16] * 4
    zeros = b"" if features else bytes(16)
    assert [arg.buf for arg in sent[:2]] == [zeros] * 2
    assert [np.frombuffer(arg.buf, "f4").tolist() for arg in sent[2:]] == [[-0.0] * 4, ones]
    assert sent[2].buf != bytes(16)


def test_a_matrix_that_nobody_gave_counts_as_zeros_on_both_sides(sessions: list[Session]) -> None:
    for session in sessions:
        assert gemm(session) == gemm(session, [0.0] * 4) == [3.0, 4.0, 6.0, 8.0]
        assert gemm(session, [1.0] * 4, beta=2.0) == [5.0, 6.0, 8.0, 10.0]


def agent_call_recorder(seen: list[Any], features: int = 0) -> peers.Script:
    """An agent that notes the arguments of each Genop and sends its write arguments back."""

    def script(sock: socket.socket) -> None:
        while True:
            stream, envelope, payload = peers.read_request(sock)
            if envelope.method == "CreateSession":
                answer: Any = messages.CreateSessionResponse(session_id=1, features=features)
            elif envelope.method == "Genop":
                seen.append((list(payload.read_args), list(payload.write_args)))
                filled = [peers.arg(a.arg_type, a.buf or bytes(a.size)) for a in payload.write_args]
                answer = messages.GenopResponse(write_args=filled)
            else:
                answer = messages.Empty()
            peers.reply(sock, stream, peers.ok(answer))

    return script


# -- deadlines -------------------------------------------------------------------------------------


def test_the_agent_answers_at_the_deadline_while_the_kernel_still_runs(
    client: RawClient, gate: Gate
) -> None:
    session = client.session()
    late = client.send("Genop", execute(session, "wait"), timeout_nano=int(SHORT * 1e9))
    gate.reached()
    with pytest.raises(Refused, match=r"Genop: not done within 0.05 s") as caught:
        client.answer(late)
    assert caught.value.code == DEADLINE_EXCEEDED
    assert caught.value.errno == DeadlineExceeded.ERRNO
    assert result(client.answer(client.send("Genop", execute(session, "double")))) == 42
    gate.open()
    # RawClient fails on a second answer to the late call.
    for _ in range(3):
        client.call("Genop", execute(session, "double"))


def test_a_deadline_counts_from_the_arrival_and_who_missed_it_is_not_run(
    serve: Serve, gate: Gate
) -> None:
    agent = serve(limits=Limits(threads=1))
    with RawClient(agent.endpoint) as client:
        session = client.session()
        streams, together = [], b""
        for _ in range(6):
            stream, data = client.request(
                "Genop", execute(session, "wait"), timeout_nano=int(SHORT * 1e9)
            )
            streams.append(stream)
            together += peers.frame(stream, peers.REQUEST, 0, data)
        client.sock.sendall(together)
        gate.reached(2)  # as many as there are threads: the others wait
        for stream in streams:
            with pytest.raises(Refused, match="not done within"):
                client.answer(stream)
        gate.open()
        assert result(client.answer(client.send("Genop", execute(session, "double")))) == 42
        assert gate.count == 2


def test_a_call_within_its_deadline_is_answered_once(client: RawClient) -> None:
    session = client.session()
    for _ in range(50):
        stream = client.send("Genop", execute(session, "double"), timeout_nano=10**13)
        assert result(client.answer(stream)) == 42


def test_each_call_has_a_deadline_of_its_own(client: RawClient, gate: Gate) -> None:
    session = client.session()
    calls = {}
    for milliseconds in (900, 300, 600):
        stream = client.send(
            "Genop", execute(session, "wait"), timeout_nano=milliseconds * 1_000_000
        )
        calls[stream] = milliseconds
        gate.reached()
    assert [calls[client.answered()] for _ in calls] == [300, 600, 900]


@pytest.mark.parametrize("nano", [-1, -(2**63), 0, 2**63 - 1])
def test_odd_deadlines_do_no_harm(
    client: RawClient, gate: Gate, monkeypatch: pytest.MonkeyPatch, nano: int
) -> None:
    errors: set[str] = set()
    monkeypatch.setattr(log.logger, "error", lambda text, *_, **__: errors.add(text))
    monkeypatch.setattr(log, "error", log.logger.error)
    session = client.session()
    odd = client.send("Genop", execute(session, "wait"), timeout_nano=nano)
    gate.reached()
    late = client.send("Genop", execute(session, "wait"), timeout_nano=int(SHORT * 1e9))
    with pytest.raises(Refused, match="not done within"):
        client.answer(late)
    gate.open()
    assert result(client.answer(odd)) == 42
    assert errors == set()


def test_a_client_that_goes_leaves_no_deadline(serve: Serve, gate: Gate) -> None:
    agent = serve(limits=Limits(threads=1))
    with RawClient(agent.endpoint) as client:
        session, together = client.session(), b""
        for _ in range(6):
            stream, data = client.request("Genop", execute(session, "wait"), timeout_nano=10**18)
            together += peers.frame(stream, peers.REQUEST, 0, data)
        client.sock.sendall(together)
        gate.reached(2)
    gate.open()
    with agent.server._quiet:
        assert agent.server._quiet.wait_for(lambda: not agent.server.connections, kernels.TIMEOUT)
    assert agent.server.watch._deadlines == {}


def test_a_deadline_passes_on_a_connection_that_is_gone(client: RawClient, gate: Gate) -> None:
    session = client.session()
    client.send("Genop", execute(session, "wait"), timeout_nano=int(SHORT * 1e9))
    gate.reached()
    client.sock.close()
    gate.open()


def test_a_session_raises_deadline_exceeded_and_goes_on(serve: Serve, gate: Gate) -> None:
    config = Config(plugins=f"{kernels.NAME}:cpu", timeouts=Timeouts(operation=SHORT))
    agent = serve(config=config)
    with Session(endpoint=agent.endpoint) as session:
        for _ in range(2):
            with pytest.raises(
                DeadlineExceeded, match=rf"^exec: no.* {re.escape(agent.endpoint)} within 0.05 s"
            ):
                session.exec("lib", "wait", [Arg([1])], [Arg([0])])
            gate.reached()
        assert session.exec("lib", "double", [Arg([1])], [Arg([0])]) == [[2]]
        gate.open()


def call(client: Client, method: str, message: Any, timeout: float | None = None) -> Any:
    template = frames.request(SERVICES[0], method, message)
    return client.call(method, template, (), timeout)[0].message


def test_letting_go_of_much_waits_only_once_for_an_agent_that_hangs() -> None:
    asked: list[str] = []

    def script(sock: socket.socket) -> None:
        while True:
            stream, envelope, _ = peers.read_request(sock)
            asked.append(envelope.method)
            if envelope.method == "CreateSession":
                created = messages.CreateSessionResponse(session_id=len(asked))
                peers.reply(sock, stream, peers.ok(created))

    with fake_peer(script) as endpoint:
        bootstrap(Config(plugins="rpc", endpoint=endpoint, timeouts=Timeouts(control=1.0)))
        sessions = [Session() for _ in range(4)]
        runtime.cleanup()
        del sessions  # which the program held until then
    assert asked == ["CreateSession"] * 4 + ["DestroySession"]


def test_a_client_gives_up_at_its_deadline_and_drops_the_late_answer() -> None:
    """A peer that knows no deadlines: it answers the first call after the second."""

    def peer(sock: socket.socket) -> None:
        first, _, _ = peers.read_request(sock)
        second, _, _ = peers.read_request(sock)
        peers.reply(sock, first, peers.ok(messages.CreateSessionResponse(session_id=1)))
        peers.reply(sock, second, peers.ok(messages.CreateSessionResponse(session_id=2)))
        peers.hang_up(sock)

    with fake_peer(peer) as endpoint:
        client = Client(endpoint)
        try:
            with pytest.raises(DeadlineExceeded, match=rf"no answer from {endpoint} within 0.05 s"):
                call(client, "CreateSession", messages.CreateSessionRequest(), SHORT)
            answer = call(client, "CreateSession", messages.CreateSessionRequest())
            assert answer.session_id == 2
            assert client.alive
        finally:
            client.close()


def test_a_thread_that_gives_up_lets_the_others_read_on() -> None:
    """Of the threads that wait, one reads for all; here the one that gives up first."""
    asked, gave_up = threading.Event(), threading.Event()

    def peer(sock: socket.socket) -> None:
        peers.read_request(sock)
        asked.set()
        patient = [peers.read_request(sock)[0] for _ in range(3)]
        gave_up.wait(kernels.TIMEOUT)
        for stream in patient:
            peers.reply(sock, stream, peers.ok(messages.CreateSessionResponse(session_id=stream)))
        peers.hang_up(sock)

    answers: list[int] = []

    def impatient() -> None:
        with pytest.raises(DeadlineExceeded):
            call(client, "CreateSession", messages.CreateSessionRequest(), 4 * SHORT)
        gave_up.set()

    def patient() -> None:
        asked.wait(kernels.TIMEOUT)
        answer = call(client, "CreateSession", messages.CreateSessionRequest(), kernels.TIMEOUT)
        answers.append(answer.session_id)

    with fake_peer(peer) as endpoint:
        client = Client(endpoint)
        threads = [threading.Thread(target=target) for target in [impatient] + [patient] * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(kernels.TIMEOUT)
        client.close()
    assert sorted(answers) == [3, 5, 7]


def test_sending_to_a_peer_that_does_not_read_ends_at_the_deadline() -> None:
    def peer(sock: socket.socket) -> None:
        opened.wait(kernels.TIMEOUT)

    opened = threading.Event()
    with fake_peer(peer) as endpoint:
        client = Client(endpoint)
        try:
            image = bytes(64 << 20)
            request = messages.ClassifyRequest(session_id=1, image=codec.mark(0))
            template = frames.request(SERVICES[0], "ImageClassification", request, [len(image)])
            with pytest.raises(DeadlineExceeded, match=endpoint):
                client.call("ImageClassification", template, [image], SHORT)
            with pytest.raises(DeadlineExceeded, match=endpoint):
                call(client, "CreateSession", messages.CreateSessionRequest())
            assert not client.alive, "half a frame is out"
        finally:
            opened.set()
            client.close()


# -- peers that are none ---------------------------------------------------------------------------


def open_session(endpoint: str) -> None:
    bootstrap(Config(plugins="rpc", timeouts=Timeouts(connect=5.0, control=5.0)))
    with Session(endpoint=endpoint):
        pass


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"220 mail.example ESMTP\r\n",
        b"\0" * 10,
        peers.frame(1, peers.REQUEST, 0, b"a request"),
    ],
)
def test_an_endpoint_that_speaks_something_else_is_named(greeting: bytes) -> None:
    def peer(sock: socket.socket) -> None:
        peers.read_frame(sock)
        sock.sendall(greeting)
        peers.hang_up(sock)

    with fake_peer(peer) as endpoint:
        with pytest.raises(ProtocolError, match=f"{endpoint} does not speak ttRPC"):
            open_session(endpoint)


def test_an_endpoint_that_hangs_up_at_once_is_named() -> None:
    with fake_peer(lambda sock: None) as endpoint:
        with pytest.raises(ConnectionLost, match=f"{endpoint}.*is it a vAccel agent"):
            open_session(endpoint)


def test_an_endpoint_that_says_nothing_is_named_after_the_time_limit() -> None:
    with fake_peer(peers.hang_up) as endpoint:
        bootstrap(Config(plugins="rpc", timeouts=Timeouts(control=SHORT)))
        with pytest.raises(DeadlineExceeded, match=f"no answer from {endpoint}"):
            Session(endpoint=endpoint)


def test_a_refused_connection_is_named_and_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ConnectionFailed, match=f"{endpoint}.*vaccelrt-agent -a") as caught:
        open_session(endpoint)
    assert type(caught.value) is ConnectionFailed


def test_a_connection_that_is_not_accepted_in_time_is_named() -> None:
    # The backlog of a listener that never accepts is full after a few connections.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = []
        try:
            for _ in range(4):
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex(address)
                waiting.append(sock)
            endpoint = f"tcp://127.0.0.1:{address[1]}"
            bootstrap(Config(plugins="rpc", timeouts=Timeouts(connect=SHORT)))
            with pytest.raises(DeadlineExceeded, match=endpoint):
                Session(endpoint=endpoint)
        finally:
            for sock in waiting:
                sock.close()


def reset(sock: socket.socket) -> None:
    """Make closing the socket send a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_a_reset_connection_is_named() -> None:
    def peer(sock: socket.socket) -> None:
        peers.read_frame(sock)
        reset(sock)

    with fake_peer(peer) as endpoint:
        with pytest.raises(ConnectionLost, match=endpoint):
            open_session(endpoint)


def one_answer(data: bytes, times: int = 1) -> peers.Script:
    """A peer that answers each of the first requests with `data`."""

    def peer(sock: socket.socket) -> None:
        for _ in range(times):
            stream, *_ = peers.read_frame(sock)
            peers.reply(sock, stream, data)
        peers.hang_up(sock)

    return peer


def test_a_malformed_answer_fails_its_call_only() -> None:
    with fake_peer(one_answer(b"\xff\xff\xff", 2)) as endpoint:
        client = Client(endpoint)
        try:
            for _ in range(2):
                with pytest.raises(ProtocolError, match="malformed"):
                    call(client, "CreateSession", messages.CreateSessionRequest())
        finally:
            client.close()


@pytest.mark.parametrize(
    "detail",
    [
        b"\xff\xff\xff",
        messages.ProtoError(ffi_error=2**32 - 1).SerializeToString(),
        messages.ProtoError(ffi_error=0).SerializeToString(),
        messages.ProtoError(type=2).SerializeToString(),
        b"",
    ],
)
def test_odd_details_of_errors_still_make_an_error(detail: bytes) -> None:
    status = {"code": 13, "details": [{"type_url": messages.ERROR_TYPE_URL, "value": detail}]}
    data = messages.RpcResponse(status=status).SerializeToString()
    with fake_peer(one_answer(data)) as endpoint:
        client = Client(endpoint)
        try:
            with pytest.raises(FFIError):
                call(client, "CreateSession", messages.CreateSessionRequest())
        finally:
            client.close()


@pytest.mark.parametrize("stream", [0, 2, 99])
def test_an_answer_nobody_asked_for_ends_the_connection(stream: int) -> None:
    def peer(sock: socket.socket) -> None:
        peers.read_frame(sock)
        peers.reply(sock, stream, b"")
        peers.hang_up(sock)

    with fake_peer(peer) as endpoint:
        client = Client(endpoint)
        try:
            with pytest.raises(ProtocolError, match=endpoint):
                call(client, "CreateSession", messages.CreateSessionRequest())
            assert not client.alive
        finally:
            client.close()


def test_an_answer_over_the_limit_fails_its_call_only() -> None:
    data = peers.ok(messages.ClassifyResponse(tags=bytes(2000)))
    with fake_peer(one_answer(data, 2)) as endpoint:
        client = Client(endpoint, limit=1000)
        try:
            for _ in range(2):
                with pytest.raises(ProtocolError, match=f"{endpoint} is {len(data)} bytes long"):
                    call(client, "CreateSession", messages.CreateSessionRequest())
        finally:
            client.close()


def test_a_request_too_long_for_its_header_is_refused_before_it_is_sent() -> None:
    request = messages.ClassifyRequest(session_id=1, image=codec.mark(0))
    with pytest.raises(FFIError, match="bytes"):
        frames.request(SERVICES[0], "ImageClassification", request, [2**32])


def test_the_agents_limit_reaches_the_session_as_resource_exhausted(serve: Serve) -> None:
    agent = serve(limits=Limits(message=10_000))
    with Session(endpoint=agent.endpoint) as session:
        with pytest.raises(ResourceExhausted, match="the limit is 10000"):
            session.fpga_vadd([0.0] * 5000, [0.0] * 5000)
        assert session.fpga_vadd([1.0], [2.0]) == [3.0]
    assert runtime.current()._open == {}
