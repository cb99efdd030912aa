"""tf: TensorFlow SavedModels and frozen graphs, on TensorFlow or on OpenVINO.

TensorFlow serves where it is installed, on the devices that it finds. Elsewhere OpenVINO does, on
the CPU and with 32 bits: doubles come back rounded to floats, and integers that need more are
refused. Where neither is installed, or the resource has nothing else, an `.onnx` file of the
resource runs on onnxruntime. A model is loaded once for each resource, and serves any number of
sessions and threads at once.

Nodes are those of the graph (`serving_default_x`, index 0), or called as the signature calls them
(`x`). Any node of a graph may be an output; without out_nodes all the outputs come back. Models
that read or write files other than their own, or open connections, are refused.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from vaccel.error import InvalidArgument, PluginError
from vaccel.inference.loaded import Loaded, ModelPlugin
from vaccel.inference.tensorflow_models import ENGINE, TensorFlowModel
from vaccel.inference.tf_models import TfModel, check_engines, open_model
from vaccel.ops import tf
from vaccel.ops.catalog import Operations
from vaccel.plugin import PluginType

if TYPE_CHECKING:
    from vaccel.resource import Resource
    from vaccel.session import Session


class _Models(Loaded[TfModel]):
    def unload(self, session: Session, resource: Resource) -> bool:
        before, found = len(self), super().unload(session, resource)
        if len(self) < before and ENGINE in sys.modules:
            gc.collect()  # TensorFlow's graphs refer to themselves, and have the weights
        return found


class TfPlugin(ModelPlugin[TfModel]):
    def __init__(self) -> None:
        super().__init__(
            "tf",
            PluginType.CPU | PluginType.TENSORFLOW,
            open_model,
            engine=ENGINE,
            summary="TensorFlow models, on TensorFlow or OpenVINO",
        )
        self.models = _Models(open_model, "tf_model_load")

    def check(self) -> None:
        """One of the engines is enough."""
        check_engines()

    def missing(self) -> str:
        try:
            check_engines()
        except PluginError as exc:
            return exc.message
        return ""


plugin = TfPlugin()


@plugin.kernel(Operations.tf_model_load)
def tf_model_load(session: Session, resource: Resource) -> tf.Status:
    plugin.models.load(session, resource)
    return tf.Status()


@plugin.kernel(Operations.tf_model_unload)
def tf_model_unload(session: Session, resource: Resource) -> tf.Status:
    plugin.unload(session, resource)
    return tf.Status()


@plugin.kernel(Operations.tf_model_run)
def tf_model_run(
    session: Session,
    resource: Resource,
    in_nodes: list[tf.Node],
    in_tensors: list[tf.Tensor],
    out_nodes: list[tf.Node],
    run_options: tf.Buffer | None,
) -> tuple[list[tf.Tensor], tf.Status]:
    """The status is always 0: what fails raises."""
    model = plugin.models.get(session, resource)
    options = b"" if run_options is None else run_options.to_bytes()
    if isinstance(model, TensorFlowModel):
        return model.run(in_nodes, in_tensors, out_nodes, options), tf.Status()
    if options:
        raise InvalidArgument(
            f"tf_model_run: run_options: expected none, as TensorFlow alone has them, "
            f"found {len(options)} bytes"
        )
    return model.run(in_nodes, in_tensors, out_nodes), tf.Status()
