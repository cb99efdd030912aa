"""Profiling: regions around calls, on one clock, bounded."""

from __future__ import annotations

import threading

import pytest

import vaccel
from vaccel import Config, Session, profiling, runtime
from vaccel.profiling import MAX_SAMPLES, Profiler


def test_a_region_knows_when_it_began_and_how_long_it_took() -> None:
    profiler = Profiler("test", enabled=True)
    before = profiling.clock_ns()
    with profiler.region("work"):
        inside = profiling.clock_ns()
    after = profiling.clock_ns()
    (sample,) = profiler.regions()["work"]
    assert before <= sample.start <= inside
    assert inside <= sample.start + sample.time <= after


def test_a_region_that_fails_counts() -> None:
    profiler = Profiler("test", enabled=True)
    with pytest.raises(KeyError), profiler.region("work"):
        raise KeyError
    assert len(profiler.regions()["work"]) == 1


def test_nothing_is_kept_while_disabled() -> None:
    profiler = Profiler("test", enabled=False)
    with profiler.region("work"):
        pass
    assert profiler.regions() == {}
    assert profiler.summary() == []


def test_a_long_run_keeps_the_most_recent_samples() -> None:
    profiler = Profiler("test", enabled=True)
    for start in range(3 * MAX_SAMPLES):
        profiler.add("work", start, 1)
    samples = profiler.regions()["work"]
    assert MAX_SAMPLES // 2 <= len(samples) <= MAX_SAMPLES
    assert samples[-1].start == 3 * MAX_SAMPLES - 1
    assert [s.start for s in samples] == sorted(s.start for s in samples)


def test_threads_share_a_profiler() -> None:
    profiler = Profiler("test", enabled=True)

    def work() -> None:
        for _ in range(500):
            with profiler.region("work"):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(profiler.regions()["work"]) == 2000


def test_the_summary_has_a_line_for_each_region() -> None:
    profiler = Profiler("test", enabled=True)
    profiler.add("b", 0, 10)
    profiler.add("a", 0, 4)
    profiler.add("a", 5, 8)
    assert profiler.summary() == [
        "[prof] a: total_time: 12 nsec nr_entries: 2 mean: 6 nsec",
        "[prof] b: total_time: 10 nsec nr_entries: 1 mean: 10 nsec",
    ]


def test_calls_are_timed_where_the_configuration_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    vaccel.bootstrap(Config(plugins="cpu", log_level=3, profiling_enabled=True))
    with Session() as session:
        session.fpga_vadd([1.0], [2.0])
        session.fpga_vadd([1.0], [2.0])
    assert len(runtime.current().profiler.regions()["[fpga_vadd] plugin"]) == 2
    vaccel.cleanup()
    assert "<info> [prof] [fpga_vadd] plugin: total_time: " in capsys.readouterr().err
