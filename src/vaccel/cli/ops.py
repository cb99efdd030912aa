"""`vaccel ops`: what there is to call."""

from __future__ import annotations

import inspect

from vaccel.cli import program
from vaccel.ops.catalog import OPERATIONS
from vaccel.ops.spec import Operation

_EPILOG = """\
examples:
  vaccel ops
  vaccel ops --markdown
  vaccel run minmax --help
"""


def command(argv: list[str], prog: str) -> None:
    parser = program.Parser(
        prog=prog, description="List the operations: code, name, inputs, outputs.", epilog=_EPILOG
    )
    parser.add_argument("--markdown", action="store_true", help="as a table for documents")
    if parser.parse_args(argv).markdown:
        print(markdown())
        return
    width = max(len(op.name) for op in OPERATIONS.values())
    for op in OPERATIONS.values():
        print(f"{op.code:>2}  {op.name:<{width}}  {summary(op)}")
        inputs, outputs = " ".join(_input_names(op)), " ".join(op.outputs)
        if inputs:
            print(f"{'':{width + 6}}{inputs} → {outputs or '-'}")


def markdown() -> str:
    """The operations as a Markdown table, kinds included."""
    lines = [
        "| Code | Operation | Inputs | Outputs | What it does |",
        "| ---: | --- | --- | --- | --- |",
    ]
    for op in OPERATIONS.values():
        inputs = ", ".join(f"`{name}`: {kind}" for name, kind in op.inputs.items())
        outputs = ", ".join(f"`{name}`: {kind}" for name, kind in op.outputs.items())
        lines.append(
            f"| {op.code} | `{op.name}` | {inputs or '-'} | {outputs or '-'} | {summary(op)} |"
        )
    return "\n".join(lines)


def summary(op: Operation) -> str:
    return " ".join(op.doc.split("\n\n")[0].split())


def _input_names(op: Operation) -> list[str]:
    """Those that may be left out stand in brackets."""
    return [
        name if parameter.default is inspect.Parameter.empty else f"[{name}]"
        for name, parameter in op.signature.parameters.items()
    ]
