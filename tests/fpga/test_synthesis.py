"""The size of the kernels, by a real Yosys: what is counted, and that it stays in the budget."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from vaccel.error import InternalError, NotFound
from vaccel.fpga import registers, synthesis
from vaccel.fpga.synthesis import AVAILABLE, Usage

pytestmark = pytest.mark.subprocess

REGISTERS = """\
module {name}(input clk, input [7:0] d, output reg [7:0] q);
  always @(posedge clk) q <= d + q;
endmodule
"""
PRODUCT = """\
module product(input clk, input [15:0] a, b, output reg [31:0] q);
  always @(posedge clk) q <= a * b;
endmodule
"""
MEMORY = """\
module memory(input clk, we, input [{top}:0] w, r, input [35:0] d, output reg [35:0] q);
  reg [35:0] cells [0:{last}];
  always @(posedge clk) begin
    if (we) cells[w] <= d;
    q <= cells[r];
  end
endmodule
"""
SHIFT = """\
module shift(input clk, input d, output q);
  reg [15:0] bits;
  always @(posedge clk) bits <= {bits[14:0], d};
  assign q = bits[15];
endmodule
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path / "vaccel"
    assert not list(tmp_path.glob("vaccel/*.build"))


def test_the_kernels_stay_within_the_budget():
    usages = synthesis.report(lanes=16)
    assert usages.keys() == registers.KERNELS.keys()
    together = synthesis.total(usages)
    assert together.lut < synthesis.LUT_BUDGET * AVAILABLE.lut
    assert all(used < have / 2 for used, have in zip(together, AVAILABLE, strict=True))
    assert usages["mmult"].dsp >= 16, "a multiplier in each lane"
    assert usages["mmult"].bram36 >= 8, "the panel of A: 16 rows of 512 words"


def test_tables_and_flip_flops_are_counted(cache: Path):
    usage = synthesis.synthesize("eight", REGISTERS.format(name="eight"))
    assert (usage.ff, usage.dsp, usage.bram36) == (8, 0, 0)
    assert 1 <= usage.lut <= 16


def test_multipliers_are_counted(cache: Path):
    assert synthesis.synthesize("product", PRODUCT).dsp == 1


@pytest.mark.parametrize(("words", "bram36"), [(512, 1), (1024, 1), (2048, 2)])
def test_block_memories_are_counted_as_36_kbits_each(cache: Path, words: int, bram36: int):
    text = MEMORY.format(top=words.bit_length() - 2, last=words - 1)
    assert synthesis.synthesize("memory", text).bram36 == bram36


def test_memory_made_of_tables_is_counted_as_tables(cache: Path):
    usage = synthesis.synthesize("memory", MEMORY.format(top=4, last=31))
    assert usage.bram36 == 0
    assert usage.lut >= 36 * 32 / 64, "a table holds 64 bits"
    assert synthesis.synthesize("shift", SHIFT).lut == 1


def test_a_part_counts_as_often_as_it_is_there(cache: Path):
    part = REGISTERS.format(name="part")
    instances = "\n".join(
        f"  wire [7:0] q{i}; part part{i}(.clk(clk), .d(d), .q(q{i}));" for i in range(3)
    )
    whole = (
        "module whole(input clk, input [7:0] d, output [7:0] q);\n"
        f"{instances}\n  assign q = q0 & q1 & q2;\nendmodule\n"
    )
    one = synthesis.synthesize("part", part)
    three = synthesis.synthesize("whole", part + whole, ["part"])
    assert three.ff == 3 * one.ff
    assert 3 * one.lut < three.lut <= 3 * one.lut + 8


def test_a_result_is_kept_for_the_same_text_only(cache: Path):
    text = REGISTERS.format(name="eight")
    first = synthesis.synthesize("eight", text)
    (kept,) = cache.iterdir()
    kept.write_text(kept.read_text().replace('"FDRE": 8', '"FDRE": 7'))
    assert synthesis.synthesize("eight", text) == first._replace(ff=7), "it was read again"
    assert synthesis.synthesize("eight", text + "\n") == first


def test_a_cell_that_nobody_counts_is_an_error(cache: Path):
    text = "module odd(input a, output b); OBUFT buffer(.I(a), .T(1'b0), .O(b)); endmodule\n"
    with pytest.raises(InternalError, match="OBUFT"):
        synthesis.synthesize("odd", text)


def test_what_yosys_does_not_understand_is_an_error(cache: Path):
    with pytest.raises(InternalError, match=r"Yosys failed on broken, exit code 1: .*syntax error"):
        synthesis.synthesize("broken", "module broken(;\n")
    assert list(cache.iterdir()) == []


def test_without_yosys_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NotFound, match=r"pip install 'vaccel\[synth\]'"):
        synthesis.report(lanes=16)


def test_usages_add_up():
    usages = {"a": Usage(1, 2, 3, 4), "b": Usage(10, 20, 30, 40)}
    assert synthesis.total(usages) == Usage(11, 22, 33, 44)
