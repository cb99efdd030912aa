"""What a user can choose: one frozen `Config`, explicit or from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vaccel.error import InvalidArgument

OPTIONAL = "?"
"""At the end of a plugin's name."""
DEFAULT_PLUGINS = "cpu:onnx?"
DEFAULT_ENDPOINT = "tcp://127.0.0.1:65500"

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


@dataclass(frozen=True)
class Timeouts:
    """Limits of remote calls, in seconds; None waits without limit."""

    connect: float | None = 10.0
    control: float | None = 30.0
    """Session and resource calls."""
    operation: float | None = None
    """Operations: a kernel may rightly run for hours."""
    keepalive: float | None = 30.0
    """A peer that is silent on TCP level for this long counts as gone."""


@dataclass(frozen=True)
class Config:
    """Runtime configuration.

    plugins: names, module paths, files or old shared-object names, ':'-separated; one with '?' at
    its end is left out where what it needs is missing. log_level: 1 error, 2 warn, 3 info, 4
    debug. log_file: None is standard error. endpoint: the agent of the rpc plugin.
    """

    plugins: str = "libvaccel-noop.so"
    log_level: int = 1
    log_file: str | None = None
    profiling_enabled: bool = field(default=False, kw_only=True)
    version_ignore: bool = field(default=False, kw_only=True)
    endpoint: str = field(default=DEFAULT_ENDPOINT, kw_only=True)
    timeouts: Timeouts = field(default=Timeouts(), kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.log_file, Path):
            object.__setattr__(self, "log_file", str(self.log_file))
        if not isinstance(self.plugins, str):
            raise InvalidArgument(
                f"plugins: expected names in one text, ':'-separated, found {self.plugins!r:.80}"
            )
        if self.log_level not in (1, 2, 3, 4):
            raise InvalidArgument(
                f"log_level: expected 1 (error), 2 (warn), 3 (info) or 4 (debug), "
                f"found {self.log_level!r}"
            )

    @property
    def plugin_names(self) -> tuple[str, ...]:
        return tuple(name for name in self.plugins.split(":") if name)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """The configuration that the environment describes, in new names or the old ones."""
        return cls(
            plugins=_get(environ, "VACCEL_PLUGINS", "VACCEL_BACKENDS") or DEFAULT_PLUGINS,
            log_level=_level(environ),
            log_file=environ.get("VACCEL_LOG_FILE") or None,
            profiling_enabled=flag(environ, "VACCEL_PROFILING_ENABLED"),
            version_ignore=flag(environ, "VACCEL_VERSION_IGNORE", "VACCEL_IGNORE_VERSION"),
            endpoint=_get(environ, "VACCEL_RPC_ADDRESS", "VACCEL_RPC_ADDR", "VACCEL_VSOCK")
            or DEFAULT_ENDPOINT,
            timeouts=Timeouts(
                connect=seconds(environ, "VACCEL_RPC_CONNECT_TIMEOUT", Timeouts.connect),
                control=seconds(environ, "VACCEL_RPC_CONTROL_TIMEOUT", Timeouts.control),
                operation=seconds(environ, "VACCEL_RPC_TIMEOUT", Timeouts.operation),
                keepalive=seconds(environ, "VACCEL_RPC_KEEPALIVE", Timeouts.keepalive),
            ),
        )


def size(text: str) -> int:
    """Bytes from a number with an optional K, M or G (powers of 1024); ValueError."""
    match = re.fullmatch(r"([0-9]{1,12})([KMG]?)i?B?", text, re.IGNORECASE)
    if not match or not int(match[1]):
        raise ValueError(f"expected a number of bytes such as 4096, 64M or 1G, found {text!r}")
    return int(match[1]) * _UNITS[match[2].upper()]


def auto_bootstrap(environ: Mapping[str, str] = os.environ) -> bool:
    return switch(environ.get("VACCEL_BOOTSTRAP_ENABLED", "")) is not False


def auto_cleanup(environ: Mapping[str, str] = os.environ) -> bool:
    return switch(environ.get("VACCEL_CLEANUP_ENABLED", "")) is not False


def switch(text: str) -> bool | None:
    """What `text` says of something that is on or off; None: neither."""
    text = text.lower()
    return True if text in _TRUE else False if text in _FALSE else None


def _find(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first variable of `names` that is set, and its text; an empty one is not set."""
    found = ((name, environ[name]) for name in names if environ.get(name))
    return next(found, (names[0], ""))


def _get(environ: Mapping[str, str], *names: str) -> str:
    return _find(environ, *names)[1]


def _level(environ: Mapping[str, str]) -> int:
    name, text = _find(environ, "VACCEL_LOG_LEVEL", "VACCEL_DEBUG_LEVEL")
    if text not in ("", "1", "2", "3", "4"):
        raise InvalidArgument(
            f"{name}: expected 1 (error), 2 (warn), 3 (info) or 4 (debug), found {text!r}"
        )
    return int(text or 1)


def flag(environ: Mapping[str, str], *names: str) -> bool:
    """A variable that is on or off; off if it is not set. InvalidArgument: it is neither."""
    name, text = _find(environ, *names)
    found = switch(text) if text else False
    if found is None:
        raise InvalidArgument(f"{name}: expected 0 or 1, found {text!r}")
    return found


def seconds(environ: Mapping[str, str], name: str, default: float | None) -> float | None:
    """A variable that is a time; None: no limit. InvalidArgument: it is none."""
    text = environ.get(name, "")
    if not text:
        return default
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e9:
        raise InvalidArgument(f"{name}: expected seconds (0 for no limit), found {text!r}")
    return found or None
