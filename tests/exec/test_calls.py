"""What a C function gets and gives, wherever it runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exec.conftest import CONFIG, ENDPOINT, compile_c
from vaccel import Arg, ArgType, Resource, ResourceType, Session, bootstrap
from vaccel.agent import Agent
from vaccel.error import InvalidArgument, NotFound, PluginError, SessionClosed
from vaccel.ops.args import DTYPES
from vaccel.testing import check_plugin

Compiled = Callable[[str], Path]

PAIR = 7  # the custom type of calls.c


def value_of(type: ArgType) -> Any:
    if type is ArgType.STRING:
        return "straße"
    if type is ArgType.CUSTOM:
        return bytes(range(8))
    if type not in DTYPES:
        return bytes(range(100))
    dtype = DTYPES[type]
    rng = np.random.default_rng(type)
    array = rng.integers(0, 2 if dtype.kind == "b" else 120, 257).astype(dtype)
    if dtype.kind == "f":
        array = rng.standard_normal(257).astype(dtype)
    return array if type.name.endswith("_ARRAY") else array[:1].copy()


def pair_of(type: ArgType) -> tuple[Arg, Arg]:
    """An argument, and room for another one."""
    value, custom = value_of(type), PAIR if type is ArgType.CUSTOM else 0
    room = np.zeros_like(value) if isinstance(value, np.ndarray) else type_of_room(value)
    return Arg(value, type, custom), Arg(room, type, custom)


def type_of_room(value: Any) -> Any:
    return bytes(len(value)) if isinstance(value, bytes) else " " * len(value.encode())


@pytest.mark.parametrize("library", ["plain", "calls"])
@pytest.mark.parametrize("type", list(ArgType), ids=lambda type: type.name)
def test_each_type_arrives_and_comes_back(
    session: Session, compiled: Compiled, library: str, type: ArgType
) -> None:
    read, write = pair_of(type)
    results = session.exec(str(compiled(library)), "echo", [read], [write])
    assert results is not None
    assert bytes(write.view()) == bytes(read.view())
    np.testing.assert_array_equal(results[0], value_of(type))


def test_all_types_in_one_call(session: Session, compiled: Compiled) -> None:
    read, write = map(list, zip(*map(pair_of, ArgType), strict=True))
    session.exec(str(compiled("calls")), "echo", read, write)
    assert [bytes(arg.view()) for arg in write] == [bytes(arg.view()) for arg in read]


def test_the_function_is_told_type_size_and_custom_type(
    session: Session, compiled: Compiled
) -> None:
    args = [Arg(b"abc", ArgType.CUSTOM, 2**32 - 1), Arg("x", ArgType.STRING), Arg([1.0, 2.0])]
    room = np.zeros(9, np.uint32)
    session.exec(str(compiled("plain")), "describe", args, [Arg(room, ArgType.UINT32_ARRAY)])
    assert room.reshape(3, 3).tolist() == [[29, 3, 2**32 - 1], [27, 2, 0], [0, 8, 0]]


def test_a_custom_type_may_be_taken_apart_by_the_library(
    session: Session, compiled: Compiled
) -> None:
    pair = Arg(np.array([1, 2], np.int32).tobytes(), ArgType.CUSTOM, PAIR)
    room = Arg(bytes(8), ArgType.CUSTOM, PAIR)
    session.exec(str(compiled("calls")), "swap", [pair], [room])
    assert np.frombuffer(room.buf, np.int32).tolist() == [2, 1]


def test_without_write_arguments_there_is_no_result(session: Session, compiled: Compiled) -> None:
    assert session.exec(str(compiled("plain")), "nothing") is None


def test_empty_arguments_are_null(session: Session, compiled: Compiled) -> None:
    room = Arg(np.zeros(0, np.uint8))
    assert session.exec(str(compiled("plain")), "echo", [Arg(b"")], [room]) is not None
    assert room.size == 0


def test_large_arguments(session: Session, compiled: Compiled) -> None:
    data = np.random.default_rng(0).integers(0, 256, 3 << 20, np.uint8)
    room = np.zeros_like(data)
    for size in (len(data), 10, len(data) // 2):
        session.exec(str(compiled("plain")), "increment", [Arg(data[:size])], [Arg(room[:size])])
        np.testing.assert_array_equal(room[:size], data[:size] + np.uint8(1))


def test_a_function_may_read_what_is_in_its_output(session: Session, compiled: Compiled) -> None:
    room = np.array([40], np.int32)
    session.exec(str(compiled("plain")), "accumulate", [Arg(2)], [Arg(room)])
    assert room.tolist() == [42]


def test_inputs_stay_as_they_are(session: Session, compiled: Compiled) -> None:
    data = np.arange(10, dtype=np.uint8)
    data.flags.writeable = False
    session.exec(str(compiled("plain")), "increment", [Arg(data)], [Arg(bytes(10))])
    assert data.tolist() == list(range(10))


def test_an_output_may_become_shorter(session: Session, compiled: Compiled) -> None:
    results = session.exec(str(compiled("plain")), "shorten", [], [Arg(b"a long text")])
    assert results == [b"short"]


@pytest.mark.parametrize(
    ("symbol", "words"), [("lengthen", "13 bytes, the argument offers 12"), ("replace", "buffer")]
)
def test_an_output_can_become_neither_longer_nor_another(
    session: Session, compiled: Compiled, symbol: str, words: str
) -> None:
    with pytest.raises(PluginError, match=words):
        session.exec(str(compiled("plain")), symbol, [], [Arg(bytes(12))])


@pytest.mark.parametrize(("code", "words"), [(22, "22 .*EINVAL"), (-1, "-1, expected 0")])
def test_a_return_value_other_than_0_is_an_error_that_names_it(
    session: Session, compiled: Compiled, code: int, words: str
) -> None:
    room = np.array([5], np.int32)
    with pytest.raises(PluginError, match=f"exec: fails_with: returned {words}"):
        session.exec(str(compiled("plain")), "fails_with", [Arg(code)], [Arg(room)])
    assert session.exec(str(compiled("plain")), "fails_with", [Arg(0)], [Arg(room)]) is not None
    assert room.tolist() == [99]


def test_a_wrong_type_is_the_library_s_error(session: Session, compiled: Compiled) -> None:
    with pytest.raises(PluginError, match="EINVAL"):
        session.exec(
            str(compiled("calls")), "echo", [Arg(1, ArgType.INT32)], [Arg(1.0, ArgType.FLOAT32)]
        )


def test_what_a_library_keeps_lasts_as_long_as_the_session(
    session: Session, compiled: Compiled
) -> None:
    room = Arg(0)
    for expected in (1, 2, 3):
        session.exec(str(compiled("plain")), "count", [], [room])
        # Functions that run in this process share it with everything else there.
        if os.environ.get("VACCEL_EXEC_INPROCESS") is None:
            assert room.buf == expected


def test_threads_may_share_a_session(session: Session, compiled: Compiled) -> None:
    library = str(compiled("plain"))
    wrong: list[Any] = []

    def run(number: int) -> None:
        for i in range(20):
            room = np.array([number], np.int32)
            session.exec(library, "accumulate", [Arg(i)], [Arg(room)])
            if room[0] != number + i:
                wrong.append((number, i, room[0]))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_resource_of_one_library(session: Session, compiled: Compiled) -> None:
    with Resource(compiled("plain"), ResourceType.LIB) as resource:
        resource.register(session)
        room = np.array([40], np.int32)
        session.exec_with_resource(resource, "accumulate", [Arg(2)], [Arg(room)])
        assert room.tolist() == [42]


def test_a_resource_in_memory(session: Session, compiled: Compiled) -> None:
    content = compiled("calls").read_bytes()
    with Resource.from_buffer(content, ResourceType.LIB, name="mine.so") as resource:
        resource.register(session)
        room = Arg(0, ArgType.INT32)
        session.exec_with_resource(resource, "echo", [Arg(9, ArgType.INT32)], [room])
        assert room.buf == 9


def test_a_missing_symbol_is_told_with_those_that_are_there(
    session: Session, compiled: Compiled
) -> None:
    with pytest.raises(NotFound, match=r"no function 'swop'; it has echo, swap$"):
        session.exec(str(compiled("calls")), "swop")
    with Resource(compiled("calls"), ResourceType.LIB) as resource:
        resource.register(session)
        with pytest.raises(NotFound, match=r"exec_with_resource: .*calls\.so.* it has echo, swap$"):
            session.exec_with_resource(resource, "swop")


def test_a_missing_library_is_told(session: Session, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No such file"):
        session.exec(str(tmp_path / "none.so"), "f")
    with pytest.raises(PluginError, match=r"libnone\.so.*cannot open shared object file"):
        session.exec("libnone.so", "f")


def test_a_file_that_is_no_library_is_told(session: Session, tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    for content, words in ((b"hello", "begins with b'hell'"), (b"", "shared library")):
        text.write_bytes(content)
        with pytest.raises(InvalidArgument, match=words):
            session.exec(str(text), "f")
    with pytest.raises(NotFound, match="Is a directory"):
        session.exec(f"{tmp_path}/", "f")


def test_a_library_of_the_system_is_found_by_its_name(session: Session) -> None:
    with pytest.raises(PluginError, match=f"returned {os.sysconf('SC_PAGESIZE')},"):
        session.exec("libc.so.6", "getpagesize")


def test_a_library_that_was_compiled_again_is_loaded_again(
    session: Session, tmp_path: Path
) -> None:
    # The loader of this process would take the new file for the old one, by its name.
    inprocess = "VACCEL_EXEC_INPROCESS" in os.environ
    for number in (3, 3 if inprocess else 4):
        path = tmp_path / "changing.so"
        path.unlink(missing_ok=True)
        compile_c(path, f"int f(void) {{ return {number}; }}")
        with pytest.raises(PluginError, match=f"returned {number} "):
            session.exec(str(path), "f")


def test_a_closed_session_says_so(session: Session, compiled: Compiled) -> None:
    session.exec(str(compiled("plain")), "nothing")
    session.close()
    with pytest.raises(SessionClosed):
        session.exec(str(compiled("plain")), "nothing")


def test_the_plugin_keeps_what_sessions_and_agents_rely_on(compiled: Compiled) -> None:
    library = str(compiled("plain"))

    def call(session: Session) -> Iterator[tuple[Any, ...]]:
        yield library, "nothing", None, None
        yield library, "echo", [Arg(b"abc")], [Arg(bytes(3))]

    def call_resource(session: Session) -> Iterator[tuple[Any, ...]]:
        resource = Resource(library, ResourceType.LIB)
        resource.register(session)
        yield resource, "echo", [Arg(b"abc")], [Arg(bytes(3))]

    samples = {"exec": call, "exec_with_resource": call_resource}
    assert check_plugin(CONFIG.plugins, oracle=None, samples=samples) == list(samples)


def test_the_same_bytes_come_back_wherever_the_function_runs(compiled: Compiled) -> None:
    bootstrap(CONFIG)
    library = str(compiled("plain"))
    data = np.frombuffer(np.random.default_rng(1).bytes(40000), np.float32)
    found = []
    with Agent(ENDPOINT, allow=["exec"]) as agent:
        for endpoint in (None, agent.endpoint):
            rooms = [Arg(np.full_like(data, np.nan)), Arg(0), Arg("    ")]
            with Session(endpoint=endpoint) as session:
                session.exec(library, "echo", [Arg(data), Arg(7), Arg("text")], rooms)
            found.append([bytes(room.view()) for room in rooms])
    assert found[0] == found[1] == [data.tobytes(), b"\7\0\0\0", b"text\0"]
