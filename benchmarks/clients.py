"""Many clients at once: connections of a few processes, or whole programs."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

import numpy as np

import vaccel
from benchmarks import loads

_HEAD_START = 0.05
"""Seconds between an order and its beginning, so that all clients have it by then."""
_LIMIT = 60.0


class Crowd:
    """Processes that wait for orders."""

    def __init__(self, orders: list[Connection]) -> None:
        self._orders = orders

    def rate(self, active: int, seconds: float) -> float:
        """Small calls per second of `active` connections together, as many in each process."""
        start = time.monotonic() + _HEAD_START
        busy = self._orders[:active]
        for order in busy:
            order.send((start, start + seconds, active // len(busy)))
        return sum(_answer(order) for order in busy) / seconds


@contextmanager
def crowd(endpoint: str, processes: int, connections: int = 0) -> Iterator[Crowd]:
    """Clients of the agent, in forked processes, which share the memory of what is imported.

    With so many `connections` in each, made by a load generator; or else with one, of a program.
    """
    fork = multiprocessing.get_context("fork")
    orders: list[Connection] = []
    workers = []
    try:
        for _ in range(processes):
            ours, theirs = fork.Pipe()
            orders.append(ours)
            worker = fork.Process(
                target=_client, args=(endpoint, connections, theirs, list(orders)), daemon=True
            )
            worker.start()
            theirs.close()
            workers.append(worker)
        for order in orders:
            _answer(order)
        yield Crowd(orders)
    finally:
        for order in orders:
            order.close()
        for worker in workers:
            worker.join(5.0)
            if worker.is_alive():
                worker.terminate()
                worker.join()


def _answer(order: Connection) -> int:
    if not order.poll(_LIMIT):
        raise RuntimeError(f"a client has not answered within {_LIMIT:g} s")
    answer = order.recv()
    if isinstance(answer, str):
        raise RuntimeError(f"a client failed: {answer}")
    return int(answer)


def _client(
    endpoint: str, connections: int, orders: Connection, inherited: list[Connection]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its clients
    for order in inherited:  # so that the pipes end with the parent, however it ends
        order.close()
    try:
        with suppress(EOFError):
            if connections:
                _generate(endpoint, connections, orders)
            else:
                _use(endpoint, orders)
    except Exception as exc:  # whatever it is, the parent reports it
        with suppress(OSError):
            orders.send(repr(exc))


def _generate(endpoint: str, count: int, orders: Connection) -> None:
    opened = [loads.Load(endpoint) for _ in range(count)]
    orders.send(0)
    while True:
        start, stop, active = orders.recv()
        time.sleep(max(start - time.monotonic(), 0.0))
        orders.send(loads.calls(opened[:active], stop))


def _use(endpoint: str, orders: Connection) -> None:
    vaccel.bootstrap(vaccel.Config(plugins="cpu", log_level=1))
    try:
        with vaccel.Session(endpoint=endpoint) as session:
            _obey(session, orders)
    finally:
        vaccel.cleanup()


def _obey(session: vaccel.Session, orders: Connection) -> None:
    a = np.arange(5, dtype=np.float32)
    orders.send(0)
    while True:
        start, stop, _ = orders.recv()
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
