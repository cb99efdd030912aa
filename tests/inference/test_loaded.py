"""Models are loaded once for each resource, shared, and let go with their last session."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

import vaccel
from tests.inference.pairs import at_once, model_of
from vaccel import Config, Resource, Session
from vaccel.error import InvalidArgument, NotFound, PluginError
from vaccel.inference.loaded import Loaded, ModelPlugin, import_engine
from vaccel.ops.catalog import Operations
from vaccel.plugin import PluginType
from vaccel.runtime import current


class Model:
    pass


class Opener:
    """Opens models, and knows which."""

    def __init__(self) -> None:
        self.opened: list[Resource] = []
        self.error: Exception | None = None

    def __call__(self, resource: Resource) -> Model:
        self.opened.append(resource)
        if self.error is not None:
            raise self.error
        return Model()


@pytest.fixture
def session() -> Iterator[Session]:
    vaccel.bootstrap(Config(plugins=""))
    with Session() as session:
        yield session


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def loaded(opener: Opener) -> Loaded[Model]:
    return Loaded(opener, "test_model_load")


def test_a_second_load_gives_the_same_model(session, opener, loaded):
    resource = model_of(session, b"m")
    model = loaded.load(session, resource)
    assert loaded.load(session, resource) is model is loaded.get(session, resource)
    assert opener.opened == [resource]


def test_sessions_that_load_at_once_share_one_model(session, opener, loaded):
    resource = model_of(session, b"m")
    sessions = [Session() for _ in range(8)]
    models: list[Model] = []

    def load(i: int) -> None:
        resource.register(sessions[i])
        models.append(loaded.load(sessions[i], resource))

    at_once(load)
    assert len(set(map(id, models))) == 1
    assert opener.opened == [resource]


def test_resources_have_models_of_their_own(session, opener, loaded):
    first, second = model_of(session, b"m"), model_of(session, b"m")
    assert loaded.load(session, first) is not loaded.load(session, second)
    assert len(loaded) == 2


def test_a_failed_load_is_tried_again(session, opener, loaded):
    resource = model_of(session, b"m")
    opener.error = InvalidArgument("not a model")
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="not a model"):
            loaded.load(session, resource)
    opener.error = None
    assert loaded.load(session, resource) is loaded.get(session, resource)
    assert len(opener.opened) == 3


def test_what_a_session_has_not_loaded_it_cannot_use(session, loaded):
    resource = model_of(session, b"m")
    with pytest.raises(NotFound, match="call test_model_load first"):
        loaded.get(session, resource)
    loaded.load(session, resource)
    with Session() as other:
        resource.register(other)
        with pytest.raises(NotFound, match=f"session {other.id} has not loaded"):
            loaded.get(other, resource)


def test_a_resource_that_is_not_registered_is_not_loaded(session, opener, loaded):
    resource = model_of(session, b"m")
    loaded.load(session, resource)
    with Session() as other:
        for table in (loaded, Loaded(opener, "test_model_load")):
            with pytest.raises(NotFound, match="not registered with session"):
                table.load(other, resource)
    assert opener.opened == [resource]


def test_a_model_ends_with_its_last_session(session, loaded):
    resource = model_of(session, b"m")
    model = weakref.ref(loaded.load(session, resource))
    with Session() as other:
        resource.register(other)
        loaded.load(other, resource)
        assert loaded.unload(session, resource)
        assert not loaded.unload(session, resource)
        assert loaded.get(other, resource) is model()
        loaded.close_session(other)
    gc.collect()
    assert model() is None
    assert len(loaded) == 0


def test_a_session_that_ends_during_a_load_leaves_no_model(session):
    def close_and_open(resource: Resource) -> Model:
        other.close()
        return Model()

    loaded = Loaded(close_and_open, "test_model_load")
    other = Session()
    resource = model_of(other, b"m")
    with pytest.raises(NotFound, match="not registered"):
        loaded.load(other, resource)
    assert len(loaded) == 0


@pytest.fixture
def plugin(opener: Opener) -> ModelPlugin[Model]:
    plugin = ModelPlugin("test", PluginType.CPU, opener, engine="json")

    @plugin.kernel(Operations.torch_model_load)
    def load(session: Session, resource: Resource) -> None:
        plugin.models.load(session, resource)

    plugin.kernel(Operations.torch_model_unload)(plugin.unload)
    return plugin


@pytest.mark.parametrize("end", ["unload", "close", "unregister", "close resource", "cleanup"])
def test_every_end_unloads(end, session, plugin):
    current().add(plugin, "the test")
    with Session() as user:
        resource = model_of(user, b"m")
        user.torch_model_load(resource)
        assert len(plugin.models) == 1
        if end == "unload":
            user.torch_model_unload(resource)
            with pytest.raises(NotFound, match="test_model_load first"):
                user.torch_model_unload(resource)
        elif end == "close":
            user.close()
        elif end == "unregister":
            resource.unregister(user)
        elif end == "close resource":
            resource.close()
        else:
            vaccel.cleanup()
        assert len(plugin.models) == 0


def test_a_forked_child_begins_without_models(session, loaded):
    resource = model_of(session, b"m")
    loaded.load(session, resource)
    with loaded._changed:  # as another thread might, at the moment of the fork
        loaded.reset()
    assert len(loaded) == 0
    loaded.load(session, resource)


def test_a_missing_engine_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(PluginError, match=r"cannot be imported.*pip install 'vaccel\[tflite\]'"):
        import_engine("ai_edge_litert", "tflite")


@pytest.mark.parametrize(
    ("name", "module"), [("torch", "torch"), ("tflite", "ai_edge_litert"), ("opencv", "cv2")]
)
def test_a_plugin_without_its_engine_does_not_start(name, module, monkeypatch):
    for known in [m for m in sys.modules if m == module or m.startswith(f"{module}.")]:
        monkeypatch.setitem(sys.modules, known, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PluginError, match=rf"pip install 'vaccel\[{name}\]'"):
        vaccel.bootstrap(Config(plugins=f"vaccel.plugins.{name}"))
