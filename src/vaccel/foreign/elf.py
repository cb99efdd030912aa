"""What a shared library is called, needs, offers and lacks, read from its file (elf(5))."""

from __future__ import annotations

import functools
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vaccel.error import InvalidArgument, NotFound

_DYNAMIC, _SYMBOLS = 6, 11  # section types
_NEEDED, _SONAME = 1, 14  # tags of dynamic entries
_FUNCTIONS = (0, 2, 10)  # symbol types: none (from assembler), function, indirect function
_SHARED = 3  # file type
_LONGEST_NAME = 1 << 16  # C++ makes long ones
_MACHINES = {3: "x86", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}


@dataclass(frozen=True)
class SharedLibrary:
    """A file without section headers, which is rare, seems to have no names and symbols."""

    path: Path
    soname: str
    needed: tuple[str, ...]
    """The libraries that it was linked with."""
    functions: frozenset[str]
    defined: frozenset[str]
    """Functions and data that others may use."""
    undefined: frozenset[str]


class _Section(NamedTuple):
    type: int
    offset: int
    size: int
    link: int


def read(path: Path) -> SharedLibrary:
    """NotFound: no file; InvalidArgument: not a shared library of this machine's kind."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            return _Reader(path, data).library()
    except OSError as exc:
        raise NotFound(f"library {path}: {exc.strerror}") from None
    except InvalidArgument:
        raise
    except (struct.error, ValueError, IndexError, OverflowError) as exc:
        raise _wrong(path, f"a file that is damaged or something else ({exc})") from None


def _wrong(path: Path, found: str) -> InvalidArgument:
    return InvalidArgument(f"{path}: expected a shared library (ELF), found {found}")


class _Reader:
    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data = path, data
        if data[:4] != b"\x7fELF":
            raise _wrong(path, f"a file that begins with {data[:4]!r}")
        kind, machine = _kind(data[:20])
        if kind != _SHARED:
            raise _wrong(path, "a program or object file; build it with cc -shared -fPIC")
        if machine != _own_machine():
            found, own = (
                f"{bits}-bit {_name(number)}" for bits, number in (machine, _own_machine())
            )
            raise _wrong(path, f"one for {found}; build it for {own}")
        self._bits = machine[0]
        self._order = "<" if data[5] == 1 else ">"
        self._sections = list(self._read_sections())

    def _unpack(self, form: str, offset: int) -> tuple[Any, ...]:
        return struct.unpack_from(self._order + form, self._data, offset)

    def _read_sections(self) -> Iterator[_Section]:
        wide = self._bits == 64
        (start,) = self._unpack("Q" if wide else "I", 40 if wide else 32)
        size, count = self._unpack("HH", 58 if wide else 46)
        for i in range(count if start else 0):
            _, type, _, _, offset, length, link = self._unpack(
                "IIQQQQI" if wide else "7I", start + i * size
            )
            yield _Section(type, offset, length, link)

    def library(self) -> SharedLibrary:
        soname, needed = "", []
        dynamic = self._first(_DYNAMIC)
        for tag, value in self._entries(dynamic, "qQ" if self._bits == 64 else "iI"):
            if tag == _NEEDED:
                needed.append(self._text(dynamic, value))
            elif tag == _SONAME:
                soname = self._text(dynamic, value)
        functions, defined, undefined = set(), set(), set()
        for name, type, place in self._symbols():
            if not place:
                undefined.add(name)
                continue
            defined.add(name)
            if type in _FUNCTIONS:
                functions.add(name)
        return SharedLibrary(
            self._path,
            soname,
            tuple(needed),
            frozenset(functions - {"_init", "_fini"}),
            frozenset(defined),
            frozenset(undefined),
        )

    def _symbols(self) -> Iterator[tuple[str, int, int]]:
        """Name, type and section (0: undefined) of each symbol."""
        section = self._first(_SYMBOLS)
        for fields in self._entries(section, "IBBHQQ" if self._bits == 64 else "IIIBBH"):
            if self._bits == 64:
                name, info, _, place, _, _ = fields
            else:
                name, _, _, info, _, place = fields
            if name and info >> 4:  # not local
                yield self._text(section, name), info & 15, place

    def _first(self, type: int) -> _Section:
        found = (section for section in self._sections if section.type == type)
        return next(found, _Section(type, 0, 0, 0))

    def _entries(self, section: _Section, form: str) -> Iterator[tuple[Any, ...]]:
        size = struct.calcsize(self._order + form)
        for offset in range(section.offset, section.offset + section.size, size):
            yield self._unpack(form, offset)

    def _text(self, section: _Section, place: int) -> str:
        begin = self._sections[section.link].offset + place
        end = self._data.find(b"\0", begin, begin + _LONGEST_NAME)
        if end < 0:
            raise ValueError("a name without an end")
        return self._data[begin:end].decode()


def _kind(head: bytes) -> tuple[int, tuple[int, int]]:
    """The file type; word size in bits and machine."""
    type, machine = struct.unpack_from("<HH" if head[5] == 1 else ">HH", head, 16)
    return type, (64 if head[4] == 2 else 32, machine)


@functools.cache
def _own_machine() -> tuple[int, int]:
    with open("/proc/self/exe", "rb") as file:
        return _kind(file.read(20))[1]


def _name(machine: int) -> str:
    return _MACHINES.get(machine, f"machine {machine}")
