"""Who has the board."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vaccel.error import DeviceError
from vaccel.fpga.claim import Claim

HOLD = """
import os, sys
from pathlib import Path
from vaccel.fpga.claim import Claim

claim = Claim(Path(sys.argv[1]))
if not os.fork():
    print(os.getppid(), flush=True)
sys.stdin.read()  # until the test's end of the pipe is closed: the child outlives its parent
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock, with a child."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()  # which also ends the child, and waits for it


def test_it_is_free_again_when_it_is_released(path: Path) -> None:
    first = Claim(path)
    with pytest.raises(DeviceError, match=f"process {os.getpid()} has the board"):
        Claim(path)
    first.release()
    first.release()
    second = Claim(path)
    first.release()
    with pytest.raises(DeviceError):
        Claim(path)
    second.release()


@pytest.mark.subprocess
def test_who_has_it_is_named_and_its_end_frees_it_whatever_its_children_do(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    assert holder.stdout is not None
    pid = int(holder.stdout.readline())
    with pytest.raises(DeviceError, match=rf"process {pid} has the board.*VACCEL_PLUGINS=rpc"):
        Claim(path)
    holder.kill()
    holder.wait()
    Claim(path).release()


def test_where_it_cannot_be_written_root_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"missing/lock.*needs root"):
        Claim(tmp_path / "missing" / "lock")


def test_where_it_cannot_be_locked_nothing_stays_open() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(DeviceError, match=r"/dev/full.*cannot be locked"):
        Claim(Path("/dev/full"))  # can be opened and locked, but not be written to
    assert os.listdir("/proc/self/fd") == before
