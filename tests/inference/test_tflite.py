"""TensorFlow Lite models, here and at an agent, give what LiteRT itself gives."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inference import tflite_models as made
from tests.inference.pairs import at_once, model_of, objects, pair
from tests.inference.tflite_models import Op, T
from vaccel import Resource, Session
from vaccel.error import InvalidArgument, NotFound
from vaccel.inference.lite_models import LiteModel
from vaccel.inference.strings import packed, strings
from vaccel.ops.tf.lite import Tensor, TensorType
from vaccel.plugins.tflite import plugin

engine: Any = pytest.importorskip(
    "ai_edge_litert.interpreter", reason="the extra vaccel[tflite] is not installed"
)
pytest.importorskip("flatbuffers", reason="the tests write models with flatbuffers")

Sessions = tuple[Session, Session]
WEIGHTS = (np.arange(12, dtype=np.float32) - 5).reshape(3, 4) / 7
BIAS = np.array([1, 0, -1], np.float32)


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    with pair("tflite") as both:
        yield both


def addition(type: str = "float32", dims: tuple[int, ...] = (-1, 4)) -> bytes:
    """c = a + b"""
    tensors = [T("a", dims, type), T("b", dims, type), T("c", dims, type)]
    return made.model(tensors, [Op(made.ADD, [0, 1], [2], made.ADD_OPTIONS)], [0, 1], [2])


def flat(type: str) -> bytes:
    """The six elements of a 2 × 3 tensor in one row."""
    tensors = [
        T("x", (2, 3), type),
        T("to", (1,), "int32", np.array([-1], np.int32)),
        T("y", (6,), type),
    ]
    return made.model(tensors, [Op(made.RESHAPE, [0, 1], [2])], [0], [2])


def layer() -> bytes:
    """Sums of four columns, and their squares."""
    tensors = [
        T("x", (-1, 4)),
        T("weights", (3, 4), data=WEIGHTS),
        T("bias", (3,), data=BIAS),
        T("sums", (-1, 3)),
        T("squares", (-1, 3)),
    ]
    ops = [
        Op(made.FULLY_CONNECTED, [0, 1, 2], [3], made.FULLY_CONNECTED_OPTIONS),
        Op(made.MUL, [3, 3], [4], made.MUL_OPTIONS),
    ]
    return made.model(tensors, ops, [0], [3, 4])


def custom(*names: str) -> bytes:
    tensors = [T("x", (2,)), T("y", (2,))]
    return made.model(tensors, [Op(made.CUSTOM, [0], [1], custom=n) for n in names], [0], [1])


def load(session: Session, content: bytes, name: str = "model.tflite") -> Resource:
    resource = model_of(session, content, name)
    session.tflite_model_load(resource)
    return resource


def run(session: Session, resource: Resource, *arrays: Any, count: int = 0) -> list[Any]:
    tensors = [Tensor.from_numpy(np.asarray(array)) for array in arrays]
    found, status = session.tflite_model_run(resource, tensors, count)
    assert status == 0
    return [tensor.as_numpy() for tensor in found]


def direct(content: bytes, *arrays: Any) -> list[Any]:
    """The outputs of LiteRT, called without us."""
    interpreter = engine.Interpreter(model_content=content)
    inputs = interpreter.get_input_details()
    for one, array in zip(inputs, arrays, strict=True):
        interpreter.resize_tensor_input(one["index"], array.shape)
    interpreter.allocate_tensors()
    for one, array in zip(inputs, arrays, strict=True):
        interpreter.set_tensor(one["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]


def bits(arrays: list[Any]) -> list[Any]:
    return [(array.dtype, array.shape, array.tobytes()) for array in arrays]


# -- results -----------------------------------------------------------------------------------


def test_results_are_those_of_litert(sessions: Sessions) -> None:
    rng = np.random.default_rng(7)
    for session in sessions:
        model = load(session, layer())
        for rows in (1, 5, 2, 5, 0, 300):  # growing and shrinking
            x = rng.standard_normal((rows, 4)).astype(np.float32)
            found = run(session, model, x)
            assert bits(found) == bits(direct(layer(), x))
            np.testing.assert_allclose(found[0], x @ WEIGHTS.T + BIAS, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(found[1], found[0] ** 2)


@pytest.mark.parametrize("type", [name for name in made.TYPES if name != "STRING"])
def test_every_element_type_passes_through(type: str, sessions: Sessions) -> None:
    x = np.arange(6).reshape(2, 3).astype(type)
    for session in sessions:
        assert bits(run(session, load(session, flat(type)), x)) == bits([x.ravel()])


@pytest.mark.parametrize("type", ["float32", "int32", "int64"])
def test_sums_of_every_type_that_litert_adds(type: str, sessions: Sessions) -> None:
    a, b = np.arange(8).reshape(2, 4).astype(type), np.full((2, 4), 3, type)
    for session in sessions:
        assert bits(run(session, load(session, addition(type)), a, b)) == bits([a + b])


def test_quantised_sums_are_those_of_litert(sessions: Sessions) -> None:
    tensors = [T(name, (4,), "int8", scale=0.5) for name in "abc"]
    content = made.model(tensors, [Op(made.ADD, [0, 1], [2], made.ADD_OPTIONS)], [0, 1], [2])
    a, b = np.array([1, -2, 100, 7], np.int8), np.array([5, 5, 100, -7], np.int8)
    for session in sessions:
        found = run(session, load(session, content), a, b)
        assert (
            bits(found) == bits(direct(content, a, b)) == bits([np.array([6, 3, 127, 0], np.int8)])
        )


def test_a_model_of_fixed_shape_and_no_dims(sessions: Sessions) -> None:
    content = addition(dims=())
    for session in sessions:
        found = run(session, load(session, content), np.float32(2), np.float32(3))
        assert bits(found) == bits([np.array(5, np.float32)])


def test_the_caller_says_how_many_outputs_it_wants(sessions: Sessions) -> None:
    x = np.ones((1, 4), np.float32)
    for session in sessions:
        model = load(session, layer())
        both = bits(run(session, model, x))
        assert bits(run(session, model, x, count=1)) == both[:1]
        assert bits(run(session, model, x, count=2)) == both
        with pytest.raises(InvalidArgument, match=r"nr_out_tensors: expected at most 2.*found 3"):
            run(session, model, x, count=3)


def test_inputs_in_any_memory(sessions: Sessions) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    read_only = np.frombuffer(x.tobytes(), np.float32).reshape(2, 4)
    unaligned = np.ndarray(x.shape, x.dtype, bytearray(1) + x.tobytes(), offset=1)
    for session in sessions:
        model = load(session, addition())
        for form in (read_only, unaligned, np.asfortranarray(x)):
            assert bits(run(session, model, form, x)) == bits([x + x])


# -- strings -----------------------------------------------------------------------------------


def test_strings_pass_through(sessions: Sessions) -> None:
    texts = np.array(
        [[b"one", b"", "dr\u00fcben".encode()], [b"\0\xff", b"x" * 1000, b"y"]], object
    )
    tensor = Tensor((2, 3), TensorType.STRING, packed(texts))
    for session in sessions:
        model = load(session, flat("STRING"))
        (found,), _ = session.tflite_model_run(model, [tensor], 1)
        assert found.data_type is TensorType.STRING
        assert found.dims == [6]
        assert strings(found).tolist() == texts.ravel().tolist()


def test_strings_lie_as_tensorflow_lite_has_them() -> None:
    data = packed(np.array([b"ab", b"c"], object))
    assert data == struct.pack("<4i", 2, 16, 18, 19) + b"abc"


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_packed_strings_are_found_again(items: list[bytes]) -> None:
    array = np.empty(len(items), object)
    array[:] = items
    tensor = Tensor((len(items),), TensorType.STRING, packed(array))
    assert strings(tensor).tolist() == items


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=6), st.binary(max_size=20))
def test_other_bytes_are_no_strings(head: list[int], rest: bytes) -> None:
    data = struct.pack(f"<{len(head)}i", *head) + rest
    tensor = Tensor((2,), TensorType.STRING, data)
    places = struct.unpack_from("<3i", data, 4) if len(data) >= 16 else (0, 0, 0)
    if data[:4] == b"\2\0\0\0" and 16 <= places[0] <= places[1] <= places[2] <= len(data):
        assert len(strings(tensor)) == 2
    else:
        with pytest.raises(InvalidArgument, match=r"expected the strings of \[2\]"):
            strings(tensor)


# -- concurrency and memory --------------------------------------------------------------------


def test_threads_with_sessions_of_their_own_share_a_model(sessions: Sessions) -> None:
    # Of different heights, so that a result in another call's interpreter would show.
    inputs = [np.full((i + 1, 4), i, np.float32) for i in range(8)]
    expected = [bits(direct(layer(), x)) for x in inputs]
    for session in sessions:
        model = model_of(session, layer())

        def work(i: int, session: Session = session, model: Resource = model) -> None:
            with Session(endpoint=session.endpoint) as own:
                model.register(own)
                own.tflite_model_load(model)
                assert len(plugin.models) == 1
                for _ in range(20):
                    assert bits(run(own, model, inputs[i])) == expected[i]

        at_once(work)


def test_idle_interpreters_are_no_more_than_processors() -> None:
    model = LiteModel(addition())
    x = Tensor.from_numpy(np.ones((2, 4), np.float32))

    def work(i: int) -> None:
        for _ in range(20):
            model.run([x, x], 1)

    at_once(work, 16)
    assert 1 <= len(model._idle) <= (os.cpu_count() or 1)


def test_what_runs_leaves_no_objects_behind(sessions: Sessions) -> None:
    for session in sessions:
        model = load(session, layer())

        def work(session: Session = session, model: Resource = model) -> None:
            for rows in (1, 2):
                run(session, model, np.ones((rows, 4), np.float32))
            with pytest.raises(InvalidArgument):
                run(session, model, np.ones((2, 5), np.float32))

        work()
        before = objects()
        for _ in range(50):
            work()
        assert objects() - before < 50


# -- errors ------------------------------------------------------------------------------------


def test_a_model_must_be_loaded_first(sessions: Sessions) -> None:
    x = np.ones((1, 4), np.float32)
    for session in sessions:
        model = model_of(session, layer())
        with pytest.raises(NotFound, match="call tflite_model_load first"):
            run(session, model, x)
        session.tflite_model_load(model)
        session.tflite_model_unload(model)
        for call in (lambda s=session, m=model: run(s, m, x), lambda: unload(session, model)):  # noqa: B023
            with pytest.raises(NotFound, match="call tflite_model_load first"):
                call()


def unload(session: Session, model: Resource) -> None:
    session.tflite_model_unload(model)


ROW = np.ones((2, 4), np.float32)
WRONG: dict[str, tuple[list[Any], str]] = {
    "number": ([ROW], "expected 2 tensors, found 1"),
    "none": ([], "expected 2 tensors, found 0"),
    "shape": ([ROW, ROW[:, :3]], r"in_tensors\[1\]: expected b .*, found float32 \[2, 3\]"),
    "rank": ([ROW, ROW[0]], r"in_tensors\[1\]: expected b .*, found float32 \[4\]"),
    "dtype": ([ROW.astype("i4"), ROW], r"in_tensors\[0\]: expected a .*, found int32 \[2, 4\]"),
    "shapes that do not go together": ([ROW, np.ones((3, 4), np.float32)], "could not run"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_inputs_are_told_what_the_model_wants(fault: str, sessions: Sessions) -> None:
    arrays, message = WRONG[fault]
    for session in sessions:
        model = load(session, addition())
        wants = r"the model wants: a float32 \[\?, 4\], b float32 \[\?, 4\]$"
        with pytest.raises(InvalidArgument, match=f"^tflite_model_run: .*{message}.*; {wants}"):
            run(session, model, *arrays)
        assert bits(run(session, model, ROW, ROW)) == bits([ROW + ROW])


def test_wrong_strings_are_refused(sessions: Sessions) -> None:
    for session in sessions:
        model = load(session, flat("STRING"))
        with pytest.raises(InvalidArgument, match=r"expected the strings of \[2, 3\]"):
            session.tflite_model_run(model, [Tensor((2, 3), TensorType.STRING, b"123")], 1)


def test_operations_of_tensorflow_are_named(sessions: Sessions) -> None:
    for session in sessions:
        with pytest.raises(InvalidArgument, match=r"TensorFlow itself.*: FlexErf, FlexRoll;"):
            load(session, custom("FlexRoll", "FlexErf"))


def test_an_unknown_operation_is_named(sessions: Sessions) -> None:
    for session in sessions:
        with pytest.raises(InvalidArgument, match="custom op: Homemade"):
            load(session, custom("Homemade"))


GARBAGE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "noise": lambda: np.random.default_rng(3).bytes(5000),
    "a text": lambda: b"no model\n" * 100,
    "the first half": lambda: layer()[: len(layer()) // 2],
    "the last half": lambda: layer()[len(layer()) // 2 :],
    "another kind of FlatBuffer": lambda: layer()[:4] + b"ABCD" + layer()[8:],
    "an identifier alone": lambda: b"\x08\0\0\0TFL3" + bytes(100),
    "a file without a graph": lambda: without_graphs(),
}


def without_graphs() -> bytes:
    """The field with the graphs struck out of the root table's vtable."""
    content = bytearray(layer())
    (root,) = struct.unpack_from("<I", content)
    (back,) = struct.unpack_from("<i", content, root)
    struct.pack_into("<H", content, root - back + 8, 0)
    return bytes(content)


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_is_no_model_is_refused_by_name(kind: str, sessions: Sessions) -> None:
    for session in sessions:
        text = r"^tflite_model_load: resource \d+: thing: not a model that can be loaded: ."
        with pytest.raises(InvalidArgument, match=text) as caught:
            load(session, GARBAGE[kind](), "thing")
        assert "\n" not in caught.value.message
