"""ONNX models behind the image operations: loaded, described, run."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.error import FFIError, InvalidArgument
from vaccel.inference import inputs, layouts, onnx_models
from vaccel.inference.description import Description, describe
from vaccel.inference.found import Found
from vaccel.inference.layouts import Output, Unsettled
from vaccel.inference.layouts.formats import advice
from vaccel.inference.loaded import import_engine
from vaccel.inference.pictures import decoded
from vaccel.inference.preprocess import Transform, prepare
from vaccel.sources import described

if TYPE_CHECKING:
    from vaccel.blob import Blob
    from vaccel.inference.results import Result
    from vaccel.resource import Resource

# The format's version, field 1, from 3 on (a TensorFlow SavedModel has 1 there), and the tag of a
# later field, since weights begin with any bytes; or ORT's mark.
_BEGINNING = re.compile(rb"\x08[\x03-\x7f][\x12\x1a\x22\x28\x32\x3a\x42\x72]|....ORTM", re.DOTALL)

_Signature = tuple[str, tuple[int | None, ...], Any]
"""Of an input or an output: name, extents (None: open), dtype."""

_SMALL = 2**20
"""Bytes of a model below which a second thread takes longer to wake up than it would save."""
_DTYPES: dict[str, Any] = {
    "float": np.float32,
    "float16": np.float16,
    "double": np.float64,
    "bool": np.bool_,
} | {
    f"{sign}int{bits}": np.dtype(f"{sign}int{bits}")
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}
"""By onnxruntime's name of what a tensor has."""


class ImageModel:
    """A model that takes one picture. Threads may run it at once."""

    def __init__(self, engine: Any, description: Description) -> None:
        self.description = description
        self._engine = engine
        self._input = engine.get_inputs()[0].name
        made = [_signature(one) for one in engine.get_outputs()]
        self._outputs = [name for name, _, _ in made]
        # What the outputs are is settled anew only where their shapes are new.
        self._reader = functools.lru_cache(maxsize=8)(functools.partial(_bind, description, made))

    def run(self, image: memoryview | bytes) -> Found:
        """What the model finds in an encoded picture, which is not kept once it is prepared."""
        tensor, transform = self._prepared(image)
        try:
            found = self._engine.run(self._outputs, {self._input: tensor})
        except Exception as exc:  # of many classes without a base of their own
            raise InvalidArgument(
                f"model: the engine could not run it on {tensor.dtype} {list(tensor.shape)}: "
                f"{onnx_models.reason(exc)}"
            ) from exc
        read = self._reader(*[one.shape for one in found])
        return Found(self.description, read(found, transform.input), transform)

    def _prepared(self, image: memoryview | bytes) -> tuple[np.ndarray[Any, Any], Transform]:
        with decoded(image) as picture:
            return prepare(picture, self.description)


def _bind(
    description: Description, made: Sequence[_Signature], *shapes: tuple[int, ...]
) -> Callable[..., Result]:
    """What reads outputs of these `shapes`, as `layouts.bind`."""
    outputs = [
        Output(name, shape, dtype) for (name, _, dtype), shape in zip(made, shapes, strict=True)
    ]
    return layouts.bind(description, outputs)


@dataclass(frozen=True)
class Unfit:
    """Why a resource is no model that an image operation could use, as `reason` tells a caller."""

    reason: Callable[[str], str]
    """Gets the operation's task."""


def holds_model(resource: Resource) -> bool:
    """Whether `resource` is meant to be an ONNX model: by a file's name or first bytes, or since
    it is described as one for pictures."""
    blobs = resource.whole()
    marks = (*onnx_models.SUFFIXES, described.ENDING)
    return any(
        blob.name.lower().endswith(marks) or _BEGINNING.match(blob.data[:8]) for blob in blobs
    )


def open_resource(resource: Resource) -> ImageModel | Unfit | None:
    """The model of a resource, or what is wrong with it; None: it is for another engine."""
    if not holds_model(resource):
        return None
    try:
        blob = inputs.model_file(resource, onnx_models.SUFFIXES)
        return _model(onnx_models.source(resource, blob), blob.name, resource.whole())
    except Unsettled as exc:
        if exc.key == "task":
            return Unfit(functools.partial(advice, exc.key, exc.reason))
        return _unfit(exc)
    except FFIError as exc:
        return _unfit(exc)


def _unfit(exc: FFIError) -> Unfit:
    message = exc.message  # the error itself would keep alive what it has met on its way
    return Unfit(lambda task: message)


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
                        found = _model(str(path), path.name, described.beside([(path.name, path)]))
                    self._models[task] = found
        return found


def _model(source: str | bytes, name: str, files: Sequence[Blob]) -> ImageModel:
    """From a file, or from its content; `name` is its name among `files`, which describe it.

    InvalidArgument: not a model, or not one for pictures.
    """
    ort = import_engine(onnx_models.ENGINE, "onnx")
    options = onnx_models.options(ort)
    size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    if size < _SMALL:
        options.intra_op_num_threads = 1
    try:
        engine = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # of many classes without a base of their own
        reason = onnx_models.reason(exc, source, name)
        raise InvalidArgument(f"not a model that can be loaded: {reason}") from exc
    given = [_signature(one) for one in engine.get_inputs()]
    if len(given) != 1:
        names = ", ".join(name for name, _, _ in given) or "none"
        raise InvalidArgument(f"expected a model with one input, for the picture, found {names}")
    made = [_signature(one) for one in engine.get_outputs()]
    metadata: Mapping[str, str] = engine.get_modelmeta().custom_metadata_map
    return ImageModel(engine, describe(name, files, metadata, given, made))


def _signature(one: Any) -> _Signature:
    shape = tuple(extent if isinstance(extent, int) else None for extent in one.shape or ())
    dtype = _DTYPES.get(one.type.removeprefix("tensor(").removesuffix(")"))
    if dtype is None:
        raise InvalidArgument(f"expected tensors of numbers, found {one.name}: {one.type}")
    return one.name, shape, np.dtype(dtype)
