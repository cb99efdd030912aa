"""The whole chain on a board: program, agent, plugin, driver, pynq as released, fabric."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import vaccel
from tests.fpga.reference import bits, matrices, ordered_product, vectors
from tests.pynq.simulated import SimulatedDevice
from vaccel import Config, Session
from vaccel.agent import Agent


@pytest.fixture
def chosen(
    device: SimulatedDevice,
    bitstream: Path,
    board_time: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[SimulatedDevice]:
    """The runtime as a user configures it on a board."""
    monkeypatch.setenv("VACCEL_PLUGINS", "libvaccel-pynq.so")
    monkeypatch.setenv("VACCEL_PYNQ_DEVICE", "board")
    monkeypatch.setenv("VACCEL_PYNQ_BITSTREAM", str(bitstream))
    vaccel.bootstrap(Config.from_env())
    yield device
    vaccel.cleanup()


def test_a_program_uses_the_board(chosen: SimulatedDevice, bitstream: Path) -> None:
    free = chosen.simulator.info().memory_free
    with Session() as session:
        check_operations(session)
    assert chosen.downloads == [str(bitstream)]
    assert chosen.simulator.info().memory_free == free


def test_a_remote_program_uses_the_board(chosen: SimulatedDevice, tmp_path: Path) -> None:
    with Agent(f"unix://{tmp_path}/agent") as agent, Session(endpoint=agent.endpoint) as session:
        check_operations(session)


def check_operations(session: Session) -> None:
    a, b = vectors(70_000)
    assert bits(session.fpga_vadd(a, b)) == bits(a + b)
    total, product = session.fpga_parallel(a, b)
    assert (bits(total), bits(product)) == (bits(a + b), bits(a * b))
    assert session.fpga_arraycopy([1, -2, 3]) == [1, -2, 3]
    a, b = matrices(9)
    assert bits(session.fpga_mmult(a, b)) == bits(ordered_product(a, b))
