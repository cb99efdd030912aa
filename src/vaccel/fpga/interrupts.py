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
ENABLE = 0x08
ACKNOWLEDGE = 0x0C
MASTER_ENABLE = 0x1C

MAX_WAIT = 50e-3  # seconds: what a lost interrupt costs

_UNMASK = (1).to_bytes(4, "little")  # lets a UIO device interrupt once


class Interrupts:
    """Those of all kernels together: only one is at work at a time.

    controller: MMIO of the interrupt controller. uio: path of the device. inputs: the kernels', a
    bit each.
    """

    def __init__(self, controller: Any, uio: str, inputs: int) -> None:
        self._controller = controller
        self._inputs = inputs
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

        lines = [line for kernel in kernels for line in kernel["interrupts"].values()]
        controllers = {line["controller"] for line in lines}
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
        return cls(registers, uio, sum(1 << line["index"] for line in lines))

    def wait(self, seconds: float) -> None:
        """Return when a kernel interrupts, after `seconds`, or earlier."""
        self._controller.write(MASTER_ENABLE, 3)  # anew: the fabric may have been programmed
        self._controller.write(ACKNOWLEDGE, self._inputs)  # what was dealt with before
        os.write(self._file, _UNMASK)
        self._controller.write(ENABLE, self._inputs)
        if self._poll.poll(min(seconds, MAX_WAIT) * 1e3):
            os.read(self._file, 4)  # how many there were so far

    def close(self) -> None:
        os.close(self._file)
