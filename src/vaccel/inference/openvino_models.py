"""TensorFlow SavedModels and frozen graphs, run without TensorFlow: by OpenVINO on the CPU.

Inputs are used where they lie, strings and unaligned memory aside; outputs are copied out of
OpenVINO's memory, which the next call overwrites.

OpenVINO computes with 32 bits: it rounds doubles to floats, and cuts longer integers off, so inputs
that do not fit are refused.
"""

from __future__ import annotations

import collections
import os
import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.error import FFIError, InvalidArgument
from vaccel.inference import inputs, savedmodel
from vaccel.inference.inputs import Wanted
from vaccel.inference.loaded import import_engine
from vaccel.inference.named import NamedSignature
from vaccel.inference.savedmodel import tensor_name
from vaccel.inference.strings import packed, texts
from vaccel.ops.tf import Node, Tensor, TensorType

if TYPE_CHECKING:
    from vaccel.resource import Resource

ENGINE = "openvino"

# The default computes in bfloat16 where the processor can.
_CONFIG = {"INFERENCE_PRECISION_HINT": "f32"}

_Array = np.ndarray[Any, Any]


def open_model(resource: Resource) -> OpenVinoModel:
    """The model of a resource. InvalidArgument: it is none. PluginError: OpenVINO is missing."""
    openvino = import_engine(ENGINE, ENGINE)
    blob = savedmodel.model_file(resource)
    try:
        if savedmodel.is_saved(blob):
            signatures = savedmodel.signatures(blob.data)
            place = inputs.file_of(resource, blob).parent
        else:
            savedmodel.check_graph(blob.data)  # OpenVINO prints what it finds in other files
            signatures, place = {}, inputs.file_of(resource, blob)
        # Of OpenVINO's front ends this one alone, as others take the same files for their own.
        reader = import_engine("openvino.frontend", ENGINE).FrontEndManager()
        front = reader.load_by_framework("tf")
        return OpenVinoModel(openvino, front.convert(front.load(str(place))), signatures)
    except FFIError as exc:
        raise inputs.not_a_model("tf_model_load", resource, blob, exc.message) from None
    except Exception as exc:  # of many classes without a base of their own
        raise inputs.not_a_model("tf_model_load", resource, blob, _reason(exc)) from exc


class OpenVinoModel:
    """A graph in memory. Threads may run it at once."""

    def __init__(
        self, openvino: Any, graph: Any, signatures: dict[str, savedmodel.Names] | None = None
    ) -> None:
        self._openvino = openvino
        self._graph = graph
        self._changing = threading.Lock()
        names = _signature_of(graph, signatures or {})
        self._given = _aliases(graph.inputs, names.inputs)
        self._made = _aliases(graph.outputs, names.outputs)
        wanted = [_wanted(port, names.inputs) for port in graph.inputs]
        self._signature = NamedSignature("tf_model_run", wanted)
        self._outputs = range(len(graph.outputs))
        self._compiled = self._compile(graph)

    def _compile(self, graph: Any) -> _Compiled:
        return _Compiled(self._openvino.Core().compile_model(graph, "CPU", _CONFIG))

    def run(
        self, in_nodes: Sequence[Node], tensors: Sequence[Tensor], out_nodes: Sequence[Node]
    ) -> list[Tensor]:
        """A tensor for each of `out_nodes`, any nodes of the graph; all outputs if there are none.

        A node is called as in the graph, or by the name that the SavedModel's signature has for it.
        """
        order = list(self._signature.by_name)
        names = [
            order[self._given[key]] if key in self._given else key
            for key in (tensor_name(node, self._given) for node in in_nodes)
        ]
        given = self._signature.arrange(names, tensors)
        places = [self._place(node) for node in out_nodes]
        compiled = self._compiled
        values = [
            self._value(given[name], kind) for name, kind in zip(order, compiled.types, strict=True)
        ]
        try:
            return compiled.run(values, places or self._outputs)
        except FFIError:
            raise
        except Exception as exc:  # as in open_model
            raise self._signature.failed(exc, _reason(exc)) from exc

    def _place(self, node: Node) -> int:
        """Which output `node` is; one inside the graph becomes an output, too."""
        key = tensor_name(node, self._made)
        if key not in self._made:
            with self._changing:
                if key not in self._made:
                    self._add(key, node)
        return self._made[key]

    def _add(self, key: str, node: Node) -> None:
        graph = self._graph.clone()
        place = len(graph.outputs)
        try:
            graph.add_outputs(key)
            self._compiled = self._compile(graph)
        except Exception:
            known = ", ".join(self._made)
            raise InvalidArgument(
                f"tf_model_run: out_nodes: expected nodes of the graph, such as its outputs "
                f"{known}; found {node.name}:{node.id}"
            ) from None
        self._graph = graph
        self._made[key] = place

    def _value(self, tensor: Tensor, kind: Any) -> Any:
        if tensor.data_type is TensorType.STRING:
            return self._openvino.Tensor(np.array(texts(tensor), str).reshape(tensor.shape))
        if tensor.data_type.numeric:
            array = tensor.as_numpy()
            _check_range(array)
        else:
            size = tensor.data_type.dtype.itemsize  # type: ignore[union-attr]
            array = np.ndarray(tensor.shape, f"<u{size}", tensor.as_memoryview())
        array = np.require(array, requirements=["C", "A"])  # kernels load whole elements
        return self._openvino.Tensor(array, array.shape, kind)


class _Compiled:
    """A graph as OpenVINO runs it. A request serves one call at a time, so there are several."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._idle: collections.deque[Any] = collections.deque(maxlen=os.cpu_count() or 1)
        self.types = [port.element_type for port in compiled.inputs]

    def run(self, values: Sequence[Any], places: Sequence[int]) -> list[Tensor]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        for place, value in enumerate(values):
            request.set_input_tensor(place, value)
        request.infer()
        found = [_output(request.get_output_tensor(place)) for place in places]
        self._idle.append(request)  # one that failed is not used again
        return found


# -- names -------------------------------------------------------------------------------------


def _signature_of(graph: Any, signatures: dict[str, savedmodel.Names]) -> savedmodel.Names:
    """The signature that OpenVINO has read: one that has the graph's names.

    It has them all, and perhaps outputs that OpenVINO leaves out, as they do not depend on inputs.
    """
    given, made = (
        {name for port in ports for name in port.get_names()}
        for ports in (graph.inputs, graph.outputs)
    )
    fitting = {
        name: one
        for name, one in signatures.items()
        if set(one.inputs) == given and set(one.outputs) >= made
    }
    first = next(iter(fitting.values()), savedmodel.Names())
    return fitting.get("serving_default", first)


def _aliases(ports: Sequence[Any], names: dict[str, str]) -> dict[str, int]:
    """All the names of each port."""
    aliases = {}
    for place, port in enumerate(ports):
        for name in sorted(port.get_names()):
            aliases[name] = place
            if name in names:
                aliases[names[name]] = place
    return aliases


def _wanted(port: Any, names: dict[str, str]) -> Wanted:
    name = min(port.get_names(), default=port.get_node().get_friendly_name())
    kind, shape = port.element_type, port.partial_shape
    opaque = {"string": "STRING", "bf16": "BFLOAT16"}.get(kind.get_type_name())
    extents = (
        tuple(None if extent.is_dynamic else extent.get_length() for extent in shape)
        if shape.rank.is_static
        else None
    )
    type = opaque or (None if kind.is_dynamic() else np.dtype(kind.to_dtype()))
    return Wanted(names.get(name, name), type, extents)


# -- values ------------------------------------------------------------------------------------


def _check_range(array: _Array) -> None:
    """OpenVINO would cut off the upper bits of integers."""
    if array.dtype.kind in "iu" and array.dtype.itemsize >= 4 and array.dtype != np.int32:
        least, most = (array.min(), array.max()) if array.size else (0, 0)
        if least < -(2**31) or most >= 2**31:
            raise InvalidArgument(
                f"tf_model_run: in_tensors: expected {array.dtype.name} from -2³¹ to 2³¹ - 1, as "
                f"OpenVINO computes with 32 bits, found {least} to {most}"
            )


def _output(value: Any) -> Tensor:
    kind = value.element_type.get_type_name()
    shape = tuple(value.shape)
    if kind == "string":
        return Tensor(shape, TensorType.STRING, packed(value.str_data))
    if kind == "bf16":
        return Tensor(shape, TensorType.BFLOAT16, value.data.tobytes())
    return Tensor.from_numpy(value.data.copy())


# -- errors ------------------------------------------------------------------------------------


def _reason(exc: Exception) -> str:
    """What OpenVINO says, without the places in its source."""
    text = str(exc)
    lacking = re.search(r"No conversion rule found for operations: (.*)", text)
    if lacking:
        return f"it needs operations that OpenVINO lacks: {lacking[1].strip()}"
    lines = [
        line
        for line in text.splitlines()
        if not re.match(r"Exception from |Check '|FrontEnd API failed|Summary:|To facilitate", line)
    ]
    return inputs.one_line("\n".join(lines))
