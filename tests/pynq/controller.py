"""An AXI interrupt controller (PG099) and, at its output, the UIO device that Linux makes of it."""

from __future__ import annotations

import os
from pathlib import Path

STATUS, PENDING, ENABLE, ACKNOWLEDGE, SET_ENABLE, CLEAR_ENABLE, MASTER_ENABLE = (
    *(0x00, 0x04, 0x08),
    *(0x0C, 0x10, 0x14, 0x1C),
)


class InterruptController:
    """Its inputs are levels. The UIO device is a FIFO at `path`.

    What a program writes to enable the device, `update` takes out before it can be read again: so
    programs must write a register after it and before they wait.

    interrupts: how many there were. deaf: sees none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._file = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.interrupts = 0
        self.deaf = False
        self.reset()

    def reset(self) -> None:
        self._status = self._enabled = self._master = 0
        self._armed = False

    @property
    def waited_for(self) -> bool:
        """An input that goes up now will interrupt the program."""
        return bool(self._armed and self._master == 3 and self._enabled)

    def read(self, offset: int) -> int:
        return {
            STATUS: self._status,
            PENDING: self._status & self._enabled,
            ENABLE: self._enabled,
            MASTER_ENABLE: self._master,
        }.get(offset, 0)

    def write(self, offset: int, word: int) -> None:
        if offset == ENABLE:
            self._enabled = word
        elif offset == ACKNOWLEDGE:
            self._status &= ~word
        elif offset == SET_ENABLE:
            self._enabled |= word
        elif offset == CLEAR_ENABLE:
            self._enabled &= ~word
        elif offset == MASTER_ENABLE:
            self._master = word

    def update(self, inputs: int) -> None:
        """See the inputs that are high now, and interrupt the program if there is reason."""
        self._status |= 0 if self.deaf else inputs
        self._armed |= self._enable_written()
        if self.waited_for and self._status & self._enabled:
            self._armed = False  # as the kernel masks the line, until it is enabled anew
            self.interrupts += 1
            os.write(self._file, self.interrupts.to_bytes(4, "little"))

    def _enable_written(self) -> bool:
        try:
            return bool(os.read(self._file, 4096))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._file)
