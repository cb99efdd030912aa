"""What the results of a kernel must be like."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vaccel.ops.found import Found
from vaccel.ops.kinds import Dims, Kind
from vaccel.ops.numbers import Array, Scalar
from vaccel.ops.objects import Object, Text, Texts
from vaccel.ops.spec import Operation
from vaccel.plugin import Plugin
from vaccel.session import Session
from vaccel.testing.expect import expect, same


class Results:
    """The checks, for one plugin against one oracle."""

    def __init__(self, name: str, oracle: Plugin | None, tolerance: float) -> None:
        self._name = name
        self._oracle = oracle
        self._tolerance = tolerance

    def check_types(self, op: Operation, result: Any, dims: Dims) -> None:
        """A kernel's result is what the operation declares."""
        where = f"{self._name}: {op.name}"
        count = len(op.outputs)
        if count == 0:
            expect(result is None, where, "None as result", repr(result))
        elif count > 1:
            fits = isinstance(result, tuple) and len(result) == count
            expect(fits, where, f"a tuple of {count} results ({', '.join(op.outputs)})", result)
        for (name, kind), value in zip(op.outputs.items(), op.values(result), strict=True):
            _check_type(f"{where}: {name}", kind, value, dims)

    def check_apart(self, op: Operation, args: Sequence[Any], first: Any, second: Any) -> None:
        """No result shares memory with an argument, with another result or with a later one."""
        mine = {name: v for name, v in zip(op.outputs, op.values(first), strict=True) if _big(v)}
        others = {name: v for name, v in zip(op.inputs, args, strict=True) if _big(v)}
        later = zip(op.outputs, op.values(second), strict=True)
        others |= {f"{name} of the next call": v for name, v in later if _big(v)}
        for name, value in mine.items():
            rest = {other: v for other, v in mine.items() if other != name}
            for other, memory in {**others, **rest}.items():
                apart = not np.shares_memory(value, memory)
                where = f"{self._name}: {op.name}: {name}"
                expect(apart, where, "memory of its own", f"memory of {other}")
        self.check_equal(op, args, second, first)

    def check_values(
        self, op: Operation, args: tuple[Any, ...], found: Any, session: Session
    ) -> None:
        """The result is the oracle's."""
        kernel = self._oracle.find(op) if self._oracle is not None else None
        if kernel is None:
            return

        def ask(values: tuple[Any, ...]) -> Any:
            checked, dims = op.check(values)
            return op.restore(values, checked, dims, kernel(session, *checked))

        bound = ask(tuple(map(_absolute, args))) if _is_product(op) else None
        self._compare(op, args, found, ask(args), bound)

    def check_equal(self, op: Operation, args: Sequence[Any], found: Any, expected: Any) -> None:
        """The same call gives the same result."""
        for name, mine, theirs in _pairs(op, found, expected):
            where = f"{self._name}: {op.name}: {name}: called again"
            expect(same(mine, theirs), where, f"{theirs!r:.200}", f"{mine!r:.200}")

    def check_form(
        self, op: Operation, form: str, args: Sequence[Any], found: Any, plain: Any
    ) -> None:
        """Arguments in another form give the same result, as list or bytes if they came so."""
        for name, mine, theirs in _pairs(op, found, plain):
            where = f"{self._name}: {op.name}: {name}: arguments as {form}"
            kind = op.outputs.get(name)
            if isinstance(kind, Array):
                mine = _undress(where, kind, form, mine)
                theirs = theirs.reshape(mine.shape)
            expect(same(mine, theirs), where, f"{theirs!r:.200}", f"{mine!r:.200}")

    def _close(self, found: Any, expected: Any, bound: Any) -> bool:
        if bound is None or np.shape(found) != np.shape(expected):
            return False
        off = np.abs(np.subtract(found, expected, dtype=np.float64))
        return bool(np.all(off <= self._tolerance * np.asarray(bound, np.float64)))

    def _compare(
        self, op: Operation, args: Sequence[Any], found: Any, expected: Any, bound: Any
    ) -> None:
        for name, mine, theirs in _pairs(op, found, expected):
            where = f"{self._name}: {op.name}: {name}"
            if not same(mine, theirs) and not self._close(mine, theirs, bound):
                expect(False, where, *_difference(mine, theirs))


def _pairs(op: Operation, found: Any, expected: Any) -> list[tuple[str, Any, Any]]:
    """(name, value, value) for each result; operations that only fill arguments give them all."""
    if not op.outputs:
        return [("result", found, expected)]
    return list(zip(op.outputs, op.values(found), op.values(expected), strict=True))


def _check_type(where: str, kind: Kind, value: Any, dims: Dims) -> None:
    if isinstance(kind, (Array, Found)):
        shape = kind.shape(dims) if isinstance(kind, Array) else kind.check(value, {}).shape
        expected = f"a {kind.dtype.name} array of shape {shape}"
        expect(type(value) is np.ndarray, where, expected, type(value).__name__)
        found = f"a {value.dtype} array of shape {value.shape}"
        fits = value.dtype == kind.dtype and value.dtype.isnative
        expect(fits and value.shape == shape, where, expected, found)
        expect(value.flags.c_contiguous, where, "C-contiguous memory", value.strides)
        expect(value.flags.writeable, where, "memory that the caller may change", "read-only")
    elif isinstance(kind, Scalar):
        number = float if kind.dtype.kind == "f" else int
        expect(isinstance(value, number), where, number.__name__, repr(value))
    elif isinstance(kind, Text):
        expect(isinstance(value, str), where, "str", repr(value))
    elif isinstance(kind, Texts):
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        expect(fits, where, "a list of str", repr(value))
    elif isinstance(kind, Object):
        items = value if kind.many and isinstance(value, list) else [value]
        fits = all(isinstance(item, kind.cls) for item in items)
        expect(fits, where, kind, repr(value))


def _undress(where: str, kind: Array, form: str, value: Any) -> np.ndarray[Any, Any]:
    """`value` as an array, if it has the form that arguments in `form` ask for."""
    if form in ("list", "tuple"):
        expect(isinstance(value, list), where, "a list", type(value).__name__)
        return np.array(value, kind.dtype)
    if form in ("bytes", "bytearray"):
        expect(type(value).__name__ == form, where, form, type(value).__name__)
        return np.frombuffer(value, kind.dtype)
    expect(isinstance(value, np.ndarray), where, "an array", type(value).__name__)
    array: np.ndarray[Any, Any] = value
    return array


@contextlib.contextmanager
def unchanged(plugin: str, op: Operation, args: Sequence[Any]) -> Iterator[None]:
    """Arrays and buffers among `args` are the same afterwards."""
    before = [_content(arg) for arg in args]
    yield
    for name, arg, content in zip(op.inputs, args, before, strict=True):
        where = f"{plugin}: {op.name}: {name}"
        expect(_content(arg) == content, where, "an unchanged argument", "other values in it")


def _content(arg: Any) -> bytes | None:
    if isinstance(arg, (np.ndarray, bytearray)):
        return np.asarray(arg).tobytes()
    return None


def _is_product(op: Operation) -> bool:
    """Whether results are sums whose order is not laid down."""
    return any(isinstance(kind, Array) and len(kind.dims) > 1 for kind in op.outputs.values())


def _absolute(value: Any) -> Any:
    return abs(value) if isinstance(value, (int, float, np.ndarray)) else value


def _big(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.size > 0


def _difference(found: Any, expected: Any) -> tuple[str, str]:
    """Where two results differ first."""
    if not isinstance(found, np.ndarray) or np.shape(found) != np.shape(expected):
        return f"{expected!r:.200}", f"{found!r:.200}"
    differs = (found != expected) & ~((found != found) & (expected != expected))
    if not differs.any():
        return f"{expected.dtype}", f"{found.dtype}"
    place = tuple(int(i) for i in np.argwhere(differs)[0])
    return f"{expected[place]} at {list(place)}", f"{found[place]}"
