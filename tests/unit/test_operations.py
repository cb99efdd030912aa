"""Operations: valid arguments in every form work, others get an error that says which and why."""

from __future__ import annotations

import array
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vaccel
from tests.processes import abstract
from vaccel import Arg, ArgType, Config, OpType, Resource, ResourceType, Session, runtime
from vaccel.agent import Agent
from vaccel.blob import BlobType
from vaccel.error import InvalidArgument, NotFound, NotSupported
from vaccel.ops import onnx, tf, torch
from vaccel.ops.catalog import BY_NAME, EXTENSIONS, OPERATIONS
from vaccel.ops.kinds import WireArg
from vaccel.ops.numbers import Array
from vaccel.ops.objects import Object, ResourceLike, ResourceRef
from vaccel.ops.spec import Operation
from vaccel.ops.tf import lite
from vaccel.plugin import Plugin
from vaccel.rpc import messages
from vaccel.testing import strategies
from vaccel.testing.forms import FORMS

GENOP = [op for op in OPERATIONS.values() if op.method == "Genop"]
F4 = np.float32


@pytest.fixture
def session() -> Iterator[Session]:
    vaccel.bootstrap(Config(plugins="cpu:noop"))
    with Session() as session:
        yield session


def floats(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, F4)


# -- declarations ----------------------------------------------------------------------------------


def test_every_operation_of_the_protocol_is_declared() -> None:
    assert set(range(24)) == {code for code in OPERATIONS if code < EXTENSIONS} == set(OpType)


def test_codes_have_the_names_of_the_protocol() -> None:
    # Where a 0.8 name and the method's differ, as (code's name, method).
    others = {
        **{f"IMAGE_{name}": name.lower() for name in ("CLASSIFY", "DETECT", "SEGMENT")},
        **{f"IMAGE_{name}": name.lower() for name in ("POSE", "DEPTH")},
        "BLAS_SGEMM": "sgemm",
        "FPGA_VECTORADD": "fpga_vadd",
    }
    for code in OpType:
        assert OPERATIONS[code].name == others.get(code.name, code.name.lower())


@pytest.mark.parametrize(
    ("enum", "schema"),
    [
        (ArgType, "vaccel.genop.ArgType"),
        (ResourceType, "vaccel.resource.ResourceType"),
        (BlobType, "vaccel.resource.BlobType"),
        (tf.TensorType, "vaccel.tf.TensorType"),
        (lite.TensorType, "vaccel.tflite.TensorType"),
        (torch.TensorType, "vaccel.torch.TensorType"),
        (onnx.TensorType, "vaccel.onnx.TensorType"),
    ],
)
def test_enums_have_the_numbers_of_the_schema(enum: Any, schema: str) -> None:
    message = {
        "vaccel.genop.ArgType": (messages.Arg, "arg_type"),
        "vaccel.resource.ResourceType": (messages.RegisterResourceRequest, "resource_type"),
        "vaccel.resource.BlobType": (messages.Blob, "type"),
        "vaccel.tf.TensorType": (messages.TfTensor, "type"),
        "vaccel.tflite.TensorType": (messages.TfliteTensor, "type"),
        "vaccel.torch.TensorType": (messages.TorchTensor, "type"),
        "vaccel.onnx.TensorType": (messages.OnnxTensor, "type"),
    }[schema]
    described = message[0].DESCRIPTOR.fields_by_name[message[1]].enum_type
    assert described.full_name == schema
    numbers = {value.name: value.number for value in described.values}
    numbers.pop("UNSPECIFIED", None)  # proto3's zero, which no tensor has
    assert {member.name: int(member) for member in enum} == numbers


# -- the Genop form --------------------------------------------------------------------------------


class Numbered(ResourceLike):
    """A resource, as far as packing knows one."""

    def __init__(self, number: int) -> None:
        self.id = number

    def registered_with(self, session: Any) -> bool:
        return True


def travelled(arg: WireArg) -> WireArg:
    """As the other side gets it: bytes that lie elsewhere; nothing where only room is offered."""
    return arg if arg.buf is None else arg._replace(buf=bytes(memoryview(arg.buf)))


@pytest.mark.parametrize("op", GENOP, ids=lambda op: op.name)
def test_arguments_survive_packing(op: Operation) -> None:
    resources = st.builds(Numbered, st.integers(1, 2**63 - 1))

    @given(strategies.arguments(op, forms=tuple(FORMS), resource=resources))
    def check(args: tuple[Any, ...]) -> None:
        checked, dims = op.check(args)
        sent = list(checked)
        if op.resource is not None:
            sent[op.resource] = checked[op.resource].id
        read = [travelled(arg) for arg in op.read_args(sent)]
        write = [travelled(arg) for arg in op.write_args(checked, dims)]
        assert (read[0].type, bytes(read[0].buf)) == (ArgType.UINT8, bytes([op.code]))
        for one, other in zip(op.unpack(read[1:], write, Numbered), checked, strict=True):
            assert described(one) == described(other)

    check()


def described(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, list):
        return [described(item) for item in value]
    if isinstance(value, Arg):
        return value.type, value.custom_type_id, bytes(value.view())
    if isinstance(value, Numbered):
        return value.id
    return repr(value) if isinstance(value, float) else value


@pytest.mark.parametrize("op", OPERATIONS.values(), ids=lambda op: op.name)
def test_noop_answers_in_the_declared_types(op: Operation) -> None:
    vaccel.bootstrap(Config(plugins="noop"))

    @given(st.data())
    def check(data: st.DataObject) -> None:
        with Session() as session:
            args = data.draw(strategies.arguments(op))
            for arg in args:
                if isinstance(arg, Resource):
                    arg.register(session)
            checked, dims = op.check(args)
            values = op.values(session.run(op, checked))
            for kind, value in zip(op.outputs.values(), values, strict=True):
                if isinstance(kind, Array):
                    assert (value.dtype, value.shape) == (kind.dtype, kind.shape(dims))
                else:
                    kind.check(value, {})
            for arg in args:
                if isinstance(arg, Resource):
                    arg.close()

    check()


def test_noop_answers_as_many_tensors_as_the_caller_expects(session: Session) -> None:
    one, two = tf.Tensor.from_numpy(ONE), tf.Tensor.from_numpy(floats(1, 2))
    nodes = [tf.Node(name) for name in "xyz"]
    with Resource.from_buffer(b"", ResourceType.MODEL) as model:
        model.register(session)
        found, _ = session.tf_model_run(model, nodes[:2], [one, two], nodes)
        assert found == [one, two, one]
        assert session.tf_model_run(model, nodes[:2], [one, two], [])[0] == [one, two]
        small, large = lite.Tensor.from_numpy(ONE), lite.Tensor.from_numpy(floats(1, 2))
        assert session.tflite_model_run(model, [small, large], 3)[0] == [small, large, small]
        assert session.tflite_model_run(model, [small, large])[0] == [small]
        assert session.torch_model_run(model, [], 2) == [torch.Tensor.empty()] * 2
        named = onnx.Tensor.from_numpy(ONE, "x")
        assert session.onnx_model_run(model, [named]) == [named]
        assert session.onnx_model_run(model, [named], ["y", "z"]) == [named, named]


def test_noop_fills_write_arguments(session: Session) -> None:
    room = np.ones(3, np.int16)
    result = session.exec("lib.so", "f", [Arg(1)], [Arg(room, ArgType.INT16_ARRAY), Arg([7, 8])])
    assert result is not None
    assert result[0] is room
    assert room.tolist() == [0, 0, 0]
    assert result[1] == [0, 0]


def test_a_gemm_reply_needs_room() -> None:
    op = BY_NAME["sgemm"]
    checked, dims = op.check((2, 2, 1, 1.0, floats(1, 2), 1, floats(1, 2), 2, 0.0, 2, None))
    read, (room,) = op.read_args(checked), op.write_args(checked, dims)
    assert room.size == 16
    with pytest.raises(InvalidArgument, match="sgemm: c: expected at least 4 elements"):
        op.unpack(read[1:], [WireArg(room.type, 12, None)], Numbered)


# -- what goes in comes out ------------------------------------------------------------------------


class Interface:
    """Offers its memory as `__array_interface__`."""

    def __init__(self, memory: np.ndarray[Any, Any]) -> None:
        self._memory = memory
        self.__array_interface__ = memory.__array_interface__


class DLPack:
    """Offers its memory by DLPack alone."""

    def __init__(self, memory: np.ndarray[Any, Any]) -> None:
        self._memory = memory

    def __dlpack__(self, **options: Any) -> Any:
        return self._memory.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self._memory.__dlpack_device__()


@pytest.mark.parametrize("wrap", [Interface, DLPack, memoryview, lambda a: array.array("f", a)])
def test_whatever_has_memory_is_an_array(session: Session, wrap: Any) -> None:
    for values in ([1.0, 2.0], [1.0]):
        found: Any = session.fpga_vadd(wrap(floats(*values)), wrap(floats(*values)))
        assert type(found) is np.ndarray
        assert found.tolist() == [2 * value for value in values]


@pytest.mark.parametrize("wrap", [Interface, DLPack, memoryview, np.asfortranarray])
def test_two_dimensions_stay_two(session: Session, wrap: Any) -> None:
    ramp = np.arange(6, dtype=F4).reshape(2, 3)
    total: Any = session.fpga_vadd(wrap(ramp), wrap(ramp))
    assert total.tolist() == (ramp + ramp).tolist()
    square = np.arange(4, dtype=F4).reshape(2, 2)
    product: Any = session.fpga_mmult(wrap(square), wrap(square))
    assert product.tolist() == (square @ square).tolist()


def test_subclasses_of_arrays_reach_kernels_as_arrays(session: Session) -> None:
    class Mine(np.ndarray[Any, Any]):
        pass

    found: Any = session.fpga_vadd(floats(1, 2).view(Mine), floats(3, 4).view(Mine))
    assert type(found) is np.ndarray


def test_lists_give_lists_and_bytes_give_bytes(session: Session) -> None:
    numbers: Any = [1, 2, 3, 4]  # whole numbers will do
    assert session.fpga_vadd(numbers, (0.5, 0, 0, 0)) == [1.5, 2.0, 3.0, 4.0]
    assert session.fpga_mmult(numbers, numbers) == [7.0, 10.0, 15.0, 22.0]
    assert session.fpga_parallel([2.0], [3.0]) == ([5.0], [6.0])
    assert session.fpga_arraycopy([1, -2]) == [1, -2]
    assert session.fpga_vadd(floats(1).tobytes(), floats(2).tobytes()) == floats(3).tobytes()
    outdata, low, high = session.minmax(np.array([1.0, 9.0]).tobytes(), 2, 2, 5)
    assert (np.frombuffer(outdata).tolist(), low, high) == ([2.0, 5.0], 1.0, 9.0)
    assert all(type(value) is float for value in session.fpga_vadd([1.0], [2.0]))
    assert all(type(value) is int for value in session.fpga_arraycopy([1]))


def test_the_empty_vector_is_legal(session: Session) -> None:
    assert session.fpga_vadd([], []) == []
    assert session.fpga_vadd(b"", b"") == b""
    assert session.fpga_mmult(np.empty((0, 0), F4), np.empty((0, 0), F4)).shape == (0, 0)
    assert session.fpga_arraycopy(np.empty(0, np.int32)).shape == (0,)
    assert session.minmax([], 0, 0, 1) == ([], np.inf, -np.inf)


# -- bad input -------------------------------------------------------------------------------------

NAN = float("nan")
ONE = floats(1)
DOUBLES = np.ones(2)


def read_only() -> Arg:
    return Arg(np.frombuffer(b"abcd", np.uint8), ArgType.UINT8_ARRAY)


# operation, arguments, the argument at fault, expected, found
BAD: list[tuple[str, tuple[Any, ...], str, str, str]] = [
    ("fpga_vadd", (DOUBLES, DOUBLES), "a", "float32", "float64"),
    ("fpga_vadd", (ONE, np.ones(1, ">f8")), "b", "float32", "float64"),
    ("fpga_vadd", (ONE, floats(1, 2)), "b", "n=1", "n=2"),
    ("fpga_vadd", ([1], [1, 2]), "b", "n=1", "n=2"),
    ("fpga_vadd", (np.ones((2, 3), F4), np.ones((3, 2), F4)), "b", "(2, 3)", "(3, 2)"),
    ("fpga_vadd", (["1"], [1]), "a", "float32", "'1'"),
    ("fpga_vadd", ([[1, 2]], [1]), "a", "float32", "[1, 2]"),
    ("fpga_vadd", ([1j], [1]), "a", "float32", "1j"),
    ("fpga_vadd", ("1", "1"), "a", "an array", "str"),
    ("fpga_vadd", (None, None), "a", "an array", "NoneType"),
    ("fpga_vadd", (b"123", b"123"), "a", "whole float32 elements", "3 bytes"),
    ("fpga_vadd", (np.array(["a"]), ONE), "a", "", ""),
    ("fpga_vadd", (np.array([None]), ONE), "a", "numbers", "object"),
    ("fpga_arraycopy", ([1.5],), "a", "int32", "1.5"),
    ("fpga_arraycopy", ([NAN],), "a", "int32", "nan"),
    ("fpga_arraycopy", ([2**31],), "a", "int32 from -2147483648 to 2147483647", "2147483648"),
    ("fpga_arraycopy", (np.ones(2, np.int64),), "a", "int32", "int64"),
    ("fpga_arraycopy", (np.ones(2, np.uint32),), "a", "int32", "uint32"),
    ("fpga_mmult", (np.ones((2, 3), F4),) * 2, "a", "a square matrix", "shape (2, 3)"),
    ("fpga_mmult", (np.ones((2, 2, 2), F4),) * 2, "a", "float32[n, n]", "(2, 2, 2)"),
    ("fpga_mmult", (floats(1, 2), floats(1, 2)), "a", "square", "2 elements"),
    ("fpga_mmult", (np.ones((2, 2), F4), np.ones((3, 3), F4)), "b", "n=2", "n=3"),
    ("minmax", (DOUBLES, NAN, 0, 1), "ndata", "int32, a whole number", "nan"),
    ("minmax", (DOUBLES, 2.0, 0, 1), "ndata", "int32, a whole number", "2.0"),
    ("minmax", (DOUBLES, "2", 0, 1), "ndata", "int32, a whole number", "'2'"),
    ("minmax", (DOUBLES, 3, 0, 1), "ndata", "2, the number of elements", "3"),
    ("minmax", (DOUBLES, -1, 0, 1), "ndata", "int32 from 0", "-1"),
    ("minmax", (DOUBLES, 2, NAN, 1), "low_threshold", "a whole number", "nan"),
    ("minmax", (DOUBLES, 2, 0, 2**31), "high_threshold", "to 2147483647", "2147483648"),
    ("minmax", (ONE, 1, 0, 1), "indata", "float64", "float32"),
    ("sgemm", (-1, 1, 1, 1, ONE, 1, ONE, 1, 0, 1), "m", "from 0", "-1"),
    ("sgemm", (NAN, 1, 1, 1, ONE, 1, ONE, 1, 0, 1), "m", "a whole number", "nan"),
    ("sgemm", (1, 1, 1, "1", ONE, 1, ONE, 1, 0, 1), "alpha", "a number", "'1'"),
    ("sgemm", (1, 1, 1, 1j, ONE, 1, ONE, 1, 0, 1), "alpha", "a number", "1j"),
    ("sgemm", (1, 1, 1, 1, ONE, 1, ONE, 1, None, 1), "beta", "a number", "None"),
    ("sgemm", (1, 1, 1, 1, ONE, 1, ONE, 1, 10**400, 1), "beta", "a number", "too large"),
    ("sgemm", (2, 2, 3, 1, ONE, 2, ONE, 2, 0, 2), "lda", "at least k=3", "2"),
    ("sgemm", (2, 3, 1, 1, ONE, 1, ONE, 2, 0, 3), "ldb", "at least n=3", "2"),
    ("sgemm", (2, 3, 1, 1, ONE, 1, ONE, 3, 0, 2), "ldc", "at least n=3", "2"),
    ("sgemm", (2, 1, 1, 1, ONE, 1, ONE, 1, 0, 1), "a", "at least 2 elements", "1"),
    ("sgemm", (1, 1, 2, 1, floats(1, 2), 2, ONE, 1, 0, 1), "b", "at least 2 elements", "1"),
    ("sgemm", (1, 2, 1, 1, ONE, 1, floats(1, 2), 2, 0, 2, ONE), "c", "at least 2", "1"),
    ("sgemm", (2**62, 1, 0, 1, [], 0, [], 1, 0, 1), "c", "fits in memory", "elements"),
    ("classify", ("picture.jpg",), "image", "bytes or an array", "str"),
    ("detect", (None,), "image", "bytes or an array", "NoneType"),
    ("exec", (3, "f"), "library", "str", "int"),
    ("exec", ("lib.so", "f\0"), "symbol", "without NUL", "f\\x00"),
    ("exec", ("lib.so", "\ud800"), "symbol", "UTF-8", "surrogates"),
    ("exec", ("lib.so", "f", 5), "arg_read", "a list of Arg", "int"),
    ("exec", ("lib.so", "f", [5]), "arg_read", "a list of Arg", "int in it"),
    ("exec", ("lib.so", "f", None, ["x"]), "arg_write", "a list of Arg", "str in it"),
    ("exec", ("lib.so", "f", None, [read_only()]), "arg_write", "results", "read-only"),
    ("exec_with_resource", (1, "f"), "resource", "a Resource", "int"),
    ("opencv", (256,), "function", "uint8 from 0 to 255", "256"),
    ("opencv", (NAN,), "function", "uint8", "nan"),
    ("tf_model_load", ("model.pb",), "resource", "a Resource", "str"),
    ("tflite_model_load", (None,), "resource", "a Resource", "NoneType"),
    ("torch_model_load", (b"",), "resource", "a Resource", "bytes"),
]


@pytest.mark.parametrize(("name", "args", "argument", "expected", "found"), BAD)
def test_bad_input_names_operation_argument_expected_and_found(
    session: Session, name: str, args: tuple[Any, ...], argument: str, expected: str, found: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        getattr(session, name)(*args)
    head, _, rest = caught.value.message.partition(": expected ")
    assert head == f"{name}: {argument}"
    told, _, saw = rest.partition(", found ")
    assert expected in told
    assert found in saw


def test_bad_input_of_model_calls_is_named(session: Session) -> None:
    with Resource.from_buffer(b"", ResourceType.MODEL) as model:
        model.register(session)
        calls: list[tuple[Any, tuple[Any, ...], str]] = [
            (
                session.tf_model_run,
                ([1], [], []),
                "in_nodes: expected a list of vaccel.ops.tf.Node, found int in",
            ),
            (
                session.tf_model_run,
                ([], [ONE], []),
                "in_tensors: expected a list of vaccel.ops.tf.Tensor, found numpy.ndarray in it",
            ),
            (
                session.tf_model_run,
                ([], [torch.Tensor.from_numpy(ONE)], []),
                "in_tensors: expected a list of vaccel.ops.tf.Tensor, found vaccel.ops.torch",
            ),
            (
                session.tf_model_run,
                ([], [], "x"),
                "out_nodes: expected a list of vaccel.ops.tf.Node, found str",
            ),
            (
                session.tf_model_run,
                ([], [], [], b""),
                "run_options: expected vaccel.ops.tensors.Buffer, found bytes",
            ),
            (
                session.tf_model_run,
                ([tf.Node("a"), tf.Node("b")], [tf.Tensor.from_numpy(ONE)], []),
                "in_tensors: expected inputs=2 as in the other arguments, found inputs=1",
            ),
            (session.tflite_model_run, ([], NAN), "nr_out_tensors: expected int64, a whole"),
            (session.tflite_model_run, ([], 2**40), "nr_out_tensors: expected at most 1024, found"),
            (session.tflite_model_run, ([], -1), "nr_out_tensors: expected int64 from 0"),
            (
                session.torch_model_run,
                ([tf.Tensor.from_numpy(ONE)],),
                "in_tensors: expected a list",
            ),
        ]
        for method, args, message in calls:
            with pytest.raises(InvalidArgument) as caught:
                method(model, *args)
            assert caught.value.message.startswith(f"{method.__name__}: {message}")


class Odd:
    def __repr__(self) -> str:
        return "odd"


@pytest.mark.parametrize(
    "op", [op for op in OPERATIONS.values() if op.inputs], ids=lambda o: o.name
)
def test_every_argument_refuses_what_it_is_not(op: Operation) -> None:
    @given(st.data())
    def check(data: st.DataObject) -> None:
        args = list(data.draw(strategies.arguments(op, resource=st.just(Numbered(1)))))
        place = data.draw(st.sampled_from(range(len(args))))
        args[place] = Odd()
        with pytest.raises(InvalidArgument) as caught:
            op.check(args)
        name = list(op.inputs)[place]
        assert caught.value.message.startswith(f"{op.name}: {name}: expected ")

    check()


def test_a_wrong_count_shows_how_to_call(session: Session) -> None:
    method: Any
    for method, args in ((session.fpga_vadd, ([1],)), (session.fpga_vadd, ([1], [1], [1]))):
        with pytest.raises(InvalidArgument, match=r"fpga_vadd: .*; expected fpga_vadd\(a, b\)"):
            method(*args)
    with pytest.raises(InvalidArgument, match="unexpected keyword argument 'c'"):
        session.fpga_vadd([1.0], [1.0], c=[1.0])  # type: ignore[call-arg]
    assert session.fpga_vadd(b=[1.0], a=[2.0]) == [3.0]


def test_resources_must_be_registered_with_the_session(session: Session) -> None:
    with Session() as other, Resource.from_buffer(b"", ResourceType.MODEL) as model:
        model.register(other)
        with pytest.raises(NotFound, match=f"tf_model_load: resource {model.id} is not registered"):
            session.tf_model_load(model)
        assert other.tf_model_load(model).code == 0


def test_an_operation_that_no_plugin_has_says_what_is_loaded() -> None:
    vaccel.bootstrap(Config(plugins="cpu"))
    with Session() as session:
        with pytest.raises(NotSupported, match=r"classify: .*\(loaded: cpu\); .* VACCEL_PLUGINS"):
            session.classify(b"")


# -- genop -----------------------------------------------------------------------------------------


def test_genop_fills_its_write_arguments(session: Session) -> None:
    code = Arg(OpType.FPGA_VECTORADD, ArgType.UINT8)
    total = np.empty(3, F4)
    session.genop([code, Arg([1.0, 2, 3]), Arg(floats(4, 5, 6))], [Arg(total)])
    assert total.tolist() == [5.0, 7.0, 9.0]


@pytest.mark.parametrize("where", ["here", "at an agent"])
@pytest.mark.parametrize("op", OPERATIONS.values(), ids=lambda op: op.name)
def test_genop_is_for_operations_that_travel_so(op: Operation, where: str) -> None:
    """Of the others no kernel runs: they have methods of their own."""
    ran = []
    plugin = Plugin("counting")
    plugin.find = lambda op: lambda session, *values: ran.append(op)  # type: ignore[method-assign]
    vaccel.bootstrap(Config(plugins=""))
    runtime.current().add(plugin, "the test")
    with Agent(abstract("genop")) as agent:
        with Session(endpoint=None if where == "here" else agent.endpoint) as session:
            message = (
                f"found {op.name} .*; call session.{op.name}, or the agent's method {op.method}"
            )
            with pytest.raises(InvalidArgument) as caught:
                session.genop([Arg(op.code, ArgType.UINT8), Arg(1, ArgType.INT64)], [Arg(bytes(9))])
    assert bool(re.search(message, caught.value.message)) == (op.method != "Genop")
    assert ran == []


def test_operations_without_methods_of_their_own_have_a_form_on_the_wire() -> None:
    for op in GENOP:
        for kind in (*op.inputs.values(), *op.outputs.values()):
            assert isinstance(kind, ResourceRef) or not isinstance(kind, Object)


@pytest.mark.parametrize(
    ("read", "write", "message"),
    [
        ([], [], "expected the operation code"),
        ([Arg(21)], [], "expected the operation code as one UINT8, found 4 bytes"),
        (
            [Arg(24, ArgType.UINT8)],
            [],
            "expected an operation code that `vaccel ops` lists, found 24",
        ),
        ([5], [], "genop: arg_read: expected a list of Arg, found int in it"),
        (None, [], "genop: arg_read: expected a list of Arg, found NoneType"),
        ([Arg(0, ArgType.UINT8)], None, "genop: arg_write: expected a list of Arg, found NoneType"),
        ([Arg(21, ArgType.UINT8)], [], "fpga_vadd: expected 2 read arguments, found 0"),
        ([Arg(21, ArgType.UINT8), Arg(ONE), Arg(ONE)], [], "fpga_vadd: expected 1 write arg"),
        (
            [Arg(21, ArgType.UINT8), Arg(ONE), Arg("x")],
            [Arg(ONE)],
            "fpga_vadd: b: expected whole float32 elements, found 2 bytes",
        ),
        (
            [Arg(21, ArgType.UINT8), Arg(ONE), Arg([1], ArgType.INT32_ARRAY)],
            [Arg(ONE)],
            "fpga_vadd: b: expected FLOAT32_ARRAY, found INT32_ARRAY",
        ),
        (
            [Arg(21, ArgType.UINT8), Arg(floats(1, 2)), Arg(floats(1, 2))],
            [Arg([0.0])],
            "fpga_vadd: c: the result needs 8 bytes, the write argument offers 4",
        ),
        (
            [Arg(21, ArgType.UINT8), Arg(ONE), Arg(ONE)],
            [read_only()],
            "fpga_vadd: c: Arg UINT8_ARRAY: expected writable, .* found read-only memory; pass np",
        ),
        (
            [Arg(21, ArgType.UINT8), Arg(ONE), Arg(ONE)],
            [Arg(np.empty(1))],
            "fpga_vadd: c: Arg RAW: expected whole elements of 8 bytes, found 4 bytes",
        ),
        (
            [Arg(1, ArgType.UINT8), Arg("lib.so"), Arg("f")],
            [Arg([1]), read_only()],
            "exec: arg_write: Arg UINT8_ARRAY: expected writable, .* found read-only memory",
        ),
    ],
)
def test_genop_names_what_is_wrong(session: Session, read: Any, write: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        session.genop(read, write)
