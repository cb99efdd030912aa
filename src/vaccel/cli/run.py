"""`vaccel run OP …`: calls any operation of the catalog."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from vaccel import runtime
from vaccel.blob import ResourceType
from vaccel.cli import called, pictures, program, run_help, values
from vaccel.cli.called import Called
from vaccel.config import Config
from vaccel.error import FFIError, InvalidArgument, from_errno
from vaccel.ops.catalog import BY_NAME
from vaccel.ops.objects import ResourceRef
from vaccel.ops.spec import Operation
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
  vaccel run opencv resize picture.jpg 64 48 --plugins opencv -o small.png
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
    what, texts = called.chosen(op, args.values)
    if args.help:
        run_help.parser(what, prog).print_help()
        return 0
    output = _output(parser, args.output)
    pictures.check_options(parser, op, args)
    given = arguments(what, texts)
    if what is not op:
        given["function"] = what.name
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
            _print_or_save(what, result, output)
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


def arguments(what: Called, texts: list[str]) -> dict[str, Any]:
    """Values by name, from texts in the operation's order or NAME=TEXT. Raises FFIError."""
    return {name: _parse(what, name, mine) for name, mine in _assign(what, texts).items()}


def _operation(parser: program.Parser, name: str) -> Operation:
    if name not in BY_NAME:
        close = difflib.get_close_matches(name, BY_NAME, 1)
        hint = f"did you mean {close[0]}?" if close else "`vaccel ops` lists them"
        parser.error(f"there is no operation {name!r}; {hint}")
    return BY_NAME[name]


def _assign(what: Called, texts: list[str]) -> dict[str, list[str]]:
    """Which texts belong to which input: by name, else in order; a list takes all that follow."""
    given: dict[str, list[str]] = {}
    title, free = called.title(what), list(what.inputs)
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name.isidentifier()):
            while free and free[0] in given and not values.takes_many(what.inputs[free[0]]):
                free.pop(0)
            if not free:
                raise InvalidArgument(f"{title}: expected {_names(what)}, found also {text!r}")
            name, value = free[0], text
        elif name not in what.inputs:
            raise InvalidArgument(f"{title}: expected {_names(what)}, found {name!r}")
        given.setdefault(name, []).append(value)
    missing = [name for name in what.inputs if name not in given and called.required(what, name)]
    if missing:
        raise InvalidArgument(
            f"{title}: {missing[0]}: expected {values.form(what.inputs[missing[0]])}, "
            f"found nothing; see `vaccel run {title} --help`"
        )
    return given


def _names(what: Called) -> str:
    return ", ".join(what.inputs) or "no values"


def _parse(what: Called, name: str, texts: list[str]) -> Any:
    try:
        return values.parse(what.inputs[name], texts)
    except FFIError as exc:
        raise from_errno(exc.code, f"{called.title(what)}: {name}: {exc.message}") from None


# -- what came out -----------------------------------------------------------------------------


def _output(parser: program.Parser, text: str | None) -> Path | None:
    # A file called ".npy" has no suffix.
    if text is not None and Path(text).suffix not in (".npy", ".csv", ".png"):
        parser.error(f"-o: expected FILE.npy or FILE.csv, FILE.png for a picture, found {text!r}")
    return None if text is None else Path(text)


def _print_or_save(what: Called, result: Any, output: Path | None) -> None:
    names = list(what.outputs) or [name for name in what.inputs if name == "arg_write"]
    results = what.values(result) if what.outputs else [result] if result is not None else []
    pieces = [p for name, one in zip(names, results, strict=False) for p in values.named(name, one)]
    if output is not None:
        arrays = [(name, v) for name, v in pieces if isinstance(v, np.ndarray)]
        if not arrays:
            found = "expected a result with arrays, found none"
            raise InvalidArgument(f"{called.title(what)}: -o: {found}")
        for name, array in arrays:
            several = f".{name}{output.suffix}"
            values.save(array, output if len(arrays) == 1 else output.with_suffix(several))
        pieces = [(name, v) for name, v in pieces if not isinstance(v, np.ndarray)]
    for name, value in pieces:
        text = values.text(value)
        label = f"{name}:" if len(results) > 1 or len(pieces) > 1 else ""
        separator = "\n" if isinstance(value, np.ndarray) else " "
        print(f"{label}{separator}{text}" if label else text)


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
    run_help.add_options(parser)
    return parser
