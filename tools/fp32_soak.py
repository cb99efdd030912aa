#!/usr/bin/env python3
"""Adds and multiplies many pairs of numbers in the compiled RTL, and compares with numpy.

Prints the pairs, the mismatches of either unit and the seconds; exits 1 if there is a mismatch.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fpga.fp32_pairs import chunks, mismatches, reference
from tests.fpga.fp32_units import Units


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    units = Units()
    pairs = wrong = 0
    start = time.perf_counter()
    for a, b in chunks(options.seed, options.pairs):
        pairs += len(a)
        for sign, found, expected in zip(("+", "*"), units.run(a, b), reference(a, b), strict=True):
            count, sentences = mismatches(sign, (a, b), found, expected)
            if wrong < 10:
                print(*sentences, sep="\n", end="\n" * bool(sentences), flush=True)
            wrong += count
    print(f"{pairs:,} pairs, {wrong:,} mismatches, {time.perf_counter() - start:.1f} s")
    return int(wrong > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="?", type=_count, default=10**8, help="1e8 if not given")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _count(text: str) -> int:
    """A number of pairs, also as in 1e8."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not (number >= 1 and number.is_integer()):
        raise argparse.ArgumentTypeError(f"expected a positive whole number, found {text!r}")
    return int(number)


if __name__ == "__main__":
    sys.exit(main())
