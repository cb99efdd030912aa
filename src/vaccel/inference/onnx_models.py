"""ONNX models with tensors by name, as onnxruntime runs them on the CPU.

Inputs are used where they lie, strings and unaligned memory aside, and outputs leave in the memory
that onnxruntime made for them. It makes new memory for each call; copied are only outputs that are
an input.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.error import FFIError, InvalidArgument
from vaccel.inference import inputs
from vaccel.inference.inputs import Wanted
from vaccel.inference.loaded import ModelPlugin, import_engine
from vaccel.inference.named import NamedSignature
from vaccel.inference.strings import packed, strings
from vaccel.ops.catalog import Operations
from vaccel.ops.onnx import Tensor, TensorType

if TYPE_CHECKING:
    from pathlib import Path

    from vaccel.resource import Blob, Resource
    from vaccel.session import Session

ENGINE = "onnxruntime"
SUFFIXES = (".onnx", ".ort")

# onnxruntime's names of types; the others are ONNX's own in lower case.
_TYPES = {f"tensor({kind.name.lower()})": kind for kind in TensorType}


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
    content: Any = bytes(blob.data)  # onnxruntime takes nothing else from memory
    if b"location" in content:
        # Weights in other files. From memory they would be looked for in this process's current
        # folder, which is not for models to read; a file's are looked for in its own.
        content = str(file_of(resource, blob))
    load = f"{framework}_model_load"
    try:
        engine = ort.InferenceSession(content, options(ort), providers=["CPUExecutionProvider"])
        return OnnxModel(ort, engine, f"{framework}_model_run")
    except InvalidArgument as exc:
        raise inputs.not_a_model(load, resource, blob, exc.message) from None
    except Exception as exc:  # of many classes without a base of their own
        raise inputs.not_a_model(load, resource, blob, reason(exc)) from exc


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
        try:
            found = self._call(names, feeds)
        except FFIError:
            raise
        except Exception as exc:  # as in open_model
            raise self.signature.failed(_Reason(reason(exc))) from exc
        taken = [tensor.as_memoryview() for tensor in tensors]
        return [_output(name, one, taken) for name, one in zip(names, found, strict=True)]

    def _feeds(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        if not any(tensor.name for tensor in tensors):
            self.signature.check(tensors)
            return dict(zip(self.signature.by_name, tensors, strict=False))
        return self.signature.arrange([one.name for one in tensors], tensors)

    def _call(self, names: list[str], feeds: dict[str, Tensor]) -> list[Any]:
        """OrtValues; numpy arrays where an input has strings, as OrtValues are not made of them."""
        if any(tensor.data_type is TensorType.STRING for tensor in feeds.values()):
            return list(self._engine.run(names, {n: _array(one) for n, one in feeds.items()}))
        values = {name: self._value(tensor) for name, tensor in feeds.items()}
        return list(self._engine.run_with_ort_values(names, values))

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


def reason(exc: Exception) -> str:
    """The engine's words, without the codes that it puts before them."""
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", inputs.one_line(exc))


class _Reason(Exception):
    """An engine's error in fewer words."""


def file_of(resource: Resource, blob: Blob) -> Path:
    """Where one of the resource's blobs is a file."""
    places = [one.name for one in resource.blobs()]
    return resource.files()[places.index(blob.name)]


def _wanted(one: Any, optional: bool) -> Wanted:
    kind = _TYPES.get(one.type)
    if kind is None:
        raise InvalidArgument(
            f"expected inputs that are tensors of the types in onnx.TensorType, "
            f"found {one.name}: {one.type}"
        )
    shape = tuple(extent if isinstance(extent, int) else None for extent in one.shape)
    return Wanted(one.name, kind.dtype if kind.numeric else kind.name, shape, optional)


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    if tensor.data_type is not TensorType.STRING:
        return _aligned(tensor.as_numpy())
    found = strings(tensor)
    try:
        # onnxruntime would take the str() of bytes.
        found.flat = [one.decode() for one in found.flat]
    except UnicodeDecodeError as exc:
        raise InvalidArgument(f"onnx_model_run: expected strings in UTF-8, found {exc}") from None
    return found


def _aligned(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Kernels load whole elements."""
    return np.require(array, requirements=["C", "A"])


def _output(name: str, value: Any, taken: Sequence[memoryview]) -> Tensor:
    if isinstance(value, np.ndarray):
        array = value
    elif not value.has_value():
        raise InvalidArgument(f"onnx_model_run: the model gives no {name} for these inputs")
    else:
        kind = _TYPES[value.data_type()]
        if not kind.numeric and kind is not TensorType.STRING:
            return Tensor(value.shape(), kind, _memory(value), name)
        array = value.numpy()
    if array.dtype.kind in "SUO":
        return Tensor(array.shape, TensorType.STRING, packed(array), name)
    if any(np.may_share_memory(array, one) for one in taken):
        array = array.copy()
    return Tensor.from_numpy(array, name)


def _memory(value: Any) -> Any:
    """The bytes of an OrtValue of a type that numpy lacks."""
    count = value.tensor_size_in_bytes()
    memory = (ctypes.c_uint8 * count).from_address(value.data_ptr())
    memory.owner = value  # lives as long as its memory is used
    return np.frombuffer(memory, np.uint8) if count else b""
