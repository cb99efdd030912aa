"""The registers of any kernel, under a master that is not ours and takes its time."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, Combine

from tests.cocotb.bench import Bench
from vaccel.fpga.registers import VERSION, Access, Control, Status

LIMIT = {"timeout_time": 1, "timeout_unit": "ms"}


@cocotb.test(**LIMIT)
async def a_kernel_tells_what_it_is(dut: Any) -> None:
    bench = await Bench.ready(dut)
    assert await bench.read("identification") == bench.kernel.identification
    assert await bench.read("version") == VERSION
    assert await bench.read("capability") != 0
    assert await bench.read("control") == Control.IDLE
    for register in bench.kernel.arguments:
        assert await bench.read(register.name) == 0


@cocotb.test(**LIMIT)
async def what_is_written_back_to_back_is_what_is_read(dut: Any) -> None:
    """All arguments at once, while others are read; single bytes by their strobes."""
    bench = await Bench.ready(dut)
    offsets = [each.offset for each in bench.kernel.arguments]
    held = bytearray(4 * len(offsets))
    for share in (0, 0.3, 0.7, 0.5):
        bench.pause_processor(share)
        writes, reads = [], []
        for _ in range(40):
            size = int(bench.rng.choice([1, 2, 4]))
            at = int(bench.rng.integers(len(held) // size)) * size
            data = bench.rng.bytes(size)
            held[at : at + size] = data
            writes.append(cocotb.start_soon(bench.processor.write(offsets[0] + at, data)))
            reads.append(cocotb.start_soon(bench.read("identification")))
        await Combine(*writes, *reads)
        assert {read.result() for read in reads} == {bench.kernel.identification}
        stored = [await bench.processor.read_dword(offset) for offset in offsets]
        assert b"".join(value.to_bytes(4, "little") for value in stored) == held


@cocotb.test(**LIMIT)
async def reads_and_writes_do_not_wait_for_each_other(dut: Any) -> None:
    """A read is answered while the answer of a write is not taken, and the other way round."""
    bench = await Bench.ready(dut)
    name = bench.kernel.arguments[0].name
    bench.processor.write_if.b_channel.pause = True
    write = cocotb.start_soon(bench.write(name, 0x1234_5678))
    await ClockCycles(dut.clk, 20)
    assert not write.done()
    assert await bench.read(name) == 0x1234_5678
    bench.processor.write_if.b_channel.pause = False
    await write
    bench.processor.read_if.r_channel.pause = True
    read = cocotb.start_soon(bench.read(name))
    await bench.write(name, 1)
    await bench.write(name, 2)
    assert not read.done()
    bench.processor.read_if.r_channel.pause = False
    assert await read in (1, 2, 0x1234_5678)
    assert await bench.read(name) == 2


@cocotb.test(**LIMIT)
async def address_and_data_of_a_write_come_in_any_order(dut: Any) -> None:
    bench = await Bench.ready(dut)
    write = bench.processor.write_if
    name = bench.kernel.arguments[-1].name
    for value, late in enumerate((write.aw_channel, write.w_channel, write.aw_channel)):
        late.pause = True
        task = cocotb.start_soon(bench.write(name, value))
        await ClockCycles(dut.clk, 10)
        assert not task.done()
        late.pause = False
        await task
        assert await bench.read(name) == value


@cocotb.test(**LIMIT)
async def what_is_read_only_or_unknown_keeps_its_value(dut: Any) -> None:
    bench = await Bench.ready(dut)
    for register in bench.kernel.registers:
        if register.access is Access.READ_ONLY:
            before = await bench.read(register.name)
            await bench.write(register.name, ~before & 0xFFFF_FFFF)
            assert await bench.read(register.name) == before, register.name
    known = {register.offset for register in bench.kernel.registers}
    for offset in {*range(0, 0x80, 4), 0x100, 0x1000, 0xFFFC} - known:
        await bench.processor.write_dword(offset, 0xFFFF_FFFF)
        assert await bench.processor.read_dword(offset) == 0, hex(offset)
    assert await bench.read("control") == Control.IDLE


@cocotb.test(**LIMIT)
async def interrupts_follow_their_enables(dut: Any) -> None:
    """An empty job ends at once: done is seen, polled or by interrupt, as was asked for."""
    bench = await Bench.ready(dut)
    for together in range(4):
        everything, job = together & 1, together >> 1
        await bench.write("global_interrupt", everything)
        await bench.write("interrupt_enable", job)
        await bench.write("control", Control.START)
        await ClockCycles(dut.clk, 20)
        assert bool(dut.irq.value) == (everything and job)
        assert await bench.read("interrupt_status") == job
        assert await bench.read("status") == Status.EMPTY
        assert await bench.read("control") == Control.DONE | Control.IDLE | Control.READY
        assert await bench.read("control") == Control.IDLE
        if job:
            await bench.write("interrupt_status", 1)
        assert await bench.read("interrupt_status") == 0
        assert not dut.irq.value
    await bench.write("interrupt_status", 1)  # a toggle (UG1399): this sets it
    assert dut.irq.value
    await bench.write("global_interrupt", 0)
    assert not dut.irq.value
    assert not bench.monitor.reads
    assert not bench.monitor.writes
