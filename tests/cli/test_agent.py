"""`vaccelrt-agent`: how it starts, and how it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import vaccel
from tests import processes
from vaccel import config
from vaccel.cli import agent, main, options
from vaccel.error import ConnectionLost, InvalidArgument
from vaccel.rpc import address

SIGNALS = [signal.SIGINT, signal.SIGTERM]

# Its kernel tells that it runs, and ends when it is told to.
SLOW = """
from vaccel.ops.catalog import Operations
from vaccel.plugin import Plugin

plugin = Plugin("slow")

@plugin.kernel(Operations.fpga_vadd)
def fpga_vadd(session, a, b):
    open({begun!r}, "w").close()
    open({end!r}).close()
    return a + b
"""


@pytest.fixture
def slow(tmp_path: Path) -> tuple[str, Path, Path]:
    """A plugin, and the FIFOs through which its kernel says and is told."""
    begun, end, plugin = tmp_path / "begun", tmp_path / "end", tmp_path / "slow.py"
    os.mkfifo(begun)
    os.mkfifo(end)
    plugin.write_text(SLOW.format(begun=str(begun), end=str(end)))
    return str(plugin), begun, end


def during_a_call(
    slow: tuple[str, Path, Path], grace: str, act: Callable[[processes.AgentProcess], None]
) -> tuple[list[float] | Exception, int]:
    """What the client of a slow call gets, and the agent's exit code, if `act` happens in it."""
    plugin, begun, _ = slow
    config = f"plugins={plugin},log_level=3"
    vaccel.bootstrap(vaccel.Config(plugins="rpc"))
    with (
        processes.agent("--vaccel-config", config, "--grace", grace) as process,
        vaccel.Session(endpoint=process.endpoint) as session,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(session.fpga_vadd, [1.0], [2.0])
        begun.open().close()
        act(process)
        code = process.process.wait(processes.TIMEOUT)
        error = call.exception()
        return (error if isinstance(error, Exception) else call.result()), code


def rundirs() -> list[Path]:
    return list(Path(os.environ["XDG_RUNTIME_DIR"]).glob("vaccel.*"))


@pytest.mark.subprocess
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_it_cleanly(number: signal.Signals):
    with processes.agent() as process:
        (rundir,) = rundirs()
        assert rundir.stat().st_mode & 0o777 == 0o700
        assert process.stop(number) == (0, "")
        assert rundirs() == []


@pytest.mark.subprocess
def test_open_sessions_do_not_delay_the_end():
    vaccel.bootstrap(vaccel.Config(plugins="rpc"))
    with (
        processes.agent("--grace", "3600", "--vaccel-config", "log_level=4") as process,
        vaccel.Session(endpoint=process.endpoint) as session,
    ):
        session.noop()
        code, output = process.stop()
        assert code == 0
        assert "session:1 Free session" in output


@pytest.mark.subprocess
@pytest.mark.parametrize("number", SIGNALS)
def test_a_running_call_finishes(slow: tuple[str, Path, Path], number: signal.Signals):
    def act(process: processes.AgentProcess) -> None:
        process.process.send_signal(number)
        process.until("ending; running calls may take")
        slow[2].open("w").close()

    assert during_a_call(slow, "3600", act) == ([3.0], 0)


@pytest.mark.subprocess
def test_a_call_that_does_not_finish_in_time_is_left(slow: tuple[str, Path, Path]):
    def act(process: processes.AgentProcess) -> None:
        process.process.send_signal(signal.SIGTERM)
        process.until("<error> calls still ran 0 s after SIGTERM")

    result, code = during_a_call(slow, "0", act)
    assert isinstance(result, ConnectionLost)
    assert code == 1


@pytest.mark.subprocess
def test_a_second_signal_ends_it_at_once(slow: tuple[str, Path, Path]):
    def act(process: processes.AgentProcess) -> None:
        process.process.send_signal(signal.SIGINT)
        process.until("ending; running calls may take")
        process.process.send_signal(signal.SIGTERM)

    result, code = during_a_call(slow, "3600", act)
    assert isinstance(result, ConnectionLost)
    assert code == 128 + signal.SIGTERM


@pytest.mark.subprocess
def test_options_take_effect(tmp_path: Path):
    model = tmp_path / "model"
    model.write_bytes(b"weights")
    with (
        processes.agent("--max-message", "1K", env={"VACCEL_PLUGINS": "noop"}) as process,
        vaccel.Session(endpoint=process.endpoint) as session,
    ):
        with pytest.raises(vaccel.error.ResourceExhausted, match="the limit is 1024"):
            session.fpga_vadd([0.0] * 1000, [0.0] * 1000)
        assert session.fpga_vadd([0.0], [0.0]) == [pytest.approx(9.1)]  # as the environment says


@pytest.mark.subprocess
def test_an_address_that_is_taken_is_one_line():
    with address.listen(address.parse("tcp://127.0.0.1:0")) as taken:
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        for module, *arguments in (("agent",), ("main", "agent")):
            done = processes.run(module, *arguments, "-a", endpoint)
            assert done.returncode == 1
            assert f"cannot listen on {endpoint}" in done.stdout
            assert done.stdout.count("\n") == 1
    assert rundirs() == []


def test_a_folder_that_is_not_there_is_named_at_the_start(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    missing = str(tmp_path / "modles")
    allowed = ["--allow-path", str(tmp_path), "--allow-path", missing]
    assert agent.main(["-a", "tcp://127.0.0.1:0", *allowed]) == 1
    out, err = capsys.readouterr()
    said = (
        f"--allow-path: expected an existing folder, found {missing!r}: No such file or directory"
    )
    assert (out, err) == ("", f"vaccelrt-agent: {said}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-a", "board:8192"], "endpoint 'board:8192'"),
        (["--max-message", "much"], "expected a number of bytes such as 4096, 64M or 1G"),
        (["--max-message", "0"], "found '0'"),
        (["--threads", "0"], "expected a whole number from 1, found '0'"),
        (["--grace", "-1"], "expected a number of seconds, found '-1'"),
        (["--vaccel-config", "plugin=cpu"], "expected key=value with a key of plugins,"),
        (["--vaccel-config", "log_level=9"], "log_level: expected 1 (error)"),
        (["--vaccel-config", "log_level=high"], "log_level: expected 1 (error)"),
        (["--vaccel-config", "version_ignore=maybe"], "version_ignore: expected 0 or 1"),
        (["more"], "unrecognized arguments: more"),
    ],
)
@pytest.mark.parametrize("prefix", [[], ["agent"]])
def test_wrong_arguments_are_one_line(
    capsys: pytest.CaptureFixture[str], prefix: list[str], arguments: list[str], said: str
):
    program = main.main if prefix else agent.main
    try:
        code = program([*prefix, "-a", "tcp://127.0.0.1:0", *arguments])
    except SystemExit as exc:
        code = int(exc.code or 0)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("vaccel: " if prefix else "vaccelrt-agent: ")
    assert err.count("\n") == 1


def test_the_configuration_text_changes_the_environments():
    text = "plugins=cpu:noop,log_level=3,log_file=/x/y,profiling_enabled=1,endpoint=unix:///s"
    config = options.config(text, {"VACCEL_PLUGINS": "rpc", "VACCEL_RPC_TIMEOUT": "7"})
    assert config.plugin_names == ("cpu", "noop")
    assert (config.log_level, config.log_file, config.endpoint) == (3, "/x/y", "unix:///s")
    assert config.profiling_enabled is True
    assert config.timeouts.operation == 7
    with pytest.raises(InvalidArgument):
        options.config("plugins", {})


@pytest.mark.parametrize(("program", "prefix"), [(agent.main, []), (main.main, ["agent"])])
def test_the_examples_of_its_help_parse(
    capsys: pytest.CaptureFixture[str], program: Callable[[list[str]], int], prefix: list[str]
):
    with pytest.raises(SystemExit, match="0"):
        program([*prefix, "--help"])
    name = " ".join(["vaccel", *prefix]) if prefix else "vaccelrt-agent"
    lines = capsys.readouterr().out.partition("examples:")[2].splitlines()
    examples = [line.removeprefix(f"  {name} ") for line in lines if line.startswith(f"  {name} ")]
    assert len(examples) == 4
    for example in examples:
        args = agent._parser(name).parse_args(example.split())
        assert str(address.parse(args.server_address)).startswith(("tcp://", "unix://"))
        assert options.config(args.vaccel_config, {}).plugin_names


@pytest.mark.parametrize(
    ("text", "size"), [("7", 7), ("4K", 4096), ("64M", 2**26), ("1G", 2**30), ("2GiB", 2**31)]
)
def test_sizes_have_units(text: str, size: int):
    assert config.size(text) == size
