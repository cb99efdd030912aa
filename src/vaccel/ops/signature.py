"""What a declaration's annotations say: the kinds of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from vaccel.ops.kinds import Kind


class Outputs(dict[str, Kind]):
    """The named results of an operation, in the order in which they are returned."""

    def __init__(self, **kinds: Kind) -> None:
        super().__init__(kinds)


def kinds_of(stub: Callable[..., Any]) -> tuple[dict[str, Kind], Outputs]:
    hints = get_type_hints(stub, include_extras=True)
    result = next((m for m in _metadata(hints.pop("return")) if isinstance(m, Outputs)), Outputs())
    inputs = {}
    for name, hint in hints.items():
        kind = next((m for m in _metadata(hint) if isinstance(m, Kind)), None)
        if kind is None:
            raise TypeError(f"{stub.__name__}: annotate {name} with a kind, not {hint}")
        inputs[name] = kind
    return inputs, result


def _metadata(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) is Annotated:
        return get_args(hint)[1:]
    # `Annotated[…] | None` for arguments that may be left out.
    return tuple(m for part in get_args(hint) for m in _metadata(part))
