"""Sessions on a plugin: one here, one at an agent in another process."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import vaccel
from benchmarks import processes
from vaccel import Config, Session
from vaccel.error import PluginError
from vaccel.inference.loaded import import_engine


@contextlib.contextmanager
def pair(plugin: str, *options: str) -> Iterator[tuple[Session, Session]]:
    """`options` are the agent's."""
    vaccel.bootstrap(Config(plugins=plugin, log_level=1))
    try:
        with processes.agent(plugin, *options) as agent:
            with Session() as here, Session(endpoint=agent.match) as there:
                yield here, there
    finally:
        vaccel.cleanup()


def engine(module: str, extra: str) -> Any:
    """The module; None if it cannot be imported, and then what is measured with it is left out."""
    try:
        return import_engine(module, extra)
    except PluginError as exc:
        left_out(extra, exc.message)
        return None


def left_out(what: str, why: str) -> None:
    print(f"{what}: left out: {why}", file=sys.stderr)
