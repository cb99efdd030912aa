"""An agent in a process of its own, that tells what it holds.

Run as a program: serves at argv[1] with the plugins argv[2], prints its endpoint, then answers
each line on standard input with one of JSON; ends at the end of the input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from vaccel import Config, runtime
from vaccel.agent import Agent
from vaccel.rpc.handler import Limits

ROOT = Path(__file__).parents[2]
TIMEOUT = 60.0


class AgentProcess:
    """Starts the program below; `endpoint` is where it listens."""

    def __init__(
        self, endpoint: str = "tcp://127.0.0.1:0", plugins: str = "cpu:noop", **limits: int
    ) -> None:
        # A rundir base of its own: an agent that is killed cannot remove its rundir.
        self._base = tempfile.TemporaryDirectory(prefix="vt-")
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.agent.processes", endpoint, plugins, json.dumps(limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "XDG_RUNTIME_DIR": self._base.name},
        )
        self.endpoint = self._line()

    def __enter__(self) -> AgentProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._base.cleanup()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the agent process ended"
        return line.strip()

    def state(self, connections: int = 0) -> dict[str, Any]:
        """What the process holds once it has that many connections (see `_state`)."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{connections}\n")
        self._process.stdin.flush()
        state: dict[str, Any] = json.loads(self._line())
        return state

    def memory(self) -> int:
        """Resident bytes, now, whatever it is at."""
        return _memory("VmRSS", self._process.pid)

    def stop(self) -> int:
        """End it as at the end of its input; the exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(TIMEOUT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(TIMEOUT)


def _state(agent: Agent, connections: int) -> dict[str, Any]:
    with agent.server._quiet:
        agent.server._quiet.wait_for(lambda: agent.server.connections == connections, TIMEOUT)
    current = runtime.current()
    return {
        "connections": agent.server.connections,
        "open": sorted(type(thing).__name__ for thing in current._open),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "tasks": len(os.listdir("/proc/self/task")),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "files": sorted(str(p.relative_to(current.rundir.path)) for p in _walk(current)),
        "rss": _memory("VmRSS"),
        "peak": _memory("VmHWM"),
    }


def _memory(name: str, process: int | str = "self") -> int:
    """Bytes, as proc(5) calls them."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kibibytes) << 10


def _walk(current: runtime.Runtime) -> list[Path]:
    return [path for path in current.rundir.path.rglob("*") if path.name != ".lock"]


def _main() -> None:
    endpoint, plugins, limits = sys.argv[1:]
    with Agent(endpoint, Config(plugins=plugins), limits=Limits(**json.loads(limits))) as agent:
        print(agent.endpoint, flush=True)
        for line in sys.stdin:
            print(json.dumps(_state(agent, int(line))), flush=True)


if __name__ == "__main__":
    _main()
