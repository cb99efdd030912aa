"""Files that take long to make, kept in the user's cache folder, each made by one process once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from vaccel.error import DeviceError

_WORKPLACE = ".build"  # the suffix of the folder in which a file is made


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
    raise DeviceError(
        f"expected a folder to keep built files in, found neither {base} nor {fallback} "
        "writable; set XDG_CACHE_HOME"
    )


def _private(path: Path) -> Path:
    """Code is loaded from here, so nobody else may write to it."""
    status = path.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise DeviceError(
            f"{path}: expected a folder that only this user can write to, found owner "
            f"{status.st_uid}, mode {status.st_mode & 0o777:03o}; remove it or set XDG_CACHE_HOME"
        )
    return path


def obtain(target: Path, make: Callable[[Path, int], Path], wait: Callable[[], None]) -> Path:
    """Give `target`; if it is not there, `make` it, unless another process is at it already.

    `make` gets an empty folder and returns a file in it. It also gets a descriptor which the
    processes that it starts should inherit: as long as one has it open, nobody else begins.
    `wait` is called before waiting for another process.
    """
    while not target.exists():
        with _workplace(target, wait) as (place, lock):
            if place is not None and not target.exists():
                os.replace(make(place, lock), target)
    return target


@contextlib.contextmanager
def _workplace(target: Path, wait: Callable[[], None]) -> Iterator[tuple[Path | None, int]]:
    """An empty folder beside `target`, locked; None if another process has just removed it.

    The lock is on the folder itself, so one that nobody holds was left by a killed process.
    """
    path = target.with_suffix(_WORKPLACE)
    path.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not _locked(lock):
            wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not _same(path, lock):
            yield None, lock
            return
        _clear(path)
        try:
            yield path, lock
        finally:
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)


def sweep(where: Path) -> None:
    """Remove the folders in which killed processes were making something."""
    for path in where.glob("*" + _WORKPLACE):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # removed meanwhile
            continue
        try:
            if _locked(lock) and _same(path, lock):
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(path: Path, lock: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(lock))
    return False


def _clear(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
