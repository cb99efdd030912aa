"""Agents to talk to: in this process, or in one of their own."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent import kernels
from tests.agent.kernels import Gate
from tests.agent.peers import RawClient
from tests.agent.processes import AgentProcess
from vaccel import Config
from vaccel.agent import Agent

Serve = Callable[..., Agent]


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Where `wait` kernels wait; opened at the end, so that none outlives its test."""
    gate = kernels.new_gate()
    yield gate
    gate.open()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start agents in this process, by default with the test kernels, cpu and noop."""
    with contextlib.ExitStack() as stack:

        def start(
            endpoint: str = "tcp://127.0.0.1:0",
            plugins: str = f"{kernels.NAME}:cpu:noop",
            config: Config | None = None,
            **options: Any,
        ) -> Agent:
            config = config or Config(plugins=plugins)
            return stack.enter_context(Agent(endpoint, config, **options))

        yield start


@pytest.fixture
def agent(serve: Serve, gate: Gate) -> Iterator[Agent]:
    agent = serve()
    yield agent
    gate.open()


@pytest.fixture(params=["own reader", "shared reader"])
def client(agent: Agent, request: pytest.FixtureRequest) -> Iterator[RawClient]:
    """A client whose connection is the agent's only one, or one of two."""
    with contextlib.ExitStack() as stack:
        if request.param == "shared reader":
            stack.enter_context(RawClient(agent.endpoint))
        yield stack.enter_context(RawClient(agent.endpoint))


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """A path short enough for a UNIX socket, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="vt-") as folder:
        yield Path(folder) / "agent.sock"


@pytest.fixture
def agent_process() -> Iterator[Callable[..., AgentProcess]]:
    """Start agents in processes of their own; killed at the end if they still run."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(AgentProcess(*args, **options))
