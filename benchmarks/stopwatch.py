"""Functions timed in place, each without the timed functions that it calls."""

from __future__ import annotations

import functools
import importlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_CALIBRATION = 20_000
_FEW = 100


class _Samples:
    """Of one function."""

    def __init__(self) -> None:
        self.own: list[float] = []
        """Seconds of each call, timed calls inside it not counted."""
        self.inner = 0
        """How many timed calls were inside."""


class Stopwatch:
    """Times calls of one thread. What the timing itself costs is measured first and taken off."""

    def __init__(self) -> None:
        self._samples: dict[str, list[_Samples]] = {}
        self._stack: list[list[Any]] = [[0.0, 0]]
        self._inside = self._around = 0.0
        self._calibrate()

    def install(self, stages: Mapping[str, Sequence[str]]) -> None:
        """Replace `module:name` and `module:class.name` by timed ones, per label.

        With `()` at the end, it is what such a function returns that is timed. Must come before
        anything keeps a reference to them. Raises LookupError for unknown names.
        """
        for label, targets in stages.items():
            for target in targets:
                module, _, path = target.removesuffix("()").partition(":")
                *owners, name = path.split(".")
                owner: Any = importlib.import_module(module)
                for part in owners:
                    owner = getattr(owner, part, None)
                if not callable(getattr(owner, name, None)):
                    raise LookupError(f"there is no {target}: correct the table of stages")
                found = getattr(owner, name)
                timed = self._maker if target.endswith("()") else self.timed
                setattr(owner, name, timed(found, label))

    def timed(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        samples = _Samples()
        self._samples.setdefault(label, []).append(samples)
        stack, clock = self._stack, time.perf_counter

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            frame: list[Any] = [0.0, 0]
            stack.append(frame)
            begin = clock()
            try:
                return function(*args, **kwargs)
            finally:
                total = clock() - begin
                stack.pop()
                samples.own.append(total - frame[0])
                samples.inner += frame[1]
                outer = stack[-1]
                outer[0] += total
                outer[1] += 1

        return call

    def _maker(self, make: Callable[..., Any], label: str) -> Callable[..., Any]:
        @functools.wraps(make)
        def made(*args: Any, **kwargs: Any) -> Any:
            return self.timed(make(*args, **kwargs), label)

        return made

    def per_call(self, root: str) -> dict[str, float]:
        """Seconds under each label for each call of the first function under the label `root`."""
        calls = len(self._samples[root][0].own)
        return {
            label: sum(self._seconds(one) for one in functions) / calls
            for label, functions in self._samples.items()
        }

    def cost(self, root: str) -> float:
        """Seconds that the timing adds to each call of the first function under `root`."""
        timed = sum(len(one.own) for functions in self._samples.values() for one in functions)
        return (self._inside + self._around) * timed / len(self._samples[root][0].own)

    def _seconds(self, samples: _Samples) -> float:
        if not samples.own:
            return 0.0
        count = len(samples.own)
        timing = self._inside + self._around * samples.inner / count
        # The median: some calls were interrupted by something else. A loop is called but once.
        own = statistics.median(samples.own) if count > _FEW else sum(samples.own) / count
        return max(own - timing, 0.0) * count

    def _calibrate(self) -> None:
        def nothing() -> None:
            pass

        def loop(function: Callable[[], None]) -> float:
            begin = time.perf_counter()
            for _ in range(_CALIBRATION):
                function()
            return (time.perf_counter() - begin) / _CALIBRATION

        timed = self.timed(nothing, "")
        whole = min(loop(timed) for _ in range(5))
        plain = min(loop(nothing) for _ in range(5))
        seen = statistics.median(self._samples.pop("")[0].own)
        self._inside = max(seen - plain, 0.0)
        self._around = max(whole - seen, 0.0)
        self._stack[0] = [0.0, 0]
