"""Remote calls against raw sockets, local calls against numpy and plain Python, the agent's use.

Agent and client are two processes on TCP loopback. Every ratio compares two things measured in
turns in this run, so a busy or slow machine hardly changes it; the absolute figures are only good
on a quiet one. See docs/performance.md for how each is measured.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vaccel
from benchmarks import figures, measures
from benchmarks.figures import Figure, Part

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
    Figure("clients64_ratio", "64 client connections together / 1", least=0.9, aim=1.3),
    Figure("clients64_per_s", "small calls, 64 connections of 8 processes"),
    Figure("client1_per_s", "small calls, 1 connection"),
    Figure("programs64_ratio", "64 programs on this machine together / 1"),
    Figure("programs64_per_s", "small calls, 64 programs"),
    Figure("program1_per_s", "small calls, 1 program"),
    Figure("agent_start_s", "agent: from start to listening", 0.5),
    Figure("agent_idle_rss_mb", "agent: memory, idle", 60),
    Figure("per_session_kb", "agent: memory for an idle connected session", 100),
)

PARTS: tuple[Part, ...] = (
    (measures.small_call, ("small_call_", "echo_")),
    (measures.local, ("local_", "numpy_", "plain_")),
    (measures.pipelined, ("pipelined_", "serial_")),
    (measures.many_clients, ("clients64_", "client1_")),
    (measures.many_programs, ("programs64_", "program1_")),
    (measures.bulk, ("bulk_", "raw_bulk_")),
    (measures.bulk_memory, ("agent_bulk_",)),
    (measures.idle, ("agent_start_", "agent_idle_")),
    (measures.sessions, ("per_session_",)),
)


def main() -> int:
    vaccel.bootstrap(vaccel.Config(plugins="cpu", log_level=1))
    try:
        return figures.main(__doc__, FIGURES, PARTS)
    finally:
        vaccel.cleanup()


if __name__ == "__main__":
    sys.exit(main())
