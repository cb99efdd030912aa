"""A benchmark's figures: what each is, its limit, and how they are printed and checked."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import google.protobuf
import numpy as np

from benchmarks.measures import QUICK, THOROUGH, Effort, Figures


class Figure(NamedTuple):
    key: str
    what: str
    most: float | None = None
    """The limit, where less is better."""
    least: float | None = None
    """The limit, where more is better."""
    aim: float | None = None

    def verdict(self, value: float) -> str:
        """'missed', 'ok', or 'aim met'; '' where there is no limit."""
        limit = self.most if self.most is not None else self.least
        if limit is None:
            return ""
        sign = 1 if self.most is not None else -1
        if sign * value > sign * limit:
            return "missed"
        return "aim met" if self.aim is not None and sign * value <= sign * self.aim else "ok"


Part = tuple[Callable[[Effort], Figures], tuple[str, ...]]
"""A measurement, and the beginnings of the keys that it yields."""


def measure(parts: Sequence[Part], keys: Sequence[str], effort: Effort) -> Figures:
    """The figures `keys` and those measured with them; all if `keys` is empty."""
    figures: Figures = {}
    for part, prefixes in parts:
        if not keys or any(key.startswith(prefixes) for key in keys):
            figures |= part(effort)
    return figures


def machine() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "protobuf": google.protobuf.__version__,
    }


def table(known: Sequence[Figure], figures: Figures) -> str:
    width = max(len(figure.key) for figure in known)
    lines = [f"{'figure':{width}} {'value':>10} {'must be':>8} {'aim':>6}  verdict"]
    for figure in known:
        if figure.key in figures:
            value = figures[figure.key]
            limit = f"≤ {figure.most:g}" if figure.most is not None else ""
            limit = f"≥ {figure.least:g}" if figure.least is not None else limit
            aim = "" if figure.aim is None else f"{figure.aim:g}"
            verdict = f"{figure.verdict(value):8}"
            line = f"{figure.key:{width}} {value:>10.4g} {limit:>8} {aim:>6}  {verdict}"
            lines.append(f"{line} {figure.what}")
    return "\n".join(lines)


def main(description: str, known: Sequence[Figure], parts: Sequence[Part]) -> int:
    """The program: measure, print, and say with the exit code what --check found."""
    keys = [figure.key for figure in known]
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is missed")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, rougher figures")
    parser.add_argument("--only", nargs="+", choices=keys, default=[], metavar="KEY",
                        help=f"measure these: {', '.join(keys)}")  # fmt: skip
    options = parser.parse_args()
    # As for Ctrl-C: unwind, so that no process is left.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        found = measure(parts, options.only, QUICK if options.quick else THOROUGH)
    except KeyboardInterrupt:
        return 130
    figures = {key: found[key] for key in keys if key in found}
    if options.json:
        print(json.dumps({**figures, **machine()}, indent=2))
    else:
        print(table(known, figures))
    missed = [f.key for f in known if f.key in figures and f.verdict(figures[f.key]) == "missed"]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed and options.check else 0
