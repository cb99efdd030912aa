"""When the request that the current thread serves must be done."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_local = threading.local()


@contextlib.contextmanager
def until(moment: float | None) -> Iterator[None]:
    """What runs inside must be done at `moment`, in the time of time.monotonic()."""
    _local.moment = moment
    try:
        yield
    finally:
        _local.moment = None


def current() -> float | None:
    """The moment; None: there is no limit."""
    return getattr(_local, "moment", None)
