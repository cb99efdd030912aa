"""A kernel's registers: AXI4-Lite below, start and done above (`ap_ctrl_hs` of UG1399)."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from .. import registers
from ..registers import Kernel, Register, Status

ADDRESS_BITS = (registers.WINDOW - 1).bit_length()

RegisterPort = wiring.Signature(
    {
        "awaddr": Out(ADDRESS_BITS),
        "awvalid": Out(1),
        "awready": In(1),
        "wdata": Out(32),
        "wstrb": Out(4),
        "wvalid": Out(1),
        "wready": In(1),
        "bresp": In(2),
        "bvalid": In(1),
        "bready": Out(1),
        "araddr": Out(ADDRESS_BITS),
        "arvalid": Out(1),
        "arready": In(1),
        "rdata": In(32),
        "rresp": In(2),
        "rvalid": In(1),
        "rready": Out(1),
    }
)
"""As the master sees it. Every response is OKAY; unknown addresses read 0 and ignore writes."""


class Control(wiring.Component):
    """The registers of `kernel`, built with the sizes `capability`, by field name.

    `start` is high for one cycle; then the kernel works until it raises `done` for one cycle, with
    `status` and `fault` beside it. `arguments` do not change meanwhile: writes to them are ignored.
    """

    def __init__(self, kernel: Kernel, capability: Mapping[str, int]) -> None:
        self._kernel = kernel
        self._capability = sum(
            capability[field.name] << field.bit for field in kernel.capability.fields
        )
        self._idle = Signal(init=1)
        self._done = Signal()
        self._global_enable = Signal()
        self._enable = Signal()
        self._pending = Signal()
        super().__init__(
            {
                "bus": In(RegisterPort),
                "irq": Out(1),
                "start": Out(1),
                "done": In(1),
                "status": In(Status),
                "fault": In(32),
                "arguments": Out(StructLayout({each.name: 32 for each in kernel.arguments})),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._answer_writes(m)
        self._answer_reads(m)
        # After the bus, so that an event outlasts the access of the same cycle.
        with m.If(self.done):
            m.d.sync += [self._idle.eq(1), self._done.eq(1)]
            with m.If(self._enable):
                m.d.sync += self._pending.eq(1)
        m.d.comb += self.irq.eq(self._global_enable & self._pending)
        return m

    def _answer_writes(self, m: Module) -> None:
        """Address and data come in any order, each is held until the other is there.

        No ready depends on a valid in the same cycle: AXI forbids such paths (IHI 0022, A3.2.1).
        """
        bus = self.bus
        address, data, strobe = Signal(ADDRESS_BITS), Signal(32), Signal(4)
        has_address, has_data, write = Signal(), Signal(), Signal()
        m.d.comb += [
            bus.awready.eq(~has_address),
            bus.wready.eq(~has_data),
            write.eq(has_address & has_data & (~bus.bvalid | bus.bready)),
        ]
        m.d.sync += self.start.eq(0)
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(write):
            m.d.sync += [has_address.eq(0), has_data.eq(0), bus.bvalid.eq(1)]
            self._store(m, address, data, strobe)
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [address.eq(bus.awaddr), has_address.eq(1)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [data.eq(bus.wdata), strobe.eq(bus.wstrb), has_data.eq(1)]

    def _store(self, m: Module, address: Signal, data: Signal, strobe: Signal) -> None:
        first = data[0] & strobe[0]  # all bits that control has are bit 0
        with m.Switch(address[2:]):
            with m.Case(registers.CONTROL.offset >> 2):
                with m.If(first & self._idle):
                    m.d.sync += [self.start.eq(1), self._idle.eq(0)]
            with m.Case(registers.GLOBAL_INTERRUPT.offset >> 2):
                m.d.sync += self._global_enable.eq(Mux(strobe[0], data[0], self._global_enable))
            with m.Case(registers.INTERRUPT_ENABLE.offset >> 2):
                m.d.sync += self._enable.eq(Mux(strobe[0], data[0], self._enable))
            with m.Case(registers.INTERRUPT_STATUS.offset >> 2):
                m.d.sync += self._pending.eq(self._pending ^ first)
            for register in self._kernel.arguments:
                with m.Case(register.offset >> 2):
                    argument = self.arguments[register.name]
                    for lane in range(4):
                        with m.If(strobe[lane] & self._idle):
                            m.d.sync += argument.word_select(lane, 8).eq(data.word_select(lane, 8))

    def _answer_reads(self, m: Module) -> None:
        bus = self.bus
        m.d.comb += bus.arready.eq(~bus.rvalid)
        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        values = self._values(m)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [bus.rvalid.eq(1), bus.rdata.eq(0)]
            with m.Switch(bus.araddr[2:]):
                for register, value in values.items():
                    with m.Case(register.offset >> 2):
                        m.d.sync += bus.rdata.eq(value)
                        if register is registers.CONTROL:
                            m.d.sync += self._done.eq(0)

    def _values(self, m: Module) -> dict[Register, Value]:
        """What each register reads as."""
        cycles, status, fault = Signal(32), Signal(Status), Signal(32)
        with m.If(self.start):
            m.d.sync += cycles.eq(1)
        with m.Elif(~self._idle):
            m.d.sync += cycles.eq(cycles + 1)
        with m.If(self.done):
            m.d.sync += [status.eq(self.status), fault.eq(self.fault)]
        arguments = {each: self.arguments[each.name] for each in self._kernel.arguments}
        return {
            registers.CONTROL: Cat(~self._idle, self._done, self._idle, self._done),
            registers.GLOBAL_INTERRUPT: self._global_enable,
            registers.INTERRUPT_ENABLE: self._enable,
            registers.INTERRUPT_STATUS: self._pending,
            **arguments,
            registers.STATUS: status,
            registers.CYCLES: cycles,
            registers.FAULT: fault,
            registers.IDENTIFICATION: Const(self._kernel.identification, 32),
            registers.VERSION_REGISTER: Const(registers.VERSION, 32),
            self._kernel.capability: Const(self._capability, 32),
        }
