"""Functions of an operation, by name, with typed arguments (`parameters`).

All arguments travel, in order. Each result fills a write argument, whose size follows from the
arguments.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, overload

import numpy as np

from vaccel.error import InvalidArgument
from vaccel.ops.args import Arg, array_type, mismatch
from vaccel.ops.parameters import Image, Parameter

MAX_RESULT = 2**30
"""Bytes; the longest message that could carry a result."""

Shaped = tuple[tuple[int, ...], Any]
"""Shape and dtype of a result."""


@dataclass(frozen=True)
class Function:
    """`shapes` gives shape and dtype of each result, from the checked arguments by name."""

    code: int
    name: str
    doc: str
    parameters: tuple[Parameter, ...]
    shapes: Callable[[dict[str, Any]], list[Shaped]]
    outputs: Mapping[str, str] = field(default_factory=lambda: {"result": "an image"})
    """The results by name, and what each is."""

    @functools.cached_property
    def inputs(self) -> dict[str, Parameter]:
        return {parameter.name: parameter for parameter in self.parameters}

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature(
            [inspect.Parameter(p.name, kind, default=p.default) for p in self.parameters]
        )

    def values(self, result: Any) -> tuple[Any, ...]:
        """The results one by one, as named in `outputs`."""
        return result if len(self.outputs) > 1 else (result,)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Checked values by name, defaults filled in."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise self.invalid(f"{exc}; expected {self.name}({', '.join(self.inputs)})") from None
        bound.apply_defaults()
        return {p.name: self._checked(p, p.check, bound.arguments[p.name]) for p in self.parameters}

    def decode(self, read: Sequence[Arg]) -> dict[str, Any]:
        """Checked values by name, from the arguments that travelled."""
        wanted = sum(1 + isinstance(p, Image) for p in self.parameters)
        if len(read) != wanted:
            names = ", ".join(self.inputs)
            raise self.invalid(f"expected {wanted} read arguments ({names}), found {len(read)}")
        args = iter(read)
        return {p.name: self._checked(p, p.decode, args) for p in self.parameters}

    def _checked(self, parameter: Parameter, check: Callable[[Any], Any], value: Any) -> Any:
        try:
            return check(value)
        except InvalidArgument as exc:
            raise self.invalid(f"{parameter.name}: {exc.message}") from None

    def results(self, values: dict[str, Any]) -> list[Shaped]:
        """Shape and dtype of each result."""
        try:
            found = self.shapes(values)
        except InvalidArgument as exc:
            raise self.invalid(exc.message) from None
        size = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in found)
        if size > MAX_RESULT:
            raise self.invalid(f"expected a result of at most {MAX_RESULT} bytes, found {size}")
        return found

    def rooms(self, values: dict[str, Any], write: Sequence[Arg]) -> list[np.ndarray[Any, Any]]:
        """The memory of the write arguments, as arrays for the results."""
        found = self.results(values)
        if len(write) != len(found):
            raise self.invalid(f"expected {len(found)} write arguments, found {len(write)}")
        arrays = []
        for i, ((shape, dtype), arg) in enumerate(zip(found, write, strict=True)):
            type, size = array_type(np.dtype(dtype)), math.prod(shape) * np.dtype(dtype).itemsize
            if arg.type != type or arg.capacity != size:
                raise self.invalid(
                    f"write argument {i}: expected {type.name} of {size} bytes for shape {shape}, "
                    f"found {arg.type.name} of {arg.capacity} bytes"
                )
            arrays.append(np.frombuffer(arg.room(), dtype).reshape(shape))
        return arrays

    def invalid(self, text: str) -> InvalidArgument:
        return InvalidArgument(f"opencv {self.name}: {text}")


def unfit(name: str, expected: object, found: object) -> InvalidArgument:
    """What `Function.shapes` raises for an argument that does not go with the others."""
    return InvalidArgument(f"{name}: {mismatch(expected, found).message}")


class ByNameOrCode(Protocol):
    """What `by_name` makes of an operation's method."""

    @overload
    def __call__(
        self,
        function: int,
        arg_read: list[Arg] | None = None,
        arg_write: list[Arg] | None = None,
    ) -> list[Any] | None: ...

    @overload
    def __call__(self, function: str, *args: Any, **kwargs: Any) -> Any: ...


def by_name(known: Mapping[str, Function]) -> Callable[[Callable[..., Any]], ByNameOrCode]:
    """For an operation that takes a function's code, inputs and room for results: it may also be
    called with the function's name and arguments, and then gives its result, or a tuple."""

    def declare(method: Callable[..., Any]) -> ByNameOrCode:
        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            name = args[0] if args else kwargs.get("function")
            if not isinstance(name, str):
                return method(self, *args, **kwargs)
            kwargs.pop("function", None)
            return _call(functools.partial(method, self), find(known, name), args[1:], kwargs)

        return call  # type: ignore[return-value] # as a method, it has no `self`

    return declare


def find(known: Mapping[str, Function], name: str) -> Function:
    """InvalidArgument names those that there are."""
    if name not in known:
        raise InvalidArgument(f"opencv: expected a function of {', '.join(known)}, found {name!r}")
    return known[name]


def _call(
    method: Callable[..., Any], found: Function, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    values = found.bind(args, kwargs)
    results = [np.zeros(shape, dtype) for shape, dtype in found.results(values)]
    read = [arg for p in found.parameters for arg in p.encode(values[p.name])]
    method(found.code, read, [Arg(one, array_type(one.dtype)) for one in results])
    given = tuple(one if one.ndim else one.item() for one in results)
    return given if len(given) > 1 else given[0]
