"""`make demo`: an agent on this machine computes for the article's programs; each step explained.

The agent's FPGA is simulated: the kernels' hardware description, cycle by cycle. Its models are the
small ones that come with vaccel.
"""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import IO

import numpy as np

from vaccel import cache
from vaccel.cli import demo_stage, program
from vaccel.cli.demo_stage import expect, run, say
from vaccel.fpga import boards
from vaccel.fpga.drivers import Accelerator

SUM = ["2.800000", "2.100000", "8.500000", "3.500000", "11.299999"]
TAG = "plus"
FOUND = ["ring", "star", "star", "triangle"]

_SIMULATION = """\
The FPGA is that of a PYNQ-Z1, simulated: its kernels are compiled from their hardware description,
once for all programs of this user, and checked with a small addition:
"""
_INTRODUCTION = """
The agent owns the plugins: pynq drives the FPGA, onnx runs models on the processor. It listens on
this machine only, on a port that is free:
"""
_VECTOR_ADD = """
FIRST, NUMBERS. The program adds two vectors of five numbers. Its environment says where: the plugin
rpc carries the operation to the agent. At log level 4 it tells each step:
"""
_CYCLES = """
What the FPGA did for that, from the agent's log. The cycles are those of the hardware, the time is
what they take at the clock it is built for, an estimate as long as no board has confirmed it:
"""
_CLASSIFY = """
SECOND, PICTURES. The same way with a picture of a plus sign: it goes to the agent, whose plugin
onnx decodes it and asks the small model that comes with vaccel for the class of what is in it:
"""
_DETECT = """
Where are things in a picture? This one has two stars, a triangle and a ring. From here on without
the log:
"""
_SHOW = """
The same, drawn: the agent frames each thing in a copy of the picture. Look at the image:
"""
_OWN = """
A model of your own goes to the agent with the call: vaccel run detect PICTURE --model MODEL.onnx"""


def main() -> int:
    return program.run("demo", _demo)


def _demo() -> None:
    say(_SIMULATION)
    _simulate()
    say(_INTRODUCTION)
    with (
        program.terminable(),
        tempfile.NamedTemporaryFile("r", prefix="vaccel-demo-", suffix=".log") as log,
        demo_stage.agent(log.name) as endpoint,
    ):
        remote = {"VACCEL_PLUGINS": "rpc", "VACCEL_RPC_ADDRESS": endpoint}
        _numbers(remote | {"VACCEL_LOG_LEVEL": "4"}, log)
        _pictures(remote)
    say("\nThe agent has ended. All results are as they should be.")


def _simulate() -> None:
    """Build what the agent would otherwise have to build during the first call."""
    with contextlib.closing(Accelerator(boards.open_device("sim"))) as accelerator:
        ones = np.ones(4, np.float32)
        expect("1 + 1", [2.0] * 4, accelerator.add(ones, ones).tolist())
        cycles = accelerator.last.cycles
    print(f"    four sums in {cycles} cycles of its clock")


# -- the first act: numbers --------------------------------------------------------------------


def _numbers(remote: dict[str, str], log: IO[str]) -> None:
    say(_VECTOR_ADD)
    demo_stage.export(remote)
    lines = run(["pynq_vector_add_generic"], remote)
    expect("the sums", SUM, [line for line in lines if re.fullmatch(r"-?\d+\.\d{6}", line)])
    say(_CYCLES)
    expect("one line on the kernel's cycles", 1, _show_cycles(log))


def _show_cycles(log: IO[str]) -> int:
    lines = [line for line in log if "[prof] fpga_vadd: elementwise kernel" in line]
    print("".join(f"    {line}" for line in lines), end="")
    return len(lines)


# -- the second act: pictures ------------------------------------------------------------------


def _pictures(remote: dict[str, str]) -> None:
    with resources.as_file(resources.files("vaccel") / "data" / "examples") as folder:
        say(_CLASSIFY)
        _classify(folder / "classify.jpg", remote | {"VACCEL_LOG_LEVEL": "4"})
        say(_DETECT)
        quiet = {"VACCEL_LOG_LEVEL": "1"}
        demo_stage.export(quiet)
        _detect(folder / "detect.jpg", remote | quiet)
    say(_OWN)


def _classify(picture: Path, remote: dict[str, str]) -> None:
    lines = run(["classify", str(picture), "1"], remote)
    size = f"Image size: {picture.stat().st_size}B"
    expect("the image's size", [size], [line for line in lines if line.startswith("Image ")])
    tags = [line for line in lines if line.startswith("classification tags")]
    expect("the class", [f"classification tags: {TAG}"], tags)


def _detect(picture: Path, remote: dict[str, str]) -> None:
    lines = run(["vaccel", "run", "detect_boxes", str(picture)], remote)
    names = dict(re.findall(r"^names\.(\d+): (.+)$", "\n".join(lines), re.MULTILINE))
    classes = lines[lines.index("classes:") + 1 : lines.index("names.0: circle")]
    expect("what is in the picture", FOUND, sorted(names[number] for number in classes))
    say(_SHOW)
    image = cache.folder() / "demo" / "detect.png"
    image.parent.mkdir(exist_ok=True)
    image.unlink(missing_ok=True)
    lines = run(["vaccel", "run", "detect", str(picture), "--show", str(image)], remote)
    expect("the path of the annotated image", str(image), lines[-1])
    expect("the image's first bytes", b"\x89PNG", image.read_bytes()[:4])


if __name__ == "__main__":
    sys.exit(main())
