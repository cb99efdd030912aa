"""tf: TensorFlow SavedModels and frozen graphs, on OpenVINO, on the CPU.

Where OpenVINO is not installed, or the resource has nothing else, an `.onnx` file of the resource
runs on onnxruntime. TensorFlow itself is not used. A model is loaded once for each resource, and
serves any number of sessions and threads at once. OpenVINO computes with 32 bits: doubles come
back rounded to floats, and integers that need more are refused.

Nodes are those of the graph (`serving_default_x`, index 0), or called as the signature calls them
(`x`). Any node of a graph may be an output; without out_nodes all the outputs come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaccel.error import InvalidArgument, PluginError
from vaccel.inference import onnx_models, tf_models
from vaccel.inference.converted_models import ConvertedModel
from vaccel.inference.loaded import ModelPlugin, import_engine
from vaccel.inference.tf_models import GraphModel, open_model
from vaccel.ops import tf
from vaccel.ops.catalog import Operations
from vaccel.plugin import PluginType

if TYPE_CHECKING:
    from vaccel.config import Config
    from vaccel.resource import Resource
    from vaccel.session import Session


class TfPlugin(ModelPlugin[GraphModel | ConvertedModel]):
    def start(self, config: Config) -> None:
        """One of the engines is enough."""
        try:
            import_engine(tf_models.ENGINE, tf_models.ENGINE)
        except PluginError as exc:
            try:
                import_engine(onnx_models.ENGINE, "onnx")
            except PluginError:
                raise exc from None


plugin = TfPlugin(
    "tf",
    PluginType.CPU | PluginType.TENSORFLOW,
    open_model,
    engine=tf_models.ENGINE,
    summary="TensorFlow models, on OpenVINO",
)


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
    if run_options is not None and run_options.size:
        raise InvalidArgument(
            f"tf_model_run: run_options: expected none, as TensorFlow alone has them, "
            f"found {run_options.size} bytes"
        )
    model = plugin.models.get(session, resource)
    return model.run(in_nodes, in_tensors, out_nodes), tf.Status()
