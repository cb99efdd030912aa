"""`vaccel fpga trace OP …`: draws what happens on a simulated board during one call."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from vaccel.cli import program, run
from vaccel.error import InvalidArgument
from vaccel.fpga import drawing, timeline
from vaccel.fpga.drivers import OPERATIONS
from vaccel.fpga.model.system import Timing
from vaccel.fpga.overlay import LANES
from vaccel.fpga.registers import MMULT
from vaccel.fpga.rtl import export
from vaccel.fpga.simulator import Simulator
from vaccel.ops.catalog import BY_NAME
from vaccel.ops.numbers import Array
from vaccel.ops.spec import Operation

MOST_ELEMENTS = 1 << 20
MOST_ROWS = 512
"""Every burst is kept in memory until it is drawn."""
MOST_LATENCY = 1000
"""Cycles: ten times what a busy DDR takes. With much more, jobs would overrun their deadlines."""

_WRITERS = {".html": drawing.page, ".svg": drawing.svg}

_EPILOG = """\
Values are written as for `vaccel run`; --length makes some.

examples:
  vaccel fpga trace fpga_vadd --length 64 -o trace.html
  vaccel fpga trace fpga_vadd 5,1,2.1 -2.2,1.1,6.4
  vaccel fpga trace fpga_mmult a.npy b.npy --lanes 8 -o product.svg
  vaccel fpga trace fpga_parallel --length 1000 --latency 60
"""


def command(argv: list[str], prog: str) -> None:
    parser = _parser(prog)
    args = run.parsed(parser, argv)
    output = Path(args.output)
    if output.suffix not in _WRITERS:
        parser.error(f"-o: expected FILE.html or FILE.svg, found {args.output!r}")
    if bool(args.values) == (args.length is not None):
        parser.error("expected either values or --length")
    op = BY_NAME[args.op]
    if args.length is None:
        values = op.bind((), run.arguments(op, args.values))
    else:
        _check_size(op, args.length)
        values = _some(op, args.length)
    checked, dims = op.check(values)
    _check_size(op, dims["n"])
    if not 0 <= args.latency <= MOST_LATENCY:
        raise InvalidArgument(
            f"--latency: expected 0 to {MOST_LATENCY} cycles, found {args.latency}"
        )
    export.component(MMULT.name, lanes=args.lanes)  # refuses sizes before a build is announced
    with closing(Simulator(lanes=args.lanes, latency=args.latency)) as board:
        found = timeline.record(board, op.name, checked)
        call = _call(op, dims["n"], board.clock_hz)
    output.write_text(_WRITERS[output.suffix](found, call), encoding="utf-8")
    print(f"{output}: {drawing.summary(found, call)}")


def _parser(prog: str) -> program.Parser:
    parser = program.Parser(
        prog=prog,
        usage=f"{prog} OP (VALUE … | --length N) [options]",
        description="Draw what happens on a simulated board during one call: accesses to "
        "registers, bursts, the kernel's work, the interrupt.",
        epilog=_EPILOG,
    )
    names = ", ".join(OPERATIONS)
    parser.add_argument("op", metavar="OP", choices=OPERATIONS, help=f"one of {names}")
    parser.add_argument("values", metavar="VALUE", nargs="*", help="its values")
    parser.add_argument(
        "--length", type=int, metavar="N", help="random vectors of N elements, matrices of N by N"
    )
    parser.add_argument(
        "--latency",
        type=int,
        metavar="CYCLES",
        default=Timing().latency,
        help=f"of the memory, from a burst to its first answer, at most {MOST_LATENCY} "
        "(default %(default)s)",
    )
    parser.add_argument(
        "--lanes",
        type=int,
        metavar="N",
        default=LANES,
        help="multiply-accumulate units of the matrix kernel (default %(default)s)",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default="trace.html",
        help="FILE.html or FILE.svg (default %(default)s)",
    )
    return parser


def _check_size(op: Operation, size: int) -> None:
    most = MOST_ROWS if op.name == "fpga_mmult" else MOST_ELEMENTS
    if not 1 <= size <= most:
        raise InvalidArgument(f"{op.name}: expected a size from 1 to {most} to draw, found {size}")


def _some(op: Operation, size: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Numbers for the inputs of the operation, which are vectors or square matrices."""
    rng = np.random.default_rng(1)
    kinds = [kind for kind in op.inputs.values() if isinstance(kind, Array)]
    shapes = [(size,) * len(kind.dims) for kind in kinds]
    return tuple(
        rng.normal(scale=100, size=shape).astype(kind.dtype)
        for kind, shape in zip(kinds, shapes, strict=True)
    )


def _call(op: Operation, size: int, clock_hz: float) -> drawing.Call:
    if op.name == "fpga_mmult":
        shape = f"{size} by {size}"
        return drawing.Call(op.name, shape, size**3, "multiply-accumulate", clock_hz)
    elements = "1 element" if size == 1 else f"{size:,} elements"
    return drawing.Call(op.name, elements, size, "element", clock_hz)
