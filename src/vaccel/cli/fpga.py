"""`vaccel fpga`: the overlay's files, its size, its registers, and the board that runs it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaccel.cli import program
from vaccel.fpga.overlay import LANES

if TYPE_CHECKING:
    from vaccel.fpga.device import Device

COMMANDS = {
    "info": "the board, or the simulated one: overlay, kernels, clock, memory",
    "registers": "the kernels' registers",
    "report": "how much of the chip the kernels take, by Yosys",
    "trace": "draw what happens during one call",
    "build": "write Verilog, hardware hand-off and Vivado scripts",
}

_EPILOG = """\
commands:
{commands}

examples:
  vaccel fpga info --device sim
  vaccel fpga report
  vaccel fpga trace fpga_vadd --length 64 -o trace.html
  vaccel fpga build -o overlay
"""


def command(argv: list[str], prog: str) -> int | None:
    if not argv or argv[0] not in COMMANDS:
        _parser(prog).parse_args(argv or ["--help"])
        return 0
    name, rest = argv[0], argv[1:]
    return _SUBCOMMANDS[name](rest, f"{prog} {name}")


def _parser(prog: str) -> program.Parser:
    commands = "\n".join(f"  {name:<11}{summary}" for name, summary in COMMANDS.items())
    parser = program.Parser(
        prog=prog,
        usage=f"{prog} COMMAND …",
        description="The FPGA overlay: kernels, registers, board, and the way to a bitstream.",
        epilog=_EPILOG.format(commands=commands),
    )
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="see below")
    return parser


# -- info --------------------------------------------------------------------------------------

_INFO = """\
examples:
  vaccel fpga info
  vaccel fpga info --device sim
  VACCEL_PYNQ_DEVICE=sim vaccel fpga info --json
  vaccel fpga info --bitstream overlay/output/vaccel.bit

On a board it loads the overlay, unless another process has the board.
The exit code is 1 if a kernel is not the one that this version of vaccel expects.
"""


def _info(argv: list[str], prog: str) -> int:
    parser = program.Parser(
        prog=prog, description="Show the board and what is loaded on it.", epilog=_INFO
    )
    parser.add_argument(
        "--device", choices=("board", "sim"), help="which (default: VACCEL_PYNQ_DEVICE)"
    )
    parser.add_argument(
        "--bitstream", metavar="FILE", help="the board's (default: VACCEL_PYNQ_BITSTREAM)"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse_args(argv)
    from vaccel.fpga import boards

    device = boards.open_device(args.device, args.bitstream)
    try:
        found = _inspect(device)
    finally:
        device.close()
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        _print_info(found)
    return 0 if all(kernel["expected"] for kernel in found["kernels"]) else program.FAILURE


def _inspect(device: Device) -> dict[str, Any]:
    from vaccel.fpga import registers
    from vaccel.fpga.fabric import Identity

    kernels = []
    for name, base in device.program().items():
        kernel = registers.KERNELS[name]
        identity = Identity.read(device, kernel, base)
        kernels.append(
            {
                "name": name,
                "base": base,
                "identification": registers.letters(identity.identification),
                "version": registers.dotted(identity.version),
                "capability": identity.capability,
                "expected": not identity.fault(kernel),
            }
        )
    return {**device.info()._asdict(), "simulated": device.simulated, "kernels": kernels}


def _print_info(found: dict[str, Any]) -> None:
    print(f"device   {found['name']}")
    print(f"overlay  {found['overlay']}")
    print(f"clock    {found['clock_hz'] / 1e6:g} MHz")
    total, free = found["memory"] / 2**20, found["memory_free"] / 2**20
    print(f"memory   {total:.0f} MiB, of which {free:.0f} MiB are free")
    for kernel in found["kernels"]:
        sizes = "".join(f", {name} {value}" for name, value in kernel["capability"].items())
        print(
            f"kernel   {kernel['name']} at 0x{kernel['base']:08X}: {kernel['identification']}, "
            f"version {kernel['version']}{sizes}{'' if kernel['expected'] else ' - NOT EXPECTED'}"
        )


# -- registers ---------------------------------------------------------------------------------

_REGISTERS = """\
examples:
  vaccel fpga registers
  vaccel fpga registers --markdown
"""


def _registers(argv: list[str], prog: str) -> None:
    parser = program.Parser(
        prog=prog,
        description="List the kernels' registers: offset, name, what it holds.",
        epilog=_REGISTERS,
    )
    parser.add_argument("--markdown", action="store_true", help="as a document")
    markdown = parser.parse_args(argv).markdown
    from vaccel.fpga import document, registers

    if markdown:
        print(document.markdown())
        return
    for kernel in registers.KERNELS.values():
        print(f"{kernel.name} at 0x{kernel.base:08X}: {kernel.summary}")
        for register in kernel.registers:
            mark = "r " if register.access is registers.Access.READ_ONLY else "rw"
            print(f"  {register.offset:02X} {mark} {register.name:<17}{register.description}")


# -- report ------------------------------------------------------------------------------------

_REPORT = """\
examples:
  vaccel fpga report
  vaccel fpga report --lanes 32 --json

Takes minutes the first time. Yosys only synthesizes: nothing is placed, and nothing is said about
timing. LUT is its estimate of logic cells, in which small tables share one, and the tables
used as memory. An element of the matrix kernel is synthesized once and counted for each lane.
"""


def _report(argv: list[str], prog: str) -> None:
    parser = program.Parser(
        prog=prog,
        description="Estimate how much of the XC7Z020 the kernels take.",
        epilog=_REPORT,
    )
    _add_lanes(parser)
    parser.add_argument("--json", action="store_true", help="for programs")
    args = parser.parse_args(argv)
    from vaccel.fpga import synthesis

    usages = synthesis.report(args.lanes)
    usages["together"] = synthesis.total(usages)
    if args.json:
        rows = {name: usage._asdict() for name, usage in usages.items()}
        rows["available"] = synthesis.AVAILABLE._asdict()
        print(json.dumps({"lanes": args.lanes, "kind": _KIND, "usage": rows}, indent=2))
        return
    print(f"{'':<12}" + "".join(f"{name.upper():>16}" for name in synthesis.Usage._fields))
    for name, usage in usages.items():
        shares = zip(usage, synthesis.AVAILABLE, strict=True)
        cells = (f"{used:,} {used / all_:>6.1%}" for used, all_ in shares)
        print(f"{name:<12}" + "".join(f"{cell:>16}" for cell in cells))
    print(f"{'XC7Z020':<12}" + "".join(f"{count:>9,}{'':7}" for count in synthesis.AVAILABLE))
    print(f"\n{_KIND}; {args.lanes} lanes of mmult; budget {synthesis.LUT_BUDGET:.0%} of the LUTs")


_KIND = "synthesis estimate, no placement"


# -- build, trace ------------------------------------------------------------------------------

_BUILD = """\
examples:
  vaccel fpga build -o overlay
  cd overlay && vivado -mode batch -source build.tcl

The scripts are unrun: no bitstream has been built with them so far. If all goes well they write
output/vaccel.bit and output/vaccel.hwh; name the first in VACCEL_PYNQ_BITSTREAM on the board.
"""


def _build(argv: list[str], prog: str) -> None:
    parser = program.Parser(
        prog=prog,
        description="Write what Vivado makes the overlay of.",
        epilog=_BUILD,
    )
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="where")
    _add_lanes(parser)
    args = parser.parse_args(argv)
    from vaccel.fpga import vivado

    for path in vivado.build(args.output, lanes=args.lanes):
        print(path)
    print(
        f"next, with Vivado {vivado.VERSION}: cd {args.output} && "
        "vivado -mode batch -source build.tcl\n"
        "(unrun: no bitstream has been built with these scripts so far)",
        file=sys.stderr,
    )


def _trace(argv: list[str], prog: str) -> None:
    from vaccel.cli import fpga_trace

    fpga_trace.command(argv, prog)


def _add_lanes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lanes",
        type=int,
        default=LANES,
        help=f"multiply-accumulate units of the matrix kernel (default {LANES})",
    )


_SUBCOMMANDS = {
    "info": _info,
    "registers": _registers,
    "report": _report,
    "trace": _trace,
    "build": _build,
}
