"""What TensorFlow writes runs on TensorFlow, here and at an agent, as TensorFlow itself runs it.

`make test-tensorflow` runs these; elsewhere they are skipped.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.inference.pairs import at_once, model_of, pair
from vaccel import Resource, ResourceType, Session
from vaccel.blob import Blob
from vaccel.error import DeadlineExceeded, InvalidArgument
from vaccel.inference import tensorflow_graphs
from vaccel.inference.strings import packed, strings
from vaccel.inference.tensorflow_models import TensorFlowModel
from vaccel.ops.tf import Buffer, Node, Tensor, TensorType
from vaccel.plugins.tf import plugin

if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("the extra vaccel[tf] is not installed", allow_module_level=True)
tf: Any = importlib.import_module("tensorflow")
v1 = tf.compat.v1

Sessions = tuple[Session, Session]
X = np.random.default_rng(5).standard_normal((6, 4)).astype(np.float32)
WORDS = np.array([["two", "four"], ["one", "\u20ac"]], object)


class Model(tf.Module):  # type: ignore[misc]
    """Variables, a table with a file, a state, texts; a signature for each."""

    def __init__(self, vocabulary: Path) -> None:
        rng = np.random.default_rng(11)
        self.weights = tf.Variable(rng.standard_normal((4, 3)).astype(np.float32))
        self.bias = tf.Variable(np.array([1, 0, -1], np.float32))
        self.count = tf.Variable(0, dtype=tf.int64)
        line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        reader = tf.lookup.TextFileInitializer(str(vocabulary), tf.string, line, tf.int64, number)
        self.table = tf.lookup.StaticHashTable(reader, -1)

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def dense(self, x: Any) -> dict[str, Any]:
        y = tf.nn.relu(x @ self.weights + self.bias)
        return {"y": y, "best": tf.argmax(y, 1), "weights": self.weights.read_value()}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.string, name="words")])
    def look_up(self, words: Any) -> dict[str, Any]:
        return {"ids": self.table.lookup(words), "upper": tf.strings.upper(words)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64, name="by")])
    def add(self, by: Any) -> dict[str, Any]:
        return {"count": self.count.assign_add(by)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("saved")
    vocabulary = base / "words.txt"
    vocabulary.write_text("one\ntwo\nthree\n")
    model = Model(vocabulary)
    signatures = {
        "serving_default": model.dense,
        "look_up": model.look_up,
        "add": model.add,
    }
    tf.saved_model.save(model, str(base / "model"), signatures=signatures)
    vocabulary.unlink()  # the model has its own
    return base / "model"


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    with pair("tf") as both:
        yield both


def load(session: Session, path: Path) -> Resource:
    resource = Resource(path, ResourceType.MODEL)
    resource.register(session)
    session.tf_model_load(resource)
    return resource


def load_graph(session: Session, graph: Any) -> Resource:
    resource = model_of(session, graph.as_graph_def().SerializeToString(), "graph.pb")
    session.tf_model_load(resource)
    return resource


def run(session: Session, resource: Resource, given: dict[str, Any], *outputs: str) -> list[Any]:
    found, _ = session.tf_model_run(
        resource,
        [Node(name) for name in given],
        [one if isinstance(one, Tensor) else Tensor.from_numpy(one) for one in given.values()],
        [Node(*_split(name)) for name in outputs],
    )
    return [one.as_numpy() if one.data_type.numeric else one for one in found]


def _split(name: str) -> tuple[str, int]:
    node, _, place = name.partition(":")
    return node, int(place or 0)


def bits(arrays: Any) -> list[Any]:
    return [(one.dtype, one.shape, one.tobytes()) for one in arrays]


def texts(words: Any) -> Tensor:
    return Tensor(words.shape, TensorType.STRING, packed(words))


# -- SavedModels -------------------------------------------------------------------------------


def test_variables_are_those_that_were_saved(sessions: Sessions, saved: Path) -> None:
    expected = tf.saved_model.load(str(saved)).signatures["serving_default"](x=tf.constant(X))
    names = ("best", "weights", "y")
    for session in sessions:
        resource = load(session, saved)
        for outputs in (names, ()):
            found = run(session, resource, {"x": X}, *outputs)
            assert bits(found) == bits(expected[name].numpy() for name in names)


def test_every_signature_serves_under_its_names_and_the_graphs(
    sessions: Sessions, saved: Path
) -> None:
    look_up = tf.saved_model.load(str(saved)).signatures["look_up"]
    expected = look_up(words=tf.constant(WORDS))
    outputs = _meta(saved).signature_def["look_up"].outputs
    for session in sessions:
        resource = load(session, saved)
        for given, names in (
            ("words", ("ids", "upper")),
            ("look_up_words", (outputs["ids"].name, outputs["upper"].name)),
        ):
            ids, upper = run(session, resource, {given: texts(WORDS)}, *names)
            assert bits([ids]) == bits([expected["ids"].numpy()])
            assert ids.tolist() == [[1, -1], [0, -1]]
            assert strings(upper).tolist() == expected["upper"].numpy().tolist()


def _meta(saved: Path) -> Any:
    proto = importlib.import_module("tensorflow.core.protobuf.saved_model_pb2").SavedModel
    return proto.FromString((saved / "saved_model.pb").read_bytes()).meta_graphs[0]


def test_a_models_state_is_shared_until_it_is_unloaded(sessions: Sessions, saved: Path) -> None:
    for session in sessions:
        for _ in range(2):
            resource = load(session, saved)
            counts = [
                int(run(session, resource, {"by": np.array(2, np.int64)}, "count")[0])
                for _ in range(3)
            ]
            assert counts == [2, 4, 6]
            session.tf_model_unload(resource)


def test_models_of_tensorflow_1_run(sessions: Sessions, tmp_path: Path) -> None:
    """With reference variables, a saver of their time, and a table that an operation sets up."""
    graph = tf.Graph()
    with graph.as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        weights = v1.get_variable(
            "w", initializer=np.arange(12, dtype="f4").reshape(4, 3), use_resource=False
        )
        y = tf.matmul(x, weights, name="y")
        keys = tf.lookup.KeyValueTensorInitializer(["one", "two"], np.array([1, 2], np.int64))
        table = tf.lookup.StaticHashTable(keys, -1)
        word = v1.placeholder(tf.string, [None], name="word")
        number = table.lookup(word)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        v1.saved_model.simple_save(
            session,
            str(tmp_path / "model"),
            {"x": x, "word": word},
            {"y": y, "number": number},
            legacy_init_op=v1.tables_initializer(),
        )
        expected = session.run(y, {x: X})
    for one in sessions:
        resource = load(one, tmp_path / "model")
        assert bits(run(one, resource, {"x": X}, "y")) == bits([expected])
        (found,) = run(one, resource, {"word": texts(np.array(["two", "x"], object))}, "number")
        assert found.tolist() == [2, -1]


def test_an_agents_models_are_complete_or_say_what_lacks(sessions: Sessions, saved: Path) -> None:
    content = (saved / "saved_model.pb").read_bytes()
    for session in sessions:
        resource = model_of(session, content, "saved_model.pb")
        with pytest.raises(InvalidArgument, match=r"assets/words.txt is not in the resource"):
            session.tf_model_load(resource)


# -- frozen graphs -----------------------------------------------------------------------------


def test_a_frozen_function_gives_what_the_function_gives(sessions: Sessions, saved: Path) -> None:
    freeze = importlib.import_module("tensorflow.python.framework.convert_to_constants")
    model = tf.saved_model.load(str(saved))  # which has the variables that are frozen
    frozen = freeze.convert_variables_to_constants_v2(model.signatures["serving_default"])
    expected = frozen(x=tf.constant(X))
    names = [one.name for one in frozen.outputs]
    for session in sessions:
        resource = load_graph(session, frozen.graph)
        found = run(session, resource, {frozen.inputs[0].name.removesuffix(":0"): X}, *names)
        assert bits(found) == bits(one.numpy() for one in expected)


@pytest.mark.parametrize(
    "type", [t for t in TensorType if t.dtype is not None], ids=lambda t: t.name
)
def test_every_element_type_passes_through(type: TensorType, sessions: Sessions) -> None:
    """Bit for bit: quantized types, bfloat16, and integers and doubles in their full width, too."""
    assert type.dtype
    content = np.random.default_rng(2).bytes(6 * type.dtype.itemsize)
    if type is TensorType.BOOL:
        content = b"\1\0\1\1\0\0"
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.dtypes.as_dtype(int(type)), [None, 3], name="x")
        tf.identity(x, name="same")
        tf.reshape(x, [-1], name="flat")
    for session in sessions:
        resource = load_graph(session, graph)
        found, _ = session.tf_model_run(
            resource, [Node("x")], [Tensor((2, 3), type, content)], [Node("same"), Node("flat")]
        )
        for tensor, shape in zip(found, ([2, 3], [6]), strict=True):
            assert (tensor.data_type, tensor.dims) == (type, shape)
            assert tensor.to_bytes() == content


def test_texts_may_be_any_bytes(sessions: Sessions) -> None:
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.string, [], name="x")
        tf.strings.join([x, x], name="y")
    for session in sessions:
        resource = load_graph(session, graph)
        word = np.array(b"\xff\0a", object)
        (found,) = run(session, resource, {"x": texts(word)}, "y")
        assert (found.dims, strings(found).tolist()) == ([], b"\xff\0a\xff\0a")


def test_a_value_may_take_the_place_of_any_node(sessions: Sessions) -> None:
    graph = tf.Graph()
    with graph.as_default():
        a, b = (v1.placeholder(tf.float32, [None], name=name) for name in "ab")
        default = v1.placeholder_with_default(np.float32(3), [], name="scale")
        total = tf.add(a, b, name="total")
        tf.multiply(total, default, name="y")
    one, two = np.array([1, 2], np.float32), np.array([5, 5], np.float32)
    for session in sessions:
        resource = load_graph(session, graph)
        given: dict[str, Any] = {"a": one, "b": two}
        assert run(session, resource, given, "y")[0].tolist() == [18, 21]
        given["scale"] = np.array(2, np.float32)
        assert run(session, resource, given, "y")[0].tolist() == [12, 14]
        assert run(session, resource, {"total": two}, "y")[0].tolist() == [15, 15]
        assert run(session, resource, {"a": one}, "a")[0].tolist() == [1, 2]
        wants = r"the model wants: a:0 float32 \[\?\], b:0 float32 \[\?\], \[scale:0 float32 \[\]\]"
        with pytest.raises(InvalidArgument, match=f"expected also b:0; {wants}"):
            run(session, resource, {"a": one}, "y")


def test_what_the_model_keeps_cannot_be_changed_through_outputs(sessions: Sessions) -> None:
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None], name="x")
        tf.identity(x, name="same")
        tf.constant(np.ones(64, np.float32), name="constant")
    given = np.zeros(64, np.float32)
    for session in sessions:
        resource = load_graph(session, graph)
        for _ in range(2):
            found = run(session, resource, {"x": given}, "same", "constant", "same")
            assert [one[0] for one in found] == [0, 1, 0]
            for i, one in enumerate(found):
                if one.flags.writeable:
                    one += i + 1
            assert given[0] == 0


@pytest.mark.parametrize("type", [TensorType.FLOAT, TensorType.BFLOAT16, TensorType.QINT8])
def test_inputs_go_to_tensorflow_where_they_lie(type: TensorType) -> None:
    assert type.dtype
    graph = tf.Graph()
    with graph.as_default():
        tf.identity(v1.placeholder(tf.dtypes.as_dtype(int(type)), [None], name="x"), name="y")
    memory = np.zeros(64 * type.dtype.itemsize, np.uint8)
    value = TensorFlowModel(tf, graph.as_graph_def())._value(Tensor((64,), type, memory))
    assert np.shares_memory(value, memory)


# -- concurrency and memory --------------------------------------------------------------------


def test_threads_with_sessions_of_their_own_share_a_model(sessions: Sessions, saved: Path) -> None:
    dense = tf.saved_model.load(str(saved)).signatures["serving_default"]
    inputs = [X[: i % 6 + 1] * i for i in range(8)]
    expected = [bits([dense(x=tf.constant(one))["y"].numpy()]) for one in inputs]
    for session in sessions:
        resource = Resource(saved, ResourceType.MODEL)
        resource.register(session)

        def work(i: int, session: Session = session, resource: Resource = resource) -> None:
            with Session(endpoint=session.endpoint) as own:
                resource.register(own)
                own.tf_model_load(resource)
                assert len(plugin.models) == 1
                for _ in range(20):
                    assert bits(run(own, resource, {"x": inputs[i]}, "y")) == expected[i]

        at_once(work)
        assert len(plugin.models) == 0


def test_weights_go_with_the_last_session() -> None:
    graph = tf.Graph()
    with graph.as_default():
        tf.negative(tf.constant(np.ones(12_000_000, np.float32), name="w"), name="y")
    with pair("tf") as (session, _):
        gc.disable()
        try:
            sizes = []
            for _ in range(6):
                resource = load_graph(session, graph)
                run(session, resource, {}, "y")
                session.tf_model_unload(resource)
                resource.close()
                sizes.append(_resident())
        finally:
            gc.enable()
    # 48 MB each: so large that the C library gives them back to the system.
    assert max(sizes[2:]) - sizes[1] < 24 * 2**20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.subprocess
def test_tensorflow_is_silent_and_waits_for_the_first_model(tmp_path: Path) -> None:
    """Its notes are seen where the user has set their level; its import takes seconds."""
    graph = tf.Graph()
    with graph.as_default():
        tf.constant(np.ones(1, np.float32), name="y")
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    program = """
import os, sys, vaccel
from vaccel.ops.tf import Node
vaccel.bootstrap(vaccel.Config(plugins="tf"))
assert "tensorflow" not in sys.modules
before = dict(os.environ)
with vaccel.Session() as session:
    resource = vaccel.Resource(sys.argv[1], vaccel.ResourceType.MODEL)
    resource.register(session)
    session.tf_model_load(resource)
    (found,), _ = session.tf_model_run(resource, [], [], [Node("y")])
print(found.as_numpy().tolist(), os.environ.get("TF_CPP_MIN_LOG_LEVEL"))
"""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    for level, noisy in ((None, False), ("0", True)):
        given = environment | ({} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level})
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "graph.pb")],
            env=given,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["[1.0]", str(level)]
        assert bool(done.stderr) == noisy, done.stderr


# -- errors ------------------------------------------------------------------------------------


def test_run_options_are_tensorflows(sessions: Sessions) -> None:
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [], name="x")
        tf.negative(x, name="y")
        endless = tf.while_loop(lambda i: i >= 0, lambda i: i, [x])
        tf.identity(endless[0] if isinstance(endless, (list, tuple)) else endless, name="endless")
    one = Tensor.from_numpy(np.array(1, np.float32))
    for session in sessions:
        resource = load_graph(session, graph)

        def go(output: str, options: Any, resource: Any = resource, session: Any = session) -> Any:
            content = Buffer(options.SerializeToString())
            return session.tf_model_run(resource, [Node("x")], [one], [Node(output)], content)

        (found,), _ = go("y", v1.RunOptions(inter_op_thread_pool=-1))
        assert found.as_numpy() == -1
        with pytest.raises(DeadlineExceeded, match="tf_model_run"):
            go("endless", v1.RunOptions(timeout_in_ms=200))
        options = v1.RunOptions()
        options.debug_options.global_step = 1
        with pytest.raises(InvalidArgument, match="run_options: expected none with debug_options"):
            go("y", options)


def test_outputs_that_are_no_tensors_are_refused(sessions: Sessions, saved: Path) -> None:
    for session in sessions:
        resource = load(session, saved)
        table = next(n.name for n in _meta(saved).graph_def.node if n.op == "HashTableV2")
        with pytest.raises(InvalidArgument, match=f"that have data, found {table}:0: resource"):
            run(session, resource, {}, table)


# -- models that reach outside of themselves ---------------------------------------------------


OUTSIDE = {
    "written": "WriteFile",
    "read": "ReadFile",
    "hidden": "ReadFile",
    "branch": "ReadFile",
    "printed": "PrintV2 into a file",
    "called": "EagerPyFunc",
    "saved": "SaveV2",
    "restored": "RestoreV2",
}


def reach_outside(folder: Path) -> None:
    """Nodes of the names in OUTSIDE, in the default graph."""
    target, one = str(folder / "target"), tf.constant(1.0)
    with tf.control_dependencies([tf.io.write_file(target, "text")]):
        tf.identity(one, name="written")
    with tf.control_dependencies([tf.print("text", output_stream=f"file://{target}")]):
        tf.identity(one, name="printed")
    with tf.control_dependencies(
        [tf.raw_ops.SaveV2(prefix=target, tensor_names=["a"], shape_and_slices=[""], tensors=[one])]
    ):
        tf.identity(one, name="saved")
    read = tf.function(lambda: tf.io.read_file(target))
    tf.identity(tf.io.read_file(target), name="read")
    tf.identity(read(), name="hidden")
    tf.identity(tf.cond(one > 2, read, lambda: ""), name="branch")
    tf.identity(tf.py_function(lambda: 1.0, [], tf.float32), name="called")
    tf.raw_ops.RestoreV2(
        prefix=target,
        tensor_names=["a"],
        shape_and_slices=[""],
        dtypes=[tf.float32],
        name="restored",
    )


def save_as_tensorflow_1(path: Path, initialize: Any = None) -> None:
    x = v1.placeholder(tf.float32, [], name="x")
    y = tf.negative(x, name="y")
    with v1.Session() as session:
        v1.saved_model.simple_save(
            session, str(path), {"x": x}, {"y": y}, legacy_init_op=initialize
        )


def test_operations_that_reach_outside_are_not_run(sessions: Sessions, tmp_path: Path) -> None:
    with tf.Graph().as_default():
        reach_outside(tmp_path)
        save_as_tensorflow_1(tmp_path / "model")
    for session in sessions:
        resource = load(session, tmp_path / "model")
        x = np.array(2, np.float32)
        for name, operation in OUTSIDE.items():
            with pytest.raises(InvalidArgument, match=rf"it runs {operation}: operations that re"):
                run(session, resource, {}, name)
        assert run(session, resource, {"x": x}, "y")[0] == -2
    assert not (tmp_path / "target").exists()


def test_graphs_whose_outputs_reach_outside_are_no_models(
    sessions: Sessions, tmp_path: Path
) -> None:
    graph = tf.Graph()
    with graph.as_default():
        reach_outside(tmp_path)
    for session in sessions:
        with pytest.raises(InvalidArgument, match="can be loaded: it runs EagerPyFunc, "):
            load_graph(session, graph)


def initializing(name: str, folder: Path) -> Any:
    """An operation that is run when the model is loaded."""
    table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    path = tf.constant(str(folder / "secret"))
    if name == "computed":
        path = tf.strings.join([str(folder), "/secret"])
    elif name == "picked":
        path = tf.constant([str(folder / "secret")])[0]
    if name == "written":
        return tf.io.write_file(str(folder / "target"), "text")
    return tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=table, filename=path, key_index=-2, value_index=-1, vocab_size=-1
    )


@pytest.mark.parametrize("name", ["constant", "computed", "picked", "written"])
def test_loading_a_model_reads_no_file_but_its_own(
    name: str, sessions: Sessions, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("word\n")
    with tf.Graph().as_default():
        save_as_tensorflow_1(tmp_path / "model", initializing(name, tmp_path))
    for session in sessions:
        with pytest.raises(InvalidArgument, match="not a model that can be loaded: it runs "):
            load(session, tmp_path / "model")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("fault", ["writes", "keeps a text", "knows its file", "reads its file"])
def test_reading_the_variables_does_nothing_else(
    fault: str, sessions: Sessions, saved: Path, tmp_path: Path
) -> None:
    """Files of the model may say which operation reads its variables."""
    proto = importlib.import_module("tensorflow.core.protobuf.saved_model_pb2").SavedModel
    content = proto.FromString((saved / "saved_model.pb").read_bytes())
    meta = content.meta_graphs[0]
    graph = tf.Graph()
    with graph.as_default():
        name = v1.placeholder(tf.string, [], name="evil_name")
        path = tf.constant("/variables") if fault == "knows its file" else name
        kind = tf.string if fault == "keeps a text" else tf.float32
        if fault == "reads its file":
            (path,) = tf.raw_ops.RestoreV2(
                prefix=name, tensor_names=["b"], shape_and_slices=[""], dtypes=[tf.string]
            )
        (value,) = tf.raw_ops.RestoreV2(
            prefix=path, tensor_names=["a"], shape_and_slices=[""], dtypes=[kind]
        )
        if fault == "writes":
            done = tf.io.write_file(str(tmp_path / "target"), tf.strings.as_string(value))
        else:
            handle = tf.raw_ops.VarHandleOp(dtype=kind, shape=[])
            done = tf.raw_ops.AssignVariableOp(resource=handle, value=value)
    for node in graph.as_graph_def().node:
        node.name = node.name if node.name.startswith("evil") else f"evil/{node.name}"
        node.input[:] = [
            one if one.lstrip("^").startswith("evil") else re.sub(r"^(\^?)", r"\1evil/", one)
            for one in node.input
        ]
        meta.graph_def.node.append(node)
    meta.saver_def.restore_op_name = f"evil/{done.name}"
    meta.saver_def.filename_tensor_name = "evil_name:0"
    blobs = {
        str(one.relative_to(saved)): one.read_bytes() for one in saved.rglob("*") if one.is_file()
    }
    blobs["saved_model.pb"] = content.SerializeToString()
    for session in sessions:
        resource = Resource.from_blobs(
            [Blob(name, memoryview(data)) for name, data in blobs.items()], ResourceType.MODEL
        )
        resource.register(session)
        with pytest.raises(
            InvalidArgument, match=r"it runs [\w, ]*(File|text|texts|computed): operations"
        ):
            session.tf_model_load(resource)
    assert not (tmp_path / "target").exists()


def test_no_operation_that_is_given_files_or_hosts_is_run() -> None:
    """By the names of what TensorFlow's operations take; those listed mean something else."""
    names = re.compile(
        r"(^|_)(file|filename|filenames|path|prefix|prefixes|dir|directory|logdir|address|host"
        r"|port|urls?|patterns?|protocol|descriptor_source)($|_)"
    )
    mean = re.compile(
        # regular expressions; the processor beside an accelerator
        r"(Static)?Regex.*|_?(Fused|Mkl|Quantized|Xla|TPU|Cudnn).*|ConfigureAndInitializeGlobalTPU"
    )
    library = importlib.import_module("tensorflow.python.client.pywrap_tf_session")
    op_list = importlib.import_module("tensorflow.core.framework.op_def_pb2").OpList
    content = library.TF_GetBuffer(library.TF_GetAllOpList())
    missed = []
    for one in op_list.FromString(content).op:
        given = [x.name for x in (*one.input_arg, *one.attr) if names.search(x.name)]
        refused = tensorflow_graphs._OUTSIDE.fullmatch(one.name)
        if given and not refused and not mean.fullmatch(one.name):
            missed.append(f"{one.name}({', '.join(given)})")
    assert ", ".join(missed) == ""
