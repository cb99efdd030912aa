"""`vaccel` and its smaller commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from tests import processes
from vaccel.cli import doctor, main
from vaccel.ops.catalog import OPERATIONS

Output = pytest.CaptureFixture[str]


def vaccel(capsys: Output, *arguments: str) -> tuple[int, str, str]:
    try:
        code = main.main(arguments)
    except SystemExit as exc:
        code = int(exc.code or 0)
    return (code, *capsys.readouterr())


@pytest.mark.parametrize("command", ["", *main.COMMANDS])
def test_help_shows_examples(capsys: Output, command: str):
    code, out, err = vaccel(capsys, *filter(None, [command]), "--help")
    assert (code, err) == (0, "")
    examples = out.partition("examples:\n")[2]
    assert re.search(rf"^  (VACCEL\S+ )*vaccel {command}", examples, re.MULTILINE)


def picture() -> None:
    """The file that the examples name."""
    pytest.importorskip("onnxruntime", reason="pip install 'vaccel[onnx]'")
    examples = resources.files("vaccel") / "data" / "examples"
    Path("picture.jpg").write_bytes((examples / "classify.jpg").read_bytes())


def test_the_examples_of_run_work(capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    picture()
    _, help, _ = vaccel(capsys, "run", "--help")
    lines = [shlex.split(line) for line in help.splitlines() if line.startswith("  vaccel run ")]
    # Models are tried in test_models.py.
    here = [line[1:] for line in lines if not {"--endpoint", "--model", "--plugins"} & {*line}]
    assert len(here) == 5
    for line in here:
        code, out, err = vaccel(capsys, *line)
        assert (code, err) == (0, "")
        assert out or "-o" in line


def test_the_examples_of_vaccel_work(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    picture()
    _, help, _ = vaccel(capsys, "--help")
    lines = [line.split() for line in help.splitlines() if line.startswith("  vaccel ")]
    assert {line[1] for line in lines} == {"run", "agent", "doctor"}
    for line in lines:
        if line[1] == "run" and "--endpoint" not in line:
            code, out, err = vaccel(capsys, *line[1:])
            assert (code, err) == (0, "")
            assert out


def test_without_a_command_help_is_shown(capsys: Output):
    code, out, _ = vaccel(capsys)
    assert code == 0
    assert all(command in out for command in main.COMMANDS)


def test_an_unknown_command_is_one_line(capsys: Output):
    code, out, err = vaccel(capsys, "runn")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"vaccel: .*runn.*\n", err)


def test_ops_lists_every_operation(capsys: Output):
    code, out, _ = vaccel(capsys, "ops")
    assert code == 0
    for op in OPERATIONS.values():
        assert re.search(rf"^ ?{op.code}  {op.name} +\S", out, re.MULTILINE)
    assert "minmax" in out
    assert "indata ndata low_threshold high_threshold → outdata min max" in out


def test_ops_lists_the_functions_of_an_operation(capsys: Output):
    code, out, _ = vaccel(capsys, "ops", "opencv")
    assert code == 0
    assert re.search(r"^ 1  resize +The image in another size\.\n +image width", out, re.MULTILINE)
    assert vaccel(capsys, "ops", "minmax")[0] == 2


def test_ops_prints_a_markdown_table(capsys: Output):
    _, out, _ = vaccel(capsys, "ops", "--markdown")
    head, rule, *rows = out.splitlines()
    assert len(rows) == len(OPERATIONS)
    assert {line.count("|") for line in (head, rule, *rows)} == {6}
    assert "| 21 | `fpga_vadd` | `a`: float32[n], `b`: float32[n] | `c`: float32[n] |" in out


def test_plugins_lists_what_each_implements(capsys: Output):
    code, out, _ = vaccel(capsys, "plugins")
    assert code == 0
    assert re.search(r"^\* cpu .*\n +noop sgemm .*fpga_vadd", out, re.MULTILINE)
    assert re.search(r"^  noop .*\n +all \d+ operations", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_like_this", "ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("x = 1", "has no Plugin object named 'plugin'"),
        ("def", "SyntaxError"),
    ],
)
def test_plugins_says_why_one_cannot_be_loaded(
    capsys: Output, tmp_path: Path, source: str, reason: str
):
    path = tmp_path / "mine.py"
    path.write_text(source)
    code, out, err = vaccel(capsys, "plugins", str(path), "cpu")
    assert (code, err) == (1, "")
    assert f"{path} cannot be loaded: " in out
    assert reason in out
    assert "cpu      numpy" in out


def test_plugins_shows_configured_ones_that_are_not_installed(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "mine.py"
    path.write_text(
        "from vaccel.plugin import Plugin\nplugin = Plugin('mine', summary='of mine')\n"
    )
    monkeypatch.setenv("VACCEL_PLUGINS", str(path))
    code, out, _ = vaccel(capsys, "plugins")
    monkeypatch.undo()
    assert code == 0
    assert f"* {path} of mine ({path})\n           no operation\n" in out
    assert "  cpu      numpy" in out


def test_doctor_names_versions_and_what_is_configured(capsys: Output):
    code, out, err = vaccel(capsys, "doctor")
    assert (code, err) == (0, "")
    for what in ("python    3.", "numpy     ", "protobuf  ", "plugin    cpu: works"):
        assert what in out
    assert f"rundir    {os.environ['XDG_RUNTIME_DIR']}/vaccel." in out
    assert "endpoint  none is configured" in out


@pytest.mark.subprocess
def test_doctor_measures_the_way_to_an_agent(capsys: Output):
    with processes.agent() as agent:
        code, out, err = vaccel(capsys, "doctor", "--endpoint", agent.endpoint)
        assert agent.stop() == (0, "")
    assert (code, err) == (0, "")
    assert f"endpoint  {agent.endpoint}: answers, session 1 there" in out
    assert re.search(r"round trip \d+ µs, median of \d+ calls", out)
    code, out, err = vaccel(capsys, "doctor", "--endpoint", agent.endpoint)
    assert (code, err) == (1, "")
    assert f"{agent.endpoint}: FAILED: cannot connect to" in out


def test_doctor_tries_the_configured_endpoint_and_plugins(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VACCEL_PLUGINS", "nowhere")
    monkeypatch.setenv("VACCEL_RPC_ADDRESS", "unix:///nowhere/at/all")
    code, out, err = vaccel(capsys, "doctor")
    monkeypatch.undo()
    assert (code, err) == (1, "")
    assert "plugin    nowhere: FAILED: no plugin of this name is installed" in out
    assert "endpoint  unix:///nowhere/at/all: FAILED" in out


START = """
from vaccel.plugin import Plugin
class Mine(Plugin):
    def start(self, config):
        raise OSError("the device is gone")
plugin = Mine("mine")
"""
CHECK = START.replace("start(self, config)", "check(self)")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (START, "plugin 'mine' could not be started: OSError: the device is gone; installed"),
        (CHECK, "plugin '{path}' could not be used: OSError: the device is gone; installed"),
        ("raise SystemExit('the device is gone')", "SystemExit: the device is gone\n"),
    ],
)
def test_doctor_starts_what_is_configured(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
):
    path = tmp_path / "mine.py"
    path.write_text(source)
    monkeypatch.setenv("VACCEL_PLUGINS", f"{path}:cpu")
    code, out, err = vaccel(capsys, "doctor")
    monkeypatch.undo()
    assert (code, err) == (1, "")
    assert f"plugin    {path}: FAILED: {reason.format(path=path)}" in out
    assert "plugin    cpu: works" in out


def test_doctor_takes_an_empty_endpoint_for_none(capsys: Output, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VACCEL_RPC_ADDRESS", "")
    code, out, _ = vaccel(capsys, "doctor")
    monkeypatch.undo()
    assert code == 0
    assert "endpoint  none is configured" in out


def test_extras_come_from_the_packages_metadata():
    lines = [
        "numpy>=1.21",
        "onnxruntime>=1.17; extra == 'onnx'",
        'pillow>=9; python_version > "3" and extra == "onnx"',
        "pytest; extra == 'dev'",
    ]
    assert doctor.by_extra(lines) == {"onnx": ["onnxruntime>=1.17", "pillow>=9"]}


def test_an_environment_that_is_wrong_is_one_line(capsys: Output, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VACCEL_LOG_LEVEL", "loud")
    code, _, err = vaccel(capsys, "plugins")
    monkeypatch.undo()
    assert code == 2
    assert re.fullmatch(r"vaccel: VACCEL_LOG_LEVEL: expected 1 .* found 'loud'\n", err)


@pytest.mark.subprocess
def test_a_reader_that_goes_away_causes_no_noise():
    read, write = os.pipe()
    os.close(read)
    command = processes.command("main", "ops")
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
