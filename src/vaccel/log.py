"""Log lines as vAccel prints them: `2023.01.21-02:46:23.09 - <debug> text`.

Records go through the standard `logging` package under the name `vaccel`, to standard error or to
a file. Levels are vAccel's: 1 error, 2 warn, 3 info, 4 debug.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from vaccel.error import InvalidArgument

_LEVELS = {
    1: logging.ERROR,
    2: logging.WARNING,
    3: logging.INFO,
    4: logging.DEBUG,
}
_NAMES = {
    logging.ERROR: "error",
    logging.WARNING: "warn",
    logging.INFO: "info",
    logging.DEBUG: "debug",
}

logger = logging.getLogger("vaccel")
logger.addHandler(logging.NullHandler())

error = logger.error
warn = logger.warning
info = logger.info
debug = logger.debug


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if getattr(record, "bare", False):
            return text
        stamp = time.strftime("%Y.%m.%d-%H:%M:%S", time.localtime(record.created))
        level = _NAMES.get(record.levelno, record.levelname.lower())
        return f"{stamp}.{int(record.msecs) // 10:02d} - <{level}> {text}"


_handler: logging.Handler | None = None


def configure(level: int, file: str | Path | None) -> None:
    """Send records of `level` (1 to 4) and graver to `file`, or to standard error."""
    global _handler
    handler: logging.Handler
    try:
        handler = logging.FileHandler(file) if file else logging.StreamHandler(sys.stderr)
    except OSError as exc:
        raise InvalidArgument(
            f"log_file: expected a file that can be written, found {str(file)!r} ({exc.strerror})"
        ) from None
    handler.setFormatter(_Formatter())
    release()
    _handler = handler
    logger.addHandler(handler)
    logger.setLevel(_LEVELS[level])
    # Our handler prints the line; the root logger's would print it a second time.
    logger.propagate = False


def release() -> None:
    """Undo `configure`: close the file, hand the records back to the application's logging."""
    global _handler
    if _handler is not None:
        logger.removeHandler(_handler)
        _handler.close()
        _handler = None
        logger.propagate = True


def is_configured() -> bool:
    return _handler is not None


def debug_enabled() -> bool:
    return logger.isEnabledFor(logging.DEBUG)


def bare(text: str) -> None:
    """A debug line without a time stamp, as plugins that dump their arguments print."""
    logger.debug("%s", text, extra={"bare": True})
