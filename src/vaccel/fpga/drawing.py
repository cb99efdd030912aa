"""A timeline as a picture: SVG, or a page around it. Both stand alone, on light and dark paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from vaccel.fpga.canvas import LEFT, ROW, Canvas, Span
from vaccel.fpga.timeline import BEAT, Access, Burst, Timeline

MOST_MARKS = 2000
"""Of one kind in a lane; where there would be more, their density is drawn instead."""

_INKS = {"in1": "in1", "in2": "in2", "out": "out1", "out1": "out1", "out2": "out2"}
_LEGEND = (
    ("in1 wait", "a read burst, from its address"),
    ("in1", "and its data"),
    ("out1 wait", "a write burst, from its address to the answer"),
    ("out1", "and its data"),
    ("shade", "the kernel is busy"),
)
_NOTES = (
    "This is the time of the kernel and of the buses: what the processor does between accesses to "
    "registers, copying for instance, takes none here.",
    "Times are what the cycles take at the clock that the overlay is built for, an estimate as "
    "long as no board has confirmed it.",
)


class Call(NamedTuple):
    """What the picture is of: `work` is how many of `unit` the call had to do."""

    operation: str
    size: str
    work: int
    unit: str
    clock_hz: float


def svg(timeline: Timeline, call: Call) -> str:
    canvas = Canvas(timeline.cycles)
    for number, line in enumerate(_headlines(timeline, call)):
        canvas.text(16 - LEFT, 28 + 20 * number, line, "" if number else "title")
    _registers(canvas, timeline.accesses)
    for is_write in (False, True):
        for operand in timeline.operands(is_write):
            _bursts(canvas, operand, timeline.stream(operand, is_write))
        _data(canvas, timeline, is_write)
    _spans(canvas, "kernel busy", "busy", timeline.busy)
    _spans(canvas, "interrupt", "irq", timeline.interrupt)
    canvas.shade(timeline.busy)
    canvas.axes(call.clock_hz)
    canvas.legend(_LEGEND)
    for note in _NOTES:
        canvas.text(0, canvas.y, note, "small")
        canvas.y += 16
    return canvas.svg()


def summary(timeline: Timeline, call: Call) -> str:
    """One line: what was done, and how long the kernel was at work."""
    cycles = timeline.busy_cycles
    seconds = cycles / call.clock_hz
    time = f"{seconds * 1e3:,.3f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:,.2f} µs"
    return (
        f"{call.operation}, {call.size}: {cycles:,} cycles, {time} at {call.clock_hz / 1e6:g} MHz "
        "(estimate)"
    )


def _count(number: int, things: str) -> str:
    """things: their plural."""
    return f"{number:,} {things if number != 1 else _SINGULAR[things]}"


_SINGULAR = {"accesses": "access", "beats": "beat", "bursts": "burst", "cycles": "cycle"}


def _headlines(timeline: Timeline, call: Call) -> Iterator[str]:
    yield summary(timeline, call)
    busy, jobs = timeline.busy_cycles, len(timeline.busy)
    pace = (
        f"{busy / call.work:.2f} cycles per {call.unit}"
        if busy >= call.work
        else f"{call.work / busy:.2f} {call.unit}s per cycle"
    )
    yield (
        f"{pace[0].upper()}{pace[1:]}, in {'one job' if jobs == 1 else f'{jobs} jobs'} of the "
        f"{timeline.kernel.name} kernel. The call takes {timeline.cycles:,} cycles with its "
        f"{_count(len(timeline.accesses), 'accesses')} to registers."
    )
    read, written = (timeline.beats(is_write) * BEAT for is_write in (False, True))
    receives, sends = (timeline.utilisation(is_write) for is_write in (False, True))
    yield (
        f"{read:,} bytes are read and {written:,} written: while the kernel is busy, the memory "
        f"port receives data in {receives:.0%} of the cycles and sends data in {sends:.0%}."
    )


# -- lanes -------------------------------------------------------------------------------------


def _registers(canvas: Canvas, accesses: Sequence[Access]) -> None:
    for verb, ink in (("write", "set"), ("read", "get")):
        mine = [access for access in accesses if access.is_write == (verb == "write")]
        canvas.label(f"register {verb}s", _count(len(mine), "accesses"))
        spans = [Span(access.cycle, access.cycle + 1) for access in mine]
        if len(mine) > MOST_MARKS:
            canvas.curve(spans, ink, "per cycle")
            continue
        for access, span in zip(mine, spans, strict=True):
            title = f"{verb} {access.register}, {access.value:#x}, in cycle {access.cycle:,}"
            canvas.bar(span, ink, title)
        canvas.next_lane(canvas.names(_names(mine)))


def _names(accesses: Sequence[Access]) -> Iterator[tuple[int, str]]:
    """What is most worth the room first."""
    for access in accesses:
        if _is_start(access):
            yield access.cycle, "start"
    for access in accesses:
        if not _is_start(access):
            yield access.cycle, access.register


def _is_start(access: Access) -> bool:
    return access.is_write and access.register == "control"


def _bursts(canvas: Canvas, operand: str, bursts: Sequence[Burst]) -> None:
    """Those that are under way at once stand one below the other."""
    verb = "write" if bursts[0].is_write else "read"
    beats = sum(burst.beats for burst in bursts)
    canvas.label(f"{verb} {operand}", f"{_count(len(bursts), 'bursts')}, {_count(beats, 'beats')}")
    ink = _INKS[operand]
    if len(bursts) > MOST_MARKS:
        canvas.curve([burst.span for burst in bursts], f"{ink} wait", "at once")
        return
    free: list[int] = []  # for each row, the cycle from which it is
    for burst in bursts:
        row = next((i for i, cycle in enumerate(free) if cycle <= burst.span.start), len(free))
        free[row : row + 1] = [burst.span.end]
        title = (
            f"{verb} {operand}: {_count(burst.beats, 'beats')} at {burst.address:#010x}, cycles "
            f"{burst.span.start:,} to {burst.span.end:,}{', refused' if burst.refused else ''}"
        )
        light = f"{ink} wait refused" if burst.refused else f"{ink} wait"
        canvas.bar(burst.span, light, title, row, ROW - 2)
        canvas.bar(burst.data, ink, title, row, ROW - 2)
    canvas.next_lane(max(2, len(free)) * ROW)


def _data(canvas: Canvas, timeline: Timeline, is_write: bool) -> None:
    spans = [burst.data for burst in timeline.bursts if burst.is_write == is_write]
    if spans:
        share = f"{timeline.utilisation(is_write):.0%} of busy cycles"
        canvas.label("data sent" if is_write else "data received", share)
        canvas.curve(spans, "out1" if is_write else "in1", "per cycle", top=1.0)


def _spans(canvas: Canvas, name: str, ink: str, spans: Sequence[Span]) -> None:
    total = sum(span.end - span.start for span in spans)
    canvas.label(name, _count(total, "cycles"))
    for span in spans:
        length = span.end - span.start
        title = f"{name}: {_count(length, 'cycles')}, {span.start:,} to {span.end:,}"
        canvas.bar(span, ink, title)
    canvas.next_lane()


# -- the page ----------------------------------------------------------------------------------

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 1em; font: 14px system-ui, sans-serif; background: #ffffff; color: #222222; }}
svg {{ max-width: 100%; height: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.1em 0.8em; text-align: right; }}
th:nth-child(3), td:nth-child(3) {{ text-align: left; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #16181c; color: #e6e6e6; }} }}
</style>
</head>
<body>
{svg}<details>
<summary>Accesses to registers</summary>
<table>
<tr><th>cycle</th><th></th><th>register</th><th>value</th><th></th></tr>
{rows}
</table>{more}
</details>
</body>
</html>
"""


def page(timeline: Timeline, call: Call) -> str:
    """The picture and a table of the accesses to registers, as HTML."""
    accesses = timeline.accesses
    left = len(accesses) - MOST_MARKS
    return _PAGE.format(
        title=escape(summary(timeline, call)),
        svg=svg(timeline, call),
        rows="\n".join(_rows(accesses[:MOST_MARKS])),
        more=f"\n<p>and {left:,} more</p>" if left > 0 else "",
    )


def _rows(accesses: Iterable[Access]) -> Iterator[str]:
    for cycle, is_write, register, value in accesses:
        verb = "write" if is_write else "read"
        cells = (f"{cycle:,}", verb, escape(register), f"{value:#x}", f"{value:,}")
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
