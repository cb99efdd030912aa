"""noop: implements everything, computes nothing.

Dumps the arguments at log level debug and answers with place-holders of the right shape, values
that nobody takes for real. For testing the way to a plugin, not the plugin.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from vaccel import log
from vaccel.ops.catalog import BY_NAME
from vaccel.ops.objects import Args, Name
from vaccel.ops.spec import Operation
from vaccel.plugin import Kernel, Plugin, PluginType

if TYPE_CHECKING:
    from vaccel.session import Session

_RUNS = [BY_NAME[f"{engine}_model_run"].code for engine in ("tf", "tflite", "torch", "onnx")]


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
    if op.code in _RUNS:
        # The tensors come back as they went in, as many as the caller expects.
        tensors = values[list(op.inputs).index("in_tensors")]
        return (tensors, *result[1:]) if isinstance(result, tuple) else tensors
    return result


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
