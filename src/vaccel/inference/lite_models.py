"""TensorFlow Lite models, as LiteRT runs them on the CPU.

LiteRT copies inputs into its arena, and outputs out of it: one copy each. An interpreter serves one
call at a time, so a model has as many as calls ran at once; they share the model's bytes.
"""

from __future__ import annotations

import collections
import os
import re
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.error import FFIError, InvalidArgument
from vaccel.inference import inputs
from vaccel.inference.inputs import Signature, Wanted
from vaccel.inference.loaded import import_engine
from vaccel.inference.strings import packed, strings
from vaccel.ops.tf.lite import Tensor, TensorType

if TYPE_CHECKING:
    from vaccel.resource import Resource

ENGINE = "ai_edge_litert.interpreter"
SUFFIXES = (".tflite", ".lite")

_Array = np.ndarray[Any, Any]


def open_model(resource: Resource) -> LiteModel:
    """The model of a resource; InvalidArgument: the file is none, or needs TensorFlow itself."""
    blob = inputs.model_file(resource, SUFFIXES)
    try:
        if not _has_graph(blob.data):
            raise InvalidArgument("it is no TensorFlow Lite file with a graph")
        # LiteRT keeps them. It would map a file, which its owner may change meanwhile.
        return LiteModel(inputs.content_of(resource, blob))
    except InvalidArgument as exc:
        reason = exc.message
    except (RuntimeError, ValueError) as exc:
        reason = inputs.one_line(exc)
    raise inputs.not_a_model("tflite_model_load", resource, blob, reason)


class LiteModel:
    """A model in memory. Threads may run it at once; each call begins with the model's state."""

    def __init__(self, content: bytes) -> None:
        self._interpreter = import_engine(ENGINE, "tflite").Interpreter
        self._content = content
        self._most_idle = os.cpu_count() or 1
        first = self._new()
        self._idle = collections.deque([first])
        self._signature = Signature("tflite_model_run", first.wanted)

    def _new(self) -> _Interpreter:
        return _Interpreter(self._interpreter(model_content=self._content))

    def run(self, tensors: Sequence[Tensor], count: int) -> list[Tensor]:
        """The first `count` outputs; 0: all."""
        self._signature.check(tensors)
        try:
            interpreter = self._idle.pop()
        except IndexError:
            interpreter = self._new()
        try:
            count = self._signature.outputs(len(interpreter.outputs), count)
            result = interpreter.run(tensors, count)
        except FFIError:
            raise
        except (MemoryError, RuntimeError, ValueError) as exc:
            raise self._signature.failed(exc) from exc
        # One that failed is not used again, as it may be without memory for its tensors.
        if len(self._idle) < self._most_idle:
            self._idle.append(interpreter)
        return result


class _Interpreter:
    """One of LiteRT's, with what is asked of it at each call kept at hand."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        try:
            engine.allocate_tensors()
        except RuntimeError as exc:
            raise _explained(engine, exc) from exc
        details = engine.get_input_details()
        self.wanted = [_wanted(one) for one in details]
        self._places = [one["index"] for one in details]
        self._shapes = [tuple(one["shape"].tolist()) for one in details]
        self.outputs = [one["index"] for one in engine.get_output_details()]

    def run(self, tensors: Sequence[Tensor], count: int) -> list[Tensor]:
        engine = self._engine
        shapes = [tensor.shape for tensor in tensors]
        if shapes != self._shapes:
            for place, shape in zip(self._places, shapes, strict=True):
                engine.resize_tensor_input(place, shape, strict=True)
            engine.allocate_tensors()
            self._shapes = shapes
        else:
            engine.reset_all_variables()  # as allocate_tensors does
        for place, tensor in zip(self._places, tensors, strict=True):
            engine.set_tensor(place, _array(tensor))
        engine.invoke()
        return [_output(i, engine.get_tensor(self.outputs[i])) for i in range(count)]


def _wanted(details: dict[str, Any]) -> Wanted:
    shape = details["shape_signature"] if details["shape_signature"].size else details["shape"]
    kind = np.dtype(details["dtype"])
    return Wanted(
        str(details["name"]),
        TensorType.STRING.name if kind.kind in "SUO" else kind,
        tuple(None if extent < 0 else extent for extent in shape.tolist()),
    )


def _array(tensor: Tensor) -> _Array:
    return strings(tensor) if tensor.data_type is TensorType.STRING else tensor.as_numpy()


def _output(i: int, array: _Array) -> Tensor:
    if array.dtype.kind in "SUO":
        return Tensor(array.shape, TensorType.STRING, packed(array))
    try:
        return Tensor.from_numpy(array)
    except InvalidArgument as exc:
        raise InvalidArgument(f"tflite_model_run: output {i}: {exc.message}") from None


# -- what LiteRT does not say, or does not check -------------------------------------------------


def _explained(engine: Any, exc: RuntimeError) -> InvalidArgument:
    """Which operations are missing; of TensorFlow's own, LiteRT says only that there are some."""
    names = {one["op_name"] for one in engine._get_ops_details()}
    flex = sorted(name for name in names if re.match("Flex[A-Z]", name))
    if not flex:
        return InvalidArgument(inputs.one_line(exc))
    return InvalidArgument(
        f"it needs operations of TensorFlow itself, which LiteRT lacks: {', '.join(flex)}; "
        f"convert it without SELECT_TF_OPS, or run the original with tf_model_run"
    )


def _has_graph(content: memoryview) -> bool:
    """The FlatBuffer's list of graphs is not empty, which LiteRT takes for granted.

    A table begins with the distance back to its vtable, whose third field tells where the list is.
    """
    try:
        (root,) = struct.unpack_from("<I", content)
        (back,) = struct.unpack_from("<i", content, root)
        size, _, _, _, field = struct.unpack_from("<5H", content, root - back)
        (forward,) = struct.unpack_from("<I", content, root + field)
        (count,) = struct.unpack_from("<I", content, root + field + forward)
    except struct.error:
        return False
    return bool(content[4:8].tobytes() == b"TFL3" and size >= 10 and field and count)
