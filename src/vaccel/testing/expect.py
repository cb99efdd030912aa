"""How the suites say what is wrong."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


class ConformanceError(AssertionError):
    """A promise is broken; the message names where, what was expected and what was found."""


def expect(holds: bool, where: str, expected: object, found: object) -> None:
    if not holds:
        raise ConformanceError(f"{where}: expected {expected}, found {found}")


@contextlib.contextmanager
def no_error(where: str) -> Iterator[None]:
    """The block raises nothing."""
    try:
        yield
    except ConformanceError:
        raise
    except Exception as exc:
        raise ConformanceError(f"{where}: expected no error, found {exc!r}") from exc


def fails_with(where: str, errors: tuple[type[Exception], ...], call: Callable[[], Any]) -> None:
    """`call()` raises one of `errors`, and neither succeeds nor raises anything else."""
    names = " or ".join(error.__name__ for error in errors)
    try:
        found = repr(call())
    except errors:
        return
    except Exception as exc:
        found = repr(exc)
    raise ConformanceError(f"{where}: expected {names}, found {found:.200}")


def same(found: Any, expected: Any) -> bool:
    """Equal types, shapes and values; a NaN equals a NaN."""
    if type(found) is not type(expected):
        return False
    if isinstance(found, np.ndarray):
        nan = found.dtype.kind == "f"
        return found.dtype == expected.dtype and np.array_equal(found, expected, equal_nan=nan)
    if isinstance(found, (list, tuple)):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == expected) or (found != found and expected != expected)


def wait_for(where: str, what: str, holds: Callable[[], bool], seconds: float) -> None:
    """Until `holds()`, of which no event tells."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise ConformanceError(f"{where}: expected {what} within {seconds:g} s")
        time.sleep(0.005)


def in_threads(where: str, *tasks: Callable[[], None]) -> None:
    """Run the tasks at the same time; re-raise the first error."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(tasks))

    def run(task: Callable[[], None]) -> None:
        try:
            start.wait()
            task()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(task,), name="vaccel-check") for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise ConformanceError(f"{where}: {errors[0]}") from errors[0]


SETTLE = 5.0
"""Seconds that what runs in the background may take to end after cleanup."""


def holdings() -> dict[str, int]:
    """How many threads and file descriptors this process has."""
    gc.collect()
    return {
        "threads": threading.active_count(),
        "file descriptors": len(os.listdir("/proc/self/fd")),
    }


def settle(where: str, before: dict[str, int]) -> None:
    """There are no more threads and descriptors than before."""

    def settled() -> bool:
        return all(count <= before[what] for what, count in holdings().items())

    wait_for(where, f"at most {before}, not {holdings()},", settled, SETTLE)
