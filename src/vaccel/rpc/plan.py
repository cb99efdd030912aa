"""What a client keeps of a call, for further calls with arrays of the same dtypes and shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vaccel.ops.layout import Layout
from vaccel.rpc.codec import SMALL_FRAME, Match, Shape
from vaccel.rpc.frames import Template
from vaccel.rpc.ttrpc import Kind


@dataclass
class Plan:
    """How a call with arguments of these types and sizes travels, and how its answer reads."""

    template: Template
    zeros: list[Any]
    """Memory for write arguments, which only 0.8 peers need to see; unused for pre-filled ones."""
    dims: dict[str, Any]
    match: Match = field(init=False)
    inputs: Layout = field(init=False)
    outputs: Layout = field(init=False)
    read: Callable[[bytearray], Any] = field(init=False)
    small: bool = False
    """Request and answer can be taken for whole frames."""
    call: Callable[[Sequence[Any]], Any] | None = None
    """See `QuickClient.caller`."""

    def expect(self, shape: Shape, values: Sequence[Any], results: Sequence[Any]) -> None:
        """Further calls with arrays like `values` will be answered by `shape`, and give arrays
        like `results`."""
        self.match = Match(shape, Kind.RESPONSE)
        self.inputs, self.outputs = Layout(values), Layout(results)
        self.read = self.outputs.reader(self.match.offsets)
        self.small = max(self.match.size, self.template.length) <= SMALL_FRAME

    def results(self, answer: bytearray | Sequence[memoryview]) -> Any:
        """From the whole frame of an answer, or from the contents of a parsed one."""
        if isinstance(answer, bytearray):
            return self.read(answer)
        arrays = self.outputs.over(answer)
        return arrays[0] if len(arrays) == 1 else tuple(arrays) or None
