"""Agents and clients in processes of their own: memory, kills, forks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.agent import kernels, peers
from tests.agent.peers import RawClient, Refused, arg, execute, genop, result, text
from tests.agent.processes import ROOT, AgentProcess
from vaccel import Config, Session, bootstrap
from vaccel.error import ConnectionLost

Start = Callable[..., AgentProcess]
MIB = 1 << 20

pytestmark = pytest.mark.subprocess


def test_an_agent_process_serves_and_ends_cleanly(agent_process: Start) -> None:
    agent = agent_process(plugins=kernels.NAME)
    with RawClient(agent.endpoint) as client:
        session = client.session()
        assert result(client.answer(client.send("Genop", execute(session, "double")))) == 42
        assert agent.state(connections=1)["open"] == ["Session"]
    assert agent.state()["open"] == []
    assert agent.stop() == 0


def test_headers_that_promise_much_cost_nothing(agent_process: Start) -> None:
    agent = agent_process()
    before = agent.state()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(agent.endpoint)) for _ in range(16)]
        for client in clients:
            client.session()
            stream, _ = client.request("Genop")
            header = peers.frame(stream, peers.REQUEST, 0, b"")[4:]
            client.sock.sendall((1 << 30).to_bytes(4, "big") + header + bytes(100))
        with RawClient(agent.endpoint) as other:
            other.session()
        during = agent.state(connections=16)
        assert during["rss"] - before["rss"] < 24 * MIB
    assert agent.state()["open"] == []


def exhausting(session: int) -> dict[str, Any]:
    """Small requests that ask for gigabytes."""
    number = (30_000).to_bytes(8, "little")
    zero, one = bytes(8), (30_000).to_bytes(8, "little")
    empty, f32 = arg(18, b""), arg(17, bytes(4))
    read = (arg(7, number), arg(7, one), arg(7, zero), f32, empty, arg(7, zero), empty)
    return {
        "exec": genop(
            session,
            1,
            text("lib"),
            text("nothing"),
            write=({"size": 2**32 - 1, "arg_type": 2},),
        ),
        "sgemm": genop(
            session,
            17,
            *read,
            arg(7, number),
            f32,
            arg(7, number),
            write=({"size": 3_600_000_000, "arg_type": 18},),
        ),
    }


@pytest.mark.parametrize("how", ["exec", "sgemm"])
def test_small_requests_that_ask_for_much_cost_nothing(agent_process: Start, how: str) -> None:
    agent = agent_process(plugins=f"{kernels.NAME}:cpu", message=MIB)
    with RawClient(agent.endpoint) as client:
        session = client.session()
        before = agent.state(connections=1)
        with pytest.raises(Refused):
            client.call("Genop", exhausting(session)[how])
        assert agent.state(connections=1)["peak"] - before["peak"] < 64 * MIB


def test_a_large_call_leaves_no_memory_behind_at_the_agent(agent_process: Start) -> None:
    agent = agent_process(plugins="cpu")
    bootstrap(Config(plugins="rpc"))
    array = np.ones(10 * MIB, np.float32)  # larger than what malloc keeps for reuse
    with Session(endpoint=agent.endpoint) as session:
        session.noop()
        before = agent.state(connections=1)
        for _ in range(3):
            assert session.fpga_vadd(array, array)[-1] == 2
        assert agent.state(connections=1)["rss"] - before["rss"] < 24 * MIB


def test_an_agent_that_is_killed_is_a_lost_connection_and_can_come_back(
    agent_process: Start,
) -> None:
    agent = agent_process(plugins="cpu")
    bootstrap(Config(plugins="rpc"))
    old = Session(endpoint=agent.endpoint)
    assert old.fpga_vadd([1.0], [2.0]) == [3.0]
    agent.kill()
    for _ in range(2):
        with pytest.raises(ConnectionLost, match=agent.endpoint):
            old.fpga_vadd([1.0], [2.0])
    again = agent_process(agent.endpoint, plugins="cpu")
    with Session(endpoint=again.endpoint) as new:
        assert new.fpga_vadd([1.0], [2.0]) == [3.0]
    with pytest.raises(ConnectionLost, match="open a new Session"):
        old.noop()
    old.close()


FORKING = """
import os, sys
import vaccel
from vaccel import Config, Session, bootstrap, runtime

bootstrap(Config(plugins="rpc"))
session = Session(endpoint=sys.argv[1])
assert session.fpga_vadd([1.0], [2.0]) == [3.0]
rundir = runtime.current().rundir.path
pids = []
for ending in ("exit", "_exit"):
    pid = os.fork()
    if not pid:
        bootstrap(Config(plugins="rpc"))
        assert runtime.current().rundir.path != rundir
        with Session(endpoint=sys.argv[1]) as own:
            assert own.fpga_vadd([3.0], [4.0]) == [7.0]
        vaccel.cleanup()
        assert rundir.is_dir()
        sys.exit(0) if ending == "exit" else os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert session.fpga_vadd([1.0], [2.0]) == [3.0]
assert rundir.is_dir()
session.close()
vaccel.cleanup()
assert not rundir.exists()
"""


def test_a_forked_child_starts_on_its_own_and_does_not_disturb_its_parent(
    agent_process: Start,
) -> None:
    agent = agent_process(plugins="cpu")
    done = subprocess.run(
        [sys.executable, "-c", FORKING, agent.endpoint],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert agent.state()["open"] == []


USING_INHERITED = """
import os, sys
from vaccel import Config, Session, bootstrap
from vaccel.error import FFIError

bootstrap(Config(plugins="rpc"))
session = Session(endpoint=sys.argv[1])
session.noop()
pid = os.fork()
if not pid:
    try:
        session.fpga_vadd([1.0], [2.0])
    except FFIError:
        pass
    session.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert session.fpga_vadd([1.0], [2.0]) == [3.0]
session.close()
"""


def test_a_session_inherited_by_a_child_stays_the_parents(agent_process: Start) -> None:
    agent = agent_process(plugins="cpu")
    done = subprocess.run(
        [sys.executable, "-c", USING_INHERITED, agent.endpoint],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_client_process_that_is_ended_takes_its_sessions_with_it(
    agent_process: Start, number: int
) -> None:
    agent = agent_process(plugins=kernels.NAME)
    script = (
        "import sys; from tests.agent.peers import RawClient\n"
        "client = RawClient(sys.argv[1]); client.resource(client.session())\n"
        "print(flush=True); sys.stdin.read()"
    )
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [sys.executable, "-c", script, agent.endpoint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert agent.state(connections=1)["open"] == ["Resource", "Session"]
        process.send_signal(number)
        process.wait(60)
    state = agent.state()
    assert (state["open"], state["files"]) == ([], [])
