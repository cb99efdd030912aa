"""The conformance suite for plugins."""

from __future__ import annotations

import contextlib
import functools
import gc
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vaccel import plugin as plugins
from vaccel import runtime
from vaccel.config import Config
from vaccel.error import InvalidArgument, SessionClosed
from vaccel.ops.catalog import BY_NAME
from vaccel.ops.numbers import Array, InOut, Scalar
from vaccel.ops.spec import Operation
from vaccel.plugin import Plugin
from vaccel.session import Session
from vaccel.testing.expect import expect, fails_with, holdings, in_threads, no_error, settle
from vaccel.testing.forms import FORMS, build, dimensions, leading
from vaccel.testing.results import Results, unchanged

Samples = Callable[[Session], Iterable[tuple[Any, ...]]]
"""Gives argument tuples for an operation, for use with the session."""


def check_plugin(
    plugin: str | Plugin,
    *,
    operations: Sequence[str] | None = None,
    oracle: str | Plugin | None = "cpu",
    config: Config | None = None,
    sizes: Sequence[int] = (0, 1, 2, 3, 7, 64),
    tolerance: float = 1e-5,
    samples: Mapping[str, Samples] | None = None,
) -> list[str]:
    """Hold a plugin to what sessions and agents rely on; the names of the operations checked.

    Results have the declared types, shapes and dtypes, do not share memory with arguments or each
    other, and equal the oracle's where it implements the operation (None: not compared): exactly,
    but matrix products may be off by `tolerance` times the sum of the absolute products. Arguments
    stay unchanged and may come in every form, empty vectors included. Sessions work from several
    threads, close once, and leave nothing behind.

    operations: by default all that the plugin implements and whose arguments are numbers; for
    others give `samples`. sizes: extents of the vectors and matrices. config: for the runtime,
    which this call starts and ends; its plugins are loaded first. A remote plugin is called at
    `config.endpoint`. Oracle kernels must need no open session.

    Raises ConformanceError.
    """
    suite = _Suite(
        _loaded(plugin),
        None if oracle is None else _loaded(oracle),
        config or Config(plugins=""),
        tolerance,
        sizes,
        samples or {},
    )
    checked = suite.run(operations)
    # What a plugin sets up once and for all is its own affair; what grows is a leak.
    before = holdings()
    suite.run(operations)
    settle(f"{suite.plugin.name}: after cleanup", before)
    return checked


class _Suite:
    def __init__(
        self,
        plugin: Plugin,
        oracle: Plugin | None,
        config: Config,
        tolerance: float,
        sizes: Sequence[int],
        samples: Mapping[str, Samples],
    ) -> None:
        self.plugin = plugin
        self.config = config
        self.sizes = sizes
        self.samples = samples
        self.results = Results(plugin.name, oracle, tolerance)

    def run(self, operations: Sequence[str] | None) -> list[str]:
        """Everything once, in a runtime of its own."""
        runtime.bootstrap(self.config)
        try:
            current = runtime.current()
            current.add(self.plugin, "the conformance suite")
            with _watched(self.plugin) as hooks:
                names = self._check_operations(operations)
                runtime.cleanup()
            expect(
                hooks["opened"] == hooks["closed"],
                f"{self.plugin.name}: close_session",
                f"one call for each session opened: {hooks['opened']}",
                hooks["closed"],
            )
            rundir = current.rundir.path
            expect(not rundir.exists(), f"{self.plugin.name}: cleanup", "no rundir", rundir)
            return names
        finally:
            runtime.cleanup()

    def _check_operations(self, names: Sequence[str] | None) -> list[str]:
        with self._session() as session:
            samples = {op: self._samples(op, session) for op in self._operations(names)}
            calls = [
                (op, args, self._check_call(session, op, args))
                for op, found in samples.items()
                for args in found
            ]
            self._check_threads(session, calls)
        self._check_closed(calls)
        return [op.name for op, found in samples.items() if found]

    def _operations(self, names: Sequence[str] | None) -> list[Operation]:
        if names is None:
            return self.plugin.operations()
        for name in names:
            if name not in BY_NAME:
                raise InvalidArgument(f"check_plugin: operations: there is no operation {name!r}")
            found = self.plugin.find(BY_NAME[name])
            expect(found is not None, f"{self.plugin.name}: {name}", "a kernel", "none")
        return [BY_NAME[name] for name in names]

    def _session(self) -> Session:
        if self.plugin.is_remote:
            return Session(endpoint=self.config.endpoint)
        return Session(self.plugin.type)

    # -- arguments -----------------------------------------------------------------------------

    def _samples(self, op: Operation, session: Session) -> list[tuple[Any, ...]]:
        if op.name in self.samples:
            return list(self.samples[op.name](session))
        if not all(isinstance(kind, (Array, Scalar)) for kind in op.inputs.values()):
            return []
        rng = np.random.default_rng(op.code)
        sizes = self.sizes if dimensions(op) else (0,)
        return [_sample(op, size, rng) for size in sizes]

    # -- one call ------------------------------------------------------------------------------

    def _check_call(self, session: Session, op: Operation, args: tuple[Any, ...]) -> Any:
        """The result of a plain call, after it has stood every test."""
        served, _ = session.require(op)
        where = f"{self.plugin.name}: {op.name}"
        expect(
            served is self.plugin,
            where,
            "sessions to be served by this plugin",
            f"plugin {served.name}; take it out of config.plugins",
        )
        checked, dims = op.check(args)
        with unchanged(self.plugin.name, op, args), no_error(where):
            first = session.run(op, checked)
        self.results.check_types(op, first, dims)
        again, _ = op.check(args)
        self.results.check_apart(op, args, first, session.run(op, again))
        plain = op.restore(args, checked, dims, first)
        self.results.check_values(op, args, plain, session)
        for form in FORMS:
            self._check_form(session, op, args, form, plain)
        return plain

    def _check_form(
        self, session: Session, op: Operation, args: tuple[Any, ...], form: str, plain: Any
    ) -> None:
        places = [i for i, kind in enumerate(op.inputs.values()) if isinstance(kind, Array)]
        if not any(isinstance(args[i], np.ndarray) for i in places):
            return
        dressed = list(args)
        for i in places:
            if isinstance(args[i], np.ndarray):
                dressed[i] = FORMS[form](args[i])
        where = f"{self.plugin.name}: {op.name}: arguments as {form}"
        with unchanged(self.plugin.name, op, dressed), no_error(where):
            found = getattr(session, op.name)(*dressed)
        self.results.check_form(op, form, args, found, plain)

    # -- sessions ------------------------------------------------------------------------------

    def _check_threads(self, session: Session, calls: list[tuple[Operation, Any, Any]]) -> None:
        where = f"{self.plugin.name}: two threads"

        def replay(session: Session, order: int) -> Callable[[], None]:
            return functools.partial(self._replay, session, calls[::order])

        # In opposite orders, so that different calls meet.
        with self._session() as other:
            in_threads(f"{where}, a session each", replay(session, 1), replay(other, -1))
        in_threads(f"{where}, one session", replay(session, 1), replay(session, -1))

    def _replay(self, session: Session, calls: list[tuple[Operation, Any, Any]]) -> None:
        for op, args, expected in calls:
            # Resources, and arguments to be filled, are for one caller at a time.
            if op.resource is None and not any(kind.writes for kind in op.inputs.values()):
                self.results.check_equal(op, args, getattr(session, op.name)(*args), expected)

    def _check_closed(self, calls: list[tuple[Operation, Any, Any]]) -> None:
        session = self._session()
        for op, args, _ in calls[-1:]:
            if op.resource is None:
                getattr(session, op.name)(*args)
            session.close()
            where = f"{self.plugin.name}: {op.name} after close"
            fails_with(where, (SessionClosed,), functools.partial(getattr(session, op.name), *args))
        session.close()
        reference = weakref.ref(session.core)  # plugins see that
        del session
        gc.collect()
        where = f"{self.plugin.name}: close_session"
        expect(reference() is None, where, "no reference left to the session", "one")


def _sample(op: Operation, size: int, rng: np.random.Generator) -> tuple[Any, ...]:
    """Arguments with extents of about `size`: different ones, so that none is taken for another."""
    dims = {name: size + i if size else 0 for i, name in enumerate(dimensions(op))}
    for i, (stride, columns) in enumerate(leading(op).items()):
        dims[stride] = dims[columns] + (size + i) % 3

    def value(name: str, kind: Any, shape: tuple[int, ...]) -> Any:
        if isinstance(kind, InOut) and size % 2:
            return None
        numbers: Any
        if kind.dtype.kind == "f":
            numbers = rng.standard_normal(shape) * 10
        elif name.startswith(("low", "high")):  # limits, which must not cross
            numbers = rng.integers(0, 10, shape) * (-1 if name.startswith("low") else 1)
        else:
            info = np.iinfo(kind.dtype)
            numbers = rng.integers(info.min, info.max, shape, endpoint=True)
        array = np.asarray(numbers).astype(kind.dtype)
        return array if isinstance(kind, Array) else array.item()

    return build(op, dims, value)


def _loaded(plugin: str | Plugin) -> Plugin:
    return plugin if isinstance(plugin, Plugin) else plugins.load(plugin)[0]


@contextlib.contextmanager
def _watched(plugin: Plugin) -> Iterator[dict[str, list[int]]]:
    """The ids of the sessions that the plugin was told of, in order of their ids."""
    seen: dict[str, list[int]] = {"opened": [], "closed": []}
    hooks = {"open_session": "opened", "close_session": "closed"}

    def watch(name: str, ids: list[int]) -> None:
        hook = getattr(plugin, name)

        def watching(session: Session) -> None:
            hook(session)
            ids.append(session.id)
            ids.sort()

        setattr(plugin, name, watching)

    for name, what in hooks.items():
        watch(name, seen[what])
    try:
        yield seen
    finally:
        for name in hooks:
            delattr(plugin, name)
