"""Many clients at once, each a process with a session and a connection of its own."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

import numpy as np

import vaccel

_HEAD_START = 0.05
"""Seconds between an order and its beginning, so that all clients have it by then."""
_LIMIT = 60.0


class Crowd:
    """Client processes that wait for orders."""

    def __init__(self, orders: list[Connection]) -> None:
        self._orders = orders

    def rate(self, active: int, seconds: float) -> float:
        """Small calls per second of the first `active` clients together."""
        start = time.monotonic() + _HEAD_START
        for order in self._orders[:active]:
            order.send((start, start + seconds))
        return sum(_answer(order) for order in self._orders[:active]) / seconds


@contextmanager
def crowd(endpoint: str, count: int) -> Iterator[Crowd]:
    """`count` clients of the agent, forked, so that they share the memory of what is imported."""
    fork = multiprocessing.get_context("fork")
    orders: list[Connection] = []
    processes = []
    try:
        for _ in range(count):
            ours, theirs = fork.Pipe()
            orders.append(ours)
            process = fork.Process(
                target=_client, args=(endpoint, theirs, list(orders)), daemon=True
            )
            process.start()
            theirs.close()
            processes.append(process)
        for order in orders:
            _answer(order)
        yield Crowd(orders)
    finally:
        for order in orders:
            order.close()
        for process in processes:
            process.join(5.0)
            if process.is_alive():
                process.terminate()
                process.join()


def _answer(order: Connection) -> int:
    if not order.poll(_LIMIT):
        raise RuntimeError(f"a client has not answered within {_LIMIT:g} s")
    answer = order.recv()
    if isinstance(answer, str):
        raise RuntimeError(f"a client failed: {answer}")
    return int(answer)


def _client(endpoint: str, orders: Connection, inherited: list[Connection]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its clients
    for order in inherited:  # so that the pipes end with the parent, however it ends
        order.close()
    try:
        vaccel.bootstrap(vaccel.Config(plugins="cpu", log_level=1))
        with suppress(EOFError), vaccel.Session(endpoint=endpoint) as session:
            _obey(session, orders)
    except Exception as exc:  # whatever it is, the parent reports it
        with suppress(OSError):
            orders.send(repr(exc))
    finally:
        vaccel.cleanup()


def _obey(session: vaccel.Session, orders: Connection) -> None:
    a = np.arange(5, dtype=np.float32)
    orders.send(0)
    while True:
        start, stop = orders.recv()
        time.sleep(max(start - time.monotonic(), 0.0))
        count = 0
        while True:
            result = session.fpga_vadd(a, a)
            if time.monotonic() >= stop:
                break
            count += 1
        if result.tolist() != [0.0, 2.0, 4.0, 6.0, 8.0]:
            raise ValueError(f"a wrong result: {result}")
        orders.send(count)
