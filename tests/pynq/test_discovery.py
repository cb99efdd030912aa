"""What our board says of itself, and how it finds what pynq calls a device."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vaccel.fpga import board
from vaccel.fpga.board import Board


def test_info_tells_the_board_its_overlay_clock_and_memory(
    opened: Board, bitstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "MEMORY", tmp_path / "meminfo")
    board.MEMORY.write_text("CmaTotal:     131072 kB\nCmaFree:       1024 kB\n")
    assert opened.info().clock_hz == 40e6
    opened.program()
    name = "a simulated PYNQ-Z1"
    assert opened.info() == (name, str(bitstream), 100e6, 128 << 20, 1 << 20)
    monkeypatch.setattr(board, "MODEL", tmp_path / "model")
    board.MODEL.write_text("Pynq-Z1\0")
    board.MEMORY.write_text("MemTotal: 1 kB\n")
    assert opened.info() == ("Pynq-Z1", str(bitstream), 100e6, 0, 0)


def test_pynq_finds_an_event_loop_in_any_thread_and_those_of_others_stay(bitstream: Path) -> None:
    """In a process of its own: pynq looks for devices once."""
    program = """
        import asyncio, sys, threading
        from pathlib import Path
        from pynq.pl_server.device import Device
        from vaccel.fpga import board

        class Embedded(Device):
            _probe_priority_ = 10

            @classmethod
            def _probe_(cls):
                asyncio.get_event_loop()  # as XrtDevice does
                return [cls("found")]

        board.LOCK = Path(sys.argv[1] + ".lock")

        def look():
            found = board.Board(sys.argv[1])
            print(found._device.tag)
            found.close()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        board.Board(sys.argv[1])
        assert asyncio.get_event_loop() is loop
        loop.close()
    """
    assert run(program, bitstream) == "found\n"


def test_a_machine_without_a_board_says_so(bitstream: Path) -> None:
    program = """
        import sys
        from vaccel.error import DeviceError
        from vaccel.fpga.board import Board

        try:
            Board(sys.argv[1])
        except DeviceError as error:
            print(error)
    """
    assert "finds no board: No Devices Found; elsewhere VACCEL_PYNQ_DEVICE=sim" in run(
        program, bitstream
    )


def run(program: str, bitstream: Path) -> str:
    command = [sys.executable, "-c", textwrap.dedent(program), str(bitstream)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert result.stderr == ""
    return result.stdout
