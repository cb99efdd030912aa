"""The size of the kernels, by a real Yosys: what is counted, and that it stays in the budget."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from vaccel import cache
from vaccel.error import InternalError, NotFound
from vaccel.fpga import registers, synthesis
from vaccel.fpga.synthesis import AVAILABLE, Usage

pytestmark = pytest.mark.subprocess

COUNTER = """\
module counter(input clk, input [7:0] d, output reg [7:0] q);
  always @(posedge clk) q <= d + q;
endmodule
"""
EVERYTHING = """\
module everything(
  input clk, we, bit, input [15:0] a, b, input [8:0] w, r, input [35:0] d,
  output [31:0] product, output reg [35:0] block, output [7:0] table_, output last
);
  assign product = a * b;
  reg [35:0] blocks [0:511];
  reg [7:0] tables [0:31];
  reg [15:0] line;
  always @(posedge clk) begin
    if (we) blocks[w] <= d;
    block <= blocks[r];
    if (we) tables[w[4:0]] <= d[7:0];
    line <= {line[14:0], bit};
  end
  assign table_ = tables[r[4:0]];
  assign last = line[15];
endmodule
"""


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for results. Yosys goes on with its own cache, which takes long to fill."""
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    return tmp_path


def test_the_kernels_stay_within_the_budget():
    usages = synthesis.report(lanes=16)
    assert usages.keys() == registers.KERNELS.keys()
    together = synthesis.total(usages)
    assert together.lut < synthesis.LUT_BUDGET * AVAILABLE.lut
    assert all(used < have / 2 for used, have in zip(together, AVAILABLE, strict=True))
    assert usages["mmult"].dsp >= 16, "a multiplier in each lane"
    assert usages["mmult"].bram36 >= 8, "the panel of A: 16 rows of 512 words"


def test_what_is_synthesized_is_counted(kept: Path, capsys: pytest.CaptureFixture[str]):
    usage = synthesis.synthesize("everything", EVERYTHING)
    said = "vaccel: Yosys synthesizes everything (once, some minutes)\n"
    assert capsys.readouterr().err == said
    assert synthesis.synthesize("everything", EVERYTHING) == usage
    assert capsys.readouterr().err == ""
    assert usage.dsp == 1
    assert usage.bram36 == 1
    memory, line = 8 * 32 // 64, 1  # a table holds 64 bits of memory, or 32 of a shift register
    assert memory + line <= usage.lut <= 3 * (memory + line)


def test_a_part_counts_as_often_as_it_is_there(kept: Path):
    instances = "".join(
        f"  wire [7:0] q{i}; counter c{i}(.clk(clk), .d(d), .q(q{i}));\n" for i in range(3)
    )
    whole = (
        "module whole(input clk, input [7:0] d, output [7:0] q);\n"
        f"{instances}  assign q = q0 & q1 & q2;\nendmodule\n"
    )
    usage = synthesis.synthesize("whole", COUNTER + whole, ["counter"])
    assert usage.ff == 3 * 8
    assert 3 * 4 <= usage.lut <= 3 * 8 + 8, "Yosys puts two tables of two inputs into one"


def test_a_result_is_kept_for_the_same_text_only(kept: Path):
    first = synthesis.synthesize("counter", COUNTER)
    assert first.ff == 8
    (file,) = kept.iterdir()
    made = file.stat().st_mtime_ns
    assert synthesis.synthesize("counter", COUNTER) == first
    assert file.stat().st_mtime_ns == made
    with pytest.raises(InternalError, match="syntax error"):
        synthesis.synthesize("counter", COUNTER + "module;\n")


def statistics(luts: int = 0, **cells: int) -> dict[str, Any]:
    design = {"estimated_num_lc": luts, "num_cells_by_type": cells}
    return {"modules": {"\\top": {}, "\\part": {}}, "design": design}


@pytest.mark.parametrize(
    ("cells", "usage"),
    [
        ({"luts": 7, "LUT2": 4, "LUT6": 5, "CARRY4": 2, "INV": 1, "MUXF7": 1}, (7, 0, 0, 0)),
        ({"luts": 7, "RAM32M": 2, "RAM64X1D": 1, "SRL16E": 3}, (7 + 8 + 2 + 3, 0, 0, 0)),
        ({"FDRE": 5, "FDSE": 1, "FDCE": 1, "FDPE": 1}, (0, 8, 0, 0)),
        ({"DSP48E1": 3, "part": 2}, (0, 0, 3, 0)),
        ({"RAMB36E1": 2, "RAMB18E1": 1}, (0, 0, 0, 3)),
        ({"RAMB36E1": 2, "RAMB18E1": 2}, (0, 0, 0, 3)),
    ],
)
def test_cells_are_counted_as_the_chip_has_them(cells: dict[str, int], usage: tuple[int, ...]):
    assert synthesis._usage(statistics(**cells)) == usage


def test_a_cell_that_nobody_counts_is_an_error():
    with pytest.raises(InternalError, match="LDCE"):
        synthesis._usage(statistics(LDCE=1))


def test_what_yosys_does_not_understand_is_an_error(kept: Path):
    with pytest.raises(InternalError, match=r"Yosys failed on broken, exit code 1: .*syntax error"):
        synthesis.synthesize("broken", "module broken(;\n")
    assert list(kept.iterdir()) == []


def test_without_yosys_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NotFound, match=r"pip install 'vaccel\[synth\]'"):
        synthesis.report(lanes=16)


def test_usages_add_up():
    usages = {"a": Usage(1, 2, 3, 4), "b": Usage(10, 20, 30, 40)}
    assert synthesis.total(usages) == Usage(11, 22, 33, 44)
