"""Calls of a C function through its worker process."""

from __future__ import annotations

import itertools
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import sessions
from benchmarks.measures import Effort, Figures, each, expect, in_turns
from vaccel import Arg, Session

_SOURCE = Path(__file__).resolve().parents[1] / "tests" / "exec" / "c" / "plain.c"


def exec_call(effort: Effort) -> Figures:
    if shutil.which("cc") is None:
        sessions.left_out("exec", "there is no C compiler (apt install gcc)")
        return {}
    with tempfile.TemporaryDirectory(prefix="vaccel-") as folder:
        library = str(Path(folder) / "plain.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, str(_SOURCE)], check=True)
        with sessions.pair("exec", "--allow", "exec") as (here, there):
            here_call, there_call = _counting(here, library), _counting(there, library)
            here_s, there_s = in_turns(
                effort.rounds,
                lambda: each(100, here_call),
                lambda: each(100, there_call),
            )
    return {
        "exec_call_us": statistics.median(here_s) * 1e6,
        "exec_remote_call_us": statistics.median(there_s) * 1e6,
    }


def _counting(session: Session, library: str) -> Callable[[], None]:
    """Calls a function that counts its calls, and counts them, too."""
    expected = itertools.count(1)

    def call() -> None:
        count = Arg(np.zeros(1, np.int32))
        session.exec(library, "count", [], [count])
        expect(int(count.buf[0]), next(expected), "exec")

    return call
