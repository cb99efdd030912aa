"""The generic operation: any operation by its code and a list of arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vaccel.error import InvalidArgument, NotFound
from vaccel.ops.args import Arg
from vaccel.ops.catalog import OPERATIONS
from vaccel.ops.kinds import WireArg
from vaccel.ops.objects import to_wire
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
            f"genop: expected an operation code from 0 to {max(OPERATIONS)}, "
            f"found {bytes(code.buf)[0]}"
        )
    return op


def execute(
    session: Session,
    op: Operation,
    read: Sequence[WireArg],
    write: Sequence[WireArg],
    resource: Callable[[int], Any],
) -> list[WireArg]:
    """Unpack the arguments (the code not included), run, and fill the write arguments."""
    session.require(op)
    checked = op.unpack(read, write, resource)
    return op.reply(checked, session.run(op, checked), write)


def call(session: Session, arg_read: Sequence[Arg], arg_write: Sequence[Arg]) -> None:
    """`Session.genop`: fills `arg_write` in place."""
    read = [to_wire(arg) for arg in arg_read]
    if not read:
        raise InvalidArgument("genop: expected the operation code as first argument, found none")

    def resource(number: int) -> Any:
        for known in session.resources:
            if known.id == number:
                return known
        raise NotFound(f"resource {number} is not registered with session {session.id}")

    write = [to_wire(arg) for arg in arg_write]
    filled = execute(session, operation(read[0]), read[1:], write, resource)
    for arg, result in zip(arg_write, filled, strict=True):
        arg.store(result.buf)
