"""What an agent does for one connection.

Sessions and resources belong to the connection that made them: no other can use, see or destroy
them, and they end with it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vaccel import calls, log, runtime
from vaccel.blob import Blob
from vaccel.calls import Call
from vaccel.error import InvalidArgument, PermissionDenied
from vaccel.ops.catalog import BY_NAME, OPERATIONS
from vaccel.ops.spec import Operation
from vaccel.resource import Resource
from vaccel.rpc import codec, messages, models, status
from vaccel.rpc.arguments import EMPTY_WRITE_ARGS, Contents
from vaccel.rpc.codec import Shape
from vaccel.rpc.content import UPLOADS
from vaccel.rpc.handler import Limits, Method, Reply, Stream, reply
from vaccel.rpc.status import RpcFailure
from vaccel.rpc.ttrpc import Data
from vaccel.session import Session
from vaccel.sources.urls import Prefixes, is_url
from vaccel.uploads.incoming import blob_type
from vaccel.uploads.service import Uploads
from vaccel.uploads.store import Store

FEATURES = EMPTY_WRITE_ARGS | UPLOADS
MAX_OBJECTS = 4096
"""Sessions, and resources, that one connection may have open."""

_REGIONS = {"Genop": "[genop] sess.genop", "GenopStream": "[genop] sess.genop"}
_MODEL_METHODS = {op.method: op for op in OPERATIONS.values() if op.method != "Genop"}


class Connection:
    """The service for one connection."""

    def __init__(
        self,
        name: str,
        allow_paths: Sequence[Path],
        allow_urls: Prefixes,
        allow: frozenset[str],
        store: Store,
        limits: Limits,
    ) -> None:
        self._name = name
        self._allow = allow
        self._allow_paths = allow_paths
        self._allow_urls = allow_urls
        self._lock = threading.Lock()
        self._sessions: dict[int, Session] = {}
        self._resources: dict[int, Resource] = {}
        self._closed = False
        self._profiler = runtime.current().profiler
        self._uploads = Uploads(store, limits, self._session, self._resource, self._enter)
        serve: dict[str, Method] = {
            "CreateSession": self._create_session,
            "UpdateSession": self._update_session,
            "DestroySession": self._destroy_session,
            "RegisterResource": self._register_resource,
            "UnregisterResource": self._unregister_resource,
            "SyncResource": self._sync_resource,
            "ImageClassification": self._classify,
            "Genop": self._genop,
            "GetProfiler": self._profile,
        }
        serve |= self._uploads.methods
        serve |= {m: functools.partial(self._model, op) for m, op in _MODEL_METHODS.items()}
        streams: dict[str, Stream] = {"GenopStream": self._genop_stream}
        if self._profiler.enabled:
            serve = {name: self._timed(name, method) for name, method in serve.items()}
            streams = {name: self._timed(name, method) for name, method in streams.items()}
        self.methods, self.streams = serve, streams

    def _timed(self, method: str, serve: Callable[..., Reply]) -> Callable[..., Reply]:
        name = _REGIONS.get(method, f"[{method}]")

        def timed(*request: Any) -> Reply:
            with self._profiler.region(name):
                return serve(*request)

        return timed

    def close(self) -> None:
        with self._lock:
            self._closed = True
            sessions, resources = list(self._sessions.values()), list(self._resources.values())
            self._sessions.clear()
            self._resources.clear()
        self._uploads.close()
        for session in sessions:
            session.close()
        for resource in resources:
            resource.close()
        log.debug("%s closed, %d sessions released", self._name, len(sessions))

    def _session(self, number: int) -> Session:
        session = self._sessions.get(number)
        if session is None:
            raise RpcFailure(status.NOT_FOUND, f"Unknown session {number}")
        return session

    def _resource(self, number: int) -> Resource:
        resource = self._resources.get(number)
        if resource is None:
            raise RpcFailure(status.NOT_FOUND, f"Unknown resource {number}")
        return resource

    def _keep(self, table: dict[int, Any], thing: Any) -> None:
        """Enter a new session or resource, unless the connection has ended meanwhile."""
        with self._lock:
            full = len(table) >= MAX_OBJECTS
            if not full and not self._closed:
                table[thing.id] = thing
                return
        thing.close()
        raise RpcFailure(
            status.RESOURCE_EXHAUSTED if full else status.UNAVAILABLE,
            f"more than {MAX_OBJECTS} open at once" if full else "the connection has ended",
        )

    # -- sessions ------------------------------------------------------------------------------

    def _create_session(self, shape: Shape, views: list[memoryview]) -> Reply:
        session = Session(shape.message.flags & 0xFFFFFFFF)
        session.permissions = self._allow
        self._keep(self._sessions, session)
        # Peers of 0.8 send no features, and need to see none.
        features = FEATURES if shape.message.features else 0
        return reply(messages.CreateSessionResponse(session_id=session.id, features=features))

    def _update_session(self, shape: Shape, views: list[memoryview]) -> Reply:
        self._session(shape.message.session_id).update(shape.message.flags & 0xFFFFFFFF)
        return _EMPTY

    def _destroy_session(self, shape: Shape, views: list[memoryview]) -> Reply:
        session = self._session(shape.message.session_id)
        self._sessions.pop(session.id, None)
        resources = session.registered()
        self._uploads.close(session)
        session.close()
        for resource in resources:
            self._drop_unused(resource)
        return _EMPTY

    # -- resources -----------------------------------------------------------------------------

    def _register_resource(self, shape: Shape, views: list[memoryview]) -> Reply:
        request = shape.message
        session = self._session(request.session_id)
        if request.resource_id > 0:
            resource = self._resource(request.resource_id)
            resource.register(session)
            return reply(messages.RegisterResourceResponse(resource_id=resource.id))
        return self._enter(session, self._new_resource(request, views))

    def _enter(self, session: Session, resource: Resource) -> Reply:
        """A new resource of `session`."""
        try:
            resource.register(session)
        except BaseException:
            resource.close()
            raise
        self._keep(self._resources, resource)
        return reply(messages.RegisterResourceResponse(resource_id=resource.id))

    def _new_resource(self, request: Any, views: list[memoryview]) -> Resource:
        if any(map(is_url, request.paths)):
            urls = list(request.paths)
            return Resource.from_url(urls, request.resource_type, allow=self._allow_urls)
        if request.paths:
            for path in request.paths:
                self._check_path(path)
            return self._of_paths(list(request.paths), request.resource_type)
        if not request.blobs:
            raise InvalidArgument("RegisterResource: expected paths or blobs, found neither")
        blobs = [_blob(blob, i, views) for i, blob in enumerate(request.blobs)]
        return Resource.from_blobs(blobs, request.resource_type)

    def _of_paths(self, paths: list[str], type: int) -> Resource:
        resource = Resource(paths, type)
        try:
            for blob in resource.whole():  # a link beside a model may lead elsewhere
                self._check_path(str(blob.path))
        except BaseException:
            resource.close()
            raise
        return resource

    def _check_path(self, path: str) -> None:
        if "\0" not in path:
            real = Path(path).resolve()  # where a link leads, not where it stands
            if any(real.is_relative_to(folder) for folder in self._allow_paths):
                return
        raise PermissionDenied(
            f"the agent does not serve its file {path!r} to clients; "
            f"start it with --allow-path FOLDER to allow that"
        )

    def _unregister_resource(self, shape: Shape, views: list[memoryview]) -> Reply:
        session = self._session(shape.message.session_id)
        resource = self._resource(shape.message.resource_id)
        resource.unregister(session)
        self._drop_unused(resource)
        return _EMPTY

    def _drop_unused(self, resource: Resource) -> None:
        """A resource ends with its last session."""
        if not any(resource.registered_with(s) for s in list(self._sessions.values())):
            self._resources.pop(resource.id, None)
            resource.close()

    def _sync_resource(self, shape: Shape, views: list[memoryview]) -> Reply:
        contents = Contents()
        blobs = [
            messages.Blob(
                type=int(blob.type),
                name=blob.name,
                data=contents.put(blob.data, blob.data.nbytes),
                size=blob.data.nbytes,
            )
            for blob in self._resource(shape.message.resource_id).blobs()
        ]
        return reply(messages.SyncResourceResponse(blobs=blobs), contents)

    # -- operations ----------------------------------------------------------------------------

    def _genop(self, shape: Shape, views: list[memoryview]) -> Reply:
        call: Call | None = shape.prepared
        if call is None:
            call = shape.prepared = Call(shape.message, self._sessions, self._session)
        answer = call.run(views, self._resource)
        if call.is_plain and not self._profiler.enabled:
            shape.quick = call.quick
        return answer

    def _genop_stream(self, parts: Sequence[Data]) -> Reply:
        return calls.stream(parts, self._session, self._resource)

    def _model(self, op: Operation, shape: Shape, views: list[memoryview]) -> Reply:
        request = shape.message
        session = self._session(request.session_id)
        session.require(op)
        values = models.decode_request(op, request, views, self._resource)
        contents = Contents()
        result = session.run(op, values)
        return reply(models.encode_response(op, result, contents), contents)

    def _classify(self, shape: Shape, views: list[memoryview]) -> Reply:
        session = self._session(shape.message.session_id)
        image = memoryview(codec.bulk(shape.message.image, views))
        op = BY_NAME["classify"]
        tag, _ = op.results(session.run(op, [image]), {})
        return reply(messages.ClassifyResponse(tags=tag.encode()))

    def _profile(self, shape: Shape, views: list[memoryview]) -> Reply:
        self._session(shape.message.session_id)
        answer = messages.ProfilerResponse()
        answer.profiler.component_name = "vaccel-rpc-agent"
        for name, samples in runtime.current().profiler.regions().items():
            region = answer.profiler.regions[name]
            for start, duration in samples:
                region.samples.add(start=start, time=duration)
        return reply(answer)


def _blob(blob: Any, number: int, views: Sequence[memoryview]) -> Blob:
    name = blob.name or f"blob.{number}"
    data = memoryview(codec.bulk(blob.data, views))
    if blob.size & 0xFFFFFFFF not in (0, data.nbytes):  # negative as for `arguments.decode`
        raise InvalidArgument(
            f"blob {name!r} of size {blob.size} that carries {data.nbytes} bytes: "
            f"they must be equal"
        )
    return Blob(name, data, blob_type(blob.type))


_EMPTY = reply(messages.Empty())
