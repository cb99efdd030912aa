"""Archives as nobody should make them."""

from __future__ import annotations

import io
import stat
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

PACKINGS = ["tar", "tar.gz", "tar.bz2", "tar.xz"]


def tar_of(path: Path, *members: tuple[str, bytes | dict[str, Any]]) -> Path:
    """Names, each with a content or with fields of the header; packed as `path` is called."""
    packing = path.suffix[1:]
    mode = "w" if packing == "tar" else f"w:{packing}"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, what in members:
            info = tarfile.TarInfo(name)
            content = b""
            if isinstance(what, bytes):
                info.size, content = len(what), what
            else:
                for field, value in what.items():
                    setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content))
    return path


def zip_of(path: Path, *members: tuple[str, bytes | dict[str, Any]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two members of one name
        for name, what in members:
            info = zipfile.ZipInfo("x")
            info.filename = name  # as it is: the constructor cuts at NUL
            info.compress_type = zipfile.ZIP_DEFLATED
            content = what if isinstance(what, bytes) else b""
            if isinstance(what, dict):
                info.external_attr = what["mode"] << 16
                content = what.get("content", b"")
            archive.writestr(info, content)
    return path


def symlink_in_zip(target: str) -> dict[str, Any]:
    return {"mode": stat.S_IFLNK | 0o777, "content": target.encode()}


def symlink(target: str) -> dict[str, Any]:
    return {"type": tarfile.SYMTYPE, "linkname": target}


def hard_link(target: str) -> dict[str, Any]:
    return {"type": tarfile.LNKTYPE, "linkname": target}
