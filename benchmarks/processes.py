"""The other processes of a benchmark: started, waited for, looked at, ended."""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

START_LIMIT = 30.0
"""Seconds that a process may take until it listens."""
_STOP_LIMIT = 10.0
READY = r"started\. address: (\S+)\s"
"""What an agent prints when it listens; the group is its endpoint."""
_PEERS = str(Path(__file__).with_name("peers.py"))


class Listener:
    """A process that prints where it listens; runs inside a `with` block.

    `match` is what `ready` found in its output; `start_s` the seconds from start to that output.
    """

    def __init__(self, arguments: Sequence[str], ready: str) -> None:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("VACCEL_")}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
        )
        try:
            self.match = self._read_until(re.compile(ready))
        except BaseException:
            self.stop()
            raise
        self.start_s = time.perf_counter() - begin

    def _read_until(self, ready: re.Pattern[str]) -> str:
        out = self._process.stdout
        if out is None:
            raise RuntimeError("started without a pipe for its output")
        text, deadline = "", time.monotonic() + START_LIMIT
        while (found := ready.search(text)) is None:
            left = max(deadline - time.monotonic(), 0.0)
            readable, _, _ = select.select([out], [], [], left)
            data = os.read(out.fileno(), 4096) if readable else b""
            if not data:
                command = " ".join(self._process.args)  # type: ignore[arg-type]
                raise RuntimeError(f"{command}: did not start; its output: {text or 'none'}")
            text += data.decode(errors="replace")
        return found[1]

    def connect(self) -> socket.socket:
        """A connection to the TCP port that `match` ends with."""
        sock = socket.create_connection(("127.0.0.1", int(self.match.rpartition(":")[2])))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def agent(plugins: str = "cpu", *options: str) -> Listener:
    """An agent with `plugins`; `match` is its endpoint."""
    command = ["-m", "vaccel.cli.agent", "-a", "tcp://127.0.0.1:0"]
    command += ["--vaccel-config", f"plugins={plugins},log_level=1", *options]
    return Listener(command, READY)


def reference(kind: str) -> Listener:
    """A raw-socket peer (see `peers`); `match` is its port."""
    return Listener([_PEERS, kind], r"listening on (\d+)\s")


def rss_kb(pid: int) -> int:
    """Resident memory now."""
    return _status(pid, "VmRSS")


def peak_kb(pid: int) -> int:
    """The most resident memory since `reset_peak`."""
    return _status(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/{pid}/status has no {name}")
    return int(found[1])
