"""TensorFlow models, here and at an agent, give what the engine itself gives."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vaccel
from tests.inference import tf_models as made
from tests.inference.pairs import at_once, model_of, objects, pair
from vaccel import Config, Resource, ResourceType, Session
from vaccel.blob import Blob
from vaccel.error import FFIError, InvalidArgument, NotFound, PluginError
from vaccel.inference import savedmodel
from vaccel.inference.strings import packed, strings
from vaccel.inference.tf_models import open_model
from vaccel.ops.tf import Buffer, Node, Status, Tensor, TensorType
from vaccel.plugins.tf import plugin

EXTRAS = {"openvino": "openvino", "tensorflow": "tf"}
# Imported before the tests begin, as some begin a thread that stays.
ENGINES = {name: importlib.import_module(name) for name in EXTRAS if importlib.util.find_spec(name)}

Sessions = tuple[Session, Session]
F = TensorType.FLOAT
WEIGHTS = (np.arange(12, dtype=np.float32) - 5).reshape(4, 3) / 7
BIAS = np.array([1, 0, -1], np.float32)
X = np.arange(8, dtype=np.float32).reshape(2, 4)

# relu(x @ WEIGHTS + BIAS), and its three columns
NODES = [
    made.placeholder("serving_default_x", (-1, 4)),
    made.const("weights", WEIGHTS),
    made.const("bias", BIAS),
    made.node(
        "product",
        "MatMul",
        "serving_default_x",
        "weights",
        T=F,
        transpose_a=False,
        transpose_b=False,
    ),
    made.node("sums", "AddV2", "product", "bias", T=F),
    made.node("relu", "Relu", "sums", T=F),
    made.const("axis", np.array(1, np.int32)),
    made.node("columns", "Split", "axis", "relu", T=F, num_split=3),
    *(made.node(f"end{i}", "Identity", f"columns:{i}" if i else "columns", T=F) for i in range(3)),
]
VARIABLES = Path(__file__).parent / "data" / "saved_model"
SIGNATURES: Any = {
    "other": ({"z": ("serving_default_x:0", (-1, 4))}, {"sums": ("sums:0", (-1, 3))}),
    "serving_default": (
        {"x": ("serving_default_x:0", (-1, 4))},
        {"y": ("relu:0", (-1, 3)), "last": ("columns:2", (-1, 1))},
    ),
}


@pytest.fixture(params=EXTRAS)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine that serves. TensorFlow is asked first, so the other one needs its absence."""
    name: str = request.param
    if name not in ENGINES:
        pytest.skip(f"the extra vaccel[{EXTRAS[name]}] is not installed")
    if name == "openvino":
        monkeypatch.setitem(sys.modules, "tensorflow", None)
    return name


@pytest.fixture
def sessions(engine: str) -> Iterator[Sessions]:
    with pair("tf") as both:
        yield both


def layer() -> bytes:
    return made.frozen(*NODES)


def difference() -> bytes:
    """c = a - b, which tells its inputs apart."""
    inputs = [made.placeholder(name, (-1, 4)) for name in "ab"]
    return made.frozen(*inputs, made.node("c", "Sub", "a", "b", T=F))


def flat(type: TensorType) -> bytes:
    """The elements of a ? × 3 tensor in one row."""
    return made.frozen(
        made.placeholder("x", (-1, 3), type),
        made.const("row", np.array([-1], np.int32)),
        made.node("y", "Reshape", "x", "row", T=type, Tshape=TensorType.INT32),
    )


def load(session: Session, content: bytes, name: str = "model.pb") -> Resource:
    resource = model_of(session, content, name)
    assert session.tf_model_load(resource) == Status()
    return resource


def run(session: Session, resource: Resource, given: dict[Any, Any], *outputs: Any) -> list[Any]:
    """Nodes are names, or (name, index)."""
    tensors = [Tensor.from_numpy(array) for array in given.values()]
    found, status = session.tf_model_run(
        resource, [_node(one) for one in given], tensors, [_node(one) for one in outputs]
    )
    assert status == Status()
    return [tensor.as_numpy() for tensor in found]


def _node(one: Any) -> Node:
    return Node(one) if isinstance(one, str) else Node(*one)


def direct(engine: str, path: Path, x: Any, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """The outputs of the engine, called without us, by name; of a frozen graph the ones named."""
    if engine == "tensorflow":
        tf: Any = ENGINES[engine]
        if path.is_dir():
            signature = tf.saved_model.load(str(path)).signatures["serving_default"]
            return {name: one.numpy() for name, one in signature(x=tf.constant(x)).items()}
        definition = tf.compat.v1.GraphDef.FromString(path.read_bytes())
        load = tf.graph_util.import_graph_def
        graph = tf.compat.v1.wrap_function(lambda: load(definition, name=""), [])
        run = graph.prune("serving_default_x:0", list(names))
        found = run(tf.constant(x))
        return {name: one.numpy() for name, one in zip(names, found, strict=True)}
    core: Any = ENGINES[engine].Core()
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    found = core.compile_model(core.read_model(path), "CPU", config)([x])
    return {name: found[port] for port in found for name in port.get_names()}


def bits(arrays: list[Any]) -> list[Any]:
    return [(array.dtype, array.shape, array.tobytes()) for array in arrays]


# -- frozen graphs -----------------------------------------------------------------------------


def test_results_are_those_of_the_engine(sessions: Sessions, engine: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pb"
    path.write_bytes(layer())
    rng = np.random.default_rng(7)
    for session in sessions:
        resource = load(session, layer())
        for rows in (1, 5, 2, 0, 300):
            x = rng.standard_normal((rows, 4)).astype(np.float32)
            ends = tuple(f"end{i}:0" for i in range(3))
            expected = direct(engine, path, x, ends)
            for names in ((), ("end0", "end1", "end2"), (("columns", 0), "end1", ("columns", 2))):
                found = run(session, resource, {"serving_default_x": x}, *names)
                assert bits(found) == bits([expected[name] for name in ends])
            y = np.maximum(x @ WEIGHTS + BIAS, 0)
            np.testing.assert_allclose(np.hstack(found), y, rtol=1e-5, atol=1e-5)


def test_nodes_are_found_by_name_whatever_their_order(sessions: Sessions) -> None:
    b = np.ones_like(X)
    for session in sessions:
        resource = load(session, difference())
        assert bits(run(session, resource, {"a": X, "b": b}, "c")) == bits([X - b])
        assert bits(run(session, resource, {("b", 0): b, ("a", 0): X}, ("c", 0))) == bits([X - b])


def test_any_node_may_be_an_output(sessions: Sessions) -> None:
    product = X @ WEIGHTS
    for session in sessions:
        resource = load(session, layer())
        given = {"serving_default_x": X}
        ends = bits(run(session, resource, given))
        assert len(ends) == 3
        for names in (["product"], ["columns", "product", "relu"], ["relu", ("columns", 0)]):
            found = run(session, resource, given, *names)
            assert len(found) == len(names)
            if "product" in names:
                inside = found[names.index("product")]
                np.testing.assert_allclose(inside, product, rtol=1e-5, atol=1e-5)
        assert bits(run(session, resource, given)) == ends  # as many as before


@pytest.mark.parametrize(
    "type", [t for t in TensorType if t.numeric and t.name[0] != "Q"], ids=lambda t: t.name
)
def test_every_element_type_passes_through(
    type: TensorType, sessions: Sessions, engine: str
) -> None:
    assert type.dtype
    x = np.arange(6).reshape(2, 3).astype(type.dtype)
    for session in sessions:
        resource = load(session, flat(type))
        if type.dtype.kind == "c" and engine == "openvino":
            with pytest.raises(InvalidArgument, match=f"found {type.dtype}"):
                run(session, resource, {"x": x}, "y")
        else:
            assert bits(run(session, resource, {"x": x}, "y")) == bits([x.ravel()])


def test_bfloat16_passes_through(sessions: Sessions) -> None:
    content = bytes(range(12))
    tensor = Tensor((2, 3), TensorType.BFLOAT16, content)
    for session in sessions:
        resource = load(session, flat(TensorType.BFLOAT16))
        (found,), _ = session.tf_model_run(resource, [Node("x")], [tensor], [Node("y")])
        assert (found.data_type, found.dims) == (TensorType.BFLOAT16, [6])
        assert found.to_bytes() == content


def test_strings_pass_through(sessions: Sessions) -> None:
    words = np.array([["one", "", "dr\u00fcben"], ["x" * 1000, "\u20ac", "y"]], object)
    tensor = Tensor((2, 3), TensorType.STRING, packed(words))
    for session in sessions:
        resource = load(session, flat(TensorType.STRING))
        (found,), _ = session.tf_model_run(resource, [Node("x")], [tensor], [Node("y")])
        assert (found.data_type, found.dims) == (TensorType.STRING, [6])
        assert [one.decode() for one in strings(found)] == words.ravel().tolist()


@pytest.mark.parametrize("type", [TensorType.INT64, TensorType.UINT64, TensorType.UINT32])
def test_integers_that_openvino_would_cut_off_are_refused(
    type: TensorType, sessions: Sessions, engine: str
) -> None:
    assert type.dtype
    fits, wider = np.array([[0, 1, 2**31 - 1]]), np.array([[0, 1, 2**31]])
    for session in sessions:
        resource = load(session, flat(type))
        found = run(session, resource, {"x": fits.astype(type.dtype)}, "y")
        assert found[0].tolist() == fits.ravel().tolist()
        if engine == "tensorflow":
            found = run(session, resource, {"x": wider.astype(type.dtype)}, "y")
            assert found[0].tolist() == wider.ravel().tolist()
            continue
        with pytest.raises(InvalidArgument, match="32 bits, found 0 to 2147483648"):
            run(session, resource, {"x": wider.astype(type.dtype)}, "y")


def test_inputs_in_any_memory(sessions: Sessions) -> None:
    read_only = np.frombuffer(X.tobytes(), np.float32).reshape(2, 4)
    unaligned = np.ndarray(X.shape, X.dtype, bytearray(1) + X.tobytes(), offset=1)
    for session in sessions:
        resource = load(session, difference())
        for form in (read_only, unaligned, np.asfortranarray(X)):
            found = run(session, resource, {"a": form, "b": X}, "c")
            assert bits(found) == bits([X - X])
            run(session, resource, {"a": X, "b": -X}, "c")
            assert bits(found) == bits([X - X])  # the caller's own


# -- SavedModels -------------------------------------------------------------------------------


def test_a_saved_models_nodes_have_two_names(
    sessions: Sessions, engine: str, tmp_path: Path
) -> None:
    content = made.saved(NODES, SIGNATURES)
    (tmp_path / savedmodel.FILE).write_bytes(content)
    expected = direct(engine, tmp_path, X)
    for session in sessions:
        by_path = Resource(tmp_path / savedmodel.FILE, ResourceType.MODEL)
        by_path.register(session)
        session.tf_model_load(by_path)
        for resource in (by_path, load(session, content, savedmodel.FILE)):
            for one in ("serving_default_x", "x"):
                for names in (["relu", ("columns", 2)], ["y", "last"]):
                    found = run(session, resource, {one: X}, *names)
                    assert bits(found) == bits([expected["y"], expected["last"]])


def test_a_saved_model_may_be_a_folder(sessions: Sessions, engine: str, tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "words.txt").write_text("one")
    (tmp_path / savedmodel.FILE).write_bytes(made.saved(NODES, SIGNATURES))
    for session in sessions:
        resource = Resource(tmp_path, ResourceType.MODEL)
        resource.register(session)
        session.tf_model_load(resource)
        expected = bits([direct(engine, tmp_path, X)["y"]])
        assert bits(run(session, resource, {"x": X}, "y")) == expected


def test_the_only_signature_serves_whatever_its_name(sessions: Sessions) -> None:
    content = made.saved(NODES, {"other": SIGNATURES["other"]})
    for session in sessions:
        resource = load(session, content, savedmodel.FILE)
        by_signature = run(session, resource, {"z": X}, "sums")
        assert bits(by_signature) == bits(run(session, resource, {"serving_default_x": X}, "sums"))
        assert by_signature[0].shape == (2, 3)


def test_a_saved_model_has_its_variables(sessions: Sessions, engine: str) -> None:
    """As TensorFlow writes it: data/write_saved_model.py."""
    expected = direct(engine, VARIABLES, X)
    y = np.maximum(X @ WEIGHTS + BIAS, 0)
    np.testing.assert_allclose(expected["y"], y, rtol=1e-5)
    for session in sessions:
        resource = Resource(VARIABLES, ResourceType.MODEL)
        resource.register(session)
        session.tf_model_load(resource)
        for name in ("x", "serving_default_x"):
            found = run(session, resource, {name: X}, "y", "best")
            assert bits(found) == bits([expected["y"], expected["best"]])


def test_files_beside_a_saved_model_do_not_confuse(sessions: Sessions) -> None:
    content = made.saved(NODES, SIGNATURES)
    blobs = [
        Blob("fingerprint.pb", memoryview(b"\x08\x01")),
        Blob(savedmodel.FILE, memoryview(content)),
    ]
    for session in sessions:
        resource = Resource.from_blobs(blobs, ResourceType.MODEL)
        resource.register(session)
        session.tf_model_load(resource)
        assert run(session, resource, {"x": X}, "y")[0].shape == (2, 3)


def test_signatures_are_read_without_tensorflow() -> None:
    found = savedmodel.signatures(memoryview(made.saved(NODES, SIGNATURES)))
    assert list(found) == ["other", "serving_default"]
    assert found["serving_default"].inputs == {"x": "serving_default_x:0"}
    assert found["serving_default"].outputs == {"y": "relu:0", "last": "columns:2"}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for read in (savedmodel.signatures, savedmodel.check_graph):
        with contextlib.suppress(InvalidArgument):
            read(memoryview(content))


@given(st.data())
def test_damaged_models_are_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(made.saved(NODES[:2], SIGNATURES))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidArgument):
        savedmodel.signatures(memoryview(content))


# -- concurrency and memory --------------------------------------------------------------------


def test_threads_with_sessions_of_their_own_share_a_model(sessions: Sessions) -> None:
    inputs = [np.full((i + 1, 4), i, np.float32) for i in range(8)]
    for session in sessions:
        resource = model_of(session, layer())

        def work(i: int, session: Session = session, resource: Resource = resource) -> None:
            with Session(endpoint=session.endpoint) as own:
                resource.register(own)
                own.tf_model_load(resource)
                assert len(plugin.models) == 1
                expected = bits(run(own, resource, {"serving_default_x": inputs[i]}, "relu"))
                assert expected[0][1] == (i + 1, 3)
                for _ in range(20):
                    found = run(own, resource, {"serving_default_x": inputs[i]}, "relu")
                    assert bits(found) == expected

        at_once(work)
        assert len(plugin.models) == 0


def test_what_runs_leaves_no_objects_behind(sessions: Sessions) -> None:
    for session in sessions:
        resource = load(session, difference())

        def work(session: Session = session, resource: Resource = resource) -> None:
            run(session, resource, {"a": X, "b": X}, "c")
            with pytest.raises(InvalidArgument):
                run(session, resource, {"a": X, "b": X[:, :3]}, "c")

        work()
        before = objects()
        for _ in range(50):
            work()
        assert objects() - before < 50


# -- errors ------------------------------------------------------------------------------------


def test_a_model_must_be_loaded_first(sessions: Sessions) -> None:
    for session in sessions:
        resource = model_of(session, difference())
        calls: list[Callable[[], Any]] = [
            lambda s=session, r=resource: run(s, r, {"a": X, "b": X}, "c"),  # type: ignore[misc]
            lambda s=session, r=resource: s.tf_model_unload(r),  # type: ignore[misc]
        ]
        for _ in range(2):
            for call in calls:
                with pytest.raises(NotFound, match="call tf_model_load first"):
                    call()
            session.tf_model_load(resource)
            assert session.tf_model_unload(resource) == Status()


WRONG: dict[str, tuple[dict[Any, Any], str]] = {
    "number": ({"a": X}, "expected also b:0"),
    "none": ({}, "expected also a:0, b:0"),
    "shape": (
        {"a": X, "b": X[:, :3]},
        r"in_tensors\[1\]: expected b:0 .*, found float32 \[2, 3\]",
    ),
    "rank": ({"a": X, "b": X[0]}, r"in_tensors\[1\]: expected b:0 .*, found float32 \[4\]"),
    "dtype": (
        {"a": X.astype("i4"), "b": X},
        r"in_tensors\[0\]: expected a:0 .*, found int32 \[2, 4\]",
    ),
    "name": ({"a": X, "z": X}, r"in_tensors\[1\]: expected the name of an input, found 'z:0'"),
    "index": ({"a": X, ("b", 1): X}, "expected the name of an input, found 'b:1'"),
    "a node twice": ({"a": X, ("a", 0): X}, "expected each name once, found a:0 again"),
    "extents that do not go together": ({"a": X, "b": np.ones((3, 4), "f4")}, "could not run"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_inputs_are_told_what_the_model_wants(fault: str, sessions: Sessions) -> None:
    arrays, message = WRONG[fault]
    for session in sessions:
        resource = load(session, difference())
        wants = r"the model wants: a:0 float32 \[\?, 4\], b:0 float32 \[\?, 4\]$"
        with pytest.raises(InvalidArgument, match=f"^tf_model_run: .*{message}.*; {wants}"):
            run(session, resource, arrays, "c")
        assert bits(run(session, resource, {"a": X, "b": X}, "c")) == bits([X - X])


def test_other_wrong_arguments(sessions: Sessions, engine: str) -> None:
    for session in sessions:
        resource = load(session, difference())
        nodes, tensors = [Node("a"), Node("b")], [Tensor.from_numpy(X)] * 2
        with pytest.raises(
            InvalidArgument, match=r"in_tensors: expected inputs=2 .*, found inputs=1"
        ):
            session.tf_model_run(resource, nodes, tensors[:1], [])
        for node in (Node("zzz"), Node("c", 1), Node("c", -1)):
            with pytest.raises(
                InvalidArgument, match=r"expected nodes of the graph, such as .*c:0"
            ):
                session.tf_model_run(resource, nodes, tensors, [node])
        expected = "none, as TensorFlow alone" if engine == "openvino" else "TensorFlow's message"
        with pytest.raises(InvalidArgument, match=f"run_options: expected {expected}.* 3 bytes"):
            session.tf_model_run(resource, nodes, tensors, [Node("c")], Buffer(b"abc"))
        session.tf_model_run(resource, nodes, tensors, [Node("c")], Buffer(b""))


def unknown_operation() -> bytes:
    return made.frozen(made.placeholder("x", (2,)), made.node("y", "Homemade", "x"))


GARBAGE: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "nothing": (lambda: b"", "thing", "no frozen graph"),
    "noise": (lambda: np.random.default_rng(3).bytes(5000), "thing", "no "),
    "a text": (lambda: b"no model\n" * 100, "thing", "no "),
    "the first half": (lambda: layer()[: len(layer()) // 2], "thing", "no protobuf message"),
    "an unknown operation": (unknown_operation, "thing", "operations that [A-Z]\\w+ lacks: Homema"),
    "a SavedModel of nothing": (lambda: b"", savedmodel.FILE, "no SavedModel"),
    "a graph as SavedModel": (layer, savedmodel.FILE, "no SavedModel"),
    "half a SavedModel": (
        lambda: made.saved(NODES, SIGNATURES)[:300],
        savedmodel.FILE,
        "no protobuf message",
    ),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_is_no_model_is_refused_by_name(kind: str, sessions: Sessions) -> None:
    content, name, why = GARBAGE[kind]
    for session in sessions:
        text = rf"^tf_model_load: resource \d+: {name}: not a model that can be loaded: .*{why}"
        with pytest.raises(InvalidArgument, match=text) as caught:
            load(session, content(), name)
        assert "\n" not in caught.value.message


# -- engines -----------------------------------------------------------------------------------


def converted() -> bytes:
    """As `difference`, in ONNX, with the names that converters give."""
    onnx = pytest.importorskip("onnx", reason="the tests write models with onnx")
    make = onnx.helper
    names = {name: make.make_tensor_value_info(name, 1, ["n", 4]) for name in ("a:0", "b:0", "c:0")}
    node = make.make_node("Sub", ["a:0", "b:0"], ["c:0"])
    graph = make.make_graph([node], "g", [names["a:0"], names["b:0"]], [names["c:0"]])
    opset = [make.make_opsetid("", 19)]
    return bytes(make.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString())


@pytest.mark.parametrize("have", ["an engine", "onnxruntime"])
def test_a_converted_model_serves_where_there_is_no_other_way(
    have: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="the extra vaccel[onnx] is not installed")
    blobs = [Blob("model.onnx", memoryview(converted()))]
    if have == "onnxruntime":
        blobs.append(Blob("model.pb", memoryview(difference())))
        without_engines(monkeypatch)
    b = np.ones_like(X)
    with pair("tf") as sessions:
        for session in sessions:
            resource = Resource.from_blobs(blobs, ResourceType.MODEL)
            resource.register(session)
            session.tf_model_load(resource)
            assert bits(run(session, resource, {"b": b, "a": X}, "c")) == bits([X - b])
            assert bits(run(session, resource, {"b": b, "a": X})) == bits([X - b])
            with pytest.raises(InvalidArgument, match=r"^tf_model_run: .*wants: a:0 float32"):
                run(session, resource, {"a": X, "z": X}, "c")
            with pytest.raises(InvalidArgument, match=r"^tf_model_run: .*found 'z:0'"):
                run(session, resource, {"a": X, "b": X}, "z")


def without_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in EXTRAS:
        monkeypatch.setitem(sys.modules, name, None)


def test_without_an_engine_there_is_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_engines(monkeypatch)
    resource = Resource.from_buffer(layer(), ResourceType.MODEL)
    install = r"pip install 'vaccel\[tf\]'.*'vaccel\[openvino\]'"
    with pytest.raises(PluginError, match=install):
        open_model(resource)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(FFIError, match=install):
        vaccel.bootstrap(Config(plugins="vaccel.plugins.tf"))
    vaccel.bootstrap(Config(plugins="noop"))


@pytest.mark.skipif("tensorflow" in ENGINES, reason="the real one comes before the folder")
def test_a_folder_that_is_named_as_an_engine_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_engines(monkeypatch)
    (tmp_path / "tensorflow").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorflow")
    with pytest.raises(PluginError, match="neither tensorflow nor openvino"):
        open_model(Resource.from_buffer(layer(), ResourceType.MODEL))
