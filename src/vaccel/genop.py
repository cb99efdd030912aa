"""The generic operation: any operation by its code and a list of arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vaccel.error import InvalidArgument, NotFound
from vaccel.ops.args import Arg
from vaccel.ops.catalog import OPERATIONS
from vaccel.ops.kinds import WireArg
from vaccel.ops.objects import to_wire, to_wire_as_room
from vaccel.ops.spec import Operation

if TYPE_CHECKING:
    from vaccel.session import Session


def operation(code: WireArg) -> Operation:
    """The operation that a call's first argument names."""
    if code.size != 1 or code.buf is None:
        raise InvalidArgument(
            f"genop: expected the operation code as one UINT8, found {code.size} bytes"
        )
    op = OPERATIONS.get(bytes(code.buf)[0])
    if op is None:
        raise InvalidArgument(
            f"genop: expected an operation code that `vaccel ops` lists, found {bytes(code.buf)[0]}"
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
    if not read:
        raise InvalidArgument("genop: expected the operation code as first argument, found none")
    op = operation(read[0])
    session.require(op)
    values = op.unpack(read[1:], write, resource)
    result = session.run(op, values)
    return op, values, result, op.reply(values, result, write)


def call(session: Session, arg_read: Sequence[Arg], arg_write: Sequence[Arg]) -> None:
    """`Session.genop`: fills `arg_write` in place."""
    for arg in (*arg_read, *arg_write):
        if not isinstance(arg, Arg):
            raise InvalidArgument(
                f"genop: expected lists of Arg, found {type(arg).__name__} in one"
            )
    read = [to_wire(arg) for arg in arg_read]

    def resource(number: int) -> Any:
        for known in session.resources:
            if known.id == number:
                return known
        raise NotFound(f"resource {number} is not registered with session {session.id}")

    write = [to_wire_as_room(arg) for arg in arg_write]
    _, _, _, filled = execute(session, read, write, resource)
    for arg, result in zip(arg_write, filled, strict=True):
        arg.store(result.buf)
