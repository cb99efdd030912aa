"""The article's sessions, run as real processes."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path

import pytest

from tests import processes
from tests.fpga.devices import built
from tests.transcripts.matching import Facts, difference, transcript

pytestmark = pytest.mark.subprocess

FPGA = "/usr/local/lib/arm-linux-gnueabihf/libvaccel-pynq.so"
SIMULATED = {"VACCEL_PYNQ_DEVICE": "sim"}
NOOP = "/usr/local/lib/libvaccel-noop.so"
VSOCK = "/usr/local/lib/libvaccel-vsock.so"


@pytest.fixture
def facts() -> Facts:
    return Facts(re.escape(os.environ["XDG_RUNTIME_DIR"]), image_size=len(picture().read_bytes()))


ready = pytest.fixture(built, scope="module")


def picture() -> Path:
    # The project is installed as files.
    return Path(str(resources.files("vaccel"))) / "data" / "examples" / "classify.jpg"


def settings(backends: str, **more: str) -> dict[str, str]:
    return {"VACCEL_BACKENDS": backends, "VACCEL_DEBUG_LEVEL": "4", **more}


def check(name: str, facts: Facts, *program: str, env: dict[str, str]) -> None:
    done = processes.run("examples", *program, env=env)
    assert difference(transcript(name), done.stdout.splitlines(), facts) == ""
    assert done.returncode == 0


def test_classify_noop(facts: Facts):
    check("classify_noop", facts, "classify", str(picture()), "1", env=settings(NOOP))


def test_vector_add_noop(facts: Facts):
    check("vector_add_noop", facts, "pynq_vector_add_generic", env=settings(NOOP))


@pytest.mark.usefixtures("ready")
def test_vector_add_pynq(facts: Facts):
    env = settings(FPGA, **SIMULATED)
    check("vector_add_pynq", facts, "pynq_vector_add_generic", env=env)


@pytest.mark.usefixtures("ready")
def test_vector_add_remote(facts: Facts):
    with processes.agent(env={"VACCEL_PLUGINS": "pynq", **SIMULATED}) as agent:
        env = settings(VSOCK, VACCEL_VSOCK=agent.endpoint)
        check("vector_add_remote", facts, "pynq_vector_add_generic", env=env)
        assert agent.stop() == (0, "")


def test_agent_pynq(facts: Facts):
    with processes.agent(env=settings(FPGA, **SIMULATED)) as agent:
        assert difference(transcript("agent_pynq"), agent.lines, facts) == ""
        code, rest = agent.stop()
    assert code == 0
    assert re.search(r"Unregistered plugin fpga_functions\n$", rest)
