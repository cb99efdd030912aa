"""What `vaccel run OP --help` says: values, results, and a command that works."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from vaccel.cli import called, pictures, program, values
from vaccel.cli.called import Called
from vaccel.ops.functions import Function
from vaccel.ops.kinds import Kind
from vaccel.ops.numbers import Array, Scalar
from vaccel.ops.objects import Args, Bytes, Object, ResourceRef, Text
from vaccel.ops.parameters import Choice, Image, Int, Matrix, Parameter
from vaccel.ops.spec import Operation
from vaccel.ops.tensors import Tensor


def add_options(parser: program.Parser, op: Operation | None = None) -> None:
    parser.add_argument("-h", "--help", action="store_true", help="also for each OP")
    parser.add_argument("--endpoint", metavar="E", help="the agent to ask, e.g. tcp://HOST:8192")
    parser.add_argument("--plugins", metavar="P", help="plugins to use here, e.g. noop or cpu:noop")
    pictures.add_options(parser, op)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="save arrays as FILE.npy or FILE.csv, a picture as FILE.png (default: print)",
    )


def parser(what: Called, prog: str) -> program.Parser:
    usage = [name.upper() if called.required(what, name) else f"[{name}=…]" for name in what.inputs]
    made = program.Parser(
        prog=prog,
        usage=" ".join([prog, called.title(what), *usage, "[options]"]),
        description=what.doc,
        epilog="\n".join([*_values(what), *_results(what), *_functions(what), *_examples(what)]),
        add_help=False,
    )
    add_options(made, called.operation(what))
    return made


def _values(what: Called) -> Iterator[str]:
    if what.inputs:
        yield "values, in this order or as NAME=VALUE:"
    for name, kind in what.inputs.items():
        form = values.form(kind)
        if isinstance(kind, Kind):
            optional = "" if called.required(what, name) else "; optional"
            yield f"  {name:<15}{kind!s:<16}{form}{optional}"
        else:
            optional = "" if called.required(what, name) else f"; default {kind.default}"
            yield _wrapped(name, form + optional)


def _results(what: Called) -> Iterator[str]:
    if what.outputs:
        yield "\nresult:"
    for name, kind in what.outputs.items():
        yield f"  {name:<15}{kind}"


def _wrapped(name: str, text: str) -> str:
    return textwrap.fill(text, 100, initial_indent=f"  {name:<15}", subsequent_indent=" " * 17)


def _functions(what: Called) -> Iterator[str]:
    known = called.FUNCTIONS.get(what.name, {})
    if known:
        yield f"\nor a function and its values; see `vaccel run {what.name} FUNCTION --help`:"
    for function in known.values():
        yield _wrapped(function.name, function.doc)


def _examples(what: Called) -> Iterator[str]:
    yield "\nexample:"
    yield f"  {example(what)}"


_WORDS = {"library": "./libwork.so", "symbol": "work", "in_nodes": "input", "out_nodes": "output"}
_FILES = {
    "exec": "libwork.so",
    "onnx": "model.onnx",
    "tf": "model.pb",
    "tflite": "model.tflite",
    "torch": "model.pt",
}
"""What a resource is, by the plugin that takes it."""
_PLUGINS = {*_FILES, "opencv"}
_INSTEAD = {"annotated_image": "vaccel run detect picture.jpg --show found.png"}
"""Of an operation that makes sense only after another one in its session."""


def example(what: Called) -> str:
    """A command line that calls `what`; all dimensions are 2."""
    if what.name in called.FUNCTIONS:
        return example(next(iter(called.FUNCTIONS[what.name].values())))
    if what.name in _INSTEAD:
        return _INSTEAD[what.name]
    words, by_name = [], False
    numbers = iter(range(10))
    for name, kind in what.inputs.items():
        by_name = by_name or values.takes_many(kind)
        if called.required(what, name) or isinstance(kind, Args):
            word = _example(what, name, kind, numbers)
            words.append(f"{name}={word}" if by_name else word)
    title = called.title(what)
    plugin = re.split("[_ ]", title)[0]
    if plugin in _PLUGINS:
        words.append(f"--plugins {plugin}")
    if isinstance(what, Function):
        picture = what.outputs["result"].startswith("an image")
        words.append("-o result.png" if picture else "-o result.npy")
    return " ".join(["vaccel run", title, *words])


def _example(what: Called, name: str, kind: Kind | Parameter, numbers: Iterator[int]) -> str:
    if isinstance(kind, Array):
        return "1,2,3,4" if kind.count else "1,2" if len(kind.dims) == 1 else "[[1,2],[3,4]]"
    if isinstance(kind, Scalar):
        return "2" if kind.dim else "1.0" if kind.dtype.kind == "f" else str(next(numbers))
    if isinstance(kind, Args):
        return "float32*2" if kind.writes else "int32:5"
    if isinstance(kind, Bytes | Image):
        return "part.png" if name == "template" else "picture.jpg"
    if isinstance(kind, ResourceRef):
        return _FILES[what.name.partition("_")[0]]
    if isinstance(kind, Object) and issubclass(kind.cls, Tensor):
        return "input.npy"
    if isinstance(kind, Parameter):
        return _parameter(kind)
    return _WORDS.get(name, name if isinstance(kind, Text) else "options.bin")


def _parameter(kind: Parameter) -> str:
    if isinstance(kind, Choice):
        return "RGB2GRAY"  # the only one that must be given, for a picture with colours
    if isinstance(kind, Matrix):
        return "[[1,0,8],[0,1,8]]"
    if isinstance(kind, Int):
        return "5" if kind.odd else "64"
    return "100"
