"""The agent: sessions of this machine's runtime, for clients elsewhere.

Sessions and resources belong to the connection that made them: no other can use, see or destroy
them, and they end with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vaccel import genop, log, runtime
from vaccel.config import Config
from vaccel.error import InvalidArgument, PermissionDenied
from vaccel.ops.catalog import BY_NAME, OPERATIONS
from vaccel.ops.spec import Operation
from vaccel.resource import Blob, BlobType, Resource
from vaccel.rpc import arguments, codec, messages, models, status
from vaccel.rpc.arguments import EMPTY_WRITE_ARGS, Contents
from vaccel.rpc.codec import Shape
from vaccel.rpc.server import Limits, Reply, Server
from vaccel.rpc.status import RpcFailure
from vaccel.rpc.ttrpc import Data
from vaccel.session import Session

FEATURES = EMPTY_WRITE_ARGS
MAX_OBJECTS = 4096
"""Sessions, and resources, that one connection may have open."""

_MODEL_METHODS = {op.method: op for op in OPERATIONS.values() if op.method != "Genop"}


class Agent:
    """Serves the current runtime's plugins at `endpoint`; `allow_paths`: folders of this machine
    that clients may name as resources."""

    def __init__(
        self,
        endpoint: str,
        config: Config | None = None,
        *,
        limits: Limits | None = None,
        allow_paths: Sequence[str] = (),
    ) -> None:
        if config is not None:
            runtime.bootstrap(config)
        runtime.current()
        folders = [Path(path).resolve() for path in allow_paths]
        self.server = Server(endpoint, lambda name: _Connection(name, folders), limits)

    @property
    def endpoint(self) -> str:
        return str(self.server.endpoint)

    def stop(self, grace: float = 5.0) -> bool:
        """End; running calls may finish within `grace` seconds. False if some did not."""
        return self.server.stop(grace)

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Connection:
    """The service for one connection."""

    def __init__(self, name: str, allow_paths: Sequence[Path]) -> None:
        self._name = name
        self._allow_paths = allow_paths
        self._lock = threading.Lock()
        self._sessions: dict[int, Session] = {}
        self._resources: dict[int, Resource] = {}
        self._closed = False

    def call(
        self, method: str, shape: Shape, views: list[memoryview], parts: tuple[Data, ...] | None
    ) -> Reply:
        if (method == "GenopStream") != (parts is not None):
            wrong = "expected a stream" if parts is None else "is not a streaming method"
            raise RpcFailure(status.INVALID_ARGUMENT, f"{method}: {wrong}")
        op = _MODEL_METHODS.get(method)
        if op is not None:
            return self._model(op, shape.message, views)
        if parts is not None:
            return self._genop_stream(parts)
        return _METHODS[method](self, shape, views)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            sessions, resources = list(self._sessions.values()), list(self._resources.values())
            self._sessions, self._resources = {}, {}
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
        session = Session(shape.message.flags)
        self._keep(self._sessions, session)
        # Peers of 0.8 send no features, and need to see none.
        features = FEATURES if shape.message.features else 0
        return _reply(messages.CreateSessionResponse(session_id=session.id, features=features))

    def _update_session(self, shape: Shape, views: list[memoryview]) -> Reply:
        self._session(shape.message.session_id).update(shape.message.flags)
        return _EMPTY

    def _destroy_session(self, shape: Shape, views: list[memoryview]) -> Reply:
        session = self._session(shape.message.session_id)
        self._sessions.pop(session.id, None)
        resources = session.resources
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
        else:
            resource = self._new_resource(request, views)
            try:
                resource.register(session)
            except BaseException:
                resource.close()
                raise
            self._keep(self._resources, resource)
        return _reply(messages.RegisterResourceResponse(resource_id=resource.id))

    def _new_resource(self, request: Any, views: list[memoryview]) -> Resource:
        if request.paths:
            for path in request.paths:
                self._check_path(path)
            return Resource(list(request.paths), request.resource_type)
        if not request.blobs:
            raise InvalidArgument("RegisterResource: expected paths or blobs, found neither")
        blobs = [
            Blob(
                blob.name or f"blob.{i}", memoryview(codec.bulk(blob.data, views)), _blob_type(blob)
            )
            for i, blob in enumerate(request.blobs)
        ]
        names = [blob.name for blob in blobs]
        if len(set(names)) < len(names):
            raise InvalidArgument(f"RegisterResource: expected distinct names, found {names}")
        return Resource.from_blobs(blobs, request.resource_type)

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
        return _reply(messages.SyncResourceResponse(blobs=blobs), contents)

    # -- operations ----------------------------------------------------------------------------

    def _genop(self, shape: Shape, views: list[memoryview]) -> Reply:
        request = shape.message
        session = self._session(request.session_id)
        read = arguments.decode_again(shape, request.read_args, views, 0)
        write = arguments.decode_again(shape, request.write_args, views, 1)
        return self._execute(session, read, write, shape.prepared)

    def _genop_stream(self, parts: tuple[Data, ...]) -> Reply:
        session_id, read, write = arguments.gather(parts)
        return self._execute(self._session(session_id), read, write, {})

    def _execute(
        self, session: Session, read: list[Any], write: list[Any], prepared: dict[Any, Any]
    ) -> Reply:
        """`prepared`: what requests of this shape share; holds templates for the answers."""
        if not read:
            raise InvalidArgument("Genop: expected the operation code as first read argument")
        op = genop.operation(read[0])
        profiler = runtime.current().profiler
        with profiler.region("[genop] sess.genop"):
            filled = genop.execute(session, op, read[1:], write, self._resource)
        key = tuple([arg[:2] for arg in filled])
        template = prepared.get(key)
        if template is None:
            contents = Contents()
            args = arguments.encode(filled, contents)
            template = codec.response(messages.GenopResponse(write_args=args), contents.sizes)
            if all(size > codec.INLINE for _, size in key) and len(prepared) < 16:
                prepared[key] = template
        return template, [arg[2] for arg in filled if arg[1] > codec.INLINE]

    def _model(self, op: Operation, request: Any, views: list[memoryview]) -> Reply:
        session = self._session(request.session_id)
        session.require(op)
        values = models.decode_request(op, request, views, self._resource)
        contents = Contents()
        result = session.run(op, values)
        return _reply(models.encode_response(op, result, contents), contents)

    def _classify(self, shape: Shape, views: list[memoryview]) -> Reply:
        session = self._session(shape.message.session_id)
        image = memoryview(codec.bulk(shape.message.image, views))
        tag, _ = session.run(BY_NAME["classify"], [image])
        return _reply(messages.ClassifyResponse(tags=tag.encode()))

    def _profile(self, shape: Shape, views: list[memoryview]) -> Reply:
        self._session(shape.message.session_id)
        answer = messages.ProfilerResponse()
        answer.profiler.component_name = "vaccel-rpc-agent"
        for name, samples in runtime.current().profiler.regions().items():
            region = answer.profiler.regions[name]
            for start, duration in samples:
                region.samples.add(start=start, time=duration)
        return _reply(answer)


_Method = Callable[[_Connection, Shape, list[memoryview]], Reply]
_METHODS: dict[str, _Method] = {
    "CreateSession": _Connection._create_session,
    "UpdateSession": _Connection._update_session,
    "DestroySession": _Connection._destroy_session,
    "RegisterResource": _Connection._register_resource,
    "UnregisterResource": _Connection._unregister_resource,
    "SyncResource": _Connection._sync_resource,
    "ImageClassification": _Connection._classify,
    "Genop": _Connection._genop,
    "GetProfiler": _Connection._profile,
}


def _reply(message: Any, contents: Contents | None = None) -> Reply:
    if contents is None:
        return codec.response(message), ()
    return codec.response(message, contents.sizes), contents.buffers


_EMPTY = _reply(messages.Empty())


def _blob_type(blob: Any) -> BlobType:
    try:
        return BlobType(blob.type)
    except ValueError:
        raise InvalidArgument(f"blob type: expected 0, 1 or 2, found {blob.type}") from None
