"""Registering a large model at an agent, against a raw-socket copy of the same file to a file."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import vaccel
from benchmarks import peers, processes
from benchmarks.figures import Figure
from benchmarks.measures import MIB, Effort, Figures, in_turns, ratio

SIZE = peers.SAVE_BYTES

FIGURES = (
    Figure("upload_ratio", "registering a 512 MiB model remotely / raw copy of it", 1.5, aim=1.2),
    Figure("upload_s", "registering a 512 MiB model remotely"),
    Figure("raw_copy_s", "sendfile, recv_into 1 MiB, write"),
    Figure("upload_again_s", "the same model once more: proven, not sent"),
    Figure("upload_agent_mb", "growth of the agent's memory at most, in that", 200),
    Figure("upload_client_mb", "growth of the client's memory at most, in that", 200),
)
PREFIXES = ("upload_", "raw_copy_")


def uploads(effort: Effort) -> Figures:
    growth: dict[str, list[float]] = {"agent": [], "client": []}
    again = []
    with _model() as path, processes.reference("save") as reference, _runtime():

        def copy() -> float:
            begin = time.perf_counter()
            with path.open("rb") as file, reference.connect() as raw:
                raw.sendfile(file)
                if raw.recv(1) != b"." or raw.recv(1):
                    raise RuntimeError("the raw copy was not acknowledged")
            return time.perf_counter() - begin

        def upload() -> float:
            # An agent of its own: one that has the model already would not want it again.
            with processes.agent() as agent, vaccel.Session(endpoint=agent.match) as session:
                pids = {"agent": agent.pid, "client": os.getpid()}
                before = {name: processes.rss_kb(pid) for name, pid in pids.items()}
                for pid in pids.values():
                    processes.reset_peak(pid)
                seconds = _register(path, session)
                for name, pid in pids.items():
                    growth[name].append((processes.peak_kb(pid) - before[name]) / 1024)
                again.append(_register(path, session))
            return seconds

        uploaded, copied = in_turns(effort.long_rounds, upload, copy)
    return {
        "upload_ratio": ratio(uploaded, copied),
        "upload_s": statistics.median(uploaded),
        "raw_copy_s": statistics.median(copied),
        "upload_again_s": statistics.median(again),
        "upload_agent_mb": max(growth["agent"]),
        "upload_client_mb": max(growth["client"]),
    }


def _register(path: Path, session: vaccel.Session) -> float:
    with vaccel.Resource(path, vaccel.ResourceType.MODEL) as model:
        begin = time.perf_counter()
        model.register(session)
        return time.perf_counter() - begin


@contextlib.contextmanager
def _runtime() -> Iterator[None]:
    vaccel.bootstrap(vaccel.Config(plugins="rpc", log_level=1))
    try:
        yield
    finally:
        vaccel.cleanup()


@contextlib.contextmanager
def _model() -> Iterator[Path]:
    """A file of random bytes, in the page cache."""
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory(prefix="vaccel-") as folder:
        path = Path(folder) / "model.bin"
        with path.open("wb") as file:
            for _ in range(SIZE // (16 * MIB)):
                file.write(random.bytes(16 * MIB))
        yield path
