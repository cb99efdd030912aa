"""The runtime: start, end, and the folder that nobody may find afterwards."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import vaccel
from vaccel import Config, Resource, ResourceType, Session, runtime
from vaccel.error import FFIError, SessionClosed
from vaccel.ops.catalog import Operations
from vaccel.plugin import Plugin
from vaccel.rundir import Rundir, base_folder


def here() -> Path:
    return runtime.current().rundir.path


# -- bootstrap and cleanup -------------------------------------------------------------------------


def test_bootstrap_and_cleanup_can_be_repeated() -> None:
    for _ in range(3):
        vaccel.bootstrap(Config(plugins="cpu"))
        with Session() as session:
            assert session.fpga_vadd([1.0], [2.0]) == [3.0]
    vaccel.cleanup()
    vaccel.cleanup()


def test_bootstrap_ends_the_runtime_before() -> None:
    vaccel.bootstrap(Config(plugins="cpu"))
    session, before = Session(), here()
    vaccel.bootstrap(Config(plugins="cpu"))
    assert not before.exists()
    assert here() != before
    with pytest.raises(SessionClosed, match="session 1 is closed; open a new Session"):
        session.noop()


def test_the_first_session_starts_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VACCEL_PLUGINS", "noop")
    with Session() as session:
        assert session.fpga_vadd([1.0], [2.0]) != [3.0]
    assert [plugin.name for plugin in runtime.current().plugins] == ["noop"]


def test_without_automatic_bootstrap_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VACCEL_BOOTSTRAP_ENABLED", "0")
    with pytest.raises(SessionClosed, match=r"VACCEL_BOOTSTRAP_ENABLED=0: .*vaccel\.bootstrap\(\)"):
        Session()
    vaccel.bootstrap()
    Session().close()


def test_threads_start_one_runtime() -> None:
    found: list[object] = []
    start = threading.Barrier(4)

    def first() -> None:
        start.wait()
        found.append(runtime.current())

    threads = [threading.Thread(target=first) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_cleanup_closes_what_is_open() -> None:
    vaccel.bootstrap(Config(plugins="cpu"))
    session = Session()
    resource = Resource.from_buffer(b"data", ResourceType.DATA)
    resource.register(session)
    (file,) = resource.files()
    assert file.read_bytes() == b"data"
    vaccel.cleanup()
    assert not file.exists()
    for use in (session.noop, lambda: resource.register(session), resource.files):
        with pytest.raises(SessionClosed):
            use()


class Failing(Plugin):
    def __init__(self) -> None:
        super().__init__("failing")
        self.kernel(Operations.noop)(lambda session: None)

    def close_session(self, session: Session) -> None:
        raise ValueError("a fault of the plugin")

    def close(self) -> None:
        raise ValueError("another one")


def test_a_plugin_that_fails_to_close_keeps_nothing_else() -> None:
    vaccel.bootstrap(Config(plugins=""))
    current = runtime.current()
    closed: list[str] = []
    other = Plugin("other")
    other.close = lambda: closed.append("other")  # type: ignore[method-assign]
    current.add(Failing(), "the test")
    current.add(other, "the test")
    with Session() as first:
        first.noop()
    second = Session()
    second.noop()
    vaccel.cleanup()
    assert closed == ["other"]
    assert not current.rundir.path.exists()
    with pytest.raises(SessionClosed):
        second.noop()


def test_an_interrupted_cleanup_is_finished_by_the_next() -> None:
    vaccel.bootstrap(Config(plugins=""))
    current = runtime.current()
    closed: list[str] = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    for name in ("first", "second"):
        one = Plugin(name)
        one.close = interrupted if name == "first" else lambda: closed.append("second")  # type: ignore[method-assign]
        current.add(one, "the test")
    with pytest.raises(KeyboardInterrupt):
        vaccel.cleanup()
    assert current.rundir.path.exists()
    vaccel.cleanup()
    assert closed == ["second"]
    assert not current.rundir.path.exists()
    vaccel.cleanup()


def test_a_failed_bootstrap_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(FFIError):
        vaccel.bootstrap(Config(plugins="cpu:nonesuch"))
    assert list(tmp_path.iterdir()) == []


# -- the rundir ------------------------------------------------------------------------------------


def test_the_rundir_stands_in_the_first_folder_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = Path(f"/run/user/{os.getuid()}")
    fallback = users if os.access(users, os.W_OK) else Path(tempfile.gettempdir())
    assert base_folder({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path
    for unusable in ("", str(tmp_path / "none")):
        assert base_folder({"XDG_RUNTIME_DIR": unusable}) == fallback
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert base_folder({"XDG_RUNTIME_DIR": str(tmp_path)}) == Path(tempfile.gettempdir())


def test_run_user_comes_before_the_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda path: True)
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert base_folder({}) == Path(f"/run/user/{os.getuid()}")


def test_the_rundir_is_for_its_owner_only() -> None:
    vaccel.bootstrap(Config(plugins=""))
    assert stat.S_IMODE(here().stat().st_mode) == 0o700
    folder = Resource.from_buffer(b"", ResourceType.DATA).rundir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.parent == here()


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_leftovers_are_swept_and_nothing_else(base: Path) -> None:
    leftover = base / "vaccel.dead"
    (leftover / "resource.1").mkdir(parents=True)
    (leftover / ".lock").touch()
    spared = [base / "vaccel.foreign", base / "other"]
    for folder in spared:
        folder.mkdir()
    (spared[1] / ".lock").touch()
    alive = Rundir.create()
    try:
        assert not leftover.exists()
        vaccel.bootstrap(Config(plugins=""))
        assert alive.path.exists()
        assert all(folder.exists() for folder in spared)
    finally:
        vaccel.cleanup()
        alive.remove()


def test_a_folder_of_another_user_is_spared(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = base / "vaccel.other"
    foreign.mkdir()
    (foreign / ".lock").touch()
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    vaccel.bootstrap(Config(plugins=""))
    assert foreign.exists()


def test_a_linked_lock_is_not_followed(base: Path) -> None:
    trap, target = base / "vaccel.trap", base / "target"
    trap.mkdir()
    target.touch()
    (trap / ".lock").symlink_to(target)
    vaccel.bootstrap(Config(plugins=""))
    assert trap.exists()


# -- the end of a process --------------------------------------------------------------------------


@contextmanager
def program(code: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program that runs `code` after vaccel's import; killed if it still runs."""
    setup = "import os, signal, sys, threading, vaccel\nfrom vaccel import *\n"
    process = subprocess.Popen(
        [sys.executable, "-c", setup + code],
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def output(code: str, **variables: str) -> str:
    with program(code, **variables) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out


START = """
bootstrap(Config(plugins="cpu"))
session = Session()
resource = Resource.from_buffer(b"data", ResourceType.DATA)
resource.register(session)
print(vaccel.runtime.current().rundir.path, flush=True)
resource.files()
"""
WAIT = "sys.stdin.read()\n"


@pytest.mark.subprocess
@pytest.mark.parametrize("end", ["", "sys.exit(3)\n", "raise KeyboardInterrupt\n"])
def test_the_rundir_goes_at_exit(base: Path, end: str) -> None:
    with program(START + "sys.stderr.close()\n" + end) as process:
        folder = Path(line(process))
        process.wait(60)
    assert folder.parent == base
    assert not folder.exists()


@pytest.mark.subprocess
def test_the_rundir_goes_on_sigterm(base: Path) -> None:
    with program(START + "print('ready', flush=True)\n" + WAIT) as process:
        folder = Path(line(process))
        assert line(process) == "ready"
        assert (folder / "resource.1").is_dir()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not folder.exists()


@pytest.mark.subprocess
def test_a_programs_own_handler_is_kept() -> None:
    code = "signal.signal(signal.SIGTERM, lambda *_: print('mine', flush=True))\n"
    code += START + "os.kill(os.getpid(), signal.SIGTERM)\n"
    assert output(code).splitlines()[1:] == ["mine"]


@pytest.mark.subprocess
def test_bootstrap_in_a_thread_leaves_signals_alone() -> None:
    code = "t = threading.Thread(target=bootstrap)\nt.start()\nt.join()\n"
    assert output(code + "print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)") == "True\n"


@pytest.mark.subprocess
def test_sigterm_is_handled_once_the_main_thread_can(base: Path) -> None:
    code = "t = threading.Thread(target=Session)\nt.start()\nt.join()\nsession = Session()\n"
    code += "print('ready', flush=True)\n"
    with program(code + WAIT) as process:
        assert line(process) == "ready"
        assert len(list(base.iterdir())) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert list(base.iterdir()) == []


BUSY = {
    "thread": "threading.Thread(target=stay).start()\n",
    "pool": "ThreadPoolExecutor(1).submit(stay)\n",
    "caught": "",
}


@pytest.mark.subprocess
@pytest.mark.parametrize("busy", BUSY)
def test_sigterm_ends_a_program_that_does_not_end_by_itself(base: Path, busy: str) -> None:
    code = "from concurrent.futures import ThreadPoolExecutor\n"
    code += "vaccel.ending.GRACE = 0.1\n"
    code += "def stay(): threading.Event().wait()\n"
    code += START + BUSY[busy]
    code += "try:\n    print('ready', flush=True)\n    stay()\n"
    code += "except SystemExit:\n    print('told', flush=True)\n"
    code += "    stay()\n" if busy == "caught" else "    raise\n"
    with program(code) as process:
        folder = Path(line(process))
        assert line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "told"
        assert process.wait(60) == -signal.SIGTERM
    assert folder.parent == base
    assert list(base.iterdir()) == []


@pytest.mark.subprocess
def test_sigterm_ends_a_program_whose_main_thread_has_ended(base: Path) -> None:
    work = """
def work():
    threading.main_thread().join()
    print("ready", flush=True)
    threading.Event().wait()

threading.Thread(target=work).start()
"""
    with program(START + work) as process:
        line(process)
        assert line(process) == "ready"
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            # Python overlooks one that comes just when its main thread begins to wait.
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
    assert process.returncode == -signal.SIGTERM
    assert list(base.iterdir()) == []


CHILDREN = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
def add(x): return Session().fpga_vadd([x], [2.0])
"""


@pytest.mark.subprocess
@pytest.mark.parametrize("parent", ["", "session = Session()\n"], ids=["first", "second"])
@pytest.mark.parametrize(
    "code",
    [
        "with context.Pool(2) as pool:\n    print(pool.map(add, [1.0]))\n",
        "pool = context.Pool(2)\nprint(pool.map(add, [1.0]))\npool.close()\npool.join()\n",
        "with ProcessPoolExecutor(2, context) as pool:\n    print(list(pool.map(add, [1.0])))\n",
        "p = context.Process(target=add, args=(1.0,))\np.start()\np.join()\n"
        "assert p.exitcode == 0\nprint([[3.0]])\n",
    ],
    ids=["pool", "closed", "executor", "process"],
)
def test_children_of_multiprocessing_leave_no_rundir(base: Path, code: str, parent: str) -> None:
    code = parent + CHILDREN + "context = multiprocessing.get_context('fork')\n" + code
    assert output(code, VACCEL_PLUGINS="cpu") == "[[3.0]]\n"
    assert list(base.iterdir()) == []


@pytest.mark.subprocess
def test_the_next_process_sweeps_after_sigkill(base: Path) -> None:
    with program(START + "print('ready', flush=True)\n" + WAIT) as process:
        folder = Path(line(process))
        assert line(process) == "ready"
        vaccel.bootstrap(Config(plugins=""))
        assert folder.exists()  # its owner is alive
        process.kill()
        process.wait(60)
    assert folder.exists()
    vaccel.bootstrap(Config(plugins=""))
    assert not folder.exists()


@pytest.mark.subprocess
def test_a_child_does_not_keep_the_rundir_of_a_parent_that_was_killed(base: Path) -> None:
    fork = """
if os.fork() == 0:
    print("child", os.getpid(), flush=True)
    sys.stdin.read()
    os._exit(0)
os.wait()
"""
    with program(START + fork) as process:
        folder = Path(line(process))
        assert line(process).startswith("child")
        process.kill()
        process.wait(60)
        vaccel.bootstrap(Config(plugins=""))
        assert not folder.exists()
        assert process.stdin is not None
        process.stdin.close()  # ends the child, too


@pytest.mark.subprocess
def test_cleanup_can_be_suppressed(base: Path) -> None:
    code = START + "print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    folder, default = output(code, VACCEL_CLEANUP_ENABLED="0").split()
    assert default == "True"
    assert Path(folder).exists()
    vaccel.bootstrap(Config(plugins=""))
    assert not Path(folder).exists()


# -- fork ------------------------------------------------------------------------------------------

FORK = """
from vaccel.agent import Agent
bootstrap(Config(plugins="cpu"))
agent = Agent(f"unix://@vaccel-fork-{os.getpid()}")
remote, local = Session(endpoint=agent.endpoint), Session()
resource = Resource.from_buffer(b"data", ResourceType.DATA)
resource.register(remote)
folder = vaccel.runtime.current().rundir.path
print(remote.fpga_vadd([1.0], [2.0]), flush=True)
pid = os.fork()
if pid == 0:
    for use in (remote.noop, local.noop, resource.files):
        try:
            print("works", use(), flush=True)
        except vaccel.error.SessionClosed as exc:
            print(exc.message, flush=True)
    remote.close()
    resource.close()
    with Session() as own:
        print(own.id, own.fpga_vadd([3.0], [4.0]), flush=True)
    print(vaccel.runtime.current().rundir.path != folder, folder.exists(), flush=True)
    cleanup()
    os._exit(0)
os.waitpid(pid, 0)
print(remote.fpga_vadd([5.0], [6.0]), resource.files()[0].read_bytes(), folder.exists())
remote.close()
agent.stop()
"""


@pytest.mark.subprocess
def test_a_forked_child_starts_anew_and_harms_nothing_of_its_parent() -> None:
    assert output(FORK).splitlines() == [
        "[3.0]",
        "session 1 belongs to the parent process; open a new Session",
        "session 3 belongs to the parent process; open a new Session",
        "resource 1 is closed; create a new Resource",
        "1 [7.0]",
        "True True",
        "[11.0] b'data' True",
    ]
