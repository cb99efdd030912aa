"""The board is one process's at a time: what another one loads would undo its kernels."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from vaccel.error import DeviceError

_held: set[Claim] = set()


class Claim:
    """Holds `path`, a file that is made if it is not there, until `release` or the process's end.

    Raises DeviceError, with the process that has it and what to do. A forked child does not have
    what its parent has.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise DeviceError(
                f"{path}, by which the board is one process's at a time, cannot be written: "
                f"{error.strerror}; the board needs root"
            ) from None
        _held.add(self)
        try:
            self._lock()
        except OSError as error:
            self.release()
            raise DeviceError(
                f"{path}, by which the board is one process's at a time, cannot be locked: "
                f"{error.strerror}; it must be a file on a disk with room, or in memory"
            ) from None
        except DeviceError:
            self.release()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._file, 20, 0).decode("ascii", "replace").strip()
            raise DeviceError(
                f"process {owner or 'of another program'} has the board, and would lose its "
                "overlay if another one were loaded: end it, or have an agent own the board and "
                "call that (VACCEL_PLUGINS=rpc)"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Twice is fine."""
        if self in _held:
            _held.remove(self)
            os.close(self._file)


def _forget() -> None:
    """In a forked child, whose copy of the file would keep the board after its parent's end."""
    while _held:
        os.close(_held.pop()._file)


os.register_at_fork(after_in_child=_forget)
