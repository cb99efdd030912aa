"""The cache of what URLs gave.

`contents/SHA256/NAME` is a file. `urls/KEY.json` tells what a URL gave last, and is locked while
somebody asks for it; `urls/KEY.part` is what has come of a transfer that broke off. All of it may
be removed at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True)
class Kept:
    """`sha256`, `etag`, `modified`: of the last answer, for the next question. `part`: the ETag of
    what broke off."""

    sha256: str = ""
    etag: str = ""
    modified: str = ""
    part: str = ""


class Entry:
    """What is known of one URL, and ours alone for now."""

    def __init__(self, file: IO[str], part: Path) -> None:
        self._file = file
        self.part = part
        self.kept = Kept()
        with contextlib.suppress(ValueError, TypeError):  # it was killed while it wrote this
            found = Kept(**json.load(file))
            if all(isinstance(value, str) for value in vars(found).values()):
                self.kept = found

    def save(self, kept: Kept) -> None:
        self.kept = kept
        self._file.seek(0)
        self._file.truncate()
        json.dump(asdict(kept), self._file)
        self._file.flush()

    def open_part(self) -> IO[bytes]:
        return open(os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")


class Store:
    """Of this user; processes and threads share it."""

    def __init__(self, folder: Path) -> None:
        self._contents = folder / "contents"
        self._urls = folder / "urls"
        for path in (self._contents, self._urls):
            path.mkdir(mode=0o700, exist_ok=True)

    @contextlib.contextmanager
    def entry(self, url: str, wait: Callable[[], None]) -> Iterator[Entry]:
        """`wait` is called between looks whether another one has finished; its errors end that."""
        key = hashlib.sha256(url.encode()).hexdigest()[:32]
        fd = os.open(self._urls / f"{key}.json", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(fd, "r+", encoding="utf-8") as file:
            while not _locked(fd):
                wait()
            yield Entry(file, self._urls / f"{key}.part")

    def find(self, sha256: str, name: str) -> Path | None:
        """The content under this name, if it is there under any."""
        folder = self._contents / sha256
        path = folder / name
        if path.is_file():
            return path
        for other in folder.glob("*"):
            with contextlib.suppress(OSError):  # removed, or a file system without links
                os.link(other, path)
                return path
        return None

    def take(self, part: Path, sha256: str, name: str) -> Path:
        """Make a complete file a content."""
        found = self.find(sha256, name)
        if found is not None:
            return found
        path = self._contents / sha256 / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        part.chmod(0o400)
        os.replace(part, path)
        return path


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
