"""`vaccel fpga trace`: what was recorded is told, and what is told is drawn."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fpga.boards import simulator
from vaccel.cli import main
from vaccel.error import InvalidArgument
from vaccel.fpga import canvas, drawing, timeline
from vaccel.fpga.canvas import Span
from vaccel.fpga.model.system import Event, Kind
from vaccel.fpga.registers import ELEMENTWISE
from vaccel.fpga.timeline import Timeline

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
CALL = drawing.Call("fpga_vadd", "100 elements", 100, "element", 1e8)


@pytest.fixture(scope="module")
def added() -> Timeline:
    """An addition of 100 elements."""
    with simulator() as board:
        values = np.arange(100, dtype=np.float32)
        return timeline.record(board, "fpga_vadd", [values, values])


def event(cycle: int, kind: Kind, address: int = 0, value: int = 0) -> Event:
    return Event(cycle, "elementwise", kind, address, value)


# -- what happened -----------------------------------------------------------------------------


def test_every_word_of_the_operands_is_in_one_burst(added: Timeline):
    assert (added.operands(False), added.operands(True)) == (["in1", "in2"], ["out1"])
    for operand, is_write in (("in1", False), ("in2", False), ("out1", True)):
        bursts = added.stream(operand, is_write)
        words = [
            address for b in bursts for address in range(b.address, b.address + 8 * b.beats, 8)
        ]
        start = next(a.value for a in added.accesses if a.register == operand)
        assert sorted(words) == list(range(start, start + 400, 8))
    assert (added.beats(False), added.beats(True)) == (100, 50)


def test_transfers_happen_while_the_kernel_is_busy(added: Timeline):
    ((start, end),) = added.busy
    assert added.busy_cycles == end - start
    for burst in added.bursts:
        assert (
            start < burst.span.start <= burst.data.start < burst.data.end <= burst.span.end <= end
        )
        assert burst.data.end - burst.data.start == burst.beats
        assert not burst.refused
    assert added.utilisation(False) == 100 / added.busy_cycles


def test_cycles_are_about_those_that_the_kernel_counts(added: Timeline):
    counted = next(access.value for access in added.accesses if access.register == "cycles")
    assert 0 <= added.busy_cycles - counted < 10


def test_a_channel_moves_at_most_one_word_a_cycle(added: Timeline):
    for is_write in (False, True):
        spans = [burst.data for burst in added.bursts if burst.is_write == is_write]
        cycles = Counter(cycle for span in spans for cycle in range(*span))
        assert set(cycles.values()) == {1}


def test_the_call_begins_and_ends_with_accesses_to_registers(added: Timeline):
    names = [access.register for access in added.accesses]
    arguments = [register.name for register in ELEMENTWISE.arguments]
    assert names[: len(arguments) + 1] == [*arguments, "control"]
    assert added.accesses[0].cycle == 0
    assert added.accesses[-1].cycle == added.cycles - 1
    ((up, down),) = added.interrupt
    assert up == added.busy[0].end < down < added.cycles


def test_a_call_in_several_jobs_has_a_span_for_each():
    with simulator(memory=1 << 16) as board:
        values = np.zeros(6000, np.float32)
        found = timeline.record(board, "fpga_parallel", [values, values])
    assert len(found.busy) == len(found.interrupt) > 1
    assert (found.beats(False), found.beats(True)) == (6000, 6000)
    assert found.operands(True) == ["out1", "out2"]


def test_a_refused_burst_is_known_and_so_is_what_has_not_ended():
    found = timeline.assemble(
        [
            event(5, Kind.REGISTER_WRITE, ELEMENTWISE.offset("in1"), 0x1000),
            event(6, Kind.BUSY),
            event(10, Kind.READ_BURST, 0x1000, 4),
            event(40, Kind.READ_LAST, 0x1000, 3),
        ]
    )
    (burst,) = found.bursts
    assert (burst.span, burst.data, burst.refused) == (Span(5, 36), Span(32, 36), True)
    assert found.busy == [Span(1, 36)]
    assert "refused" in drawing.svg(found, CALL)


def test_nothing_cannot_be_drawn():
    with pytest.raises(InvalidArgument, match="events of one kernel, found those of none"):
        timeline.assemble([])


# -- how it is drawn ---------------------------------------------------------------------------


def bars(root: ElementTree.Element, scale: float, words: str) -> list[Span]:
    """Cycles that those bars cover whose titles hold the words."""
    found = []
    for rect in root.iter(f"{SVG}rect"):
        if words in (rect.findtext(f"{SVG}title") or ""):
            x, width = float(rect.get("x", "nan")), float(rect.get("width", "nan"))
            start = round(x * scale)
            found.append(Span(start, start + round(width * scale)))
    return found


def test_everything_has_its_bar_in_its_place(added: Timeline):
    root = ElementTree.fromstring(drawing.svg(added, CALL))
    scale = added.cycles / canvas.WIDTH
    for burst in added.bursts:
        verb = "write" if burst.is_write else "read"
        words = f"{verb} {burst.operand}: {burst.beats} beats at {burst.address:#010x}, "
        assert bars(root, scale, words) == [burst.span, burst.data]
    assert bars(root, scale, "kernel busy") == list(added.busy)
    assert bars(root, scale, "interrupt: ") == list(added.interrupt)
    starts = [Span(access.cycle, access.cycle + 1) for access in added.accesses]
    assert sorted(bars(root, scale, "in cycle ")) == starts


def test_the_headlines_have_the_numbers(added: Timeline):
    root = ElementTree.fromstring(drawing.svg(added, CALL))
    first, second, third = [text.text or "" for text in root.iter(f"{SVG}text")][:3]
    busy = added.busy_cycles
    assert (
        first
        == f"fpga_vadd, 100 elements: {busy} cycles, {busy / 100:.2f} µs at 100 MHz (estimate)"
    )
    assert second.startswith(f"{busy / 100:.2f} cycles per element, in one job of the elementwise ")
    assert f"{added.cycles} cycles with its {len(added.accesses)} accesses" in second
    assert third.startswith("800 bytes are read and 400 written")
    assert (
        f"receives data in {100 / busy:.0%} of the cycles and sends data in {50 / busy:.0%}"
        in third
    )


def test_the_axes_have_cycles_and_microseconds(added: Timeline):
    texts = [
        text.text for text in ElementTree.fromstring(drawing.svg(added, CALL)).iter(f"{SVG}text")
    ]
    axis = len(texts) - texts[::-1].index("cycles")  # a register has this name, too
    assert texts[axis:][:3] == ["0", "20", "40"]
    assert texts[texts.index("µs") + 1 :][:3] == ["0", "0.2", "0.4"]


def test_a_long_time_is_in_milliseconds(added: Timeline):
    long = replace(added, cycles=250_000)
    texts = [text.text for text in ElementTree.fromstring(drawing.svg(long, CALL)).iter()]
    assert "µs" not in texts
    assert texts[texts.index("ms") + 1 :][:3] == ["0", "0.5", "1"]


def test_all_labels_are_in_the_picture(added: Timeline):
    many = replace(added, bursts=[*added.bursts] * 12_345)
    for each in (added, many):
        root = ElementTree.fromstring(drawing.svg(each, CALL))
        left = float(root.get("viewBox", "").split()[0])
        ends = [text for text in root.iter(f"{SVG}text") if text.get("text-anchor") == "end"]
        assert any("bursts" in (text.text or "") for text in ends)
        for text in ends:
            assert float(text.get("x", "nan")) - 6.4 * len(text.text or "") >= left


def test_registers_are_named_where_there_is_room(added: Timeline):
    def named(timeline: Timeline) -> set[str]:
        root = ElementTree.fromstring(drawing.svg(timeline, CALL))
        return {text.text or "" for text in root.iter(f"{SVG}text")}

    names = {access.register for access in added.accesses} - {"control"} | {"start"}
    assert names <= named(added)
    crowded = named(replace(added, cycles=1_000_000))
    assert "start" in crowded
    assert not names <= crowded


def test_one_of_a_thing_is_no_plural(added: Timeline):
    text = drawing.svg(replace(added, bursts=added.bursts[:1], accesses=added.accesses[:1]), CALL)
    assert "1 access<" in text
    assert "1 burst, 16 beats" in text
    assert not re.search(r"\b1 (accesses|bursts|beats|cycles)\b", text)


def test_the_picture_in_the_documents_is_the_generated_one(tmp_path: Path):
    path = tmp_path / "trace.svg"
    assert main.main(["fpga", "trace", "fpga_vadd", "--length", "64", "-o", str(path)]) == 0
    found = (ROOT / "docs" / "trace.svg").read_text(encoding="utf-8")
    assert found == path.read_text(encoding="utf-8"), (
        "run: vaccel fpga trace fpga_vadd --length 64 -o docs/trace.svg"
    )


def test_what_would_be_too_many_bars_is_a_curve(added: Timeline, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drawing, "MOST_MARKS", 2)
    text = drawing.svg(added, CALL)
    assert "beats at" not in text
    assert "in cycle" not in text
    assert re.search(r"<title>at once: at most [1-9]", text)
    assert len(drawing.page(added, CALL).split("<tr>")) == 1 + 1 + 2
    assert f"<p>and {len(added.accesses) - 2} more</p>" in drawing.page(added, CALL)


def test_the_page_needs_nothing_from_elsewhere(added: Timeline):
    page = drawing.page(added, CALL)
    root = ElementTree.fromstring(page.replace('<meta charset="utf-8">', "").partition("\n")[2])
    assert [child.tag for child in root] == ["head", "body"]
    assert re.findall(r"https?://[^\"]*", page) == ["http://www.w3.org/2000/svg"]
    assert not {"script", "link", "img", "iframe"} & {element.tag for element in root.iter()}
    rows = [[cell.text for cell in row] for row in root.iter("tr")][1:]
    assert [row[2] for row in rows] == [access.register for access in added.accesses]


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 100)).map(sorted), max_size=20),
    st.integers(1, 200),
)
def test_a_curve_keeps_the_area(pairs: list[list[int]], most: int):
    spans = [Span(*pair) for pair in pairs]
    averages = canvas.occupancy(spans, 100, most)
    assert len(averages) == min(most, 100)
    assert averages.mean() * 100 == pytest.approx(sum(end - start for start, end in spans))
    if most >= 100:
        assert list(averages) == [sum(a <= cycle < b for a, b in spans) for cycle in range(100)]
