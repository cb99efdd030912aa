"""What tests of plugins with models share: a session here and one at an agent, threads, counts."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import vaccel
from tests.processes import abstract
from vaccel import Config, Resource, ResourceType, Session
from vaccel.agent import Agent


@contextlib.contextmanager
def pair(plugin: str) -> Iterator[tuple[Session, Session]]:
    """A session on the plugin here, and one at an agent that serves it."""
    vaccel.bootstrap(Config(plugins=f"vaccel.plugins.{plugin}"))
    with Agent(abstract("inference")) as agent:
        with Session() as here, Session(endpoint=agent.endpoint) as there:
            yield here, there


def model_of(
    session: Session,
    content: bytes,
    name: str = "model",
    description: Mapping[str, Any] | None = None,
) -> Resource:
    """A resource registered with `session`."""
    resource = Resource.from_buffer(content, ResourceType.MODEL, name=name)
    if description is not None:
        resource.describe(description)
    resource.register(session)
    return resource


def at_once(task: Callable[[int], None], count: int = 8) -> None:
    """Run task(0) … task(count - 1) at the same time; raises the first error."""
    errors: list[BaseException] = []
    start = threading.Barrier(count)

    def run(i: int) -> None:
        try:
            start.wait()
            task(i)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def objects() -> int:
    """How many objects the garbage collector knows."""
    gc.collect()
    return len(gc.get_objects())
