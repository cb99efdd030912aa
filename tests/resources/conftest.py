"""A web server, and folders of the test's own for what is kept and unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import vaccel
from tests.resources.server import WebServer
from vaccel import Config


@pytest.fixture(autouse=True)
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where large files go. The network is the loopback, without proxies."""
    folder = tmp_path / "disk"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    vaccel.bootstrap(Config(plugins="cpu"))
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "vaccel"


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


def files_below(folder: Path) -> list[str]:
    """Names of all that is not a folder, less locks."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if not path.is_dir() and path.name != ".lock"
    )
