"""What all programs share: errors become one line and an exit code, never a traceback."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from vaccel import log
from vaccel.config import Config
from vaccel.error import FFIError, InvalidArgument

USAGE, FAILURE = 2, 1
INTERRUPTED, PIPE_CLOSED = 130, 141  # as a shell reports SIGINT and SIGPIPE


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; prints examples as they are written."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog.split()[0]}: {message}; see `{self.prog} --help`\n")


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM an interruption, like Ctrl-C, so that what was begun is ended in order."""
    old = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def run(name: str, work: Callable[[], int | None]) -> int:
    """The exit code of the program `name`, whose work is `work`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # By lines, so that output and log lines stand in order where both go to one place.
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        code = work() or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes once more at exit, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as exc:  # the outermost frame: nothing above could handle it
        if not isinstance(exc, (FFIError, OSError)):
            _log_traceback()
        print(f"{name}: {_one_line(exc)}", file=sys.stderr)
        return USAGE if isinstance(exc, InvalidArgument) else FAILURE


def _log_traceback() -> None:
    """At the level, and to the file, that the environment says: perhaps nothing has begun yet."""
    with contextlib.suppress(FFIError):  # of a wrong variable: the error itself matters more
        ours = not log.is_configured()
        if ours:
            config = Config.from_env()
            log.configure(config.log_level, config.log_file)
        log.logger.debug("an error that was not foreseen:", exc_info=True)
        if ours:
            log.release()


def _one_line(exc: Exception) -> str:
    if isinstance(exc, FFIError):
        text = exc.message
    elif isinstance(exc, OSError) and exc.strerror:
        text = f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    else:
        text = f"{type(exc).__name__}: {exc}; VACCEL_LOG_LEVEL=4 shows where it happened"
    return " ".join(text.split())
