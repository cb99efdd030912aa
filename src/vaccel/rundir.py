"""The folder for a process's files: mode 0700, removed at exit, swept up after a crash."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from vaccel import log

PREFIX = "vaccel."
_LOCK = ".lock"
_NAME = re.compile(re.escape(PREFIX) + "[a-z0-9_]{8}")  # as mkdtemp makes them


class Rundir:
    """A folder `vaccel.XXXXXXXX` whose owner holds a lock on a file in it.

    So others can tell a live one from one that a killed process left behind.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        self._pid = os.getpid()

    @classmethod
    def create(cls, base: Path | None = None) -> Rundir:
        """A new one in `base`, by default `base_folder()`."""
        base = base or base_folder()
        _sweep(base)
        while True:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
            try:
                lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            except FileNotFoundError:  # already taken for a leftover
                continue
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Between open and flock another process may have taken it for a leftover.
            if os.fstat(lock).st_nlink > 0:
                return cls(path, lock)
            os.close(lock)

    def subfolder(self, name: str) -> Path:
        path = self.path / name
        path.mkdir(mode=0o700)
        return path

    def remove_subfolder(self, path: Path) -> None:
        if self._pid == os.getpid():
            shutil.rmtree(path, ignore_errors=True)

    def disown(self) -> None:
        """In a forked child, which must not hold the parent's lock beyond the parent's end."""
        os.close(self._lock)

    def remove(self) -> None:
        """Repeatable."""
        if self._pid != os.getpid() or self._lock < 0:
            return
        # The lock goes last: killed before that, we leave what the next process can sweep up.
        for entry in self.path.iterdir() if self.path.is_dir() else ():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != _LOCK:
                entry.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)
        lock, self._lock = self._lock, -1
        os.close(lock)


def base_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_RUNTIME_DIR`, else `/run/user/UID`, else the temporary folder."""
    for candidate in (environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.getuid()}"):
        if candidate and os.path.isdir(candidate) and os.access(candidate, os.W_OK | os.X_OK):
            return Path(candidate)
    return Path(tempfile.gettempdir())


def disk_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where large files go, since the above is often memory: `$TMPDIR`, else `/var/tmp`, else the
    temporary folder."""
    for candidate in (environ.get("TMPDIR"), "/var/tmp"):
        if candidate and os.path.isdir(candidate) and os.access(candidate, os.W_OK | os.X_OK):
            return Path(candidate)
    return Path(tempfile.gettempdir())


def _sweep(base: Path) -> None:
    """Remove the rundirs of our user whose owner is gone."""
    for path in base.glob(PREFIX + "*"):
        try:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            if _NAME.fullmatch(path.name):  # its owner was killed before it made the lock
                with contextlib.suppress(OSError):
                    path.rmdir()  # only if it is empty
            continue
        except OSError:
            continue  # not one of these folders, not our user's, or removed meanwhile
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # its owner is alive
        else:
            if os.fstat(lock).st_uid == os.getuid():
                shutil.rmtree(path, ignore_errors=True)
                log.debug("Removed the rundir of a process that was killed: %s", path)
        finally:
            os.close(lock)
