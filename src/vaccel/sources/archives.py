"""Archives as resources: zip and tar files of any origin, unpacked into a folder of ours.

Nothing is written but regular files and folders, and nothing beyond the limits.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from vaccel.error import InvalidArgument, NotFound, ResourceExhausted
from vaccel.sources import tars, zips
from vaccel.sources.names import Names

_CHUNK = 1 << 20
_MAGICS = (
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"\x1f\x8b", "gz"),
    (0, b"BZh", "bz2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (257, b"ustar", "tar"),
)
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RecursionError, ValueError)
