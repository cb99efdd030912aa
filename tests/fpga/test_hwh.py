"""The hardware hand-off describes the kernels of the register map and how they are joined.

What pynq makes of it is tested in tests/pynq, with pynq itself.
"""

from __future__ import annotations

import itertools
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaccel.fpga import hwh, overlay, registers
from vaccel.fpga.registers import Kernel

KERNELS = pytest.mark.parametrize("kernel", registers.KERNELS.values(), ids=lambda k: k.name)


@pytest.fixture(scope="module")
def system() -> Element:
    return ElementTree.fromstring(hwh.document())


def module(system: Element, instance: str) -> Element:
    (found,) = (m for m in system.iter("MODULE") if m.get("INSTANCE") == instance)
    return found


def properties(element: Element) -> dict[str, str]:
    return {p.get("NAME", ""): p.get("VALUE", "") for p in element.findall("PROPERTY")}


def parameters(element: Element) -> dict[str, str]:
    return {p.get("NAME", ""): p.get("VALUE", "") for p in element.findall("PARAMETERS/PARAMETER")}


@KERNELS
def test_it_has_every_register_and_field_of_the_kernel(system: Element, kernel: Kernel):
    found = []
    for register in module(system, kernel.name).iter("REGISTER"):
        about = properties(register)
        fields = [
            (
                field.get("NAME"),
                int(properties(field)["BIT_OFFSET"]),
                int(properties(field)["BIT_WIDTH"]),
                properties(field)["DESCRIPTION"],
                properties(field)["ACCESS"],
            )
            for field in register.iter("FIELD")
        ]
        offset, size = int(about["ADDRESS_OFFSET"], 16), int(about["SIZE"])
        words = (register.get("NAME"), offset, size, about["DESCRIPTION"], about["ACCESS"])
        found.append((*words, fields))
    assert found == [
        (
            *(r.name, r.offset, 32, r.description, r.access.value),
            [(f.name, f.bit, f.width, f.description, f.access.value) for f in r.fields],
        )
        for r in kernel.registers
    ]


@KERNELS
def test_the_processor_finds_the_kernel_at_its_base(system: Element, kernel: Kernel):
    (found,) = (
        each
        for each in module(system, overlay.PROCESSOR).iter("MEMRANGE")
        if each.get("INSTANCE") == kernel.name
    )
    base, high = (int(found.get(key, ""), 16) for key in ("BASEVALUE", "HIGHVALUE"))
    assert (base, high + 1 - base) == (kernel.base, registers.WINDOW)
    assert found.get("MEMTYPE") == "REGISTER"


@KERNELS
def test_the_kernel_reaches_all_memory_by_the_hp_port(system: Element, kernel: Kernel):
    (found,) = module(system, kernel.name).iter("MEMRANGE")
    assert (found.get("INSTANCE"), found.get("SLAVEBUSINTERFACE")) == (
        "processing_system7_0",
        "S_AXI_HP0",
    )
    assert int(found.get("BASEVALUE", ""), 16) == 0
    assert int(found.get("HIGHVALUE", ""), 16) == 512 * 2**20 - 1


def test_no_two_ranges_of_the_processor_overlap(system: Element):
    ranges = sorted(
        (int(each.get("BASEVALUE", ""), 16), int(each.get("HIGHVALUE", ""), 16))
        for each in module(system, overlay.PROCESSOR).iter("MEMRANGE")
    )
    assert len(ranges) == len(registers.KERNELS) + 1
    assert all(high < base for (_, high), (base, _) in itertools.pairwise(ranges))


def test_a_connection_is_written_at_both_ends(system: Element):
    ends = {
        ((each.get("INSTANCE"), port.get("NAME")), (end.get("INSTANCE"), end.get("PORT")))
        for each in system.iter("MODULE")
        for port in each.iter("PORT")
        for end in port.iter("CONNECTION")
    }
    assert ends
    assert ends == {(there, here) for here, there in ends}


def test_interrupts_come_in_the_order_of_the_register_map(system: Element):
    joined = {
        (each.get("INSTANCE"), port.get("NAME")): (end.get("INSTANCE"), end.get("PORT"))
        for each in system.iter("MODULE")
        for port in each.iter("PORT")
        for end in port.iter("CONNECTION")
    }
    for index, name in enumerate(registers.KERNELS):
        concat, port = joined[name, "interrupt"]
        assert port == f"In{index}"
        controller, port = joined[concat, "dout"]
        assert port == "intr"
        assert joined[controller, "irq"] == ("processing_system7_0", "IRQ_F2P")
        assert "axi_intc" in module(system, str(controller)).get("VLNV", "")


def test_only_the_kernels_clock_runs_and_at_its_frequency(system: Element):
    found = parameters(module(system, overlay.PROCESSOR))
    assert [found[f"PCW_FPGA_FCLK{index}_ENABLE"] for index in range(4)] == ["1", "0", "0", "0"]
    divisor = int(found["PCW_FCLK0_PERIPHERAL_DIVISOR0"]) * int(
        found["PCW_FCLK0_PERIPHERAL_DIVISOR1"]
    )
    assert 1_000_000_000 / divisor == registers.CLOCK_HZ
    assert float(found["PCW_ACT_FPGA0_PERIPHERAL_FREQMHZ"]) * 1e6 == registers.CLOCK_HZ


def test_the_hp_port_is_as_wide_as_the_kernels_port(system: Element):
    found = parameters(module(system, overlay.PROCESSOR))
    assert found["PCW_S_AXI_HP0_DATA_WIDTH"] == "64"
    widths = {
        each.get("NAME"): each.get("DATAWIDTH")
        for name in (overlay.PROCESSOR, *registers.KERNELS)
        for each in module(system, name).iter("BUSINTERFACE")
    }
    assert widths["S_AXI_HP0"] == widths["m_axi_gmem"] == "64"


@given(st.integers(300_000, 250_000_000))
def test_the_clock_is_the_fastest_that_is_not_too_fast(hz: int):
    setting = overlay.clock(hz)
    possible = {1e9 / (a * b) for a in range(1, 64) for b in range(1, 64)}
    assert setting.hz == max(each for each in possible if each <= hz)
    assert 1 <= setting.divisor1 <= setting.divisor0 <= 63
