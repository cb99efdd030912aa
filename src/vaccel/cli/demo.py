"""`make demo`: the article's remote programs against an agent on this machine, explained.

The agent's FPGA is simulated: the kernels' hardware description, cycle by cycle.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from typing import IO

import numpy as np

from vaccel.cli import program
from vaccel.error import FFIError, ProtocolError
from vaccel.fpga import boards
from vaccel.fpga.drivers import Accelerator

AGENT = ("-a", "tcp://127.0.0.1:0", "--vaccel-config")
CONFIG = "plugins=pynq:noop,log_level=3,profiling_enabled=1,log_file={log}"
SUM = ["2.800000", "2.100000", "8.500000", "3.500000", "11.299999"]
_TIME = 60.0  # seconds that a program may take on a slow machine

_SIMULATION = """\
The FPGA is that of a PYNQ-Z1, simulated: its kernels are compiled from their hardware description,
once for all programs of this user, and checked with a small addition:
"""
_INTRODUCTION = """
The agent owns the plugins: pynq drives the FPGA, noop answers place-holders for the operations that
pynq does not have. It listens on this machine only, on a port that is free:
"""
_VECTOR_ADD = """
The program adds two vectors of five numbers. Its environment says where: the plugin rpc carries the
operation to the agent. At log level 4 it tells each step:
"""
_CYCLES = """
What the FPGA did for that, from the agent's log. The cycles are those of the hardware, the time is
what they take at the clock it is built for, an estimate as long as no board has confirmed it:
"""
_CLASSIFY = """
The same with a picture. What is in it only noop answers so far, hence the dummy tag:
"""

# What a group of lines means, by how the first of them begins, in the order of the output.
COMMENTS = (
    ("Initializing vAccel", "The runtime starts, with a private folder for its files."),
    ("Registered plugin", "The configured plugin is loaded; rpc offers every operation:"),
    ("[rpc] Initializing session", "Session 1 opens here, and with it one at the agent."),
    ("Initialized session", "Now the program itself prints, to standard output."),
    ("session:1 Looking for", "It calls the operation. A plugin that has it is chosen."),
    ("2.800000", "The five sums, computed by the agent's FPGA, back as float32:"),
    ("classification tags", "The agent's answer:"),
    ("[rpc] Destroying session", "The session ends on both sides, the connection closes,"),
    ("Shutting down vAccel", "and the runtime leaves nothing behind."),
)


def main() -> int:
    return program.run("demo", _demo)


def _demo() -> None:
    _say(_SIMULATION)
    _simulate()
    _say(_INTRODUCTION)
    with (
        program.terminable(),
        tempfile.NamedTemporaryFile("r", prefix="vaccel-demo-", suffix=".log") as log,
        _agent(log.name) as endpoint,
    ):
        remote = {"VACCEL_PLUGINS": "rpc", "VACCEL_RPC_ADDRESS": endpoint, "VACCEL_LOG_LEVEL": "4"}
        _say(_VECTOR_ADD)
        _command(*(f"export {name}={value}" for name, value in remote.items()))
        lines = _run(["pynq_vector_add_generic"], remote)
        found = [line for line in lines if re.fullmatch(r"-?\d+\.\d{6}", line)]
        _expect("the sums", SUM, found)
        _say(_CYCLES)
        _expect("one line on the kernel's cycles", 1, _show_cycles(log))
        _say(_CLASSIFY)
        picture = resources.files("vaccel") / "data" / "example.jpg"
        with resources.as_file(picture) as path:
            lines = _run(["classify", str(path), "1"], remote)
            size = f"Image size: {path.stat().st_size}B"
        _expect("the image's size", [size], [line for line in lines if line.startswith("Image ")])
        tags = [line for line in lines if re.fullmatch(r"classification tags: .+", line)]
        _expect("one classification tag", 1, len(tags))
    _say("\nThe agent has ended. All results are as they should be.")


def _simulate() -> None:
    """Build what the agent would otherwise have to build during the first call."""
    with contextlib.closing(Accelerator(boards.open_device("sim"))) as accelerator:
        ones = np.ones(4, np.float32)
        _expect("1 + 1", [2.0] * 4, accelerator.add(ones, ones).tolist())
        cycles = accelerator.last.cycles
    print(f"    four sums in {cycles} cycles of its clock")


def _show_cycles(log: IO[str]) -> int:
    lines = [line for line in log if "[prof] fpga_vadd: elementwise kernel" in line]
    print("".join(f"    {line}" for line in lines), end="")
    return len(lines)


@contextmanager
def _agent(log: str) -> Iterator[str]:
    """The endpoint of a running agent that logs to the file `log`."""
    arguments = [*AGENT, CONFIG.format(log=log)]
    variables = {boards.VARIABLE: "sim"}
    _command(*(f"export {name}={value}" for name, value in variables.items()))
    _command(shlex.join(["vaccelrt-agent", *arguments]))
    command = [sys.executable, "-m", "vaccel.cli.agent", *arguments]
    environment = _environment(variables)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        endpoint = ""
        for line in process.stdout or ():
            print(f"    {line}", end="")
            endpoint = line.partition("address: ")[2].strip() or endpoint
            if line.startswith("Server is running"):
                break
        if not endpoint:
            raise ProtocolError(f"the agent did not start, its exit code is {process.wait(_TIME)}")
        yield endpoint
        _expect("the agent's exit code", 0, _stop(process))
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[str]) -> int:
    process.terminate()
    try:
        process.communicate(timeout=_TIME)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return process.returncode


def _run(arguments: list[str], variables: Mapping[str, str]) -> list[str]:
    """Run one of the article's programs, print its output with comments, give its lines."""
    _command(shlex.join(arguments))
    done = subprocess.run(
        [sys.executable, "-m", "vaccel.cli.examples", *arguments],
        env=_environment(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIME,
        check=False,
    )
    lines = done.stdout.splitlines()
    print("\n".join(explained(lines)))
    _expect(f"the exit code of {arguments[0]}", 0, done.returncode)
    return lines


def explained(lines: list[str]) -> Iterator[str]:
    """The lines, indented, each group under what it means; of many alike only the first."""
    comments, functions = list(COMMENTS), 0
    for line in lines:
        text = line.partition("> ")[2] or line
        for place, (start, comment) in enumerate(comments):
            if text.startswith(start):
                yield f"\n  # {comment}"
                del comments[: place + 1]
                break
        functions += text.startswith("Registered function")
        if text.startswith("Loaded plugin") and functions > 1:
            yield f"    … and {functions - 1} more such lines"
        if not text.startswith("Registered function") or functions == 1:
            yield f"    {line}"


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, in which nobody else configures vaccel."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VACCEL_")}
    return kept | dict(variables)


def _say(text: str) -> None:
    print(f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text)


def _command(*commands: str) -> None:
    for command in commands:
        print(f"  $ {command}")


def _expect(what: str, expected: object, found: object) -> None:
    if found != expected:
        raise FFIError(0, f"{what}: expected {expected}, found {found}")


if __name__ == "__main__":
    sys.exit(main())
