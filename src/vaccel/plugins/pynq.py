"""pynq: the four FPGA operations, on a PYNQ-Z1 or on its simulation (VACCEL_PYNQ_DEVICE).

Calls of all sessions are served one at a time, in the order in which they arrive.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vaccel import log, runtime
from vaccel.config import Config
from vaccel.error import FFIError, PluginError, SessionClosed
from vaccel.fpga import boards
from vaccel.fpga.device import Device
from vaccel.fpga.drivers import OPERATIONS, Accelerator
from vaccel.fpga.pool import Share
from vaccel.fpga.turns import Turns
from vaccel.ops.catalog import BY_NAME, Operations
from vaccel.ops.spec import Operation
from vaccel.plugin import Plugin, PluginType
from vaccel.profiling import Profiler, clock_ns

if TYPE_CHECKING:
    from vaccel.session import Session


class PynqPlugin(Plugin):
    """Opens its device when the runtime starts, and programs it at the first call."""

    def __init__(self, open_device: Callable[[], Device] = boards.open_device) -> None:
        super().__init__("fpga_functions", PluginType.FPGA, summary="the fabric of a PYNQ-Z1")
        self._open_device = open_device
        for name, function in OPERATIONS.items():
            call = functools.partial(self._call, BY_NAME[name], function.call)
            self.kernel(getattr(Operations, name))(call)
        self._profiling = False
        self._parents: list[Accelerator | None] = []
        self._begin()

    def _begin(self) -> None:
        self._accelerator: Accelerator | None = None
        self._turns = Turns()
        self._shares: dict[Session, Share] = {}

    def operations(self) -> list[Operation]:
        """In the order in which the original plugin registers them."""
        return [BY_NAME[name] for name in OPERATIONS]

    # -- lifetimes -----------------------------------------------------------------------------

    def check(self) -> None:
        try:
            boards.check()
        except FFIError as exc:
            raise PluginError(exc.message) from exc

    def start(self, config: Config) -> None:
        self._profiling = config.profiling_enabled
        self._accelerator = Accelerator(self._open_device())

    def close(self) -> None:
        with self._turns:  # a job that still runs writes to memory that is given back here
            accelerator, self._accelerator = self._accelerator, None
            if accelerator is not None:
                accelerator.close()

    def disown(self) -> None:
        # Kept, for pynq's buffers free themselves with their last reference: the parent's, here.
        self._parents.append(self._accelerator)
        self._begin()

    def open_session(self, session: Session) -> None:
        if self._accelerator is not None:
            self._shares[session] = self._accelerator.pool.share()

    def close_session(self, session: Session) -> None:
        share = self._shares.pop(session, None)
        if share is not None:
            share.ended = True
            self._sweep()

    def _sweep(self) -> None:
        """Free what ended sessions hold; while a call runs, that is left to its end."""
        while (accelerator := self._accelerator) and accelerator.pool.due:
            if not self._turns.enter_if_free():
                return
            try:
                if self._accelerator is accelerator:
                    accelerator.pool.sweep()
            finally:
                self._turns.leave()

    # -- calls ---------------------------------------------------------------------------------

    def _call(
        self, op: Operation, method: Callable[..., Any], session: Session, *values: Any
    ) -> Any:
        log.bare(f"Calling {op.title} function (FPGA) {session.id}")
        try:
            with self._turns:
                accelerator, share = self._accelerator, self._shares.get(session)
                if accelerator is None or share is None:
                    raise SessionClosed(f"session {session.id} was closed before its call began")
                start = clock_ns()
                result = method(accelerator, *values, share=share)
                if self._profiling:
                    _report(op, accelerator, start, runtime.current().profiler)
                return result
        finally:
            self._sweep()


def _report(op: Operation, accelerator: Accelerator, start: int, profiler: Profiler) -> None:
    """The kernel's cycles, and their time at the overlay's clock."""
    work, clock_hz = accelerator.last, accelerator.device.clock_hz
    nanoseconds = round(work.cycles / clock_hz * 1e9)
    estimate = " (estimate)" if accelerator.device.simulated else ""
    profiler.add(f"[{op.name}] {work.kernel} kernel{estimate}", start, nanoseconds)
    log.info(
        "[prof] %s: %s kernel: %d cycles in %d job%s, %.6g us at %g MHz%s",
        op.name,
        work.kernel,
        work.cycles,
        work.jobs,
        "" if work.jobs == 1 else "s",
        nanoseconds / 1e3,
        clock_hz / 1e6,
        estimate,
    )


plugin = PynqPlugin()
