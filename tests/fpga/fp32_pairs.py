"""Pairs of binary32 numbers that are hard to add or to multiply, as uint32, and numpy's answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
Pairs = tuple[Words, Words]

NAN = 0x7FC0_0000
# fmt: off
SPECIAL = np.array([
    0x0000_0000, 0x0000_0001, 0x0000_0002, 0x0000_0003,  # zero, and the smallest subnormal numbers
    0x003F_FFFF, 0x0040_0000, 0x007F_FFFE, 0x007F_FFFF,  # larger ones, up to the largest
    0x0080_0000, 0x0080_0001, 0x00FF_FFFF, 0x0100_0000,  # around the smallest normal numbers
    0x1FFF_FFFF, 0x2000_0000, 0x2000_0001,  # whose squares underflow, or nearly
    0x337F_FFFF, 0x3380_0000, 0x3380_0001, 0x3400_0000,  # around 2^-24, half a unit of 1, and 2^-23
    0x3EFF_FFFF, 0x3F00_0000, 0x3F00_0001,  # around 1/2
    0x3F7F_FFFF, 0x3F80_0000, 0x3F80_0001, 0x3FC0_0000, 0x3FFF_FFFF, 0x4000_0000,  # around 1 and 2
    0x4B00_0000, 0x4B7F_FFFF, 0x4B80_0000, 0x4B80_0001,  # 2^23, and around 2^24
    0x5F7F_FFFF, 0x5F80_0000,  # whose squares overflow, or nearly
    0x7280_0000, 0x7300_0000,  # a half, and a whole, of the largest number's unit
    0x7E80_0000, 0x7EFF_FFFF, 0x7F00_0000, 0x7F7F_FFFE, 0x7F7F_FFFF,  # the largest numbers
    0x7F80_0000, 0x7F80_0001, 0x7FBF_FFFF, 0x7FC0_0000, 0x7FC0_0001, 0x7FFF_FFFF,  # infinity, NaN
], np.uint32)
# fmt: on


def special_pairs() -> Pairs:
    """Every pair of special values, of either sign."""
    values = np.concatenate([SPECIAL, SPECIAL | np.uint32(1 << 31)])
    a, b = np.meshgrid(values, values)
    return a.ravel(), b.ravel()


def random_pairs(rng: np.random.Generator, count: int) -> Pairs:
    """At least `count` pairs, as many of each class."""
    pairs = [generate(rng, -(-count // len(CLASSES))) for generate in CLASSES.values()]
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return a, b


def chunks(seed: int, count: int, size: int = 1_000_000) -> Iterator[Pairs]:
    """All special pairs, and random ones to make at least `count`; about `size` at a time."""
    rng = np.random.default_rng(seed)
    a, b = special_pairs()
    while len(a):
        yield a, b
        count -= len(a)
        a, b = random_pairs(rng, min(size, max(count, 0)))


def reference(a: Words, b: Words) -> Pairs:
    """The sums and the products as the units should give them."""
    x, y = a.view(np.float32), b.view(np.float32)
    with np.errstate(all="ignore"):
        total, product = x + y, x * y
    return canonical(total.view(np.uint32)), canonical(product.view(np.uint32))


def canonical(words: Words) -> Words:
    """The same numbers, all NaN replaced by the one that the units give."""
    return np.where(np.isnan(words.view(np.float32)), np.uint32(NAN), words)


def mismatches(sign: str, pairs: Pairs, found: Words, expected: Words) -> tuple[int, list[str]]:
    """How many results are wrong, and a sentence on each of the first ten."""
    a, b = pairs
    wrong = np.flatnonzero(found != expected)
    return len(wrong), [
        f"{a[i]:08X} {sign} {b[i]:08X}: expected {expected[i]:08X}, found {found[i]:08X}"
        for i in wrong[:10]
    ]


def _pack(rng: np.random.Generator, exponent: NDArray[np.int64]) -> Words:
    """Numbers of the given exponent fields, with random signs and fractions."""
    noise = rng.integers(0, 1 << 24, len(exponent))
    return ((noise >> 23 << 31) | (exponent << 23) | (noise & 0x7F_FFFF)).astype(np.uint32)


def _raw(rng: np.random.Generator, n: int) -> Pairs:
    """Any bits: mostly normal numbers far apart, some infinities and NaN."""
    a, b = rng.integers(0, 1 << 32, (2, n), dtype=np.uint32)
    return a, b


def _close(rng: np.random.Generator, n: int) -> Pairs:
    """Exponents at most 30 apart: sums that cancel, carry and need every distance of alignment."""
    exponent = rng.integers(0, 255, n)
    other = np.clip(exponent + rng.integers(-30, 31, n), 0, 254)
    return _pack(rng, exponent), _pack(rng, other)


def _edges(rng: np.random.Generator, n: int) -> Pairs:
    """Products near 1, the largest number, the smallest normal and the smallest subnormal one."""
    exponent = rng.integers(0, 255, n)
    target = rng.choice([0, 127, -126, -140, -149], n) + rng.integers(-3, 4, n)
    return _pack(rng, exponent), _pack(rng, np.clip(254 + target - exponent, 0, 254))


def _landmarks(rng: np.random.Generator, n: int) -> Pairs:
    """Sums and products within a few units of the last place of the targets."""
    smallest, normal, largest = 2.0**-149, 2.0**-126, 2.0**128 - 2.0**104
    targets = [0, smallest / 2, smallest, normal - smallest / 2, normal, largest, 2.0**128]
    a = _pack(rng, rng.integers(0, 255, n))
    x, target = a.view(np.float32).astype(np.float64), rng.choice(targets, n)
    with np.errstate(all="ignore"):
        other = np.where(rng.integers(0, 2, n), target - x, target / x).astype(np.float32)
    return a, other.view(np.uint32) + rng.integers(-2, 3, n).astype(np.uint32)


def _small(rng: np.random.Generator, n: int) -> Pairs:
    """Subnormal numbers, and the smallest normal ones: sums around the smallest normal number."""
    mask = np.uint32(0x80FF_FFFF)
    a, b = rng.integers(0, 1 << 32, (2, n), dtype=np.uint32) & mask
    return a, b


def _subnormal_factor(rng: np.random.Generator, n: int) -> Pairs:
    """A subnormal number with any count of leading zeros, and a normal one; in either order."""
    small = rng.integers(1 << 22, 1 << 23, n) >> rng.integers(0, 23, n)
    signed = (small | rng.integers(0, 2, n) << 31).astype(np.uint32)
    normal = _pack(rng, rng.integers(1, 255, n))
    swap = rng.integers(0, 2, n, dtype=bool)
    return np.where(swap, signed, normal), np.where(swap, normal, signed)


def _ties(rng: np.random.Generator, n: int) -> Pairs:
    """Fractions with one or two bits: results that lie halfway between two numbers, or beside."""

    def sparse() -> Words:
        fraction = (1 << rng.integers(0, 23, n)) | (1 << rng.integers(0, 24, n)) & 0x7F_FFFF
        exponent = rng.integers(100, 150, n)
        return (rng.integers(0, 2, n) << 31 | exponent << 23 | fraction).astype(np.uint32)

    return sparse(), sparse()


def _ordinary(rng: np.random.Generator, n: int) -> Pairs:
    """Standard normal deviates, as in real data."""
    a, b = rng.standard_normal((2, n), dtype=np.float32).view(np.uint32)
    return a, b


CLASSES: dict[str, Callable[[np.random.Generator, int], Pairs]] = {
    "raw bits": _raw,
    "close exponents": _close,
    "edges of the range": _edges,
    "landmarks": _landmarks,
    "small numbers": _small,
    "subnormal factors": _subnormal_factor,
    "ties": _ties,
    "ordinary numbers": _ordinary,
}
"""Generators by name: from a source of noise and a count to so many pairs."""
