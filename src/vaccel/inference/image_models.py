"""ONNX models behind the image operations: loaded, described, run."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.error import FFIError, InvalidArgument
from vaccel.inference import inputs, layouts
from vaccel.inference.description import Description, describe
from vaccel.inference.found import Found
from vaccel.inference.loaded import import_engine
from vaccel.inference.preprocess import prepare

if TYPE_CHECKING:
    from PIL.Image import Image

    from vaccel.resource import Resource

SUFFIXES = (".onnx",)

_SMALL = 2**20
"""Bytes of a model below which a second thread takes longer to wake up than it would save."""
_MOST_THREADS = 4
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


class ImageModel:
    """A model that takes one picture. Threads may run it at once."""

    def __init__(self, engine: Any, description: Description) -> None:
        self.description = description
        self._engine = engine
        self._input = engine.get_inputs()[0].name
        self._outputs = [one.name for one in engine.get_outputs()]

    def run(self, picture: Image) -> Found:
        tensor, transform = prepare(picture, self.description)
        try:
            found = self._engine.run(self._outputs, {self._input: tensor})
        except Exception as exc:  # of onnxruntime's many classes, which share no base of their own
            raise InvalidArgument(
                f"model: the engine could not run it on {tensor.dtype} {list(tensor.shape)}: "
                f"{inputs.one_line(exc)}"
            ) from exc
        outputs = dict(zip(self._outputs, found, strict=True))
        return Found(self.description, layouts.decode(self.description, outputs), transform)


@dataclass(frozen=True)
class Unfit:
    """Why a resource is no model that an image operation could use."""

    reason: str


def open_resource(resource: Resource) -> ImageModel | Unfit:
    """The model of a resource. What does not fit today will not tomorrow, so that is kept too."""
    try:
        blob = inputs.model_file(resource, SUFFIXES)
        if len(resource.blobs()) == 1 and not resource.paths:
            return _model(None, bytes(blob.data))  # onnxruntime takes nothing else from memory
        # Files, for what lies beside a model: weights, a description, labels.
        place = [one.name for one in resource.blobs()].index(blob.name)
        return _model(resource.files()[place], None)
    except FFIError as exc:
        return Unfit(exc.message)


class Shipped:
    """The models in this package, each loaded when it is first needed. Thread-safe."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything; in a forked child the engine's threads are not there."""
        self._lock = threading.Lock()
        self._models: dict[str, ImageModel] = {}

    def get(self, task: str) -> ImageModel:
        found = self._models.get(task)
        if found is None:
            with self._lock:
                found = self._models.get(task)
                if found is None:
                    file = resources.files("vaccel") / "data" / "models" / f"{task}.onnx"
                    with resources.as_file(file) as path:
                        found = self._models[task] = _model(path, None)
        return found


def _model(path: Path | None, content: bytes | None) -> ImageModel:
    """From a file, or from memory. InvalidArgument: not a model, or not one for pictures."""
    ort = import_engine("onnxruntime", "onnx")
    size = path.stat().st_size if path else len(content or b"")
    try:
        engine = ort.InferenceSession(
            str(path) if path else content,
            _options(ort, size),
            providers=["CPUExecutionProvider"],
        )
    except Exception as exc:
        raise InvalidArgument(f"not a model that can be loaded: {_reason(exc)}") from exc
    if len(engine.get_inputs()) != 1:
        names = ", ".join(one.name for one in engine.get_inputs()) or "none"
        raise InvalidArgument(f"expected a model with one input, for the picture, found {names}")
    metadata: Mapping[str, str] = engine.get_modelmeta().custom_metadata_map
    given = [_signature(one) for one in engine.get_inputs()]
    made = [_signature(one) for one in engine.get_outputs()]
    return ImageModel(engine, describe(path, metadata, given, made))


def _options(ort: Any, size: int) -> Any:
    options = ort.SessionOptions()
    cores = len(os.sched_getaffinity(0))
    options.intra_op_num_threads = 1 if size < _SMALL else min(cores, _MOST_THREADS)
    # Threads that wait for work in a loop take the processor from the agent's other clients.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is raised; nothing is printed
    return options


def _signature(one: Any) -> tuple[str, tuple[int | None, ...], Any]:
    """Name, extents (None: open) and dtype of an input or an output."""
    shape = tuple(extent if isinstance(extent, int) else None for extent in one.shape or ())
    if one.type not in _DTYPES:
        raise InvalidArgument(f"expected tensors of numbers, found {one.name}: {one.type}")
    return one.name, shape, np.dtype(_DTYPES[one.type])


def _reason(exc: Exception) -> str:
    """The engine's words, without the codes it puts before them."""
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", inputs.one_line(exc))
