"""Resources from folders, and names with folders in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaccel import Resource, ResourceType, Session
from vaccel.blob import Blob
from vaccel.error import InvalidArgument, ResourceExhausted
from vaccel.sources import folders
from vaccel.sources.names import check_name, check_names, flat, unique

MODEL = ResourceType.MODEL


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder such as TensorFlow writes."""
    folder = tmp_path / "saved_model"
    (folder / "variables" / "deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    (folder / "variables" / "deep" / ".hidden").write_bytes(b"")
    return folder


NAMES = ["saved_model.pb", "variables/deep/.hidden", "variables/variables.index"]


def names_of(resource: Resource) -> list[str]:
    return [blob.name for blob in resource.blobs()]


def test_a_folder_stands_for_all_files_below_it(model: Path) -> None:
    with Session() as session, Resource(model, MODEL) as resource:
        resource.register(session)
        assert names_of(resource) == NAMES
        assert resource.files() == [model / name for name in NAMES]
        assert [bytes(blob.data) for blob in resource.blobs()] == [b"graph", b"", b"index"]
    assert (model / "saved_model.pb").read_bytes() == b"graph"


def test_folders_and_files_may_be_mixed(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "saved_model.pb"
    other.write_bytes(b"another")
    with Resource([other, model, other], MODEL) as resource:
        assert names_of(resource) == [
            "saved_model.pb",
            "1.saved_model.pb",
            "variables/deep/.hidden",
            "variables/variables.index",
            "4.saved_model.pb",
        ]
        assert len(resource.files()) == 5


def test_what_is_neither_file_nor_folder_is_left_out(model: Path) -> None:
    os.mkfifo(model / "fifo")
    with Resource(model, MODEL) as resource:
        assert names_of(resource) == NAMES


def test_links_to_files_of_the_folder_are_files(model: Path) -> None:
    (model / "latest.index").symlink_to(Path("variables", "variables.index"))
    with Resource(model, MODEL) as resource:
        assert names_of(resource)[0] == "latest.index"
        assert bytes(resource.blobs()[0].data) == b"index"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("../secret", "expected links that stay in"),
        ("/etc/passwd", "expected links that stay in"),
        ("/", "expected links that stay in"),
        ("variables", "expected a link to a file"),
        (".", "expected a link to a file"),
        ("none", "found one to nowhere"),
        ("link", "found one to nowhere"),
    ],
)
def test_other_links_are_refused(model: Path, tmp_path: Path, target: str, reason: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (model / "link").symlink_to(target)
    with pytest.raises(InvalidArgument, match=f"{model / 'link'}: .*{reason}"):
        Resource(model, MODEL)


def test_a_folder_that_is_itself_a_link_is_followed(model: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(model)
    with Resource(tmp_path / "current", MODEL) as resource:
        assert names_of(resource) == NAMES


def test_a_folder_has_one_file_at_least_and_not_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(InvalidArgument, match="expected at least one file in it, found none"):
        Resource(tmp_path / "a", MODEL)
    monkeypatch.setattr(folders, "MAX_FILES", 2)
    for name in ("1", "2", "b/3"):
        (tmp_path / "a" / name).touch()
    with pytest.raises(ResourceExhausted, match="expected at most 2 files"):
        Resource(tmp_path / "a", MODEL)


def test_a_name_that_no_peer_could_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"/\xff")).touch()
    with pytest.raises(InvalidArgument, match="bytes of UTF-8"):
        Resource(tmp_path / "a", MODEL)


# -- names with folders ----------------------------------------------------------------------------


def test_pieces_in_memory_become_a_tree_of_files(model: Path) -> None:
    pieces = [Blob(name, memoryview(name.encode())) for name in NAMES]
    with Resource.from_blobs(pieces, MODEL) as resource:
        folder = resource.rundir()
        assert resource.files() == [folder / name for name in NAMES]
        assert [file.read_bytes() for file in resource.files()] == [n.encode() for n in NAMES]


@pytest.mark.parametrize("names", [["a", "a"], ["a", "a/b"], ["a/b", "a"], ["a/b/c", "a/b"]])
def test_names_that_cannot_be_in_one_folder_are_refused(names: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="expected distinct names"):
        Resource.from_blobs([Blob(name, memoryview(b"")) for name in names], MODEL)


good_names = st.lists(
    st.text(st.sampled_from("ab1."), min_size=1, max_size=3).filter(lambda part: part.strip(".")),
    min_size=1,
    max_size=3,
).map("/".join)


@given(st.lists(good_names, max_size=8))
def test_names_are_made_distinct_and_flat(names: list[str]) -> None:
    found = unique(names)
    check_names(found)
    assert [name.endswith(old) for name, old in zip(found, names, strict=True)] == [True] * len(
        names
    )
    assert all("/" not in name for name in flat(names))
    check_names(flat(names))


@given(st.text() | st.text(st.sampled_from("a./\0é\udcff")))
def test_a_name_that_is_taken_stays_below_its_folder(name: str) -> None:
    try:
        check_name(name)
    except InvalidArgument:
        return
    path = os.path.normpath(f"/rundir/resource/{name}")
    assert path == f"/rundir/resource/{name}"
    assert "\0" not in path
