"""`vaccelrt-agent`: serves this machine's plugins to programs elsewhere."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from vaccel import log, runtime
from vaccel.agent import Agent
from vaccel.cli import options, program
from vaccel.config import DEFAULT_ENDPOINT, size
from vaccel.rpc.handler import Limits
from vaccel.runtime import Runtime

T = TypeVar("T")

_EPILOG = """\
examples:
  {prog} -a tcp://0.0.0.0:8192
      serve to the network what is installed: numpy, and onnx for pictures
  {prog} -a unix:///tmp/vaccel.sock --vaccel-config plugins=noop,log_level=4
      serve the plugin for testing, and log every step
  {prog} -a tcp://0.0.0.0:8192 --vaccel-config plugins=cpu:noop --max-message 64M
      the first plugin that has an operation serves it
  {prog} -a unix:///tmp/vaccel.sock --allow exec
      run functions of clients' libraries, too

then, where the program is:
  VACCEL_PLUGINS=rpc VACCEL_RPC_ADDRESS=tcp://HOST:8192 pynq_vector_add_generic
"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    return program.run("vaccelrt-agent", lambda: command(arguments, "vaccelrt-agent"))


def command(argv: Sequence[str], prog: str) -> int:
    args = _parser(prog).parse_args(argv)
    config = options.config(args.vaccel_config)
    with program.terminable():  # while plugins load
        runtime.bootstrap(config)
        return _serve(args)


def _serve(args: argparse.Namespace) -> int:
    limits = Limits(
        message=args.max_message,
        threads=args.threads,
        resources=args.max_resources,
        store=args.max_store,
    )
    with _Signals(runtime.current()) as signals:
        agent = Agent(
            args.server_address,
            limits=limits,
            allow_paths=args.allow_path,
            allow_urls=args.allow_url,
            allow=args.allow,
        )
        print(f"vaccel ttRPC server started. address: {agent.endpoint}")
        print("Server is running, press Ctrl + C to exit")
        number = signals.wait()
        log.info("%s: ending; running calls may take %g s", number.name, args.grace)
        finished = agent.stop(args.grace)
        if not finished:
            log.error("calls still ran %g s after %s; ending without them", args.grace, number.name)
        runtime.cleanup()
    if not finished:
        sys.stdout.flush()
        os._exit(program.FAILURE)  # a kernel that does not return would hold up the exit
    return 0


class _Signals:
    """Turns the first SIGINT or SIGTERM into a return from `wait`; the second ends the process."""

    def __init__(self, running: Runtime) -> None:
        self._running = running
        self._count = 0

    def __enter__(self) -> _Signals:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        # Through the descriptor also a signal that arrives just before the read wakes it.
        self._old_fd = signal.set_wakeup_fd(self._write)
        self._old = {
            number: signal.signal(number, self._seen) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def wait(self) -> signal.Signals:
        while True:
            number = os.read(self._read, 1)[0]
            if number in self._old:
                return signal.Signals(number)

    def _seen(self, number: int, frame: Any) -> None:
        self._count += 1
        if self._count > 1:
            try:
                self._running.remove_files()
            finally:
                os._exit(128 + number)


def _parser(prog: str) -> program.Parser:
    parser = program.Parser(
        prog=prog,
        description="Serve this machine's plugins to programs elsewhere.",
        epilog=_EPILOG.format(prog=prog),
    )
    parser.add_argument(
        "-a",
        "--server-address",
        metavar="ENDPOINT",
        default=os.environ.get("VACCEL_AGENT_ENDPOINT") or DEFAULT_ENDPOINT,
        help="tcp://HOST:PORT, unix:///PATH or vsock://CID:PORT "
        f"(default: $VACCEL_AGENT_ENDPOINT, else {DEFAULT_ENDPOINT})",
    )
    parser.add_argument(
        "--vaccel-config",
        metavar="KEY=VALUE,…",
        default="",
        help="plugins=A:B, log_level=1…4, log_file=PATH, …; over the environment's VACCEL_*",
    )
    _add_limits(parser, Limits())
    _add_permissions(parser)
    parser.add_argument(
        "--grace",
        metavar="SECONDS",
        type=_checked(_seconds),
        default=5.0,
        help="how long running calls may take at the end (default: %(default)g)",
    )
    return parser


def _add_limits(parser: program.Parser, limits: Limits) -> None:
    parser.add_argument(
        "--max-message",
        metavar="BYTES",
        type=_checked(size),
        default=limits.message,
        help="largest request and answer, e.g. 64M (default: 1G)",
    )
    parser.add_argument(
        "--max-resources",
        metavar="BYTES",
        type=_checked(size),
        default=limits.resources,
        help="what one client may upload as resources (default: 16G)",
    )
    parser.add_argument(
        "--max-store",
        metavar="BYTES",
        type=_checked(size),
        default=limits.store,
        help="the same for all clients together, on this machine's disk; see $TMPDIR "
        "(default: 32G)",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=_checked(_positive),
        default=limits.threads,
        help="threads for slow requests, beyond one for each connection (default: %(default)s)",
    )


def _add_permissions(parser: program.Parser) -> None:
    parser.add_argument(
        "--allow-path",
        metavar="FOLDER",
        action="append",
        default=[],
        help="let clients name files below this folder as resources; may be repeated",
    )
    parser.add_argument(
        "--allow-url",
        metavar="PREFIX",
        action="append",
        default=[],
        help="fetch URLs below this one, such as https://models.example/v1/, as resources for "
        "clients; may be repeated",
    )
    parser.add_argument(
        "--allow",
        metavar="PERMISSION",
        action="append",
        choices=["exec"],
        default=[],
        help="exec: let clients run functions of their own libraries, with all that this user "
        "may do; loads the plugin exec if it is not among the plugins",
    )


def _checked(convert: Callable[[str], T]) -> Callable[[str], T]:
    """`convert` for argparse, which else replaces the text of a ValueError by its own."""

    def checked(text: str) -> T:
        try:
            return convert(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from None

    return checked


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError(f"expected a whole number from 1, found {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise ValueError(f"expected a number of seconds, found {text!r}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
