"""The registers of a kernel as a master of AXI4-Lite sees them; the test plays the kernel."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

pytest.importorskip("amaranth", reason="pip install 'vaccel[sim]'")

from amaranth.sim import Simulator

from vaccel.fpga import registers
from vaccel.fpga.registers import ELEMENTWISE, KERNELS, MMULT, Control, Kernel, Status
from vaccel.fpga.rtl import control

PATIENCE = 20  # cycles
SIZES = {"elementwise": {"lanes": 2}, "mmult": {"lanes": 16, "rows": 8, "depth": 512}}
LENGTH = ELEMENTWISE.offset("length")


class Master:
    """Drives the channels of AXI4-Lite, each on its own."""

    def __init__(self, context: Any, unit: control.Control) -> None:
        self.context, self.unit, self.bus = context, unit, unit.bus

    def set(self, **signals: int) -> None:
        for name, value in signals.items():
            self.context.set(getattr(self.bus, name), value)

    async def step(self, cycles: int = 1) -> None:
        await self.context.tick().repeat(cycles)

    async def handshake(self, channel: str) -> int:
        """Hold valid until ready was seen with it; give the cycles that took."""
        self.set(**{f"{channel}valid": 1})
        for cycles in range(1, PATIENCE):
            taken = self.context.get(getattr(self.bus, f"{channel}ready"))
            await self.step()
            if taken:
                self.set(**{f"{channel}valid": 0})
                return cycles
        raise AssertionError(f"no {channel}ready")

    def taken(self, channel: str) -> int:
        """Whether there is a handshake in this cycle."""
        valid, ready = (getattr(self.bus, channel + name) for name in ("valid", "ready"))
        return int(self.context.get(valid & ready))

    async def response(self, channel: str, after: int = 0) -> int:
        """Wait for valid, let it wait for `after` cycles, take it; give the data, if there are."""
        self.set(**{f"{channel}ready": 0})
        valid = getattr(self.bus, f"{channel}valid")
        for _ in range(PATIENCE):
            if self.context.get(valid):
                break
            await self.step()
        for _ in range(after):
            await self.step()
            assert self.context.get(valid)
        assert self.context.get(getattr(self.bus, f"{channel}resp")) == 0
        data = self.context.get(self.bus.rdata) if channel == "r" else 0
        assert self.context.get(valid)
        self.set(**{f"{channel}ready": 1})
        await self.step()
        self.set(**{f"{channel}ready": 0})
        return data

    async def write(self, address: int, data: int, strobe: int = 0xF, first: str = "") -> None:
        self.set(awaddr=address, wdata=data, wstrb=strobe)
        order = ("w", "aw") if first == "w" else ("aw", "w")
        for channel in order:
            await self.handshake(channel)
        await self.response("b")

    async def read(self, address: int) -> int:
        self.set(araddr=address)
        await self.handshake("ar")
        return await self.response("r")

    async def end(self, status: Status = Status.OK, fault: int = 0) -> None:
        """What the kernel does when its job is done."""
        self.context.set(self.unit.status, status)
        self.context.set(self.unit.fault, fault)
        self.context.set(self.unit.done, 1)
        await self.step()
        self.context.set(self.unit.done, 0)

    def argument(self, name: str) -> int:
        return int(self.context.get(self.unit.arguments)[name])


def run(bench: Callable[[Master], Coroutine[Any, Any, None]], kernel: Kernel = ELEMENTWISE) -> None:
    unit = control.Control(kernel, SIZES[kernel.name])

    async def testbench(context: Any) -> None:
        await bench(Master(context, unit))

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize("wait", [0, 1, 5])
@pytest.mark.parametrize("channels", [("aw", "w"), ("w", "aw")])
def test_address_and_data_of_a_write_come_in_any_order(channels: Sequence[str], wait: int):
    async def bench(master: Master) -> None:
        master.set(awaddr=LENGTH, wdata=0x12345678, wstrb=0xF, bready=1)
        await master.handshake(channels[0])
        for _ in range(wait):
            assert not master.context.get(master.bus.bvalid)
            await master.step()
        await master.handshake(channels[1])
        await master.response("b", after=wait)
        assert master.argument("length") == 0x12345678
        assert await master.read(LENGTH) == 0x12345678

    run(bench)


def test_writes_may_follow_each_other_before_the_first_is_answered():
    async def bench(master: Master) -> None:
        """Two addresses and two words; only then is the first answer taken."""
        master.set(awaddr=LENGTH, wdata=1, wstrb=0xF, bready=0)
        await master.handshake("aw")
        await master.handshake("w")
        master.set(awaddr=LENGTH - 4, wdata=2)
        await master.handshake("aw")
        await master.handshake("w")
        await master.step(3)
        assert (master.argument("length"), master.argument("out2")) == (1, 0)
        await master.response("b")
        await master.response("b")
        assert (master.argument("length"), master.argument("out2")) == (1, 2)

    run(bench)


def test_a_master_that_never_pauses_is_served_a_write_and_a_read_every_two_cycles():
    async def bench(master: Master) -> None:
        offsets = [register.offset for register in ELEMENTWISE.arguments]
        master.set(wstrb=0xF, bready=1, rready=1)
        cycles = 0
        for i, offset in enumerate(offsets):
            master.set(awaddr=offset, wdata=1000 + i, awvalid=1, wvalid=1)
            ready = 0
            while not ready:
                ready = master.context.get(master.bus.awready & master.bus.wready)
                await master.step()
                cycles += 1
        master.set(awvalid=0, wvalid=0)
        await master.step(3)
        assert cycles <= 2 * len(offsets)

        words, sent = [], 0
        for _ in range(2 * len(offsets) + 1):
            master.set(arvalid=sent < len(offsets), araddr=offsets[min(sent, len(offsets) - 1)])
            if master.context.get(master.bus.rvalid):
                words.append(master.context.get(master.bus.rdata))
            sent += master.context.get(master.bus.arready & master.bus.arvalid)
            await master.step()
        assert words == [1000 + i for i in range(len(offsets))]

    run(bench)


@pytest.mark.parametrize("seed", range(4))
def test_channels_that_pause_at_random_lose_and_repeat_nothing(seed: int):
    rng = random.Random(seed)
    writes = [
        (rng.choice(ELEMENTWISE.arguments).offset, rng.getrandbits(32), rng.getrandbits(4))
        for _ in range(60)
    ]
    constants = {0x4C: ELEMENTWISE.identification, 0x50: registers.VERSION, 0x54: 2, 0x60: 0}
    reads = rng.choices(list(constants), k=60)
    eager = {channel: rng.choice([0.2, 0.5, 1.0]) for channel in ("aw", "w", "ar", "b", "r")}

    async def bench(master: Master) -> None:
        left = {
            "aw": [{"awaddr": offset} for offset, _, _ in writes],
            "w": [{"wdata": word, "wstrb": strobe} for _, word, strobe in writes],
            "ar": [{"araddr": offset} for offset in reads],
        }
        offered = dict.fromkeys(left, False)
        answers, words = 0, []
        for _ in range(1000):
            for channel, items in left.items():
                # A valid stays until it is answered.
                offered[channel] |= bool(items) and rng.random() < eager[channel]
                master.set(**{f"{channel}valid": offered[channel]}, **(items or [{}])[0])
            for channel in ("b", "r"):
                master.set(**{f"{channel}ready": rng.random() < eager[channel]})
            answers += master.taken("b")
            if master.taken("r"):
                words.append(master.context.get(master.bus.rdata))
            for channel in [each for each in left if master.taken(each)]:
                left[channel].pop(0)
                offered[channel] = False
            await master.step()
        assert (answers, words) == (len(writes), [constants[offset] for offset in reads])
        final = dict.fromkeys((each.offset for each in ELEMENTWISE.arguments), 0)
        for offset, word, strobe in writes:
            mask = sum(0xFF << 8 * i for i in range(4) if strobe >> i & 1)
            final[offset] = final[offset] & ~mask | word & mask
        assert {each.offset: master.argument(each.name) for each in ELEMENTWISE.arguments} == final

    run(bench)


def test_an_answer_to_a_read_waits_unchanged_while_registers_are_written():
    async def bench(master: Master) -> None:
        await master.write(LENGTH, 7)
        master.set(araddr=LENGTH)
        await master.handshake("ar")
        await master.write(LENGTH, 8)
        assert await master.response("r", after=3) == 7
        assert await master.read(LENGTH) == 8

    run(bench)


def test_strobes_choose_the_bytes_that_a_write_changes():
    async def bench(master: Master) -> None:
        for strobe in range(16):
            await master.write(LENGTH, 0xA5A5A5A5)
            await master.write(LENGTH, 0x11223344, strobe, first="w")
            kept = [0x11223344 if strobe >> i & 1 else 0xA5A5A5A5 for i in range(4)]
            assert master.argument("length") == sum(
                word & 0xFF << 8 * i for i, word in enumerate(kept)
            )

    run(bench)


def test_a_strobe_without_the_lowest_byte_neither_starts_nor_enables_nor_toggles():
    async def bench(master: Master) -> None:
        for offset in (0x00, 0x04, 0x08, 0x0C):
            await master.write(offset, 0xFFFFFFFF, 0b1110)
        assert await master.read(0x00) == Control.IDLE
        assert [await master.read(offset) for offset in (0x04, 0x08, 0x0C)] == [0, 0, 0]

    run(bench)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_every_register_of_the_map_is_there_and_nothing_else(kernel: Kernel):
    arguments = {register.offset for register in kernel.arguments}
    bits = {registers.GLOBAL_INTERRUPT.offset, registers.INTERRUPT_ENABLE.offset}
    constant = {
        registers.CONTROL.offset: Control.IDLE,
        registers.IDENTIFICATION.offset: kernel.identification,
        registers.VERSION_REGISTER.offset: registers.VERSION,
        kernel.capability.offset: sum(
            SIZES[kernel.name][field.name] << field.bit for field in kernel.capability.fields
        ),
    }
    aliases = [offset + (1 << bit) for bit in range(7, 16) for offset in (0, 0x10, 0x4C)]

    async def bench(master: Master) -> None:
        for offset in (*range(4, 0x80, 4), *aliases):
            if offset != registers.INTERRUPT_STATUS.offset:
                await master.write(offset, 0xFFFF0000 + offset | 1)
        for offset in (*range(0, 0x80, 4), *aliases):
            expected = constant.get(offset, 0)
            if offset in arguments:
                expected = 0xFFFF0000 + offset | 1
            elif offset in bits:
                expected = 1
            assert await master.read(offset) == expected, hex(offset)

    run(bench, kernel)


def test_capability_is_packed_as_the_map_says():
    async def bench(master: Master) -> None:
        assert await master.read(MMULT.capability.offset) == 512 << 16 | 8 << 8 | 16

    run(bench, MMULT)


def test_start_is_one_cycle_long_and_the_kernel_is_busy_until_done():
    async def bench(master: Master) -> None:
        assert await master.read(0) == Control.IDLE
        master.set(awaddr=0, wdata=Control.START, wstrb=0xF, bready=1)
        await master.handshake("aw")
        await master.handshake("w")
        starts = 0
        for _ in range(10):
            starts += master.context.get(master.unit.start)
            await master.step()
        assert starts == 1
        assert await master.read(0) == Control.START
        await master.end()
        assert await master.read(0) == Control.DONE | Control.IDLE | Control.READY
        assert await master.read(0) == Control.IDLE

    run(bench)


def test_start_and_arguments_are_ignored_while_the_kernel_runs():
    async def bench(master: Master) -> None:
        await master.write(LENGTH, 5)
        await master.write(0, Control.START)
        await master.write(LENGTH, 6)
        master.set(awaddr=0, wdata=Control.START, wstrb=0xF, bready=1)
        await master.handshake("aw")
        await master.handshake("w")
        for _ in range(5):
            assert not master.context.get(master.unit.start)
            await master.step()
        await master.end()
        await master.step(5)
        assert await master.read(0) == Control.DONE | Control.IDLE | Control.READY
        assert master.argument("length") == 5
        await master.write(LENGTH, 6)
        assert master.argument("length") == 6

    run(bench)


@pytest.mark.parametrize("cycle", range(-3, 4))
def test_no_end_of_a_job_is_lost_to_a_read_at_about_the_same_time(cycle: int):
    async def bench(master: Master) -> None:
        """However the read falls, one read in all sees done."""
        await master.write(0, Control.START)
        master.set(araddr=0, rready=1)
        values = []
        for now in range(-3, 8):
            master.set(arvalid=now == 0)
            master.context.set(master.unit.done, now == cycle)
            if master.context.get(master.bus.rvalid):
                values.append(master.context.get(master.bus.rdata))
            await master.step()
        values.append(await master.read(0))
        assert [bool(value & Control.DONE) for value in values].count(True) == 1
        assert len(values) == 2

    run(bench)


def test_cycles_status_and_fault_are_those_of_the_last_job():
    async def bench(master: Master) -> None:
        for length, status, fault in ((9, Status.WRITE_ERROR, 0x1234), (30, Status.OK, 0)):
            master.set(awaddr=0, wdata=Control.START, wstrb=0xF, bready=1)
            await master.handshake("aw")
            await master.handshake("w")
            while not master.context.get(master.unit.start):
                await master.step()
            await master.step(length - 1)
            await master.end(status, fault)
            await master.step(5)
            assert await master.read(registers.CYCLES.offset) == length
            assert await master.read(registers.STATUS.offset) == status
            assert await master.read(registers.FAULT.offset) == fault

    run(bench)


def test_the_interrupt_is_a_level_that_needs_both_enables_and_goes_when_toggled():
    enable, event, pending = 0x04, 0x08, 0x0C

    async def bench(master: Master) -> None:
        async def job() -> None:
            await master.write(0, Control.START)
            await master.end()

        async def line() -> int:
            await master.step(3)
            return int(master.context.get(master.unit.irq))

        await master.write(enable, 1)
        await job()
        assert (await master.read(pending), await line()) == (0, 0), "the event is not enabled"
        await master.write(event, 1)
        await master.write(enable, 0)
        await job()
        assert (await master.read(pending), await line()) == (1, 0), "interrupts are not enabled"
        await master.write(enable, 1)
        assert await line() == 1
        await master.read(0)
        await job()
        assert (await master.read(pending), await line()) == (1, 1), "it stays"
        await master.write(pending, 0)
        assert await line() == 1
        await master.write(pending, 1)
        assert (await master.read(pending), await line()) == (0, 0)
        await master.write(pending, 1)
        assert (await master.read(pending), await line()) == (1, 1), "writing 1 toggles"

    run(bench)


def test_an_event_in_the_cycle_in_which_another_is_cleared_is_kept():
    async def bench(master: Master) -> None:
        await master.write(0x08, 1)
        await master.write(0, Control.START)
        await master.end()
        await master.write(0, Control.START)
        master.set(awaddr=0x0C, wdata=1, wstrb=0xF, bready=1)
        await master.handshake("aw")
        await master.handshake("w")
        await master.end()  # the cycle in which the write takes effect
        assert await master.read(0x0C) == 1

    run(bench)
