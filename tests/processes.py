"""Programs as real processes, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

TIMEOUT = 60.0  # seconds until a process counts as hung


def abstract(name: str) -> str:
    """An endpoint of this run's own: others of the same tests may go on beside it."""
    return f"unix://@vaccel-{name}-{os.getpid()}"


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"vaccel.cli.{module}", *arguments]


def run(
    module: str, *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end; `stdout` has both streams as they came."""
    return subprocess.run(
        command(module, *arguments),
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


class AgentProcess(NamedTuple):
    process: subprocess.Popen[str]
    endpoint: str
    lines: list[str]
    """What it printed, on both streams, until it was ready."""

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """The exit code, and what it printed since it was ready."""
        self.process.send_signal(number)
        return self.process.wait(), "".join(self.process.stdout or ())

    def until(self, text: str) -> list[str]:
        """The lines up to the first with `text` in it."""
        lines: list[str] = []
        for line in self.process.stdout or ():
            lines.append(line.rstrip("\n"))
            if text in line:
                return lines
        raise RuntimeError(f"the agent ended, with code {self.process.wait()}: {lines}")


@contextmanager
def agent(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[AgentProcess]:
    """An agent that listens on a port of its own; ended if it still runs."""
    with subprocess.Popen(
        command("agent", "-a", "tcp://127.0.0.1:0", *arguments),
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        hung = threading.Timer(TIMEOUT, process.kill)
        hung.start()
        try:
            ready = AgentProcess(process, "", [])
            lines = ready.until("Server is running")
            (address,) = (line for line in lines if "address: " in line)
            yield ready._replace(endpoint=address.partition("address: ")[2], lines=lines)
        finally:
            if process.poll() is None:
                process.terminate()  # not kill, which would leave its rundir behind
                process.wait()
            hung.cancel()
