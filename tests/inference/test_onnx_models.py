"""ONNX models with named tensors, here and at an agent, give what onnxruntime itself gives."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vaccel
from tests.inference.pairs import at_once, model_of, objects, pair
from vaccel import Config, Resource, ResourceType, Session
from vaccel.blob import Blob
from vaccel.error import FFIError, InvalidArgument, NotFound, PluginError
from vaccel.inference.image_models import Unfit, open_resource
from vaccel.inference.onnx_models import open_model
from vaccel.inference.strings import packed, strings
from vaccel.ops.onnx import Tensor, TensorType
from vaccel.plugins.onnx import plugin

engine: Any = pytest.importorskip("onnxruntime", reason="the extra vaccel[onnx] is not installed")
onnx: Any = pytest.importorskip("onnx", reason="the tests write models with onnx")
make: Any = onnx.helper

Sessions = tuple[Session, Session]
FLOAT = 1
WEIGHTS = (np.arange(12, dtype=np.float32) - 5).reshape(4, 3) / 7
X = np.arange(8, dtype=np.float32).reshape(2, 4)
OPSET = 19


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    with pair("onnx") as both:
        yield both


def info(name: str, dims: Sequence[int | str], type: int = FLOAT) -> Any:
    return make.make_tensor_value_info(name, type, dims)


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: Any = ()) -> Any:
    graph = make.make_graph(
        nodes,
        "graph",
        inputs,
        outputs,
        [onnx.numpy_helper.from_array(array, name) for name, array in weights],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=9)


def layer() -> bytes:
    """sums = x @ WEIGHTS; squares = sums²"""
    nodes = [
        make.make_node("MatMul", ["x", "weights"], ["sums"]),
        make.make_node("Mul", ["sums", "sums"], ["squares"]),
    ]
    outputs = [info("sums", ["n", 3]), info("squares", ["n", 3])]
    return _bytes(model(nodes, [info("x", ["n", 4])], outputs, [("weights", WEIGHTS)]))


def difference() -> bytes:
    """c = a - b, which tells its inputs apart."""
    inputs = [info("a", ["n", 4]), info("b", ["n", 4])]
    return _bytes(model([make.make_node("Sub", ["a", "b"], ["c"])], inputs, [info("c", ["n", 4])]))


def identity(type: int) -> bytes:
    node = make.make_node("Identity", ["x"], ["y"])
    return _bytes(model([node], [info("x", ["n", 3], type)], [info("y", ["n", 3], type)]))


def _bytes(made: Any) -> bytes:
    return bytes(made.SerializeToString())


def load(session: Session, content: bytes, name: str = "model.onnx") -> Resource:
    resource = model_of(session, content, name)
    session.onnx_model_load(resource)
    return resource


def run(session: Session, resource: Resource, *arrays: Any, **options: Any) -> list[Any]:
    """With arrays by place, and by `named`; gives arrays."""
    named = options.pop("named", {})
    tensors = [Tensor.from_numpy(array) for array in arrays]
    tensors += [Tensor.from_numpy(array, name) for name, array in named.items()]
    return [one.as_numpy() for one in session.onnx_model_run(resource, tensors, **options)]


def direct(content: bytes, **arrays: Any) -> list[Any]:
    """The outputs of onnxruntime, called without us."""
    session = engine.InferenceSession(content, providers=["CPUExecutionProvider"])
    return list(session.run(None, arrays))


def bits(arrays: list[Any]) -> list[Any]:
    return [(array.dtype, array.shape, array.tobytes()) for array in arrays]


# -- results -----------------------------------------------------------------------------------


def test_results_are_those_of_onnxruntime(sessions: Sessions) -> None:
    rng = np.random.default_rng(7)
    for session in sessions:
        resource = load(session, layer())
        for rows in (1, 5, 2, 0, 300):
            x = rng.standard_normal((rows, 4)).astype(np.float32)
            found = run(session, resource, x)
            assert bits(found) == bits(direct(layer(), x=x))
            np.testing.assert_allclose(found[0], x @ WEIGHTS, rtol=1e-5, atol=1e-5)


def test_inputs_are_found_by_name_or_by_place(sessions: Sessions) -> None:
    b = np.ones_like(X)
    for session in sessions:
        resource = load(session, difference())
        assert bits(run(session, resource, X, b)) == bits([X - b])
        assert bits(run(session, resource, named={"b": b, "a": X})) == bits([X - b])


def test_outputs_come_as_named_and_in_the_order_asked_for(sessions: Sessions) -> None:
    sums, squares = direct(layer(), x=X)
    for session in sessions:
        resource = load(session, layer())
        given = [Tensor.from_numpy(X)]
        for names in ([], ["sums", "squares"], ["squares", "sums"], ["squares"]):
            found = session.onnx_model_run(resource, given, names)
            assert [one.name for one in found] == (names or ["sums", "squares"])
            expected = {"sums": sums, "squares": squares}
            assert bits([one.as_numpy() for one in found]) == bits(
                [expected[one.name] for one in found]
            )
        with pytest.raises(InvalidArgument, match=r"out_names: .* sums, squares, found 'means'$"):
            session.onnx_model_run(resource, given, ["means"])


@pytest.mark.parametrize("type", [t for t in TensorType if t.numeric], ids=lambda t: t.name)
def test_every_element_type_passes_through(type: TensorType, sessions: Sessions) -> None:
    x = np.arange(6).reshape(2, 3).astype(type.dtype)
    for session in sessions:
        if type.name.startswith("COMPLEX"):
            with pytest.raises(InvalidArgument, match=r"complex.* is not currently .*supported"):
                load(session, identity(type))
        else:
            assert bits(run(session, load(session, identity(type)), x)) == bits([x])


OPAQUE = [t for t in TensorType if not t.numeric and t.dtype]


@pytest.mark.parametrize("type", OPAQUE, ids=lambda t: t.name)
def test_types_that_numpy_lacks_pass_through(type: TensorType, sessions: Sessions) -> None:
    assert type.dtype
    for rows in (2, 0):
        content = bytes(range(rows * 3 * type.dtype.itemsize))
        tensor = Tensor((rows, 3), type, content, "x")
        for session in sessions:
            resource = load(session, identity(type))
            (found,) = session.onnx_model_run(resource, [tensor])
            assert (found.data_type, found.shape) == (type, (rows, 3))
            assert found.to_bytes() == content


def test_strings_pass_through(sessions: Sessions) -> None:
    texts = np.array([["one", "", "drüben"], ["x" * 1000, "\u20ac", "y"]], object)
    tensor = Tensor((2, 3), TensorType.STRING, packed(texts), "x")
    for session in sessions:
        (found,) = session.onnx_model_run(load(session, identity(TensorType.STRING)), [tensor])
        assert found.data_type is TensorType.STRING
        assert [one.decode() for one in strings(found).ravel()] == texts.ravel().tolist()


def test_inputs_in_any_memory(sessions: Sessions) -> None:
    read_only = np.frombuffer(X.tobytes(), np.float32).reshape(2, 4)
    unaligned = np.ndarray(X.shape, X.dtype, bytearray(1) + X.tobytes(), offset=1)
    for session in sessions:
        resource = load(session, difference())
        for form in (read_only, unaligned, np.asfortranarray(X)):
            assert bits(run(session, resource, form, X)) == bits([X - X])


def test_an_input_may_have_a_default(sessions: Sessions) -> None:
    inputs = [info("a", ["n", 4]), info("b", [1, 4])]
    node = make.make_node("Add", ["a", "b"], ["c"])
    default = np.full((1, 4), 5, np.float32)
    content = _bytes(model([node], inputs, [info("c", ["n", 4])], [("b", default)]))
    for session in sessions:
        resource = load(session, content)
        assert bits(run(session, resource, X)) == bits([X + 5])
        assert bits(run(session, resource, X, default * 2)) == bits([X + 10])
        assert bits(run(session, resource, named={"a": X})) == bits([X + 5])


def test_outputs_are_the_callers_own(sessions: Sessions) -> None:
    x, constant = X.copy(), np.arange(3, dtype=np.float32)
    outputs = [info("x", [2, 4]), info("y", [2, 4]), info("weights", [3])]
    node = make.make_node("Identity", ["x"], ["y"])
    content = _bytes(model([node], [info("x", [2, 4])], outputs, [("weights", constant)]))
    for session in sessions:
        resource = load(session, content)
        for _ in range(2):
            for found in run(session, resource, x):
                if found.flags.writeable:  # not so small ones that have travelled
                    found[:] = 77
            np.testing.assert_array_equal(x, X)
        assert bits(run(session, resource, x)) == bits([X, X, constant])


def test_large_tensors_are_not_copied_on_the_way() -> None:
    with pair("onnx") as (here, _):
        resource = load(here, identity(FLOAT))
        found = run(here, resource, np.zeros((1000, 3), np.float32))
        assert not found[0].flags.owndata  # onnxruntime's own memory
        assert found[0].flags.writeable


# -- files beside the model --------------------------------------------------------------------


def weights_outside(place: str = "weights.bin") -> tuple[bytes, bytes]:
    """The model, and its file of weights."""
    made = onnx.load_from_string(layer())
    (tensor,) = made.graph.initializer
    data = bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, place)
    tensor.ClearField("raw_data")
    return _bytes(made), data


def test_weights_may_lie_in_another_file(sessions: Sessions, tmp_path: Path) -> None:
    content, data = weights_outside()
    (tmp_path / "model.onnx").write_bytes(content)
    (tmp_path / "weights.bin").write_bytes(data)
    blobs = [Blob("weights.bin", memoryview(data)), Blob("model.onnx", memoryview(content))]
    for session in sessions:
        for resource in (
            Resource.from_blobs(blobs, ResourceType.MODEL),
            Resource([tmp_path / "model.onnx", tmp_path / "weights.bin"], ResourceType.MODEL),
        ):
            resource.register(session)
            session.onnx_model_load(resource)
            assert bits(run(session, resource, X)) == bits(direct(layer(), x=X))


def test_a_model_reads_no_files_of_the_process(
    sessions: Sessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, data = weights_outside()
    monkeypatch.chdir(tmp_path)
    Path("weights.bin").write_bytes(data)
    for session in sessions:
        with pytest.raises(InvalidArgument, match=r"not a model that can be loaded: .*weights"):
            load(session, content)


@pytest.mark.parametrize("place", ["weights.bin", "../weights.bin"])
@pytest.mark.parametrize("linked", [False, True])
def test_errors_tell_nobody_where_the_agents_files_are(
    place: str, linked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    folder = tmp_path / "real"
    if linked:
        folder = tmp_path / "link"
        folder.symlink_to(tmp_path / "real")
    monkeypatch.setenv("TMPDIR", str(folder))  # for models in memory whose weights are elsewhere
    content, _ = weights_outside(place)
    (folder / "model.onnx").write_bytes(content)
    (folder / "junk.onnx").write_bytes(b"junk" * 10)
    for resource in (
        Resource(folder / "model.onnx", ResourceType.MODEL),
        Resource(folder / "junk.onnx", ResourceType.MODEL),
        Resource.from_buffer(content, ResourceType.MODEL, name="model.onnx"),
    ):
        with pytest.raises(InvalidArgument, match=r"weights\.bin|junk\.onnx") as caught:
            open_model(resource)
        unfit = open_resource(resource)
        assert isinstance(unfit, Unfit)
        for message in (caught.value.message, unfit.reason("classify")):
            assert str(tmp_path) not in message
            assert "vaccel" not in message  # as in the name of a resource's own folder
        resource.close()


# -- concurrency and memory --------------------------------------------------------------------


def test_threads_with_sessions_of_their_own_share_a_model(sessions: Sessions) -> None:
    inputs = [np.full((i + 1, 4), i, np.float32) for i in range(8)]
    expected = [bits(direct(layer(), x=x)) for x in inputs]
    for session in sessions:
        resource = model_of(session, layer())

        def work(i: int, session: Session = session, resource: Resource = resource) -> None:
            with Session(endpoint=session.endpoint) as own:
                resource.register(own)
                own.onnx_model_load(resource)
                assert len(plugin.models) == 1
                for _ in range(20):
                    assert bits(run(own, resource, inputs[i])) == expected[i]

        at_once(work)
        assert len(plugin.models) == 0


def test_what_runs_leaves_no_objects_behind(sessions: Sessions) -> None:
    for session in sessions:
        resource = load(session, layer())

        def work(session: Session = session, resource: Resource = resource) -> None:
            run(session, resource, X)
            with pytest.raises(InvalidArgument):
                run(session, resource, X[:, :3])

        work()
        before = objects()
        for _ in range(50):
            work()
        assert objects() - before < 50


# -- errors ------------------------------------------------------------------------------------


def test_a_model_must_be_loaded_first(sessions: Sessions) -> None:
    for session in sessions:
        resource = model_of(session, layer())
        calls: list[Callable[[], Any]] = [
            lambda s=session, r=resource: run(s, r, X),  # type: ignore[misc]
            lambda s=session, r=resource: s.onnx_model_unload(r),  # type: ignore[misc]
        ]
        for _ in range(2):
            for call in calls:
                with pytest.raises(NotFound, match="call onnx_model_load first"):
                    call()
            session.onnx_model_load(resource)
            session.onnx_model_unload(resource)


WRONG: dict[str, tuple[list[Tensor], str]] = {
    "number": ([Tensor.from_numpy(X)], "expected 2 tensors, found 1"),
    "none": ([], "expected 2 tensors, found 0"),
    "shape": (
        [Tensor.from_numpy(X), Tensor.from_numpy(X[:, :3])],
        r"in_tensors\[1\]: expected b .*, found float32 \[2, 3\]",
    ),
    "rank": (
        [Tensor.from_numpy(X, "a"), Tensor.from_numpy(X[0], "b")],
        r"in_tensors\[1\]: expected b .*, found float32 \[4\]",
    ),
    "dtype": (
        [Tensor.from_numpy(X.astype("i4"), "a"), Tensor.from_numpy(X, "b")],
        r"in_tensors\[0\]: expected a .*, found int32 \[2, 4\]",
    ),
    "name": (
        [Tensor.from_numpy(X, "a"), Tensor.from_numpy(X, "z")],
        r"in_tensors\[1\]: expected the name of an input, found 'z'",
    ),
    "a name missing": (
        [Tensor.from_numpy(X, "a"), Tensor.from_numpy(X)],
        r"in_tensors\[1\]: expected the name of an input, found one without a name",
    ),
    "a name twice": (
        [Tensor.from_numpy(X, "a"), Tensor.from_numpy(X, "a")],
        r"in_tensors\[1\]: expected each name once, found a again",
    ),
    "an input missing": ([Tensor.from_numpy(X, "b")], "expected also a"),
    "extents that do not go together": (
        [Tensor.from_numpy(X), Tensor.from_numpy(np.ones((3, 4), np.float32))],
        "could not run",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_inputs_are_told_what_the_model_wants(fault: str, sessions: Sessions) -> None:
    tensors, message = WRONG[fault]
    for session in sessions:
        resource = load(session, difference())
        wants = r"the model wants: a float32 \[\?, 4\], b float32 \[\?, 4\]$"
        with pytest.raises(InvalidArgument, match=f"^onnx_model_run: .*{message}.*; {wants}"):
            session.onnx_model_run(resource, tensors)
        assert bits(run(session, resource, X, X)) == bits([X - X])


def test_wrong_strings_are_refused(sessions: Sessions) -> None:
    for session in sessions:
        resource = load(session, identity(TensorType.STRING))
        with pytest.raises(InvalidArgument, match=r"expected the strings of \[2, 3\]"):
            session.onnx_model_run(resource, [Tensor((2, 3), TensorType.STRING, b"123")])
        latin = packed(np.array([["dr\u00fcben".encode("latin-1"), b"", b""]], object))
        with pytest.raises(InvalidArgument, match=r"expected strings in UTF-8, found .*0xfc"):
            session.onnx_model_run(resource, [Tensor((1, 3), TensorType.STRING, latin)])


def test_names_are_texts() -> None:
    with pytest.raises(InvalidArgument, match=r"Tensor: name: expected str, found int"):
        Tensor([1], TensorType.FLOAT, [1.0], 5)  # type: ignore[arg-type]


def test_outputs_that_are_no_tensors_are_named(sessions: Sessions) -> None:
    node = make.make_node("SequenceConstruct", ["x", "x"], ["many"])
    copy = make.make_node("Identity", ["x"], ["y"])
    many = make.make_tensor_sequence_value_info("many", FLOAT, [2, 4])
    content = _bytes(model([node, copy], [info("x", [2, 4])], [many, info("y", [2, 4])]))
    for session in sessions:
        resource = load(session, content)
        with pytest.raises(InvalidArgument, match=r"output many is seq\(tensor\(float\)\)"):
            run(session, resource, X)
        assert bits(run(session, resource, X, out_names=["y"])) == bits([X])


def unknown_operation() -> bytes:
    node = make.make_node("Homemade", ["x"], ["y"])
    return _bytes(model([node], [info("x", [4])], [info("y", [4])]))


def sequence_input() -> bytes:
    node = make.make_node("SequenceLength", ["x"], ["y"])
    many = make.make_tensor_sequence_value_info("x", FLOAT, [2, 4])
    return _bytes(model([node], [many], [info("y", [], TensorType.INT64)]))


GARBAGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "."),
    "noise": (lambda: np.random.default_rng(3).bytes(5000), "protobuf"),
    "a text": (lambda: b"no model\n" * 100, "protobuf"),
    "the first half": (lambda: layer()[: len(layer()) // 2], "protobuf"),
    "an unknown operation": (unknown_operation, "Homemade"),
    "inputs that are no tensors": (sequence_input, r"x: seq\(tensor\(float\)\)"),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_is_no_model_is_refused_by_name(kind: str, sessions: Sessions) -> None:
    content, why = GARBAGE[kind]
    for session in sessions:
        text = rf"^onnx_model_load: resource \d+: thing: not a model that can be loaded: .*{why}"
        with pytest.raises(InvalidArgument, match=text) as caught:
            load(session, content(), "thing")
        assert "\n" not in caught.value.message
        assert "ONNXRuntimeError" not in caught.value.message


def test_without_the_engine_there_is_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    install = r"pip install 'vaccel\[onnx\]'"
    with pytest.raises(FFIError, match=install):
        vaccel.bootstrap(Config(plugins="vaccel.plugins.onnx"))
    vaccel.bootstrap(Config(plugins="noop"))
    with pytest.raises(PluginError, match=install):
        open_model(Resource.from_buffer(layer(), ResourceType.MODEL))
