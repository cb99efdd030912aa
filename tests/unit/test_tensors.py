"""Tensors of the four families: one behaviour, four tables of types, no needless copies."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vaccel.error import InvalidArgument, NotSupported
from vaccel.ops import onnx, tensors, tf, torch
from vaccel.ops.tf import lite

FAMILIES: list[type[tensors.Tensor[Any]]] = [tf.Tensor, lite.Tensor, torch.Tensor, onnx.Tensor]
NUMERIC = [(f, t) for f in FAMILIES for t in f.types if t.numeric]
OPAQUE = [(f, t) for f in FAMILIES for t in f.types if not t.numeric]

families = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__module__)
numeric = pytest.mark.parametrize(("family", "type"), NUMERIC, ids=lambda v: getattr(v, "name", ""))
opaque = pytest.mark.parametrize(("family", "type"), OPAQUE, ids=lambda v: getattr(v, "name", ""))

few = settings(max_examples=15)  # a test runs them for each type
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def arrays_of(dtype: np.dtype[Any]) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    return hnp.arrays(dtype, shapes)


# -- types ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("types", "names"),
    [
        (
            tf.TensorType,
            "FLOAT DOUBLE INT32 UINT8 INT16 INT8 STRING COMPLEX64 INT64 BOOL QINT8 QUINT8 QINT32 "
            "BFLOAT16 QINT16 QUINT16 UINT16 COMPLEX128 HALF RESOURCE VARIANT UINT32 UINT64",
        ),
        (
            lite.TensorType,
            "NOTYPE FLOAT32 INT32 UINT8 INT64 STRING BOOL INT16 COMPLEX64 INT8 FLOAT16 FLOAT64 "
            "COMPLEX128 UINT64 RESOURCE VARIANT UINT32 UINT16 INT4",
        ),
        (torch.TensorType, "BYTE CHAR SHORT INT LONG HALF FLOAT"),
        (
            onnx.TensorType,
            "FLOAT UINT8 INT8 UINT16 INT16 INT32 INT64 STRING BOOL FLOAT16 DOUBLE UINT32 UINT64 "
            "COMPLEX64 COMPLEX128 BFLOAT16 FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ",
        ),
    ],
)
def test_the_numbers_are_those_of_the_protocol(types, names):
    by_number = {int(member): member.name for member in types}
    assert by_number == dict(enumerate(names.split(), start=1))


@numeric
def test_the_dtype_is_little_endian_and_as_named(family, type):
    assert type.dtype.newbyteorder("<") == type.dtype
    plain = {"FLOAT": "float32", "DOUBLE": "float64", "HALF": "float16"}
    in_torch = {"BYTE": "uint8", "CHAR": "int8", "SHORT": "int16", "INT": "int32", "LONG": "int64"}
    name = type.name.lower().removeprefix("q")
    assert type.dtype.name == {**plain, **in_torch}.get(type.name, name)


# -- round trips ---------------------------------------------------------------------------------


@numeric
@few
@given(data=st.data())
def test_numpy_round_trip_shares_memory(family, type, data):
    array = data.draw(arrays_of(type.dtype))
    tensor = family.from_numpy(array)
    back = tensor.as_numpy()
    assert tensor.data_type.name == type.name.removeprefix("Q")
    assert (tensor.dims, tensor.shape) == (list(array.shape), array.shape)
    assert (back.shape, back.dtype) == (array.shape, array.dtype)
    assert back.tobytes() == array.tobytes() == tensor.to_bytes()
    assert np.shares_memory(back, array) == bool(array.size)


@numeric
@few
@given(data=st.data())
def test_list_round_trip(family, type, data):
    array = data.draw(arrays_of(type.dtype))
    tensor = family(array.shape, type, array.ravel().tolist())
    assert tensor.data_type is type
    np.testing.assert_array_equal(tensor.as_numpy(), array)
    np.testing.assert_array_equal(np.array(tensor.data, type.dtype), array.ravel())
    assert isinstance(tensor.data, list)


@numeric
@few
@given(data=st.data())
def test_wire_round_trip(family, type, data):
    array = data.draw(arrays_of(type.dtype))
    sent = family.from_buffer(array.shape, type, array)
    received = family.from_wire(sent.dims, int(sent.data_type), sent.as_memoryview())
    assert received == sent
    assert received.data_type is type
    assert np.shares_memory(received.as_numpy(), array) == bool(array.size)


@opaque
def test_types_that_numpy_lacks_keep_their_bytes(family, type):
    dims = [4 // type.dtype.itemsize if type.dtype else 2]
    tensor = family(dims, type, b"\1\2\3\4")
    assert tensor.to_bytes() == b"\1\2\3\4"
    assert tensor.data == [1, 2, 3, 4]
    assert tensor == family(dims, type, [1, 2, 3, 4])
    with pytest.raises(InvalidArgument, match=f"{type.name}: expected .*numpy has.*to_bytes"):
        tensor.as_numpy()


def test_bfloat16_has_two_bytes_an_element():
    memory = np.arange(3, dtype=np.uint16)
    tensor = tf.Tensor([3], tf.TensorType.BFLOAT16, memory)
    assert np.shares_memory(np.frombuffer(tensor.as_memoryview(), "u1"), memory)
    with pytest.raises(InvalidArgument, match=r"BFLOAT16: expected 6 bytes .*, found 4 bytes"):
        tf.Tensor([3], tf.TensorType.BFLOAT16, b"1234")


# -- memory --------------------------------------------------------------------------------------


@families
def test_a_buffer_is_viewed_not_copied(family):
    memory = bytearray(24)
    tensor = family.from_buffer([2, 3], family.empty().data_type, memory)
    tensor.as_numpy()[1, 2] = 1.0
    assert memory[20:] == b"\0\0\x80\x3f"
    for view in (tensor.as_memoryview(), tensor.as_bytelike()):
        assert (view.format, view.nbytes, view.c_contiguous) == ("B", 24, True)
        assert np.shares_memory(np.frombuffer(view, "u1"), np.frombuffer(memory, "u1"))


@families
def test_views_of_read_only_memory_are_read_only(family):
    tensor = family.from_buffer([1], family.empty().data_type, bytes(4))
    assert not tensor.as_numpy().flags.writeable
    assert tensor.as_memoryview().readonly


@families
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.arange(6, dtype=">f4"),
        np.arange(9, dtype=np.float32)[::2],
    ],
    ids=["transposed", "big-endian", "strided"],
)
def test_unusual_layouts_are_gathered(family, array):
    tensor = family.from_numpy(array)
    np.testing.assert_array_equal(tensor.as_numpy(), array)
    assert tensor.to_bytes() == array.astype("<f4", order="C").tobytes()


@families
def test_another_shape_given_to_the_array_is_not_the_tensors(family):
    array = np.arange(6, dtype=np.float32)
    tensor = family.from_numpy(array)
    tensor.as_numpy().shape = (6, 1)
    array.shape = (2, 3)
    assert tensor.dims == [6]
    assert tensor.as_numpy().shape == (6,)


@families
@pytest.mark.parametrize("name", ["q", "i8", ">i8", np.dtype("i8", metadata={"a": "b"})])
def test_types_of_several_names_have_the_one_of_the_family(family, name):
    for _ in range(2):  # the second time by what was learned
        array = np.arange(3).astype(name)
        tensor = family.from_numpy(array)
        dtype = tensor.as_numpy().dtype
        assert (dtype, dtype.char, dtype.metadata) == (np.int64, np.dtype(np.int64).char, None)
        assert tensor.as_numpy().tolist() == [0, 1, 2]


# -- values --------------------------------------------------------------------------------------


@families
def test_equality_is_of_type_dims_and_bytes(family):
    numbers = sorted(t for t in family.types if t.dtype and t.dtype.itemsize == 4)
    a = family([2, 1], numbers[0], bytes(8))
    assert a == family([2, 1], numbers[0], bytearray(8))
    assert a != family([1, 2], numbers[0], bytes(8))
    assert a != family([2, 1], numbers[1], bytes(8))
    assert a != family([2, 1], numbers[0], b"1" + bytes(7))
    assert a != "tensor"


def test_families_are_not_equal():
    assert tf.Tensor([1], 1, bytes(4)) != lite.Tensor([1], 2, bytes(4))


@families
def test_the_place_holder_has_no_data(family):
    empty = family.empty()
    assert (empty.dims, empty.data, empty.to_bytes()) == ([], [], b"")
    assert empty.data_type.dtype == np.float32
    assert family.from_wire([], empty.data_type, memoryview(b"")) == empty
    with pytest.raises(InvalidArgument, match="expected a tensor with data, found the empty"):
        empty.as_numpy()


def test_repr_is_short():
    assert repr(tf.Tensor([2, 3], 1, bytes(24))) == "Tensor(FLOAT, [2, 3], 24 bytes)"


def test_the_other_values_of_the_frameworks():
    assert tf.Node("in") == tf.Node("in", 0)
    assert tf.Status() == tf.Status(0, "")
    assert tf.Status(3, "bad").message == "bad"
    assert torch.Buffer is tf.Buffer
    data = bytearray(b"options")
    buffer = tf.Buffer(data)
    assert (buffer.data, buffer.size, buffer.to_bytes()) == (data, 7, b"options")
    assert np.shares_memory(np.frombuffer(buffer.as_memoryview(), "u1"), np.frombuffer(data, "u1"))
    assert buffer == tf.Buffer(b"options")
    assert buffer != tf.Buffer(b"other")
    with pytest.raises(InvalidArgument, match=r"Buffer: expected .* bytes, found int"):
        tf.Buffer(5)


# -- misfits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "type", "data", "message"),
    [
        ([2, 2], 1, [1.0, 2.0], r"FLOAT: expected 16 bytes \(dims \[2, 2\] of 4.*, found 8 bytes"),
        ([2], 2, b"1", r"DOUBLE: expected 16 bytes .*, found 1 bytes; make dims and data agree"),
        ([], 1, b"12", r"FLOAT: expected 4 bytes .*, found 2 bytes"),
        ([-1], 1, [], "FLOAT: expected dims from 0 to 9223372036854775807, found -1"),
        ([2**63], 7, b"", "STRING: expected dims from 0 to 9223372036854775807, found"),
        ([0, 2**62, 4], 1, b"", "FLOAT: expected dims of a tensor that fits in memory, found"),
        ([1] * 33, 1, b"1234", "FLOAT: expected at most 32 dims, found 33"),
        ([1.5], 1, [1.0], r"FLOAT: expected dims as a list of whole numbers, found \[1.5\]"),
        (3, 1, [1.0], "FLOAT: expected dims as a list of whole numbers, found 3"),
        ([1], 3, [1.5], "INT32: expected numbers that fit int32, found 1.5"),
        ([1], 4, [256], "UINT8: expected uint8 from 0 to 255, found 256"),
        ([2, 1], 1, [[1], [2]], "FLOAT: expected numbers .*; pass a flat list, or a numpy array"),
        ([2], 1, np.zeros(1), r"FLOAT: expected float32 elements.*found float64.*'float32'"),
        ([1], 1, None, "FLOAT: expected an array or bytes, found NoneType"),
        ([1], 7, [300], "STRING: expected uint8 from 0 to 255, found 300"),
    ],
    ids=lambda v: "" if not isinstance(v, str) else v[:30],
)
def test_a_misfit_names_type_expected_and_found(dims, type, data, message):
    with pytest.raises(InvalidArgument, match=f"^Tensor {message}"):
        tf.Tensor(dims, type, data)


def test_tflite_dims_fit_int32():
    with pytest.raises(InvalidArgument, match="expected dims from 0 to 2147483647, found 21474836"):
        lite.Tensor([2**31], lite.TensorType.STRING, b"")


@pytest.mark.parametrize("number", [0, 24, lite.TensorType.FLOAT32, "FLOAT", 1.5])
def test_an_unknown_or_foreign_type_is_named(number):
    with pytest.raises(InvalidArgument, match=r"expected vaccel\.ops\.tf.*1 to 23.*found") as info:
        tf.Tensor.from_wire([1], number, memoryview(bytes(4)))
    assert repr(number) in info.value.message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(1), "expected a dtype of uint8, .*, float32, found float64; convert"),
        (np.zeros(1, "V2"), "expected a dtype of uint8, .*, found void16"),
        ("text", "expected an array or bytes, found str"),
    ],
)
def test_arrays_that_are_no_tensors_are_named(value, message):
    with pytest.raises(InvalidArgument, match=f"^Tensor.from_numpy: {message}"):
        torch.Tensor.from_numpy(value)


# -- torch ---------------------------------------------------------------------------------------


def test_without_torch_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(NotSupported, match=r"pip install 'vaccel\[torch\]'"):
        torch.Tensor([1], torch.TensorType.FLOAT, [1.0]).as_torch()


def test_from_torch_refuses_other_values():
    with pytest.raises(InvalidArgument, match=r"expected a dense torch\.Tensor, found list"):
        torch.Tensor.from_torch([1.0])


def test_an_element_type_that_is_missing_says_how_to_convert():
    class Dense:
        """As `torch.Tensor`, as far as `from_torch` looks."""

        def numpy(self, *, force: bool) -> np.ndarray[Any, Any]:
            return np.ones(2)

    known = "expected a dtype of uint8, int8, int16, int32, int64, float16, float32, found float64"
    for make, convert in (
        (lambda: torch.Tensor.from_numpy(np.ones(2)), r"from_numpy: .*\.astype\(\)"),
        (lambda: torch.Tensor.from_torch(Dense()), r"from_torch: .*\.to\(\)"),
    ):
        with pytest.raises(InvalidArgument, match=rf"Tensor\.{convert}$") as caught:
            make()
        assert known in caught.value.message


@pytest.mark.parametrize("type", list(torch.TensorType), ids=lambda t: t.name)
def test_torch_round_trip_shares_memory(type):
    pytest.importorskip("torch")
    array = np.arange(6).reshape(2, 3).astype(type.dtype)
    there = torch.Tensor.from_numpy(array).as_torch()
    back = torch.Tensor.from_torch(there)
    assert (tuple(there.shape), there.tolist(), back.data_type) == ((2, 3), array.tolist(), type)
    assert np.shares_memory(back.as_numpy(), array)


def test_torch_gets_a_copy_of_read_only_or_unaligned_memory():
    pytest.importorskip("torch")
    frozen = torch.Tensor([1], torch.TensorType.FLOAT, bytes(4))
    frozen.as_torch()[0] = 1.0
    assert frozen.to_bytes() == bytes(4)
    memory = memoryview(bytearray(9))[1:]
    tensor = torch.Tensor([2], torch.TensorType.FLOAT, memory)
    assert tensor.as_torch().data_ptr() % 4 == 0


def test_torch_tensors_that_numpy_cannot_hold_are_named():
    real_torch = pytest.importorskip("torch")
    learned = real_torch.ones(2, requires_grad=True)
    assert torch.Tensor.from_torch(learned).data == [1.0, 1.0]
    with pytest.raises(InvalidArgument, match=r"expected a dense torch\.Tensor, found Tensor"):
        torch.Tensor.from_torch(real_torch.ones(2, dtype=real_torch.bfloat16))
