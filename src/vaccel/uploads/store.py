"""The contents that an agent's clients have sent, as files."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import threading
from pathlib import Path

from vaccel import runtime
from vaccel.error import ResourceExhausted
from vaccel.rpc.content import FileContent, key_of

_FILE_COST = 4096
"""What a file takes beside its bytes, so that empty ones are limited, too."""
_IDLE_KEPT = 1024


class Stored:
    """A content that is complete and does not change any more."""

    __slots__ = ("key", "path", "size", "users")

    def __init__(self, path: Path, size: int, key: bytes) -> None:
        self.path = path
        self.size = size
        self.key = key
        self.users = 1


class Store:
    """At most `limit` bytes of contents, in a folder on disk, which goes with it.

    One that nobody uses any more stays for the next client that has it, until its room is needed:
    the one goes first that was used longest ago. Thread-safe.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._runtime = runtime.current()
        self._folder: Path | None = None
        self._numbers = itertools.count(1)
        self._used = 0
        self._by_key: dict[bytes, Stored] = {}
        self._idle: dict[Stored, None] = {}
        """Oldest first."""

    def close(self) -> None:
        """Remove everything. Repeatable."""
        with self._lock:
            folder, self._folder = self._folder, None
            self._by_key, self._idle, self._used = {}, {}, 0
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    # -- contents that arrive ------------------------------------------------------------------

    def create(self, size: int) -> Path:
        """An empty file for `size` bytes; ResourceExhausted if there is no room for them."""
        with self._lock:
            if self._folder is None:  # not before the first upload: most agents never see one
                self._folder = Path(tempfile.mkdtemp(prefix="store.", dir=self._runtime.disk.path))
            self._make_room(size, self._folder)
            path = self._folder / f"content.{next(self._numbers)}"
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            self._used += size + _FILE_COST
            return path

    def discard(self, path: Path, size: int) -> None:
        """What `create` gave is not wanted any more."""
        with self._lock:
            self._remove(path, size)

    def keep(self, path: Path, size: int) -> Stored:
        """What `create` gave is complete; its maker uses it."""
        path.chmod(0o400)  # resources share it
        with contextlib.closing(FileContent(path)) as content:
            stored = Stored(path, size, key_of(content))
        with self._lock:
            self._by_key[stored.key] = stored
        return stored

    # -- contents that are there ---------------------------------------------------------------

    def find(self, key: bytes, size: int) -> Stored | None:
        """A content that may be the one with this key, which the caller then uses.

        Equal keys do not make equal contents.
        """
        with self._lock:
            stored = self._by_key.get(key)
            if stored is None or stored.size != size:
                return None
            stored.users += 1
            self._idle.pop(stored, None)
            return stored

    def release(self, stored: Stored) -> None:
        """One user less."""
        with self._lock:
            stored.users -= 1
            if stored.users:
                return
            if self._by_key.get(stored.key) is not stored:  # a later one has taken its place
                self._remove(stored.path, stored.size)
                return
            self._idle[stored] = None
            if len(self._idle) > _IDLE_KEPT:
                self._forget_oldest()

    def _make_room(self, size: int, folder: Path) -> None:
        # What others have announced and not sent yet is not known to the disk. Should it be full
        # before all is there, the write fails.
        while True:
            left = self._limit - self._used - _FILE_COST
            free = shutil.disk_usage(folder).free
            if size <= min(left, free):
                return
            if not self._idle:
                break
            self._forget_oldest()
        if size > left:
            raise ResourceExhausted(
                f"a resource of {size} bytes: the agent has {max(left, 0)} bytes left of the "
                f"{self._limit} for all resources; start it with a larger --max-store"
            )
        raise ResourceExhausted(
            f"a resource of {size} bytes: the disk of the agent's {folder} has {free} bytes "
            f"left; start the agent with a TMPDIR that has more"
        )

    def _forget_oldest(self) -> None:
        stored = next(iter(self._idle))
        del self._idle[stored], self._by_key[stored.key]
        self._remove(stored.path, stored.size)

    def _remove(self, path: Path, size: int) -> None:
        if self._folder is not None:  # else all is gone already
            path.unlink(missing_ok=True)
            self._used -= size + _FILE_COST
