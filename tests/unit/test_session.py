"""Sessions: numbers, plugin choice, lifetime, threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import vaccel
from tests.processes import abstract
from vaccel import Config, PluginType, Resource, ResourceType, Session, runtime
from vaccel.agent import Agent
from vaccel.error import (
    ConnectionFailed,
    InternalError,
    InvalidArgument,
    NotFound,
    NotSupported,
    PluginError,
    ResourceExhausted,
    SessionClosed,
)
from vaccel.ops.catalog import Operations
from vaccel.ops.declare import operation_of
from vaccel.ops.spec import Operation
from vaccel.plugin import Direct, Plugin


def start(*plugins: Plugin) -> None:
    vaccel.bootstrap(Config(plugins=""))
    for plugin in plugins:
        runtime.current().add(plugin, "the test")


def answering(name: str, type: PluginType, *methods: Callable[..., Any]) -> Plugin:
    """A plugin whose vector add is not one: it answers with the plugin's name."""
    plugin = Recorder(name, type)
    for method in methods or (Operations.fpga_vadd,):
        plugin.kernel(method)(lambda session, *values: name)
    return plugin


class Recorder(Plugin):
    """Writes down what it is told of sessions and resources."""

    def __init__(self, name: str = "recorder", type: PluginType = PluginType.CPU) -> None:
        super().__init__(name, type)
        self.told: list[tuple[str, int]] = []

    def open_session(self, session: Session) -> None:
        self.told.append(("open", session.id))

    def update_session(self, session: Session) -> None:
        self.told.append(("update", int(session.flags)))

    def close_session(self, session: Session) -> None:
        self.told.append(("close", session.id))

    def register(self, session: Session, resource: Resource) -> None:
        self.told.append(("register", resource.id))

    def unregister(self, session: Session, resource: Resource) -> None:
        self.told.append(("unregister", resource.id))

    def sync(self, session: Session, resource: Resource) -> None:
        self.told.append(("sync", resource.id))


ONE = np.ones(1, np.float32)


def asked(session: Session) -> Any:
    return session.fpga_vadd(ONE, ONE)


def test_numbers_begin_at_one_and_grow_by_one() -> None:
    for _ in range(2):
        vaccel.bootstrap(Config(plugins="cpu"))
        first = Session()
        first.close()
        assert [first.id, Session().id, Session().id] == [1, 2, 3]


def test_a_session_is_a_context_manager() -> None:
    vaccel.bootstrap(Config(plugins="cpu"))
    with pytest.raises(KeyError), Session() as session:
        raise KeyError
    with pytest.raises(SessionClosed, match="session 1 is closed; open a new Session"):
        session.noop()
    session.close()  # again, to no effect


class Promising(Recorder):
    """Has a resource for each session, but makes it only when somebody looks."""

    def __init__(self) -> None:
        super().__init__("promising")
        self.made: list[Resource] = []
        self.kernel(Operations.noop)(lambda session: None)

    def make_resources(self, session: Session) -> None:
        if not self.made:
            self.made.append(Resource.from_buffer(b"late", ResourceType.DATA))
            self.made[0].register(session)


def test_resources_that_a_plugin_has_promised_are_made_when_somebody_looks() -> None:
    plugin = Promising()
    start(plugin)
    with Session() as session:
        assert session.resources == []  # it does not know the plugin yet
        session.noop()
        assert not session.registered()
        assert not plugin.made
        assert session.resources == plugin.made == session.registered(ResourceType.DATA)
        assert session.registered(ResourceType.MODEL) == []
    assert session.resources == []
    assert ("unregister", plugin.made[0].id) in plugin.told


def test_a_closed_session_has_nothing_made() -> None:
    plugin = Promising()
    start(plugin)
    with Session() as session:
        session.noop()
    assert session.resources == []
    assert not plugin.made


def test_a_closed_session_refuses_everything() -> None:
    vaccel.bootstrap(Config(plugins="cpu"))
    resource = Resource.from_buffer(b"", ResourceType.DATA)
    with Session() as session:
        session.noop()
    uses: list[Callable[[], Any]] = [
        session.noop,
        lambda: session.fpga_vadd([1.0], [2.0]),
        lambda: session.genop([vaccel.Arg(0, vaccel.ArgType.UINT8)], []),
        lambda: session.update(0),
        lambda: resource.register(session),
    ]
    for use in uses:
        with pytest.raises(SessionClosed):
            use()
    assert not session.has_resource(resource)


# -- which plugin ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (0, "one"),
        (PluginType.CPU, "one"),
        (PluginType.GPU, "two"),
        (PluginType.FPGA, "three"),
        (PluginType.FPGA | PluginType.GPU, "two"),
        (PluginType.TORCH, "one"),
        (PluginType.ALL, "one"),
    ],
)
def test_flags_prefer_a_type(flags: int, expected: str) -> None:
    start(
        answering("one", PluginType.CPU),
        answering("two", PluginType.GPU),
        answering("three", PluginType.FPGA),
    )
    with Session(flags) as session:
        assert asked(session) == expected
        assert session.flags == PluginType(flags)


def test_what_the_preferred_plugin_lacks_another_does() -> None:
    start(
        answering("one", PluginType.CPU, Operations.noop, Operations.fpga_vadd),
        answering("two", PluginType.GPU, Operations.noop),
    )
    with Session(PluginType.GPU) as session:
        found: Any = session.noop()
        assert found == "two"
        assert asked(session) == "one"
        with pytest.raises(NotSupported, match=r"minmax: .*\(loaded: two, one\)"):
            session.minmax([], 0, 0, 1)


def test_flags_can_change() -> None:
    one, two = answering("one", PluginType.CPU), answering("two", PluginType.GPU)
    start(one, two)
    with Session() as session:
        assert asked(session) == "one"
        session.update(PluginType.GPU)
        assert asked(session) == "two"
    assert isinstance(one, Recorder)
    assert one.told == [("open", 1), ("update", PluginType.GPU), ("close", 1)]


@pytest.mark.parametrize("flags", [-1, 2**32, "1", None, 1.0])
def test_flags_are_bits(flags: Any) -> None:
    vaccel.bootstrap(Config(plugins="cpu"))
    with pytest.raises(InvalidArgument, match="flags: expected PluginType bits, found"):
        Session(flags)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda s, r: Session(endpoint=r), "endpoint: expected such as tcp://.*, found <"),
        (lambda s, r: s.has_resource(5), "has_resource: expected a Resource, found 5"),
        (lambda s, r: r.register(5), "expected a Session, found 5"),
        (lambda s, r: r.unregister("s"), "expected a Session, found 's'"),
        (lambda s, r: r.sync(None), "expected a Session, found None"),
        (lambda s, r: vaccel.bootstrap(r), "bootstrap: expected a Config or None, found <"),
    ],
)
def test_things_of_another_type_are_named(use: Callable[[Session, Any], Any], message: str) -> None:
    vaccel.bootstrap(Config(plugins="cpu"))
    with Session() as session, Resource.from_buffer(b"", ResourceType.DATA) as resource:
        with pytest.raises(InvalidArgument, match=message):
            use(session, resource)
        session.noop()


def test_plugins_hear_of_a_session_before_its_first_call_there() -> None:
    plugin = answering("one", PluginType.CPU)
    start(plugin)
    assert isinstance(plugin, Recorder)
    with Session() as session, Resource.from_buffer(b"", ResourceType.DATA) as resource:
        resource.register(session)
        assert plugin.told == []
        asked(session)
        asked(session)
        assert plugin.told == [("open", 1), ("register", 1)]
        resource.sync(session)
        resource.unregister(session)
    with Session():
        pass  # and not of one that never calls
    assert plugin.told[2:] == [("sync", 1), ("unregister", 1), ("close", 1)]


# -- kernels that fail -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (NotFound("no such thing"), NotFound("no such thing")),
        (KeyError("x"), InternalError("fpga_vadd: the kernel raised KeyError('x')")),
        (MemoryError("1 TiB"), ResourceExhausted("fpga_vadd: out of memory (1 TiB)")),
    ],
)
def test_an_error_of_a_kernel_becomes_one_of_ours(raised: Exception, expected: Any) -> None:
    plugin = Plugin("failing")

    @plugin.kernel(Operations.fpga_vadd)
    def fail(session: Session, a: Any, b: Any) -> Any:
        raise raised

    start(plugin)
    with Session() as session:
        with pytest.raises(type(expected)) as caught:
            asked(session)
    assert caught.value.message == expected.message
    assert caught.value is raised or caught.value.__cause__ is raised


MATRIX = (2, 2, 1, 1.0, [1.0, 1.0], 1, [1.0, 1.0], 2, 0.0, 2)


@pytest.mark.parametrize("where", ["here", "at an agent"])
@pytest.mark.parametrize(
    ("method", "args", "result", "message"),
    [
        (Operations.fpga_vadd, ([1.0], [2.0]), np.ones(2, "f4"), r"c: .* of 1 elements, found sh"),
        (
            Operations.fpga_vadd,
            ([1.0], [2.0]),
            np.ones(1),
            r"c: expected float32\[n\], found float64",
        ),
        (
            Operations.fpga_vadd,
            ([1.0], [2.0]),
            None,
            "c: expected an array or bytes, found NoneType",
        ),
        (Operations.fpga_vadd, ([1.0], [2.0]), (ONE, ONE), "c: expected numbers that fit float32"),
        (Operations.fpga_mmult, ([1.0], [2.0]), np.ones((2, 2), "f4"), r"c: .* of 1 elements"),
        (Operations.fpga_parallel, ([1.0], [2.0]), ONE, "results: .*, found 1 values"),
        (Operations.minmax, ([1.0], 1, 0, 1), (np.ones(1), "1", 1), "min: .* a number, found '1'"),
        (Operations.sgemm, MATRIX, np.ones(2, "f4"), "c: expected at least 4 elements"),
        (Operations.classify, (b"picture",), "cat", "results: expected tag, image_name, found 1"),
        (Operations.detect, (b"picture",), b"name", "image_name: expected str, found bytes"),
        (Operations.classify_scores, (b"",), (ONE, "cat"), "names: expected a list of str"),
        (Operations.depth_map, (b"",), ONE, r"depth: expected float32\[height, width\], found sh"),
        (Operations.exec, ("lib", "f"), 5, "results: expected none, found 1 values"),
    ],
)
def test_a_result_that_the_operation_does_not_give_is_the_kernels_fault(
    method: Any, args: tuple[Any, ...], result: Any, message: str, where: str
) -> None:
    plugin = Plugin("odd")
    plugin.kernel(method)(lambda session, *values: result)
    start(plugin)
    with Agent(abstract("odd")) as agent:
        with Session(endpoint=None if where == "here" else agent.endpoint) as session:
            for _ in range(2):
                name = method.__name__
                with pytest.raises(InternalError, match=f"{name}: the kernel's {message}"):
                    getattr(session, name)(*args)


def test_a_models_result_is_checked_too() -> None:
    plugin = Plugin("odd")
    plugin.kernel(Operations.torch_model_run)(lambda session, *values: [5])
    start(plugin)
    with Agent(abstract("odd")) as agent:
        for endpoint in (None, agent.endpoint):
            with Session(endpoint=endpoint) as session:
                with Resource.from_buffer(b"", ResourceType.MODEL) as model:
                    model.register(session)
                    found = (
                        "out_tensors: expected a list of vaccel.ops.torch.Tensor, found int in it"
                    )
                    with pytest.raises(
                        InternalError, match=f"torch_model_run: the kernel's {found}"
                    ):
                        session.torch_model_run(model, [])


def test_an_interrupt_goes_through() -> None:
    plugin = Plugin("interrupted")

    @plugin.kernel(Operations.fpga_vadd)
    def interrupt(session: Session, a: Any, b: Any) -> Any:
        raise KeyboardInterrupt

    start(plugin)
    with Session() as session, pytest.raises(KeyboardInterrupt):
        asked(session)


# -- threads ---------------------------------------------------------------------------------------


def test_threads_share_a_session() -> None:
    vaccel.bootstrap(Config(plugins="cpu"))
    errors: list[BaseException] = []

    def work(session: Session, seed: int) -> None:
        try:
            for i in range(100):
                ramp = np.arange(seed + i, dtype=np.float32)
                assert (session.fpga_vadd(ramp, ramp) == 2 * ramp).all()
        except BaseException as exc:
            errors.append(exc)

    with Session() as session:
        threads = [threading.Thread(target=work, args=(session, n)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


def test_a_plugin_hears_of_a_session_once_however_many_threads_begin() -> None:
    plugin = answering("one", PluginType.CPU)
    start(plugin)
    assert isinstance(plugin, Recorder)
    barrier = threading.Barrier(8)
    with Session() as session:

        def first() -> None:
            barrier.wait()
            asked(session)

        threads = [threading.Thread(target=first) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert plugin.told == [("open", 1), ("close", 1)]


def test_close_during_a_call_lets_the_call_end() -> None:
    plugin = Recorder()
    entered, leave = threading.Event(), threading.Event()

    @plugin.kernel(Operations.fpga_vadd)
    def stay(session: Session, a: Any, b: Any) -> Any:
        entered.set()
        leave.wait()
        return "done"

    start(plugin)
    found: list[Any] = []
    session = Session()
    thread = threading.Thread(target=lambda: found.append(asked(session)))
    thread.start()
    entered.wait()
    session.close()
    assert plugin.told == [("open", 1), ("close", 1)]
    with pytest.raises(SessionClosed):
        asked(session)
    leave.set()
    thread.join()
    assert found == ["done"]


# -- remote sessions -------------------------------------------------------------------------------


def test_an_endpoint_makes_a_session_remote() -> None:
    vaccel.bootstrap(Config(plugins="cpu"))
    with Agent(abstract("session")) as agent:
        with Session() as local, Session(endpoint=agent.endpoint) as remote:
            assert (local.is_remote, local.remote_id) == (False, 0)
            assert remote.is_remote
            assert remote.remote_id > 0
            assert asked(remote).tolist() == [2.0]
            assert isinstance(runtime.current().plugins[-1].name, str)


def test_an_unreachable_agent_shows_at_once_and_leaves_nothing() -> None:
    vaccel.bootstrap(Config(plugins="cpu"))
    with pytest.raises(ConnectionFailed, match=r"unix://@vaccel-nobody-\d+: nothing listens there"):
        Session(endpoint=abstract("nobody"))
    with pytest.raises(InvalidArgument, match="endpoint 'nowhere'"):
        Session(endpoint="nowhere")
    with Session() as session:
        assert asked(session).tolist() == [2.0]


def test_a_session_without_plugins_says_so() -> None:
    vaccel.bootstrap(Config(plugins=""))
    with Session() as session:
        with pytest.raises(NotSupported, match=r"noop: no loaded plugin .*\(loaded: none\)"):
            session.noop()
    with pytest.raises(PluginError):
        runtime.current().load("nonesuch")


def test_a_plugin_that_fails_at_the_first_call_is_told_all_at_the_next() -> None:
    class Unready(Recorder):
        ready = False

        def register(self, session: Session, resource: Resource) -> None:
            if not self.ready:
                raise ConnectionFailed("not yet")
            super().register(session, resource)

    plugin = Unready()
    plugin.kernel(Operations.noop)(lambda session: None)
    start(plugin)
    with Session() as session, Resource.from_buffer(b"", ResourceType.DATA) as resource:
        resource.register(session)
        with pytest.raises(ConnectionFailed):
            session.noop()
        plugin.ready = True
        session.noop()
        told = [("open", session.id), ("close", session.id), ("open", session.id)]
        assert plugin.told == [*told, ("register", resource.id)]


def test_a_session_with_an_endpoint_changes_nothing_for_those_without() -> None:
    with Agent("tcp://127.0.0.1:0", Config(plugins="cpu")) as agent:
        with Session(endpoint=agent.endpoint) as there:
            there.noop()
        with Session() as here, Session(PluginType.REMOTE) as preferred:
            assert not here.is_remote
            assert not preferred.is_remote
            with pytest.raises(NotSupported, match=r"\(loaded: cpu\)"):
                here.classify(b"")
        assert [one.name for one in runtime.current().plugins] == ["cpu"]


class Shortcut(Recorder):
    """Doubles vectors, but only by its short way."""

    def direct(self, op: Operation, session: Session) -> Direct | None:
        if op is not operation_of(Operations.fpga_arraycopy):
            return None

        def call(args: Sequence[Any]) -> Any:
            if isinstance(args[0], list):
                return NotImplemented
            if not len(args[0]):
                raise ZeroDivisionError
            return args[0] * 2

        return call


@pytest.fixture
def shortcut() -> Shortcut:
    plugin = Shortcut("shortcut")
    plugin.kernel(Operations.fpga_arraycopy)(lambda session, a: a)
    start(plugin)
    return plugin


def test_a_short_way_is_tried_first_once_a_plugin_has_made_one(shortcut: Shortcut) -> None:
    with Session() as session:
        ones = np.ones(3, np.int32)
        assert session.fpga_arraycopy(ones).tolist() == [1, 1, 1]
        assert session.fpga_arraycopy(ones).tolist() == [2, 2, 2]
        assert session.fpga_arraycopy([1, 2]) == [1, 2]
        with pytest.raises(InternalError, match="fpga_arraycopy: the kernel raised ZeroDivision"):
            session.fpga_arraycopy(ones[:0])
        session.update(PluginType.CPU)
        assert session.fpga_arraycopy(ones).tolist() == [1, 1, 1]
        assert session.fpga_arraycopy(a=ones).tolist() == [2, 2, 2]
    with pytest.raises(SessionClosed):
        session.fpga_arraycopy(ones)


def test_a_profile_shows_calls_that_could_go_a_shorter_way(shortcut: Shortcut) -> None:
    runtime.current().profiler.enabled = True
    with Session() as session:
        for _ in range(2):
            assert session.fpga_arraycopy(np.ones(3, np.int32)).tolist() == [1, 1, 1]
    assert len(runtime.current().profiler.regions()["[fpga_arraycopy] plugin"]) == 2
