"""Resources: content, sessions, files, and the end of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vaccel
from vaccel import Config, Resource, ResourceType, Session, runtime
from vaccel.blob import Blob, BlobType
from vaccel.error import ConnectionLost, InvalidArgument, NotFound, SessionClosed
from vaccel.plugin import Plugin

DATA, LIB, MODEL = ResourceType.DATA, ResourceType.LIB, ResourceType.MODEL


@pytest.fixture(autouse=True)
def started() -> None:
    vaccel.bootstrap(Config(plugins="cpu"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


def contents(resource: Resource) -> list[bytes]:
    return [bytes(blob.data) for blob in resource.blobs()]


# -- content ---------------------------------------------------------------------------------------


def test_files_stay_where_they_are(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "empty"
    other.touch()
    one: Any
    for one in (path, str(path), [path], (str(path),)):
        resource = Resource(one, MODEL)
        assert (resource.type, resource.files()) == (MODEL, [path])
        assert contents(resource) == [b"weights"]
        assert [(b.name, b.type) for b in resource.blobs()] == [("model.bin", BlobType.FILE)]
    assert contents(Resource([path, other], MODEL)) == [b"weights", b""]


def test_memory_is_not_copied() -> None:
    data = bytearray(b"before")
    resource = Resource.from_buffer(data, DATA)
    data[:] = b"after!"
    assert contents(resource) == [b"after!"]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.arange(3, dtype=">f8"),
        np.empty((0, 3), np.float32),
        np.array(1.5),
        np.zeros(2, "f4,i2"),
    ],
    ids=str,
)
def test_any_contiguous_array_is_data(array: np.ndarray[Any, Any]) -> None:
    resource = Resource.from_numpy(array)
    assert resource.type is DATA
    assert contents(resource) == [array.tobytes()]
    assert contents(Resource.from_buffer(array, LIB)) == [array.tobytes()]


BAD: list[tuple[Any, str]] = [
    (lambda: Resource([], DATA), "paths: expected one path or more, found []"),
    (lambda: Resource("", DATA), "paths: expected one path or more, found ''"),
    (lambda: Resource(["a", ""], DATA), "paths: expected one path"),
    (lambda: Resource(3, DATA), "paths: expected one path or more, found 3"),  # type: ignore[arg-type]
    (lambda: Resource([3], DATA), "paths: expected one path"),  # type: ignore[list-item]
    (lambda: Resource("a", 3), "type: expected LIB (0), DATA (1) or MODEL (2), found 3"),
    (lambda: Resource.from_buffer("text", DATA), "data: expected bytes or an array, found str"),
    (lambda: Resource.from_buffer(np.ones((4, 4))[:, ::2], DATA), "contiguous memory"),
    (lambda: Resource.from_numpy(np.ones(4)[::2]), "contiguous memory, found strides (16,)"),
    (lambda: Resource.from_numpy([1, 2]), "array: expected an array of numbers, found list"),
    (lambda: Resource.from_numpy(np.array([None])), "expected an array of numbers, found object"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_content_is_named(make: Any, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        make()
    assert caught.value.message.startswith("Resource: ")
    assert message in caught.value.message


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/etc/passwd", "../x", "a/../x", "a//b", "a/", "a\0", "ä" * 128, "\udcff"],
)
def test_a_name_that_would_leave_the_rundir_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="expected a file name of 1 to 255 bytes"):
        Resource.from_buffer(b"", DATA, name=name)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    with Session() as session:
        resource = Resource(missing, DATA)
        with pytest.raises(NotFound, match=f"resource {resource.id}: there is no file {missing}"):
            resource.register(session)
        assert not session.has_resource(resource)
        with pytest.raises(NotFound):
            resource.blobs()


# -- sessions --------------------------------------------------------------------------------------


def test_a_resource_serves_several_sessions() -> None:
    resource = Resource.from_buffer(b"data", DATA)
    with Session() as one, Session() as two, Session() as three:
        resource.register(one)
        resource.register(two)
        resource.register(two)
        assert [s.has_resource(resource) for s in (one, two, three)] == [True, True, False]
        assert one.resources == two.resources == [resource]
        resource.unregister(one)
        assert [s.has_resource(resource) for s in (one, two, three)] == [False, True, False]
    assert not two.has_resource(resource)


def test_what_is_not_registered_is_not_found() -> None:
    with Session() as session, Resource.from_buffer(b"", DATA) as resource:
        for use in (resource.unregister, resource.sync):
            with pytest.raises(NotFound, match="resource 1 is not registered with session 1"):
                use(session)


def test_numbers_begin_at_one_and_grow_by_one() -> None:
    assert [Resource.from_buffer(b"", DATA).id for _ in range(3)] == [1, 2, 3]


def test_a_refused_registration_leaves_no_trace() -> None:
    class Refusing(Plugin):
        def register(self, session: Session, resource: Resource) -> None:
            raise NotFound("not here")

    plugin = Refusing("refusing")
    plugin.kernel(Session.noop)(lambda session: None)
    vaccel.bootstrap(Config(plugins=""))
    runtime.current().add(plugin, "the test")
    with Session() as session, Resource.from_buffer(b"", DATA) as resource:
        session.noop()
        with pytest.raises(NotFound, match="not here"):
            resource.register(session)
        assert not session.has_resource(resource)
        assert session.resources == []


def test_a_plugin_that_fails_to_let_go_keeps_the_resource_in_no_session() -> None:
    class Clinging(Plugin):
        def unregister(self, session: Session, resource: Resource) -> None:
            raise ConnectionLost("not there any more")

    plugin = Clinging("clinging")
    plugin.kernel(Session.noop)(lambda session: None)
    vaccel.bootstrap(Config(plugins=""))
    runtime.current().add(plugin, "the test")
    with Session() as first, Session() as second:
        resource = Resource.from_buffer(b"", DATA)
        for session in (first, second):
            session.noop()
            resource.register(session)
        with pytest.raises(ConnectionLost):
            resource.close()
        assert not first.has_resource(resource)
        assert not second.has_resource(resource)


# -- files -----------------------------------------------------------------------------------------


def test_memory_becomes_files_where_a_plugin_asks() -> None:
    blobs = [Blob("one", memoryview(b"1")), Blob("two", memoryview(b"22"))]
    resource = Resource.from_blobs(blobs, MODEL)
    with Session() as session:
        resource.register(session)
        assert list(runtime.current().rundir.path.glob("resource*")) == []
        files = resource.files()
        assert resource.files() == files
        assert [(file.name, file.read_bytes()) for file in files] == [("one", b"1"), ("two", b"22")]
        assert {file.parent for file in files} == {resource.rundir()}


def test_files_go_with_the_last_session() -> None:
    resource = Resource.from_buffer(b"data", DATA)
    with Session() as one:
        with Session() as two:
            resource.register(one)
            resource.register(two)
            (file,) = resource.files()
        assert file.exists()
    assert not file.parent.exists()
    with Session() as again:
        resource.register(again)
        assert resource.files()[0].read_bytes() == b"data"


def test_close_ends_a_resource_everywhere() -> None:
    with Session() as session:
        with Resource.from_buffer(b"data", DATA) as resource:
            resource.register(session)
            (file,) = resource.files()
        assert not file.parent.exists()
        assert not session.has_resource(resource)
        resource.close()
        for use in (lambda: resource.register(session), resource.files, resource.rundir):
            with pytest.raises(SessionClosed, match="resource 1 is closed"):
                use()


def test_the_files_of_paths_are_not_ours_to_remove(path: Path) -> None:
    with Session() as session, Resource(path, MODEL) as resource:
        resource.register(session)
    assert path.read_bytes() == b"weights"


# -- sync ------------------------------------------------------------------------------------------


def test_an_update_goes_where_the_content_is(path: Path) -> None:
    writable, fixed = bytearray(b"abc"), b"abc"
    in_place = Resource.from_buffer(writable, DATA)
    in_place.update([b"xyz"])
    assert writable == b"xyz"
    in_place.update([b"longer"])
    assert contents(in_place) == [b"longer"]
    replaced = Resource.from_buffer(fixed, DATA)
    replaced.update([b"xyz"])
    assert (contents(replaced), fixed) == ([b"xyz"], b"abc")
    Resource(path, DATA).update([b"new"])
    assert path.read_bytes() == b"new"
    with pytest.raises(InvalidArgument, match="expected 1 blobs, found 2"):
        replaced.update([b"", b""])
