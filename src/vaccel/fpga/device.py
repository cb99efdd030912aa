"""The seam below the drivers: one board, real (`board`) or simulated (`simulator`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


def never() -> bool:
    return False


class Buffer(Protocol):
    """Contiguous memory that the processor and the fabric share, aligned to a page.

    The fabric does not see the processor's cache: what it shall read must be flushed, what it
    wrote must be invalidated before it is read here. Both take the first `nbytes` bytes, or all.
    """

    @property
    def array(self) -> npt.NDArray[np.uint8]: ...

    @property
    def physical_address(self) -> int: ...

    def flush(self, nbytes: int | None = None) -> None: ...

    def invalidate(self, nbytes: int | None = None) -> None: ...

    def free(self) -> None: ...


class Info(NamedTuple):
    """What `vaccel fpga info` shows. Sizes in bytes."""

    name: str
    overlay: str
    clock_hz: float
    memory: int
    memory_free: int


class Device(Protocol):
    """One board. Not safe for threads: the driver serves one call at a time."""

    @property
    def simulated(self) -> bool: ...

    @property
    def clock_hz(self) -> float: ...

    def program(self) -> Mapping[str, int]:
        """(Re)load the overlay; give the base address of each kernel by name. Resets them all.

        Buffers that were allocated stay valid.
        """

    def allocate(self, nbytes: int) -> Buffer:
        """Raises ResourceExhausted, with what was asked and what is free."""

    def read32(self, address: int) -> int: ...

    def write32(self, address: int, value: int) -> None: ...

    def wait(self, base: int, cycles: int, ended: Callable[[], bool] = never) -> bool:
        """Wait until the kernel at `base` has interrupted; False if `cycles` pass before that.

        A device whose jobs take long may also return False once `ended()`. The interrupt must be
        enabled, and stays pending.
        """

    def info(self) -> Info: ...

    def close(self) -> None:
        """Give everything back. Buffers are gone; closing twice is fine."""
