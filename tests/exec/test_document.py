"""docs/exec.md: its library compiles as it says, and its program prints what it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "exec.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the library."""
    (source,) = blocks("c")
    (tmp_path / "scale.c").write_text(source)
    run(command("cc"), tmp_path)
    return tmp_path


def command(program: str) -> list[str]:
    """The document's only command of a program."""
    lines = [line[2:] for block in blocks("console") for line in block.splitlines()]
    (found,) = (line for line in lines if line.startswith(f"{program} "))
    return shlex.split(found)


def run(words: list[str], folder: Path) -> str:
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "VACCEL_PLUGINS": "exec"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_example_prints_what_it_says(folder: Path) -> None:
    (program,), (printed,) = blocks("python"), blocks("text")
    assert run([sys.executable, "-W", "error", "-c", program], folder) == printed


def test_the_command_line_does_the_same(folder: Path) -> None:
    words = [sys.executable, "-m", "vaccel.cli.main", *command("vaccel")[1:]]
    assert run(words, folder) == "1.5\n3.0\n4.5\n"


def test_the_library_is_free_of_warnings(folder: Path) -> None:
    assert run([*command("cc"), "-Wall", "-Wextra", "-Werror"], folder) == ""


def test_the_functions_that_it_names_are_there() -> None:
    shim = (Path(__file__).parents[2] / "src/vaccel/foreign/shim.c").read_text()
    named = set(re.findall(r"vaccel_arg\w*[a-z](?=`)|vaccel_(?:extract|write)\w+", TEXT))
    named |= {f"vaccel_arg_array{name}" for name in re.findall(r"`(_[a-z]\w*)`", TEXT)}
    plain = {name for name in named if "TYPE" not in name}
    assert len(plain) > 6
    assert [name for name in sorted(plain) if f"{name}(" not in shim] == []
