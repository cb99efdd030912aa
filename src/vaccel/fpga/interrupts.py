"""The kernels' interrupts on a board: an AXI interrupt controller whose line is a UIO device.

pynq's own `Interrupt` belongs to the asyncio loop of the thread that made it, and cannot be waited
for where another loop runs, as in a notebook. A file descriptor serves any thread.
Unrun on a board: so `wait` may also return for no reason, and ends by itself soon enough.
"""

from __future__ import annotations

import os
import select
from collections.abc import Mapping, Sequence
from typing import Any

# Registers of the AXI interrupt controller (PG099).
ACKNOWLEDGE = 0x0C
SET_ENABLE = 0x10
CLEAR_ENABLE = 0x14
MASTER_ENABLE = 0x1C

MAX_WAIT = 50e-3  # seconds: what a lost interrupt costs

_ENABLE = (1).to_bytes(4, "little")  # what a generic UIO device takes to let one interrupt through


class Interrupts:
    """Waits for kernels, which are known by their base addresses.

    controller: MMIO of the interrupt controller. uio: path of the device. inputs: of the
    controller, by base address.
    """

    def __init__(self, controller: Any, uio: str, inputs: Mapping[int, int]) -> None:
        self._controller = controller
        self._inputs = dict(inputs)
        self._file = os.open(uio, os.O_RDWR | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLIN)

    @classmethod
    def find(
        cls, overlay: Any, device: Any, kernels: Sequence[Mapping[str, Any]]
    ) -> Interrupts | None:
        """Those of `kernels`, entries of the overlay's ip_dict.

        None unless all reach one controller, and it the processor as a UIO device.
        """
        from pynq import MMIO, interrupt

        lines = {k["phys_addr"]: line for k in kernels for line in k["interrupts"].values()}
        controllers = {line["controller"] for line in lines.values()}
        if len(lines) < len(kernels) or len(controllers) != 1:
            return None
        (controller,) = controllers
        wiring = overlay.interrupt_controllers[controller]
        if wiring["parent"]:
            return None
        try:
            uio = interrupt.get_uio_irq(wiring["raw_irq"])
        except OSError:  # this Linux has no UIO devices
            return None
        if uio is None:
            return None
        entry = overlay.ip_dict[controller]
        registers = MMIO(entry["phys_addr"], entry["addr_range"], device=device)
        return cls(registers, uio, {base: line["index"] for base, line in lines.items()})

    def wait(self, base: int, seconds: float) -> None:
        """Return when the kernel at `base` interrupts, after `seconds`, or earlier."""
        mask = 1 << self._inputs[base]
        self._controller.write(MASTER_ENABLE, 3)  # anew: the fabric may have been programmed
        self._controller.write(ACKNOWLEDGE, mask)  # the one before, whose cause is dealt with
        os.write(self._file, _ENABLE)
        self._controller.write(SET_ENABLE, mask)
        if self._poll.poll(min(seconds, MAX_WAIT) * 1e3):
            os.read(self._file, 4)  # how many there were so far
        self._controller.write(CLEAR_ENABLE, mask)

    def close(self) -> None:
        os.close(self._file)
