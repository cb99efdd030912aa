"""What every test gets: a private rundir base, a clean environment, a check for leftovers."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

JOIN_TIMEOUT = 5.0  # seconds a test's threads may take, together, to see that they are to end

# Deterministic: the same examples in every run, none slowed down into a failure, none on disk.
settings.register_profile("ci", derandomize=True, deadline=None, database=None)
# For the emulator, about eight times slower: pytest --hypothesis-profile=emulated.
settings.register_profile("emulated", settings.get_profile("ci"), max_examples=15)
settings.load_profile("ci")


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment that tests, wider fixtures and their child processes start from."""
    for name in _vaccel_variables():
        del os.environ[name]
    # As `vaccel.inference.loaded`: tests import engines without it, too.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    base = tempfile.mkdtemp(prefix="vt-")  # short: UNIX socket paths end at 107 bytes
    os.environ["XDG_RUNTIME_DIR"] = base
    config.add_cleanup(lambda: shutil.rmtree(base))


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Fail a test after which a thread, child, socket, rundir or variable is there that was not."""
    threads, before = set(threading.enumerate()), _snapshot()
    yield
    if vaccel := sys.modules.get("vaccel"):
        vaccel.cleanup()
    _join(set(threading.enumerate()) - threads)
    leftovers = sorted(_snapshot() - before)
    if leftovers:
        pytest.fail("the test leaves behind: " + ", ".join(leftovers), pytrace=False)


def _join(threads: set[threading.Thread]) -> None:
    deadline = time.monotonic() + JOIN_TIMEOUT
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _snapshot() -> set[str]:
    return {*_threads(), *_children(), *_sockets(), *_rundirs(), *_vaccel_variables()}


def _threads() -> Iterator[str]:
    for thread in threading.enumerate():
        yield f"thread {thread.name} ({thread.ident})"


def _children() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            stat = (process / "stat").read_text()
        except OSError:  # it ended since it was listed
            continue
        # proc(5): pid (command) state parent …; the command may hold blanks and parentheses.
        command, _, rest = stat.partition("(")[2].rpartition(")")
        if int(rest.split()[1]) == os.getpid():
            yield f"child process {process.name} ({command})"


def _sockets() -> Iterator[str]:
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:  # the descriptor of the listing itself
            continue
        if target.startswith("socket:"):
            yield f"open {target} as descriptor {entry}"


def _rundirs() -> Iterator[str]:
    for path in Path(os.environ["XDG_RUNTIME_DIR"]).glob("vaccel.*"):
        yield f"rundir {path}"


def _vaccel_variables() -> list[str]:
    """The variables that configure vaccel; VACCEL_TEST_* are addressed to the tests themselves."""
    return [
        name
        for name in os.environ
        if name.startswith("VACCEL_") and not name.startswith("VACCEL_TEST_")
    ]
