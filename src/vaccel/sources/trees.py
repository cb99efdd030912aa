"""Files of ours: in folders, by the names of a resource's pieces; and mapped."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from vaccel import log
from vaccel.error import NotFound

SMALL_FILE = 1 << 16
"""Files up to this many bytes are read: a mapping takes a descriptor, and folders may hold more
files than a process may have open."""


def place(folder: Path, name: str) -> Path:
    """The path for a new file `name` (checked before) in `folder`; folders in between are made,
    for this user alone."""
    *between, last = name.split("/")
    for part in between:
        folder = folder / part
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder / last


def map_file(path: Path) -> memoryview:
    """Its content, read-only; NotFound if it cannot be opened."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size <= SMALL_FILE:
                return memoryview(file.read())
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as exc:
        log.debug("cannot map %s: %s", path, exc)
        raise NotFound(f"resource file {path}: {exc.strerror}") from exc
