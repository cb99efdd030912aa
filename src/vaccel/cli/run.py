"""`vaccel run OP …`: calls any operation of the catalog."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from vaccel import runtime
from vaccel.blob import ResourceType
from vaccel.cli import pictures, program, values
from vaccel.config import Config
from vaccel.error import FFIError, InvalidArgument, from_errno
from vaccel.ops.catalog import BY_NAME
from vaccel.ops.kinds import Kind
from vaccel.ops.numbers import Array, Scalar
from vaccel.ops.objects import Args, Bytes, Object, ResourceRef, Text
from vaccel.ops.spec import Operation
from vaccel.ops.tensors import Tensor
from vaccel.resource import Resource
from vaccel.session import Session
from vaccel.sources.urls import is_url

_EPILOG = """\
Values stand in the operation's order or as NAME=VALUE:
  arrays      1,2,3 or [[1,2],[3,4]] or FILE.npy or FILE.csv
  pictures, resources, options   FILE
  lists       all further values, or the same NAME several times

examples:
  vaccel run fpga_vadd 5,1,2.1 -2.2,1.1,6.4
  vaccel run fpga_mmult a=[[1,2],[3,4]] b=[[0,1],[1,0]] -o product.csv
  vaccel run minmax indata=7,300,-2 ndata=3 low_threshold=0 high_threshold=255
  vaccel run classify picture.jpg
  vaccel run detect picture.jpg --model yolo.onnx --show found.png
  vaccel run fpga_vadd a.npy b.npy --endpoint tcp://192.168.4.21:8192 -o c.npy
  vaccel run torch_model_run model.pt input.npy --plugins torch -o output.npy
  vaccel run sgemm --help

`vaccel ops` lists the operations.
"""

_NEGATIVE = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)


def command(argv: list[str], prog: str) -> int:
    parser = _parser(prog)
    args = parsed(parser, argv)
    if args.op is None:
        if args.help:
            parser.print_help()
            return 0
        parser.error("which operation? `vaccel ops` lists them")
    op = _operation(parser, args.op)
    if args.help:
        _op_parser(op, prog).print_help()
        return 0
    output = _output(parser, args.output)
    pictures.check_options(parser, op, args)
    given = arguments(op, args.values)
    config = Config.from_env()
    plugins = args.plugins or ("rpc" if args.endpoint else config.plugins)
    runtime.bootstrap(dataclasses.replace(config, plugins=plugins))
    try:
        with Session(endpoint=args.endpoint) as session:
            with ExitStack() as stack:
                if args.model is not None:
                    model = stack.enter_context(pictures.model_of(args.model, args.set or ()))
                    pictures.check_model(model)
                    model.register(session)
                result = _call(op, given, session)
            _print_or_save(op, result, output)
            if args.show is not None:
                print(pictures.save(op, result, session, args.show))
    finally:
        runtime.cleanup()
    return 0


def _call(op: Operation, given: dict[str, Any], session: Session) -> Any:
    with ExitStack() as stack:
        for name, kind in op.inputs.items():
            if isinstance(kind, ResourceRef) and name in given:
                type = ResourceType.LIB if op.name.startswith("exec") else ResourceType.MODEL
                make = Resource.from_url if is_url(given[name]) else Resource
                resource = stack.enter_context(make(given[name], type))
                resource.register(session)
                given[name] = resource
        family, found, last = op.name.partition("_model_")
        if found and last != "load":  # by another program, in a session that is not there any more
            getattr(session, f"{family}_model_load")(given["resource"])
        return getattr(session, op.name)(**given)


# -- what was given ----------------------------------------------------------------------------


def parsed(parser: program.Parser, argv: list[str]) -> argparse.Namespace:
    """The options, and the operation's `values` among them."""
    # To argparse "-1,2" is an option, " -1,2" is not.
    marked = [f" {text}" if _NEGATIVE.match(text) else text for text in pictures.marked(argv)]
    args = parser.parse_intermixed_args(marked)
    args.values = [t[1:] if t[:1] == " " and _NEGATIVE.match(t[1:]) else t for t in args.values]
    return args


def arguments(op: Operation, texts: list[str]) -> dict[str, Any]:
    """Values by name, from texts in the operation's order or NAME=TEXT. Raises FFIError."""
    return {name: _parse(op, name, mine) for name, mine in _assign(op, texts).items()}


def _operation(parser: program.Parser, name: str) -> Operation:
    if name not in BY_NAME:
        close = difflib.get_close_matches(name, BY_NAME, 1)
        hint = f"did you mean {close[0]}?" if close else "`vaccel ops` lists them"
        parser.error(f"there is no operation {name!r}; {hint}")
    return BY_NAME[name]


def _assign(op: Operation, texts: list[str]) -> dict[str, list[str]]:
    """Which texts belong to which input: by name, else in order; a list takes all that follow."""
    given: dict[str, list[str]] = {}
    free = list(op.inputs)
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name.isidentifier()):
            while free and free[0] in given and not values.takes_many(op.inputs[free[0]]):
                free.pop(0)
            if not free:
                raise InvalidArgument(f"{op.name}: expected {_names(op)}, found also {text!r}")
            name, value = free[0], text
        elif name not in op.inputs:
            raise InvalidArgument(f"{op.name}: expected {_names(op)}, found {name!r}")
        given.setdefault(name, []).append(value)
    missing = [name for name in op.inputs if name not in given and _required(op, name)]
    if missing:
        raise InvalidArgument(
            f"{op.name}: {missing[0]}: expected {values.form(op.inputs[missing[0]])}, "
            f"found nothing; see `vaccel run {op.name} --help`"
        )
    return given


def _required(op: Operation, name: str) -> bool:
    return op.signature.parameters[name].default is inspect.Parameter.empty


def _names(op: Operation) -> str:
    return ", ".join(op.inputs) or "no values"


def _parse(op: Operation, name: str, texts: list[str]) -> Any:
    try:
        return values.parse(op.inputs[name], texts)
    except FFIError as exc:
        raise from_errno(exc.code, f"{op.name}: {name}: {exc.message}") from None


# -- what came out -----------------------------------------------------------------------------


def _output(parser: program.Parser, text: str | None) -> Path | None:
    if text is not None and not text.endswith((".npy", ".csv")):
        parser.error(f"-o: expected FILE.npy or FILE.csv, found {text!r}")
    return None if text is None else Path(text)


def _print_or_save(op: Operation, result: Any, output: Path | None) -> None:
    names = list(op.outputs) or [name for name in op.inputs if name == "arg_write"]
    results = op.values(result) if op.outputs else [result] if result is not None else []
    pieces = [p for name, one in zip(names, results, strict=False) for p in values.named(name, one)]
    if output is not None:
        arrays = [(name, v) for name, v in pieces if isinstance(v, np.ndarray)]
        if not arrays:
            raise InvalidArgument(f"{op.name}: -o: expected a result with arrays, found none")
        for name, array in arrays:
            several = f".{name}{output.suffix}"
            values.save(array, output if len(arrays) == 1 else output.with_suffix(several))
        pieces = [(name, v) for name, v in pieces if not isinstance(v, np.ndarray)]
    for name, value in pieces:
        text = values.text(value)
        label = f"{name}:" if len(results) > 1 or len(pieces) > 1 else ""
        separator = "\n" if isinstance(value, np.ndarray) else " "
        print(f"{label}{separator}{text}" if label else text)


# -- help --------------------------------------------------------------------------------------


def _parser(prog: str) -> program.Parser:
    parser = program.Parser(
        prog=prog,
        usage=f"{prog} OP [VALUE | NAME=VALUE …] [options]",
        description="Call an operation, here or at an agent, and print what it gives.",
        epilog=_EPILOG,
        add_help=False,
    )
    parser.add_argument("op", metavar="OP", nargs="?", help="the operation's name")
    parser.add_argument("values", metavar="VALUE", nargs="*", help="its values, see below")
    _add_options(parser)
    return parser


def _add_options(parser: program.Parser, op: Operation | None = None) -> None:
    parser.add_argument("-h", "--help", action="store_true", help="also for each OP")
    parser.add_argument("--endpoint", metavar="E", help="the agent to ask, e.g. tcp://HOST:8192")
    parser.add_argument("--plugins", metavar="P", help="plugins to use here, e.g. noop or cpu:noop")
    pictures.add_options(parser, op)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="save arrays as FILE.npy or FILE.csv (default: print)",
    )


def _op_parser(op: Operation, prog: str) -> program.Parser:
    usage = [name.upper() if _required(op, name) else f"[{name}=…]" for name in op.inputs]
    inputs = [
        f"  {name:<15}{kind!s:<16}{values.form(kind)}{'' if _required(op, name) else '; optional'}"
        for name, kind in op.inputs.items()
    ]
    outputs = [f"  {name:<15}{kind}" for name, kind in op.outputs.items()]
    parser = program.Parser(
        prog=prog,
        usage=" ".join([prog, op.name, *usage, "[options]"]),
        description=op.doc,
        epilog="\n".join(
            [
                *(["values, in this order or as NAME=VALUE:", *inputs, ""] if inputs else []),
                *(["result:", *outputs, ""] if outputs else []),
                "example:",
                f"  {example(op)}",
            ]
        ),
        add_help=False,
    )
    _add_options(parser, op)
    return parser


_WORDS = {"library": "./libwork.so", "symbol": "work", "in_nodes": "input", "out_nodes": "output"}
_FILES = {
    "exec": "libwork.so",
    "onnx": "model.onnx",
    "tf": "model.pb",
    "tflite": "model.tflite",
    "torch": "model.pt",
}
"""What a resource is, by the plugin that takes it."""


def example(op: Operation) -> str:
    """A command line that calls `op`; all its dimensions are 2."""
    words, by_name = [], False
    numbers = iter(range(10))
    for name, kind in op.inputs.items():
        by_name = by_name or values.takes_many(kind)
        if _required(op, name) or isinstance(kind, Args):
            word = _example(op, name, kind, numbers)
            words.append(f"{name}={word}" if by_name else word)
    plugin = op.name.partition("_")[0]
    chosen = [f"--plugins {plugin}"] if plugin in _FILES else []
    return " ".join(["vaccel run", op.name, *words, *chosen])


def _example(op: Operation, name: str, kind: Kind, numbers: Any) -> str:
    if isinstance(kind, Array):
        return "1,2,3,4" if kind.count else "1,2" if len(kind.dims) == 1 else "[[1,2],[3,4]]"
    if isinstance(kind, Scalar):
        return "2" if kind.dim else "1.0" if kind.dtype.kind == "f" else str(next(numbers))
    if isinstance(kind, Args):
        return "float32*2" if kind.writes else "int32:5"
    if isinstance(kind, Bytes):
        return "picture.jpg"
    if isinstance(kind, ResourceRef):
        return _FILES[op.name.partition("_")[0]]
    if isinstance(kind, Object) and issubclass(kind.cls, Tensor):
        return "input.npy"
    return _WORDS.get(name, name if isinstance(kind, Text) else "options.bin")
