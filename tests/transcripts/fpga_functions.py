"""A plugin with the name and the operations of the board's, whose kernels are the processor's."""

from __future__ import annotations

from typing import Any

from vaccel import log
from vaccel.ops.catalog import Operations
from vaccel.plugin import Plugin, PluginType
from vaccel.plugins import cpu
from vaccel.session import Session

plugin = Plugin("fpga_functions", PluginType.FPGA)
plugin.kernel(Operations.fpga_arraycopy)(cpu.fpga_arraycopy)
plugin.kernel(Operations.fpga_parallel)(cpu.fpga_parallel)
plugin.kernel(Operations.fpga_mmult)(cpu.fpga_mmult)


@plugin.kernel(Operations.fpga_vadd)
def fpga_vadd(session: Session, a: Any, b: Any) -> Any:
    log.bare(f"Calling Vector Add function (FPGA) {session.id}")
    return cpu.fpga_vadd(session, a, b)
