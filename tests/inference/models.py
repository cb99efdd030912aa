"""Small ONNX models with weights chosen so that their answers are known.

All take `images`, float32 [1, 3, height, width] from 0 to 1 (or [1, height, width, 3]).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from vaccel.blob import ResourceType
from vaccel.inference import layouts
from vaccel.inference.description import Description, describe
from vaccel.inference.layouts import Output
from vaccel.inference.results import Result
from vaccel.sources import described

engine: Any = pytest.importorskip("onnxruntime", reason="the extra vaccel[onnx] is not installed")
onnx: Any = pytest.importorskip("onnx", reason="the tests write models with onnx")
make: Any = onnx.helper

Array = np.ndarray[Any, Any]
Floats = npt.NDArray[np.float32]
Extents = Sequence[int | str | None]

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}
PLAIN = {"rescale_factor": 1 / 255}
"""What no shape tells of the models here."""


def model(
    nodes: list[Any],
    outputs: Mapping[str, tuple[type[np.generic], Extents | None]],
    weights: Mapping[str, Array],
    *,
    images: Extents = (1, 3, 8, 8),
    dtype: type[np.generic] = np.float32,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The file of a model. Outputs have an element type, and a shape unless it is not declared."""
    graph = make.make_graph(
        nodes,
        "graph",
        [_info("images", dtype, images)],
        [_info(name, type, shape) for name, (type, shape) in outputs.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    made = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    onnx.helper.set_model_props(made, dict(metadata or {}))
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def _info(name: str, type: type[np.generic], shape: Extents | None) -> Any:
    return make.make_tensor_value_info(name, make.np_dtype_to_tensor_dtype(np.dtype(type)), shape)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> Any:
    return make.make_node(operator, inputs.split(), [output], **attributes)


def mean_colour(
    weights: Floats, bias: Floats, *, flat: bool = True, softmax: bool = False, **options: Any
) -> bytes:
    """logits = weights [classes, 3] · mean colour + bias; [1, classes], or [1, classes, 1, 1]."""
    classes = len(weights)
    nodes = [
        node("GlobalAveragePool", "images", "mean"),
        node("Conv", "mean weights bias", "conv"),
        node("Flatten", "conv", "rows") if flat else node("Identity", "conv", "rows"),
        node("Softmax", "rows", "logits", axis=1)
        if softmax
        else node("Identity", "rows", "logits"),
    ]
    shape = (1, classes) if flat else (1, classes, 1, 1)
    convolution = {"weights": weights.reshape(classes, 3, 1, 1), "bias": bias}
    return model(nodes, {"logits": (np.float32, shape)}, convolution, **options)


def by_pixel(weights: Floats, bias: Floats, *, tail: Sequence[Any] = (), **options: Any) -> bytes:
    """grid = weights [classes, 3] · colour + bias, of the means of 2 x 2 pixels.

    `tail` are nodes that make `found` of `grid`; without them `grid` is the output.
    """
    nodes = [
        node("AveragePool", "images", "means", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "means weights bias", "grid"),
        *tail,
    ]
    convolution = {"weights": weights.reshape(*weights.shape, 1, 1), "bias": bias}
    outputs = options.pop("outputs", {"grid": (np.float32, (1, len(weights), 4, 4))})
    return model(nodes, outputs, convolution, **options)


def table(
    values: Mapping[str, Array],
    bright: Mapping[str, Array] | None = None,
    *,
    declared: bool = True,
    **options: Any,
) -> bytes:
    """Outputs as given; where `bright` is 1 they are multiplied with the picture's mean.

    So one model finds everything in a white picture, and nothing in a black one. The last extents
    of outputs that are not `declared` are known only when the model has run.
    """
    nodes = [node("ReduceMean", "images", "level", keepdims=0)]
    weights: dict[str, Array] = {}
    for name, array in values.items():
        made = name if declared else f"{name}_whole"
        mask = (bright or {}).get(name)
        if mask is None:
            nodes.append(node("Identity", f"{name}_table", made))
            weights[f"{name}_table"] = array
        else:
            share = np.broadcast_to(mask, array.shape).astype(array.dtype)
            weights |= {f"{name}_always": array * (1 - share), f"{name}_bright": array * share}
            nodes += [
                node("Mul", f"{name}_bright level", f"{name}_part"),
                node("Add", f"{name}_part {name}_always", made),
            ]
        if not declared:
            nodes.append(node("Slice", f"{made} none many last", name))
    if not declared:
        weights |= {
            "many_level": np.array([1e6], np.float32),
            **{key: np.array([at], np.int64) for key, at in (("none", 0), ("last", -1))},
        }
        nodes[1:1] = [
            node("Add", "level many_level", "end"),
            node("Cast", "end", "many", to=onnx.TensorProto.INT64),
        ]
    outputs = {
        name: (array.dtype.type, (*array.shape[:-1], array.shape[-1] if declared else None))
        for name, array in values.items()
    }
    return model(nodes, outputs, weights, **options)


class Engine:
    """A model in onnxruntime, as a plugin has it."""

    def __init__(self, content: bytes, explicit: Mapping[str, Any] | None = None) -> None:
        options = engine.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = engine.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        self.description: Description = describe(
            "model.onnx",
            described.written(explicit or {}, ResourceType.MODEL),
            self._session.get_modelmeta().custom_metadata_map,
            [_signature(one) for one in self._session.get_inputs()],
            [_signature(one) for one in self._session.get_outputs()],
        )

    def outputs(self, images: Array) -> dict[str, Array]:
        names = [one.name for one in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, {"images": images}), strict=True))

    def find(self, images: Array) -> Result:
        rows, columns = (1, 2) if self.description.layout == "NHWC" else (2, 3)
        size = images.shape[rows], images.shape[columns]
        return decode(self.description, self.outputs(images), size)


def decode(
    description: Description, outputs: Mapping[str, Array], size: tuple[int, int] | None = None
) -> Result:
    """The result in a model's outputs, by name; `size` is that of its input."""
    made = [Output(name, values.shape, values.dtype) for name, values in outputs.items()]
    return layouts.bind(description, made)(list(outputs.values()), size)


def _signature(one: Any) -> tuple[str, list[Any], Any]:
    return one.name, one.shape, np.dtype(DTYPES[one.type])


def grey(level: float = 1.0, height: int = 8, width: int = 8) -> Floats:
    """A picture of one grey: 0 is black, 1 white."""
    return np.full((1, 3, height, width), level, np.float32)
