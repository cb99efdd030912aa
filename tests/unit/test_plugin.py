"""Plugins: how they are found, what is said when they are not, how they are loaded."""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import vaccel
from tests.processes import abstract
from vaccel import Config, Session, plugin, runtime
from vaccel.agent import Agent
from vaccel.error import DeviceError, FFIError, InvalidArgument, PluginError
from vaccel.ops.catalog import BY_NAME
from vaccel.plugin import Plugin, PluginType
from vaccel.plugins import rpc

SOURCE = """
from vaccel.ops.catalog import Operations
from vaccel.plugin import Plugin, PluginType

plugin = Plugin("mine", PluginType.GPU, summary="a test")

@plugin.kernel(Operations.fpga_vadd)
def add(session, a, b):
    return a + b + 1
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "package_of_mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "fast.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return package / "fast.py"


@pytest.fixture(autouse=True)
def forgotten() -> Any:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if "mine" in name or name.startswith("vaccel_plugin_"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cpu", "cpu"),
        ("noop", "noop"),
        ("rpc", "rpc"),
        ("vsock", "vsock"),
        ("vaccel.plugins.noop", "noop"),
        ("libvaccel-noop.so", "noop"),
        ("libvaccel-noop.so.0.8", "noop"),
        ("/usr/local/lib/libvaccel-noop.so", "noop"),
        ("./lib/libvaccel-rpc.so", "rpc"),
        ("libvaccel-vsock.so", "vsock"),
    ],
)
def test_built_in_plugins_have_several_names(text: str, name: str) -> None:
    found, origin = plugin.load(text)
    assert found.name == name
    assert origin.endswith(".py")


def test_a_module_path_names_a_plugin(module: Path) -> None:
    found, origin = plugin.load("package_of_mine.fast")
    assert (found.name, found.type, origin) == ("mine", PluginType.GPU, str(module))


def test_a_module_at_the_top_names_a_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "halves_of_mine.py").write_text(SOURCE)
    (tmp_path / "folder_of_mine").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert plugin.load("halves_of_mine")[0].name == "mine"
    for text in ("folder_of_mine", "libvaccel-halves_of_mine.so"):
        with pytest.raises(PluginError, match="no plugin of this name is installed"):
            plugin.load(text)
    with pytest.raises(PluginError, match="json has no Plugin object named 'plugin'"):
        plugin.load("json")


def test_a_file_names_a_plugin(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(module.parent)
    for text in (str(module), "./fast.py", "fast.py"):
        assert plugin.load(text)[0].name == "mine"


def test_an_entry_point_names_a_plugin(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = metadata.EntryPoint("quick", "package_of_mine.fast:plugin", "vaccel.plugins")
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: [entry] if "vaccel" in group else []
    )
    assert plugin.load("quick")[0].name == "mine"
    assert plugin.installed()["quick"] == "package_of_mine.fast:plugin"
    assert plugin.load("libvaccel-quick.so")[0].name == "mine"


def test_several_plugins_are_loaded_in_order(module: Path) -> None:
    vaccel.bootstrap(Config(plugins="package_of_mine.fast:noop:libvaccel-noop.so:cpu"))
    assert [p.name for p in runtime.current().plugins] == ["mine", "noop", "cpu"]
    with Session() as session:
        assert session.fpga_vadd([1.0], [2.0]) == [4.0]
    with Session(PluginType.CPU) as session:
        assert session.fpga_vadd([1.0], [2.0]) == [3.0]


def test_the_environment_names_plugins(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VACCEL_BACKENDS", f"/usr/lib/libvaccel-noop.so:{module}")
    vaccel.bootstrap()
    assert [p.name for p in runtime.current().plugins] == ["noop", "mine"]


BROKEN = {
    "raises": ("raise KeyError('no device')", "KeyError: 'no device'"),
    "imports": ("import nonesuch_module", "No module named 'nonesuch_module'"),
    "empty": ("", "has no Plugin object named 'plugin'"),
    "other": ("plugin = 3", "has no Plugin object named 'plugin'"),
    "syntax": ("plugin = (", "SyntaxError"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_says_why_and_what_is_installed(kind: str, module: Path) -> None:
    source, reason = BROKEN[kind]
    module.write_text(source)
    with pytest.raises(PluginError) as caught:
        vaccel.bootstrap(Config(plugins=f"cpu:{module}"))
    message = caught.value.message
    assert message.startswith(f"plugin '{module}' could not be loaded: ")
    assert reason in message
    assert f"installed plugins: {', '.join(sorted(plugin.BUILT_IN))}" in message
    if kind in ("raises", "imports", "syntax", "exits"):
        assert f"vaccel_plugin_{module.stem}" not in sys.modules


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonesuch", "no plugin of this name is installed"),
        ("libvaccel-nonesuch.so", "no plugin of this name is installed"),
        ("package.nonesuch", "No module named 'package'"),
        ("/no/such/file.py", "there is no file /no/such/file.py"),
        ("/no/such/lib.so", "there is no file /no/such/lib.so"),
        ("vaccel.plugin", "has no Plugin object"),
    ],
)
def test_a_plugin_that_is_not_there_says_so(text: str, reason: str) -> None:
    with pytest.raises(PluginError) as caught:
        plugin.load(text)
    head, _, rest = caught.value.message.partition(" could not be loaded: ")
    assert head == f"plugin '{text}'"
    assert reason in rest


def test_a_file_that_is_no_python_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plugin.txt"
    path.write_text(SOURCE)
    with pytest.raises(PluginError, match="is not a Python file"):
        plugin.load(str(path))


def test_a_plugin_is_started_once_and_closed_at_the_end() -> None:
    told: list[object] = []

    class Told(Plugin):
        def start(self, config: Config) -> None:
            told.append(config)

        def close(self) -> None:
            told.append("close")

    config = Config(plugins="")
    vaccel.bootstrap(config)
    mine = Told("told")
    runtime.current().add(mine, "the test")
    runtime.current().add(mine, "the test")
    vaccel.cleanup()
    assert told == [config, "close"]


class Faulty(Plugin):
    """Fails where `hook` says so."""

    def __init__(self, hook: str, exc: BaseException) -> None:
        super().__init__("faulty")
        self.kernel(Session.noop)(lambda session: None)

        def fail(*_: object) -> None:
            raise exc

        setattr(self, hook, fail)


@pytest.mark.parametrize("exc", [KeyError("no device"), SystemExit("no device")])
def test_a_plugin_that_cannot_start_says_why_and_what_is_installed(exc: BaseException) -> None:
    vaccel.bootstrap(Config(plugins="cpu"))
    with pytest.raises(PluginError) as caught:
        runtime.current().add(Faulty("start", exc), "the test")
    message = caught.value.message
    assert message.startswith(f"plugin 'faulty' could not be started: {type(exc).__name__}: ")
    assert "no device" in message
    assert f"installed plugins: {', '.join(sorted(plugin.BUILT_IN))}" in message
    assert [p.name for p in runtime.current().plugins] == ["cpu"]


def test_a_plugin_that_cannot_begin_a_session_says_why() -> None:
    vaccel.bootstrap(Config(plugins=""))
    runtime.current().add(Faulty("open_session", ValueError("no room")), "the test")
    with Session() as session:
        reason = "plugin 'faulty' could not begin session 1: ValueError: no room; installed"
        with pytest.raises(PluginError, match=reason):
            session.noop()


@pytest.mark.parametrize("hook", ["start", "open_session"])
def test_an_error_that_explains_itself_is_not_explained_again(hook: str) -> None:
    vaccel.bootstrap(Config(plugins=""))
    error = DeviceError("no board is connected")

    def use() -> None:
        runtime.current().add(Faulty(hook, error), "the test")
        Session().noop()

    with pytest.raises(DeviceError) as caught:
        use()
    assert caught.value is error


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def at_once(work: Callable[[], object]) -> None:
    begin = threading.Barrier(12)

    def run() -> None:
        begin.wait()
        work()

    threads = [threading.Thread(target=run) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.usefixtures("switching")
def test_threads_start_a_plugin_once() -> None:
    started: list[object] = []

    class Slow(Plugin):
        def start(self, config: Config) -> None:
            time.sleep(0)  # another thread's turn
            started.append(self)

    vaccel.bootstrap(Config(plugins=""))
    current = runtime.current()
    for _ in range(20):
        mine = Slow("slow")
        at_once(functools.partial(current.add, mine, "the test"))
        assert started.count(mine) == current.plugins.count(mine) == 1


@pytest.mark.usefixtures("switching")
def test_threads_open_their_first_remote_sessions_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    start = rpc.plugin.start

    def slow(config: Config) -> None:
        time.sleep(0)  # another thread's turn
        start(config)

    monkeypatch.setattr(rpc.plugin, "start", slow)

    def call() -> None:
        try:
            with Session(endpoint=agent.endpoint) as session:
                found.append(session.fpga_vadd([1.0], [2.0]))
        except FFIError as exc:
            found.append(exc)

    with Agent(abstract("first"), Config(plugins="cpu")) as agent:
        aside = runtime.current()._aside
        for _ in range(10):
            at_once(call)
            assert [p.name for p in aside] == ["rpc"]
            assert found == [[3.0]] * 12
            found.clear()
            aside.pop().close()  # the next round loads it anew


def test_kernels_are_registered_by_their_operation() -> None:
    mine = Plugin("mine")

    @mine.kernel(Session.noop)
    def kernel(session: Session) -> None:
        return None

    assert mine.find(BY_NAME["noop"]) is kernel
    assert mine.find(BY_NAME["sgemm"]) is None
    assert [op.name for op in mine.operations()] == ["noop"]
    with pytest.raises(InvalidArgument, match="expected a method of Operations, found"):
        mine.kernel(print)


def test_plugin_types_have_the_bits_of_the_protocol() -> None:
    assert {member.name: int(member) for member in PluginType} | {"ALL": int(PluginType.ALL)} == {
        "CPU": 0x1,
        "GPU": 0x2,
        "FPGA": 0x4,
        "SOFTWARE": 0x8,
        "TENSORFLOW": 0x10,
        "TORCH": 0x20,
        "JETSON": 0x40,
        "GENERIC": 0x80,
        "DEBUG": 0x100,
        "REMOTE": 0x4000,
        "ALL": 0xFFFF,
    }


def test_the_built_in_plugins_are_those_of_the_package_metadata() -> None:
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    section = pyproject.partition(f'[project.entry-points."{plugin.ENTRY_POINTS}"]')[2]
    declared = dict(
        line.replace('"', "").split(" = ")
        for line in section.partition("\n[")[0].strip().splitlines()
    )
    assert declared == {n: module for n, module in plugin.BUILT_IN.items() if n != "vsock"}
