"""The `vaccel` command. What a subcommand needs is imported when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from vaccel.cli import program

COMMANDS = {
    "run": "call an operation, here or at an agent",
    "ops": "list the operations",
    "plugins": "list the plugins and what they implement",
    "doctor": "what is installed, what is missing, does the agent answer",
    "fpga": "the FPGA overlay: board, registers, size, the way to a bitstream",
    "agent": "serve this machine's plugins to programs elsewhere",
}
"""Each is the module of that name beside this one."""

_EPILOG = """\
commands:
{commands}

examples:
  vaccel run fpga_vadd 5,1,2.1 -2.2,1.1,6.4
      add two vectors with numpy, in this process
  vaccel run detect picture.jpg --show
      find things in a picture, and save it with a frame around each
  vaccel agent -a tcp://127.0.0.1:8192
      start an agent; then, in another terminal:
  vaccel run fpga_vadd 5,1,2.1 -2.2,1.1,6.4 --endpoint tcp://127.0.0.1:8192
      add them in the agent
  vaccel run sgemm --help
      what an operation takes and gives
  vaccel doctor --endpoint tcp://127.0.0.1:8192
      how far away the agent is
"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    return program.run("vaccel", lambda: _dispatch(arguments))


def _dispatch(argv: list[str]) -> int | None:
    if not argv or argv[0] not in COMMANDS:
        _parser().parse_args(argv or ["--help"])
        return 0
    module = importlib.import_module(f"vaccel.cli.{argv[0]}")
    code: int | None = module.command(argv[1:], f"vaccel {argv[0]}")
    return code


def _parser() -> program.Parser:
    commands = "\n".join(f"  {name:<9}{summary}" for name, summary in COMMANDS.items())
    parser = program.Parser(
        prog="vaccel",
        usage="vaccel COMMAND …",
        description="Accelerated operations, wherever the accelerator is.",
        epilog=_EPILOG.format(commands=commands),
    )
    parser.add_argument("--version", action="version", version=_version())
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="see below")
    return parser


def _version() -> str:
    from vaccel import __version__

    return f"vaccel {__version__}"


if __name__ == "__main__":
    sys.exit(main())
