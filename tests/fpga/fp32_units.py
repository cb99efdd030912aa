"""Both floating-point units in one compiled model: their real RTL, fed a pair every cycle."""

from __future__ import annotations

import ctypes
import functools

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tests.fpga.fp32_pairs import Pairs, Words
from vaccel.fpga import toolchain, tools
from vaccel.fpga.rtl import export
from vaccel.fpga.rtl.fp32 import FAdd, FMul

# A result is there `latency` edges after its operands, no earlier and no later. After the last
# pair come zeros, which must not disturb those still under way.
HARNESS = """
#include <algorithm>
#include <cstdint>
#include "design.h"

#define API extern "C" __attribute__((visibility("default")))

API void fp32_run(const uint32_t *a, const uint32_t *b, uint32_t *total, uint32_t *product,
                  uint64_t count, uint64_t add_latency, uint64_t multiply_latency) {
    Design d;
    set(d.PIN(rst), 0);
    for (uint64_t edges = 0; edges < count + std::max(add_latency, multiply_latency); ++edges) {
        set(d.PIN(a), edges < count ? a[edges] : 0);
        set(d.PIN(b), edges < count ? b[edges] : 0);
        set(d.PIN(clk), 0);
        d.settle();
        if (edges >= add_latency && edges - add_latency < count)
            total[edges - add_latency] = get(d.PIN(total));
        if (edges >= multiply_latency && edges - multiply_latency < count)
            product[edges - multiply_latency] = get(d.PIN(product));
        set(d.PIN(clk), 1);
        d.settle();
    }
}
"""


class Both(wiring.Component):  # type: ignore[misc] # Amaranth has no types
    def __init__(self) -> None:
        super().__init__({"a": In(32), "b": In(32), "total": Out(32), "product": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.add = add = FAdd()
        m.submodules.multiply = multiply = FMul()
        for unit, result in ((add, self.total), (multiply, self.product)):
            m.d.comb += [unit.a.eq(self.a), unit.b.eq(self.b), result.eq(unit.o)]
        return m


class Units:
    """The compiled model; the first one on a machine takes some seconds to build."""

    def __init__(self) -> None:
        self._run = _library().fp32_run
        words = np.ctypeslib.ndpointer(np.uint32, ndim=1, flags="C_CONTIGUOUS")
        self._run.argtypes = [words] * 4 + [ctypes.c_uint64] * 3
        self._run.restype = None

    def run(self, a: Words, b: Words) -> Pairs:
        """Sums and products of a and b, one pair a cycle."""
        if a.shape != b.shape:
            raise ValueError(f"b: expected {len(a)} numbers, as in a; found {len(b)}")
        operands = [np.ascontiguousarray(side, np.uint32) for side in (a, b)]
        total, product = np.zeros_like(operands[0]), np.zeros_like(operands[0])
        self._run(*operands, total, product, len(a), FAdd.LATENCY, FMul.LATENCY)
        return total, product


@functools.cache
def _library() -> ctypes.CDLL:
    tool = tools.choose()
    design = getattr(export, tool.language)(Both(), "fp32")
    return ctypes.CDLL(str(toolchain.build("fp32", design, {"fp32.cpp": HARNESS}, tool=tool)))
