"""Members of zip files."""

from __future__ import annotations

import functools
import io
import stat
import zipfile
from collections.abc import Iterator
from typing import IO

from vaccel.error import InvalidArgument, ResourceExhausted
from vaccel.sources.members import ArchiveLimits, Member

_READ_LIMIT = 2 << 20
_MAX_LINK = 4096
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The others take memory without limit to unpack."""


class _Bounded(io.BufferedReader):
    """zipfile reads the whole list of members at once, in the size that the file claims."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _READ_LIMIT:
            size = _READ_LIMIT + 1
        data = super().read(size)
        if len(data) > _READ_LIMIT:
            raise ResourceExhausted(f"expected at most {_READ_LIMIT} bytes for the list of members")
        return data


def members(file: io.FileIO, size: int, limits: ArchiveLimits) -> Iterator[Member]:
    """Those of the zip file, which is `size` bytes long. Its claims are checked before the first
    member is given; zipfile reads no more of any than was claimed."""
    with _Bounded(file) as bounded, zipfile.ZipFile(bounded) as archive:
        infos = archive.infolist()
        for info in infos:
            _check(info, limits)
        if sum(info.compress_size for info in infos) > size:
            raise InvalidArgument("members overlap: it is damaged, or a bomb")
        for info in infos:
            yield _member(archive, info)


def _check(info: zipfile.ZipInfo, limits: ArchiveLimits) -> None:
    name = info.filename
    if info.flag_bits & _ENCRYPTED:
        raise InvalidArgument(f"member {name!r:.300} is encrypted: unpack it yourself")
    if info.compress_type not in _METHODS:
        raise InvalidArgument(
            f"member {name!r:.300}: expected it stored or deflated, found method "
            f"{info.compress_type}: pack it anew"
        )
    try:
        limits.check_ratio(info.compress_size, info.file_size)
    except ResourceExhausted as exc:
        raise ResourceExhausted(f"member {name!r:.300}: {exc.message}") from None


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.is_dir() or kind == stat.S_IFDIR:
        return Member(info.filename, folder=True)
    if kind == stat.S_IFLNK:
        if info.file_size > _MAX_LINK:
            raise InvalidArgument(f"member {info.filename!r:.300}: the link is too long")
        return Member(info.filename, link=archive.read(info).decode("utf-8", "surrogateescape"))
    if kind not in (0, stat.S_IFREG):
        return Member(info.filename, special="a device, FIFO or socket")
    opened: functools.partial[IO[bytes]] = functools.partial(archive.open, info)
    return Member(info.filename, info.file_size, opened)
