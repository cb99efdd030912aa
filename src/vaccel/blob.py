"""What a resource is made of, and what it is used as."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path


class ResourceType(IntEnum):
    """What a resource is used as."""

    LIB = 0
    DATA = 1
    MODEL = 2


class BlobType(IntEnum):
    """Where the bytes of a blob are."""

    FILE = 0
    BUFFER = 1
    MAPPED = 2


@dataclass(frozen=True)
class Blob:
    """One named piece of a resource; `data` is bytes in memory, or the mapped file `path`."""

    name: str
    data: memoryview
    type: BlobType = BlobType.BUFFER
    path: Path | None = None
