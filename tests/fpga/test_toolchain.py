"""Building and caching the simulated kernels' libraries."""

from __future__ import annotations

import ctypes
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from vaccel import cache
from vaccel.error import DeviceError
from vaccel.fpga import toolchain, tools
from vaccel.fpga.model.system import Memory, System
from vaccel.fpga.tools import Cxxrtl, Sources, Verilator

COUNTER = """
module counter(input clk, input rst, output reg [7:0] count);
  always @(posedge clk) count <= rst ? 8'd0 : count + 8'd1;
endmodule
"""
COUNT = """
#include "design.h"
extern "C" __attribute__((visibility("default"))) int count_to(int edges) {
  Design d;
  for (int i = 0; i <= edges; i++) {
    set(d.PIN(rst), i == 0);
    for (int clock : {0, 1}) {
      set(d.PIN(clk), clock);
      d.settle();
    }
  }
  set(d.PIN(clk), 0);
  d.settle();
  return get(d.PIN(count));
}
"""
EMPTY = {"harness.cpp": 'extern "C" int answer() { return 42; }'}


class Quick(Cxxrtl):
    """Compiles the harness alone; first waits until somebody opens and closes `gate`."""

    def __init__(self, gate: Path | None = None) -> None:
        self._gate = gate

    def version(self) -> str:
        return "1"

    def command(self, name: str) -> tuple[list[str], Mapping[str, str]] | None:
        return (["cat", str(self._gate)], os.environ) if self._gate else None

    def sources(self, name: str, folder: Path) -> Sources:
        return Sources((), (), (), ())


QUICK = Quick()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vaccel"


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def library(folder: Path) -> Path:
    """The only thing in the folder."""
    (path,) = folder.iterdir()
    return path


# -- what is built, and when --------------------------------------------------------------------


@pytest.mark.skipif(bool(Verilator().missing()), reason="; ".join(Verilator().missing()))
def test_verilog_becomes_a_library_that_counts(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tool = tools.TOOLS["verilator"]
    path = toolchain.build("counter", COUNTER, {"count.cpp": COUNT}, tool=tool)
    assert ctypes.CDLL(str(path)).count_to(77) == 77
    assert library(folder) == path
    expected = "vaccel: building the simulator of counter (once)\n"
    assert capfd.readouterr().err == expected


def test_what_was_built_before_is_used_again_without_a_word(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = toolchain.build("x", "", EMPTY, tool=QUICK)
    made = first.stat()
    capfd.readouterr()
    assert toolchain.build("x", "", EMPTY, tool=QUICK) == first
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert capfd.readouterr().err == ""


def test_whatever_goes_into_a_library_makes_it_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [toolchain.build("x", "", EMPTY, tool=QUICK)]
    paths.append(toolchain.build("y", "", EMPTY, tool=QUICK))
    paths.append(toolchain.build("x", "// new", EMPTY, tool=QUICK))
    paths.append(toolchain.build("x", "", {**EMPTY, "more.h": ""}, tool=QUICK))
    monkeypatch.setattr(QUICK, "version", lambda: "2")
    paths.append(toolchain.build("x", "", EMPTY, tool=QUICK))
    monkeypatch.setattr(tools, "compiler_version", lambda: "99.1 of another machine")
    paths.append(toolchain.build("x", "", EMPTY, tool=QUICK))
    assert len(set(paths)) == len(paths)


def test_a_key_stands_for_a_design_that_is_then_made_only_to_be_built(folder: Path) -> None:
    made = []

    def design() -> str:
        made.append(1)
        return ""

    for _ in range(3):
        toolchain.build("x", design, EMPTY, tool=QUICK, key="1")
    assert len(made) == 1
    toolchain.build("x", design, EMPTY, tool=QUICK, key="2")
    assert len(made) == 2


@pytest.mark.parametrize(("name", "expected"), [("elementwise", "20 s"), ("mmult", "150 s")])
def test_how_long_it_takes_depends_on_the_kernel(
    folder: Path, capfd: pytest.CaptureFixture[str], name: str, expected: str
) -> None:
    toolchain.build(name, "", EMPTY, tool=QUICK)
    said = f"vaccel: building the simulator of {name} (once, about {expected})\n"
    assert capfd.readouterr().err == said


def test_on_a_terminal_the_line_goes_on_when_the_build_has_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    toolchain.build("x", "", EMPTY, tool=QUICK)
    (line,) = terminal.getvalue().splitlines()
    assert line.startswith("vaccel: building the simulator of x (once) … done in ")


# -- what was damaged, and what is old ----------------------------------------------------------


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"damage")


@pytest.mark.parametrize("damage", [cut, overwrite])
def test_a_damaged_library_is_built_anew(folder: Path, damage: Callable[[Path], None]) -> None:
    first = toolchain.build("x", "", EMPTY, tool=QUICK)
    size = first.stat().st_size
    damage(first)
    second = toolchain.build("x", "", EMPTY, tool=QUICK)
    assert library(folder) == second
    assert second.stat().st_size == size
    ctypes.CDLL(str(second))


def test_a_library_that_does_not_load_says_what_to_delete(tmp_path: Path) -> None:
    path = tmp_path / "bad.so"
    path.write_text("no library")
    with pytest.raises(DeviceError, match=rf"does not load: .*; delete {path}, and it is built"):
        System("x", path, Memory(0, 0, 0), ctypes.c_uint64())


def test_what_was_not_used_for_long_goes_when_something_is_built(folder: Path) -> None:
    old, used, other = (toolchain.build(name, "", EMPTY, tool=QUICK) for name in "xyz")
    log = folder / "w-cxxrtl-0.log"
    log.write_text("")
    before = time.time() - (cache.KEPT_DAYS + 1) * 86_400
    for path in (old, used, log):
        os.utime(path, (before, before))
    assert toolchain.build("y", "", EMPTY, tool=QUICK) == used
    new = toolchain.build("v", "", EMPTY, tool=QUICK)
    assert set(folder.iterdir()) == {used, other, new}


# -- failures -----------------------------------------------------------------------------------


@pytest.mark.skipif(bool(Verilator().missing()), reason="; ".join(Verilator().missing()))
def test_a_failed_build_shows_the_end_of_the_output_and_where_all_of_it_is(folder: Path) -> None:
    tool = tools.TOOLS["verilator"]
    with pytest.raises(DeviceError, match=r"verilator_bin failed with status 1;.* is in ") as error:
        toolchain.build("broken", "module broken(; endmodule", EMPTY, tool=tool)
    assert "%Error: broken.v:1:" in error.value.message
    log = library(folder)
    assert str(log) in error.value.message
    assert "%Error: broken.v:1:" in log.read_text()


def test_a_later_success_removes_the_log_of_a_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QUICK, "command", lambda name: (["sh", "-c", "seq 100; exit 3"], None))
    with pytest.raises(DeviceError, match=r"sh failed with status 3(.|\n)*\n99\n100$") as error:
        toolchain.build("x", "", EMPTY, tool=QUICK)
    assert "\n80\n" not in error.value.message
    assert library(folder).suffix == ".log"
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent))
    assert toolchain.build("x", "", EMPTY, tool=QUICK) == library(folder)


def test_an_interrupt_ends_the_processes_of_the_build(
    folder: Path, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = subprocess.Popen.wait

    def interrupted(process: subprocess.Popen[bytes]) -> int:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        toolchain.build("x", "", EMPTY, tool=Quick(gate))
    assert subprocess.Popen.wait is wait
    assert list(folder.iterdir()) == []


# -- other processes ----------------------------------------------------------------------------

BUILD = """
import sys
from pathlib import Path
from tests.fpga.test_toolchain import EMPTY, Quick
from vaccel.fpga import toolchain
print(toolchain.build("x", "", EMPTY, tool=Quick(Path(sys.argv[1]))))
"""


class Builder:
    """A process that builds, up to the gate."""

    def __init__(self, gate: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", BUILD, str(gate)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def line(self) -> str:
        """The next one that it says."""
        assert self._process.stderr is not None
        return self._process.stderr.readline()

    def end(self) -> tuple[str, str]:
        """What it printed since, and what it said."""
        out, err = self._process.communicate()
        return out.strip(), err

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def builders(gate: Path) -> Iterator[list[Builder]]:
    """Two of them."""
    both = [Builder(gate)]
    assert both[0].line() == "vaccel: building the simulator of x (once)\n"
    both.append(Builder(gate))
    yield both
    for each in both:
        each.kill()


def let_pass(gate: Path) -> None:
    with gate.open("w"):  # waits for somebody to open the other end
        pass


@pytest.mark.subprocess
def test_two_processes_at_once_end_with_one_build(
    folder: Path, gate: Path, builders: list[Builder]
) -> None:
    waits = "vaccel: another process is building the simulator of x; waiting for it\n"
    assert builders[1].line() == waits
    let_pass(gate)
    built = str(library_of(builders[0]))
    assert builders[1].end() == (built, "")
    assert library(folder) == Path(built)


def library_of(builder: Builder) -> Path:
    out, err = builder.end()
    assert err == ""
    return Path(out)


@pytest.mark.subprocess
def test_who_waits_takes_over_from_a_process_that_is_killed(
    folder: Path, gate: Path, builders: list[Builder]
) -> None:
    builders[1].line()
    (workplace,) = folder.iterdir()
    (workplace / "junk").mkdir()
    builders[0].kill()
    let_pass(gate)  # the orphan, which still holds the lock
    assert builders[1].line() == "vaccel: building the simulator of x (once)\n"
    let_pass(gate)
    assert library_of(builders[1]) == library(folder)


def test_folders_of_killed_builds_are_swept_and_those_in_use_are_not(folder: Path) -> None:
    first = toolchain.build("x", "", EMPTY, tool=QUICK)
    left = folder / "killed-cxxrtl-0.build"
    left.mkdir()
    (left / "half.o").write_text("")
    used: list[bool] = []

    def make(place: Path, lock: int) -> Path:
        toolchain.build("y", "", EMPTY, tool=QUICK)  # which sweeps
        used.append(place.is_dir())
        (place / "done").write_text("")
        return place / "done"

    target = cache.obtain(folder / "z-cxxrtl-0.so", make, lambda: None)
    assert used == [True]
    assert not left.exists()
    assert set(folder.iterdir()) == {first, target, *folder.glob("y-*.so")}
