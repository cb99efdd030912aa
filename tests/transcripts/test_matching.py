"""The comparison itself: it accepts what may differ, and nothing else."""

from __future__ import annotations

import itertools
import re

import pytest

from tests.transcripts.matching import Facts, difference, transcript

NAMES = ("classify_noop", "vector_add_noop", "vector_add_pynq", "vector_add_remote", "agent_pynq")
STAMP = "2026.02.03-04:05:06.07 - "


def a_run(name: str = "classify_noop") -> list[str]:
    """The transcript as another machine would print it."""
    text = "\n".join(transcript(name))
    text = re.sub(r"\d{4}\.\S+ - ", STAMP, text)
    text = re.sub(r"/run/user/\d+/vaccel\.\w+", "/tmp/x/vaccel.ab12cd34", text)
    text = re.sub(r"/usr/local/\S+\.so", "/opt/plugins/some.py", text)
    text = text.replace("tcp://0.0.0.0:8192", "tcp://127.0.0.1:4711").replace("79281", "123")
    return text.split("\n")


FACTS = Facts("/tmp/x", image_size=123)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_its_own_paths_and_numbers_fits(name: str):
    assert difference(transcript(name), a_run(name), FACTS) == ""


def test_functions_may_come_in_any_order_and_more_of_them():
    run = a_run()
    run[3:19] = reversed(run[3:19])
    run.insert(5, f"{STAMP}<debug> Registered function opencv from plugin noop")
    assert difference(transcript("classify_noop"), run, FACTS) == ""


@pytest.mark.parametrize("level", ["info", "debug"])
def test_further_log_lines_may_stand_between_others(level: str):
    run = a_run()
    run.insert(1, f"{STAMP}<{level}> something more")
    assert difference(transcript("classify_noop"), run, FACTS) == ""


@pytest.mark.parametrize("name", NAMES)
def test_every_line_is_needed(name: str):
    run = a_run(name)
    for place in range(len(run)):
        assert difference(transcript(name), run[:place] + run[place + 1 :], FACTS)


@pytest.mark.parametrize("name", NAMES)
def test_lines_are_needed_in_their_order(name: str):
    run = a_run(name)
    for place, (first, second) in enumerate(itertools.pairwise(run)):
        functions = all("Registered function" in line for line in (first, second))
        if first != second and not functions:
            swapped = [*run[:place], second, first, *run[place + 2 :]]
            assert difference(transcript(name), swapped, FACTS), (first, second)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<debug> Initializing", "<info> Initializing"),
        ("2026.02.03-04:05:06.07 - <debug> Init", "2026-02-03 04:05:06 - <debug> Init"),
        ("/tmp/x/vaccel.", "/tmp/y/vaccel."),
        ("Image size: 123B", "Image size: 79281B"),
        ("len_img: 123", "len_img: 124"),
        ("/opt/plugins/some.py", "nowhere"),
        ("dummy classification tag!", "dummy classification tag"),
        ("function sgemm", "function noop"),
        ("session:1 Free", "session:2 Free"),
    ],
)
def test_other_differences_are_found(old: str, new: str):
    run = "\n".join(a_run()).replace(old, new).split("\n")
    assert run != a_run()
    assert difference(transcript("classify_noop"), run, FACTS)


@pytest.mark.parametrize(
    "extra",
    [
        f"{STAMP}<warn> something more",
        f"{STAMP}<error> something more",
        "output of somebody",
        "[noop] something more",
        f"{STAMP}<debug> Registered function opencv from plugin cpu",
        f"{STAMP}<debug> Registered function sgemm from plugin noop",
    ],
)
def test_graver_or_foreign_lines_are_found(extra: str):
    run = a_run()
    run.insert(8, extra)
    assert difference(transcript("classify_noop"), run, FACTS)


def test_nothing_may_stand_inside_a_programs_output():
    run = a_run("vector_add_noop")
    run.insert(run.index("9.100000") + 1, f"{STAMP}<debug> something more")
    assert difference(transcript("vector_add_noop"), run, FACTS)
