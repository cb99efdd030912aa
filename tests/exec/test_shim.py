"""The functions of vAccel 0.8 that libraries find, and how they come about."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from ctypes import byref, c_bool, c_int32, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exec.conftest import CONFIG, SOURCES, compile_c
from vaccel import Arg, Session, bootstrap
from vaccel.error import PluginError
from vaccel.foreign import shim

INT32, INT32_ARRAY, BOOL_ARRAY, STRING, BUFFER, CUSTOM = 5, 6, 22, 27, 28, 29


class Argument(ctypes.Structure):
    _fields_ = (
        *(("buf", c_void_p), ("size", c_size_t), ("type", c_uint32)),
        *(("custom_type_id", c_uint32), ("owned", c_bool)),
    )


class Array(ctypes.Structure):
    _fields_ = (
        *(("args", ctypes.POINTER(Argument)), ("count", c_size_t), ("capacity", c_size_t)),
        *(("position", c_size_t), ("owned", c_bool)),
    )


@pytest.fixture(scope="module")
def library(cache: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(shim.build("libvaccel.so")))


@pytest.fixture
def array(library: ctypes.CDLL) -> Iterator[Array]:
    """With room for one argument, until it grows."""
    array = Array()
    assert library.vaccel_arg_array_init(byref(array), 1) == 0
    yield array
    assert library.vaccel_arg_array_release(byref(array)) == 0
    assert (array.count, array.capacity, bool(array.args)) == (0, 0, False)


def test_every_function_of_the_header_of_0_8_is_there(library: ctypes.CDLL) -> None:
    numeric = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float double bool char uchar"
    typed = [f"{name}{array}" for name in numeric.split() for array in ("", "_array")]
    typed += ["raw", "string", "buffer", "custom", "serialized"]
    names = [f"vaccel_arg_array_{verb}_{name}" for verb in ("add", "get", "set") for name in typed]
    names += [f"vaccel_arg_{verb}" for verb in ("init", "init_from_buf", "release", "new")]
    names += ["vaccel_arg_from_buf", "vaccel_arg_delete"]
    more = "init release new delete wrap clear add_range add_remaining add_all get_remaining"
    more += " remaining_count position set_position reset_position count raw"
    names += [f"vaccel_arg_array_{name}" for name in more.split()]
    names += [f"vaccel_{verb}_{kind}_arg" for verb in ("extract", "write") for kind in KINDS]
    assert [name for name in names if not hasattr(library, name)] == []


KINDS = ("serial", "nonserial")


def test_what_was_added_is_got_in_order(library: ctypes.CDLL, array: Array) -> None:
    numbers = [c_int32(number) for number in (3, 5, 8)]
    for number in numbers:
        assert library.vaccel_arg_array_add_int32(byref(array), byref(number)) == 0
    assert (array.count, array.capacity) == (3, 4)
    found = c_int32()
    for number in numbers:
        assert library.vaccel_arg_array_get_int32(byref(array), byref(found)) == 0
        assert found.value == number.value
    assert library.vaccel_arg_array_get_int32(byref(array), byref(found)) == errno.ERANGE
    library.vaccel_arg_array_reset_position(byref(array))
    assert library.vaccel_arg_array_remaining_count(byref(array)) == 3


def test_an_argument_that_does_not_fit_is_not_passed_over(
    library: ctypes.CDLL, array: Array
) -> None:
    number, text = c_int32(-7), c_void_p()
    assert library.vaccel_arg_array_add_int32(byref(array), byref(number)) == 0
    assert library.vaccel_arg_array_get_string(byref(array), byref(text)) == errno.EINVAL
    assert library.vaccel_arg_array_get_uint32(byref(array), byref(number)) == errno.EINVAL
    array.args[0].size = 3
    assert library.vaccel_arg_array_get_int32(byref(array), byref(number)) == errno.EINVAL
    array.args[0].size = 4
    assert library.vaccel_arg_array_get_int32(byref(array), byref(number)) == 0


def test_content_that_is_not_of_its_type_is_not_added(library: ctypes.CDLL, array: Array) -> None:
    flags = (ctypes.c_uint8 * 3)(0, 1, 2)
    add = library.vaccel_arg_array_add_bool_array
    assert add(byref(array), flags, c_size_t(3)) == errno.EINVAL
    assert add(byref(array), flags, c_size_t(0)) == errno.EINVAL
    assert add(byref(array), flags, c_size_t(2)) == 0
    assert library.vaccel_arg_array_add_buffer(byref(array), None, c_size_t(1)) == errno.EINVAL


def test_results_longer_than_their_room_are_refused(library: ctypes.CDLL, array: Array) -> None:
    room = ctypes.create_string_buffer(b"123456", 6)
    args = (Argument * 1)(Argument(ctypes.addressof(room), 6, STRING, 0, False))
    assert library.vaccel_arg_array_release(byref(array)) == 0
    assert library.vaccel_arg_array_wrap(byref(array), args, c_size_t(1)) == 0
    put = library.vaccel_arg_array_set_string
    assert put(byref(array), b"sixsix") == errno.EINVAL
    assert put(byref(array), b"two") == 0
    assert room.raw == b"two\0\0\0"
    assert put(byref(array), b"two") == errno.ERANGE
    assert library.vaccel_arg_array_add_int32(byref(array), byref(c_int32())) == errno.ERANGE


def test_copies_belong_to_the_array(library: ctypes.CDLL, array: Array) -> None:
    numbers = (c_int32 * 2)(1, 2)
    source = Array()
    args = (Argument * 3)(*[Argument(ctypes.addressof(numbers), 8, INT32_ARRAY)] * 3)
    assert library.vaccel_arg_array_wrap(byref(source), args, c_size_t(3)) == 0
    add = library.vaccel_arg_array_add_range
    assert add(byref(array), byref(source), c_size_t(2), c_size_t(2), True) == errno.ERANGE
    assert library.vaccel_arg_array_add_all(byref(array), byref(source), True) == 0
    library.vaccel_arg_array_set_position(byref(source), c_size_t(2))
    assert library.vaccel_arg_array_add_remaining(byref(array), byref(source), False) == 0
    assert [array.args[i].owned for i in range(4)] == [True, True, True, False]
    numbers[0] = 9
    first = ctypes.cast(array.args[0].buf, ctypes.POINTER(c_int32))
    assert (first[0], first[1]) == (1, 2)


def test_single_arguments(library: ctypes.CDLL) -> None:
    made = ctypes.POINTER(Argument)()
    assert library.vaccel_arg_new(byref(made), None, c_size_t(0), BUFFER, 0) == 0
    assert library.vaccel_arg_delete(made) == 0
    assert library.vaccel_arg_new(byref(made), b"abc", c_size_t(3), CUSTOM, 4) == 0
    assert ctypes.string_at(made[0].buf, made[0].size) == b"abc"
    assert (made[0].type, made[0].custom_type_id, made[0].owned) == (CUSTOM, 4, True)
    assert library.vaccel_arg_delete(made) == 0
    assert library.vaccel_arg_from_buf(byref(made), None, c_size_t(3), RAW, 0) == errno.EINVAL


RAW = 0


def test_functions_bear_null(library: ctypes.CDLL) -> None:
    for name in ("init", "release", "wrap", "add_raw", "get_raw", "set_raw", "get_remaining"):
        function = getattr(library, f"vaccel_arg_array_{name}")
        assert function(None, None, c_size_t(1), None) == errno.EINVAL
    assert library.vaccel_arg_array_count(None) == 0


# -- how it comes about ----------------------------------------------------------------------------


def call(library: Path) -> list[Any] | None:
    bootstrap(CONFIG)
    with Session() as session:
        room = np.zeros(2, np.int32)
        return session.exec(str(library), "echo", [Arg(room + 5, 6)], [Arg(room, 6)])


@pytest.mark.parametrize("soname", ["libvaccel.so", "libvaccel.so.0"])
def test_a_library_that_is_linked_with_vaccel_finds_the_shim(tmp_path: Path, soname: str) -> None:
    runtime = compile_c(tmp_path / soname, "int unused;", f"-Wl,-soname,{soname}")
    options = ["-Wl,--no-as-needed", str(runtime)]
    library = compile_c(tmp_path / "calls.so", SOURCES / "calls.c", *options)
    runtime.unlink()
    (result,) = call(library) or []
    assert result.tolist() == [5, 5]


def test_it_is_built_once_and_found_by_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    program = "from vaccel.foreign import shim; print(shim.build('libvaccel.so'))"
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    paths = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    (path,) = paths
    assert [str(entry) for entry in (tmp_path / "vaccel").iterdir()] == [path]
    monkeypatch.setenv("PATH", "")  # it needs no compiler any more
    assert str(shim.build("libvaccel.so")) == path


def test_without_a_compiler_the_package_to_install_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = compile_c(tmp_path / "calls.so", SOURCES / "calls.c")
    plain = compile_c(tmp_path / "plain.so", SOURCES / "plain.c")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PluginError, match="apt install gcc"):
        call(library)
    # Libraries that do without the shim do without a compiler.
    with Session() as session:
        assert session.exec(str(plain), "nothing") is None


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = compile_c(tmp_path / "calls.so", SOURCES / "calls.c")
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho no such option\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(PluginError, match="no such option"):
        call(library)
