"""IEEE-754 binary32 addition and multiplication, fully pipelined: one result a cycle, no stall.

Both round to nearest, ties to even, and treat subnormal numbers, infinities and signed zeros as
IEEE 754-2019 says. Every NaN result is the quiet NaN 0x7FC00000. There are no exception flags.

Each function that ends in `register` is a pipeline stage. Significands hold their leading bit
explicitly. Below the last bit kept follow those that rounding needs: the *round* bit, and the
*sticky* bit, which is the disjunction of all that lie lower.
"""

from __future__ import annotations

from types import SimpleNamespace

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

QUIET_NAN = 0x7FC0_0000
BIAS = 127
SPECIAL = 255
"""The exponent field of infinities and NaN."""


class _Binary(wiring.Component):
    """A unit with two operands: `o` belongs to the `a` and `b` of LATENCY cycles before."""

    LATENCY: int

    def __init__(self) -> None:
        super().__init__({"a": In(32), "b": In(32), "o": Out(32)})


class FAdd(_Binary):
    """`o` = `a` + `b`."""

    LATENCY = 7

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ordered = _order(m, self.a, self.b)
        measured = _measure(m, ordered)
        aligned = _align(m, measured)
        added = _add(m, aligned)
        counted = _count(m, added)
        normal = _normalise_sum(m, counted)
        m.d.sync += self.o.eq(_rounded(normal))
        return m


class FMul(_Binary):
    """`o` = `a` × `b`."""

    LATENCY = 6

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unpacked = _unpack(m, self.a, self.b)
        multiplied = _multiply(m, unpacked)
        placed = _place(m, multiplied)
        shifted = _shift(m, placed)
        normal = _normalise_product(m, shifted)
        m.d.sync += self.o.eq(_rounded(normal))
        return m


def _order(m: Module, a: Value, b: Value) -> SimpleNamespace:
    """Put the operand of larger magnitude first: only the other one is shifted, x - y is not
    negative, and the result has the sign of x. Less their sign, encodings order as magnitudes."""
    swap = Signal()
    m.d.comb += swap.eq(a[:31] < b[:31])
    return register(m, "ordered", x=Mux(swap, b, a), y=Mux(swap, a, b))


def _measure(m: Module, s: SimpleNamespace) -> SimpleNamespace:
    """Unpack, and find how far y lies below x. From 26 places on y is only a sticky bit, so 31
    stands for every larger distance."""
    x, y = fields(s.x), fields(s.y)
    distance = Signal(8)
    m.d.comb += distance.eq(x.exponent - y.exponent)
    subtract = x.sign ^ y.sign
    return register(
        m,
        "measured",
        x=x.significand,
        y=y.significand,
        distance=distance[:5] | distance[5:].any().replicate(5),
        exponent=x.exponent,
        subtract=subtract,
        sign=x.sign,
        nan=x.nan | y.nan | (x.infinite & y.infinite & subtract),
        infinite=x.infinite,
    )


def _align(m: Module, s: SimpleNamespace) -> SimpleNamespace:
    """Shift y to the exponent of x, with three places below the last: a difference may lose its
    leading bit, which costs one, and round and sticky are left. It loses more only if y moved by
    one place or none, and then nothing is sticky."""
    return register(
        m,
        "aligned",
        x=Cat(Const(0, 3), s.x),
        y=shift_right(Cat(Const(0, 3), s.y), s.distance),
        **carry(s, "exponent", "subtract", "sign", "nan", "infinite"),
    )


def _add(m: Module, s: SimpleNamespace) -> SimpleNamespace:
    """Add or subtract on one carry chain: x - y is x + ~y + 1, where the 1 is carried in."""
    x = Cat(s.subtract, s.x, Const(0, 1))
    y = Cat(s.subtract, Cat(s.y, Const(0, 1)) ^ s.subtract.replicate(28))
    # A difference of 0 is +0 in this rounding mode (IEEE 754-2019, 6.3).
    cancelled = s.subtract & (s.x == s.y)
    return register(
        m,
        "added",
        sum=(x + y)[1:29],
        sign=s.sign & ~cancelled,
        **carry(s, "exponent", "nan", "infinite"),
    )


def _count(m: Module, s: SimpleNamespace) -> SimpleNamespace:
    """Find how many places up the leading bit must move to bit 27."""
    zeros = leading_zeros(m, Cat(Const(0, 4), s.sum))
    return register(
        m, "counted", zeros=zeros, **carry(s, "sum", "exponent", "sign", "nan", "infinite")
    )


def _normalise_sum(m: Module, s: SimpleNamespace) -> SimpleNamespace:
    """Move the sum up, but not past exponent 1: what would have to go further is subnormal. Bit 27
    stands for the exponent above x's, so x's exponent is the number of places down to 1."""
    places, shifted = Signal(5), Signal(28)
    m.d.comb += places.eq(Mux(s.zeros < s.exponent, s.zeros, s.exponent))
    m.d.comb += shifted.eq(s.sum << places)
    return register(
        m,
        "normal",
        significand=Cat(shifted[:3].any(), shifted[3:]),
        exponent=(s.exponent + 1 - places)[:9],
        **carry(s, "sign", "nan", "infinite"),
    )


def _unpack(m: Module, a: Value, b: Value) -> SimpleNamespace:
    x, y = fields(a), fields(b)
    return register(
        m,
        "unpacked",
        x=x.significand,
        y=y.significand,
        exponents=x.exponent + y.exponent,
        sign=x.sign ^ y.sign,
        nan=x.nan | y.nan | (x.infinite & y.zero) | (x.zero & y.infinite),
        infinite=x.infinite | y.infinite,
    )


def _multiply(m: Module, s: SimpleNamespace) -> SimpleNamespace:
    """Multiply, and meanwhile count the leading zeros of the subnormal factor: the product has as
    many, or one more. Of two subnormal factors the product underflows, whatever the count."""
    subnormal = Signal(24)
    m.d.comb += subnormal.eq(Mux(s.x[23], s.y, s.x))
    return register(
        m,
        "multiplied",
        product=s.x * s.y,
        zeros=leading_zeros(m, Cat(Const(0, 8), subnormal)),
        **carry(s, "exponents", "sign", "nan", "infinite"),
    )


def _place(m: Module, s: SimpleNamespace) -> SimpleNamespace:
    """Decide where the product goes, which takes the DSP blocks a second cycle.

    As it is, its bit 46 stands for the biased exponent e = exponents - BIAS. It should move up by
    `zeros` places, but not past exponent 1, so by min(zeros, e - 1); where it underflows that is
    negative. As `_shift` moves only downwards, from 24 places up, this gives max(24 - zeros,
    25 - e). From 51 places on only a sticky bit is left, so 63 stands for every larger number.
    """
    limit, limited = Signal(range(-358, 151)), Signal()
    m.d.comb += limit.eq(25 + BIAS - s.exponents)
    m.d.comb += limited.eq(limit > 24 - s.zeros)
    return register(
        m,
        "placed",
        product=s.product,
        places=Mux(limited, limit[:6] | (limit[6:].any()).replicate(6), 24 - s.zeros)[:6],
        exponent=Mux(limited, 1, s.exponents - BIAS - s.zeros)[:9],
        **carry(s, "sign", "nan", "infinite"),
    )


def _shift(m: Module, s: SimpleNamespace) -> SimpleNamespace:
    """Move the product so that its leading bit is bit 46 or 47, or lower if subnormal; then drop
    all below bit 21, which is sticky."""
    shifted = shift_right(Cat(Const(0, 3), s.product), s.places)
    return register(
        m, "shifted", product=shifted[:27], **carry(s, "exponent", "sign", "nan", "infinite")
    )


def _normalise_product(m: Module, s: SimpleNamespace) -> SimpleNamespace:
    """A product in [2, 4) has one place and one exponent more than a product in [1, 2)."""
    p = s.product
    wide = p[26]
    return register(
        m,
        "normal",
        significand=Mux(wide, Cat(p[:2].any(), p[2:]), p[:26]),
        exponent=(s.exponent + wide)[:9],
        **carry(s, "sign", "nan", "infinite"),
    )


def _rounded(s: SimpleNamespace) -> Value:
    """Round and pack; `significand` has 24 bits, a round bit, and one or more sticky bits.

    Exponent and fraction are rounded as one number: a carry out of the fraction goes on to the
    next exponent, from subnormal to normal, and from the largest number to infinity.
    """
    sticky, round_bit, kept = s.significand[:-25].any(), s.significand[-25], s.significand[-24:]
    up = round_bit & (sticky | kept[0])
    exponent = Mux(kept[23], s.exponent, 0)  # without its leading bit a number is subnormal
    finite = (Cat(kept[:23], exponent[:8]) + up)[:31]
    infinite = s.infinite | (exponent >= SPECIAL)
    magnitude = Mux(infinite, Cat(Const(0, 23), Const(SPECIAL, 8)), finite)
    return Mux(s.nan, QUIET_NAN, Cat(magnitude, s.sign))


def fields(number: Value) -> SimpleNamespace:
    """Take a binary32 number apart. Subnormal numbers have exponent 1 and no leading bit."""
    fraction, exponent = number[:23], number[23:31]
    normal, special = exponent.any(), exponent.all()
    return SimpleNamespace(
        sign=number[31],
        exponent=exponent | ~normal,
        significand=Cat(fraction, normal),
        zero=~number[:31].any(),
        infinite=special & ~fraction.any(),
        nan=special & fraction.any(),
    )


def shift_right(value: Value, places: Value) -> Value:
    """`value >> places`, with the bits that are shifted out gathered in bit 0."""
    width = len(value)
    lost = value & ~(Const(-1, width) << places)[:width]
    return (value >> places) | lost.any()


def leading_zeros(m: Module, value: Value) -> Value:
    """Zeros above the leading bit of `value`, whose width is a power of 2; one fewer if it is 0,
    which no shift makes anything but 0."""
    half = len(value) // 2
    low, high = value[:half], value[half:]
    empty = Signal()
    m.d.comb += empty.eq(~high.any())
    if half == 1:
        return empty
    return Cat(Mux(empty, leading_zeros(m, low), leading_zeros(m, high)), empty)


def register(m: Module, stage: str, **values: Value) -> SimpleNamespace:
    """Give each of `values` a register, named after the stage; no reset, as data needs none."""
    registers = {
        name: Signal(Value.cast(value).shape(), name=f"{stage}_{name}", reset_less=True)
        for name, value in values.items()
    }
    m.d.sync += [signal.eq(values[name]) for name, signal in registers.items()]
    return SimpleNamespace(**registers)


def carry(stage: SimpleNamespace, *names: str) -> dict[str, Value]:
    """The registers of `stage` that the next stage takes over as they are."""
    return {name: getattr(stage, name) for name in names}
