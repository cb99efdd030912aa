"""TensorFlow's models on the first engine that is there: TensorFlow, OpenVINO, onnxruntime.

An engine counts as there when its module can be imported. TensorFlow takes seconds and half a
gigabyte to import, so that waits for the first model.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from vaccel.error import PluginError
from vaccel.inference import onnx_models, openvino_models, savedmodel, tensorflow_models
from vaccel.inference.converted_models import ConvertedModel
from vaccel.inference.openvino_models import OpenVinoModel
from vaccel.inference.tensorflow_models import TensorFlowModel

if TYPE_CHECKING:
    from vaccel.resource import Resource

TfModel: TypeAlias = TensorFlowModel | OpenVinoModel | ConvertedModel

# For TensorFlow's own files, in the order of choice.
_ENGINES: dict[str, Callable[[Resource], TfModel]] = {
    tensorflow_models.ENGINE: tensorflow_models.open_model,
    openvino_models.ENGINE: openvino_models.open_model,
}


def check_engines() -> None:
    """PluginError with the lines that install an engine, if there is none."""
    if not any(map(_is_there, (*_ENGINES, onnx_models.ENGINE))):
        raise _no_engine()


def open_model(resource: Resource) -> TfModel:
    """The model of a resource; an `.onnx` file that it was converted to where nothing else fits.

    InvalidArgument: it holds neither. PluginError: what would run it is not installed.
    """
    names = [one.name.lower() for one in resource.blobs()]
    converted = [one for one in resource.blobs() if one.name.lower().endswith(".onnx")]
    if any(name.endswith(savedmodel.SUFFIXES) for name in names) or not converted:
        for engine, open in _ENGINES.items():
            if _is_there(engine):
                return open(resource)
        if not converted:
            raise _no_engine()
    return ConvertedModel(onnx_models.open_blob(resource, converted[0], "tf"))


def _is_there(engine: str) -> bool:
    """A folder of that name in the way is no engine, though Python would import it."""
    try:
        spec = importlib.util.find_spec(engine)
    except ValueError:  # the module was made by hand
        return True
    return spec is not None and spec.origin is not None


def _no_engine() -> PluginError:
    return PluginError(
        "neither tensorflow nor openvino can be imported: pip install 'vaccel[tf]' for TensorFlow "
        "itself, or the smaller 'vaccel[openvino]'"
    )
