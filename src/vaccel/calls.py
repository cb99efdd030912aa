"""Genop requests, served: arguments in, kernel, arguments out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vaccel import genop
from vaccel.ops.kinds import WireArg
from vaccel.ops.numbers import Layout
from vaccel.ops.spec import Operation
from vaccel.rpc import arguments, codec, messages
from vaccel.rpc.arguments import Contents
from vaccel.rpc.server import Reply
from vaccel.session import Session

Finder = Callable[[int], Any]


class Call:
    """What Genop requests of one shape have in common.

    For operations on plain arrays the shape decides all that is to be checked. So after the first
    request the next ones need no more than arrays over their memory.
    """

    def __init__(self, message: Any) -> None:
        self._message = message
        self.session_id: int = message.session_id
        self._op: Operation | None = None
        self._inputs: Layout | None = None
        self._outputs = Layout([])
        self._template: Any = None

    def run(self, session: Session, views: Sequence[memoryview], resource: Finder) -> Reply:
        """The answer. `resource` finds a resource by its id."""
        op = self._op
        if op is None or self._inputs is None:
            return self._first(session, views, resource)
        values = self._inputs.over(views)
        result = session.run(op, values)
        results = op.values(result)
        if self._outputs.matches(results):
            return self._template, results
        write = arguments.decode(self._message.write_args, views)
        return _reply(op.reply(values, result, write))

    def _first(self, session: Session, views: Sequence[memoryview], resource: Finder) -> Reply:
        read = arguments.decode(self._message.read_args, views)
        write = arguments.decode(self._message.write_args, views)
        op, values, result, filled = genop.execute(session, read, write, resource)
        answer = _reply(filled)
        places = [codec.bulk_index(arg.buf) for arg in self._message.read_args[1:]]
        if op.plain and places == list(range(len(places))) and len(answer[1]) == len(filled):
            self._op, self._template = op, answer[0]
            self._outputs = Layout(op.values(result))
            self._inputs = Layout(values)
        return answer


def stream(parts: Sequence[Any], session: Callable[[int], Session], resource: Finder) -> Reply:
    """The answer to a streamed Genop."""
    number, read, write = arguments.gather(parts)
    return _reply(genop.execute(session(number), read, write, resource)[3])


def _reply(filled: Sequence[WireArg]) -> Reply:
    contents = Contents()
    args = arguments.encode(filled, contents)
    message = messages.GenopResponse(write_args=args)
    return codec.response(message, contents.sizes), contents.buffers
