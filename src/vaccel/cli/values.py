"""Values of operations on the command line: text → value by kind, and results → text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaccel.error import FFIError, InvalidArgument, NotFound, from_errno
from vaccel.inference import pictures
from vaccel.ops import tf
from vaccel.ops.args import DTYPES, Arg, ArgType, mismatch, pack
from vaccel.ops.kinds import Kind
from vaccel.ops.numbers import F32, F64, I32, Array, Scalar
from vaccel.ops.objects import Args, Bytes, Object, ResourceRef, Text
from vaccel.ops.parameters import Choice, Image, Int, Matrix, Parameter
from vaccel.ops.tensors import Buffer, Tensor
from vaccel.sources.urls import is_url

_SCALAR_TYPES = {type.name.lower(): type for type in DTYPES if type % 2}
_FILE_TYPES = {type.name.lower(): type for type in (ArgType.RAW, ArgType.BUFFER, ArgType.CUSTOM)}
_ARRAY_FILES = (".npy", ".csv")


def takes_many(kind: Kind | Parameter) -> bool:
    """The kind is a list: each of its elements is a text of its own."""
    return isinstance(kind, Kind) and (kind.variadic or (isinstance(kind, Object) and kind.many))


def form(kind: Kind | Parameter) -> str:
    """How a value of `kind` is written, for `--help`."""
    if isinstance(kind, Image):
        return f"{kind}: FILE.npy, or a picture (RGB) as FILE"
    if isinstance(kind, Matrix):
        return f"{kind}: [[1,0,8],[0,1,8]] or FILE.npy"
    if isinstance(kind, Parameter):
        return str(kind)
    if isinstance(kind, Array):
        return "1,2,3 or [[1,2],[3,4]] or FILE.npy or FILE.csv"
    if isinstance(kind, Scalar):
        return "a number" if kind.dtype.kind == "f" else "a whole number"
    if isinstance(kind, Args):
        return "TYPE:VALUE, TYPE*COUNT for zeros, string:TEXT or buffer:FILE; one each"
    if isinstance(kind, Object) and issubclass(kind.cls, Tensor):
        return "FILE.npy or FILE.csv (float32), one each"
    if isinstance(kind, Object) and kind.cls is tf.Node:
        return "NAME or NAME:INDEX, one each"
    if isinstance(kind, Object) and kind.cls is str:
        return "text, one each"
    return "text" if isinstance(kind, Text) else "FILE"


def parse(kind: Kind | Parameter, texts: Sequence[str]) -> Any:
    """The value of `kind` that `texts` (more than one only where it takes many) stand for.

    A resource is given as the Path of its file.
    """
    if takes_many(kind):
        return [_parse_one(kind, text) for text in texts]
    if len(texts) > 1:
        raise mismatch("one value", f"{len(texts)}: {' '.join(texts)}")
    return _parse_one(kind, texts[0])


def _parse_one(kind: Kind | Parameter, text: str) -> Any:
    if isinstance(kind, Parameter):
        return kind.check(_parameter(kind, text))
    if isinstance(kind, Array):
        return _array(text, kind.dtype)
    if isinstance(kind, Scalar):
        return _number(text, kind.dtype)
    if isinstance(kind, Text):
        return text
    if isinstance(kind, Bytes):
        return _content(text)
    if isinstance(kind, Args):
        return _argument(text)
    if isinstance(kind, ResourceRef):
        if is_url(text):
            return text
        if not Path(text).exists():
            raise NotFound(f"expected a file, a folder or a URL, found none at {text!r}")
        return Path(text)
    if isinstance(kind, Object):
        return _object(kind.cls, text)
    raise mismatch(f"a {type(kind).__name__} from a program", "a text; the command line has none")


def _parameter(kind: Parameter, text: str) -> Any:
    """A function's argument, which knows by itself what it may be."""
    if isinstance(kind, Image):
        if text.endswith(_ARRAY_FILES):
            return _read_npy(text) if text.endswith(".npy") else _array(text, F32)
        with pictures.decoded(_content(text), what=text) as picture:
            return np.array(picture)
    if isinstance(kind, Matrix):
        return _read_npy(text) if text.endswith(".npy") else _array(text, F64)
    if isinstance(kind, Choice):
        return int(text) if text.isdigit() else text
    return _number(text, I32 if isinstance(kind, Int) else F64)


def _object(cls: Any, text: str) -> Any:
    if issubclass(cls, Tensor):
        if not text.endswith(_ARRAY_FILES):
            raise mismatch("a .npy or .csv file", repr(text))
        return cls.from_numpy(_tensor_array(cls, text))
    if issubclass(cls, Buffer):
        return cls(_content(text))
    if cls is str:
        return text
    name, colon, index = text.rpartition(":")
    if colon and index.isdigit():
        return cls(name, int(index))
    return cls(text)


def _tensor_array(cls: type[Tensor[Any]], path: str) -> np.ndarray[Any, Any]:
    """As the .npy file says, if such tensors have its dtype; other floats, and a .csv, float32."""
    array = _read_csv(path, F32) if path.endswith(".csv") else _read_npy(path)
    known = {one.dtype for one in cls.types if one.dtype is not None and one.numeric}
    if array.dtype.newbyteorder("<") in known:
        return array
    if array.dtype.kind != "f":
        names = ", ".join(sorted(dtype.name for dtype in known))
        fix = "save it in one of these, or as .csv (float32)"
        raise mismatch(f"a dtype of {names} in {path}", array.dtype.name, fix)
    return _converted(array, F32, path)


def _argument(text: str) -> Arg:
    """`int32:5`, `float32:1,2`, `float32:in.npy`, `uint8*64`, `string:hello`, `buffer:FILE`."""
    name, star, count = text.partition("*")
    if star and name in _SCALAR_TYPES and count.isdigit():
        type = _SCALAR_TYPES[name]
        return Arg(np.zeros(int(count), DTYPES[type]), ArgType(type + 1))
    name, colon, value = text.partition(":")
    if colon and name in _SCALAR_TYPES:
        type = _SCALAR_TYPES[name]
        if value.endswith(_ARRAY_FILES) or "," in value or value.startswith("["):
            return Arg(_array(value, DTYPES[type]), ArgType(type + 1))
        return Arg(_number(value, DTYPES[type]), type)
    if colon and name == "string":
        return Arg(value, ArgType.STRING)
    if colon and name in _FILE_TYPES:
        return Arg(_content(value), _FILE_TYPES[name])
    types = ", ".join([*_SCALAR_TYPES, "string", *_FILE_TYPES])
    raise mismatch("TYPE:VALUE or TYPE*COUNT", repr(text), f"types: {types}")


# -- numbers and arrays ------------------------------------------------------------------------


def _number(text: str, dtype: np.dtype[Any]) -> Any:
    try:
        return float(text) if dtype.kind == "f" else int(text)
    except ValueError:
        what = "a number" if dtype.kind == "f" else "a whole number"
        raise mismatch(f"{what} ({dtype.name})", repr(text.strip()[:40])) from None


def _array(text: str, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """From a file, or inline."""
    if text.endswith(".npy"):
        return _converted(_read_npy(text), dtype, text)
    if text.endswith(".csv"):
        return _read_csv(text, dtype)
    if not text.lstrip().startswith("["):
        return pack([_number(part, dtype) for part in text.split(",")], dtype)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise mismatch("a list such as [1,2,3]", f"{text[:40]!r} ({exc})") from None
    if value and all(isinstance(row, list) for row in value):
        return _table(value, dtype)
    return pack(value, dtype)


def _table(rows: list[list[Any]], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise mismatch(
                f"rows of the same length, {len(rows[0])}", f"{len(row)} in row {number}"
            )
    return pack([value for row in rows for value in row], dtype).reshape(len(rows), -1)


def _read_csv(path: str, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """A table; one row or one column is a vector. Empty lines and lines with # do not count."""
    try:
        lines = _content(path).decode("utf-8-sig").splitlines()  # spreadsheets write a BOM
    except UnicodeDecodeError as exc:
        raise mismatch(f"text in {path}", exc) from None
    rows = []
    for place, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                rows.append([_number(cell, dtype) for cell in line.split(",")])
            except FFIError as exc:
                raise mismatch(f"numbers in {path}", f"line {place}: {exc.message}") from None
    table = _table(rows, dtype) if rows else np.zeros((0, 0), dtype)
    return table.reshape(-1) if 1 in table.shape or not rows else table


def _read_npy(path: str) -> np.ndarray[Any, Any]:
    try:
        with open(path, "rb") as file:
            array: np.ndarray[Any, Any] = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as exc:
        raise _unreadable(path, exc) from None
    except (ValueError, TypeError, EOFError, SyntaxError) as exc:
        raise mismatch("a whole .npy file of numbers", f"{path} ({exc})") from None
    return array


def _converted(
    array: np.ndarray[Any, Any], dtype: np.dtype[Any], path: str
) -> np.ndarray[Any, Any]:
    """`array`, from `path`, as `dtype`: floats may round, whole numbers keep their value."""
    kind = array.dtype.kind
    if array.dtype.newbyteorder("=") == dtype:
        return array
    if kind not in "biuf":
        raise mismatch(f"real numbers in {path}", array.dtype.name)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # too large becomes infinity, as from text
            return array.astype(dtype)
    if kind == "f":
        odd = array[~np.isfinite(array) | (array != np.trunc(array))]
        if odd.size:
            raise mismatch(f"whole numbers ({dtype.name}) in {path}", odd[0])
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    for extreme in (int(array.min()), int(array.max())) if array.size else ():
        if not low <= extreme <= high:
            raise mismatch(f"{dtype.name} from {low} to {high} in {path}", extreme)
    return array.astype(dtype)


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise _unreadable(path, exc) from None


def _unreadable(path: str, exc: OSError) -> FFIError:
    return from_errno(exc.errno or 0, f"expected a readable file, found {path!r}: {exc.strerror}")


# -- results -----------------------------------------------------------------------------------


def named(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The pieces of a result under names of their own; tensors and Args as arrays."""
    if isinstance(value, list):
        for number, one in enumerate(value):
            yield from named(f"{name}.{number}", one)
    elif isinstance(value, Tensor):
        yield name, value.as_numpy() if value.data_type.numeric else value.to_bytes()
    elif isinstance(value, tf.Status):
        yield name, f"{value.code} {value.message}".rstrip()
    else:
        yield name, value


def text(value: Any) -> str:
    """One number a line; a row a line, separated by commas, for more than one dimension."""
    if not isinstance(value, np.ndarray):
        return str(value)
    if not value.size:
        return ""
    # In the shortest form that reads back as the same number of this dtype.
    cells = value.astype(str)
    rows = cells.reshape(-1, cells.shape[-1] if cells.ndim > 1 else 1)
    return "\n".join(map(",".join, rows.tolist()))


def save(value: np.ndarray[Any, Any], path: Path) -> None:
    """As .npy, .csv or, where it is a picture, as .png."""
    if path.suffix == ".npy":
        np.save(path, value, allow_pickle=False)
    elif path.suffix == ".png":
        _save_picture(value, path)
    else:
        path.write_text(text(value) + "\n" if value.size else "")


def _save_picture(value: np.ndarray[Any, Any], path: Path) -> None:
    channels = value.shape[2:] or (1,)
    if value.dtype != np.uint8 or value.ndim not in (2, 3) or channels not in ((1,), (3,), (4,)):
        expected = "uint8 of shape (height, width), (height, width, 3) or (height, width, 4)"
        exc = mismatch(expected, f"{value.dtype} of shape {value.shape}", "save it as .npy")
        raise InvalidArgument(f"{path}: {exc.message}")
    grey = value.reshape(value.shape[:2]) if channels == (1,) else value
    pictures.pillow().fromarray(grey).save(path, "PNG")
