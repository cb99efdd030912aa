"""The board where pynq is not installed; tests/pynq has the rest."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vaccel.error import DeviceError, NotFound
from vaccel.fpga import board
from vaccel.fpga.board import Board, find_bitstream
from vaccel.fpga.claim import Claim


def overlay_in(folder: Path, name: str = board.BITSTREAM) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(b"")
    path.with_suffix(".hwh").write_bytes(b"")
    return path


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Folders in place of the plugins' and the package's data."""
    folders = tmp_path / "plugins", tmp_path / "data"
    monkeypatch.setattr(board, "PLACES", folders)
    return folders


def test_the_bitstream_is_found_by_name_then_by_variable_then_next_to_the_plugin(
    places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins, data = places
    inside = overlay_in(data)
    assert find_bitstream() == inside
    beside = overlay_in(plugins)
    assert find_bitstream() == beside
    chosen = overlay_in(tmp_path, "other.bit")
    monkeypatch.setenv(board.VARIABLE, str(chosen))
    assert find_bitstream() == chosen
    assert find_bitstream(str(beside)) == beside


def test_the_places_are_the_folders_of_plugins_and_data() -> None:
    import vaccel.plugins

    package = Path(vaccel.plugins.__file__).parents[1]
    assert (package / "plugins", package / "data") == board.PLACES


def test_a_bitstream_in_the_current_folder_is_given_by_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = overlay_in(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert find_bitstream(board.BITSTREAM) == path


def test_no_bitstream_anywhere_names_the_places_and_the_way_to_one(
    places: tuple[Path, Path],
) -> None:
    with pytest.raises(NotFound) as caught:
        find_bitstream()
    for folder in places:
        assert str(folder / board.BITSTREAM) in caught.value.message
    assert "vaccel fpga build" in caught.value.message
    assert board.VARIABLE in caught.value.message


def test_a_chosen_bitstream_that_is_not_there_is_not_replaced_by_another(
    places: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay_in(places[0])
    for path in (tmp_path / "missing.bit", tmp_path):
        with pytest.raises(NotFound, match=f"expected a bitstream at {path}, found none"):
            find_bitstream(path)
    monkeypatch.setenv(board.VARIABLE, str(tmp_path / "missing.bit"))
    with pytest.raises(NotFound, match=r"missing\.bit"):
        find_bitstream()


def test_a_bitstream_without_its_metadata_says_where_that_comes_from(tmp_path: Path) -> None:
    path = overlay_in(tmp_path)
    path.with_suffix(".hwh").unlink()
    with pytest.raises(NotFound, match=rf"expected {tmp_path}/vaccel\.hwh.*Vivado"):
        find_bitstream(path)


def test_without_pynq_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynq", None)
    with pytest.raises(DeviceError, match=r"pip install 'vaccel\[pynq\]'.*VACCEL_PYNQ_DEVICE=sim"):
        Board(overlay_in(tmp_path))


def test_a_pynq_that_lacks_a_library_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pynq.py").write_text("import pyxrt_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pynq", raising=False)
    with pytest.raises(DeviceError, match=r"does not start.*pyxrt_that_is_not_there"):
        Board(overlay_in(tmp_path))


def test_a_board_that_fails_to_close_is_free_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("no such buffer")

    lock = tmp_path / "lock"
    monkeypatch.setattr(board, "LOCK", lock)
    monkeypatch.setattr(board, "_import_pynq", lambda: None)
    monkeypatch.setattr(board, "_find_device", lambda pynq: None)
    mine = Board(overlay_in(tmp_path))
    memory = board.Memory(
        SimpleNamespace(
            view=lambda kind: np.zeros(1, np.uint8), physical_address=0, freebuffer=fail
        )
    )
    mine._buffers.add(memory)
    with pytest.raises(RuntimeError, match="no such buffer"):
        mine.close()
    Claim(lock).release()
