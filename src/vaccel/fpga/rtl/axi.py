"""The AXI master of a kernel, with 64-bit data: its port, and that port's halves."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

_READ = {
    "araddr": Out(32),
    "arlen": Out(8),
    "arvalid": Out(1),
    "arready": In(1),
    "rdata": In(64),
    "rresp": In(2),
    "rlast": In(1),
    "rvalid": In(1),
    "rready": Out(1),
}
_WRITE = {
    "awaddr": Out(32),
    "awlen": Out(8),
    "awvalid": Out(1),
    "awready": In(1),
    "wdata": Out(64),
    "wstrb": Out(8),
    "wlast": Out(1),
    "wvalid": Out(1),
    "wready": In(1),
    "bresp": In(2),
    "bvalid": In(1),
    "bready": Out(1),
}
# The same in all bursts: beats of 8 bytes; rising addresses; normal memory, modifiable and
# bufferable; unprivileged, secure data access.
_FIXED = {"size": (3, 3), "burst": (2, 1), "cache": (4, 0b0011), "prot": (3, 0)}

ReadPort = wiring.Signature(_READ)
WritePort = wiring.Signature(_WRITE)
"""The halves of a master, for the engines in a kernel."""

MasterPort = wiring.Signature(
    {
        **_READ,
        **_WRITE,
        **{
            f"{way}{name}": Out(width)
            for way in ("ar", "aw")
            for name, (width, _) in _FIXED.items()
        },
    }
)
"""A kernel's `m_axi`."""


def join(
    m: Module, master: wiring.PureInterface, read: wiring.PureInterface, write: wiring.PureInterface
) -> None:
    """Make the kernel's `MasterPort` of a reader's `ReadPort` and a writer's `WritePort`."""
    for half in (read, write):
        for name in half.signature.members:
            outer, inner = getattr(master, name), getattr(half, name)
            out = MasterPort.members[name].flow == Out
            m.d.comb += outer.eq(inner) if out else inner.eq(outer)
    for way in ("ar", "aw"):
        for name, (_, value) in _FIXED.items():
            m.d.comb += getattr(master, way + name).eq(value)
