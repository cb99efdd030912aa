"""cpu: the definition of each operation, against numpy and against plain arithmetic."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vaccel
from vaccel import Config, Session
from vaccel.plugin import PluginType
from vaccel.testing import strategies

F4, F8 = np.float32, np.float64
HUGE = float(np.finfo(F4).max)


@pytest.fixture
def session() -> Iterator[Session]:
    vaccel.bootstrap(Config(plugins="cpu"))
    with Session() as session:
        yield session


def floats(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, F4)


@st.composite
def gemms(draw: st.DrawFn) -> tuple[Any, ...]:
    """m, n, k, lda, ldb, ldc, and small whole numbers, whose sums are exact in any order."""
    m, n, k = (draw(st.integers(0, 5)) for _ in range(3))
    lda, ldb, ldc = (extent + draw(st.integers(0, 3)) for extent in (k, n, n))
    number = st.integers(-8, 8).map(float)

    def matrix(rows: int, columns: int, stride: int) -> Any:
        size = (rows - 1) * stride + columns if rows else 0
        size += draw(st.integers(0, 2))  # a buffer may be longer than the matrix
        return np.array(draw(st.lists(number, min_size=size, max_size=size)), F4)

    a, b, c = matrix(m, k, lda), matrix(k, n, ldb), matrix(m, n, ldc)
    return (
        m,
        n,
        k,
        draw(number),
        a,
        lda,
        b,
        ldb,
        draw(number),
        ldc,
        draw(st.sampled_from([c, None])),
    )


def rows(flat: Any, count: int, length: int, stride: int) -> Any:
    """The matrix, row by row, without any trick."""
    listed = [flat[i * stride : i * stride + length] for i in range(count)]
    return np.array(listed, F8).reshape(count, length)


def test_sgemm_is_alpha_a_b_plus_beta_c(session: Session) -> None:
    @given(gemms())
    def check(args: tuple[Any, ...]) -> None:
        m, n, k, alpha, a, lda, b, ldb, beta, ldc, c = args
        given_c = np.zeros((m - 1) * ldc + n if m else 0, F4) if c is None else c
        before = given_c.copy()
        expected = alpha * rows(a, m, k, lda) @ rows(b, k, n, ldb)
        expected += beta * rows(given_c, m, n, ldc)
        found = session.sgemm(*args)
        assert found.dtype == F4
        assert found.tolist() == expected.reshape(-1).tolist()
        assert given_c.tolist() == before.tolist()

    check()


def test_sgemm_of_fractions(session: Session) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((5, 7), F4), rng.random((7, 3), F4)
    found = session.sgemm(5, 3, 7, 1.5, a.ravel(), 7, b.ravel(), 3, 0.0, 3)
    np.testing.assert_allclose(found.reshape(5, 3), 1.5 * (a.astype(F8) @ b), rtol=1e-5)


def test_sgemm_without_beta_does_not_read_c(session: Session) -> None:
    for beta in (0.0, 1e-60):  # the second is 0 as float32, as which it travels
        found = session.sgemm(1, 1, 1, 2.0, [3.0], 1, [4.0], 1, beta, 1, [float("nan")])
        assert found == [24.0]


def test_minmax_clips_and_tells_the_extremes_of_the_input(session: Session) -> None:
    doubles = st.lists(st.floats(allow_nan=False), min_size=1, max_size=20)

    @given(doubles, st.integers(-100, 0), st.integers(0, 100))
    def check(data: list[float], low: int, high: int) -> None:
        outdata, least, most = session.minmax(data, len(data), low, high)
        assert outdata == [float(min(max(value, low), high)) for value in data]
        assert (least, most) == (min(data), max(data))

    check()


def test_minmax_of_nan_is_nan(session: Session) -> None:
    outdata, least, most = session.minmax(np.array([1.0, np.nan, 5.0]), 3, 2, 4)
    assert np.array_equal(outdata, [2.0, np.nan, 4.0], equal_nan=True)
    assert np.isnan([least, most]).all()


def test_minmax_of_nothing_and_of_infinities(session: Session) -> None:
    outdata, least, most = session.minmax(np.empty(0), 0, 0, 1)
    assert (outdata.size, least, most) == (0, np.inf, -np.inf)
    found = session.minmax(np.array([np.inf, -np.inf]), 2, -1, 1)
    assert (found[0].tolist(), *found[1:]) == ([1.0, -1.0], -np.inf, np.inf)


def test_mmult_is_the_matrix_product(session: Session) -> None:
    for n in (1, 2, 5, 16):
        a = np.arange(n * n, dtype=F4).reshape(n, n) % 7
        b = np.arange(n * n, dtype=F4).reshape(n, n) % 5
        expected = [[sum(x * y for x, y in zip(r, c, strict=True)) for c in b.T] for r in a]
        assert session.fpga_mmult(a, b).tolist() == expected
        assert session.fpga_mmult(a.ravel(), b.ravel()).tolist() == np.ravel(expected).tolist()


def test_parallel_is_sum_and_product(session: Session) -> None:
    total, product = session.fpga_parallel(floats(1, 2, 3), floats(4, 5, 0.5))
    assert (total.tolist(), product.tolist()) == ([5.0, 7.0, 3.5], [4.0, 10.0, 1.5])


def test_addition_is_that_of_float32(session: Session) -> None:
    pairs = st.lists(st.tuples(strategies.numbers(np.dtype(F4)), strategies.numbers(np.dtype(F4))))

    @given(pairs)
    def check(pairs: list[tuple[float, float]]) -> None:
        a, b = floats(*(p[0] for p in pairs)), floats(*(p[1] for p in pairs))
        # The sum of two float32 is exact enough in double to round once.
        with np.errstate(over="ignore", invalid="ignore"):
            expected = (a.astype(F8) + b.astype(F8)).astype(F4)
            assert np.array_equal(session.fpga_vadd(a, b), expected, equal_nan=True)

    check()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of overflow
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda s: s.fpga_vadd(floats(HUGE), floats(HUGE)), [np.inf]),
        (lambda s: s.fpga_vadd(floats(np.inf), floats(-np.inf)), [np.nan]),
        (lambda s: s.fpga_parallel(floats(HUGE, np.inf), floats(HUGE, 0))[1], [np.inf, np.nan]),
        (lambda s: s.fpga_mmult(floats(HUGE), floats(HUGE)), [np.inf]),
        (lambda s: s.sgemm(1, 1, 1, 1e300, [1.0], 1, [1.0], 1, 0.0, 1), [np.inf]),
        (lambda s: s.sgemm(1, 1, 1, -HUGE, [HUGE], 1, [1.0], 1, 0.0, 1), [-np.inf]),
        (lambda s: s.fpga_vadd([1e300], [0.0]), [np.inf]),
    ],
)
def test_what_is_too_large_is_infinite(session: Session, call: Any, expected: list[float]) -> None:
    assert np.array_equal(call(session), expected, equal_nan=True)


def test_numbers_that_are_not_finite_are_no_reason_for_a_warning(session: Session) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = session.fpga_vadd(floats(np.inf, np.nan), floats(1, 1))
        assert np.array_equal(found, [np.inf, np.nan], equal_nan=True)
        session.minmax(np.array([np.nan, np.inf]), 2, 0, 1)
        session.sgemm(1, 1, 1, 1e300, [0.5], 1, [0.5], 1, 0.0, 1)


def test_its_type_says_that_it_is_software() -> None:
    vaccel.bootstrap(Config(plugins="noop:cpu"))
    with Session(PluginType.SOFTWARE) as session:
        assert session.fpga_vadd([1.0], [2.0]) == [3.0]
