"""`vaccel plugins`: what is installed, and what each plugin implements."""

from __future__ import annotations

import textwrap

from vaccel import plugin
from vaccel.cli import program
from vaccel.config import OPTIONAL, Config
from vaccel.error import FFIError, PluginError
from vaccel.ops.catalog import OPERATIONS

_EPILOG = """\
examples:
  vaccel plugins
  vaccel plugins ./mine.py
  VACCEL_PLUGINS=noop vaccel plugins
"""


def command(argv: list[str], prog: str) -> int:
    parser = program.Parser(
        prog=prog,
        description="List the plugins and what they implement; those in use are marked *.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "names", metavar="PLUGIN", nargs="*", help="a name, file or module (default: all installed)"
    )
    names = parser.parse_args(argv).names
    used = dict(map(optional, Config.from_env().plugin_names))
    failures = 0
    for name in names or dict.fromkeys([*used, *sorted(plugin.installed())]):
        mark = "*" if name in used else " "
        try:
            loaded, origin = loadable(name)
            if names:
                loaded.check()
        except PluginError as exc:
            failures += 1
            print(f"{mark} {name:<8} cannot be loaded: {exc.message}")
            continue
        missing = loaded.missing()
        mark = " " if missing else mark
        print(f"{mark} {name:<8} {loaded.summary or 'no summary'} ({origin})")
        if missing:
            print(textwrap.indent(textwrap.fill(f"cannot be used: {missing}", 88), " " * 11))
        print(textwrap.indent(textwrap.fill(implemented(loaded), 88), " " * 11))
    # What is installed may lack its libraries; what was asked for should load.
    return program.FAILURE if failures and names else 0


def optional(text: str) -> tuple[str, bool]:
    """The name of a plugin, and whether it may be left out."""
    return text.removesuffix(OPTIONAL), text.endswith(OPTIONAL)


def implemented(loaded: plugin.Plugin) -> str:
    operations = loaded.operations()
    if len(operations) == len(OPERATIONS):
        return f"all {len(operations)} operations"
    return " ".join(op.name for op in operations) or "no operation"


def loadable(name: str) -> tuple[plugin.Plugin, str]:
    """As `plugin.load`; PluginError says why not, without a list of what can be loaded."""
    try:
        return plugin.load(name)
    except PluginError as exc:
        cause = exc.__cause__
        if isinstance(cause, FFIError):
            reason = cause.message
        else:
            reason = f"{type(cause).__name__}: {cause}"
        raise PluginError(reason) from cause
