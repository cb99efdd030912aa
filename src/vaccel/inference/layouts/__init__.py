"""The outputs of image models → results: FORMATS has a row for each layout that is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vaccel.error import InvalidArgument
from vaccel.inference.layouts import classify, depth, detect, pose, segment
from vaccel.inference.layouts.formats import (
    THRESHOLDS,
    Array,
    Format,
    Output,
    Unsettled,
    known_names,
    listed,
    threshold,
)
from vaccel.inference.results import Result

if TYPE_CHECKING:
    from vaccel.inference.description import Description

__all__ = [
    "FORMATS",
    "THRESHOLDS",
    "Output",
    "Unsettled",
    "bind",
    "guess",
    "settle",
    "threshold",
]

FORMATS: dict[str, Format] = {
    row.key: row for module in (classify, detect, segment, pose, depth) for row in module.FORMATS
}
"""Every layout by its key, the description's output_format."""


def bind(description: Description, made: Sequence[Output]) -> Callable[..., Result]:
    """What reads the result in outputs of the shapes and types of `made`.

    It gets the outputs in the same order and, needed only where the description leaves it open, the
    height and width of the input that they were made of. InvalidArgument, from either: the outputs
    do not fit the layout, or hold NaN, infinity or scores that are none; several layouts fit, and
    the error says what would settle it.
    """
    row = _row(description.output_format or guess(description, made), description.task)
    names = [one.name for one in made]
    places = [names.index(name) for name in row.bind(made, description)]

    def read(outputs: Sequence[Array], size: tuple[int, int] | None = None) -> Result:
        arrays = [outputs[place] for place in places]
        return row.read(description, size or description.model_size, *arrays)

    return read


def guess(description: Description, outputs: Sequence[Output]) -> str:
    """The key of the layout that `outputs` have, going by shapes and names.

    Of the layouts that fit, those count that account for most of the outputs. InvalidArgument: none
    fits, or several do.
    """
    rows = [row for row in FORMATS.values() if row.task == description.task and row.guessed]
    fitting = [row for row in rows if row.fits(outputs, description)]
    most = max((len(row.roles) for row in fitting), default=0)
    best = [row.key for row in fitting if len(row.roles) == most]
    if not best:
        raise InvalidArgument(
            f"model: expected outputs to {description.task} for "
            f"{known_names(description)}: {'; '.join(f'{row.key} {row.shapes}' for row in rows)}; "
            f"found {listed(outputs)}"
        )
    if len(best) > 1:
        raise Unsettled("output_format", f"{listed(outputs)} fit {' and '.join(best)}", best[0])
    return best[0]


def settle(description: Description, declared: Sequence[Output]) -> str | None:
    """The layout's key, so far as the `declared` outputs tell; None: only those made will.

    InvalidArgument: as for `guess`, or the key that the description has is none of its task.
    """
    if description.output_format is not None:
        return _row(description.output_format, description.task).key
    if any(None in one.shape or not one.shape for one in declared):  # no extents: none declared
        return None
    return guess(description, declared)


def _row(key: str, task: str) -> Format:
    row = FORMATS.get(key)
    if row is None or row.task != task:
        keys = [row.key for row in FORMATS.values() if row.task == task]
        raise InvalidArgument(
            f"model: output_format: expected one of {', '.join(keys)} to {task}, found {key!r}"
        )
    return row
