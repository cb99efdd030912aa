"""Names of a resource's files: relative paths, with `/` between folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vaccel.error import InvalidArgument

MAX_FILES = 4096
"""Files of one folder or archive; what an agent takes as one resource."""
_MAX_PART = 255
_MAX_NAME = 1024


def check_name(name: str) -> None:
    """InvalidArgument if `name` may not be a file below a resource's folder."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # a file's name that is not UTF-8, as Python gives it
        size = 0
    parts = name.split("/")
    if (
        not 0 < size <= _MAX_NAME
        or "\0" in name
        or any(part in ("", ".", "..") or len(part.encode()) > _MAX_PART for part in parts)
    ):
        raise InvalidArgument(
            f"resource name: expected a file name of 1 to {_MAX_PART} bytes of UTF-8 without NUL, "
            f"or several with '/' between them, none of them '.' or '..', {_MAX_NAME} bytes "
            f"together; found {name!r:.300}"
        )


class Names:
    """Names that can be files of one folder."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def fits(self, name: str) -> bool:
        """Neither `name`, nor a folder in it, is taken."""
        taken = name in self._files or name in self._folders
        return not taken and self._files.isdisjoint(_folders(name))

    def add(self, name: str) -> None:
        """InvalidArgument for a name that is malformed, or taken."""
        check_name(name)
        if not self.fits(name):
            raise InvalidArgument(
                f"resource names: expected distinct names, none of which is also a folder, "
                f"found {name!r:.300} twice"
            )
        self._files.add(name)
        self._folders.update(_folders(name))


def check_names(names: Iterable[str]) -> None:
    """InvalidArgument if these cannot be files of one folder."""
    known = Names()
    for name in names:
        known.add(name)


def unique(names: Sequence[str]) -> list[str]:
    """The names, those that are taken already with a number before them."""
    known = Names()
    found = []
    for i, name in enumerate(names):
        candidate, number = name, i
        while not known.fits(candidate):
            candidate, number = f"{number}.{name}", number + 1
        known._files.add(candidate)
        known._folders.update(_folders(candidate))
        found.append(candidate)
    return found


def flat(names: Sequence[str]) -> list[str]:
    """The names without folders, for peers that know none."""
    return unique([name.rpartition("/")[2] for name in names])


def _folders(name: str) -> list[str]:
    """Those that the file is in: of `a/b/c` these are `a` and `a/b`."""
    parts = name.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]
