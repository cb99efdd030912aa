"""Genop requests, served: arguments in, kernel, arguments out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vaccel import genop
from vaccel.error import FFIError, of_kernel
from vaccel.ops.kinds import WireArg
from vaccel.ops.layout import Desk, Layout
from vaccel.ops.spec import Operation
from vaccel.rpc import arguments, codec, frames, messages
from vaccel.rpc.arguments import Contents
from vaccel.rpc.codec import Match
from vaccel.rpc.frames import Template
from vaccel.rpc.handler import Reply
from vaccel.rpc.known import Serve
from vaccel.rpc.ttrpc import Kind
from vaccel.session import Session

RESPONSE = bytes((Kind.RESPONSE, 0))
Finder = Callable[[int], Any]


class Call:
    """What Genop requests of one shape have in common.

    For operations on plain arrays the shape decides all that is to be checked. So after the first
    request the next ones need no more than arrays over their memory.
    """

    def __init__(
        self, message: Any, sessions: Mapping[int, Session], session: Callable[[int], Session]
    ) -> None:
        """`session` finds one of `sessions`, or raises."""
        self._message = message
        self._session_id: int = message.session_id
        self._sessions = sessions
        self._session = session
        self.is_plain = False
        """Further requests are served without a look at their arguments one by one."""
        self._op: Operation
        self._inputs = Layout([])
        self._outputs = Layout([])
        self._room: list[WireArg] = []
        self._template: Template

    def run(self, views: Sequence[memoryview], resource: Finder) -> Reply:
        """The answer. `resource` finds a resource by its id."""
        session = self._session(self._session_id)
        if not self.is_plain:
            return self._first(session, views, resource)
        values = self._inputs.over(views)
        return self._answer(values, session.run(self._op, values))

    def quick(self, match: Match) -> Serve:
        """Serves further requests, where `is_plain`."""
        inputs, single = self._inputs, self._outputs.single
        op, find, session_id = self._op, self._session, self._session_id
        code, known, offsets = op.code, self._sessions.get, match.offsets[: len(inputs)]
        dtype, shape = single or (None, ())
        length, _, *around = self._template.pieces(RESPONSE)
        before, after = around[0], around[-1]  # of the array, if there is just one
        join, ndarray = b"".join, np.ndarray
        idle: list[Desk] = []  # several threads may serve at once, each at a desk of its own

        def serve(frame: bytes, number: bytes) -> bytes:
            try:
                desk = idle.pop()
            except IndexError:
                desk = inputs.desk(match.size, offsets)
            memory, copies, values = desk
            memory[:] = frame
            for own, source in copies:
                own[...] = source
            # As `Session.run`; the call would cost as much again.
            session = known(session_id) or find(session_id)
            kernel = session.kernels.get(code)
            if kernel is None:
                result = session.run(op, values)
            else:
                try:
                    result = kernel(*values)
                except FFIError:
                    raise
                except Exception as exc:
                    raise of_kernel(op.name, exc) from exc
            if type(result) is ndarray and result.dtype is dtype and result.shape == shape:
                answer = join((length, number, before, result.tobytes(), after))
            else:
                template, contents = self._answer(values, result)
                answer = template.joined(number, RESPONSE, contents)
            idle.append(desk)
            return answer

        return serve

    def _answer(self, values: Sequence[Any], result: Any) -> Reply:
        results = self._op.values(result)
        if self._outputs.matches(results):
            return self._template, results
        return _reply(self._op.reply(values, result, self._room))

    def _first(self, session: Session, views: Sequence[memoryview], resource: Finder) -> Reply:
        read = arguments.decode(self._message.read_args, views)
        write = arguments.decode(self._message.write_args, views)
        op, values, _, filled = genop.execute(session, read, write, resource)
        answer = _reply(filled)
        places = [codec.bulk_index(arg.buf) for arg in self._message.read_args[1:]]
        if op.plain and places == list(range(len(places))) and len(answer[1]) == len(filled):
            self._op, self._template = op, answer[0]
            self._outputs = Layout(answer[1])
            self._room = [arg._replace(buf=None) for arg in write]
            self._inputs = Layout(values)
            self.is_plain = True  # the last: other threads may see it
        return answer


def stream(parts: Sequence[Any], session: Callable[[int], Session], resource: Finder) -> Reply:
    """The answer to a streamed Genop."""
    number, read, write = arguments.gather(parts)
    return _reply(genop.execute(session(number), read, write, resource)[3])


def _reply(filled: Sequence[WireArg]) -> Reply:
    contents = Contents()
    args = arguments.encode(filled, contents)
    message = messages.GenopResponse(write_args=args)
    return frames.response(message, contents.sizes), contents.buffers
