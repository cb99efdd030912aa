"""C libraries, compiled by the tests."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import abstract
from vaccel import Config, Session, bootstrap
from vaccel.agent import Agent

SOURCES = Path(__file__).parent / "c"
CONFIG = Config(plugins="vaccel.plugins.exec")
ENDPOINT = abstract("exec")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these start processes, and cannot without a C compiler."""
    here = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    for item in here:
        item.add_marker(pytest.mark.subprocess)
        if shutil.which("cc") is None:
            item.add_marker(pytest.mark.skip(reason="needs a C compiler: apt install gcc"))


def compile_c(target: Path, source: Path | str, *options: str) -> Path:
    """The shared library `target` of a file, or of a text."""
    if isinstance(source, str):
        text, source = source, target.with_suffix(".c")
        source.write_text(text)
    command = ["cc", "-shared", "-fPIC", "-O1", f"-I{SOURCES}", "-o", str(target), str(source)]
    subprocess.run([*command, *options], check=True)
    return target


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The library of a file in `c`, compiled once."""
    folder = tmp_path_factory.mktemp("libraries")

    def get(name: str) -> Path:
        path = folder / f"{name}.so"
        return path if path.exists() else compile_c(path, SOURCES / f"{name}.c")

    return get


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for the session, so that nobody's own one plays a part."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("cache")
    patch.setenv("XDG_CACHE_HOME", str(folder))
    yield folder / "vaccel"
    patch.undo()


@pytest.fixture(params=["worker", "agent", "inprocess"])
def session(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """Where functions run in a worker, in one of an agent, or in this process."""
    if request.param == "inprocess":
        monkeypatch.setenv("VACCEL_EXEC_INPROCESS", "1")
    bootstrap(CONFIG)
    with contextlib.ExitStack() as stack:
        endpoint = None
        if request.param == "agent":
            agent = stack.enter_context(Agent(ENDPOINT, allow=["exec"]))
            endpoint = agent.endpoint
        yield stack.enter_context(Session(endpoint=endpoint))
