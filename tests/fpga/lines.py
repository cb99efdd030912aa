"""Threads in a line for their turn."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vaccel.fpga.turns import Turns
from vaccel.testing.expect import wait_for


def line_of(turns: Turns, length: int) -> None:
    """Wait until so many threads stand in line."""
    wait_for("the line", f"{length} threads", lambda: len(turns._line) == length, 30)


def arrive(turns: Turns, *calls: Callable[[], object]) -> list[threading.Thread]:
    """A thread for each of `calls`, which take a turn; they have come to the line in this order."""
    threads = []
    for place, call in enumerate(calls, len(turns._line) + 1):
        threads.append(threading.Thread(target=call))
        threads[-1].start()
        line_of(turns, place)
    return threads
