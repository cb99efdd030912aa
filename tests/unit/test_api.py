"""The names that programs for the 0.8 Python bindings use, as facts: all there, all behave.

One test for each row of that interface; what we do better stands in the tests of the modules.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vaccel
import vaccel.error
import vaccel.ops.tf
import vaccel.ops.tf.lite
import vaccel.ops.torch
from vaccel import Arg, ArgType, Config, OpType, PluginType, Resource, ResourceType, Session
from vaccel.ops import tf, torch
from vaccel.ops.tf import lite

NAMES = [
    *("Arg", "ArgType", "Config", "OpType", "PluginType", "Resource", "ResourceType", "Session"),
    *("__version__", "bootstrap", "cleanup"),
]

# Parameters with their defaults; `*` begins those that go by name only.
SIGNATURES: dict[Any, str] = {
    vaccel.bootstrap: "config=None",
    vaccel.cleanup: "",
    Config: "plugins='libvaccel-noop.so', log_level=1, log_file=None, *, "
    "profiling_enabled=False, version_ignore=False",
    Session: "flags=0",
    Session.noop: "self",
    Session.genop: "self, arg_read, arg_write",
    Session.exec: "self, library, symbol, arg_read=None, arg_write=None",
    Session.exec_with_resource: "self, resource, symbol, arg_read=None, arg_write=None",
    Session.classify: "self, image",
    Session.detect: "self, image",
    Session.segment: "self, image",
    Session.pose: "self, image",
    Session.depth: "self, image",
    Session.sgemm: "self, m, n, k, alpha, a, lda, b, ldb, beta, ldc",
    Session.fpga_arraycopy: "self, a",
    Session.fpga_mmult: "self, a, b",
    Session.fpga_parallel: "self, a, b",
    Session.fpga_vadd: "self, a, b",
    Session.minmax: "self, indata, ndata, low_threshold, high_threshold",
    Session.tf_model_load: "self, resource",
    Session.tf_model_unload: "self, resource",
    Session.tf_model_run: "self, resource, in_nodes, in_tensors, out_nodes, run_options=None",
    Session.tflite_model_load: "self, resource",
    Session.tflite_model_unload: "self, resource",
    Session.tflite_model_run: "self, resource, in_tensors, nr_out_tensors=1",
    Session.torch_model_load: "self, resource",
    Session.torch_model_run: "self, resource, in_tensors, nr_out_tensors=1, run_options=None",
    Session.has_resource: "self, resource",
    Resource: "paths, type",
    Resource.from_buffer: "data, type",
    Resource.from_numpy: "array",
    Resource.register: "self, session",
    Resource.unregister: "self, session",
    Resource.sync: "self, session",
    Arg: "data, type=<ArgType.RAW: 0>, custom_type_id=0",
    tf.Buffer: "data",
    torch.Buffer: "data",
    tf.Node: "name, id=0",
    tf.Status: "code=0, message=''",
    **dict.fromkeys((tf.Tensor, lite.Tensor, torch.Tensor), "dims, data_type, data"),
}


@pytest.fixture
def session() -> Iterator[Session]:
    vaccel.bootstrap(Config("libvaccel-noop.so"))
    with Session() as session:
        yield session


@pytest.fixture
def model(session: Session) -> Resource:
    resource = Resource.from_buffer(b"model", ResourceType.MODEL)
    resource.register(session)
    return resource


def test_the_package_exports_these_names() -> None:
    assert sorted(vaccel.__all__) == sorted(NAMES)
    assert all(hasattr(vaccel, name) for name in NAMES)
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", vaccel.__version__)


@pytest.mark.parametrize("thing", SIGNATURES, ids=lambda thing: thing.__qualname__)
def test_signatures_take_at_least_what_they_took(thing: Any) -> None:
    """More parameters may follow, if each has a default."""
    found = [
        p.replace(annotation=inspect.Parameter.empty)
        for p in inspect.signature(thing).parameters.values()
    ]
    expected = [part for part in SIGNATURES[thing].split(", ") if part]
    by_place = expected[: expected.index("*")] if "*" in expected else expected
    assert [str(p) for p in found][: len(by_place)] == by_place
    rest = {str(p): p for p in found[len(by_place) :]}
    assert set(expected[len(by_place) + 1 :]) <= set(rest)
    assert all(p.default is not p.empty for p in rest.values())


def test_config_has_read_only_properties() -> None:
    config = Config("cpu", 2, "x.log", profiling_enabled=True, version_ignore=True)
    names = ("plugins", "log_level", "log_file", "profiling_enabled", "version_ignore")
    assert [getattr(config, name) for name in names] == ["cpu", 2, "x.log", True, True]
    for name in names:
        with pytest.raises(AttributeError):
            setattr(config, name, None)


def test_session_properties(session: Session) -> None:
    assert (session.id, session.remote_id, session.is_remote) == (1, 0, False)
    assert session.flags == 0
    assert type(session.flags) is PluginType
    assert Session(PluginType.CPU | PluginType.GPU).flags == 0x3


def test_noop_gives_none(session: Session) -> None:
    found: Any = session.noop()
    assert found is None


def test_genop_fills_arguments_in_place(session: Session) -> None:
    read = [Arg(OpType.FPGA_ARRAYCOPY, ArgType.UINT8), Arg([1, 2, 3])]
    write = [Arg([9, 9, 9])]
    genop: Any = session.genop
    assert genop(read, write) is None
    assert write[0].buf == [0, 0, 0]


def test_exec_gives_a_list_or_none(session: Session) -> None:
    library = Resource.from_buffer(b"\x7fELF", ResourceType.LIB)
    library.register(session)
    for call, what in ((session.exec, "lib.so"), (session.exec_with_resource, library)):
        method: Any = call
        assert method(what, "f") is None
        assert method(what, "f", [Arg(1)]) is None
        assert method(what, "f", [Arg(1)], [Arg(5, ArgType.INT32), Arg(b"xy")]) == [0, b"\0\0"]


def test_pictures(session: Session) -> None:
    assert session.classify(b"picture") == (
        "This is a dummy classification tag!",
        "This is a dummy imgname!",
    )
    for method in (session.detect, session.segment, session.pose, session.depth):
        assert method(b"picture") == "This is a dummy imgname!"


def test_numbers_as_lists() -> None:
    vaccel.bootstrap(Config("cpu"))
    with Session() as session:
        assert session.sgemm(2, 2, 2, 1.0, [1.0, 2, 3, 4], 2, [1.0, 0, 0, 1], 2, 0.0, 2) == [
            *(1.0, 2.0),
            *(3.0, 4.0),
        ]
        assert session.fpga_arraycopy([1, 2, 3]) == [1, 2, 3]
        assert session.fpga_mmult([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 0.0, 1.0]) == [1, 2, 3, 4]
        assert session.fpga_parallel([1.0, 2.0], [3.0, 4.0]) == ([4.0, 6.0], [3.0, 8.0])
        assert session.fpga_vadd([1.0, 2.0], [3.0, 4.0]) == [4.0, 6.0]
        data = np.array([1.0, 50.0, 100.0])
        outdata, low, high = session.minmax(data.tobytes(), 3, 10, 60)
        assert type(outdata) is bytes
        assert np.frombuffer(outdata).tolist() == [10.0, 50.0, 60.0]
        assert (low, high) == (1.0, 100.0)


def test_tensorflow(session: Session, model: Resource) -> None:
    assert type(session.tf_model_load(model)) is tf.Status
    tensor = tf.Tensor([1, 3], tf.TensorType.FLOAT, [1.0, 2.0, 3.0])
    tensors, status = session.tf_model_run(
        model, [tf.Node("in", 0)], [tensor], [tf.Node("out", 0)], tf.Buffer(b"")
    )
    assert [type(t) for t in tensors] == [tf.Tensor]
    assert (type(status), status.code, type(status.message)) == (tf.Status, 0, str)
    assert session.tf_model_unload(model).code == 0


def test_tensorflow_lite(session: Session, model: Resource) -> None:
    loaded: Any = session.tflite_model_load(model)
    tensor = lite.Tensor([2], lite.TensorType.FLOAT32, [1.0, 2.0])
    tensors, status = session.tflite_model_run(model, [tensor], 1)
    assert [type(t) for t in tensors] == [lite.Tensor]
    assert (type(status), status) == (int, 0)
    unloaded: Any = session.tflite_model_unload(model)
    assert loaded is unloaded is None


def test_torch(session: Session, model: Resource) -> None:
    loaded: Any = session.torch_model_load(model)
    assert loaded is None
    tensor = torch.Tensor([2], torch.TensorType.FLOAT, [1.0, 2.0])
    found = session.torch_model_run(model, [tensor], run_options=torch.Buffer(b""))
    assert [type(t) for t in found] == [torch.Tensor]


def test_resources(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    path.touch()
    for paths in (str(path), path, [str(path)], [path]):
        resource = Resource(paths, ResourceType.LIB)
        assert (resource.id > 0, resource.remote_id) == (True, 0)
        resource.register(session)
        assert session.has_resource(resource)
        resource.sync(session)
        resource.unregister(session)
        assert not session.has_resource(resource)
    assert Resource.from_buffer(b"1", ResourceType.MODEL).type is ResourceType.MODEL
    assert Resource.from_numpy(np.ones(3)).type is ResourceType.DATA
    assert {member.name: int(member) for member in ResourceType} == {
        "LIB": 0,
        "DATA": 1,
        "MODEL": 2,
    }


@pytest.mark.parametrize(
    "value", [[1, 2], [1.5, 2.5], b"bytes", np.arange(3), "text", 7, 2.5, bytearray(b"x")], ids=repr
)
def test_an_argument_keeps_the_value_in_the_type_it_came_in(value: Any) -> None:
    arg = Arg(value)
    assert (arg.buf is value, arg.type) == (True, ArgType.RAW)
    assert Arg(b"x", ArgType.CUSTOM, 3).custom_type_id == 3


def test_errors_are_runtime_errors_with_code_and_message(session: Session) -> None:
    assert issubclass(vaccel.error.FFIError, RuntimeError)
    with pytest.raises(vaccel.error.FFIError) as caught:
        session.fpga_vadd([1.0], [1.0, 2.0])
    assert caught.value.code == 22
    assert str(caught.value) == caught.value.message != ""


@pytest.mark.parametrize("family", [tf, lite, torch], ids=["tf", "lite", "torch"])
def test_tensors(family: Any) -> None:
    float32 = {tf: "FLOAT", lite: "FLOAT32", torch: "FLOAT"}[family]
    kind = family.TensorType[float32]
    tensor = family.Tensor([2, 2], kind, [1.0, 2.0, 3.0, 4.0])
    assert (tensor.dims, tensor.shape, tensor.data_type) == ([2, 2], (2, 2), kind)
    assert tensor.data == [1.0, 2.0, 3.0, 4.0]
    array = np.array([[1, 2], [3, 4]], np.float32)
    assert bytes(tensor.as_bytelike()) == bytes(tensor.as_memoryview()) == array.tobytes()
    assert tensor.to_bytes() == array.tobytes()
    assert tensor.as_numpy().tolist() == array.tolist()
    assert family.Tensor.from_numpy(array) == tensor
    assert family.Tensor.from_buffer([2, 2], kind, array.tobytes()) == tensor
    assert family.Tensor.empty().data == []


def test_torch_tensors_convert_from_and_to_torch() -> None:
    assert callable(torch.Tensor.from_torch)
    assert callable(torch.Tensor.as_torch)


def test_buffers_nodes_and_statuses() -> None:
    assert tf.Buffer(b"graph").to_bytes() == b"graph"
    assert (tf.Node("x", 2).name, tf.Node("x", 2).id) == ("x", 2)
    assert (tf.Status().code, tf.Status(3, "bad").message) == (0, "bad")
