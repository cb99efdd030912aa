"""ONNX models with tensors by name, as onnxruntime runs them on the CPU.

Inputs are used where they lie, strings and unaligned memory aside, and outputs leave in the memory
that onnxruntime made for them, new for each call. Copied are only outputs that are an input.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.error import FFIError, InvalidArgument
from vaccel.inference import inputs
from vaccel.inference.inputs import Wanted
from vaccel.inference.loaded import ModelPlugin, import_engine
from vaccel.inference.named import NamedSignature
from vaccel.inference.strings import packed, texts
from vaccel.ops.catalog import Operations
from vaccel.ops.onnx import Tensor, TensorType

if TYPE_CHECKING:
    from vaccel.blob import Blob
    from vaccel.resource import Resource
    from vaccel.session import Session

ENGINE = "onnxruntime"
SUFFIXES = (".onnx", ".ort")
_ORT = b"ORTM"
"""Of a file in onnxruntime's own format, which is known as such by its suffix, or in memory."""
_RESOLVED = re.compile(r' resolved path: ".*')
"""Of a path that leads out of the model's folder; what the model calls it comes before."""

# onnxruntime's names of types; the others are ONNX's own in lower case.
_TYPES = {f"tensor({kind.name.lower()})": kind for kind in TensorType}
_OPAQUE = {kind for kind in TensorType if not kind.numeric} - {TensorType.STRING}

_Array = np.ndarray[Any, Any]


def register(plugin: ModelPlugin[OnnxModel]) -> None:
    """Give `plugin` the three model operations; its `open` is `open_model`."""
    plugin.kernel(Operations.onnx_model_unload)(plugin.unload)

    @plugin.kernel(Operations.onnx_model_load)
    def onnx_model_load(session: Session, resource: Resource) -> None:
        plugin.models.load(session, resource)

    @plugin.kernel(Operations.onnx_model_run)
    def onnx_model_run(
        session: Session, resource: Resource, in_tensors: list[Tensor], out_names: list[str]
    ) -> list[Tensor]:
        return plugin.models.get(session, resource).run(in_tensors, out_names)


def open_model(resource: Resource) -> OnnxModel:
    """The model of a resource; InvalidArgument: the file is none, or needs what is not there."""
    return open_blob(resource, inputs.model_file(resource, SUFFIXES), "onnx")


def open_blob(resource: Resource, blob: Blob, framework: str) -> OnnxModel:
    """The model in one of the resource's files; errors name the operations of `framework`."""
    ort = import_engine(ENGINE, "onnx")
    given = source(resource, blob)
    load = f"{framework}_model_load"
    try:
        engine = ort.InferenceSession(given, options(ort), providers=["CPUExecutionProvider"])
        return OnnxModel(ort, engine, f"{framework}_model_run")
    except InvalidArgument as exc:
        raise inputs.not_a_model(load, resource, blob, exc.message) from None
    except Exception as exc:  # of many classes without a base of their own
        raise inputs.not_a_model(load, resource, blob, reason(exc, given, blob.name)) from exc


def source(resource: Resource, blob: Blob) -> str | bytes:
    """What onnxruntime opens: the path of a file, or the content."""
    path = inputs.on_disk(resource, blob)
    if path is not None and blob.data[4:8] != _ORT:
        return str(path)  # read there, the model is in memory once less
    content = inputs.content_of(resource, blob)  # onnxruntime takes nothing else from memory
    if b"location" in content:
        # Weights in other files. From memory they would be looked for in this process's current
        # folder, which is not for models to read; a file's are looked for in its own.
        return str(inputs.file_of(resource, blob))
    return content


class OnnxModel:
    """A model in memory. Threads may run it at once: onnxruntime keeps no state of a run."""

    def __init__(self, ort: Any, engine: Any, operation: str = "onnx_model_run") -> None:
        self._ort = ort
        self._engine = engine
        given = [(one, False) for one in engine.get_inputs()]
        given += [(one, True) for one in engine.get_overridable_initializers()]
        self.signature = NamedSignature(
            operation, [_wanted(one, optional) for one, optional in given]
        )
        self._operation = operation
        self.inputs = tuple(self.signature.by_name)
        self._outputs = {one.name: one.type for one in engine.get_outputs()}
        self.outputs = tuple(self._outputs)

    def run(self, tensors: Sequence[Tensor], names: Sequence[str]) -> list[Tensor]:
        """The outputs `names`, or all; inputs by name, or by place if none has a name."""
        feeds = self._feeds(tensors)
        names = list(names) or list(self._outputs)
        for name in names:
            if name not in self._outputs:
                known = ", ".join(self._outputs)
                raise InvalidArgument(
                    f"{self._operation}: out_names: expected names of {known}, found {name!r}"
                )
            if self._outputs[name] not in _TYPES:
                raise InvalidArgument(
                    f"{self._operation}: output {name} is {self._outputs[name]}, and only "
                    f"tensors can be returned: name the others in out_names"
                )
        opaque = any(_TYPES[self._outputs[name]] in _OPAQUE for name in names)
        call = self._call
        if opaque or any(tensor.data_type in _OPAQUE for tensor in tensors):
            call = self._call_with_values
        try:
            return call(names, feeds)
        except FFIError:
            raise
        except Exception as exc:  # as in open_model
            raise self.signature.failed(exc, reason(exc)) from exc

    def _feeds(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        if not any(tensor.name for tensor in tensors):
            self.signature.check(tensors)
            return dict(zip(self.signature.by_name, tensors, strict=False))
        return self.signature.arrange([one.name for one in tensors], tensors)

    def _call(self, names: Sequence[str], feeds: Mapping[str, Tensor]) -> list[Tensor]:
        found = self._engine.run(names, {name: _array(one) for name, one in feeds.items()})
        return [_output(name, one) for name, one in zip(names, found, strict=True)]

    def _call_with_values(self, names: Sequence[str], feeds: Mapping[str, Tensor]) -> list[Tensor]:
        """For types that numpy lacks; takes several times as long."""
        values = {name: self._value(tensor) for name, tensor in feeds.items()}
        found = self._engine.run_with_ort_values(names, values)
        taken = [tensor.as_memoryview() for tensor in feeds.values()]
        return [_output_of(name, one, taken) for name, one in zip(names, found, strict=True)]

    def _value(self, tensor: Tensor) -> Any:
        """An OrtValue over the tensor's memory, which it keeps."""
        make = self._ort.OrtValue
        if tensor.data_type.numeric:
            return make.ortvalue_from_numpy(_array(tensor))
        dtype = np.dtype(f"<u{tensor.data_type.dtype.itemsize}")  # type: ignore[union-attr]
        array = np.ndarray(tensor.shape, dtype, tensor.as_memoryview())
        return make.ortvalue_from_numpy_with_onnx_type(_aligned(array), int(tensor.data_type))


def options(ort: Any) -> Any:
    """How all sessions are made."""
    made = ort.SessionOptions()
    made.intra_op_num_threads = min(len(os.sched_getaffinity(0)), 4)
    # Threads that wait for work in a loop take the processor from other calls.
    made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made.log_severity_level = 4  # what goes wrong is raised, and nothing printed
    return made


def reason(exc: Exception, given: str | bytes = b"", name: str = "") -> str:
    """The engine's words, without the codes that it puts before them; where it was given a path,
    without that, but with the file's `name`."""
    text = str(exc) or type(exc).__name__
    if isinstance(given, str):
        text = inputs.without_places(_RESOLVED.sub("", text), Path(given), name)
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", inputs.one_line(text))


def _wanted(one: Any, optional: bool) -> Wanted:
    kind = _TYPES.get(one.type)
    if kind is None:
        raise InvalidArgument(
            f"expected inputs that are tensors of the types in onnx.TensorType, "
            f"found {one.name}: {one.type}"
        )
    shape = tuple(extent if isinstance(extent, int) else None for extent in one.shape)
    return Wanted(one.name, kind.dtype if kind.numeric else kind.name, shape, optional)


def _array(tensor: Tensor) -> _Array:
    if tensor.data_type is not TensorType.STRING:
        return _aligned(tensor.as_numpy())
    return np.array(texts(tensor), object).reshape(tensor.shape)  # of bytes it takes the str()


def _aligned(array: _Array) -> _Array:
    """Kernels load whole elements."""
    return np.require(array, requirements=["C", "A"])


def _output(name: str, array: _Array | None) -> Tensor:
    if array is None:
        raise InvalidArgument(f"out_names: the model gives no {name} for these inputs")
    if array.dtype.kind in "SUO":
        return Tensor(array.shape, TensorType.STRING, packed(array), name)
    return Tensor.from_numpy(array, name)


def _output_of(name: str, value: Any, taken: Sequence[memoryview]) -> Tensor:
    kind = _TYPES[value.data_type()] if value.has_value() else None
    if kind not in _OPAQUE:
        array = value.numpy() if kind else None
    else:
        array = _memory(value)
    if array is not None and any(np.may_share_memory(array, one) for one in taken):
        array = array.copy()
    return Tensor(value.shape(), kind, array, name) if kind in _OPAQUE else _output(name, array)


def _memory(value: Any) -> _Array:
    """The bytes of an OrtValue of a type that numpy lacks."""
    count = value.tensor_size_in_bytes()
    memory = (ctypes.c_uint8 * count).from_address(value.data_ptr())
    memory.owner = value  # lives as long as its memory is used
    return np.frombuffer(memory, np.uint8) if count else np.empty(0, np.uint8)
