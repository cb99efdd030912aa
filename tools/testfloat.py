#!/usr/bin/env python3
"""Checks the compiled RTL against vectors in the text format of Berkeley TestFloat.

    testfloat_gen f32_add | .venv/bin/python tools/testfloat.py add

Each line holds two operands and the result, as eight hexadecimal digits, and the exception flags,
which the units do not have and which are not compared. A NaN stands for any NaN. Exits 1 if a
result is wrong, 2 if a line is malformed or there is none.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TextIO

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fpga.fp32_pairs import Words, canonical, mismatches
from tests.fpga.fp32_units import Units

OPERATIONS = {"add": (0, "+"), "mul": (1, "*")}
CHUNK = 1_000_000  # lines
LINE = re.compile(r"([0-9A-Fa-f]{8}) ([0-9A-Fa-f]{8}) ([0-9A-Fa-f]{8}) [0-9A-Fa-f]{2}\s*")


class Malformed(ValueError):
    """A line is not a vector."""


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        with _open(options.vectors) as lines:
            vectors, wrong = _check(lines, *OPERATIONS[options.operation])
    except (Malformed, OSError) as error:
        print(f"testfloat: {error}", file=sys.stderr)
        return 2
    print(f"{vectors:,} vectors, {wrong:,} mismatches")
    return int(wrong > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("operation", choices=OPERATIONS)
    parser.add_argument("vectors", nargs="?", default="-", help="a file, or - for stdin")
    return parser


def _open(name: str) -> AbstractContextManager[TextIO]:
    # A byte that is no character is shown as such, in the message on its line.
    if name == "-":
        return contextlib.nullcontext(sys.stdin)
    return open(name, encoding="ascii", errors="backslashreplace")


def _check(lines: TextIO, unit: int, sign: str) -> tuple[int, int]:
    """How many vectors there are, and how many the unit fails; the first ones are printed."""
    units = Units()
    vectors = wrong = 0
    for a, b, result in _chunks(lines):
        count, sentences = mismatches(sign, (a, b), units.run(a, b)[unit], canonical(result))
        if wrong < 10:
            print(*sentences, sep="\n", end="\n" * bool(sentences), flush=True)
        vectors += len(a)
        wrong += count
    if not vectors:
        raise Malformed("expected vectors, found an empty file")
    return vectors, wrong


def _chunks(lines: Iterable[str]) -> Iterator[tuple[Words, Words, Words]]:
    parsed = (_parse(number, line) for number, line in enumerate(lines, 1))
    while chunk := list(itertools.islice(parsed, CHUNK)):
        a, b, result = np.array(chunk, np.uint32).T
        yield a, b, result


def _parse(number: int, line: str) -> tuple[int, ...]:
    match = LINE.fullmatch(line)
    if match is None:
        raise Malformed(
            f"line {number}: expected 'AAAAAAAA BBBBBBBB RRRRRRRR FF', found {line.rstrip()!r}"
        )
    return tuple(int(word, 16) for word in match.groups())


if __name__ == "__main__":
    sys.exit(main())
