"""Conformance suites for those who write plugins and transports, and strategies for their tests.

`check_plugin` and `check_transport` raise ConformanceError at the first broken promise. The
`strategies` module gives arguments for each operation to property tests; it needs hypothesis.
"""

from __future__ import annotations

import importlib
from typing import Any

from vaccel.testing.expect import ConformanceError
from vaccel.testing.plugin import check_plugin
from vaccel.testing.transport import check_transport

__all__ = ["ConformanceError", "check_plugin", "check_transport", "strategies"]


def __getattr__(name: str) -> Any:
    # The suites run without hypothesis, so nobody who wants only them has to install it.
    if name == "strategies":
        return importlib.import_module("vaccel.testing.strategies")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
