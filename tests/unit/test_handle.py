"""What a program drops is released, as programs for vAccel 0.8 expect, which close nothing."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vaccel
from tests.processes import abstract
from vaccel import Config, Resource, ResourceType, Session, runtime, service
from vaccel.agent import Agent
from vaccel.error import SessionClosed
from vaccel.ops.catalog import Operations
from vaccel.plugin import Plugin

ONE = np.ones(1, np.float32)


class Recorder(Plugin):
    """Keeps all that it is given, and writes down which sessions end."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.kept: list[object] = []
        self.ended: list[int] = []
        self.kernel(Operations.fpga_vadd)(self.answer)
        self.kernel(Operations.torch_model_load)(self.load)

    def load(self, session: Session, resource: Resource) -> None:
        self.kept += [session, resource]

    def answer(self, session: Session, *values: Any) -> Any:
        self.kept += [session, *values]
        return values[0]

    def open_session(self, session: Session) -> None:
        self.kept.append(session)

    def register(self, session: Session, resource: Resource) -> None:
        self.kept += [session, resource]

    def close_session(self, session: Session) -> None:
        self.ended.append(session.id)


@pytest.fixture
def plugin() -> Recorder:
    vaccel.bootstrap(Config(plugins=""))
    plugin = Recorder()
    runtime.current().add(plugin, "the test")
    return plugin


def use() -> int:
    """A session's number, after a call in it; the session itself is dropped."""
    session = Session()
    session.fpga_vadd([1.0], [2.0])
    return session.id


def folders() -> list[str]:
    return [path.name for path in runtime.current().rundir.path.glob("resource.*")]


# -- sessions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["open", "open a resource", "close", "call", "call with arrays"])
def test_a_dropped_session_is_closed_by_whatever_the_program_does_next(
    plugin: Recorder, action: str
) -> None:
    other = Session()
    dropped = use()
    assert plugin.ended == []
    if action == "open":
        Session().close()
    elif action == "open a resource":
        Resource.from_buffer(b"", ResourceType.DATA)
    elif action == "close":
        other.close()
    elif action == "call":
        other.fpga_vadd([1.0], [2.0])
    else:
        other.fpga_vadd(ONE, ONE)
    assert plugin.ended == [dropped]


def test_a_session_that_is_held_stays_open(plugin: Recorder) -> None:
    held = [Session() for _ in range(3)]
    for session in held:
        session.fpga_vadd(ONE, ONE)
    method = held.pop(0).fpga_vadd
    use()
    use()
    assert len(plugin.ended) == 1
    method(ONE, ONE)
    held[0].fpga_vadd(ONE, ONE)


def test_cleanup_closes_dropped_and_held_ones_newest_first(plugin: Recorder) -> None:
    sessions = [Session() for _ in range(3)]
    for session in sessions:
        session.fpga_vadd(ONE, ONE)
    del sessions[1], session
    vaccel.cleanup()
    assert plugin.ended == [3, 2, 1]
    with pytest.raises(SessionClosed):
        sessions[0].fpga_vadd(ONE, ONE)


def test_a_session_may_end_within_any_lock(plugin: Recorder) -> None:
    session = Session()
    session.fpga_vadd(ONE, ONE)
    with runtime.current()._lock, session._lock:
        del session
    assert plugin.ended == []
    Session()
    assert plugin.ended == [1]


def test_calls_of_a_kernel_close_nothing(plugin: Recorder) -> None:
    """A plugin may hold a lock there that its `close_session` takes."""
    others = [Session()]
    others[0].fpga_vadd(ONE, ONE)
    ended: list[list[int]] = []

    @plugin.kernel(Operations.fpga_parallel)
    def parallel(session: Session, a: Any, b: Any) -> Any:
        others.clear()
        session.fpga_vadd(a, b)
        ended.append(list(plugin.ended))
        return a, b

    session = Session()
    session.fpga_parallel(ONE, ONE)
    assert ended == [[]]
    session.fpga_vadd(ONE, ONE)
    assert plugin.ended == [1]


def test_a_plugin_that_fails_to_close_a_dropped_session_harms_no_other(plugin: Recorder) -> None:
    def fail(session: Session) -> None:
        plugin.ended.append(session.id)
        raise ValueError("a fault of the plugin")

    plugin.close_session = fail  # type: ignore[method-assign]
    sessions = [Session() for _ in range(3)]
    for session in sessions:
        session.fpga_vadd(ONE, ONE)
    del sessions, session
    with Session():
        assert sorted(plugin.ended) == [1, 2, 3]


def test_threads_drop_sessions_at_once(plugin: Recorder) -> None:
    def work() -> None:
        for _ in range(50):
            use()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Session().close()
    assert sorted(plugin.ended) == list(range(1, 401))


# -- resources -------------------------------------------------------------------------------------


def test_a_dropped_resource_lets_its_memory_go() -> None:
    vaccel.bootstrap(Config(plugins="noop"))
    array = np.zeros(1000, np.float32)
    memory = weakref.ref(array)
    resource = Resource.from_numpy(array)
    (file,) = resource.files()
    del array, resource
    Session()
    assert memory() is None
    assert not file.exists()


def test_a_registered_resource_lives_as_long_as_its_session(plugin: Recorder) -> None:
    def register(session: Session) -> Path:
        resource = Resource.from_buffer(b"data", ResourceType.DATA)
        resource.register(session)
        return resource.files()[0]

    session = Session()
    file = register(session)
    with Session() as other:
        (known,) = session.resources
        known.register(other)
        assert file.read_bytes() == b"data"
        session.close()
        assert file.read_bytes() == b"data"
        assert other.resources == [known]
    assert not file.exists()
    assert folders() == []
    with pytest.raises(SessionClosed, match="resource 1 is closed"):
        known.files()


def test_dropped_together_both_go(plugin: Recorder) -> None:
    def load() -> None:
        session = Session()
        resource = Resource.from_buffer(b"data", ResourceType.MODEL)
        resource.register(session)
        resource.files()
        session.torch_model_load(resource)

    for _ in range(3):
        load()
    Session()
    assert plugin.ended == [1, 2, 3]
    assert folders() == []


def test_a_handle_and_what_plugins_see_are_equal(plugin: Recorder) -> None:
    with Session() as session, Resource.from_buffer(b"", ResourceType.MODEL) as resource:
        resource.register(session)
        session.torch_model_load(resource)
        kept = set(plugin.kept)
        assert kept == {session, resource}
        assert session != resource
        assert not any(one is session or one is resource for one in kept)
        assert all(plugin_side.core is plugin_side for plugin_side in kept)  # type: ignore[attr-defined]


# -- at an agent -----------------------------------------------------------------------------------


def test_a_program_that_closes_nothing_stays_below_the_agents_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "MAX_OBJECTS", 4)
    vaccel.bootstrap(Config(plugins="cpu"))
    with Agent(abstract("handle")) as agent:

        def once() -> None:
            session = Session(endpoint=agent.endpoint)
            resource = Resource.from_numpy(ONE)
            resource.register(session)
            assert session.fpga_vadd([1.0], [2.0]) == [3.0]

        for _ in range(20):
            once()
        with Session(endpoint=agent.endpoint) as session:
            for _ in range(20):
                Resource.from_numpy(ONE).register(session)
                session.resources[0].unregister(session)
            assert session.fpga_vadd([1.0], [2.0]) == [3.0]
