"""A client here against an agent on another machine: results, sizes, errors, many callers.

`VACCEL_TEST_AGENT_COMMAND` says how to start that agent, for instance under an emulator of 32-bit
ARM (tools/armhf.sh); without it the agent is a process of this machine.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import vaccel
from vaccel import Arg, ArgType, Config, Resource, ResourceType, Session
from vaccel.error import InvalidArgument, NotFound

pytestmark = pytest.mark.subprocess

COMMAND = os.environ.get("VACCEL_TEST_AGENT_COMMAND") or f"{sys.executable} -m vaccel.cli.agent"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    command = [*shlex.split(COMMAND), "-a", "tcp://127.0.0.1:0"]
    options = ["--vaccel-config", "plugins=cpu:noop,log_level=1"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            first = process.stdout.readline() if process.stdout else ""
            yield first.strip().rpartition("address: ")[2]
        finally:
            process.terminate()
        assert process.wait() == 0


@pytest.fixture
def session(endpoint: str) -> Iterator[Session]:
    vaccel.bootstrap(Config("rpc", endpoint=endpoint))
    with Session() as session:
        yield session


@pytest.mark.parametrize("length", [0, 1, 2, 5, 1000, 100_003])
def test_vectors_of_any_length_come_back_as_numpy_computes_them(
    session: Session, length: int
) -> None:
    a = np.arange(length, dtype=np.float32)
    b = np.linspace(-3, 7, length, dtype=np.float32)
    for _ in range(3):  # the second and third of a shape take the short way
        np.testing.assert_array_equal(session.fpga_vadd(a, b), a + b)
        total, product = session.fpga_parallel(a, b)
        np.testing.assert_array_equal(total, a + b)
        np.testing.assert_array_equal(product, a * b)


def test_integers_keep_all_their_bits(session: Session) -> None:
    a = np.array([-(2**31), -1, 0, 2**31 - 1], np.int32)
    np.testing.assert_array_equal(session.fpga_arraycopy(a), a)


def test_matrices(session: Session) -> None:
    a = np.arange(49, dtype=np.float32).reshape(7, 7)
    b = np.eye(7, dtype=np.float32) * 2
    np.testing.assert_array_equal(session.fpga_mmult(a, b), a * 2)
    c = session.sgemm(2, 2, 3, 1.5, [1.0, 2, 3, 4, 5, 6], 3, [1.0, 2, 3, 4, 5, 6], 2, 0.0, 2)
    assert c == [33.0, 42.0, 73.5, 96.0]


def test_minmax_sends_64_bit_floats(session: Session) -> None:
    data = np.array([1e300, -5.25, 3.5])
    out, low, high = session.minmax(data, 3, -2, 4)
    np.testing.assert_array_equal(out, [4.0, -2.0, 3.5])
    assert (low, high) == (-5.25, 1e300)


def test_errors_arrive_as_their_classes(endpoint: str) -> None:
    vaccel.bootstrap(Config("rpc", endpoint=endpoint))
    with Session() as session, Resource.from_buffer(b"abc", ResourceType.DATA) as resource:
        resource.register(session)
        resource.sync(session)
        with pytest.raises(NotFound, match="not registered"):
            session.exec_with_resource(Resource.from_buffer(b"x", ResourceType.LIB), "f")
        arguments = [Arg(20, ArgType.UINT8), Arg(b"123")]
        with pytest.raises(InvalidArgument, match="fpga_parallel: expected 2 read arguments"):
            session.genop(arguments, [])


def test_a_picture_of_a_megabyte_arrives(session: Session) -> None:
    tag, name = session.classify(bytes(1 << 20))
    assert (tag, name) == ("This is a dummy classification tag!", "This is a dummy imgname!")


def test_several_threads_get_each_its_own_answers(session: Session) -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        a = np.full(100 + number % 3, number, np.float32)
        for i in range(50):
            result = session.fpga_vadd(a, np.full_like(a, i))
            if not (result == number + i).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
