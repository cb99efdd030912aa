"""tflite: TensorFlow Lite models on LiteRT, on the CPU.

A model's first `nr_out_tensors` outputs come back, all of them for 0. It is loaded once for each
resource, and serves any number of sessions and threads at once, one thread a call. Inputs may have
other extents than the model's where it leaves them open. Models with operations of TensorFlow
itself (Flex) are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaccel.inference.lite_models import ENGINE, LiteModel, open_model
from vaccel.inference.loaded import ModelPlugin
from vaccel.ops.catalog import Operations
from vaccel.ops.tf import lite
from vaccel.plugin import PluginType

if TYPE_CHECKING:
    from vaccel.resource import Resource
    from vaccel.session import Session

plugin: ModelPlugin[LiteModel] = ModelPlugin(
    "tflite",
    PluginType.CPU | PluginType.TENSORFLOW,
    open_model,
    engine=ENGINE,
    summary="TensorFlow Lite models, on LiteRT",
)
plugin.kernel(Operations.tflite_model_unload)(plugin.unload)


@plugin.kernel(Operations.tflite_model_load)
def tflite_model_load(session: Session, resource: Resource) -> None:
    plugin.models.load(session, resource)


@plugin.kernel(Operations.tflite_model_run)
def tflite_model_run(
    session: Session, resource: Resource, in_tensors: list[lite.Tensor], nr_out_tensors: int
) -> tuple[list[lite.Tensor], int]:
    """The status is always 0: what fails raises."""
    return plugin.models.get(session, resource).run(in_tensors, nr_out_tensors), 0
