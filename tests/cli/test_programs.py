"""The article's programs, and the demo."""

from __future__ import annotations

import io
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests import processes
from vaccel.cli import demo, demo_stage, examples
from vaccel.error import ConnectionFailed
from vaccel.rpc import address

Output = pytest.CaptureFixture[str]


def call(capsys: Output, name: str, *arguments: str) -> tuple[int, str, str]:
    try:
        code = examples.main([name, *arguments])
    except SystemExit as exc:
        code = int(exc.code or 0)
    return (code, *capsys.readouterr())


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "pynq_vector_add_generic",
            ["2.800000", "2.100000", "8.500000", "3.500000", "11.299999"],
        ),
        ("pynq_array_copy_generic", ["12", "15", "12", "15", "12", "11"]),
        (
            "pynq_parallel_generic",
            [f"{number:.6f}" for number in (3, 5, 7, 9, 2, 6, 12, 20)],
        ),
    ],
)
def test_programs_compute_on_the_processor_where_nothing_is_configured(
    capsys: Output, name: str, lines: list[str]
):
    code, out, err = call(capsys, name)
    assert (code, err) == (0, "")
    assert out.splitlines() == ["Initialized session with id: 1", *lines]


def test_classify_registers_the_model_and_repeats(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "image").write_bytes(b"abc")
    (tmp_path / "model").write_bytes(b"weights")
    plugin = tmp_path / "named.py"
    plugin.write_text(
        "from vaccel.ops.catalog import Operations\n"
        "from vaccel.plugin import Plugin\n"
        "plugin = Plugin('named')\n"
        "@plugin.kernel(Operations.classify)\n"
        "def classify(session, image):\n"
        "    (model,) = session.resources\n"
        "    return f'{model.type.name} {model.files()[0].name} {bytes(image)}', ''\n"
    )
    monkeypatch.setenv("VACCEL_PLUGINS", str(plugin))
    arguments = [str(tmp_path / "image"), "2", str(tmp_path / "model")]
    code, out, err = call(capsys, "classify", *arguments)
    monkeypatch.undo()
    assert (code, err) == (0, "")
    tag = "classification tags: MODEL model b'abc'"
    assert out.splitlines() == ["Initialized session with id: 1", "Image size: 3B", tag, tag]


@pytest.mark.parametrize("name", examples.PROGRAMS)
def test_help_shows_examples(capsys: Output, name: str):
    code, out, _ = call(capsys, name, "--help")
    assert code == 0
    assert f"VACCEL_PLUGINS=noop VACCEL_LOG_LEVEL=4 {name}" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["none.jpg", "1"], 1, "classify: none.jpg: No such file or directory"),
        (["none.jpg"], 2, "classify: the following arguments are required: N"),
        (["none.jpg", "many"], 2, "classify: argument N: invalid int value: 'many'"),
        (["none.jpg", "0"], 2, "classify: N: expected a number from 1, found 0"),
        (
            [__file__, "1", "none"],
            1,
            "expected a file, a folder, an archive or a URL, found none at 'none'",
        ),
    ],
)
def test_failures_are_one_line(capsys: Output, arguments: list[str], code: int, said: str):
    found, _, err = call(capsys, "classify", *arguments)
    assert said in err
    assert err.count("\n") == 1
    assert found == code


def test_a_file_that_is_no_picture_is_one_line(capsys: Output):
    pytest.importorskip("onnxruntime", reason="pip install 'vaccel[onnx]'")
    code, _, err = call(capsys, "classify", __file__, "1")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("classify: classify: image: expected JPEG, PNG, ")


def test_an_agent_that_cannot_be_reached_is_one_line(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VACCEL_PLUGINS", "rpc")
    monkeypatch.setenv("VACCEL_RPC_ADDRESS", "unix:///nowhere/at/all")
    code, out, err = call(capsys, "pynq_vector_add_generic")
    monkeypatch.undo()
    assert (code, out) == (1, "")
    assert err.startswith("pynq_vector_add_generic: cannot connect to unix:///nowhere/at/all: ")
    assert err.count("\n") == 1


@pytest.mark.subprocess
def test_the_demo_shows_numbers_and_pictures_and_leaves_no_agent():
    pytest.importorskip("onnxruntime", reason="pip install 'vaccel[onnx]'")
    done = processes.run("demo", env={"VACCEL_PLUGINS": "ignored"})
    assert done.returncode == 0, done.stdout
    assert re.search(r"^    2\.800000\n.*\n.*\n.*\n    11\.299999$", done.stdout, re.MULTILINE)
    cycles = r"elementwise kernel: \d+ cycles in 1 job, [\d.]+ us at 100 MHz \(estimate\)$"
    assert re.search(cycles, done.stdout, re.MULTILINE)
    assert "    classification tags: plus\n" in done.stdout
    image = re.search(r"^    (/.*/detect\.png)$", done.stdout, re.MULTILINE)
    assert image
    assert Path(image[1]).read_bytes().startswith(b"\x89PNG")
    assert "\033" not in done.stdout
    for _, comment in demo_stage.COMMENTS:
        assert done.stdout.count(f"\n  # {comment}\n") in (1, 2)


@pytest.mark.subprocess
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_stops_its_agent_when_interrupted(number: signal.Signals):
    with subprocess.Popen(processes.command("demo"), stdout=subprocess.PIPE, text=True) as process:
        endpoint = ""
        for line in process.stdout or ():
            endpoint = line.partition("address: ")[2].strip() or endpoint
            if "Server is running" in line:
                break
        process.send_signal(number)
        process.communicate(timeout=processes.TIMEOUT)
    assert process.returncode == 130
    with pytest.raises(ConnectionFailed):
        address.connect(address.parse(endpoint))


def test_the_demo_fails_where_a_number_is_off(monkeypatch: pytest.MonkeyPatch, capsys: Output):
    monkeypatch.setattr(demo, "run", lambda *_: ["2.800000", "2.100000"])
    monkeypatch.setattr(demo_stage, "agent", lambda log: io.StringIO("tcp://127.0.0.1:1"))
    assert demo.main() == 1
    assert "demo: the sums: expected" in capsys.readouterr().err
