"""Models as context managers, with every engine, here and at an agent."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest

import vaccel
from tests.processes import abstract
from vaccel import Config, Resource, ResourceType, Session, runtime
from vaccel.agent import Agent
from vaccel.error import InternalError, InvalidArgument, NotFound
from vaccel.model import ENGINES
from vaccel.ops.catalog import OPERATIONS, Operations
from vaccel.ops.spec import Operation
from vaccel.ops.tf import Status
from vaccel.plugin import Plugin
from vaccel.plugins import noop

RUN: dict[str, tuple[Any, ...]] = {
    "onnx": ([],),
    "tf": ([], [], []),
    "tflite": ([],),
    "torch": ([],),
}
MODEL = ResourceType.MODEL


class Recorder(Plugin):
    """Writes down which operations were called."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.called: list[str] = []

    def find(self, op: Operation) -> Any:
        return functools.partial(self._answer, op)

    def _answer(self, op: Operation, session: Session, *values: Any) -> Any:
        self.called.append(op.name)
        kernel = noop.plugin.find(op)
        assert kernel is not None
        return kernel(session, *values)


@pytest.fixture
def plugin() -> Recorder:
    vaccel.bootstrap(Config(plugins=""))
    plugin = Recorder()
    runtime.current().add(plugin, "the test")
    return plugin


@pytest.fixture(params=["here", "at an agent"])
def session(plugin: Recorder, request: pytest.FixtureRequest) -> Iterator[Session]:
    if request.param == "here":
        with Session() as session:
            yield session
        return
    with Agent(abstract("model")) as agent, Session(endpoint=agent.endpoint) as session:
        yield session


@pytest.fixture
def resource(session: Session) -> Iterator[Resource]:
    with Resource.from_buffer(b"model", MODEL) as resource:
        resource.register(session)
        yield resource


def test_an_engine_is_what_has_the_three_operations() -> None:
    names = [op.name for op in OPERATIONS.values()]
    assert list(ENGINES) == sorted(n.removesuffix("_model_run") for n in names if "_model_run" in n)
    assert set(ENGINES) == set(RUN)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_is_loaded_run_and_unloaded(
    engine: str, session: Session, resource: Resource, plugin: Recorder
) -> None:
    plain = getattr(session, f"{engine}_model_run")(resource, *RUN[engine])
    plugin.called.clear()
    with session.model(resource, engine) as model:
        assert plugin.called == [f"{engine}_model_load"]
        assert repr(model.run(*RUN[engine])) == repr(plain)
    model.close()  # again, to no effect
    assert plugin.called == [f"{engine}_model_{step}" for step in ("load", "run", "unload")]


def test_a_model_is_unloaded_after_an_error(
    session: Session, resource: Resource, plugin: Recorder
) -> None:
    with pytest.raises(KeyError), session.model(resource, "onnx"):
        raise KeyError
    assert plugin.called[-1] == "onnx_model_unload"


def test_a_model_may_outlive_its_session(session: Session, resource: Resource) -> None:
    with session.model(resource, "torch"):
        session.close()


def test_what_cannot_be_loaded_is_refused(session: Session, plugin: Recorder) -> None:
    with Resource.from_buffer(b"model", MODEL) as resource:
        with pytest.raises(InvalidArgument, match=r"engine: expected one of onnx, .* found 'jax'"):
            session.model(resource, "jax")
        with pytest.raises(NotFound, match=r"torch_model_load: resource .* is not registered"):
            session.model(resource, "torch")
    assert plugin.called == []


def test_a_status_that_is_not_success_is_an_error(
    session: Session, resource: Resource, plugin: Recorder
) -> None:
    failing = Plugin("failing")
    failing.kernel(Operations.tf_model_load)(lambda *_: Status(3, "no such graph"))
    plugin.find = failing.find  # type: ignore[method-assign]
    with pytest.raises(InternalError, match="tf_model_load: status 3: no such graph"):
        session.model(resource, "tf")
