"""Regions around calls: when each began and how long it took, on one monotonic clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

clock_ns = time.monotonic_ns

# A long-running agent must not grow with every call: each region keeps its most recent samples.
MAX_SAMPLES = 10_000


class Sample(NamedTuple):
    """Start and duration, in nanoseconds of the monotonic clock."""

    start: int
    time: int


class Profiler:
    """Samples by region name; safe to share between threads."""

    def __init__(self, component: str, *, enabled: bool) -> None:
        self.component = component
        self.enabled = enabled
        self._lock = threading.Lock()
        self._regions: dict[str, list[Sample]] = {}

    @contextmanager
    def region(self, name: str) -> Iterator[None]:
        if not self.enabled:
            yield
            return
        start = clock_ns()
        try:
            yield
        finally:
            self.add(name, start, clock_ns() - start)

    def add(self, name: str, start: int, duration: int) -> None:
        with self._lock:
            samples = self._regions.setdefault(name, [])
            if len(samples) >= MAX_SAMPLES:
                del samples[: MAX_SAMPLES // 2]
            samples.append(Sample(start, duration))

    def regions(self) -> Mapping[str, list[Sample]]:
        with self._lock:
            return {name: list(samples) for name, samples in self._regions.items()}

    def summary(self) -> list[str]:
        """A line per region: calls, total and mean time."""
        lines = []
        for name, samples in sorted(self.regions().items()):
            total = sum(s.time for s in samples)
            lines.append(
                f"[prof] {name}: total_time: {total} nsec nr_entries: {len(samples)} "
                f"mean: {total // len(samples)} nsec"
            )
        return lines
