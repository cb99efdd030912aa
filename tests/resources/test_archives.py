"""Resources from archives: what is unpacked, and what is not."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import vaccel
from tests.resources.conftest import files_below
from tests.resources.hostile import (
    PACKINGS,
    hard_link,
    symlink,
    symlink_in_zip,
    tar_of,
    zip_of,
)
from tests.resources.server import File, WebServer
from vaccel import Resource, ResourceType, Session
from vaccel.error import FFIError, InvalidArgument, NotFound, PermissionDenied, ResourceExhausted
from vaccel.sources import tars
from vaccel.sources.archives import unpack
from vaccel.sources.members import ArchiveLimits

MODEL, LIB = ResourceType.MODEL, ResourceType.LIB
FILES: tuple[tuple[str, bytes], ...] = (
    ("model/weights.bin", bytes(range(256)) * 1000),
    ("model/labels.txt", b"cat\ndog\n"),
    ("README", b""),
)


def packed(path: Path, *members: tuple[str, Any]) -> Path:
    return (zip_of if path.suffix == ".zip" else tar_of)(path, *members)


def refused(archive: Path, disk: Path, error: type[FFIError], limits: Any = None) -> str:
    """The message; nothing is left of what was unpacked."""
    with pytest.raises(error) as caught:
        Resource.from_archive(archive, MODEL, limits=limits)
    assert files_below(disk) == []
    assert caught.value.message.startswith(f"archive {archive}: ")
    return caught.value.message


# -- what is unpacked ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", *PACKINGS])
def test_an_archive_becomes_its_files(tmp_path: Path, disk: Path, kind: str) -> None:
    archive = packed(tmp_path / f"m.{kind}", *FILES)
    with Session() as session:
        resource = Resource.from_archive(archive, MODEL)
        resource.register(session)
        assert [(b.name, bytes(b.data)) for b in resource.blobs()] == sorted(FILES)
        folder = resource.rundir()
        assert folder.is_relative_to(disk)
        assert [str(f.relative_to(folder)) for f in resource.files()] == sorted(n for n, _ in FILES)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in resource.files()}
        assert modes == {0o600}
        assert stat.S_IMODE((folder / "model").stat().st_mode) == 0o700
    assert not folder.exists()


def test_its_files_come_back_with_the_next_session(tmp_path: Path, disk: Path) -> None:
    resource = Resource.from_archive(zip_of(tmp_path / "m.zip", *FILES), MODEL)
    for _ in range(2):
        with Session() as session:
            resource.register(session)
            assert [file.read_bytes() for file in resource.files()] == [
                content for _, content in sorted(FILES)
            ]
        assert files_below(disk) == []
    resource.close()
    assert files_below(disk) == []


def test_nothing_is_left_on_disk_at_the_end(tmp_path: Path, disk: Path) -> None:
    Resource.from_archive(zip_of(tmp_path / "m.zip", *FILES), MODEL)
    assert files_below(disk) != []
    vaccel.cleanup()
    assert list(disk.iterdir()) == []


def test_the_kind_is_told_by_the_content(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "m.tar.gz", *FILES).rename(tmp_path / "download")
    with Resource.from_archive(str(archive), MODEL) as resource:
        assert len(resource.files()) == 3


def test_an_archive_may_be_at_a_url(web: WebServer, tmp_path: Path) -> None:
    web.routes["/m.tar.xz"] = File(tar_of(tmp_path / "m.tar.xz", *FILES).read_bytes())
    with Resource.from_archive(web.url("/m.tar.xz"), MODEL) as resource:
        assert len(resource.files()) == 3


def test_what_writes_to_a_resource_leaves_the_archive_as_it_is(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "m.zip", *FILES)
    before = archive.read_bytes()
    with Resource.from_archive(archive, ResourceType.DATA) as resource:
        resource.update([b"new", b"", b"content"])
        assert [file.read_bytes() for file in resource.files()] == [b"new", b"", b"content"]
    assert archive.read_bytes() == before


def test_names_are_cleaned(tmp_path: Path) -> None:
    archive = tar_of(
        tmp_path / "m.tar", ("./", {"type": tarfile.DIRTYPE}), ("./a/./b//c", b"1"), (".d", b"2")
    )
    with Resource.from_archive(archive, MODEL) as resource:
        assert [blob.name for blob in resource.blobs()] == [".d", "a/b/c"]


def test_links_are_more_names_of_a_file(tmp_path: Path) -> None:
    members: list[tuple[str, Any]] = [
        ("lib/libx.so", symlink("libx.so.1")),
        ("lib/libx.so.1", symlink("./libx.so.1.2")),
        ("lib/libx.so.1.2", b"code"),
        ("top.so", symlink("lib/../lib/libx.so")),
        ("hard", hard_link("lib/libx.so.1.2")),
    ]
    with Resource.from_archive(tar_of(tmp_path / "m.tar", *members), LIB) as resource:
        assert {blob.name: bytes(blob.data) for blob in resource.blobs()} == dict.fromkeys(
            (name for name, _ in members), b"code"
        )
        assert not any(path.is_symlink() for path in resource.files())
    archive = zip_of(tmp_path / "m.zip", ("a/x", b"1"), ("y", symlink_in_zip("a/x")))
    with Resource.from_archive(archive, LIB) as resource:
        assert [bytes(blob.data) for blob in resource.blobs()] == [b"1", b"1"]


def test_an_xz_file_of_several_streams_is_read_to_its_end(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "m.tar", *FILES).read_bytes()
    packings: dict[str, Callable[[bytes], bytes]] = {
        "m.tar.xz": lzma.compress,
        "m.tar.gz": gzip.compress,
    }
    for name, pack in packings.items():
        padding = bytes(8) if name.endswith("xz") else b""
        (tmp_path / name).write_bytes(pack(tar[:5000]) + padding + pack(tar[5000:]) + padding)
        with Resource.from_archive(tmp_path / name, MODEL) as resource:
            assert len(resource.files()) == 3


# -- members that would leave their folder ---------------------------------------------------------

OUTSIDE = [
    "../evil",
    "a/../../evil",
    "a/../evil",
    "..",
    "a/..",
    "/evil",
    "//evil",
    "C:/evil",
    "c:evil",
    "..\\evil",
    "a\\b",
    "\\\\host\\evil",
]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_member_may_not_leave_its_folder(
    tmp_path: Path, disk: Path, name: str, kind: str
) -> None:
    archive = packed(tmp_path / f"m.{kind}", ("good", b"1"), (name, b"evil"))
    message = refused(archive, disk, InvalidArgument)
    assert f"member {name!r}: expected a path below the archive's own folder" in message
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("l", symlink("/etc/passwd"))], "found one to '/etc/passwd'"),
        ([("l", symlink("../x"))], "found one to '../x'"),
        ([("a/l", symlink("../../x"))], "found one to '../../x'"),
        ([("l", symlink(".."))], "found one to '..'"),
        ([("l", hard_link("/etc/passwd"))], "found one to '/etc/passwd'"),
        ([("l", hard_link("../x"))], "found one to '../x'"),
        ([("l", symlink("none"))], "found one to 'none'"),
        ([("l", symlink(""))], "found one to"),
        ([("a", symlink("b")), ("b", symlink("a"))], "found one to"),
        ([("a", symlink("a"))], "found one to 'a'"),
        ([("d", {"type": tarfile.DIRTYPE}), ("l", symlink("d"))], "found one to 'd'"),
        ([("l", symlink("d")), ("l/x", b"1"), ("d/x", b"2")], "none of which is also a folder"),
        ([("l", symlink("/tmp")), ("l/x", b"1")], "found one to '/tmp'"),
        ([("x", b"1"), ("x", b"2")], "found 'x' twice"),
        ([("x", b"1"), ("./x", b"2")], "found 'x' twice"),
        ([("x", b"1"), ("x/y", b"2")], "none of which is also a folder"),
        ([("x/y", b"1"), ("x", b"2")], "none of which is also a folder"),
        ([("d", {"type": tarfile.CHRTYPE, "devmajor": 1})], "found a device"),
        ([("d", {"type": tarfile.BLKTYPE})], "found a device"),
        ([("d", {"type": tarfile.FIFOTYPE})], "found a device, FIFO"),
        ([("d", {"type": b"Z"})], "special file (b'Z')"),
        ([("x" * 256, b"1")], "expected a file name of 1 to 255 bytes"),
        ([("d/" * 600 + "x", b"1")], "1024 bytes together"),
        ([("./", b"")], "expected"),
        ([("d", {"type": tarfile.DIRTYPE})], "expected at least one file"),
    ],
)
def test_a_tar_file_holds_files_and_links_to_them(
    tmp_path: Path, disk: Path, members: list[tuple[str, Any]], reason: str
) -> None:
    assert reason in refused(tar_of(tmp_path / "m.tar", *members), disk, InvalidArgument)


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("l", symlink_in_zip("/etc/passwd")), "found one to '/etc/passwd'"),
        (("l", symlink_in_zip("../x")), "found one to '../x'"),
        (("l", symlink_in_zip("x" * 5000)), "the link is too long"),
        (("f", {"mode": stat.S_IFIFO | 0o600}), "found a device, FIFO or socket"),
        (("f", {"mode": stat.S_IFCHR | 0o600}), "found a device, FIFO or socket"),
        (("d/", {"mode": stat.S_IFDIR | 0o700}), "expected at least one file"),
    ],
)
def test_a_zip_file_holds_files_and_links_to_them(
    tmp_path: Path, disk: Path, member: tuple[str, Any], reason: str
) -> None:
    assert reason in refused(zip_of(tmp_path / "m.zip", member), disk, InvalidArgument)


@pytest.mark.parametrize("pack", [tar_of, zip_of], ids=["tar", "zip"])
@given(names=st.lists(st.text(st.sampled_from("ab./\\:\0é\udc80")), min_size=1, max_size=4))
@example(names=["a/b", "a"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_names_nothing_is_outside(
    tmp_path_factory: pytest.TempPathFactory,
    pack: Callable[..., Path],
    names: list[str],
) -> None:
    base = tmp_path_factory.mktemp("names")
    try:
        archive = pack(
            base / "m.tar" if pack is tar_of else base / "m.zip", *((n, b"x") for n in names)
        )
    except (ValueError, OSError):  # what cannot be written at all
        return
    folder = base / "in" / "here"
    folder.mkdir(parents=True)
    with contextlib.suppress(InvalidArgument):
        found = unpack(archive, folder)
        assert {path for _, path in found} == {p for p in folder.rglob("*") if p.is_file()}
        assert all(folder / name == path for name, path in found)
    assert files_below(base / "in") == [f"here/{name}" for name in files_below(folder)]
    assert sorted(path.name for path in base.iterdir()) == ["in", archive.name]


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_the_number_of_members_is_limited(tmp_path: Path, disk: Path, kind: str) -> None:
    archive = packed(tmp_path / f"m.{kind}", *((f"f{i}", b"") for i in range(11)))
    message = refused(archive, disk, ResourceExhausted, ArchiveLimits(members=10))
    assert "expected at most 10 members (ArchiveLimits.members)" in message
    with Resource.from_archive(archive, MODEL, limits=ArchiveLimits(members=11)) as resource:
        assert len(resource.files()) == 11


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.xz"])
def test_the_size_is_limited_before_it_is_written(
    tmp_path: Path, disk: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = packed(tmp_path / f"m.{kind}", ("a", b"x" * 600), ("b", b"x" * 600))
    written = spy_on_files(monkeypatch)
    message = refused(archive, disk, ResourceExhausted, ArchiveLimits(size=1000))
    assert "expected at most 1000 bytes in all, unpacked, found 1200 up to here" in message
    assert sum(written) <= 600


def test_links_count_as_what_they_are_in_a_resource(tmp_path: Path, disk: Path) -> None:
    links = [(f"l{i}", hard_link("a")) for i in range(10)]
    archive = tar_of(tmp_path / "m.tar", ("a", b"x" * 600), *links)
    message = refused(archive, disk, ResourceExhausted, ArchiveLimits(size=1000))
    assert "at most 1000 bytes in all" in message


def spy_on_files(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what is written to files for members."""
    written: list[int] = []

    class Spy(io.FileIO):
        def write(self, data: Any) -> int:
            written.append(len(data))
            return super().write(data)

    def opened(fd: int, mode: str, buffering: int) -> io.FileIO:
        return Spy(fd, mode)

    monkeypatch.setattr("vaccel.sources.archives.open", opened, raising=False)
    return written


GIGABYTES = 4 << 30


def zeros_deflated(size: int) -> bytes:
    """A raw deflate stream of `size` zeros, made without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (size >> 20) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()


def bombed_zip(path: Path, claimed: int, packed_size: int | None = None) -> Path:
    """A zip file of one member of 64 MiB, which says it has `claimed` bytes in `packed_size`."""
    data = zeros_deflated(64 << 20)
    empty = zip_of(path, ("bomb", b"")).read_bytes()
    local = bytearray(empty[: 30 + len("bomb")])
    central = bytearray(empty[empty.index(b"PK\x01\x02") :])
    sizes = struct.pack("<II", len(data) if packed_size is None else packed_size, claimed)
    local[18:26] = central[20:28] = sizes
    place = central.index(b"PK\x05\x06") + 16
    central[place : place + 4] = struct.pack("<I", len(local) + len(data))
    path.write_bytes(local + data + central)
    return path


def test_a_zip_bomb_is_refused_before_anything_is_written(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = spy_on_files(monkeypatch)
    archive = bombed_zip(tmp_path / "m.zip", GIGABYTES - 1)
    assert archive.stat().st_size < 1 << 20
    message = refused(archive, disk, ResourceExhausted)
    assert "member 'bomb': expected at most 200 bytes for each packed one" in message
    assert "ArchiveLimits.ratio" in message
    assert written == []


def test_a_zip_bomb_that_tells_less_gives_no_more_than_that(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = spy_on_files(monkeypatch)
    archive = bombed_zip(tmp_path / "m.zip", 1000)
    assert "damaged" in refused(archive, disk, InvalidArgument)
    assert sum(written) <= 1000


def test_members_that_share_their_bytes_are_refused(tmp_path: Path, disk: Path) -> None:
    archive = bombed_zip(tmp_path / "m.zip", GIGABYTES - 1, packed_size=GIGABYTES - 1)
    assert "members overlap" in refused(archive, disk, InvalidArgument)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_tar_bomb_stops_at_the_ratio(
    tmp_path: Path, disk: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = tarfile.TarInfo("bomb")
    header.size = GIGABYTES
    archive = tmp_path / f"m.tar.{kind}"
    open_packed: Any = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}[kind]
    with open_packed(archive, "wb") as file:
        file.write(header.tobuf())
        for _ in range(64):
            file.write(bytes(1 << 20))
    written = spy_on_files(monkeypatch)
    message = refused(archive, disk, ResourceExhausted)
    assert "member 'bomb': expected at most 200 bytes for each packed one" in message
    assert sum(written) <= (16 << 20) + 200 * archive.stat().st_size


def test_a_header_as_large_as_memory_is_not_read(tmp_path: Path, disk: Path) -> None:
    for type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        header = tarfile.TarInfo("x")
        header.type, header.size = type, GIGABYTES
        archive = tmp_path / "m.tar"
        archive.write_bytes(header.tobuf() + bytes(10240))
        assert "expected headers of at most 1048576" in refused(archive, disk, ResourceExhausted)


def test_a_list_of_members_as_large_as_memory_is_not_read(tmp_path: Path, disk: Path) -> None:
    archive = tmp_path / "m.zip"
    zip_of(archive, *((f"{i:05}" + "x" * 200, b"") for i in range(10_000)))
    message = refused(archive, disk, ResourceExhausted)
    assert "expected at most 2097152 bytes for the list of members" in message


def test_an_xz_file_gets_a_limit_for_its_memory(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tars, "_XZ_MEMORY", 1 << 20)
    archive = tar_of(tmp_path / "m.tar.xz", *FILES)
    message = refused(archive, disk, ResourceExhausted)
    assert "expected packing that takes at most 1048576 bytes of memory" in message


def test_files_with_holes_are_refused(tmp_path: Path, disk: Path) -> None:
    archive = tar_of(tmp_path / "m.tar", ("x", {"type": tarfile.GNUTYPE_SPARSE}))
    assert "a file with holes" in refused(archive, disk, InvalidArgument)


# -- what is no archive ----------------------------------------------------------------------------


def test_what_is_no_archive_is_named(tmp_path: Path, disk: Path) -> None:
    other = tmp_path / "model.onnx"
    other.write_bytes(b"\x08\x07")
    assert "expected a .zip, .tar, .tar.gz, .tar.bz2 or" in refused(other, disk, InvalidArgument)
    assert "there is no such file" in refused(tmp_path / "none", disk, NotFound)
    assert "cannot be read: Is a directory" in refused(tmp_path, disk, PermissionDenied)


@pytest.mark.parametrize("kind", ["zip", *PACKINGS])
def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path, disk: Path, kind: str) -> None:
    content = packed(tmp_path / f"whole.{kind}", *FILES).read_bytes().rstrip(b"\0")
    archive = tmp_path / f"m.{kind}"
    for size in {len(content) * i // 16 for i in range(1, 16)} | {len(content) - 1, 512, 1024}:
        if size < len(content):
            archive.write_bytes(content[:size])
            refused(archive, disk, InvalidArgument)


@pytest.mark.parametrize("kind", ["zip", *PACKINGS])
@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_archive_gives_files_or_one_of_our_errors(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    base = tmp_path_factory.mktemp("damage")
    members: list[tuple[str, Any]] = [("a/b", b"x" * 700), ("c" * 150, b"y")]
    if kind != "zip":
        members.append(("l", symlink("a/b")))
    archive = packed(base / f"m.{kind}", *members)
    content = bytearray(archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    archive.write_bytes(content)
    folder = base / "in"
    folder.mkdir()
    with contextlib.suppress(InvalidArgument, ResourceExhausted):
        unpack(archive, folder)
    assert sorted(path.name for path in base.iterdir()) == ["in", archive.name]


def test_a_zip_file_names_each_member_once(tmp_path: Path, disk: Path) -> None:
    for names in (("x", "x"), ("x", "./x"), ("x", "x/y")):
        archive = zip_of(tmp_path / "m.zip", *((name, b"") for name in names))
        assert "expected distinct names" in refused(archive, disk, InvalidArgument)


def test_encrypted_and_unusual_zip_files_are_named(tmp_path: Path, disk: Path) -> None:
    archive = zip_of(tmp_path / "m.zip", ("x", b"1"))
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    assert "member 'x' is encrypted" in refused(archive, disk, InvalidArgument)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as other:
        other.writestr("x", b"1")
    assert "expected it stored or deflated, found method 14" in refused(
        archive, disk, InvalidArgument
    )


def test_a_chain_of_headers_does_not_end_the_process(tmp_path: Path, disk: Path) -> None:
    record = b"13 comment=x\n"
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(record)
    chain = (header.tobuf() + record.ljust(512, b"\0")) * 3000
    archive = tmp_path / "m.tar"
    archive.write_bytes(chain)
    assert "damaged" in refused(archive, disk, InvalidArgument)


def test_a_full_disk_is_named(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(
        "vaccel.sources.archives.open", lambda fd, mode, _: Full(fd, mode), raising=False
    )
    archive = zip_of(tmp_path / "m.zip", ("x", b"1"))
    assert "is full; set TMPDIR" in refused(archive, disk, ResourceExhausted)
