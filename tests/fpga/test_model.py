"""The processing system's side of the buses, against a kernel that does as it is told."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vaccel.error import DeviceError
from vaccel.fpga import toolchain, tools
from vaccel.fpga.memory import pages
from vaccel.fpga.model.system import Kind, Memory, System, Timing, harness

ROGUE = Path(__file__).with_name("rogue.h")
BASE = 0x10_0000
SIZE = (1 << 16) - 128  # so a burst may leave it halfway
READ, WRITE, INTERRUPT = 1, 2, 3
WORD, RESPONSE, SILENT = 8, 9, 10
BURST, DATA = 1, 2
OKAY, DECERR = 0, 3
INCR = 1

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="apt install g++")


@pytest.fixture(scope="module")
def library() -> Path:
    return toolchain.build("rogue", ROGUE.read_text(), harness(), tool=tools.TOOLS["cxxrtl"])


class Rogue(System):
    """The kernel, and its memory as 64-bit words."""

    def __init__(self, library: Path) -> None:
        self.clock = ctypes.c_uint64()
        self.words = pages(SIZE).view(np.uint64)
        super().__init__("rogue", library, Memory(self.words.ctypes.data, BASE, SIZE), self.clock)

    def do(
        self,
        what: int,
        address: int = BASE,
        beats: int = 1,
        *,
        size: int = 3,
        kind: int = INCR,
        last: int | None = None,
        strobe: int = 0xFF,
        takes_back: int = 0,
    ) -> None:
        last = beats if last is None else last
        for i, value in enumerate((address, beats, size, kind, last, strobe, takes_back), 1):
            self.write(4 * i, value)
        self.write(0, what)
        assert not self.run(200)

    def register(self, number: int) -> int:
        return self.read(4 * number)


@pytest.fixture
def rogue(library: Path) -> Iterator[Rogue]:
    system = Rogue(library)
    yield system
    system.destroy()


def test_a_burst_of_either_kind_reaches_the_memory(rogue: Rogue) -> None:
    rogue.words[3] = 0x1234
    rogue.record(True)
    rogue.do(READ, BASE + 8, 3)
    assert (rogue.register(WORD), rogue.register(RESPONSE)) == (0x1234, OKAY)
    rogue.do(WRITE, BASE + 0x100, 16)
    assert rogue.register(RESPONSE) == OKAY
    expected = [0x0706050403020100 + i for i in range(16)]
    assert rogue.words[0x20:0x30].tolist() == expected
    assert np.count_nonzero(rogue.words) == 17
    bursts = [
        event for event in rogue.events() if event.kind in (Kind.READ_BURST, Kind.WRITE_BURST)
    ]
    assert [(burst.address, burst.value) for burst in bursts] == [(BASE + 8, 3), (BASE + 0x100, 16)]
    assert rogue.refused() == []


def test_only_the_bytes_of_the_strobe_are_written(rogue: Rogue) -> None:
    rogue.words[0] = 0xFFFFFFFFFFFFFFFF
    rogue.do(WRITE, strobe=0b00100110)
    assert rogue.words[0] == 0xFFFF05FFFF0201FF


@pytest.mark.parametrize("what", [READ, WRITE])
@pytest.mark.parametrize("address", [0, BASE - 64, BASE + SIZE - 32, BASE + SIZE, 0xFFFF_FF80])
def test_a_burst_outside_of_the_memory_is_refused_whole(
    rogue: Rogue, what: int, address: int
) -> None:
    rogue.do(what, address, 8)
    assert rogue.register(RESPONSE) == DECERR
    assert [(r.address, r.is_write) for r in rogue.refused()] == [(address, what == WRITE)]
    assert not rogue.words.any()


def test_the_last_words_of_the_memory_are_still_in_it(rogue: Rogue) -> None:
    rogue.do(WRITE, BASE + SIZE - 64, 8)
    assert rogue.register(RESPONSE) == OKAY
    assert np.count_nonzero(rogue.words) == 8


@pytest.mark.parametrize("what", [READ, WRITE])
@pytest.mark.parametrize(
    ("burst", "rule"),
    [
        ({"beats": 17}, "a burst has more than 16 beats"),
        ({"size": 2}, "a burst's beats have not 8 bytes"),
        ({"kind": 0}, "a burst is not of the kind INCR"),
        ({"address": BASE + 4}, "a burst's address is not a multiple of 8"),
        ({"address": BASE + 4096 - 8, "beats": 2}, "a burst crosses 4 KiB"),
    ],
)
def test_a_burst_against_the_rules_is_an_error(
    rogue: Rogue, what: int, burst: dict[str, int], rule: str
) -> None:
    with pytest.raises(DeviceError, match=rf"rogue kernel breaks a rule of AXI .*: {rule}"):
        rogue.do(what, **burst)


@pytest.mark.parametrize("last", [0, 1, 3])
def test_a_last_word_that_is_not_the_last_is_an_error(rogue: Rogue, last: int) -> None:
    with pytest.raises(DeviceError, match="wlast is not with the last beat of a burst"):
        rogue.do(WRITE, beats=2, last=last)


@pytest.mark.parametrize(
    ("what", "rule"), [(READ, "a read burst is taken back"), (WRITE, "a write burst is taken back")]
)
def test_a_burst_that_is_taken_back_is_an_error(rogue: Rogue, what: int, rule: str) -> None:
    rogue.set_timing(Timing(stall=1.0))
    with pytest.raises(DeviceError, match=rule):
        rogue.do(what, takes_back=BURST)


def test_without_wait_states_nothing_is_taken_back_too_early(rogue: Rogue) -> None:
    rogue.do(READ, takes_back=BURST)
    assert rogue.register(RESPONSE) == OKAY


def test_data_that_changes_while_it_waits_is_an_error(rogue: Rogue) -> None:
    with pytest.raises(DeviceError, match="a word to be written is taken back"):
        rogue.do(WRITE, takes_back=DATA)


def test_a_register_that_does_not_answer_is_an_error(rogue: Rogue) -> None:
    rogue.write(4 * SILENT, 1)
    with pytest.raises(DeviceError, match="the rogue kernel does not answer at register 0x10"):
        rogue.read(0x10)
    with pytest.raises(DeviceError, match="the rogue kernel does not answer at register 0x14"):
        rogue.write(0x14, 1)


def test_a_run_ends_with_the_interrupt(rogue: Rogue) -> None:
    assert not rogue.run(100)
    rogue.write(0, INTERRUPT)
    before = rogue.clock.value
    assert rogue.run(1_000_000)
    assert rogue.clock.value - before < 5
