"""Arguments: every type round-trips, memory is used where it lies, misfits are named."""

from __future__ import annotations

import array
import ctypes
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vaccel.error import InvalidArgument
from vaccel.ops.args import DTYPES, Arg, ArgType, array_type, scalar_type

ARRAYS = [t for t in DTYPES if t.name.endswith("_ARRAY")]
few = settings(max_examples=15)  # a test runs them for each type
SCALARS = [t for t in DTYPES if not t.name.endswith("_ARRAY")]


def numbers_of(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind == "f":
        width: Any = dtype.itemsize * 8
        return st.floats(width=width, allow_nan=False)
    info = np.iinfo(dtype)
    return st.integers(int(info.min), int(info.max))


def scrambled(memory: memoryview) -> bytes:
    """Other bytes of the same length, valid for every type."""
    return bytes(memory)[::-1]


# -- types ---------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_protocol():
    names = "INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 FLOAT32 FLOAT64 BOOL CHAR UCHAR"
    pairs = [n + suffix for n in names.split() for suffix in ("", "_ARRAY")]
    assert [t.name for t in ArgType] == ["RAW", *pairs, "STRING", "BUFFER", "CUSTOM"]
    assert [int(t) for t in ArgType] == list(range(30))


@pytest.mark.parametrize("type", list(DTYPES), ids=lambda t: t.name)
def test_dtypes_are_little_endian_and_invertible(type):
    dtype = DTYPES[type]
    assert dtype.newbyteorder("<") == dtype
    inverse = array_type if type in ARRAYS else scalar_type
    plain = {"CHAR": "INT8", "UCHAR": "UINT8"}
    name = type.name.removesuffix("_ARRAY")
    assert inverse(dtype).name == type.name.replace(name, plain.get(name, name))
    assert inverse(dtype.newbyteorder(">")) is inverse(dtype)


def test_a_dtype_without_a_type_is_named():
    with pytest.raises(InvalidArgument, match=r"expected one of int8, .*, bool, found float16"):
        array_type(np.dtype(np.float16))


# -- round trips ---------------------------------------------------------------------------------


@pytest.mark.parametrize("type", ARRAYS, ids=lambda t: t.name)
@few
@given(data=st.data())
def test_a_list_is_packed_as_its_type_and_read_back(type, data):
    dtype = DTYPES[type]
    values = data.draw(st.lists(numbers_of(dtype), max_size=20))
    arg = Arg(values, type)
    assert arg.buf == values
    assert bytes(arg.view()) == np.array(values, dtype).tobytes()
    arg.store(bytes(arg.view()))
    assert arg.buf == values
    assert all(isinstance(x, {"b": bool, "f": float}.get(dtype.kind, int)) for x in arg.buf)


@pytest.mark.parametrize("type", SCALARS, ids=lambda t: t.name)
@few
@given(data=st.data())
def test_a_number_is_packed_as_its_type_and_read_back(type, data):
    dtype = DTYPES[type]
    value = data.draw(numbers_of(dtype))
    arg = Arg(0, type)
    arg.store(np.array(value, dtype))
    assert arg.buf == value
    assert bytes(Arg(value, type).view()) == np.array(value, dtype).tobytes()


@pytest.mark.parametrize("type", [*ARRAYS, ArgType.RAW, ArgType.BUFFER], ids=lambda t: t.name)
@few
@given(data=st.data())
def test_a_numpy_array_is_used_and_filled_where_it_lies(type, data):
    dtype = DTYPES.get(type, np.dtype("<c16"))
    values = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))
    arg = Arg(values, type)
    assert arg.buf is values
    assert arg.size == values.nbytes
    assert bytes(arg.view()) == values.tobytes()
    result = scrambled(arg.view())
    arg.store(result)
    assert arg.buf is values
    assert values.tobytes() == result


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_raw_whole_numbers_are_int32_or_int64_where_needed(values):
    wide = any(not -(2**31) <= v < 2**31 for v in values)
    arg = Arg(values)
    assert bytes(arg.view()) == np.array(values, "<i8" if wide else "<i4").tobytes()


@given(st.lists(st.floats(width=32, allow_nan=False) | st.integers(-1000, 1000), min_size=1))
def test_raw_floats_are_float32(values):
    arg = Arg([*values, 0.5])
    assert bytes(arg.view()) == np.array([*values, 0.5], "<f4").tobytes()


@given(st.text().map(lambda text: text.replace("\0", "")))
def test_text_is_utf8_with_a_closing_nul(text):
    for type in (ArgType.RAW, ArgType.STRING):
        arg = Arg(text, type)
        assert bytes(arg.view()) == text.encode() + b"\0"
        arg.store(text.encode() + b"\0")
        assert arg.buf == text


@given(st.binary(), st.data())
def test_bytes_keep_the_length_of_what_was_stored(given_bytes, data):
    arg = Arg(given_bytes, ArgType.BUFFER)
    assert arg.buf is given_bytes
    stored = data.draw(st.binary(max_size=len(given_bytes)))
    arg.store(stored)
    assert arg.buf == stored
    assert (arg.size, arg.capacity) == (len(stored), len(given_bytes))


@pytest.mark.parametrize(
    ("value", "packed"),
    [
        (7, b"\x07\0\0\0"),
        (2**40, b"\0\0\0\0\0\1\0\0"),
        (1.0, b"\0\0\x80\x3f"),
        (True, b"\1"),
        ([True, False], b"\1\0"),
        ((1, 2), b"\1\0\0\0\2\0\0\0"),
        ([], b""),
        (np.float64(1.0), b"\0\0\0\0\0\0\xf0\x3f"),
        (np.uint16(258), b"\2\1"),
    ],
)
def test_untyped_values_have_a_fixed_form_and_come_back_in_their_type(value, packed):
    arg = Arg(value)
    assert bytes(arg.view()) == packed
    arg.room()
    assert arg.buf == value
    assert type(arg.buf) is type(value)


# -- memory --------------------------------------------------------------------------------------


def test_memory_is_shared_not_copied():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    arg = Arg(values, ArgType.FLOAT32_ARRAY)
    assert np.shares_memory(np.frombuffer(arg.view(), np.float32), values)
    raw = bytes(100)
    assert np.shares_memory(np.frombuffer(Arg(raw).view(), "u1"), np.frombuffer(raw, "u1"))
    view = arg.view()
    assert (view.format, view.ndim, view.c_contiguous) == ("B", 1, True)


@pytest.mark.parametrize(
    "values",
    [
        np.arange(12, dtype=np.int32)[::3],
        np.arange(12, dtype=np.int32).reshape(3, 4).T,
        np.arange(4, dtype=">i4"),
        np.broadcast_to(np.int32(7), (2, 2)),
    ],
    ids=["strided", "transposed", "big-endian", "broadcast"],
)
def test_unusual_layouts_are_read_in_order_but_not_filled(values):
    arg = Arg(values, ArgType.INT32_ARRAY)
    assert bytes(arg.view()) == values.astype("<i4", order="C").tobytes()
    before = values.copy()
    with pytest.raises(InvalidArgument, match=r"INT32_ARRAY: expected writable, .* found a.*empty"):
        arg.store(bytes(arg.size))
    assert (values == before).all()


def test_read_only_arrays_are_not_filled():
    values = np.zeros(3, np.float32)
    values.flags.writeable = False
    for data in (values, memoryview(b"123"), np.complex64(1)):
        with pytest.raises(InvalidArgument, match=r"expected writable, .* found read-only memory"):
            Arg(data).room()


@pytest.mark.parametrize(
    "data",
    [bytearray(8), memoryview(bytearray(8)), array.array("i", [0, 0]), (ctypes.c_int32 * 2)()],
    ids=["bytearray", "memoryview", "array.array", "ctypes"],
)
def test_writable_buffers_are_filled_in_place(data):
    arg = Arg(data, ArgType.INT32_ARRAY)
    arg.store(np.array([1, -2], "<i4"))
    assert arg.buf is data
    assert bytes(data) == b"\1\0\0\0\xfe\xff\xff\xff"


def test_objects_with_an_array_interface_are_filled_in_place():
    class Wrapped:
        def __init__(self, array: np.ndarray[Any, Any]) -> None:
            self.__array_interface__ = array.__array_interface__

    values = np.zeros(2, "<i4")
    Arg(Wrapped(values), ArgType.INT32_ARRAY).store(np.array([3, 4], "<i4"))
    assert values.tolist() == [3, 4]


def test_objects_with_dlpack_are_read():
    class Wrapped:
        def __dlpack__(self, **options: Any) -> Any:
            return values.__dlpack__()

        def __dlpack_device__(self) -> Any:
            return values.__dlpack_device__()

    values = np.arange(3, dtype="<i4")
    view = Arg(Wrapped(), ArgType.INT32_ARRAY).view()
    assert np.shares_memory(np.frombuffer(view, "<i4"), values)


def test_room_is_writable_and_what_is_written_shows():
    text = "ABCDEFGH"
    arg = Arg(text)
    arg.room()[:3] = b"hi\0"
    assert (arg.buf, text) == ("hi", "ABCDEFGH")
    numbers = Arg([1, 2])
    numbers.room()[4:] = b"\x09\0\0\0"
    assert numbers.buf == [1, 9]


def test_a_short_result_leaves_room_for_a_longer_one():
    arg = Arg(bytes(8))
    arg.store(b"ab")
    assert (arg.buf, arg.room().nbytes) == (b"ab", 8)
    arg.store(b"12345678")
    assert arg.buf == b"12345678"


def test_short_results_in_lists_text_and_arrays():
    numbers = Arg([1.5, 2.5, 3.5], ArgType.FLOAT64_ARRAY)
    numbers.store(np.array([9.0]))
    assert numbers.buf == [9.0]
    text = Arg(" " * 20, ArgType.STRING)
    text.store(b"tag\0junk")
    assert text.buf == "tag"
    values = np.ones(3, np.int8)
    arg = Arg(values)
    arg.store(b"\5")
    assert (values.tolist(), bytes(arg.view())) == ([5, 1, 1], b"\5")


def test_char_arrays_take_text_bytes_and_both_signs():
    for type in (ArgType.CHAR_ARRAY, ArgType.UCHAR_ARRAY):
        assert bytes(Arg("é", type).view()) == "é".encode() + b"\0"
        for data in (b"abc", np.frombuffer(b"abc", "u1"), np.frombuffer(b"abc", "i1")):
            assert bytes(Arg(data, type).view()) == b"abc"


def test_type_tags_are_kept():
    arg = Arg(b"x", ArgType.CUSTOM, 7)
    assert (arg.type, arg.custom_type_id, repr(arg)) == (29, 7, "Arg(CUSTOM, 1 bytes)")
    assert Arg([1.0], 18).type is ArgType.FLOAT32_ARRAY


def test_a_float_beyond_float32_is_infinite():
    arg = Arg([1e300], ArgType.FLOAT32_ARRAY)
    arg.room()
    assert arg.buf == [math.inf]


# -- misfits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "type", "message"),
    [
        (np.zeros(3), 18, r"FLOAT32_ARRAY: expected float32 .*float64.*\(3,\); .*'float32'"),
        (np.zeros(3, np.uint8), 6, "INT32_ARRAY: expected int32 elements, found uint8"),
        (1.5, 5, "INT32: expected numbers that fit int32, found 1.5"),
        (1.0, 5, "INT32: expected numbers that fit int32, found 1.0"),
        (math.nan, 5, "INT32: expected numbers that fit int32, found nan"),
        (2**31, 5, "INT32: expected int32 from -2147483648 to 2147483647, found 2147483648; .*"),
        ([0, 1, -1], 10, "UINT8_ARRAY: expected uint8 from 0 to 255, found -1; choose a wider"),
        ([2], 22, "BOOL_ARRAY: expected bool from 0 to 1, found 2"),
        ([1, 2.5], 6, "INT32_ARRAY: expected numbers that fit int32, found 2.5"),
        ([1, "a"], 0, "RAW: expected numbers that fit float32, found 'a'"),
        ([1, None], 18, "FLOAT32_ARRAY: expected numbers that fit float32, found None"),
        ([1j], 18, "FLOAT32_ARRAY: expected numbers that fit float32, found 1j"),
        ([[1], [2]], 0, r"RAW: expected .*, found \[1\]; pass a flat list"),
        ([2**64], 0, "RAW: expected int64 from .*, found 18446744073709551616; .*wider"),
        ([2**1100], 20, "FLOAT64_ARRAY: expected .*float64, found int too large"),
        (3, 6, r"INT32_ARRAY: expected a list.*, found 3; use ArgType.INT32 or a list"),
        ([1, 2], 5, "INT32: expected one value of 4 bytes, found 8 bytes; an _ARRAY type"),
        (b"123", 5, "INT32: expected one value of 4 bytes, found 3 bytes"),
        (b"12345", 18, "FLOAT32_ARRAY: expected whole elements of 4 bytes, found 5 bytes"),
        ("text", 6, "INT32_ARRAY: expected numbers, found 'text'; use ArgType.STRING"),
        ("a\0b", 27, r"STRING: expected text without NUL inside, found .*; pass bytes"),
        ("\ud800", 27, "STRING: expected text that UTF-8 can hold, found .*surrogates"),
        (5, 27, "STRING: expected str, found 5"),
        (np.zeros(2), 27, "STRING: expected text, found float64 array .*; pass a str"),
        (None, 0, "RAW: expected an array or bytes, found NoneType"),
        (np.array([None]), 0, "RAW: expected an array of numbers, found .* of object"),
        (
            np.array(["2020-01-01"], "M8[D]"),
            0,
            "RAW: expected an array of numbers, found .*datetime64",
        ),
    ],
    ids=lambda v: "" if isinstance(v, int) else str(v)[:20],
)
def test_a_misfit_names_type_expected_and_found(data, type, message):
    with pytest.raises(InvalidArgument, match=f"^Arg {message}"):
        Arg(data, type)


@pytest.mark.parametrize("number", [30, -1, "FLOAT"])
def test_an_unknown_type_is_named(number):
    with pytest.raises(InvalidArgument, match=f"expected an ArgType .0 to 29., found {number!r}"):
        Arg([1], number)


@pytest.mark.parametrize("number", [-1, 2**32, 1.5])
def test_a_custom_type_id_that_cannot_travel_is_named(number):
    with pytest.raises(InvalidArgument, match=f"custom_type_id: expected .*uint32.*found {number}"):
        Arg(b"", ArgType.CUSTOM, number)


@pytest.mark.parametrize("data", [[1, 2], b"12345678", "1234567", np.zeros(2, "<i4")])
def test_too_much_to_store_is_named_and_stores_nothing(data):
    arg = Arg(data)
    before = bytes(arg.view())
    with pytest.raises(InvalidArgument, match="RAW: expected at most 8 bytes, found 9 to store"):
        arg.store(b"x" * 9)
    assert bytes(arg.view()) == before
    assert arg.buf is data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1, 2], "whole elements of 4 bytes, found 3"),
        (np.zeros(2), "whole elements of 8 bytes, found 3"),
        (1, "one value of 4 bytes, found 3"),
    ],
)
def test_broken_elements_are_not_stored(data, message):
    with pytest.raises(InvalidArgument, match=f"Arg RAW: expected {message}"):
        Arg(data).store(b"123")
