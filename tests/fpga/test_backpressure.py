"""The elementwise kernel at a memory that reads at once and is slow to write, for each reason.

In Amaranth's own simulator: here each channel of the memory has a pace of its own.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'vaccel[sim]'")

from amaranth.sim import Simulator

from vaccel.fpga.registers import (
    CONTROL,
    ELEMENTWISE,
    GLOBAL_INTERRUPT,
    INTERRUPT_ENABLE,
    Operation,
)
from vaccel.fpga.rtl import linear
from vaccel.fpga.rtl.elementwise import Elementwise

WORDS = 256  # beats in each buffer
LENGTH = 2 * WORDS
# The bursts of the second result end a beat after those of the first: it waits for them, full.
IN1, IN2, OUT1, OUT2 = 0x0000, 0x1000, 0x2000, 0x3078
PATIENCE = 5000  # cycles


class Memory:
    """Takes words from cycle `write_from` on, and answers to a burst `late` cycles after them."""

    def __init__(self, context: Any, kernel: Elementwise, write_from: int, late: int) -> None:
        self.context, self.port = context, kernel.m_axi
        self.write_from, self.late, self.cycle = write_from, late, 0
        self.beats: dict[int, int] = {}
        self.reads: deque[tuple[int, bool]] = deque()
        self.writes: deque[int] = deque()
        self.answers: deque[int] = deque()
        self.most_unanswered = self.read_ahead = 0

    def get(self, name: str) -> int:
        return int(self.context.get(getattr(self.port, name)))

    def set(self, **signals: int) -> None:
        for name, value in signals.items():
            self.context.set(getattr(self.port, name), value)

    async def step(self) -> None:
        """One cycle: offer, look at the handshakes, go on."""
        answer = bool(self.answers) and self.answers[0] <= self.cycle
        self.set(arready=1, awready=1, wready=self.cycle >= self.write_from, bvalid=answer)
        self.set(rvalid=bool(self.reads))
        if self.reads:
            address, last = self.reads[0]
            self.set(rdata=self.beats[address], rlast=last)
            if self.get("rready"):
                self.reads.popleft()
                self.read_ahead += self.get("wready") == 0
        if self.get("arvalid"):
            address, beats = self.get("araddr"), self.get("arlen") + 1
            self.reads.extend((address + 8 * i, i == beats - 1) for i in range(beats))
        if self.get("awvalid"):
            address, beats = self.get("awaddr"), self.get("awlen") + 1
            self.writes.extend(address + 8 * i for i in range(beats))
        if answer and self.get("bready"):
            self.answers.popleft()
        if self.get("wvalid") and self.get("wready"):
            self.beats[self.writes.popleft()] = self.get("wdata")
            if self.get("wlast"):
                self.answers.append(self.cycle + self.late)
        self.most_unanswered = max(self.most_unanswered, len(self.answers))
        self.cycle += 1
        await self.context.tick()


async def write_register(memory: Memory, kernel: Elementwise, offset: int, value: int) -> None:
    bus, context = kernel.s_axi, memory.context
    for name, signal in (("awaddr", offset), ("wdata", value), ("wstrb", 15), ("bready", 1)):
        context.set(getattr(bus, name), signal)
    for valid in (1, 0):
        context.set(bus.awvalid, valid)
        context.set(bus.wvalid, valid)
        await memory.step()
    await memory.step()


def run(operation: Operation, write_from: int, late: int) -> Memory:
    """Do the job on random numbers, check results; give the memory as it is at the interrupt."""
    kernel, found = Elementwise(), []
    operands = np.random.default_rng(operation).random((2, LENGTH), np.float32)

    async def testbench(context: Any) -> None:
        memory = Memory(context, kernel, write_from, late)
        for start, values in zip((IN1, IN2), operands, strict=True):
            memory.beats |= {start + 8 * i: int(v) for i, v in enumerate(values.view(np.uint64))}
        job = {"in1": IN1, "in2": IN2, "out1": OUT1, "out2": OUT2, "length": LENGTH}
        job["operation"] = operation
        for name, value in job.items():
            await write_register(memory, kernel, ELEMENTWISE.offset(name), value)
        for register in (GLOBAL_INTERRUPT, INTERRUPT_ENABLE, CONTROL):
            await write_register(memory, kernel, register.offset, 1)
        while not context.get(kernel.irq):
            await memory.step()
            assert memory.cycle < PATIENCE, "the job hangs"
        found.append(memory)

    simulator = Simulator(kernel)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()
    (memory,) = found
    a, b = operands
    results = {Operation.COPY: [a], Operation.ADD_AND_MULTIPLY: [a + b, a * b]}[operation]
    for start, values in zip((OUT1, OUT2), results, strict=False):
        words = np.array([memory.beats[start + 8 * i] for i in range(WORDS)], np.uint64)
        assert np.array_equal(words.view(np.float32), values)
    return memory


OPERATIONS = pytest.mark.parametrize("operation", [Operation.COPY, Operation.ADD_AND_MULTIPLY])


@OPERATIONS
def test_words_wait_for_a_memory_that_takes_none(operation: Operation):
    memory = run(operation, write_from=500, late=5)
    channels = 1 if operation == Operation.COPY else 2
    # Each channel fills its own queue and its result's, and whatever the units hold.
    assert memory.read_ahead >= 2 * channels * linear.FIFO_DEPTH


@OPERATIONS
def test_so_many_writes_are_unanswered_and_no_more_and_the_end_waits_for_all(operation: Operation):
    memory = run(operation, write_from=0, late=400)
    assert memory.most_unanswered == linear.OUTSTANDING
    assert not memory.answers
