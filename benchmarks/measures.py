"""The measurements. Each returns figures by key; what is compared is measured in turns."""

from __future__ import annotations

import statistics
import threading
import time
import timeit
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

import vaccel
from benchmarks import clients, peers, processes, tap

Figures = dict[str, float]
MIB = 1 << 20


class Effort(NamedTuple):
    """How much is measured."""

    rounds: int = 100
    """Of short tasks."""
    long_rounds: int = 11
    """Of tasks that take part of a second, or more."""
    window: float = 0.5
    """Seconds in which calls are counted."""
    starts: int = 5
    sessions: int = 200


THOROUGH = Effort()
QUICK = Effort(rounds=15, long_rounds=3, window=0.2, starts=2, sessions=50)


def in_turns(rounds: int, *tasks: Callable[[], float]) -> list[list[float]]:
    """What each task returns, `rounds` times; taking turns, so that all see the same machine."""
    for task in tasks:  # once for caches and first-time costs
        task()
    results: list[list[float]] = [[] for _ in tasks]
    for number in range(rounds):
        order = list(zip(tasks, results, strict=True))
        for task, result in order if number % 2 else reversed(order):
            result.append(task())
    return results


def ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """The median over the rounds of a / b."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def each(calls: int, call: Callable[[], object]) -> float:
    """The median seconds of a call; one that something else interrupted does not count."""
    seconds = []
    for _ in range(calls):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def expect(found: Any, expected: Any, what: str) -> None:
    """A wrong result makes every figure meaningless."""
    if not np.array_equal(found, expected):
        raise RuntimeError(f"{what}: a wrong result: {found!r}")


def five() -> tuple[Any, Any]:
    return np.arange(5, dtype=np.float32), np.full(5, 0.5, np.float32)


def small_call(effort: Effort) -> Figures:
    a, b = five()
    with processes.agent() as agent, processes.reference("echo") as reference:
        request = tap.record(agent.match, lambda session: session.fpga_vadd(a, b)).request
        with (
            vaccel.Session(endpoint=agent.match) as session,
            reference.connect() as raw,
        ):
            expect(session.fpga_vadd(a, b), a + b, "fpga_vadd")
            expect(peers.echo(raw, request) == request, True, "echo")

            call_s, echo_s = in_turns(
                effort.rounds,
                lambda: each(200, lambda: session.fpga_vadd(a, b)),
                lambda: each(200, lambda: peers.echo(raw, request)),
            )
    return {
        "small_call_ratio": ratio(call_s, echo_s),
        "small_call_us": statistics.median(call_s) * 1e6,
        "echo_us": statistics.median(echo_s) * 1e6,
    }


def bulk(effort: Effort) -> Figures:
    a = np.arange(peers.BULK_ELEMENTS, dtype=np.float32)
    b = np.ones_like(a)
    with processes.agent() as agent, processes.reference("bulk") as reference:
        with (
            vaccel.Session(endpoint=agent.match) as session,
            reference.connect() as raw,
        ):
            expect(session.fpga_vadd(a, b), a + b, "fpga_vadd")
            raw_a, raw_b = a.view(np.uint8), b.view(np.uint8)
            expect(peers.bulk(raw, raw_a, raw_b), raw_a, "raw transfer")

            bulk_s, raw_s = in_turns(
                2 * effort.long_rounds,
                lambda: each(1, lambda: session.fpga_vadd(a, b)),
                lambda: each(1, lambda: peers.bulk(raw, raw_a, raw_b)),
            )
    return {
        "bulk_ratio": ratio(bulk_s, raw_s),
        "bulk_s": statistics.median(bulk_s),
        "raw_bulk_s": statistics.median(raw_s),
    }


def bulk_memory(effort: Effort) -> Figures:
    a = np.arange(peers.BULK_ELEMENTS, dtype=np.float32)
    growth = []
    with processes.agent() as agent, vaccel.Session(endpoint=agent.match) as session:
        session.fpga_vadd(*five())
        for _ in range(3):
            processes.reset_peak(agent.pid)
            before = processes.rss_kb(agent.pid)
            expect(session.fpga_vadd(a, a), a + a, "fpga_vadd")
            growth.append(processes.peak_kb(agent.pid) - before)
    # The largest, not the median: memory must be there for the worst call.
    return {"agent_bulk_memory_ratio": max(growth) * 1024 / (3 * peers.BULK_BYTES)}


class _Plain:
    def noop(self) -> None:
        pass


def local(effort: Effort) -> Figures:
    a, b = five()
    loops = 1000
    with vaccel.Session() as session:
        expect(session.fpga_vadd(a, b), a + b, "fpga_vadd")
        names = {"session": session, "plain": _Plain(), "a": a, "b": b}

        def timed(statement: str) -> Callable[[], float]:
            # timeit switches the garbage collector off, which no program does.
            timer = timeit.Timer(statement, "import gc; gc.enable()", globals=names)
            return lambda: timer.timeit(loops) / loops

        statements = ("session.fpga_vadd(a, b)", "a + b", "session.noop()", "plain.noop()")
        vadd, add, noop, plain = in_turns(effort.rounds, *map(timed, statements))
    return {
        "local_vadd_ratio": ratio(vadd, add),
        "local_vadd_us": statistics.median(vadd) * 1e6,
        "numpy_add_us": statistics.median(add) * 1e6,
        "local_noop_ratio": ratio(noop, plain),
        "local_noop_us": statistics.median(noop) * 1e6,
        "plain_call_us": statistics.median(plain) * 1e6,
    }


def pipelined(effort: Effort) -> Figures:
    a, b = five()
    with processes.agent() as agent, vaccel.Session(endpoint=agent.match) as session:
        expect(session.fpga_vadd(a, b), a + b, "fpga_vadd")

        def rate(threads: int) -> float:
            counts = [0] * threads
            barrier = threading.Barrier(threads + 1)

            def work(number: int) -> None:
                barrier.wait()
                stop = time.monotonic() + effort.window
                while time.monotonic() < stop:
                    expect_five(session.fpga_vadd(a, b))
                    counts[number] += 1

            workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
            for worker in workers:
                worker.start()
            barrier.wait()
            begin = time.perf_counter()
            for worker in workers:
                worker.join()
            return sum(counts) / (time.perf_counter() - begin)

        def expect_five(result: Any) -> None:
            # Cheap enough for every call: threads must not get each other's answers cut short.
            if len(result) != 5:
                raise RuntimeError(f"fpga_vadd: a wrong result: {result!r}")

        many, one = in_turns(effort.long_rounds, lambda: rate(8), lambda: rate(1))
    return {
        "pipelined_ratio": ratio(many, one),
        "pipelined_per_s": statistics.median(many),
        "serial_per_s": statistics.median(one),
    }


def many_clients(effort: Effort) -> Figures:
    """Connections, so that the agent is measured: 64 interpreters fill the caches of a machine."""
    with processes.agent() as agent, clients.crowd(agent.match, 8, connections=8) as crowd:
        many, one = _rates(crowd, 64, effort)
    return {
        "clients64_ratio": ratio(many, one),
        "clients64_per_s": statistics.median(many),
        "client1_per_s": statistics.median(one),
    }


def many_programs(effort: Effort) -> Figures:
    with processes.agent() as agent, clients.crowd(agent.match, 64) as crowd:
        many, one = _rates(crowd, 64, effort)
    return {
        "programs64_ratio": ratio(many, one),
        "programs64_per_s": statistics.median(many),
        "program1_per_s": statistics.median(one),
    }


def _rates(crowd: clients.Crowd, many: int, effort: Effort) -> list[list[float]]:
    return in_turns(
        max(effort.long_rounds // 2, 3),
        lambda: crowd.rate(many, 2 * effort.window),
        lambda: crowd.rate(1, effort.window),
    )


def idle(effort: Effort) -> Figures:
    starts, resident = [], []
    for _ in range(effort.starts):
        with processes.agent() as agent:
            starts.append(agent.start_s)
            resident.append(processes.rss_kb(agent.pid) * 1024 / MIB)
    return {
        "agent_start_s": statistics.median(starts),
        "agent_idle_rss_mb": statistics.median(resident),
    }


def sessions(effort: Effort) -> Figures:
    """Each with a connection of its own, which the sessions of one program would share."""
    with processes.agent() as agent, ExitStack() as opened:
        opening = tap.opening(agent.match)

        def connect() -> None:
            sock = opened.enter_context(agent.connect())
            sock.sendall(opening.request)
            answer = sock.recv(65536)
            # Session ids grow, and the number may take another byte or two; a refusal takes more.
            if not 0 <= len(answer) - len(opening.response) <= 2:
                raise RuntimeError(f"no session: {answer!r}")

        for _ in range(5):
            connect()
        before = processes.rss_kb(agent.pid)
        for _ in range(effort.sessions):
            connect()
        growth = processes.rss_kb(agent.pid) - before
    return {"per_session_kb": growth / effort.sessions}
