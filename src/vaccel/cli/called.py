"""What `vaccel run` calls: an operation, or a function that an operation has by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from vaccel.ops import opencv
from vaccel.ops.catalog import BY_NAME
from vaccel.ops.functions import Function, find
from vaccel.ops.spec import Operation

Called: TypeAlias = Operation | Function

FUNCTIONS: Mapping[str, Mapping[str, Function]] = {"opencv": opencv.BY_NAME}
"""By the name of their operation."""


def chosen(op: Operation, texts: Sequence[str]) -> tuple[Called, list[str]]:
    """What `texts` are for, and those that are its values: the first may name a function."""
    named = bool(texts) and texts[0].isidentifier()
    if op.name not in FUNCTIONS or not named:
        return op, list(texts)
    return find(FUNCTIONS[op.name], texts[0]), list(texts[1:])


def operation(called: Called) -> Operation:
    if isinstance(called, Operation):
        return called
    (name,) = (name for name, known in FUNCTIONS.items() if known.get(called.name) is called)
    return BY_NAME[name]


def title(called: Called) -> str:
    """As it stands on the command line."""
    op = operation(called)
    return op.name if op is called else f"{op.name} {called.name}"


def required(called: Called, name: str) -> bool:
    return called.signature.parameters[name].default is inspect.Parameter.empty
