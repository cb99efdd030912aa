"""Addition and multiplication of the real RTL, bit for bit against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fpga.fp32_pairs import (
    CLASSES,
    NAN,
    Pairs,
    Words,
    chunks,
    mismatches,
    random_pairs,
    reference,
    special_pairs,
)
from tests.fpga.fp32_units import Units
from tools import fp32_soak
from vaccel.fpga.rtl.fp32 import QUIET_NAN

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]

PAIRS = 200_000  # of each class: 1.6 million in all


@pytest.fixture(scope="module")
def units() -> Units:
    return Units()


def check(units: Units, pairs: Pairs) -> None:
    """Compare all bits of all results; zeros by their sign, too."""
    for sign, found, expected in zip(("+", "*"), units.run(*pairs), reference(*pairs), strict=True):
        assert mismatches(sign, pairs, found, expected) == (0, [])


def test_pairs_of_special_values(units: Units):
    check(units, special_pairs())


@pytest.mark.parametrize("name", CLASSES)
def test_random_pairs(units: Units, name: str):
    check(units, CLASSES[name](np.random.default_rng(1), PAIRS))


def test_every_nan_is_the_canonical_one(units: Units):
    one = 0x3F80_0000
    a = np.array([0x7F80_0001, 0xFFFF_FFFF, one, 0x7F80_0000, 0], np.uint32)
    b = np.array([one, one, 0xFFC0_1234, 0xFF80_0000, 0x7F80_0000], np.uint32)
    total, product = units.run(a, b)
    assert QUIET_NAN == NAN
    assert total.tolist() == [NAN, NAN, NAN, NAN, 0x7F80_0000]
    assert product.tolist() == [NAN, NAN, NAN, 0xFF80_0000, NAN]


def test_a_result_does_not_depend_on_the_pairs_around_it(units: Units):
    a, b = random_pairs(np.random.default_rng(2), 1000)
    alone = [units.run(a[i : i + 1], b[i : i + 1]) for i in range(len(a))]
    total, product = units.run(a, b)
    assert [int(t[0]) for t, _ in alone] == total.tolist()
    assert [int(p[0]) for _, p in alone] == product.tolist()


def test_pairs_reach_every_kind_of_result():
    pairs = random_pairs(np.random.default_rng(3), 80_000)
    for words, exact in zip(reference(*pairs), doubles(*pairs), strict=True):
        fraction, exponent = words & 0x7F_FFFF, words >> 23 & 0xFF
        kinds = {
            "subnormal": (exponent == 0) & (fraction != 0),
            "zero": words << 1 == 0,
            "infinite": words << 1 == 0xFF00_0000,
            "NaN": words == NAN,
            "smallest normal": words << 1 == 0x0100_0000,
            "largest": words << 1 == 0xFEFF_FFFE,
            "tie": ties(words, exact),
        }
        counts = {name: int(np.count_nonzero(kind)) for name, kind in kinds.items()}
        assert {name: n for name, n in counts.items() if n < 10} == {}


def doubles(a: Words, b: Words) -> tuple[Doubles, Doubles]:
    with np.errstate(all="ignore"):
        x, y = (side.view(np.float32).astype(np.float64) for side in (a, b))
        return x + y, x * y


def ties(words: Words, exact: Doubles) -> Flags:
    """Where the exact result lies halfway between the rounded one and a neighbour. The mean of
    two neighbouring binary32 numbers is exact in binary64."""
    value = words.view(np.float32)
    tied = np.zeros(len(words), np.bool_)
    with np.errstate(all="ignore"):
        for end in (np.float32(-np.inf), np.float32(np.inf)):
            mean = (np.nextafter(value, end).astype(np.float64) + value) / 2
            tied |= (exact == mean) & np.isfinite(exact)
    return tied


def test_pairs_are_the_same_in_every_run():
    once, again = (list(chunks(4, 12_000, 1000)) for _ in range(2))
    np.testing.assert_array_equal(np.concatenate(once, axis=1), np.concatenate(again, axis=1))
    assert 12_000 <= sum(len(a) for a, _ in once) < 12_100
    assert len({a.tobytes() for a, _ in once}) == len(once)  # every chunk is new


def test_soak_counts_pairs(capsys: pytest.CaptureFixture[str]):
    assert fp32_soak.main(["2e4", "--seed", "5"]) == 0
    pairs, rest = capsys.readouterr().out.split(" pairs, ")
    assert int(pairs.replace(",", "")) >= 20_000
    assert rest.startswith("0 mismatches, ")


def test_soak_reports_mismatches(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def doubtful(a: Words, b: Words) -> Pairs:
        total, product = reference(a, b)
        product[-1] ^= 1
        return total, product

    monkeypatch.setattr(fp32_soak, "reference", doubtful)
    assert fp32_soak.main(["1"]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert "FFFFFFFF * FFFFFFFF: expected 7FC00001, found 7FC00000" in first
    assert ", 1 mismatches, " in last


@pytest.mark.parametrize("pairs", ["none", "0", "-5", "inf", "1.5"])
def test_soak_wants_a_number_of_pairs(pairs: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        fp32_soak.main(["--", pairs])
    assert "expected a positive whole number" in capsys.readouterr().err
