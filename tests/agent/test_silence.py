"""A machine that has lost its power says no good-bye: the other end finds out by itself.

The network is a loopback interface of its own, in a namespace, which is taken away.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.subprocess

SCRIPT = Path(__file__).with_name("silence.py")
NAMESPACE = ["unshare", "--net", "--map-root-user"]
LIMIT = 20.0
"""Seconds; the ends are told to notice within 3, ten times the default would be 300."""


def possible() -> bool:
    try:
        return (
            subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


@pytest.mark.skipif(not possible(), reason="needs a network namespace (unshare --net)")
@pytest.mark.parametrize("scene", ["waiting", "sending", "agent"])
def test_an_end_that_falls_silent_counts_as_lost(scene: str) -> None:
    done = subprocess.run(
        [*NAMESPACE, sys.executable, "-m", "tests.agent.silence", scene],
        cwd=SCRIPT.parents[2],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "noticed\n"), done.stderr
