"""A thousand clients are killed at random moments of their calls; the agent must not notice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent import kernels
from tests.agent.peers import RawClient, execute, result
from tests.agent.processes import ROOT, TIMEOUT, AgentProcess
from vaccel import Config, bootstrap, cleanup

CLIENTS = 1000
AT_ONCE = 16
SEED = 20_230_121
MIB = 1 << 20


@pytest.mark.subprocess
def test_a_thousand_killed_clients_leave_nothing_behind(
    agent_process: Callable[..., AgentProcess], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # of the clients; the agent has its own
    agent = agent_process(plugins=f"{kernels.NAME}:cpu")
    before = agent.state()
    # The first ones bring the agent's memory to where it stays.
    assert killed_clients(agent.endpoint, CLIENTS // 5, SEED) == CLIENTS // 5
    warm = agent.state()
    assert killed_clients(agent.endpoint, CLIENTS - CLIENTS // 5, SEED + 1) == CLIENTS * 4 // 5
    after = agent.state()
    for what in ("connections", "open", "threads", "descriptors", "files"):
        assert after[what] == before[what], what
    # Without a leak it wobbles by some 20 MiB, up and down, as the C library keeps and returns
    # memory; the 1 MiB of each client's resource alone would add up to 800 MiB.
    assert after["rss"] - warm["rss"] < 64 * MIB
    with RawClient(agent.endpoint) as client:
        session = client.session()
        assert session > CLIENTS // 2, "most clients came as far as a session"
        assert result(client.answer(client.send("Genop", execute(session, "double")))) == 42
    assert agent.stop() == 0
    # Nobody can tidy up after its own SIGKILL; the next process of the user does.
    assert any(tmp_path.glob("vaccel.*"))
    bootstrap(Config())
    cleanup()
    assert list(tmp_path.glob("vaccel.*")) == []


def killed_clients(endpoint: str, count: int, seed: int) -> int:
    """Run the program below; the number of clients that were killed."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", __name__, endpoint, str(count), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT * 2,
        env={**os.environ, "PYTHONPATH": path},
        check=True,
    )
    return int(done.stdout)


# -- the program: one process without threads, whose children are the clients ----------------------


def _client(endpoint: str) -> None:
    """A client's whole life: sessions, a resource with files, small and large calls."""
    import numpy as np

    from vaccel import Arg, Resource, ResourceType, Session

    bootstrap(Config(plugins="rpc"))
    large = np.ones(MIB // 4, np.float32)
    with Session(endpoint=endpoint) as session, Session(endpoint=endpoint) as other:
        with Resource.from_buffer(bytes(MIB), ResourceType.DATA) as resource:
            resource.register(session)
            resource.register(other)
            session.fpga_vadd([1.0], [2.0])
            session.exec_with_resource(resource, "double", [Arg([1])], [Arg([0])])
            other.fpga_vadd(large, large)
            resource.sync(session)
            session.exec("", "double", [Arg([1])], [Arg([0])])


def _counted(endpoint: str, last: int | None) -> int:
    """Run `_client`, counting calls of functions, and die at the last one if it is given."""
    count = 0

    def step(*_: object) -> None:
        nonlocal count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(step)
    try:
        _client(endpoint)
    finally:
        sys.setprofile(None)
    return count


def _life(endpoint: str) -> int:
    """How many calls a client makes that nobody kills."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(write, str(_counted(endpoint, None)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        count = int(pipe.read())
    os.waitpid(pid, 0)
    return count


def _main(endpoint: str, clients: int, seed: int) -> None:
    # What children need, once; a fork copies it.
    import vaccel.plugins.rpc

    assert vaccel.plugins.rpc.plugin.is_remote
    rng = random.Random(seed)
    life = _life(endpoint)
    running = killed = 0
    for _ in range(clients):
        last = rng.randint(1, life * 9 // 10)
        if not os.fork():
            _counted(endpoint, last)
            os._exit(0)
        running += 1
        if running == AT_ONCE:
            killed += os.WIFSIGNALED(os.wait()[1])
            running -= 1
    for _ in range(running):
        killed += os.WIFSIGNALED(os.wait()[1])
    print(killed)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
