"""What a client keeps of a call, for further calls with arrays of the same sizes."""

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
    layout: Layout = field(init=False)
    read: Callable[[bytearray], Any] = field(init=False)
    small: bool = False
    """`match` and `read` serve to read the answer's frame as a whole."""

    def expect(self, shape: Shape, results: Sequence[Any]) -> None:
        """Further answers will be of `shape` and give arrays like `results`."""
        self.match = Match(shape, Kind.RESPONSE)
        self.layout = Layout(results)
        self.read = self.layout.reader(self.match.offsets)
        self.small = max(self.match.size, self.template.length) <= SMALL_FRAME

    def results(self, views: Sequence[memoryview]) -> Any:
        """As `read`, from the contents of a parsed answer."""
        arrays = self.layout.over(views)
        return arrays[0] if len(arrays) == 1 else tuple(arrays) or None
