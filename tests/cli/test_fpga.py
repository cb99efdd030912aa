"""`vaccel fpga`: what it shows of the board, the registers and the chip; what it writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.fpga.devices import Registers
from vaccel.cli import fpga, main
from vaccel.fpga import boards, registers, synthesis
from vaccel.fpga.device import Device
from vaccel.fpga.simulator import Simulator
from vaccel.fpga.synthesis import Usage

Output = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]


def vaccel(capsys: Output, *arguments: str) -> tuple[int, str, str]:
    try:
        code = main.main(["fpga", *arguments])
    except SystemExit as exc:
        code = int(exc.code or 0)
    return (code, *capsys.readouterr())


@pytest.mark.parametrize("command", fpga.COMMANDS)
def test_help_of_each_command_shows_examples(capsys: Output, command: str):
    code, out, err = vaccel(capsys, command, "--help")
    assert (code, err) == (0, "")
    examples = out.partition("examples:\n")[2]
    assert re.search(rf"^  (VACCEL\S+ )*vaccel fpga {command}", examples, re.MULTILINE)


def test_without_a_command_help_is_shown(capsys: Output):
    code, out, _ = vaccel(capsys)
    assert code == 0
    assert all(command in out for command in fpga.COMMANDS)


def test_an_unknown_command_is_one_line(capsys: Output):
    code, out, err = vaccel(capsys, "bild")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"vaccel: .*bild.*\n", err)


# -- info --------------------------------------------------------------------------------------


def use(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    def open_device(name: str | None = None, bitstream: str | None = None) -> Device:
        boards.choose(name)
        return device

    monkeypatch.setattr(boards, "open_device", open_device)


def test_info_shows_what_the_hardware_says_of_itself(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
):
    use(monkeypatch, Simulator(lanes=4, memory=64 << 20))
    code, out, _ = vaccel(capsys, "info", "--device", "sim")
    assert code == 0
    lines = dict(re.split(r" +", line, maxsplit=1) for line in out.splitlines()[:4])
    assert "simulated" in lines["device"]
    assert lines["clock"] == "100 MHz"
    assert lines["memory"] == "64 MiB, of which 64 MiB are free"
    assert out.splitlines()[4:] == [
        "kernel   elementwise at 0x43C00000: VAEW, version 1.0, lanes 2",
        "kernel   mmult at 0x43C10000: VAMM, version 1.0, lanes 4, rows 16, depth 512",
    ]


def test_info_for_programs_has_the_same(capsys: Output, monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, Simulator(lanes=4))
    monkeypatch.setenv("VACCEL_PYNQ_DEVICE", "sim")
    code, out, _ = vaccel(capsys, "info", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["simulated"] is True
    assert found["clock_hz"] == registers.CLOCK_HZ
    assert found["memory"] >= found["memory_free"] > 0
    assert [kernel["base"] for kernel in found["kernels"]] == [0x43C0_0000, 0x43C1_0000]
    assert found["kernels"][1]["capability"] == {"lanes": 4, "rows": 16, "depth": 512}
    assert all(kernel["expected"] for kernel in found["kernels"])


@pytest.mark.parametrize(
    ("register", "value", "shown"),
    [
        (registers.IDENTIFICATION, 0x5641_0058, r"VA\.X, version 1\.0.*- NOT EXPECTED"),
        (registers.VERSION_REGISTER, 0x0002_0001, r"VAEW, version 2\.1.*- NOT EXPECTED"),
    ],
)
def test_info_marks_a_kernel_that_is_another(
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
    register: registers.Register,
    value: int,
    shown: str,
):
    address = registers.ELEMENTWISE.base + register.offset
    use(monkeypatch, Registers(Simulator(lanes=4), {address: value}))
    code, out, _ = vaccel(capsys, "info", "--device", "sim")
    assert code == 1
    assert re.search(rf"elementwise at .*: {shown}", out)
    assert out.count("NOT EXPECTED") == 1


def test_info_takes_the_bitstream_that_is_named(capsys: Output, tmp_path: Path):
    code, out, err = vaccel(
        capsys, "info", "--device", "board", "--bitstream", str(tmp_path / "other.bit")
    )
    assert (code, out) == (1, "")
    assert f"expected a bitstream at {tmp_path}/other.bit" in err


def test_an_error_that_nobody_foresaw_shows_where_it_happened_when_that_is_asked_for(
    capsys: Output, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def fail(*_: object) -> Device:
        raise ZeroDivisionError("of a test")

    monkeypatch.setattr(boards, "open_device", fail)
    code, _, err = vaccel(capsys, "info")
    said = "vaccel: ZeroDivisionError: of a test; VACCEL_LOG_LEVEL=4 shows where it happened\n"
    assert (code, err) == (1, said)
    with monkeypatch.context() as patch:
        patch.setenv("VACCEL_LOG_LEVEL", "4")
        code, _, err = vaccel(capsys, "info")
        assert code == 1
        assert err.endswith(said)
        assert re.search(r'File ".*test_fpga\.py", line \d+, in fail\n', err)
        patch.setenv("VACCEL_LOG_FILE", str(tmp_path / "log"))
        assert vaccel(capsys, "info") == (1, "", said)
    assert "in fail" in (tmp_path / "log").read_text()


def test_info_says_how_to_choose_where_there_is_no_board(capsys: Output):
    code, out, err = vaccel(capsys, "info")
    assert (code, out) == (1, "")
    assert "VACCEL_PYNQ_DEVICE" in err


# -- registers ---------------------------------------------------------------------------------


def test_the_document_of_registers_is_the_generated_one(capsys: Output):
    _, out, _ = vaccel(capsys, "registers", "--markdown")
    found = (ROOT / "docs" / "registers.md").read_text()
    assert found == out, "run: vaccel fpga registers --markdown > docs/registers.md"


def test_the_document_names_every_register_field_and_value():
    text = (ROOT / "docs" / "registers.md").read_text()
    for kernel in registers.KERNELS.values():
        section = text.partition(f"## `{kernel.name}`\n")[2].partition("\n## ")[0]
        for register in kernel.registers:
            (row,) = re.findall(rf"^\| `0x{register.offset:02X}` .*$", section, re.MULTILINE)
            assert f"| `{register.name}` |" in row
            assert all(f"`{field.name}`" in row for field in register.fields)
            assert len(re.findall(r"(?<!\\)\|", row)) == 5
    names = [each.name for each in (*registers.Status, *registers.Operation)]
    assert all(f"`{name}`" in text for name in names)


def test_registers_are_listed_by_kernel(capsys: Output):
    code, out, _ = vaccel(capsys, "registers")
    assert code == 0
    assert out.startswith("elementwise at 0x43C00000: ")
    assert "  20 rw length           32-bit elements\n" in out
    assert "  44 r  cycles           clock cycles of the last job" in out


# -- report ------------------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lanes that were asked for; usages are made up, the real ones take a minute."""
    asked = []

    def report(lanes: int) -> dict[str, Usage]:
        asked.append(lanes)
        return {"elementwise": Usage(2660, 1064, 4, 0), "mmult": Usage(10640, 10640, 44, 14)}

    monkeypatch.setattr(synthesis, "report", report)
    return asked


def test_report_gives_counts_and_shares_of_the_chip(capsys: Output, measured: list[int]):
    code, out, err = vaccel(capsys, "report")
    assert (code, err, measured) == (0, "", [16])
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["LUT", "FF", "DSP", "BRAM36"]
    assert lines[1] == [
        "elementwise",
        *["2,660", "5.0%", "1,064", "1.0%", "4", "1.8%", "0", "0.0%"],
    ]
    assert lines[3] == [
        "together",
        *["13,300", "25.0%", "11,704", "11.0%", "48", "21.8%", "14", "10.0%"],
    ]
    assert lines[4] == ["XC7Z020", "53,200", "106,400", "220", "140"]
    assert "synthesis estimate, no placement; 16 lanes of mmult; budget 40% of the LUTs" in out


def test_report_for_programs_has_the_same(capsys: Output, measured: list[int]):
    code, out, _ = vaccel(capsys, "report", "--lanes", "8", "--json")
    assert (code, measured) == (0, [8])
    found = json.loads(out)
    assert found["lanes"] == 8
    assert found["kind"] == "synthesis estimate, no placement"
    assert found["usage"]["together"] == {"lut": 13300, "ff": 11704, "dsp": 48, "bram36": 14}
    assert found["usage"]["available"]["lut"] == 53200


@pytest.mark.parametrize("command", [("report",), ("build", "-o", "overlay")])
def test_a_size_that_the_kernel_cannot_have_is_one_line(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
):
    monkeypatch.chdir(tmp_path)
    code, out, err = vaccel(capsys, *command, "--lanes", "5")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"vaccel: lanes: .*found 5\n", err)
    assert list(tmp_path.iterdir()) == []


# -- build -------------------------------------------------------------------------------------


def test_build_writes_what_it_lists_and_says_that_it_is_unrun(capsys: Output, tmp_path: Path):
    folder = tmp_path / "new" / "overlay"
    code, out, err = vaccel(capsys, "build", "--lanes", "4", "-o", str(folder))
    assert code == 0
    assert {Path(line) for line in out.splitlines()} == set(folder.iterdir())
    names = {path.name for path in folder.iterdir()}
    assert names >= {"build.tcl", "overlay.tcl", "vaccel.hwh", "elementwise.v", "mmult_ip.v"}
    assert f"cd {folder} && vivado -mode batch -source build.tcl" in err
    assert "no bitstream has been built with these scripts" in err
    assert "Unrun: no\n# bitstream has been built" in (folder / "build.tcl").read_text()
