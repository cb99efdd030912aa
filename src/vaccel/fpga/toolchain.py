"""Designs compiled to shared libraries, together with a harness in C++.

The harness includes `design.h`, which declares the same `Design`, `get` and `set` whatever the
tool. Libraries are cached by the hash of all that goes into them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from vaccel import cache
from vaccel.error import DeviceError
from vaccel.fpga import tools
from vaccel.fpga.tools import Tool

_OPTIONS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-pthread", "-w")
_FAST, _SLOW, _RUNTIME = "-O3", "-O0", "-O1"  # each cycle goes through the runtime, too
_LOG_LINES = 15


def build(
    name: str,
    design: str | Callable[[], str],
    harness: Mapping[str, str],
    *,
    tool: Tool | None = None,
    key: str = "",
) -> Path:
    """The shared library of the design, whose top module is `name`, and the harness's C++ files.

    `design` is a text in `tool.language`, or a function that gives it, called only if the library
    must be built; `key` then stands for the text. Raises DeviceError if a tool is missing, or
    fails: with the end of its output, and the file that holds all of it.
    """
    tool = tool or tools.choose()
    harness = {**harness, "design.h": _adaptor(tool)}
    digest = _hash(name, key or _text(design), harness, tool)
    folder = cache.folder()
    target = folder / f"{name}-{tool.name}-{digest[:20]}.so"

    def make(place: Path, lock: int) -> Path:
        cache.sweep(folder)
        with _progress(name, tool.seconds.get(name)):
            files = {**harness, tool.file.format(name): _text(design)}
            for file, content in files.items():
                (place / file).write_text(content)
            job = _Job(place, lock, target.with_suffix(".log"))
            return job.build(name, tool, [each for each in harness if each.endswith(".cpp")])

    def wait() -> None:
        _say(f"vaccel: another process is building the simulator of {name}; waiting for it\n")

    try:
        return cache.obtain(target, make, wait)
    except OSError as error:
        raise DeviceError(f"the simulator of {name} cannot be built in {folder}: {error}") from None


def _text(design: str | Callable[[], str]) -> str:
    return design if isinstance(design, str) else design()


def _adaptor(tool: Tool) -> str:
    return (importlib.resources.files("vaccel.fpga.model") / f"{tool.name}.h").read_text()


def _hash(name: str, key: str, harness: Mapping[str, str], tool: Tool) -> str:
    parts = [name, key, tool.name, tool.version(), tools.compiler_version(), *_OPTIONS]
    parts += [_FAST, _SLOW, _RUNTIME]
    for file, content in sorted(harness.items()):
        parts += [file, content]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class _Job:
    """One build, in `folder`, holding `lock`; `log` is written if it fails."""

    def __init__(self, folder: Path, lock: int, log: Path) -> None:
        self._folder = folder
        self._lock = lock
        self._log = log

    def build(self, name: str, tool: Tool, harness: Sequence[str]) -> Path:
        if command := tool.command(name):
            self._run(*command)
        options, fast, slow, runtime = tool.sources(name, self._folder)
        groups = ((_FAST, [*harness, *map(str, fast)]), (_SLOW, slow), (_RUNTIME, runtime))
        with contextlib.ExitStack() as stack:
            for level, files in groups:
                if files:
                    each = [*_OPTIONS, *options, level, "-I.", "-c", *map(str, files)]
                    stack.enter_context(self._running([tools.COMPILER, *each]))
        objects = sorted(file.name for file in self._folder.glob("*.o"))
        self._run([tools.COMPILER, "-shared", "-pthread", "-o", "library.so", *objects])
        self._log.unlink(missing_ok=True)
        return self._folder / "library.so"

    def _run(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        with self._running(command, environment):
            pass

    @contextlib.contextmanager
    def _running(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Iterator[None]:
        """The block ends when the command has; an exception in it ends the command."""
        with (self._folder / "build.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._lock,),
                start_new_session=True,
            )
        try:
            yield
            if process.wait() != 0:
                self._fail(f"{command[0]} failed with status {process.returncode}")
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # g++ has children
                process.wait()

    def _fail(self, what: str) -> None:
        text = (self._folder / "build.log").read_text(errors="replace")
        self._log.write_text(text)
        lines = "\n".join(text.splitlines()[-_LOG_LINES:])
        raise DeviceError(f"{what}; all of its output is in {self._log}, the end of it:\n{lines}")


@contextlib.contextmanager
def _progress(name: str, seconds: int | None) -> Iterator[None]:
    """One line on standard error; on a terminal it also tells of the end."""
    terminal = sys.stderr.isatty()
    time_needed = f", about {seconds} s" if seconds else ""
    _say(f"vaccel: building the simulator of {name} (once{time_needed})")
    _say(" … " if terminal else "\n")
    begin = time.monotonic()
    result = "failed"
    try:
        yield
        result = "done"
    finally:
        if terminal:
            _say(f"{result} in {time.monotonic() - begin:.0f} s\n")


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
