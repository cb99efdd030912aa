"""A progress bar for transfers that take their time, on a terminal only."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

_PATIENCE = 0.5
"""Seconds that pass without a word."""
_PERIOD = 0.1
_BAR = 12
_MIB = 1 << 20


class Progress:
    """How much of `total` bytes is done. Writes to standard error, where that is a terminal."""

    def __init__(
        self,
        what: str,
        total: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what = what
        """May change on the way."""
        self._total = total
        self._stream = stream or sys.stderr
        self._enabled = self._stream is not None and self._stream.isatty()
        self._clock = clock
        self._start = clock()
        self._next = self._start + _PATIENCE
        self._shown = False

    def show(self, done: int) -> None:
        now = self._clock()
        if self._enabled and now >= self._next:
            self._next = now + _PERIOD
            self._write(done, now - self._start)
            self._shown = True

    def close(self, done: int) -> None:
        """The last state stays on a line of its own."""
        if self._shown:
            self._write(done, self._clock() - self._start)
            self._stream.write("\n")
            self._stream.flush()
            self._shown = False

    def _write(self, done: int, seconds: float) -> None:
        part = done / self._total if self._total else 1.0
        full = round(part * _BAR)
        rate = done / max(seconds, 1e-3)
        state = f"{done / _MIB:.0f} of {self._total / _MIB:.0f} MiB, {rate / _MIB:.0f} MiB/s"
        if 0 < done < self._total:
            state += f", {(self._total - done) / rate:.0f} s left"
        bar = "#" * full + "." * (_BAR - full)
        text = f"{self.what} [{bar}] {part:4.0%}  {state}"
        width = shutil.get_terminal_size().columns - 1
        # Blanks overwrite what a longer state has left behind.
        self._stream.write(f"\r{text[:width]:{width}}")
        self._stream.flush()
