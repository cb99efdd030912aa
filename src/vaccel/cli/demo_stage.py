"""What the demo is shown with: an agent and programs as processes, their output explained."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vaccel.error import FFIError, ProtocolError
from vaccel.fpga import boards

AGENT = ("-a", "tcp://127.0.0.1:0", "--vaccel-config")
CONFIG = "plugins=pynq:onnx,log_level=3,profiling_enabled=1,log_file={log}"
_TIME = 60.0  # seconds that a program may take on a slow machine

# What a group of lines means, by how the first of them begins, in the order of the output.
COMMENTS = (
    ("Initializing vAccel", "The runtime starts, with a private folder for its files."),
    ("Registered plugin", "The configured plugin is loaded; rpc offers every operation:"),
    ("[rpc] Initializing session", "Session 1 opens here, and with it one at the agent."),
    ("Initialized session", "Now the program itself prints, to standard output."),
    ("session:1 Looking for", "It calls the operation. A plugin that has it is chosen."),
    ("2.800000", "The five sums, computed by the agent's FPGA, back as float32:"),
    ("classification tags", "The agent's answer:"),
    ("boxes:", "Left, top, right and bottom of each thing, in pixels, the surest first:"),
    ("scores:", "How sure the model is of each, from 0 to 1:"),
    ("classes:", "What each is, as a number of the names below:"),
    ("detect.", "The agent keeps the annotated image under this name, for this session."),
    ("/", "It was fetched, and is here:"),
    ("[rpc] Destroying session", "The session ends on both sides, the connection closes,"),
    ("Shutting down vAccel", "and the runtime leaves nothing behind."),
)


@contextmanager
def agent(log: str) -> Iterator[str]:
    """The endpoint of a running agent that logs to the file `log`."""
    arguments = [*AGENT, CONFIG.format(log=log)]
    variables = {boards.VARIABLE: "sim"}
    export(variables)
    command(shlex.join(["vaccelrt-agent", *arguments]))
    program = [sys.executable, "-m", "vaccel.cli.agent", *arguments]
    environment = _environment(variables)
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment)
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
        expect("the agent's exit code", 0, _stop(process))
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


def run(arguments: list[str], variables: Mapping[str, str]) -> list[str]:
    """Run a program, print its output with comments, give its lines."""
    command(shlex.join(arguments))
    name, *rest = arguments
    called = ["main", *rest] if name == "vaccel" else ["examples", *arguments]
    done = subprocess.run(
        [sys.executable, "-m", f"vaccel.cli.{called[0]}", *called[1:]],
        env=_environment(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIME,
        check=False,
    )
    lines = done.stdout.splitlines()
    print("\n".join(explained(lines)))
    expect(f"the exit code of {name}", 0, done.returncode)
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


def say(text: str) -> None:
    print(f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text)


def export(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        command(f"export {name}={value}")


def command(line: str) -> None:
    print(f"  $ {line}")


def expect(what: str, expected: object, found: object) -> None:
    if found != expected:
        raise FFIError(0, f"{what}: expected {expected}, found {found}")
