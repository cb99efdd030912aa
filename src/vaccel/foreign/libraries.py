"""Which libraries to load for a call, in which order, and with what before them.

A function is called as
`int f(struct vaccel_arg *in, size_t n_in, struct vaccel_arg *out, size_t n_out)`.
Some libraries take these structures apart by themselves; they are loaded as they are. Others leave
that to functions of vAccel, `vaccel_arg_array_get_int32` and so on. One of these is linked with
libvaccel.so, or has undefined symbols that begin with `vaccel_`; then the shim, which has such
functions, is loaded first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaccel.error import NotFound, PermissionDenied
from vaccel.foreign import elf, shim
from vaccel.foreign.elf import SharedLibrary

_RUNTIME = re.compile(r"libvaccel\.so(\.\d+)*")
_NAMES_SHOWN = 20


@dataclass(frozen=True)
class Plan:
    """What to load, in this order; True: libraries after it find its symbols."""

    name: str
    load: tuple[tuple[str, bool], ...]
    folder: str
    """Where libraries without a full path are looked for first."""
    functions: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    """Libraries without a SONAME that others were linked with."""

    def missing(self, symbol: str) -> NotFound:
        names = ", ".join(self.functions[:_NAMES_SHOWN]) or "nothing that can be called"
        more = ", …" if len(self.functions) > _NAMES_SHOWN else ""
        return NotFound(f"{self.name} has no function {symbol!r}; it has {names}{more}")


def by_name(library: str) -> Plan:
    """The plan for a path, or, without a '/', for a name that the system's loader knows."""
    if "/" in library:
        return of_files(library, [Path(library)])
    return Plan(library, ((library, False),), "/")


def of_files(name: str, paths: Sequence[Path]) -> Plan:
    """The plan for the libraries of one folder, or for a single one.

    NotFound: no such file; InvalidArgument: a file that is no library for this machine.
    """
    paths = [path.resolve() for path in paths]
    found = [elf.read(path) for path in paths]
    for path in paths:
        _check_mount(path)
    load = [(str(library.path), visible) for library, visible in _ordered(found)]
    functions = sorted({function for library in found for function in library.functions})
    before = [(str(shim.build(soname)), True) for soname in _runtime_names(found)]
    unnamed = {library.path.name for library in found if not library.soname}
    unnamed &= {needed for library in found for needed in library.needed}
    load_all = (*before, *load)
    return Plan(name, load_all, str(paths[0].parent), tuple(functions), tuple(unnamed))


def _check_mount(path: Path) -> None:
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        raise PermissionDenied(
            f"{path}: libraries cannot be loaded from a file system that is mounted noexec; "
            f"set XDG_RUNTIME_DIR to a folder elsewhere for files that clients send"
        )


def _runtime_names(libraries: Sequence[SharedLibrary]) -> list[str]:
    """The names under which the libraries want vAccel's own functions."""
    own = {_name(library) for library in libraries}
    linked = {name for library in libraries for name in library.needed if _RUNTIME.fullmatch(name)}
    if linked:
        return sorted(linked - own)
    undefined = frozenset[str]().union(*(library.undefined for library in libraries))
    defined = frozenset[str]().union(*(library.defined for library in libraries))
    lacks = any(name.startswith("vaccel_") for name in undefined - defined)
    return ["libvaccel.so"] if lacks else []


def _name(library: SharedLibrary) -> str:
    return library.soname or library.path.name


def _ordered(libraries: Sequence[SharedLibrary]) -> Iterator[tuple[SharedLibrary, bool]]:
    """Each after those that it needs; True where others need its symbols but were not linked with
    it, and so would not find them."""
    by_name = {_name(library): library for library in libraries}
    linked = {one: [by_name[n] for n in one.needed if n in by_name] for one in libraries}
    reach = {one: _reachable(one, linked) for one in libraries}
    lent = {
        one: [
            other
            for other in libraries
            if other not in reach[one] and one.undefined & other.defined - one.defined
        ]
        for one in libraries
    }
    visible = {other for others in lent.values() for other in others}
    done: dict[SharedLibrary, None] = {}

    def visit(one: SharedLibrary, path: frozenset[SharedLibrary]) -> None:
        for other in (*linked[one], *lent[one]):
            if other not in path and other not in done:  # libraries may need each other
                visit(other, path | {other})
        done.setdefault(one)

    for library in libraries:
        visit(library, frozenset((library,)))
    return ((library, library in visible) for library in done)


def _reachable(
    one: SharedLibrary, linked: dict[SharedLibrary, list[SharedLibrary]]
) -> set[SharedLibrary]:
    found = {one}
    waiting = [one]
    while waiting:
        for other in linked[waiting.pop()]:
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found
