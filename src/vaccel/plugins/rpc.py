"""rpc: carries operations to an agent, over one connection for all of a process's sessions.

Also found under its old name, vsock.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vaccel import log
from vaccel.config import Config, Timeouts
from vaccel.error import DeadlineExceeded, FFIError, NotFound, SessionClosed
from vaccel.ops.spec import Operation
from vaccel.plugin import Kernel, Plugin, PluginType
from vaccel.resource import Resource
from vaccel.rpc import address, arguments, frames, messages, models, registry
from vaccel.rpc.arguments import EMPTY_WRITE_ARGS, Contents
from vaccel.rpc.codec import Shape
from vaccel.rpc.content import UPLOADS
from vaccel.rpc.link import Link, Remote, nanoseconds
from vaccel.rpc.plan import Plan
from vaccel.rpc.quick import Answer, QuickClient

if TYPE_CHECKING:
    from vaccel.session import Session

_FEATURES = EMPTY_WRITE_ARGS | UPLOADS
_PLANS_KEPT = 256
_RELEASE = 5.0
"""Seconds that letting go may take: an agent lets go with the connection, at the latest."""


class RpcPlugin(Plugin):
    """Implements every operation by asking the agent at the session's endpoint."""

    def __init__(self, name: str) -> None:
        super().__init__(name, PluginType.REMOTE | PluginType.GENERIC, summary="an agent elsewhere")
        self._configure(Config())

    def start(self, config: Config) -> None:
        if self.name == "vsock":
            log.debug("vsock is a VirtIO module")
        self._configure(config)

    def _configure(self, config: Config) -> None:
        self._endpoint = config.endpoint
        self._timeouts: Timeouts = config.timeouts
        self._timeout = config.timeouts.operation
        self._lock = threading.Lock()
        self._links: dict[str, Link] = {}
        self._connecting: dict[str, threading.Lock] = {}
        self._remotes: dict[Session, Remote] = {}

    def close(self) -> None:
        with self._lock:
            links, self._links = list(self._links.values()), {}
        for link in links:
            link.client.close()

    def disown(self) -> None:
        for link in self._links.values():
            link.client.disown()
        self._links, self._remotes = {}, {}

    def find(self, op: Operation) -> Kernel:
        return functools.partial(self._genop if op.method == "Genop" else self._model, op)

    # -- sessions ------------------------------------------------------------------------------

    def open_session(self, session: Session) -> None:
        log.debug("[%s] Initializing session", self.name)
        link = self._link(session.endpoint or self._endpoint)
        request = messages.CreateSessionRequest(flags=int(session.flags), features=_FEATURES)
        try:
            answer = self._control(link, "CreateSession", request)
        except FFIError:
            self._release(link)
            raise
        link.features = answer.features
        self._remotes[session] = Remote(link, answer.session_id)
        session.remote_id = answer.session_id
        log.debug("[%s] New session %d", self.name, answer.session_id)

    def update_session(self, session: Session) -> None:
        link, number = self._remote(session)
        request = messages.UpdateSessionRequest(session_id=number, flags=int(session.flags))
        self._control(link, "UpdateSession", request)

    def close_session(self, session: Session) -> None:
        remote = self._remotes.pop(session, None)
        if remote is None:
            return
        log.debug("[%s] Destroying session %d", self.name, remote.id)
        try:
            request = messages.DestroySessionRequest(session_id=remote.id)
            self._let_go(remote.link, "DestroySession", request)
        finally:
            self._release(remote.link)

    def _remote(self, session: Session) -> Remote:
        try:
            return self._remotes[session]
        except KeyError:
            raise SessionClosed(f"session {session.id} is not open at an agent") from None

    def _link(self, endpoint: str) -> Link:
        """The connection to `endpoint`; a lost one is replaced."""
        key = str(address.parse(endpoint))
        with self._lock:
            connecting = self._connecting.setdefault(key, threading.Lock())
        # Sessions to the same agent wait for one connection, those to other agents do not.
        with connecting:
            with self._lock:
                link = self._links.get(key)
                if link is not None:
                    link.sessions += 1  # before a look at it, so that nobody closes it meanwhile
            if link is not None:
                if link.client.alive:
                    return link
                self._release(link)
            link = Link(QuickClient(endpoint, self._timeouts))
            link.sessions = 1
            with self._lock:
                self._links[key] = link
            return link

    def _release(self, link: Link) -> None:
        with self._lock:
            link.sessions -= 1
            if link.sessions:
                return
            key = str(link.client.endpoint)
            if self._links.get(key) is link:
                del self._links[key]
        log.debug("[%s] Destroying %s client", self.name, self.name)
        link.client.close()

    def _control(self, link: Link, method: str, request: Any) -> Any:
        return link.call(method, request, self._timeouts.control)[0]

    def _let_go(self, link: Link, method: str, request: Any) -> None:
        if time.monotonic() < link.silent_until or not link.client.alive:
            return
        limit = self._timeouts.control
        try:
            link.call(method, request, _RELEASE if limit is None else min(limit, _RELEASE))
        except DeadlineExceeded:
            # Who lets go of much must not wait for each.
            link.silent_until = time.monotonic() + _RELEASE
            raise

    # -- resources -----------------------------------------------------------------------------

    def register(self, session: Session, resource: Resource) -> None:
        link, number = self._remote(session)
        with link.registration(resource.id) as there:
            there.id = registry.register(link, number, resource, there.id, self._timeouts.control)
            there.sessions += 1
            resource.remote_id = there.id

    def unregister(self, session: Session, resource: Resource) -> None:
        link, number = self._remote(session)
        if resource.id not in link.resources:
            return
        with link.registration(resource.id) as there:
            if not there.sessions:
                return
            there.sessions -= 1
            request = messages.UnregisterResourceRequest(resource_id=there.id, session_id=number)
            self._let_go(link, "UnregisterResource", request)

    def sync(self, session: Session, resource: Resource) -> None:
        link, number = self._remote(session)
        there = self._resource_id(link, resource)
        registry.sync(link, number, resource, there, self._timeouts.control)

    @staticmethod
    def _resource_id(link: Link, resource: Any) -> int:
        there = link.resources.get(resource.id)
        if there is None or not there.id:
            raise NotFound(
                f"resource {resource.id} is not registered with a session of this agent: "
                f"call resource.register(session) first"
            )
        return there.id

    # -- operations ----------------------------------------------------------------------------

    def bind(self, op: Operation, session: Session) -> Kernel:
        return self._plain(op, session) if op.plain else self.find(op)

    def _plain(self, op: Operation, session: Session) -> Kernel:
        """A kernel that remembers, by the size of its arrays, how such calls travel."""
        link, number = self._remote(session)
        client, timeout = link.client, self._timeout
        direct, dropped = session.direct, session.runtime.dropped
        instrumented = session.runtime.instrumented
        plans: dict[int, Plan] = {}

        def finish(plan: Plan, values: Sequence[Any], answer: Answer) -> Any:
            if isinstance(answer, bytearray):
                return plan.results(answer)
            shape, views = answer
            if shape is not plan.match.shape:
                return self._result(op, values, shape, views, plan)
            return plan.results(views)

        def kernel(session: Session, *values: Any) -> Any:
            # All arrays of such an operation are of one size.
            size = values[0].nbytes if values else 0
            plan = plans.get(size)
            if plan is None:
                return self._first(op, link, number, values, plans)
            if plan.small and timeout is None:
                if plan.call is None:
                    done = functools.partial(finish, plan)
                    plan.call = client.caller("Genop", plan, done, dropped)
                if not instrumented:
                    direct[op.code] = plan.call
                result = plan.call(values)
                if result is not NotImplemented:
                    return result
            contents = (*values, *plan.zeros) if plan.zeros else values
            answer = client.call("Genop", plan.template, contents, timeout, what=op.name)
            return finish(plan, values, answer)

        return kernel

    def _first(
        self,
        op: Operation,
        link: Link,
        number: int,
        values: Sequence[Any],
        plans: dict[int, Plan],
    ) -> Any:
        """A call with arrays of a size that was not seen before."""
        plan, buffers = self._plan(op, link, number, values)
        shape, views = self._send(op, link, plan, buffers)
        result = self._result(op, values, shape, views, plan)
        if len(views) == len(op.outputs) and len(buffers) >= len(values):
            plan.expect(shape, values, op.values(result))
            if len(plans) >= _PLANS_KEPT:
                plans.clear()
            plans[values[0].nbytes if values else 0] = plan
        return result

    def _genop(self, op: Operation, session: Session, *values: Any) -> Any:
        link, number = self._remote(session)
        if op.resource is not None:
            values = self._with_id(op.resource, link, values)
        plan, buffers = self._plan(op, link, number, values)
        shape, views = self._send(op, link, plan, buffers)
        return self._result(op, values, shape, views, plan)

    def _send(
        self, op: Operation, link: Link, plan: Plan, buffers: Sequence[Any]
    ) -> tuple[Shape, list[memoryview]]:
        return link.client.call("Genop", plan.template, buffers, self._timeout, what=op.name)

    @staticmethod
    def _result(
        op: Operation, values: Sequence[Any], shape: Shape, views: list[memoryview], plan: Plan
    ) -> Any:
        return op.result(values, arguments.decode(shape.message.write_args, views), plan.dims)

    def _plan(
        self, op: Operation, link: Link, number: int, values: Sequence[Any]
    ) -> tuple[Plan, list[Any]]:
        dims = op.check(values)[1] if op.resource is None else {}
        contents = Contents()
        empty = bool(link.features & EMPTY_WRITE_ARGS)
        read = arguments.encode(op.read_args(values), contents)
        reads = len(contents.buffers)
        write = arguments.encode(op.write_args(values, dims), contents, empty=empty)
        request = messages.GenopRequest(session_id=number, read_args=read, write_args=write)
        timeout = nanoseconds(self._timeout)
        template = frames.request(messages.SERVICES[0], "Genop", request, contents.sizes, timeout)
        return Plan(template, contents.buffers[reads:], dims), contents.buffers

    def _with_id(self, place: int, link: Link, values: Sequence[Any]) -> tuple[Any, ...]:
        known = self._resource_id(link, values[place])
        return (*values[:place], known, *values[place + 1 :])

    def _model(self, op: Operation, session: Session, *values: Any) -> Any:
        link, number = self._remote(session)
        if op.resource is not None:
            values = self._with_id(op.resource, link, values)
        contents = Contents()
        request = models.encode_request(op, number, values, contents)
        timeout = self._timeout
        answer, views = link.call(op.method, request, timeout, contents)
        return models.decode_response(op, answer, views)


plugin = RpcPlugin("rpc")
vsock = RpcPlugin("vsock")
