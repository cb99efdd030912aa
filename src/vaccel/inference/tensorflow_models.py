"""TensorFlow SavedModels and frozen graphs, as TensorFlow itself runs them.

A model is a graph in a session of TensorFlow's, so that any tensor of it can be asked for, whatever
its signatures are. Inputs whose memory begins at a multiple of 64, as large ones that were received
do, are used where they lie; TensorFlow copies others, which of 40 MB takes 15 ms. Outputs leave in
TensorFlow's memory; copied are those that the model keeps (constants, variables), and inputs.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaccel.error import DeadlineExceeded, FFIError, InvalidArgument, ResourceExhausted
from vaccel.inference import inputs, savedmodel
from vaccel.inference.inputs import Wanted
from vaccel.inference.loaded import import_engine
from vaccel.inference.named import NamedSignature
from vaccel.inference.savedmodel import tensor_name
from vaccel.inference.strings import packed, strings
from vaccel.inference.tensorflow_graphs import (
    Graph,
    check_initialize,
    check_restore,
    check_run,
)
from vaccel.ops.tf import Node, Tensor, TensorType

if TYPE_CHECKING:
    from pathlib import Path

    from vaccel.blob import Blob
    from vaccel.resource import Resource

ENGINE = "tensorflow"

_MAX_STEPS = 64
_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_importing = threading.Lock()


def open_model(resource: Resource) -> TensorFlowModel:
    """The model of a resource. InvalidArgument: it is none. PluginError: TensorFlow is missing."""
    tf = import_tensorflow()
    blob = savedmodel.model_file(resource)
    try:
        if savedmodel.is_saved(blob):
            savedmodel.signatures(blob.data)  # says more of what is no SavedModel
            return _saved(tf, resource, blob)
        savedmodel.check_graph(blob.data)
        return TensorFlowModel(tf, tf.compat.v1.GraphDef.FromString(blob.data))
    except FFIError as exc:
        raise inputs.not_a_model("tf_model_load", resource, blob, exc.message) from None
    except Exception as exc:  # TensorFlow's own, protobuf's, and Python's where it checks a graph
        raise inputs.not_a_model("tf_model_load", resource, blob, _reason(exc)) from exc


def import_tensorflow() -> Any:
    """TensorFlow; without its notes on standard error, unless the user has set their level."""
    with _importing:
        if ENGINE in sys.modules or _LOG_LEVEL in os.environ:
            return import_engine(ENGINE, "tf")
        os.environ[_LOG_LEVEL] = "2"
        try:
            return import_engine(ENGINE, "tf")
        finally:
            del os.environ[_LOG_LEVEL]  # it has been read, and is not for child processes


def _saved(tf: Any, resource: Resource, blob: Blob) -> TensorFlowModel:
    proto = import_engine("tensorflow.core.protobuf.saved_model_pb2", "tf").SavedModel
    metas = proto.FromString(blob.data).meta_graphs
    meta = next((one for one in metas if "serve" in one.meta_info_def.tags), metas[0])
    signatures = {
        name: savedmodel.Names(
            *({k: v.name for k, v in e.items()} for e in (one.inputs, one.outputs))
        )
        for name, one in meta.signature_def.items()
    }
    initializer = signatures.pop(_INITIALIZER, None)
    model = TensorFlowModel(
        tf, meta.graph_def, signatures, known=meta.meta_info_def.stripped_op_list
    )
    folder, base = inputs.file_of(resource, blob).parent, blob.name.removesuffix(savedmodel.FILE)
    names = {one.name for one in resource.blobs()}
    saver = meta.saver_def
    if saver.restore_op_name and f"{base}variables/variables.index" in names:
        path = str(folder / "variables" / "variables")
        model.restore(saver.restore_op_name, {saver.filename_tensor_name: path})
    steps = [name for key in _INITIALIZING for name in meta.collection_def[key].node_list.value]
    if initializer is not None:
        steps = [initializer.outputs[_INITIALIZER].removesuffix(":0")]
    model.initialize(steps, dict(_assets(meta, folder, base, names)))
    return model


_INITIALIZER = "__saved_model_init_op"
_INITIALIZING = ("saved_model_main_op", "legacy_init_op")


def _assets(meta: Any, folder: Path, base: str, names: set[str]) -> Iterable[tuple[str, str]]:
    """The tensor and the path of each file that the graph asks for; all are the resource's."""
    for one in meta.asset_file_def:
        if f"{base}assets/{one.filename}" not in names:
            raise InvalidArgument(f"its file assets/{one.filename} is not in the resource")
        yield one.tensor_info.name, str(folder / "assets" / one.filename)


class TensorFlowModel:
    """A graph in memory. Threads may run it at once."""

    def __init__(
        self,
        tf: Any,
        definition: Any,
        signatures: dict[str, savedmodel.Names] | None = None,
        *,
        known: Any = None,
    ) -> None:
        """`known`: the operations as they were when the graph was written, for their defaults."""
        self._tf = tf
        self._reader = Graph(definition)
        self._graph = tf.Graph()
        with self._graph.as_default():
            tf.graph_util.import_graph_def(definition, name="", producer_op_list=known)
        v1 = tf.compat.v1
        # Models may name devices that are not here; and not all of a GPU's memory is theirs.
        options = v1.GPUOptions(allow_growth=True)
        config = v1.ConfigProto(allow_soft_placement=True, gpu_options=options)
        self._session = v1.Session(graph=self._graph, config=config)
        # The default signature's names count first. They are known with and without their place.
        signatures = signatures or {}
        order = sorted(signatures, key=lambda name: (name != "serving_default", name))
        first = signatures[order[0]] if order else savedmodel.Names()
        self._given: dict[str, str] = {}
        self._made: dict[str, str] = {}
        for name in reversed(order):
            self._given |= signatures[name].inputs
            self._made |= signatures[name].outputs
        self._outputs = [first.outputs[name] for name in sorted(first.outputs)] or self._ends()
        self._steps: dict[Any, NamedSignature] = {}
        check_run(self._reader.behind(self._outputs).operations)

    def _ends(self) -> list[str]:
        """The outputs of a graph without signatures."""
        nodes = map(self._graph.get_operation_by_name, self._reader.ends())
        found = (one for node in nodes for one in node.outputs)
        return [one.name for one in found if _number(one) in _RETURNED]

    def restore(self, operation: str, given: dict[str, str]) -> None:
        """Read the variables: `operation` of the graph does it, from the file that is given."""
        check_restore(self._reader.behind([operation], given).operations)
        self._session.run(operation, given)

    def initialize(self, operations: Sequence[str], given: dict[str, str]) -> None:
        check_initialize(self._reader.behind(operations, given).operations)
        if operations:
            self._session.run(list(operations), given)

    def run(
        self,
        in_nodes: Sequence[Node],
        tensors: Sequence[Tensor],
        out_nodes: Sequence[Node],
        options: bytes = b"",
    ) -> list[Tensor]:
        """A tensor for each of `out_nodes`, any nodes of the graph; all outputs if there are none.

        A node is called as in the graph, or by the name that a signature has for it. What one node
        is given takes the place of what it computes. `options` is TensorFlow's message RunOptions.
        """
        names = [self._named(node, self._given) for node in in_nodes]
        wanted = [self._named(node, self._made) for node in out_nodes] or self._outputs
        signature = self._signature(names, tuple(wanted))
        given = signature.arrange(names, tensors)
        settings = self._settings(options)
        try:
            values = {name: self._value(one) for name, one in given.items()}
            found = self._session.run(wanted, values, settings)
        except FFIError:
            raise
        except Exception as exc:  # as in open_model
            raise self._failed(signature, exc) from exc
        return [self._output(name, one) for name, one in zip(wanted, found, strict=True)]

    def _named(self, node: Node, aliases: dict[str, str]) -> str:
        key = tensor_name(node, aliases)
        return aliases.get(key, key)

    def _signature(self, given: Sequence[str], wanted: tuple[str, ...]) -> NamedSignature:
        """What `wanted` need besides `given`; both are names of tensors."""
        key = frozenset(given), wanted
        signature = self._steps.get(key)
        if signature is None:
            for name in wanted:
                self._check_output(name)
            behind = self._reader.behind(wanted, given)
            check_run(behind.operations)
            others = [name for name in dict.fromkeys(given) if name not in behind.inputs]
            signature = NamedSignature(
                "tf_model_run",
                [
                    *(self._wanted(name, name in behind.defaults) for name in behind.inputs),
                    *(
                        self._wanted(name, True)
                        for name in others
                        if self._tensor(name) is not None
                    ),
                ],
            )
            if len(self._steps) >= _MAX_STEPS:
                self._steps.clear()
            self._steps[key] = signature
        return signature

    def _tensor(self, name: str) -> Any:
        try:
            found = self._graph.get_tensor_by_name(name)
        except (KeyError, ValueError):  # the second for what can be no name
            return None
        return found if found.name == name else None  # places are counted from the end, too

    def _check_output(self, name: str) -> None:
        tensor = self._tensor(name)
        if tensor is None:
            raise InvalidArgument(
                f"tf_model_run: out_nodes: expected nodes of the graph, such as its outputs "
                f"{', '.join(self._outputs)}; found {name}"
            )
        if _number(tensor) not in _RETURNED:
            raise InvalidArgument(
                f"tf_model_run: out_nodes: expected tensors of the types in tf.TensorType that "
                f"have data, found {name}: {tensor.dtype.name}"
            )

    def _wanted(self, name: str, optional: bool) -> Wanted:
        tensor = self._tensor(name)
        kind = _KINDS.get(_number(tensor))
        shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
        if kind is None:
            return Wanted(name, tensor.dtype.name, shape, optional)
        # Of quantized types the plain one is not meant.
        plain = kind.numeric and not kind.name.startswith("Q")
        return Wanted(name, kind.dtype if plain else kind.name, shape, optional)

    def _value(self, tensor: Tensor) -> Any:
        kind = tensor.data_type
        if kind is TensorType.STRING:
            return strings(tensor)
        dtype = self._tf.dtypes.as_dtype(int(kind)).as_numpy_dtype
        array = np.ndarray(tensor.shape, dtype, tensor.as_memoryview())
        return np.require(array, requirements=["C", "A"])  # kernels load whole elements

    def _output(self, name: str, value: Any) -> Tensor:
        kind = _KINDS[_number(self._tensor(name))]
        if kind is TensorType.STRING:
            texts = np.asarray(value, object)
            return Tensor(texts.shape, kind, packed(texts))
        array = np.asarray(value)
        # Quantized types and bfloat16 have numpy dtypes of TensorFlow's own.
        data = array if array.dtype == kind.dtype else array.reshape(-1).view(np.uint8)
        return Tensor(array.shape, kind, data)

    def _settings(self, options: bytes) -> Any:
        if not options:
            return None
        try:
            found = self._tf.compat.v1.RunOptions.FromString(options)
        except Exception as exc:  # protobuf's, of another class in each of its releases
            raise InvalidArgument(
                f"tf_model_run: run_options: expected TensorFlow's message RunOptions, "
                f"found {len(options)} bytes that are none: {inputs.one_line(exc)}"
            ) from None
        if found.HasField("debug_options"):
            raise InvalidArgument(
                "tf_model_run: run_options: expected none with debug_options, as those write files"
            )
        return found

    def _failed(self, signature: NamedSignature, exc: Exception) -> FFIError:
        reason, errors = _reason(exc), self._tf.errors
        if isinstance(exc, errors.DeadlineExceededError):
            return DeadlineExceeded(f"tf_model_run: {reason}")
        if isinstance(exc, errors.ResourceExhaustedError):
            return ResourceExhausted(f"tf_model_run: out of memory: {reason}")
        return signature.failed(exc, reason)


_KINDS = {int(kind): kind for kind in TensorType}
_RETURNED = {int(k) for k in TensorType} - {int(TensorType.RESOURCE), int(TensorType.VARIANT)}


def _number(tensor: Any) -> int:
    """Of its element type; the same for the references of old graphs."""
    number: int = tensor.dtype.base_dtype.as_datatype_enum
    return number


def _reason(exc: Exception) -> str:
    """What TensorFlow says, without where in the graph's Python it was written."""
    text = str(getattr(exc, "message", None) or exc)
    lacking = re.match(r"Op type not registered '(.*?)'", text)
    if lacking:
        return f"it needs operations that TensorFlow lacks: {lacking[1]}"
    text = re.sub(r"\[\[\{\{node .*?\}\}.*?\]\]|\(defined at .*?\)", "", text)
    return inputs.one_line(text)
