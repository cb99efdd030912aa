"""Options that several programs have."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from vaccel.config import Config, switch
from vaccel.error import InvalidArgument

_KEYS = [field.name for field in dataclasses.fields(Config) if field.name != "timeouts"]


def config(text: str = "", environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration of the environment, changed by `text`: `key=value,key=value`."""
    base = Config.from_env(environ)
    changes: dict[str, Any] = {}
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or key not in _KEYS:
            raise InvalidArgument(
                f"--vaccel-config: expected key=value with a key of {', '.join(_KEYS)}, "
                f"found {pair!r}"
            )
        changes[key] = _converted(key, value, getattr(base, key))
    return dataclasses.replace(base, **changes)


def _converted(key: str, value: str, default: Any) -> Any:
    """`value` in the type that the configuration's `key` has."""
    if isinstance(default, bool):
        found = switch(value)
        if found is None:
            raise InvalidArgument(f"--vaccel-config: {key}: expected 0 or 1, found {value!r}")
        return found
    if isinstance(default, int):
        return int(value) if value.isascii() and value.isdigit() else value
    return value
