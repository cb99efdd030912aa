"""Members of tar files, packed or not."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import tarfile
from collections.abc import Iterator
from typing import IO, Any

from vaccel.error import InvalidArgument, ResourceExhausted
from vaccel.sources.members import ArchiveLimits, Member

_BLOCK = 1 << 16
_MAX_HEADER = 1 << 20
_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_XZ_MEMORY = 256 << 20  # `xz -9` asks for 65 MiB


class _Info(tarfile.TarInfo):
    """A header; tarfile itself takes what such a one may ask for, and a torn end for the end."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: Any, errors: Any) -> _Info:
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0 or (info.type in _HEADERS and info.size > _MAX_HEADER):
            raise ResourceExhausted(
                f"expected headers of at most {_MAX_HEADER} bytes, found {info.size}"
            )
        return info

    @classmethod
    def fromtarfile(cls, tar: Any) -> _Info:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            tar.ended = True
            raise


class _Tar(tarfile.TarFile):
    tarinfo = _Info
    ended = False


def members(file: IO[bytes], packing: str, limits: ArchiveLimits) -> Iterator[Member]:
    """Those of the tar file; `packing`: tar, gz, bz2 or xz. Each is to be read before the next."""
    stream = _Unpacked(file, packing, limits)
    with _Tar.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
        for info in tar:
            yield _member(tar, info)
        if not tar.ended:
            raise InvalidArgument("it is cut off or damaged: expected a tar file's end mark")
    stream.finish()


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if info.isdir():
        return Member(info.name, folder=True)
    if info.issym() or info.islnk():
        return Member(info.name, link=info.linkname, hard=info.islnk())
    if info.issparse():
        return Member(info.name, special="a file with holes (tar without --sparse has none)")
    if not info.isreg():
        return Member(info.name, special=f"a device, FIFO or other special file ({info.type!r})")
    if info.size < 0:
        raise InvalidArgument(f"member {info.name!r:.300}: expected a size, found {info.size}")
    opened: functools.partial[Any] = functools.partial(tar.extractfile, info)
    return Member(info.name, info.size, opened)


class _Unpacked:
    """The tar file in the packed one, as far as the ratio allows."""

    def __init__(self, file: IO[bytes], packing: str, limits: ArchiveLimits) -> None:
        self._file = file
        self._limits = limits
        self._packed = packing != "tar"
        self._count = 0
        self._source: Any = _open(file, packing)

    def read(self, size: int) -> bytes:
        data: bytes = self._source.read(size)
        self._count += len(data)
        if self._packed:
            self._limits.check_ratio(self._file.tell(), self._count)
        return data

    def finish(self) -> None:
        """Go to the end, where checksums are."""
        while self._packed and self.read(_BLOCK):
            pass


def _open(file: IO[bytes], packing: str) -> Any:
    if packing == "gz":
        return gzip.GzipFile(fileobj=file)
    if packing == "bz2":
        return bz2.BZ2File(file)
    if packing == "xz":
        return _Xz(file)
    return file


class _Xz:
    """Unpacks with a limit for the memory that the file may ask for; LZMAFile has none."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder: lzma.LZMADecompressor | None = None
        self._rest = b""

    def read(self, size: int) -> bytes:
        while True:
            if self._decoder is None or self._decoder.eof:
                if not self._begin():
                    return b""
            elif self._decoder.needs_input and not self._rest:
                self._rest = self._file.read(io.DEFAULT_BUFFER_SIZE)
                if not self._rest:
                    raise EOFError("the end is missing")
            data, self._rest = self._decode(self._rest, size), b""
            if data:
                return data

    def _begin(self) -> bool:
        """Go to the first stream, or the next one, if there is one; NULs may fill up the last."""
        rest = self._decoder.unused_data if self._decoder else b""
        while not (rest := rest.lstrip(b"\0")):
            rest = self._file.read(io.DEFAULT_BUFFER_SIZE)
            if not rest:
                return False
        self._decoder, self._rest = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY), rest
        return True

    def _decode(self, data: bytes, size: int) -> bytes:
        if self._decoder is None:
            return b""
        try:
            return self._decoder.decompress(data, size)
        except lzma.LZMAError as exc:
            if "emory" in str(exc):
                raise ResourceExhausted(
                    f"expected packing that takes at most {_XZ_MEMORY} bytes of memory to unpack: "
                    "pack it anew with xz -9 or less"
                ) from None
            raise
