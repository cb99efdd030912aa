"""What libraries say of themselves, and how several are loaded together."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exec.conftest import CONFIG, SOURCES, compile_c
from vaccel import Resource, ResourceType, Session, bootstrap
from vaccel.error import FFIError, InvalidArgument, PermissionDenied, PluginError
from vaccel.foreign import elf

Compiled = Callable[[str], Path]

RETURNS = "int {0}(void);\nint {1}(void) {{ return {0}() + 1; }}"


@pytest.fixture
def session() -> Iterator[Session]:
    bootstrap(CONFIG)
    with Session() as session:
        yield session


def returned(session: Session, paths: list[Path], symbol: str) -> int:
    """What `symbol` returned, which is not 0, and so an error."""
    with Resource(paths, ResourceType.LIB) as resource:
        resource.register(session)
        with pytest.raises(PluginError) as caught:
            session.exec_with_resource(resource, symbol)
    (number,) = re.findall(r"returned (\d+)", caught.value.message)
    return int(number)


def chain(folder: Path, *options: str) -> list[Path]:
    """Three libraries, each linked with the one before."""
    folder.mkdir(exist_ok=True)
    base = compile_c(folder / "libbase.so", "int base(void) { return 40; }", *options)
    link = [f"-L{folder}", *options]
    middle = compile_c(folder / "libmiddle.so", RETURNS.format("base", "middle"), *link, "-lbase")
    top = compile_c(folder / "libtop.so", RETURNS.format("middle", "top"), *link, "-lmiddle")
    return [base, middle, top]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_libraries_are_loaded_after_those_that_they_need(
    session: Session, tmp_path: Path, order: tuple[int, ...]
) -> None:
    paths = chain(tmp_path)
    given = [paths[i] for i in order]
    assert returned(session, given, "top") == 42
    assert returned(session, given, "base") == 40  # each of them is asked for the symbol


def test_libraries_without_a_soname_are_found_in_their_folder(
    session: Session, tmp_path: Path
) -> None:
    paths = chain(tmp_path)
    assert [elf.read(path).soname for path in paths] == ["", "", ""]
    contents = [path.read_bytes() for path in paths]
    names = [path.name for path in paths]
    for path in paths:
        path.unlink()
    # As an agent gets them: names and contents.
    (tmp_path / "other").mkdir()
    moved = [tmp_path / "other" / name for name in names]
    for path, content in zip(moved, contents, strict=True):
        path.write_bytes(content)
    assert returned(session, moved, "top") == 42


def test_in_this_process_a_soname_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VACCEL_EXEC_INPROCESS", "1")
    bootstrap(CONFIG)
    with Session() as session, Resource(chain(tmp_path), ResourceType.LIB) as resource:
        resource.register(session)
        with pytest.raises(PluginError, match=r"libbase\.so: .*-Wl,-soname"):
            session.exec_with_resource(resource, "top")


def test_symbols_of_a_library_that_others_are_not_linked_with_are_found(
    session: Session, tmp_path: Path
) -> None:
    base = compile_c(tmp_path / "libbase.so", "int base(void) { return 40; }")
    top = compile_c(tmp_path / "libtop.so", RETURNS.format("base", "top"))
    for paths in ([base, top], [top, base]):
        assert returned(session, paths, "top") == 41


def test_libraries_that_need_each_other_are_loaded(session: Session, tmp_path: Path) -> None:
    one, two = tmp_path / "libone.so", tmp_path / "libtwo.so"
    compile_c(two, "int two(void) { return 40; }", "-Wl,-soname,libtwo.so")
    compile_c(one, RETURNS.format("two", "one"), "-Wl,-soname,libone.so", str(two))
    text = "int one(void); int two(void) { return 40; } int three(void) { return one() + 1; }"
    compile_c(two, text, "-Wl,-soname,libtwo.so", str(one))
    assert returned(session, [one, two], "three") == 42


def test_libraries_with_a_function_of_one_name_call_their_own(
    session: Session, tmp_path: Path
) -> None:
    for name, number in (("a", 1), ("b", 2)):
        text = f"int helper(void) {{ return {number}; }}\nint {name}(void) {{ return helper(); }}"
        compile_c(tmp_path / f"{name}.so", text)
    paths = [tmp_path / "a.so", tmp_path / "b.so"]
    assert returned(session, paths, "a") == 1
    assert returned(session, paths, "b") == 2


def test_one_that_is_missing_is_named(session: Session, tmp_path: Path) -> None:
    base, _, _ = chain(tmp_path)
    base.unlink()
    with pytest.raises(PluginError, match=r"libbase\.so: cannot open shared object file"):
        session.exec(str(tmp_path / "libtop.so"), "top")


def test_an_undefined_symbol_is_named(session: Session, tmp_path: Path) -> None:
    path = compile_c(tmp_path / "top.so", RETURNS.format("nowhere", "top"))
    with pytest.raises(PluginError, match="undefined symbol: nowhere"):
        session.exec(str(path), "top")


def test_a_file_system_without_execution_is_told(
    session: Session, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To mount one takes a privilege.
    flags = SimpleNamespace(f_flag=os.ST_NOEXEC | os.ST_NOSUID)
    monkeypatch.setattr(os, "statvfs", lambda path: flags)
    with pytest.raises(PermissionDenied, match=r"plain\.so: .*noexec; set XDG_RUNTIME_DIR"):
        session.exec(str(compiled("plain")), "nothing")


# -- files -----------------------------------------------------------------------------------------


def test_a_library_tells_what_it_has_and_needs(tmp_path: Path) -> None:
    text = "int other(void); int data = 1; static int own(void) { return 0; }\n"
    text += "int f(void) { return other() + own(); }"
    path = compile_c(tmp_path / "libx.so.1", text, "-Wl,-soname,libx.so.1", "-Wl,--no-as-needed")
    found = elf.read(path)
    assert found.soname == "libx.so.1"
    assert found.functions == {"f"}
    assert {"f", "data"} <= found.defined
    assert "other" in found.undefined
    assert any(name.startswith("libc.so") for name in found.needed)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (18, b"\xb7\0", "one for .*AArch64"),
        (4, b"\1", "one for 32-bit"),
        (16, b"\2\0", "a program"),
    ],
)
def test_a_file_for_another_machine_is_told(
    compiled: Compiled, tmp_path: Path, place: int, value: bytes, words: str
) -> None:
    content = bytearray(compiled("plain").read_bytes())
    content[place : place + len(value)] = value
    path = tmp_path / "foreign.so"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match=words):
        elf.read(path)


@given(data=st.data())
def test_no_file_does_more_than_be_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "garbage"
    folder.mkdir(exist_ok=True)
    good = folder / "good.so"
    if not good.exists():
        compile_c(good, SOURCES / "plain.c")
    content = bytearray(good.read_bytes())
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    for _ in range(data.draw(st.integers(0, 8))):
        # The headers at both ends are where a change tells.
        near = st.integers(0, 200) | st.integers(len(content) - 2000, len(content) - 1)
        content[data.draw(near)] = data.draw(st.integers(0, 255))
    path = folder / "bad.so"
    path.write_bytes(content[:cut])
    with contextlib.suppress(FFIError):
        elf.read(path)
