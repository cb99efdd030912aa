"""Remote calls against raw sockets, local calls against numpy and plain Python, the agent's use.

Agent and client are two processes on TCP loopback. Every ratio compares two things measured in
turns in this run, so a busy or slow machine hardly changes it; the absolute figures are only good
on a quiet one. See docs/performance.md for how each is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import google.protobuf
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vaccel
from benchmarks import measures
from benchmarks.measures import QUICK, THOROUGH, Effort, Figures


class Figure(NamedTuple):
    key: str
    what: str
    most: float | None = None
    """The limit, where less is better."""
    least: float | None = None
    """The limit, where more is better."""
    aim: float | None = None

    def verdict(self, value: float) -> str:
        """'missed', 'ok', or 'aim met'; '' where there is no limit."""
        limit = self.most if self.most is not None else self.least
        if limit is None:
            return ""
        sign = 1 if self.most is not None else -1
        if sign * value > sign * limit:
            return "missed"
        return "aim met" if self.aim is not None and sign * value <= sign * self.aim else "ok"


FIGURES = (
    Figure("small_call_ratio", "remote vadd of 5 / raw echo of the same bytes", 2.2, aim=1.6),
    Figure("small_call_us", "remote vadd of 5 float32"),
    Figure("echo_us", "raw blocking echo"),
    Figure("bulk_ratio", "remote vadd of two 64 MiB arrays / raw transfer", 1.6, aim=1.25),
    Figure("bulk_s", "remote vadd of two 64 MiB arrays"),
    Figure("raw_bulk_s", "raw sockets, 128 MiB there and 64 MiB back"),
    Figure("agent_bulk_memory_ratio", "agent's peak growth in that call / its bytes", 1.15),
    Figure("local_vadd_ratio", "local vadd of 5 / numpy add", 8, aim=5),
    Figure("local_vadd_us", "local vadd of 5 float32"),
    Figure("numpy_add_us", "numpy add of the same"),
    Figure("local_noop_ratio", "session.noop() / a bare method call", 20, aim=8),
    Figure("local_noop_us", "session.noop()"),
    Figure("plain_call_us", "a bare method call"),
    Figure("pipelined_ratio", "8 threads on one connection / 1 thread", least=1.0),
    Figure("pipelined_per_s", "small calls, 8 threads on one connection"),
    Figure("serial_per_s", "small calls, 1 thread"),
    Figure("clients64_ratio", "64 client processes together / 1", least=0.9, aim=1.3),
    Figure("clients64_per_s", "small calls, 64 client processes"),
    Figure("client1_per_s", "small calls, 1 client process"),
    Figure("agent_start_s", "agent: from start to listening", 0.5),
    Figure("agent_idle_rss_mb", "agent: memory, idle", 60),
    Figure("per_session_kb", "agent: memory for an idle connected session", 100),
)

PARTS: tuple[tuple[Callable[[Effort], Figures], tuple[str, ...]], ...] = (
    (measures.small_call, ("small_call_", "echo_")),
    (measures.local, ("local_", "numpy_", "plain_")),
    (measures.pipelined, ("pipelined_", "serial_")),
    (measures.many_clients, ("clients64_", "client1_")),
    (measures.bulk, ("bulk_", "raw_bulk_")),
    (measures.bulk_memory, ("agent_bulk_",)),
    (measures.idle, ("agent_start_", "agent_idle_")),
    (measures.sessions, ("per_session_",)),
)
"""Each measurement with the beginnings of the keys that it yields."""


def measure(keys: list[str], effort: Effort) -> Figures:
    """The figures `keys` and those measured with them; all if `keys` is empty."""
    figures: Figures = {}
    vaccel.bootstrap(vaccel.Config(plugins="cpu", log_level=1))
    try:
        for part, prefixes in PARTS:
            if not keys or any(key.startswith(prefixes) for key in keys):
                figures |= part(effort)
    finally:
        vaccel.cleanup()
    return {f.key: figures[f.key] for f in FIGURES if f.key in figures}


def machine() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "protobuf": google.protobuf.__version__,
    }


def table(figures: Figures) -> str:
    lines = [f"{'figure':24} {'value':>10} {'must be':>8} {'aim':>6}  verdict"]
    for figure in FIGURES:
        if figure.key in figures:
            value = figures[figure.key]
            limit = f"≤ {figure.most:g}" if figure.most is not None else ""
            limit = f"≥ {figure.least:g}" if figure.least is not None else limit
            aim = "" if figure.aim is None else f"{figure.aim:g}"
            line = f"{figure.key:24} {value:>10.4g} {limit:>8} {aim:>6}  {figure.verdict(value):8}"
            lines.append(f"{line} {figure.what}")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    keys = [figure.key for figure in FIGURES]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is missed")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, rougher figures")
    parser.add_argument("--only", nargs="+", choices=keys, default=[], metavar="KEY",
                        help=f"measure these: {', '.join(keys)}")  # fmt: skip
    return parser.parse_args()


def main() -> int:
    options = arguments()
    # As for Ctrl-C: unwind, so that no process is left.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    figures = measure(options.only, QUICK if options.quick else THOROUGH)
    if options.json:
        print(json.dumps({**figures, **machine()}, indent=2))
    else:
        print(table(figures))
    missed = [f.key for f in FIGURES if f.key in figures and f.verdict(figures[f.key]) == "missed"]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
