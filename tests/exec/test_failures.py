"""What goes wrong in foreign code costs one call, and the error says what it was."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import processes
from tests.exec.conftest import CONFIG, ENDPOINT, SOURCES, compile_c
from vaccel import (
    Arg,
    ArgType,
    Config,
    Resource,
    ResourceType,
    Session,
    bootstrap,
    cleanup,
    deadline,
)
from vaccel.agent import Agent
from vaccel.config import Timeouts
from vaccel.error import (
    DeadlineExceeded,
    FFIError,
    InvalidArgument,
    NotSupported,
    PermissionDenied,
    PluginError,
    ResourceExhausted,
    SessionClosed,
)
from vaccel.foreign import worker
from vaccel.plugins.exec import Settings, plugin

Compiled = Callable[[str], Path]

TIMEOUT = 60.0
AGENT = ("--allow", "exec", "--vaccel-config", "plugins=vaccel.plugins.exec")

FAILURES = {
    "segfault": (PluginError, "ended by SIGSEGV .*limited to 4 GiB"),
    "aborts": (PluginError, "ended by SIGABRT"),
    "exits": (PluginError, "exit code 3"),
    "hog_checked": (ResourceExhausted, r"returned 1, .*limited to 4 GiB \(VACCEL_EXEC_MEMORY\)"),
    "hog_unchecked": (PluginError, r"SIGSEGV .*limited to 4 GiB \(VACCEL_EXEC_MEMORY\)"),
    "hog_by_steps": (PluginError, r"SIGSEGV .*limited to 4 GiB \(VACCEL_EXEC_MEMORY\)"),
    "hang": (DeadlineExceeded, r"hang: not done within 1 s \(VACCEL_EXEC_TIMEOUT\)"),
}


class Pipe:
    """A named pipe through which a function in another process tells its process id."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._path = path
        self.arg = Arg(str(path), ArgType.STRING)

    def pid(self) -> int:
        fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            assert select.select([fd], [], [], TIMEOUT)[0], "nobody tells"
            return int(os.read(fd, 100))
        finally:
            os.close(fd)

    def open(self) -> None:
        """Let a function go on that waits for its second opening."""
        self._path.write_bytes(b"")


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    return Pipe(tmp_path / "pipe")


@pytest.fixture
def rogue(compiled: Compiled) -> str:
    return str(compiled("rogue"))


@pytest.fixture
def session() -> Iterator[Session]:
    bootstrap(CONFIG)
    with Session() as session:
        yield session


class End:
    """The end of a process, which may be nobody's child here."""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def runs(self) -> bool:
        return not select.select([self._fd], [], [], 0)[0]

    def wait(self) -> None:
        try:
            assert select.select([self._fd], [], [], TIMEOUT)[0], "the process still runs"
        finally:
            os.close(self._fd)


class Calling(threading.Thread):
    """A call in a thread of its own, and what it raised."""

    def __init__(self, session: Session, *call: object) -> None:
        super().__init__()
        self._session, self._call = session, call
        self.error: FFIError | None = None
        self.start()

    def run(self) -> None:
        try:
            self._session.exec(*self._call)  # type: ignore[arg-type]
        except FFIError as exc:
            self.error = exc

    def raised(self) -> FFIError | None:
        self.join(TIMEOUT)
        assert not self.is_alive()
        return self.error


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# -- one call --------------------------------------------------------------------------------------


@pytest.mark.parametrize("symbol", FAILURES)
def test_the_error_says_what_happened_and_the_next_call_is_served(
    rogue: str, symbol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, words = FAILURES[symbol]
    if symbol == "hang":
        monkeypatch.setenv("VACCEL_EXEC_TIMEOUT", "1")
    bootstrap(CONFIG)
    with Agent(ENDPOINT, allow=["exec"]) as agent:
        for endpoint in (None, agent.endpoint):
            with Session(endpoint=endpoint) as session:
                with pytest.raises(error, match=words):
                    session.exec(rogue, symbol)
                assert session.exec(rogue, "fine") is None


def test_the_same_holds_for_resources(session: Session, rogue: str) -> None:
    with Resource(rogue, ResourceType.LIB) as resource:
        resource.register(session)
        for _ in range(2):
            with pytest.raises(PluginError, match=r"^exec_with_resource: exits: .* exit code 3$"):
                session.exec_with_resource(resource, "exits")
            assert session.exec_with_resource(resource, "fine") is None


def test_other_sessions_do_not_notice(session: Session, rogue: str, compiled: Compiled) -> None:
    room = Arg(0)
    plain = str(compiled("plain"))
    with Session() as other:
        for expected in (1, 2):
            other.exec(plain, "count", [], [room])
            assert room.buf == expected
            with pytest.raises(PluginError):
                session.exec(rogue, "segfault")


def test_a_library_that_fails_while_it_is_loaded(session: Session, compiled: Compiled) -> None:
    for _ in range(2):
        with pytest.raises(PluginError, match="exit code 5"):
            session.exec(str(compiled("constructor")), "f")


def test_a_thread_that_crashes_after_its_call_costs_the_next_one(
    session: Session, rogue: str, pipe: Pipe
) -> None:
    session.exec(rogue, "crash_in_thread", [pipe.arg])
    end = End(pipe.pid())
    pipe.open()
    end.wait()
    with pytest.raises(PluginError, match="SIGBUS"):
        session.exec(rogue, "fine")
    assert session.exec(rogue, "fine") is None


def test_a_crash_is_seen_though_a_process_of_the_library_lives_on(
    session: Session, rogue: str, pipe: Pipe
) -> None:
    calling = Calling(session, rogue, "crash_after_fork", [pipe.arg])
    child = End(pipe.pid())
    assert "SIGABRT" in str(calling.raised())
    child.wait()  # it was ended with its parent


def test_a_process_that_detaches_itself_ends_with_its_worker(
    session: Session, rogue: str, pipe: Pipe
) -> None:
    session.exec(rogue, "leave_daemon", [pipe.arg])
    daemon = End(pipe.pid())
    with Session() as other:
        other.exec(rogue, "fine")
    assert daemon.runs()  # the end of another session's worker is not its own
    with pytest.raises(PluginError, match="SIGABRT"):
        session.exec(rogue, "aborts")
    daemon.wait()


def test_a_process_that_detaches_itself_ends_with_the_session(
    session: Session, rogue: str, pipe: Pipe
) -> None:
    session.exec(rogue, "leave_daemon", [pipe.arg])
    daemon = End(pipe.pid())
    session.close()
    daemon.wait()


def test_children_are_found_without_the_kernels_list() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert worker._children_among_all(os.getpid()) >= {child.pid}
        assert worker._children() <= worker._children_among_all(os.getpid())
        child.communicate()
    assert child.pid not in worker._children_among_all(os.getpid())


def test_the_end_of_the_process_that_starts_workers_costs_a_call(
    session: Session, rogue: str, pipe: Pipe
) -> None:
    calling = Calling(session, rogue, "hang", [pipe.arg])
    pid = pipe.pid()
    end = End(pid)
    os.kill(parent_of(pid), signal.SIGKILL)
    assert isinstance(calling.raised(), PluginError)
    end.wait()
    assert session.exec(rogue, "fine") is None


def test_output_goes_to_standard_error(
    session: Session, compiled: Compiled, rogue: str, capfd: pytest.CaptureFixture[str]
) -> None:
    session.exec(str(compiled("plain")), "print", [Arg("half a line", ArgType.STRING)])
    assert capfd.readouterr() == ("", "printed: half a line")
    session.exec(rogue, "flood")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 100_000


def test_memory_can_be_limited(
    rogue: str, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VACCEL_EXEC_MEMORY", "512M")
    bootstrap(CONFIG)
    with Session() as session:
        with pytest.raises(ResourceExhausted, match=r"limited to 0\.5 GiB"):
            session.exec(rogue, "hog_checked")
        # The memory of arguments is no part of it.
        large = bytes(300 << 20)
        session.exec(str(compiled("plain")), "nothing", [Arg(large), Arg(large)])


def test_shared_memory_counts(
    rogue: str, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VACCEL_EXEC_MEMORY", "128M")
    bootstrap(CONFIG)
    with Session() as session:
        words = r"hog_shared: uses 0\.\d+ GiB: .* limited to 0\.125 GiB \(VACCEL_EXEC_MEMORY\)"
        with pytest.raises(ResourceExhausted, match=words):
            session.exec(rogue, "hog_shared")
        assert session.exec(rogue, "fine") is None


@pytest.mark.parametrize(
    ("text", "memory"), [("", 4 << 30), ("0", None), ("1000", 1000), ("2g", 2 << 30)]
)
def test_the_memory_limit_is_a_size(text: str, memory: int | None) -> None:
    assert Settings.from_env({"VACCEL_EXEC_MEMORY": text}).memory == memory


@pytest.mark.parametrize(("text", "timeout"), [("", 300), ("0", None), ("0.5", 0.5)])
def test_the_time_limit_is_in_seconds(text: str, timeout: float | None) -> None:
    assert Settings.from_env({"VACCEL_EXEC_TIMEOUT": text}).timeout == timeout


@pytest.mark.parametrize(
    ("name", "value"),
    [("TIMEOUT", "-1"), ("TIMEOUT", "soon"), ("MEMORY", "4T"), ("MEMORY", "G"), ("INPROCESS", "2")],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=f"VACCEL_EXEC_{name}: expected .* found '{value}'"):
        Settings.from_env({f"VACCEL_EXEC_{name}": value})


# -- ends ------------------------------------------------------------------------------------------


def test_a_session_can_be_closed_in_the_middle_of_a_call(
    session: Session, rogue: str, tmp_path: Path
) -> None:
    one, two = Pipe(tmp_path / "one"), Pipe(tmp_path / "two")
    calling = Calling(session, rogue, "hang_twice", [one.arg, two.arg])
    ends = [End(two.pid()), End(one.pid())]
    session.close()
    for end in ends:
        end.wait()
    assert isinstance(calling.raised(), SessionClosed)


def test_a_resource_can_be_unregistered_in_the_middle_of_a_call(
    session: Session, rogue: str, pipe: Pipe
) -> None:
    with Resource(rogue, ResourceType.LIB) as resource:
        resource.register(session)
        errors: list[FFIError] = []

        def call() -> None:
            try:
                session.exec_with_resource(resource, "hang", [pipe.arg])
            except FFIError as exc:
                errors.append(exc)

        thread = threading.Thread(target=call)
        thread.start()
        end = End(pipe.pid())
        resource.unregister(session)
        end.wait()
        thread.join(TIMEOUT)
        assert [type(error) for error in errors] == [SessionClosed]


def test_libraries_may_clean_up_when_the_session_ends(
    session: Session, compiled: Compiled, tmp_path: Path
) -> None:
    path = tmp_path / "words"
    library = str(compiled("farewell"))
    session.exec(library, "remember", [Arg(str(path), ArgType.STRING)])
    session.close()
    assert path.read_text() == "goodbye"


def test_a_client_s_deadline_ends_the_call(rogue: str, pipe: Pipe) -> None:
    bootstrap(Config(CONFIG.plugins, timeouts=Timeouts(operation=0.5)))
    with Agent(ENDPOINT, allow=["exec"]) as agent:
        with Session(endpoint=agent.endpoint) as session:
            calling = Calling(session, rogue, "hang", [pipe.arg])
            end = End(pipe.pid())
            assert isinstance(calling.raised(), DeadlineExceeded)
            end.wait()
            assert session.exec(rogue, "fine") is None


def test_a_client_that_goes_ends_its_calls(rogue: str, pipe: Pipe) -> None:
    bootstrap(CONFIG)
    with Agent(ENDPOINT, allow=["exec"]) as agent:
        session = Session(endpoint=agent.endpoint)
        calling = Calling(session, rogue, "hang", [pipe.arg])
        end = End(pipe.pid())
        session.close()
        end.wait()
        assert calling.raised() is not None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_survives_the_agent(rogue: str, pipe: Pipe, number: signal.Signals) -> None:
    base = Path(os.environ["XDG_RUNTIME_DIR"])
    with processes.agent(*AGENT, "--grace", "0") as agent:
        bootstrap(Config("noop"))
        session = Session(endpoint=agent.endpoint)
        session.exec(rogue, "leave_daemon", [pipe.arg])
        ends = [End(pipe.pid())]
        calling = Calling(session, rogue, "hang", [pipe.arg])
        pid = pipe.pid()
        ends += [End(pid), End(parent_of(pid))]
        agent.process.send_signal(number)
        for end in ends:
            end.wait()
        agent.process.wait(TIMEOUT)
        assert isinstance(calling.raised(), FFIError)
        with contextlib.suppress(FFIError):
            session.close()
    bootstrap(CONFIG)  # which removes what a killed agent left
    assert len(list(base.glob("vaccel.*"))) == 1


def test_an_agent_serves_on_after_every_failure(rogue: str) -> None:
    with processes.agent(*AGENT, env={"VACCEL_EXEC_TIMEOUT": "1"}) as agent:
        bootstrap(Config("noop"))
        with Session(endpoint=agent.endpoint) as session:
            for symbol, (error, words) in FAILURES.items():
                with pytest.raises(error, match=words):
                    session.exec(rogue, symbol)
                assert session.exec(rogue, "fine") is None


def test_an_agent_prints_all_that_a_function_prints(rogue: str) -> None:
    with processes.agent(*AGENT) as agent:
        bootstrap(Config("noop"))
        with Session(endpoint=agent.endpoint) as session:
            flood = Calling(session, rogue, "flood")
            agent.until("line 99999 of a flood")
            assert flood.raised() is None


def test_many_sessions_at_once(session: Session, compiled: Compiled, rogue: str) -> None:
    plain = str(compiled("plain"))
    wrong: list[object] = []

    def run(number: int) -> None:
        with Session() as own:
            room = Arg(0)
            for i in range(1, 10):
                own.exec(plain, "count", [], [room])
                if room.buf != i:
                    wrong.append((number, i, room.buf))
                if number % 2:
                    with contextlib.suppress(PluginError):
                        own.exec(rogue, "segfault")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert wrong == []
    assert len(plugin._sessions) == 0  # none but `session`, which has not called


# -- permission ------------------------------------------------------------------------------------


def test_an_agent_runs_no_foreign_code_unless_it_is_allowed(compiled: Compiled) -> None:
    bootstrap(CONFIG)
    library = str(compiled("plain"))
    with Agent(ENDPOINT) as agent, Session(endpoint=agent.endpoint) as session:
        with Resource(library, ResourceType.LIB) as resource:
            resource.register(session)
            for call in (
                lambda: session.exec(library, "nothing"),
                lambda: session.exec_with_resource(resource, "nothing"),
            ):
                with pytest.raises(PermissionDenied, match="start the agent with --allow exec"):
                    call()
        with Session() as local:
            assert local.exec(library, "nothing") is None


def test_the_agent_program_has_the_option(compiled: Compiled) -> None:
    library = str(compiled("plain"))
    bootstrap(Config("noop"))
    with processes.agent(*AGENT[2:]) as agent, Session(endpoint=agent.endpoint) as session:
        with pytest.raises(PermissionDenied, match="--allow exec"):
            session.exec(library, "nothing")
    assert "--allow: invalid choice" in processes.run("agent", "--allow", "all").stdout


def test_the_option_loads_the_plugin(compiled: Compiled) -> None:
    library = str(compiled("plain"))
    bootstrap(Config("noop"))
    for config in ("plugins=cpu", "plugins=cpu:vaccel.plugins.exec"):
        with processes.agent("--allow", "exec", "--vaccel-config", config) as agent:
            with Session(endpoint=agent.endpoint) as session:
                assert session.exec(library, "nothing") is None
                assert session.fpga_vadd([1.0], [2.0]) == [3.0]


def test_an_agent_without_the_plugin_says_what_to_do_there() -> None:
    bootstrap(Config("cpu"))
    with Session() as session, pytest.raises(NotSupported, match="in VACCEL_PLUGINS"):
        session.exec("lib.so", "f")
    words = r"^exec: at the agent, no loaded .*\(loaded: cpu\); start the agent .*--allow exec"
    with processes.agent("--vaccel-config", "plugins=cpu") as agent:
        with Session(endpoint=agent.endpoint) as session, pytest.raises(NotSupported, match=words):
            session.exec("lib.so", "f")


def test_plugins_that_run_nothing_need_no_permission() -> None:
    bootstrap(Config("noop"))
    with Agent(ENDPOINT) as agent, Session(endpoint=agent.endpoint) as session:
        assert session.exec("lib.so", "f", [], [Arg(bytes(3))]) == [bytes(3)]


# -- forks -----------------------------------------------------------------------------------------


def test_a_forked_child_starts_workers_of_its_own(session: Session, compiled: Compiled) -> None:
    library, room = str(compiled("plain")), Arg(0)
    session.exec(library, "count", [], [room])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with pytest.raises(SessionClosed):
                session.exec(library, "count", [], [room])
            bootstrap(CONFIG)
            with Session() as own:
                own.exec(library, "count", [], [room])
                status = int(room.buf) - 1
            cleanup()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    session.exec(library, "count", [], [room])
    assert room.buf == 2


def test_the_test_libraries_are_free_of_warnings(tmp_path: Path) -> None:
    for source in SOURCES.glob("*.c"):
        compile_c(tmp_path / f"{source.stem}.so", source, "-Wall", "-Wextra", "-Werror")


QUEUE = """
#include <fcntl.h>
#include <unistd.h>
#include "vaccel.h"

int pass(struct vaccel_arg *in, size_t n_in, struct vaccel_arg *out, size_t n_out)
{
	static int32_t calls;
	char byte;
	int gate = open(in[0].buf, O_RDONLY);
	(void)n_in, (void)n_out, (void)!read(gate, &byte, 1);
	close(gate);
	*(int32_t *)out[0].buf = ++calls;
	return 0;
}
"""


def test_who_waits_too_long_for_a_call_before_costs_it_nothing(tmp_path: Path) -> None:
    library = str(compile_c(tmp_path / "libqueue.so", QUEUE))
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    bootstrap(CONFIG)
    arguments = [Arg(f"{gate}\0".encode())]
    with Session() as session, ThreadPoolExecutor(1) as pool:
        first = pool.submit(session.exec, library, "pass", arguments, [Arg(0, ArgType.INT32)])
        with gate.open("wb") as open_gate:  # waits until the function reads from it
            with deadline.until(time.monotonic() + 0.05):
                with pytest.raises(DeadlineExceeded, match="pass: not begun within the time"):
                    session.exec(library, "pass", arguments, [Arg(0, ArgType.INT32)])
            open_gate.write(b"1")
        assert first.result() == [1]
        second = pool.submit(session.exec, library, "pass", arguments, [Arg(0, ArgType.INT32)])
        gate.write_bytes(b"1")
        assert second.result() == [2]
