"""The Vivado scripts, run by a real Tcl over stand-ins for Vivado's commands (vivado_stubs.tcl)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from vaccel.error import InvalidArgument
from vaccel.fpga import hwh, overlay, registers, synthesis, vivado

STUBS = Path(__file__).with_name("vivado_stubs.tcl")
PS = "processing_system7_0"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("overlay")
    vivado.build(folder, lanes=4)
    return folder


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Path:
    """A copy that the test may change."""
    return Path(shutil.copytree(built, tmp_path / "overlay"))


class Run(NamedTuple):
    """What the script did: words of each fact, by the kind of fact."""

    code: int
    facts: dict[str, list[tuple[str, ...]]]
    errors: str

    @property
    def calls(self) -> list[str]:
        return [name for (name,) in self.facts["call"]]


def run(project: Path, *arguments: str, **settings: str) -> Run:
    tclsh = shutil.which("tclsh")
    if tclsh is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(
            "NOT TESTED: the Vivado scripts, for which tclsh is missing: install the package tcl"
        )
    done = subprocess.run(
        [tclsh, str(STUBS), str(project / "build.tcl"), *arguments],
        env={**os.environ, **{f"VIVADO_{name.upper()}": text for name, text in settings.items()}},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    facts: dict[str, list[tuple[str, ...]]] = {}
    for line in done.stdout.splitlines():
        kind, *words = line.split("\t")
        facts.setdefault(kind, []).append(tuple(words))
    return Run(done.returncode, facts, done.stderr)


@pytest.fixture(scope="module")
def good(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The script run as it is."""
    done = run(Path(shutil.copytree(built, tmp_path_factory.mktemp("good") / "overlay")))
    assert (done.code, done.errors) == (0, "")
    return done


def bitstream(project: Path) -> Path:
    return project / "output" / "vaccel.bit"


# -- what the scripts build --------------------------------------------------------------------


def test_it_writes_the_bitstream_and_what_vivado_says_of_the_design(project: Path):
    done = run(project, "3")
    assert (done.code, done.errors) == (0, "")
    assert bitstream(project).read_text() == "a bitstream\n"
    handoff = bitstream(project).with_suffix(".hwh")
    assert handoff.read_text() == "the hardware hand-off of the built design\n"
    assert {"timing.txt", "utilization.txt"} <= {p.name for p in (project / "output").iterdir()}
    assert done.facts["run"] == [("synth_1", "3"), ("impl_1", "3")]


def test_every_pin_and_interface_is_connected(good: Run):
    assert unconnected(good) == set()


def unconnected(done: Run) -> set[str]:
    driven = {pin for net in done.facts["net"] for pin in net}
    joined = {pin for net in done.facts["interface_net"] for pin in net}
    pins = {path for path, _ in done.facts["pin"]}
    interfaces = {path for path, _ in done.facts["interface"]}
    assert pins >= {f"{name}/ap_clk" for name in registers.KERNELS}
    assert interfaces >= {f"{name}/m_axi_gmem" for name in registers.KERNELS}
    return (pins - driven) | (interfaces - joined)


def test_clock_and_reset_come_from_the_processor(good: Run):
    driver = {to: source for source, to in good.facts["net"]}
    for name in registers.KERNELS:
        assert driver[f"{name}/ap_clk"] == f"{PS}/FCLK_CLK0"
        reset, pin = driver[f"{name}/ap_rst_n"].split("/")
        assert pin == "peripheral_aresetn", "active low, as the kernel's"
        assert driver[f"{reset}/ext_reset_in"] == f"{PS}/FCLK_RESET0_N"
        assert driver[f"{reset}/slowest_sync_clk"] == f"{PS}/FCLK_CLK0"


def test_clock_and_memory_port_are_those_of_the_register_map(good: Run):
    found = {key: value for cell, key, value in good.facts["config"] if cell == PS}
    assert float(found["PCW_FPGA0_PERIPHERAL_FREQMHZ"]) * 1e6 == registers.CLOCK_HZ
    assert found["PCW_S_AXI_HP0_DATA_WIDTH"] == "64" == str(8 * registers.ALIGNMENT)


def test_addresses_are_those_of_the_register_map(good: Run):
    found = {
        (space, segment.split("/")[0]): (int(first), int(size))
        for space, segment, first, size in good.facts["address"]
    }
    expected = {
        (f"{PS}/Data", kernel.name): (kernel.base, registers.WINDOW)
        for kernel in registers.KERNELS.values()
    }
    expected |= {(f"{name}/m_axi_gmem", PS): (0, 512 * 2**20) for name in registers.KERNELS}
    controller = (overlay.CONTROLLER_BASE, registers.WINDOW)
    assert found == {**expected, (f"{PS}/Data", overlay.CONTROLLER): controller}


def test_interrupts_reach_the_processor_by_the_controller(good: Run):
    nets = set(good.facts["net"])
    for index, name in enumerate(registers.KERNELS):
        assert (f"{name}/interrupt", f"{overlay.CONCAT}/In{index}") in nets
    assert (f"{overlay.CONCAT}/dout", f"{overlay.CONTROLLER}/intr") in nets
    assert (f"{overlay.CONTROLLER}/irq", f"{PS}/IRQ_F2P") in nets
    levels = (overlay.CONTROLLER, "C_KIND_OF_INTR", "0x00000000")
    assert levels in good.facts["config"]


def test_the_hand_off_file_describes_the_same_connections(good: Run):
    described = {
        (f"{module.get('INSTANCE')}/{port.get('NAME')}", f"{end.get('INSTANCE')}/{end.get('PORT')}")
        for module in ElementTree.fromstring(hwh.document()).iter("MODULE")
        for port in module.iter("PORT")
        for end in port.iter("CONNECTION")
        if port.get("DIR") == "O"
    }
    assert described
    assert described <= set(good.facts["net"])


def test_the_packaged_kernels_have_the_registers_of_the_map(good: Run):
    expected_registers, expected_fields = [], []
    for kernel in registers.KERNELS.values():
        for r in kernel.registers:
            offset = f"0x{r.offset:02X}"
            words = (kernel.name, r.name, offset, "32", r.access.value, r.description)
            expected_registers.append(words)
            expected_fields += [
                (
                    *(kernel.name, r.name, f.name),
                    *(str(f.bit), str(f.width), f.access.value, f.description),
                )
                for f in r.fields
            ]
    assert good.facts["register"] == expected_registers
    assert good.facts["field"] == expected_fields
    assert good.facts["block"] == [
        (name, "s_axi_control", "Reg", str(registers.WINDOW)) for name in registers.KERNELS
    ]


# -- what stops them ---------------------------------------------------------------------------


def test_an_error_in_any_command_stops_the_script(project: Path, good: Run):
    for command in dict.fromkeys(good.calls):
        done = run(project, fail=f"{command}:{good.calls.count(command)}")
        assert done.code == 1, command
        assert f"{command} failed, as it was asked to" in done.errors
        assert done.calls[-1] == command
        assert not bitstream(project).exists()


@pytest.mark.parametrize("name", ["synth_1", "impl_1"])
def test_a_run_that_fails_stops_the_script(project: Path, name: str):
    done = run(project, stuck=name)
    assert done.code == 1
    assert f"{name} failed: synth_design ERROR; see runs/runme.log" in done.errors
    assert done.facts["run"][-1][0] == name
    assert not bitstream(project).exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"wns": "-0.204"}, "the worst setup slack is -0.204 ns"),
        ({"whs": "-0.01"}, "the worst hold slack is -0.01 ns"),
        ({"wns": ""}, "no setup slack was reported"),
    ],
)
def test_no_bitstream_is_written_unless_timing_is_met(
    project: Path, settings: dict[str, str], message: str
):
    done = run(project, **settings)
    assert done.code == 1
    assert message in done.errors
    assert str(project / "output" / "timing.txt") in done.errors
    assert not bitstream(project).exists()


def test_the_result_of_an_earlier_build_does_not_outlive_a_failure(project: Path):
    assert run(project).code == 0
    assert bitstream(project).exists()
    assert run(project, wns="-1").code == 1
    assert not bitstream(project).exists()
    assert not bitstream(project).with_suffix(".hwh").exists()
    assert run(project).code == 0, "and can be tried again"


def test_another_vivado_is_warned_of(project: Path):
    done = run(project, version="2022.1")
    assert done.code == 0
    (line,) = (kind for kind in done.facts if kind.startswith("WARNING"))
    assert "2022.1" in line
    assert vivado.VERSION in line


# -- whether the stand-ins see faults ----------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("design.tcl", "validate_bd_design", "validate_design", "invalid command name"),
        ("overlay.tcl", "PCW_USE_S_AXI_HP0 1", "PCW_USE_S_AXI_HP0 0", "there is no"),
        ("overlay.tcl", "PCW_IRQ_F2P_INTR 1", "PCW_IRQ_F2P_INTR 0", "no pin .*IRQ_F2P"),
        ("overlay.tcl", "PCW_EN_CLK0_PORT", "PCW_EN_CLOCK0_PORT", "has no parameter"),
        ("overlay.tcl", "base 0x43C10000", "base 0x43C08000", "lies across its size"),
        ("overlay.tcl", "base 0x43C10000", "base 0x43C00000", "would lie over"),
        ("design.tcl", "CONFIG.C_IRQ_CONNECTION 1", "", "no pin .*irq"),
        ("package.tcl", "-import_files", "-import_all", "unknown option"),
        ("package.tcl", "_ip [current_fileset]", " [current_fileset]", "no file has"),
        ("elementwise_ip.v", "X_INTERFACE_INFO", "X_INFO", "no interface"),
        ("build.tcl", "update_ip_catalog -rebuild", "", "expected the packaged IP"),
        ("implement.tcl", "    generate_target all $design\n", "", "hand-off file"),
    ],
)
def test_a_fault_in_the_scripts_is_an_error(
    project: Path, file: str, old: str, new: str, message: str
):
    change(project / file, old, new)
    done = run(project)
    assert done.code == 1
    assert re.search(message, done.errors)


@pytest.mark.parametrize(
    ("line", "pins"),
    [
        ("    connect_pins $concat/dout $controller/intr\n", {"interrupts/dout"}),
        ("    connect_interfaces memory_fabric/M00_AXI", {"memory_fabric/M00_AXI"}),
    ],
)
def test_a_connection_that_is_left_out_is_seen(project: Path, line: str, pins: set[str]):
    change(project / "design.tcl", line, f"    # {line.strip()}" + "\n" * line.endswith("\n"))
    assert unconnected(run(project)) >= pins


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# -- Verilog and Tcl ---------------------------------------------------------------------------


@pytest.mark.subprocess
@pytest.mark.parametrize("name", registers.KERNELS)
def test_the_wrapper_fits_the_kernel(project: Path, name: str):
    assert faults(project, name) == ""
    change(project / f"{name}_ip.v", "[63:0]", "[31:0]")
    assert "Resizing cell port" in faults(project, name), "a port of another width is seen"


def faults(project: Path, name: str) -> str:
    """What Yosys says against the wrapper."""
    script = f"read_verilog -lib {name}.v; read_verilog {name}_ip.v; hierarchy -check; check"
    done = subprocess.run(
        [sys.executable, "-c", synthesis.YOSYS, "-q", "-p", script],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stderr + done.stdout


@pytest.mark.parametrize("name", registers.KERNELS)
def test_the_wrapper_has_the_names_and_the_reset_of_an_ip(built: Path, name: str):
    text = (built / f"{name}_ip.v").read_text()
    declared = set(re.findall(r"(?:input|output) wire (?:\[\d+:0\] )?(\w+)", text))
    assert {"ap_clk", "ap_rst_n", "interrupt"} <= declared
    buses = {re.sub(r"_[a-z]+$", "", port) for port in declared - {"ap_clk", "ap_rst_n"}}
    assert buses == {"interrupt", "s_axi_control", "m_axi_gmem"}
    assert ".rst(~ap_rst_n)" in text


def test_text_that_tcl_would_not_read_as_it_is_written_is_refused():
    assert vivado._tcl_text("a | b; $c [d]") == "{a | b; $c [d]}"
    for text in ("a}", "{a", "back\\slash"):
        with pytest.raises(InvalidArgument, match="braces"):
            vivado._tcl_text(text)


def test_a_size_that_the_kernel_cannot_have_is_refused(tmp_path: Path):
    with pytest.raises(InvalidArgument, match="lanes"):
        vivado.build(tmp_path / "overlay", lanes=5)
    assert not (tmp_path / "overlay").exists()
