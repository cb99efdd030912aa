"""The conformance suite for transports: what every kind of endpoint must carry and survive."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
from collections.abc import Callable, Iterator

import numpy as np

from vaccel import runtime
from vaccel.agent import Agent
from vaccel.config import Config, Timeouts
from vaccel.error import ConnectionFailed, ConnectionLost, DeadlineExceeded
from vaccel.ops.catalog import Operations
from vaccel.plugin import Plugin
from vaccel.rpc import address, frames, messages, transport
from vaccel.rpc.client import Client
from vaccel.rpc.ttrpc import Connection, Kind, Role
from vaccel.session import Session
from vaccel.testing.expect import (
    expect,
    fails_with,
    holdings,
    in_threads,
    no_error,
    settle,
    wait_for,
)

WAIT = 10.0
"""Seconds within which one side must have noticed what the other did."""


def check_transport(
    endpoint: str | Callable[[], str],
    *,
    connect: Callable[[str], str] | None = None,
    connections: int = 32,
    large: int = 64 << 20,
) -> None:
    """Hold the transport of `endpoint` to what clients and agents rely on.

    An agent listens on `endpoint` (or on what it gives, when called) and clients connect there, or
    to what `connect` makes of the address on which the agent listens. Checks empty, small and large
    calls (up to `large` bytes a call), several threads on a connection, `connections` at once,
    frames in pieces and frames cut off, hang-ups of both sides, and the release of the endpoint.

    Starts and ends the runtime. Raises ConformanceError.
    """
    listen = endpoint if isinstance(endpoint, str) else endpoint()
    before = holdings()
    try:
        timeouts = Timeouts(connect=WAIT, control=WAIT)
        runtime.bootstrap(Config(plugins="cpu", timeouts=timeouts))
        suite = _Suite(listen, connect, large)
        # Before the rpc plugin is loaded, to which the agent's sessions would turn instead.
        runtime.current().add(suite.probe, "the conformance suite")
        with no_error(listen):
            suite.run(connections)
    finally:
        runtime.cleanup()
    settle(f"{listen}: after stop", before)


class _Probe(Plugin):
    """Tells of a call that is under way at the agent, and of its session's end."""

    def __init__(self) -> None:
        super().__init__("probe")
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.released = threading.Event()
        self.kernel(Operations.detect)(self._stay)

    def reset(self) -> None:
        for event in (self.entered, self.leave, self.released):
            event.clear()

    def _stay(self, session: Session, image: memoryview) -> str:
        self.entered.set()
        self.leave.wait(WAIT)
        return "stayed"

    def close_session(self, session: Session) -> None:
        self.released.set()


class _Suite:
    def __init__(self, listen: str, connect: Callable[[str], str] | None, large: int) -> None:
        self._listen = listen
        self._connect = connect or (lambda listening: listening)
        self._large = large
        self._endpoint = ""
        self.probe = _Probe()

    def run(self, connections: int) -> None:
        with self._agent() as agent:
            self.check_calls()
            self.check_threads()
            self.check_connections(agent, connections)
            self.check_pieces()
            self.check_cut_off(agent)
        self.check_released()
        self.check_client_goes()
        self.check_agent_goes()

    @contextlib.contextmanager
    def _agent(self) -> Iterator[Agent]:
        with Agent(self._listen) as agent:
            self._endpoint = self._connect(agent.endpoint)
            yield agent
            wait_for(
                self._where("connections that their clients closed"),
                "an agent without connections",
                lambda: agent.server.connections == 0,
                WAIT,
            )

    def _session(self) -> Session:
        return Session(endpoint=self._endpoint)

    def _where(self, what: str) -> str:
        return f"{self._listen}: {what}"

    # -- calls ---------------------------------------------------------------------------------

    def check_calls(self) -> None:
        """Vectors of every order of magnitude arrive whole."""
        with self._session() as session:
            session.noop()
            for size in (0, 1, 5, 1000, 8191, 16385, 1 << 18, self._large // 12):
                self._add(session, size)

    def check_threads(self) -> None:
        """Threads that share a connection get each its own answers."""

        def call(session: Session, seed: int) -> None:
            for i in range(50):
                self._add(session, (seed * 7919 + i * 613) % 20_000)

        with self._session() as session, self._session() as other:
            calls = [functools.partial(call, s, i) for i, s in enumerate([session, other] * 4)]
            in_threads(self._where("8 threads on a connection"), *calls)

    def _add(self, session: Session, size: int) -> None:
        ramp = np.arange(size, dtype=np.float32)
        found = session.fpga_vadd(ramp, ramp[::-1])
        right = found.shape == (size,) and bool((found == np.float32(size - 1)).all())
        expect(right, self._where(f"a vector add of {size}"), f"{size} times {size - 1}", found)

    def check_connections(self, agent: Agent, count: int) -> None:
        """Many connections are open at once, and each is served."""
        template = _create_session()
        with contextlib.ExitStack() as clients:
            numbers = set()
            for _ in range(count):
                client = Client(self._endpoint, Timeouts(connect=WAIT))
                clients.callback(client.close)
                shape, _ = client.call("CreateSession", template, (), WAIT)
                numbers.add(shape.message.session_id)
            where = self._where(f"{count} connections")
            expect(len(numbers) == count, where, f"{count} sessions", len(numbers))
            # Those of the checks before may still be ending.
            wait_for(where, f"{count}", lambda: agent.server.connections == count, WAIT)

    # -- pieces --------------------------------------------------------------------------------

    def _raw(self) -> contextlib.closing[socket.socket]:
        sock = address.connect(address.parse(self._endpoint), WAIT)
        sock.settimeout(WAIT)
        return contextlib.closing(sock)

    def check_pieces(self) -> None:
        """A frame that arrives byte by byte is answered as if it came whole."""
        connection = Connection(Role.CLIENT)
        with self._raw() as sock:
            for byte in _frame():
                sock.sendall(bytes([byte]))
            events = transport.receive(sock, connection)
            while events == []:
                events = transport.receive(sock, connection)
            where = self._where("a request byte by byte")
            expect(bool(events), where, "an answer", "the end of the connection")

    def check_cut_off(self, agent: Agent) -> None:
        """A peer that goes in the middle of a frame takes nothing but itself with it."""
        frame = _frame()
        where = self._where("peers that send no whole frame")
        with self._session() as session:
            for sent in (b"", frame[:4], frame[:-1], frame + frame[:4], b"GET / HTTP/1.1\r\n\r\n"):
                with self._raw() as sock:
                    sock.sendall(sent)
            wait_for(where, "one connection", lambda: agent.server.connections == 1, WAIT)
            self._add(session, 5)

    # -- the end of a connection ---------------------------------------------------------------

    def check_released(self) -> None:
        """After stop nobody answers, and a new agent can take the endpoint."""
        where = self._where("after stop")
        fails_with(where, (ConnectionFailed, DeadlineExceeded), self._session)
        with self._agent(), self._session() as session:
            self._add(session, 5)

    def check_client_goes(self) -> None:
        """A client that goes in the middle of a call takes its session along, at once."""
        where = self._where("a client that hangs up in a call")
        with self._agent(), self._call_under_way(where):
            self._hang_up()
            wait_for(where, "the end of its session", self.probe.released.is_set, WAIT)
        with self._agent(), self._session() as session:
            self._add(session, 5)

    def check_agent_goes(self) -> None:
        """A call that waits for an agent that goes fails; a new session finds the next agent."""
        where = self._where("an agent that stops in a call")
        with self._agent() as agent, self._call_under_way(where):
            agent.stop(grace=0)
        with self._agent(), self._session() as session:
            self._add(session, 5)

    @contextlib.contextmanager
    def _call_under_way(self, where: str) -> Iterator[None]:
        """A call that is at the agent; the block must end its connection."""
        self.probe.reset()
        found: list[object] = []

        def call() -> None:
            try:
                found.append(session.detect(b""))
            except Exception as exc:
                found.append(exc)

        with self._session() as session:
            thread = threading.Thread(target=call, name="vaccel-check")
            thread.start()
            try:
                wait_for(where, "the call to arrive", self.probe.entered.is_set, WAIT)
                yield
            finally:
                self.probe.leave.set()
                thread.join()
        lost = isinstance(found[0], ConnectionLost)
        expect(lost, where, "ConnectionLost for the call that waited", repr(found[0]))

    def _hang_up(self) -> None:
        """End this process's connections, as a crash would: without a word."""
        runtime.current().remote().close()


def _create_session() -> frames.Template:
    request = messages.CreateSessionRequest()
    return frames.request(messages.SERVICES[0], "CreateSession", request)


def _frame() -> bytes:
    return b"".join(_create_session().frame(1, Kind.REQUEST, 0, ()))
