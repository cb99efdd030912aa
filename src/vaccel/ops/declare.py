"""From a typed stub to an operation and the method that calls it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from vaccel.error import FFIError, InvalidArgument, of_kernel
from vaccel.ops.spec import Operation

F = TypeVar("F", bound=Callable[..., Any])


def operation(code: int, title: str, **options: Any) -> Callable[[F], F]:
    """Declare the decorated stub as an operation; it becomes the method that calls it."""

    def declare(stub: F) -> F:
        op = Operation(stub, code, title, **options)
        arity = op.arity

        @functools.wraps(stub)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            if kwargs or len(args) != arity:
                args = op.bind(args, kwargs)
            direct = self.direct.get(code)
            if direct is not None:
                try:
                    result = direct(args)
                except FFIError:
                    raise
                except Exception as exc:
                    raise of_kernel(op.name, exc) from exc
                if result is not NotImplemented:
                    return result
            return self.invoke(op, args)

        method.operation = op  # type: ignore[attr-defined]
        return cast("F", method)

    return declare


def operation_of(method: Callable[..., Any]) -> Operation:
    """The operation that a session method, such as `Operations.fpga_vadd`, calls."""
    op = getattr(method, "operation", None)
    if not isinstance(op, Operation):
        raise InvalidArgument(f"expected a method of Operations, found {method!r}")
    return op
