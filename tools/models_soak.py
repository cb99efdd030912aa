#!/usr/bin/env python3
"""Many clients run models at one agent for a while: pictures and tensors, each result compared.

Prints the agent's memory on the way, and the calls at the end. Exits 1 on any error or other
result, if memory keeps growing after the first third, or if threads, descriptors, sessions or files
are left in the agent when its clients have gone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.agent.processes import AgentProcess
from tests.inference import soak

PERIOD = 0.5
"""Seconds between two looks at the agent's memory."""


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    names = soak.installed(*soak.ENGINES)
    task = soak.prepared(names, seconds=options.seconds)
    with AgentProcess(plugins=":".join(names)) as agent:
        task = task._replace(endpoint=agent.endpoint)
        before = soak.warmed_up(agent, task)
        print(f"{options.clients} clients for {options.seconds:g} s, plugins {', '.join(names)}")
        with soak.Clients(task, options.clients) as clients:
            samples = _watched(agent, clients, options.seconds)
            report = clients.report()
        faults = [*report.errors, *soak.left_behind(agent, before)]
        grown = soak.growth(samples)
        if grown:
            faults.append(grown)
        if agent.stop():
            faults.append("the agent did not end well")
    print(f"{report.calls:,} calls", *faults, sep="\n")
    return int(bool(faults))


def _watched(agent: AgentProcess, clients: soak.Clients, seconds: float) -> list[int]:
    """The agent's memory at regular times, until the first client ends."""
    samples: list[int] = []
    end = time.monotonic() + seconds + soak.TIMEOUT
    while clients.run_for(PERIOD) and time.monotonic() < end:
        samples.append(agent.memory())
        if len(samples) % 20 == 0:
            print(f"{len(samples) * PERIOD:4.0f} s  {samples[-1] >> 20} MiB", flush=True)
    return samples


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
