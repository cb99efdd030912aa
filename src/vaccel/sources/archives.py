"""Archives as resources: zip and tar files of any origin, unpacked into a folder of ours.

Nothing but regular files and folders is written, and nothing beyond the limits.
"""

from __future__ import annotations

import errno
import io
import lzma
import os
import posixpath
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from vaccel.error import (
    FFIError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    from_errno,
)
from vaccel.sources import tars, zips
from vaccel.sources.members import ArchiveLimits, Member
from vaccel.sources.names import Names, check_name
from vaccel.sources.trees import place

_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MAGICS = (
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),  # of an empty one
    (0, b"\x1f\x8b", "gz"),
    (0, b"BZh", "bz2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (257, b"ustar", "tar"),
)
# RuntimeError: zipfile's NotImplementedError, and the recursion of tarfile in a chain of headers.
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, ValueError, OverflowError, LookupError, RuntimeError),
)


def unpack(
    archive: Path, folder: Path, limits: ArchiveLimits | None = None
) -> list[tuple[str, Path]]:
    """Unpack into the empty `folder`; gives name and path of each file, sorted by name.

    Its kind is told by its content. InvalidArgument: it is damaged, or a member would leave the
    folder. ResourceExhausted: one of the limits, or the disk. On errors there may be files left.
    """
    try:
        with archive.open("rb", buffering=0) as file:
            limits = limits or ArchiveLimits()
            files = _Files(folder, limits)
            for member in _members(file, limits):
                files.add(member)
            return files.finish()
    except FFIError as exc:
        raise from_errno(exc.code, f"archive {archive}: {exc.message}") from None
    except OSError as exc:
        raise _of_system(archive, folder, exc) from None
    except _DAMAGED as exc:
        reason = str(exc) or type(exc).__name__
        raise InvalidArgument(
            f"archive {archive}: damaged, or not what it seems: {reason}"
        ) from exc


def _of_system(archive: Path, folder: Path, exc: OSError) -> FFIError:
    if exc.errno in _FULL:
        return ResourceExhausted(
            f"archive {archive}: the disk of {folder} is full; set TMPDIR to a folder with more "
            "room"
        )
    if exc.errno == errno.ENOENT:
        return NotFound(f"archive {archive}: there is no such file")
    if exc.errno in (None, errno.EINVAL):  # gzip's and bz2's; a place before a file's beginning
        return InvalidArgument(f"archive {archive}: damaged: {exc}")
    return PermissionDenied(f"archive {archive}: cannot be read: {exc.strerror}")


def _members(file: io.FileIO, limits: ArchiveLimits) -> Iterator[Member]:
    head = file.read(512)
    kinds = [kind for at, magic, kind in _MAGICS if head[at : at + len(magic)] == magic]
    if not kinds:
        raise InvalidArgument(
            "expected a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file; what a resource shall "
            "hold as it is goes into Resource(path, type)"
        )
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    if kinds[0] == "zip":
        return zips.members(file, size, limits)
    return tars.members(file, kinds[0], limits)


class _Files:
    """What is unpacked so far."""

    def __init__(self, folder: Path, limits: ArchiveLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._names = Names()
        self._count = 0
        self._size = 0
        self._files: dict[str, tuple[Path, int]] = {}
        self._links: dict[str, str] = {}

    def add(self, member: Member) -> None:
        self._count += 1
        if self._count > self._limits.members:
            raise ResourceExhausted(
                f"expected at most {self._limits.members} members (ArchiveLimits.members)"
            )
        try:
            self._add(member, _clean(member.name))
        except (InvalidArgument, ResourceExhausted) as exc:
            raise type(exc)(f"member {member.name!r:.300}: {exc.message}") from None

    def _add(self, member: Member, name: str) -> None:
        if member.special:
            raise InvalidArgument(f"expected a file, folder or link, found {member.special}")
        if member.folder:
            if name:
                check_name(name)
            return
        self._names.add(name)
        if member.link is not None:
            self._links[name] = _target(name, member.link, member.hard)
        elif member.open is not None:
            self._take(member.size)
            with member.open() as source:
                self._files[name] = self._write(name, source, member.size), member.size

    def _take(self, size: int) -> None:
        self._size += size
        if self._size > self._limits.size:
            raise ResourceExhausted(
                f"expected at most {self._limits.size} bytes in all, unpacked, found {self._size} "
                "up to here (ArchiveLimits.size)"
            )

    def _write(self, name: str, source: IO[bytes], size: int) -> Path:
        path = place(self._folder, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", 0) as file:
            while data := source.read(min(_CHUNK, size + 1)):
                size -= len(data)
                if size < 0:
                    break
                file.write(data)
        if size:
            raise InvalidArgument("expected as many bytes as the archive says; it is damaged")
        return path

    def finish(self) -> list[tuple[str, Path]]:
        """The files, links among them: a link is one more name of its file, so that nothing here
        leads anywhere."""
        found = {name: path for name, (path, _) in self._files.items()}
        for name, target in self._links.items():
            path, size = self._resolve(name, target)
            self._take(size)  # as a resource it is a file like any other
            found[name] = place(self._folder, name)
            _link(path, found[name])
        if not found:
            raise InvalidArgument("expected at least one file in it, found none")
        return sorted(found.items())

    def _resolve(self, name: str, target: str) -> tuple[Path, int]:
        seen = {name}
        while target in self._links and target not in seen:
            seen.add(target)
            target = self._links[target]
        if target not in self._files:
            raise InvalidArgument(
                f"member {name!r:.300}: expected a link to a file of the archive, found one to "
                f"{target!r:.300}"
            )
        return self._files[target]


def _link(path: Path, name: Path) -> None:
    try:
        os.link(path, name)
    except PermissionError:  # a file system without links
        shutil.copyfile(path, name)


def _clean(name: str) -> str:
    """The name without what means nothing; InvalidArgument if it leads out of its folder."""
    if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name):
        raise InvalidArgument("expected a path below the archive's own folder, with '/' only")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidArgument("expected a path below the archive's own folder, found '..' in it")
    return "/".join(parts)


def _target(name: str, link: str, hard: bool) -> str:
    target = link if hard else posixpath.join(posixpath.dirname(name), link)
    target = posixpath.normpath(target)
    if target.startswith(("/", "../")) or target == ".." or "\\" in target:
        raise InvalidArgument(
            f"expected a link to a file of the archive, found one to {link!r:.300}"
        )
    return target
