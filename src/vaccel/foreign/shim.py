"""The functions of libvaccel.so that libraries for vAccel 0.8 call, compiled on first use."""

from __future__ import annotations

import hashlib
import importlib.resources
import platform
import subprocess
from pathlib import Path

from vaccel import cache, log
from vaccel.error import PluginError

_COMMAND = ("cc", "-shared", "-fPIC", "-O2", "-std=c11", "-Wall", "-Wextra")


def build(soname: str) -> Path:
    """The shim under the name `soname`, by which libraries that are linked with it find it.

    PluginError: there is no compiler, or it failed.
    """
    source = (importlib.resources.files("vaccel.foreign") / "shim.c").read_text()
    parts = (*_COMMAND, platform.machine(), soname, source)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    target = cache.folder() / f"{soname}-{digest[:20]}.so"

    def make(place: Path, lock: int) -> Path:
        (place / "shim.c").write_text(source)
        log.info("[exec] building %s", target)
        _compile(place, soname, lock)
        return place / soname

    return cache.obtain(target, make, lambda: None)


def _compile(place: Path, soname: str, lock: int) -> None:
    command = [*_COMMAND, f"-Wl,-soname,{soname}", "-o", soname, "shim.c"]
    try:
        result = subprocess.run(
            command,
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=(lock,),
            check=False,
        )
    except FileNotFoundError:
        raise PluginError(
            "the library calls functions of vAccel 0.8 (vaccel_…), which are compiled once, "
            "and there is no C compiler: apt install gcc libc6-dev"
        ) from None
    if result.returncode:
        raise PluginError(f"{' '.join(command)} failed in {place}:\n{result.stdout}")
