"""noop: implements everything, computes nothing.

Dumps the arguments at log level debug and answers with place-holders of the right shape, values
that nobody takes for real. For testing the way to a plugin, not the plugin.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

from vaccel import log
from vaccel.error import InvalidArgument
from vaccel.ops import onnx, tf, torch
from vaccel.ops.objects import Args, Name
from vaccel.ops.spec import Operation
from vaccel.ops.tensors import Tensor
from vaccel.ops.tf import lite
from vaccel.plugin import Kernel, Plugin, PluginType

if TYPE_CHECKING:
    from vaccel.session import Session

_TENSORS: dict[str, type[Tensor[Any]]] = {
    "tf_model_run": tf.Tensor,
    "tflite_model_run": lite.Tensor,
    "torch_model_run": torch.Tensor,
    "onnx_model_run": onnx.Tensor,
}
_MOST_TENSORS = 1024


class NoopPlugin(Plugin):
    def find(self, op: Operation) -> Kernel:
        return functools.partial(_answer, op)


def _answer(op: Operation, session: Session, *values: Any) -> Any:
    if log.debug_enabled():
        _dump(op, session, values)
    for kind, value in zip(op.inputs.values(), values, strict=True):
        if isinstance(kind, Args) and kind.writes:
            for arg in value:
                arg.store(bytes(arg.capacity))
    result = op.dummy(op.check(values)[1])
    if op.name in _TENSORS:
        tensors = _tensors(op, dict(zip(op.inputs, values, strict=True)))
        return (tensors, *result[1:]) if isinstance(result, tuple) else tensors
    return result


def _tensors(op: Operation, given: dict[str, Any]) -> list[Any]:
    """The tensors as they went in, by turns, until there are as many as the caller expects."""
    tensors = given["in_tensors"]
    names = given.get("out_nodes") or given.get("out_names") or tensors
    wanted = given.get("nr_out_tensors") or len(names)
    if wanted > _MOST_TENSORS:
        raise InvalidArgument(
            f"{op.name}: nr_out_tensors: expected at most {_MOST_TENSORS}, found {wanted}"
        )
    turns = itertools.cycle(tensors or [_TENSORS[op.name].empty()])
    return list(itertools.islice(turns, wanted))


def _dump(op: Operation, session: Session, values: tuple[Any, ...]) -> None:
    log.bare(f"[noop] Calling {op.label} for session {session.id}")
    fields = [
        kind.dump("img" if name == "image" else name, value)
        for (name, kind), value in zip(op.inputs.items(), values, strict=True)
    ]
    if fields:
        log.bare(f"[noop] Dumping arguments for {op.label}:")
        text = "".join(fields)
        log.bare(f"[noop] {text if len(fields) > 1 else text.rstrip()}")
    if any(isinstance(kind, Name) for kind in op.outputs.values()):
        log.bare("[noop] will return a dummy result")


plugin = NoopPlugin(
    "noop", PluginType.GENERIC | PluginType.DEBUG, summary="dumps arguments, answers place-holders"
)
