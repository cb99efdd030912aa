"""The kernels' cycles, and the simulated board's speed; the drivers above both are the board's own.

Cycles are exact: they come from the kernels' registers in a bit-accurate simulation, with a memory
that answers after 20 cycles and takes a beat a cycle each way. Seconds are the simulation's.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import figures
from benchmarks.figures import Figure, Part
from benchmarks.measures import Effort, Figures, expect
from vaccel.fpga.drivers import Accelerator
from vaccel.fpga.registers import MMULT
from vaccel.fpga.simulator import Simulator

N = 1_000_000
SIDE = 128

FIGURES = (
    Figure("vadd_cycles_per_element", f"vector add of {N}, drivers included", 1.05),
    Figure("parallel_cycles_per_element", f"sum and product of {N} in one pass", 1.2),
    Figure("copy_cycles_per_element", f"array copy of {N}", 0.6),
    Figure(
        "mmult_mac_per_cycle_ratio", f"multiply-adds a cycle / lanes, {SIDE} x {SIDE}", least=0.85
    ),
    Figure("mmult_cycles", f"product of {SIDE} x {SIDE}"),
    Figure(
        "driver_bytes_copied_ratio", "bytes copied by the drivers / of arguments and results", 1.0
    ),
    Figure("sim_vadd_1e6_s", f"simulated vector add of {N}"),
    Figure("sim_small_call_us", "simulated vector add of 16, registers and buffers included"),
)


def elementwise(effort: Effort) -> Figures:
    a, b = _random(N), _random(N)
    ints = a.view(np.int32)
    with _accelerator() as run:
        seconds = []

        def add() -> Any:
            start = time.perf_counter()
            result = run.add(a, b)
            seconds.append(time.perf_counter() - start)
            return result

        vadd = _cycles(run, add, a + b) / N
        parallel = _cycles(run, lambda: np.stack(run.add_and_multiply(a, b)), [a + b, a * b]) / N
        copy = _cycles(run, lambda: run.copy(ints), ints) / N
        # Two arguments and a result; two and two; one and one.
        ratio = run.bytes_copied / (a.nbytes * (3 + 4 + 2))
        for _ in range(effort.long_rounds - 1):
            add()
    return {
        "vadd_cycles_per_element": vadd,
        "parallel_cycles_per_element": parallel,
        "copy_cycles_per_element": copy,
        "driver_bytes_copied_ratio": ratio,
        "sim_vadd_1e6_s": statistics.median(seconds),
    }


def small(effort: Effort) -> Figures:
    a, b = _random(16), _random(16)
    seconds = []
    with _accelerator() as run:
        for _ in range(10 * effort.rounds):
            start = time.perf_counter()
            run.add(a, b)
            seconds.append(time.perf_counter() - start)
    return {"sim_small_call_us": statistics.median(seconds) * 1e6}


def mmult(effort: Effort) -> Figures:
    a, b = _random(SIDE, SIDE), _random(SIDE, SIDE)
    ordered = np.zeros_like(a)
    for k in range(SIDE):
        ordered += np.multiply.outer(a[:, k], b[k])
    with _accelerator() as run:
        cycles = _cycles(run, lambda: run.matmul(a, b), ordered)
        lanes = run.device.read32(MMULT.base + MMULT.capability.offset) & 0xFF
    return {"mmult_cycles": cycles, "mmult_mac_per_cycle_ratio": SIDE**3 / cycles / lanes}


def _cycles(run: Accelerator, call: Callable[[], Any], expected: Any) -> int:
    expect(call(), expected, "the simulated board")
    return run.last.cycles


@contextlib.contextmanager
def _accelerator() -> Iterator[Accelerator]:
    with contextlib.closing(Accelerator(Simulator())) as run:
        yield run


def _random(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(1).standard_normal(shape, np.float32)


PARTS: tuple[Part, ...] = (
    (elementwise, ("vadd_", "parallel_", "copy_", "driver_", "sim_vadd_")),
    (small, ("sim_small_",)),
    (mmult, ("mmult_",)),
)


if __name__ == "__main__":
    sys.exit(figures.main(__doc__, FIGURES, PARTS))
