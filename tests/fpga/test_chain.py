"""The whole way: a client, an agent process, the pynq plugin, the kernels' RTL."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import vaccel
from tests import processes
from tests.fpga.devices import built
from tests.fpga.reference import bits, vectors
from vaccel import Config, Session
from vaccel.error import ConnectionLost

pytestmark = pytest.mark.subprocess

MILLION = 1_000_000
ROOT = Path(__file__).parents[2]


ready = pytest.fixture(built, scope="module", autouse=True)


@contextmanager
def board(folder: Path, **more: str) -> Iterator[processes.AgentProcess]:
    """An agent with a simulated board, whose rundir lies in `folder`."""
    env = {"VACCEL_PLUGINS": "pynq", "VACCEL_PYNQ_DEVICE": "sim", "XDG_RUNTIME_DIR": str(folder)}
    with processes.agent(env={**env, **more}) as agent:
        yield agent


@pytest.fixture
def remote() -> Iterator[None]:
    vaccel.bootstrap(Config(plugins="rpc"))
    yield
    vaccel.cleanup()


@pytest.mark.usefixtures("remote")
def test_a_million_elements_come_back_bit_for_bit(tmp_path: Path) -> None:
    a, b = vectors(MILLION)
    with board(tmp_path) as agent, Session(endpoint=agent.endpoint) as session:
        assert bits(session.fpga_vadd(a, b)) == bits(a + b)
        added, multiplied = session.fpga_parallel(a, b)
        assert bits(added) == bits(a + b)
        assert bits(multiplied) == bits(a * b)
        integers = a.view(np.int32)
        assert bits(session.fpga_arraycopy(integers)) == bits(integers)
        session.close()
        assert agent.stop() == (0, "")


CLIENT = """
import sys
import numpy as np
from tests.fpga.devices import built
from tests.fpga.reference import bits, vectors
from vaccel import Session

with Session(endpoint=sys.argv[1]) as session:
    for length in map(int, sys.argv[2:]):
        a, b = vectors(length)
        assert bits(session.fpga_vadd(a, b)) == bits(a + b)
"""


def test_two_clients_at_once_get_their_own_results(tmp_path: Path) -> None:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "VACCEL_PLUGINS": "rpc", "PYTHONPATH": path}
    lengths = (["7", "300001", "5000", "1"], ["8", "400001", "2", "60000"])
    with board(tmp_path) as agent:
        clients = [
            subprocess.Popen([sys.executable, "-c", CLIENT, agent.endpoint, *each], env=env)
            for each in lengths
        ]
        assert [client.wait(processes.TIMEOUT) for client in clients] == [0, 0]
        assert agent.stop() == (0, "")


@pytest.mark.usefixtures("remote")
def test_a_client_whose_agent_is_killed_in_a_call_is_told_and_a_new_agent_serves(
    tmp_path: Path,
) -> None:
    a, b = vectors(5 * MILLION)  # takes seconds
    errors: list[ConnectionLost] = []

    def call(session: Session) -> None:
        try:
            session.fpga_vadd(a, b)
        except ConnectionLost as exc:
            errors.append(exc)

    with board(tmp_path, VACCEL_LOG_LEVEL="4") as agent:
        session = Session(endpoint=agent.endpoint)
        caller = threading.Thread(target=call, args=(session,))
        caller.start()
        agent.until("Calling Vector Add function (FPGA)")
        agent.stop(signal.SIGKILL)
        caller.join(processes.TIMEOUT)
        session.close()
    (error,) = errors
    assert re.search(rf"{agent.endpoint}.*open a new Session", error.message)
    with board(tmp_path) as agent, Session(endpoint=agent.endpoint) as session:
        assert bits(session.fpga_vadd(a[:9], b[:9])) == bits(a[:9] + b[:9])


def test_the_articles_program_prints_its_five_numbers(tmp_path: Path) -> None:
    with board(tmp_path) as agent:
        env = {"VACCEL_PLUGINS": "rpc", "VACCEL_RPC_ADDRESS": agent.endpoint}
        done = processes.run("examples", "pynq_vector_add_generic", env=env)
        found = re.findall(r"^\d+\.\d{6}$", done.stdout, re.MULTILINE)
        assert found == ["2.800000", "2.100000", "8.500000", "3.500000", "11.299999"]
        assert (done.returncode, agent.stop()) == (0, (0, ""))
