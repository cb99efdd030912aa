"""Lanes over a time axis as SVG: bars, curves, labels. Sizes are in pixels, times in cycles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

LEFT, WIDTH, RIGHT = (
    180,
    1080,
    80,
)  # lanes begin at 0; LEFT of them is the room for labels, at least
TOP, ROW, GAP = 112, 11, 15
CURVE = 34  # height of what is drawn as a curve
NAME, NAMES = 12, 3  # height of a name below a bar, and how many stand one below the other
LARGE, SMALL = 7.0, 6.4  # about the width of a letter, in wide fonts

# Okabe and Ito's colours, which the colour-blind can tell apart; lighter ones on dark paper.
_STYLE = """\
svg { background: #ffffff; }
text { fill: #222222; font: 12px system-ui, "DejaVu Sans", sans-serif; }
.title { font-size: 17px; font-weight: bold; }
.small { fill: #666666; font-size: 11px; }
.grid { stroke: #e4e4e4; } .rule { stroke: #999999; } .shade { fill: #f4f4ee; }
.in1 { fill: #0072b2; } .in2 { fill: #2aa0dd; } .out1 { fill: #d55e00; } .out2 { fill: #e69f00; }
.set { fill: #8a4fae; } .get { fill: #009e73; } .busy { fill: #777777; } .irq { fill: #cc2f5a; }
.wait { fill-opacity: 0.35; } .refused { stroke: #cc0000; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  svg { background: #16181c; }
  text { fill: #e6e6e6; }
  .small { fill: #a0a4aa; }
  .grid { stroke: #2c3036; } .rule { stroke: #6a6f77; } .shade { fill: #23282f; }
  .in1 { fill: #4aa3df; } .in2 { fill: #8fd0f5; } .out1 { fill: #ee8a3a; } .out2 { fill: #f4c14f; }
  .set { fill: #b98ad6; } .get { fill: #3cc79d; } .busy { fill: #9a9ea5; } .irq { fill: #f0658a; }
}
"""


class Span(NamedTuple):
    """Cycles `start` to `end`, which is the first that is not part of it."""

    start: int
    end: int


class Canvas:
    """`y` is where the next lane begins. An `ink` is a class of the style sheet, or several."""

    def __init__(self, cycles: int) -> None:
        self.cycles = cycles
        self.y = TOP
        self._left = float(LEFT)
        self._background: list[str] = []
        self._elements: list[str] = []

    def svg(self) -> str:
        left, height = math.ceil(self._left), self.y
        width = left + WIDTH + RIGHT
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-left} 0 {width} {height}" '
                f'width="{width}" height="{height}">',
                f"<style>\n{_STYLE}</style>",
                *self._background,
                *self._elements,
                "</svg>\n",
            ]
        )

    def text(self, x: float, y: float, text: str, ink: str = "", anchor: str = "start") -> None:
        self._elements.append(
            f'<text class="{ink}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    # -- lanes -----------------------------------------------------------------------------------

    def label(self, name: str, more: str) -> None:
        """To the left of the lane that begins here."""
        self.text(-12, self.y + 10, name, anchor="end")
        self.text(-12, self.y + 23, more, "small", "end")
        self._left = max(self._left, 24 + LARGE * len(name), 24 + SMALL * len(more))

    def bar(self, span: Span, ink: str, title: str, row: int = 0, height: int = 2 * ROW) -> None:
        """Wide enough to be seen, `row` rows below the top of the lane."""
        x, width = self._x(span.start), self._x(span.end) - self._x(span.start)
        self._elements.append(
            f'<rect class="{ink}" x="{x:.1f}" y="{self.y + row * ROW}" width="{max(1, width):.1f}" '
            f'height="{height}"><title>{escape(title)}</title></rect>'
        )

    def names(self, names: Iterable[tuple[int, str]]) -> int:
        """Below bars at these cycles: those that meet no earlier one. The height of the lane."""
        rows: list[list[tuple[float, float]]] = [[] for _ in range(NAMES)]
        for cycle, text in names:
            start = self._x(cycle)
            end = start + SMALL * len(text) + 4
            for number, row in enumerate(rows, 1):
                if all(end <= left or right <= start for left, right in row):
                    row.append((start, end))
                    self.text(start, self.y + 2 * ROW + NAME * number - 1, text, "small")
                    break
        return 2 * ROW + NAME * sum(map(bool, rows))

    def curve(self, spans: Sequence[Span], ink: str, unit: str, top: float | None = None) -> None:
        """A lane: how many spans there are at once, on average over what one pixel shows."""
        counts = occupancy(spans, self.cycles, WIDTH)
        highest = float(counts.max())
        top = top or max(1.0, highest)
        base = self.y + CURVE
        path, before = [f"M0 {base}"], 0.0
        edges = np.linspace(0, self.cycles, len(counts) + 1)
        for edge, count in zip(edges, [*counts, 0.0], strict=True):
            if count != before:
                path.append(f"H{self._x(edge):.1f}V{base - CURVE * min(1.0, count / top):.1f}")
                before = count
        title = f"{unit}: at most {highest:.2f}, on average {counts.mean():.2f}"
        self._elements += [
            f'<path class="{ink}" d="{"".join(path)}Z"><title>{title}</title></path>',
            f'<path class="rule" d="M0 {base}H{WIDTH}"/>',
        ]
        self.text(WIDTH + 4, self.y + 9, f"{top:.3g} {unit}", "small")
        self.next_lane(CURVE)

    def next_lane(self, height: int = 2 * ROW) -> None:
        """Go on below a lane of that height."""
        self.y += height + GAP

    # -- around the lanes ------------------------------------------------------------------------

    def shade(self, spans: Iterable[Span]) -> None:
        """Behind all lanes so far."""
        for span in spans:
            x, width = self._x(span.start), self._x(span.end) - self._x(span.start)
            self._background.append(
                f'<rect class="shade" x="{x:.1f}" y="{TOP - 6}" width="{width:.1f}" '
                f'height="{self.y - TOP}"/>'
            )

    def axes(self, clock_hz: float) -> None:
        """Cycles above, with lines through all lanes so far, and time below them."""
        end = self.y - 6
        unit_of_time, per_second = ("µs", 1e6) if self.cycles / clock_hz <= 1e-3 else ("ms", 1e3)
        scales = ((TOP - 20, "cycles", 1.0), (end + 17, unit_of_time, clock_hz / per_second))
        for y, unit, cycles in scales:
            step = _round_up(self.cycles / cycles / 12)
            self.text(-24, y, unit, "small", "end")
            for number in range(int(self.cycles / cycles / step) + 1):
                x = self._x(number * step * cycles)
                self.text(x, y, f"{number * step:,.10g}", "small", "middle")
                if unit == "cycles":
                    line = f'x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{end}"'
                    self._background.append(f'<line class="grid" {line}/>')
        self._elements.append(f'<path class="rule" d="M0 {end}H{WIDTH}"/>')
        self.y = end + 44

    def legend(self, entries: Iterable[tuple[str, str]]) -> None:
        """Inks and what they stand for, in one line."""
        x = 0.0
        for ink, text in entries:
            self._elements.append(
                f'<rect class="{ink}" x="{x:.1f}" y="{self.y - 9}" width="16" height="10"/>'
            )
            self.text(x + 22, self.y, text, "small")
            x += 44 + 5.9 * len(text)
        self.y += 24

    def _x(self, cycle: float) -> float:
        return WIDTH * cycle / self.cycles


def occupancy(spans: Sequence[Span], cycles: int, most: int) -> npt.NDArray[np.float64]:
    """How many spans there are at once: averages of at most `most` equal parts of the cycles."""
    change = np.zeros(cycles + 1, np.int64)
    np.add.at(change, [span.start for span in spans], 1)
    np.add.at(change, [span.end for span in spans], -1)
    # Sums up to the start of each cycle; a part's edge may lie within one, where they grow evenly.
    sums = np.concatenate([[0], np.cumsum(np.cumsum(change[:cycles]))])
    edges = np.linspace(0, cycles, min(cycles, most) + 1)
    averages: npt.NDArray[np.float64] = np.diff(np.interp(edges, np.arange(cycles + 1), sums))
    return averages / np.diff(edges)


def _round_up(number: float) -> float:
    """To 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(number))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= number)
