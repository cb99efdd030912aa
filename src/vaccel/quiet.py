"""Warnings of libraries of which nobody who calls us can do anything."""

from __future__ import annotations

import functools
import re
import warnings
from typing import Any


def ignore(category: type[Warning], *, message: str = "", module: str = "") -> None:
    """Ignore these warnings from now on; `message` and `module` are regular expressions.

    For the whole process, so they should be narrow. `catch_warnings` would end with a call, but it
    swaps what all threads have: two that overlap leave the wrong filters behind, for good.
    To be called before each use, as somebody else's `catch_warnings` may have ended in between.
    """
    # A change makes Python repeat what it had warned of.
    wanted = _filter(category, message, module)  # type: ignore[arg-type]  # mypy: no class has a hash
    if wanted not in warnings.filters:
        warnings.filterwarnings("ignore", message, category, module)


@functools.cache
def _filter(category: type[Warning], message: str, module: str) -> tuple[Any, ...]:
    """As filterwarnings makes it."""
    words = re.compile(message, re.IGNORECASE) if message else None
    return "ignore", words, category, re.compile(module) if module else None, 0
