"""The generic operation: any operation by its code and a list of arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from vaccel.error import InvalidArgument, NotFound
from vaccel.ops.args import Arg
from vaccel.ops.catalog import OPERATIONS
from vaccel.ops.kinds import WireArg
from vaccel.ops.objects import to_wire, to_wire_as_room
from vaccel.ops.spec import Operation

if TYPE_CHECKING:
    from vaccel.session import Session


def operation(read: Sequence[WireArg]) -> Operation:
    """The operation that a call's first argument names."""
    if not read:
        raise InvalidArgument("genop: expected the operation code as first argument, found none")
    code = read[0]
    if code.size != 1 or code.buf is None:
        raise InvalidArgument(
            f"genop: expected the operation code as one UINT8, found {code.size} bytes"
        )
    op = OPERATIONS.get(bytes(code.buf)[0])
    if op is None:
        raise InvalidArgument(
            f"genop: expected an operation code that `vaccel ops` lists, found {bytes(code.buf)[0]}"
        )
    if op.method != "Genop":
        raise InvalidArgument(
            f"genop: expected an operation on arguments, found {op.name} ({op.code}); "
            f"call session.{op.name}, or the agent's method {op.method}"
        )
    return op


def execute(
    session: Session,
    read: Sequence[WireArg],
    write: Sequence[WireArg],
    resource: Callable[[int], Any],
) -> tuple[Operation, list[Any], Any, list[WireArg]]:
    """Run the operation that read[0] names: it, its values, its result, the filled `write`.

    `resource` finds a resource by its id.
    """
    op = operation(read)
    session.require(op)
    values = op.unpack(read[1:], write, resource)
    result = session.run(op, values)
    return op, values, result, op.reply(values, result, write)


def call(session: Session, arg_read: Sequence[Arg], arg_write: Sequence[Arg]) -> None:
    """`Session.genop`: fills `arg_write` in place."""
    _check("arg_read", arg_read)
    _check("arg_write", arg_write)
    read = [to_wire(arg) for arg in arg_read]
    op = operation(read)
    results = list(zip(chain(op.wire_outputs, repeat("arg_write")), arg_write, strict=False))

    def resource(number: int) -> Any:
        known = {one.id: one for one in session.registered()}
        if number not in known:
            known = {one.id: one for one in session.resources}
        if number in known:
            return known[number]
        raise NotFound(f"resource {number} is not registered with session {session.id}")

    write = [_naming(op, name, to_wire_as_room, arg) for name, arg in results]
    _, _, _, filled = execute(session, read, write, resource)
    for (name, arg), result in zip(results, filled, strict=True):
        _naming(op, name, arg.store, result.buf)


def _check(name: str, args: Any) -> None:
    wrong = type(args).__name__
    if isinstance(args, (list, tuple)):
        wrong = next((f"{type(a).__name__} in it" for a in args if not isinstance(a, Arg)), "")
    if wrong:
        raise InvalidArgument(f"genop: {name}: expected a list of Arg, found {wrong}")


def _naming(op: Operation, name: str, act: Callable[[Any], Any], value: Any) -> Any:
    """`act(value)`, whose error then says which argument of which operation."""
    try:
        return act(value)
    except InvalidArgument as exc:
        raise op.invalid(name, exc) from None
