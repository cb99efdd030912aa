"""Files that take long to make or to fetch, kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from vaccel.error import PermissionDenied

_WORKPLACE = ".build"  # the suffix of the folder in which a file is made
_LOCK = ".lock"  # in it
_SUFFIXES = (".so", ".json", ".log")  # of what is made here, and of what is said about it
_DAY = 86_400.0  # seconds

KEPT_DAYS = 90


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CACHE_HOME/vaccel` or `~/.cache/vaccel`, else a folder in the temporary one."""
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    base = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    fallback = Path(tempfile.gettempdir()) / f"vaccel-{os.getuid()}"
    for path in (base / "vaccel", fallback):
        with contextlib.suppress(OSError):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(path, os.R_OK | os.W_OK | os.X_OK):
                return _private(path)
    raise PermissionDenied(
        f"expected a folder to keep files in, found neither {base} nor {fallback} "
        "writable; set XDG_CACHE_HOME"
    )


def _private(path: Path) -> Path:
    """Code and models are loaded from here, so nobody else may write to it."""
    status = path.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionDenied(
            f"{path}: expected a folder that only this user can write to, found owner "
            f"{status.st_uid}, mode {status.st_mode & 0o777:03o}; remove it or set XDG_CACHE_HOME"
        )
    return path


def obtain(target: Path, make: Callable[[Path, int], Path], wait: Callable[[], None]) -> Path:
    """Give the file kept as `target`; if there is none, `make` it, unless another process does.

    Its name has a hash of its content at the end: a damaged file is made anew. `make` gets an empty
    folder and returns a file in it. It also gets a descriptor which the processes that it starts
    should inherit: as long as one has it open, nobody else begins. `wait` is called before waiting
    for another process.
    """
    while True:
        if found := _kept(target):
            return found
        with _workplace(target, wait) as (place, lock):
            if place is not None and not _kept(target):
                _keep(make(place, lock), target)


def _keep(made: Path, target: Path) -> None:
    with made.open("rb") as file:
        digest = _digest(file.read())
        os.fsync(file.fileno())  # else the name may outlive a power cut, and the content not
    os.replace(made, target.with_name(f"{target.stem}-{digest}{target.suffix}"))


def _kept(target: Path) -> Path | None:
    """Damaged files are removed: to load one may end the process."""
    for path in target.parent.glob(f"{glob.escape(target.stem)}-*{target.suffix}"):
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            if path.stem == f"{target.stem}-{_digest(path.read_bytes())}":
                _mark_used(path)
                return path
            path.unlink()
    return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:20]


def _mark_used(path: Path) -> None:
    """By its time of change; a day is exact enough."""
    if time.time() - path.stat().st_mtime > _DAY:
        os.utime(path)


@contextlib.contextmanager
def _workplace(target: Path, wait: Callable[[], None]) -> Iterator[tuple[Path | None, int]]:
    """An empty folder beside `target`, locked; None if another process has just removed it."""
    path = target.with_suffix(_WORKPLACE)
    lock = _open(path)
    try:
        if not _locked(lock):
            wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not _same(path, lock):
            yield None, lock
            return
        try:
            _clear(path)
            yield path, lock
        finally:
            _remove(path)
    finally:
        os.close(lock)


def sweep(where: Path) -> None:
    """Remove what was not used for KEPT_DAYS, and what killed processes were making.

    The folders of the latter are those that nobody locks.
    """
    oldest = time.time() - KEPT_DAYS * _DAY
    for path in (path for suffix in _SUFFIXES for path in where.glob("*" + suffix)):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
    for path in where.glob("*" + _WORKPLACE):
        lock = _open(path)
        try:
            if _locked(lock) and _same(path, lock):
                _remove(path)
        finally:
            os.close(lock)


def _open(path: Path) -> int:
    """The lock of the folder; both are made if they are not there."""
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        # A file, since NFS locks only what is open for writing.
        with contextlib.suppress(FileNotFoundError):  # the folder was just removed
            return os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(path: Path, lock: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat((path / _LOCK).stat(), os.fstat(lock))
    return False


def _clear(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != _LOCK:
            entry.unlink()


def _remove(path: Path) -> None:
    """The lock goes last: others must not begin while there are files of ours."""
    _clear(path)
    (path / _LOCK).unlink()
    with contextlib.suppress(OSError):  # another process has made a lock meanwhile
        path.rmdir()
