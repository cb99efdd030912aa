"""`vaccel ops`: what there is to call."""

from __future__ import annotations

from collections.abc import Iterable

from vaccel.cli import program
from vaccel.cli.called import FUNCTIONS, Called, required
from vaccel.ops.catalog import OPERATIONS

_EPILOG = """\
examples:
  vaccel ops
  vaccel ops --markdown
  vaccel ops opencv
  vaccel run minmax --help
"""


def command(argv: list[str], prog: str) -> None:
    parser = program.Parser(
        prog=prog, description="List the operations: code, name, inputs, outputs.", epilog=_EPILOG
    )
    parser.add_argument(
        "op", metavar="OP", nargs="?", choices=FUNCTIONS, help="the functions of opencv instead"
    )
    parser.add_argument("--markdown", action="store_true", help="as a table for documents")
    args = parser.parse_args(argv)
    if args.markdown:
        print(functions_markdown(args.op) if args.op else markdown())
        return
    chosen = FUNCTIONS[args.op] if args.op else OPERATIONS
    listed: Iterable[Called] = chosen.values()
    width = max(len(op.name) for op in OPERATIONS.values())
    for what in listed:
        inputs, outputs = " ".join(_input_names(what)), " ".join(what.outputs)
        print(f"{what.code:>2}  {what.name:<{width}}  {summary(what)}")
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


def functions_markdown(op: str) -> str:
    """An operation's functions in Markdown, with a table of the arguments of each."""
    lines = []
    for function in FUNCTIONS[op].values():
        results = ", ".join(f"`{name}`: {what}" for name, what in function.outputs.items())
        lines += [f"### {function.name}", "", function.doc, "", f"Gives {results}.", ""]
        lines += ["| Argument | What it is | Default |", "| --- | --- | --- |"]
        for name, kind in function.inputs.items():
            default = "" if required(function, name) else f"`{kind.default!r}`"
            lines.append(f"| `{name}` | {kind} | {default} |")
        lines.append("")
    return "\n".join(lines[:-1])


def summary(what: Called) -> str:
    return " ".join(what.doc.split("\n\n")[0].split())


def _input_names(what: Called) -> list[str]:
    """Those that may be left out stand in brackets."""
    return [name if required(what, name) else f"[{name}]" for name in what.inputs]
