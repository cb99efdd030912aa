"""`vaccel doctor`: what is installed, what is missing, and whether the agent answers."""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from importlib import metadata

import numpy as np

from vaccel import plugin, runtime
from vaccel.cli import plugins, program
from vaccel.config import Config
from vaccel.error import FFIError, InvalidArgument, NotSupported
from vaccel.session import Session

_EPILOG = """\
examples:
  vaccel doctor
  vaccel doctor --endpoint tcp://192.168.4.21:8192
  VACCEL_PLUGINS=rpc VACCEL_RPC_ADDRESS=unix:///tmp/vaccel.sock vaccel doctor

The exit code is 1 if something that is configured does not work.
"""

_CALLS = 50
_REMOTE = ("VACCEL_RPC_ADDRESS", "VACCEL_RPC_ADDR", "VACCEL_VSOCK")


def command(argv: list[str], prog: str) -> int:
    parser = program.Parser(
        prog=prog,
        description="Check what is installed and configured, and whether the agent answers.",
        epilog=_EPILOG,
    )
    parser.add_argument("--endpoint", metavar="E", help="the agent to ask (default: as configured)")
    endpoint = parser.parse_args(argv).endpoint
    config = Config.from_env()
    _report_versions()
    _report_extras()
    try:
        good = _report_rundir(config)
        working, all_work = _report_plugins(config, start=good)
        good &= all_work
        remote = any(map(os.environ.get, _REMOTE)) or any(p.is_remote for p in working)
        if endpoint or remote:
            good &= _report_endpoint(endpoint or config.endpoint)
        else:
            print("endpoint  none is configured; --endpoint tcp://HOST:PORT tries one")
    finally:
        runtime.cleanup()
    return 0 if good else program.FAILURE


def _report_versions() -> None:
    from google.protobuf import __version__ as protobuf
    from google.protobuf.internal import api_implementation

    from vaccel import __version__

    print(f"vaccel    {__version__}")
    print(f"python    {platform.python_version()} ({sys.executable})")
    print(f"numpy     {np.__version__}")
    print(f"protobuf  {protobuf} ({api_implementation.Type()})")


# -- extras ------------------------------------------------------------------------------------


def _report_extras() -> None:
    try:
        requirements = metadata.requires("vaccel") or []
    except metadata.PackageNotFoundError:
        print("extras    unknown: vaccel runs from its source, without being installed")
        return
    for extra, needed in by_extra(requirements).items():
        missing = [requirement for requirement in needed if not _installed(requirement)]
        if missing:
            quoted = " ".join(f"'{requirement}'" for requirement in missing)
            print(f"extra     {extra}: missing; to install it: pip install {quoted}")
        else:
            print(f"extra     {extra}: installed")


def by_extra(requirements: Iterable[str]) -> dict[str, list[str]]:
    """What each extra needs, by a package's `Requires-Dist` lines; not the developers' one."""
    extras: dict[str, list[str]] = {}
    for line in requirements:
        requirement, _, marker = line.partition(";")
        match = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        if match and match[1] != "dev":
            extras.setdefault(match[1], []).append(requirement.strip())
    return extras


def _installed(requirement: str) -> bool:
    name = re.match(r"[A-Za-z0-9._-]*", requirement)
    try:
        metadata.version(name[0] if name else requirement)
    except metadata.PackageNotFoundError:
        return False
    return True


# -- plugins, rundir, endpoint -----------------------------------------------------------------


def _report_plugins(config: Config, *, start: bool) -> tuple[list[plugin.Plugin], bool]:
    """Those that work, and whether no other has to."""
    working, good = [], True
    for name, may_lack in map(plugins.optional, config.plugin_names):
        try:
            loaded, origin = plugins.loadable(name)
            missing = loaded.missing() if may_lack else ""
            if missing:
                print(f"plugin    {name}: left out: {missing}")
                continue
            with plugin.explained(name, "be used"):
                loaded.check()
            if start:
                runtime.current().add(loaded, origin)
        except FFIError as exc:
            good = False
            print(f"plugin    {name}: FAILED: {exc.message}")
            continue
        working.append(loaded)
        print(f"plugin    {name}: works ({plugins.implemented(loaded)})")
    return working, good


def _report_rundir(config: Config) -> bool:
    # Without plugins: those are tried one by one, and may fail.
    plain = dataclasses.replace(config, plugins="")
    try:
        runtime.bootstrap(plain)
    except OSError as exc:
        print(f"rundir    FAILED: {exc.filename}: {exc.strerror}")
        return False
    print(f"rundir    {runtime.current().rundir.path}")
    return True


def _report_endpoint(endpoint: str) -> bool:
    try:
        with Session(endpoint=endpoint) as session:
            print(f"endpoint  {endpoint}: answers, session {session.remote_id} there")
            print(f"          round trip {_round_trip(session):.0f} µs, median of {_CALLS} calls")
    except FFIError as exc:
        print(f"endpoint  {endpoint}: FAILED: {exc.message}")
        return False
    return True


def _round_trip(session: Session) -> float:
    def update() -> None:
        session.update(session.flags)

    ask: Callable[[], None] = session.noop
    try:
        ask()
    except (InvalidArgument, NotSupported):
        ask = update  # agents of vAccel 0.8 refuse the noop, and some plugins lack it
    times = []
    for _ in range(_CALLS):
        start = time.perf_counter_ns()
        ask()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000
