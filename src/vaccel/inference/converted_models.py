"""TensorFlow models that were converted to ONNX, for callers that know TensorFlow's nodes."""

from __future__ import annotations

from collections.abc import Sequence

from vaccel.error import InvalidArgument
from vaccel.inference.onnx_models import OnnxModel
from vaccel.inference.savedmodel import tensor_name
from vaccel.ops import onnx
from vaccel.ops.tf import Node, Tensor, TensorType


class ConvertedModel:
    """A model that was converted to ONNX, under the names of the graph that it was made from."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model

    def run(
        self, in_nodes: Sequence[Node], tensors: Sequence[Tensor], out_nodes: Sequence[Node]
    ) -> list[Tensor]:
        names = [tensor_name(node, self._model.inputs) for node in in_nodes]
        self._model.signature.arrange(names, tensors)
        given = [_to_onnx(one, name) for one, name in zip(tensors, names, strict=True)]
        found = self._model.run(
            given, [tensor_name(node, self._model.outputs) for node in out_nodes]
        )
        return [_from_onnx(one) for one in found]


def _to_onnx(tensor: Tensor, name: str) -> onnx.Tensor:
    if tensor.data_type.numeric:
        return onnx.Tensor.from_numpy(tensor.as_numpy(), name)
    kind = onnx.TensorType.__members__.get(tensor.data_type.name)
    if kind is None:
        raise InvalidArgument(f"tf_model_run: ONNX has no tensors of {tensor.data_type.name}")
    return onnx.Tensor(tensor.shape, kind, tensor.as_memoryview(), name)


def _from_onnx(tensor: onnx.Tensor) -> Tensor:
    if tensor.data_type.numeric:
        return Tensor.from_numpy(tensor.as_numpy())
    kind = TensorType.__members__.get(tensor.data_type.name)
    if kind is None:
        raise InvalidArgument(f"tf_model_run: TensorFlow has no {tensor.data_type.name}")
    return Tensor(tensor.shape, kind, tensor.as_memoryview())
