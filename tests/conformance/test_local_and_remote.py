"""The same call gives the same result, or the same error, here and at an agent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vaccel
import vaccel.error
from tests.processes import abstract
from vaccel import Arg, ArgType, Config, Session, runtime
from vaccel.agent import Agent
from vaccel.error import FFIError
from vaccel.ops.catalog import BY_NAME, OPERATIONS
from vaccel.ops.numbers import Array, Scalar
from vaccel.ops.spec import Operation
from vaccel.plugin import Plugin
from vaccel.testing import strategies
from vaccel.testing.forms import FORMS

# numpy's, of overflow: as errors they would hide the results that are to be compared.
pytestmark = pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")

NUMERIC = [
    op
    for op in OPERATIONS.values()
    if all(isinstance(k, (Array, Scalar)) for k in op.inputs.values())
]


@contextlib.contextmanager
def pair(*plugins: Plugin) -> Iterator[tuple[Session, Session]]:
    """A session here and one at an agent, on `plugins`, else on cpu, else on noop."""
    vaccel.bootstrap(Config(plugins=""))
    current = runtime.current()
    for plugin in plugins:
        current.add(plugin, "the test")
    for name in ("cpu", "noop"):
        current.load(name)
    with Agent(abstract("remote")) as agent:
        with Session() as here, Session(endpoint=agent.endpoint) as there:
            yield here, there


@pytest.fixture
def sessions() -> Iterator[tuple[Session, Session]]:
    with pair() as both:
        yield both


def outcome(session: Session, op: Operation, args: tuple[Any, ...]) -> Any:
    """The result, or the error, in a form that compares bit for bit."""
    try:
        return bits(getattr(session, op.name)(*args))
    except FFIError as exc:
        return type(exc), exc.message


def bits(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value), [bits(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return type(value), np.array(value).tobytes() if isinstance(value, float) else value


@pytest.mark.parametrize("op", NUMERIC, ids=lambda op: op.name)
def test_numbers(op: Operation, sessions: tuple[Session, Session]) -> None:
    @given(strategies.arguments(op, forms=tuple(FORMS)))
    def check(args: tuple[Any, ...]) -> None:
        here, there = sessions
        expected = outcome(here, op, args)
        for _ in range(3):  # further calls of a shape go a shorter way, then a direct one
            assert outcome(there, op, args) == expected

    check()


@pytest.mark.parametrize("name", ["classify", "detect", "segment", "pose", "depth"])
def test_pictures(name: str, sessions: tuple[Session, Session]) -> None:
    op = BY_NAME[name]

    @given(strategies.arguments(op))
    def check(args: tuple[Any, ...]) -> None:
        here, there = sessions
        assert outcome(there, op, args) == outcome(here, op, args)

    check()


def describing() -> Plugin:
    """Its exec fills the first write argument with what it was given."""
    plugin = Plugin("describing")

    @plugin.kernel(Session.exec)
    def exec(
        session: Session, library: str, symbol: str, read: list[Arg], write: list[Arg]
    ) -> None:
        told = [(int(a.type), a.custom_type_id, bytes(a.view())) for a in (*read, *write[1:])]
        text = repr((library, symbol, len(read), told)).encode()
        write[0].store(text.ljust(ROOM)[:ROOM])

    return plugin


ROOM = 2000


def described(session: Session, symbol: str, read: list[Arg], write: list[Arg]) -> str:
    found = session.exec("lib.so", symbol, read, [Arg(bytes(ROOM)), *write])
    assert found is not None
    text: str = found[0].decode()
    return text.rstrip()


ARGS = st.lists(strategies.args(), max_size=2)


def test_arguments_of_exec() -> None:
    with pair(describing()) as (here, there):

        @given(strategies.texts(), ARGS, ARGS)
        def check(symbol: str, read: list[Arg], write: list[Arg]) -> None:
            expected = described(here, symbol, read, write)
            assert described(there, symbol, read, write) == expected

        check()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (([Arg(1, ArgType.UINT8)], []), ([Arg(1, ArgType.INT8)], [])),
        (([Arg(1, ArgType.UINT8)], []), ([Arg(True, ArgType.BOOL)], [])),
        (([Arg(b"12", ArgType.CUSTOM, 1)], []), ([Arg(b"12", ArgType.CUSTOM, 2)], [])),
        (([Arg(b"12")], [Arg(b"12")]), ([Arg(b"12"), Arg(b"12")], [])),
        (([Arg(b"12")], []), ([], [Arg(b"12")])),
        (([Arg(b"")], []), ([], [Arg(b"")])),
        (([Arg([], ArgType.INT8_ARRAY)], []), ([Arg([], ArgType.FLOAT64_ARRAY)], [])),
    ],
)
def test_calls_that_look_alike(
    first: tuple[list[Arg], list[Arg]], second: tuple[list[Arg], list[Arg]]
) -> None:
    """What the client keeps of a call serves no other call."""
    with pair(describing()) as (here, there):
        for read, write in (first, second, first):
            expected = described(here, "f", read, write)
            assert described(there, "f", read, write) == expected


def test_what_is_read_and_what_is_written_stay_apart(sessions: tuple[Session, Session]) -> None:
    for session in sessions:
        assert session.exec("lib.so", "f", [Arg(b"12")], [Arg(b"12")]) == [b"\0\0"]
        assert session.exec("lib.so", "f", [Arg(b"12"), Arg(b"12")]) is None


def error_classes() -> list[type[FFIError]]:
    classes = [cls for cls in vars(vaccel.error).values() if isinstance(cls, type)]
    return [cls for cls in classes if issubclass(cls, FFIError) and hasattr(cls, "ERRNO")]


def test_errors_are_of_the_same_class() -> None:
    plugin = Plugin("failing")
    errors: list[Exception] = []

    @plugin.kernel(Session.noop)
    def noop(session: Session) -> None:
        raise errors[-1]

    noop_op = BY_NAME["noop"]
    with pair(plugin) as both:
        for cls in error_classes():
            errors.append(cls("the reason"))  # type: ignore[arg-type]
            assert [outcome(session, noop_op, ()) for session in both] == [(cls, "the reason")] * 2
        errors.append(FFIError(77, "a number without a class"))
        for session in both:
            assert outcome(session, noop_op, ()) == (FFIError, "a number without a class")
        errors.append(KeyError("x"))
        told = (vaccel.error.InternalError, "noop: the kernel raised KeyError('x')")
        assert [outcome(session, noop_op, ()) for session in both] == [told] * 2
