"""What zip and tar files have in common: members, and limits for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from vaccel.error import ResourceExhausted
from vaccel.sources.names import MAX_FILES

FREE = 16 << 20
"""Bytes that may come of any packed size: what is this small does no harm."""


@dataclass(frozen=True)
class ArchiveLimits:
    """`members`: files, folders and links. `size`: bytes of all files, unpacked. `ratio`: bytes
    unpacked for each packed one, beyond the first 16 MiB; of a member in a zip file, of all so far
    in a packed tar file."""

    members: int = MAX_FILES
    size: int = 16 << 30
    ratio: int = 200

    def check_ratio(self, packed: int, unpacked: int) -> None:
        if unpacked > FREE + self.ratio * packed:
            raise ResourceExhausted(
                f"expected at most {self.ratio} bytes for each packed one, found {unpacked} for "
                f"{packed}: unpack it yourself if it is no bomb, or raise ArchiveLimits.ratio"
            )


@dataclass(frozen=True)
class Member:
    """`name` as the archive has it; a file, unless it says otherwise."""

    name: str
    size: int = 0
    open: Callable[[], IO[bytes]] | None = None
    folder: bool = False
    link: str | None = None
    """What a link leads to: from the folder that it is in, or from the top if it is `hard`."""
    hard: bool = False
    special: str = ""
    """What it is if it is none of these."""
