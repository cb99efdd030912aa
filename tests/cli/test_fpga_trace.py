"""`vaccel fpga trace`: what it takes, what it writes, what it says when that is not possible."""

from __future__ import annotations

import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vaccel.cli import main as cli
from vaccel.cli.fpga_trace import MOST_LATENCY
from vaccel.fpga.drivers import OPERATIONS

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trace(capsys: Output, line: str) -> str:
    """What it prints, besides what building the simulator does."""
    assert cli.main(["fpga", "trace", *shlex.split(line)]) == 0
    return capsys.readouterr().out


def failure(capsys: Output, line: str) -> str:
    try:
        code = cli.main(["fpga", "trace", *shlex.split(line)])
    except SystemExit as exc:
        code = int(exc.code or 0)
    assert code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert list(Path().iterdir()) == []
    return err.removeprefix("vaccel: ").rstrip()


def test_values_are_those_of_a_call(capsys: Output):
    said = trace(capsys, "fpga_vadd b=-1,2 5,-1")
    assert said.startswith("trace.html: fpga_vadd, 2 elements: ")
    assert "16 bytes are read and 8 written" in Path("trace.html").read_text()


@pytest.mark.parametrize(
    ("operation", "moved"),
    [
        ("fpga_arraycopy", "256 bytes are read and 256 written"),
        ("fpga_vadd", "512 bytes are read and 256 written"),
        ("fpga_parallel", "512 bytes are read and 512 written"),
    ],
)
def test_a_length_is_enough(operation: str, moved: str, capsys: Output):
    trace(capsys, f"{operation} --length 64 -o picture.svg")
    root = ElementTree.parse("picture.svg").getroot()
    assert any((text.text or "").startswith(moved) for text in root.iter())


def test_matrices_are_square(capsys: Output):
    said = trace(capsys, "fpga_mmult --length 8 --lanes 4 -o m.svg")
    assert said.startswith("m.svg: fpga_mmult, 8 by 8: ")
    assert "per cycle, in one job of the mmult kernel" in Path("m.svg").read_text()


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("length", [1, 2])
def test_the_smallest_calls_are_drawn_whole(operation: str, length: int, capsys: Output):
    trace(capsys, f"{operation} --length {length} --lanes 4 -o small.svg")
    text = Path("small.svg").read_text()
    for argument in OPERATIONS[operation].kernel.arguments:
        assert f"<title>write {argument.name}, " in text


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_slowest_memory_keeps_the_deadlines(operation: str, capsys: Output):
    said = trace(capsys, f"{operation} --length 48 --lanes 4 --latency {MOST_LATENCY} -o slow.svg")
    assert "cycles" in said


def test_a_slow_memory_makes_a_longer_call(capsys: Output):
    cycles = [
        int(trace(capsys, f"fpga_vadd --length 8 --latency {n}").split()[4]) for n in (10, 110)
    ]
    assert cycles[1] - cycles[0] == 200  # once for reading, once for writing


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fpga_vadd", "expected either values or --length; see `vaccel fpga trace --help`"),
        ("fpga_vadd 1 2 --length 3", "expected either values or --length; see"),
        ("fpga_vadd 1,2 3", "fpga_vadd: b: expected n=2 as in the other arguments, found n=1"),
        ("fpga_vadd --length 0", "fpga_vadd: expected a size from 1 to 1048576 to draw, found 0"),
        ("fpga_mmult --length 513", "fpga_mmult: expected a size from 1 to 512 to draw, found 513"),
        ("fpga_vadd --length 4 -o t.png", "-o: expected FILE.html or FILE.svg, found 't.png'; see"),
        ("sgemm --length 4", "argument OP: invalid choice: 'sgemm' (choose from "),
        ("fpga_vadd --length 4 --latency -1", "--latency: expected 0 to 1000 cycles, found -1"),
        ("fpga_vadd --length 4 --latency 1001", "--latency: expected 0 to 1000 cycles, found 1001"),
        ("fpga_mmult --length 4 --lanes 5", "lanes: expected a power of two, 4 to 32; found 5"),
    ],
)
def test_failures_are_one_line(line: str, words: str, capsys: Output):
    said = failure(capsys, line)
    assert said.startswith(words)
    assert "\n" not in said
