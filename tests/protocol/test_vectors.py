"""Every sample frame of vAccel 0.8: our agent answers it, our client sends and understands it."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format

from tests.agent import kernels, peers
from tests.agent.peers import RawClient, fake_peer
from vaccel import Arg, ArgType, Config, Resource, ResourceType, Session, bootstrap
from vaccel.agent import Agent
from vaccel.error import FFIError, NotFound, NotSupported
from vaccel.ops import tf, torch
from vaccel.ops.tf import lite
from vaccel.rpc import codec, frames, messages
from vaccel.rpc.client import Client
from vaccel.rpc.messages import METHODS, SERVICES, GenopRequest, RpcRequest, RpcResponse

VECTORS = json.loads(Path(__file__).with_name("wire_vectors.json").read_text())
UNARY = {vector["name"]: vector for vector in VECTORS["unary"]}
STREAMING = {vector["name"]: vector for vector in VECTORS["streaming"]}
PLUGINS = f"cpu:{kernels.NAME}:noop"
PATHS = "register paths"
UNSUPPORTED = "operation no plugin implements"
WITH_RESOURCE = "exec with resource"
PROFILER = "profiler"


def expected(vector: Any) -> Any:
    """The vector's answer, as RpcResponse."""
    return RpcResponse.FromString(bytes.fromhex(vector["response_frame_hex"])[10:])


def check_answer(vector: Any, answer: Any) -> None:
    wanted = expected(vector)
    assert answer.status.code == wanted.status.code
    if wanted.status.details:
        # The text is ours, the errno is the protocol's.
        (ours,), (theirs,) = answer.status.details, wanted.status.details
        assert ours.type_url == theirs.type_url
        read = messages.ProtoError.FromString
        assert read(ours.value).ffi_error == read(theirs.value).ffi_error
    else:
        assert answer.status == wanted.status
    if not wanted.status.code:
        check_response(vector, METHODS[vector["method"]][1], answer, wanted)


def check_response(vector: Any, cls: Any, answer: Any, wanted: Any) -> None:
    found, theirs = cls.FromString(answer.payload), cls.FromString(wanted.payload)
    found.DiscardUnknownFields()  # what aligns arrays
    if vector["name"] == "sync":
        assert [blob.name for blob in found.blobs] == ["model.onnx"]
        found.blobs[0].name = ""  # 0.8 leaves it out
    if vector["name"] == PROFILER:
        assert found.profiler.component_name == theirs.profiler.component_name
        for name in theirs.profiler.regions:
            samples = found.profiler.regions[name].samples
            assert samples
            assert all(sample.start > 0 and sample.time > 0 for sample in samples)
        return
    assert found == theirs


# -- to our agent ----------------------------------------------------------------------------------


SESSIONS_BEFORE = {"create session": 0, "register again with another session": 2}
WITH_RESOURCE_BEFORE = (
    *(WITH_RESOURCE, PATHS, "register again with another session", "sync"),
    *("tf load", "tf run", "tflite run", "torch run"),
)


def prepare(client: RawClient, name: str) -> None:
    """Bring the agent into the state that the vector assumes: its sessions and resources."""
    for number in range(SESSIONS_BEFORE.get(name, 1)):
        assert client.session() == number + 1
    if name in WITH_RESOURCE_BEFORE:
        assert client.resource(1) == 1
    if name == PROFILER:
        client.call("Genop", peers.execute(1, "double"))


def exchange(client: RawClient, frame: bytes, stream: int) -> Any:
    client.sock.sendall(frame)
    found, kind, flags, data = peers.read_frame(client.sock)
    assert (found, kind, flags) == (stream, peers.RESPONSE, 0)
    return RpcResponse.FromString(data)


@pytest.mark.parametrize("name", [name for name in UNARY if name != PATHS])
def test_our_agent_answers_as_0_8_does(name: str) -> None:
    vector = UNARY[name]
    plugins = "cpu" if name == UNSUPPORTED else PLUGINS
    config = Config(plugins=plugins, profiling_enabled=name == PROFILER)
    with Agent("tcp://127.0.0.1:0", config) as agent, RawClient(agent.endpoint) as client:
        prepare(client, name)
        frame = bytes.fromhex(vector["request_frame_hex"])
        check_answer(vector, exchange(client, frame, vector["stream_id"]))


def test_our_agent_answers_the_vectors_one_after_another() -> None:
    # One needs the resource of a later one, one needs real files, one a plugin less, one more.
    apart = (WITH_RESOURCE, PATHS, UNSUPPORTED, PROFILER)
    with (
        Agent("tcp://127.0.0.1:0", Config(plugins=PLUGINS)) as agent,
        RawClient(agent.endpoint) as client,
    ):
        for name, vector in UNARY.items():
            if name not in apart:
                frame = bytes.fromhex(vector["request_frame_hex"])
                check_answer(vector, exchange(client, frame, vector["stream_id"]))


def test_our_agent_does_not_register_paths_that_it_was_not_told_to_serve() -> None:
    vector = UNARY[PATHS]
    with Agent("tcp://127.0.0.1:0", Config(plugins=PLUGINS)) as agent:
        with RawClient(agent.endpoint) as client:
            prepare(client, PATHS)
            frame = bytes.fromhex(vector["request_frame_hex"])
            status = exchange(client, frame, vector["stream_id"]).status
    assert "'/data/a.bin'" in status.message
    assert messages.ProtoError.FromString(status.details[0].value).ffi_error == 1  # EPERM


def test_our_agent_registers_paths_that_it_was_told_to_serve(tmp_path: Path) -> None:
    vector = UNARY[PATHS]
    request = json_format.ParseDict(vector["request"], messages.RegisterResourceRequest())
    for i, path in enumerate(request.paths):
        request.paths[i] = str(tmp_path / Path(path).name)
        (tmp_path / Path(path).name).write_bytes(b"content")
    config = Config(plugins=PLUGINS)
    with Agent("tcp://127.0.0.1:0", config, allow_paths=[str(tmp_path)]) as agent:
        with RawClient(agent.endpoint) as client:
            prepare(client, PATHS)
            answer = client.answer(client.send("RegisterResource", request))
            check_answer(vector, answer)


@pytest.mark.parametrize("name", STREAMING)
def test_our_agent_answers_streams_as_0_8_does(name: str) -> None:
    vector = STREAMING[name]
    with (
        Agent("tcp://127.0.0.1:0", Config(plugins=PLUGINS)) as agent,
        RawClient(agent.endpoint) as client,
    ):
        assert client.session() == 1
        frames = bytes.fromhex("".join(vector["request_frames_hex"]))
        check_answer(vector, exchange(client, frames, vector["stream_id"]))


# -- from our client -------------------------------------------------------------------------------


class Peer:
    """A 0.8 agent that knows one answer: that of the vector. Records what it is asked."""

    def __init__(self, vector: Any) -> None:
        self._vector = vector
        self._answer = bytes.fromhex(vector["response_frame_hex"])[10:]
        self._sessions = 0
        self.requests: list[Any] = []
        """(envelope, payload) of the requests with the vector's method."""

    def __call__(self, sock: socket.socket) -> None:
        while True:
            stream, envelope, payload = peers.read_request(sock)
            asked = envelope.method == self._vector["method"]
            if asked:
                self.requests.append((envelope, payload))
            peers.reply(sock, stream, self._reply(envelope.method, asked))

    def _reply(self, method: str, asked: bool) -> bytes:
        if asked and not self._is_preparation(method):
            return self._answer
        if method == "CreateSession":
            self._sessions += 1
            return peers.ok(messages.CreateSessionResponse(session_id=self._sessions))
        if method == "RegisterResource":
            return peers.ok(messages.RegisterResourceResponse(resource_id=1))
        return peers.ok(messages.Empty())

    def _is_preparation(self, method: str) -> bool:
        """The vector's request is the second of its kind."""
        again = self._vector["name"].startswith(("register again", "create session with"))
        return again and len(self.requests) == 1


def buf(name: str, place: int, which: str = "read_args", key: str = "request") -> bytes:
    return base64.b64decode(UNARY[name][key][which][place]["buf"])


def floats(name: str, place: int, which: str = "read_args", key: str = "request") -> Any:
    return np.frombuffer(buf(name, place, which, key), np.float32)


def written(name: str, place: int = 0) -> bytes:
    return buf(name, place, "write_args", "response")


def with_resource(session: Session, call: Callable[[Resource], Any]) -> Any:
    with Resource.from_buffer(b"abc", ResourceType.MODEL, name="model.onnx") as resource:
        resource.register(session)
        return call(resource)


def update(session: Session) -> None:
    session.update(4)


def vadd(session: Session) -> None:
    name = "vector add of the article"
    result = session.fpga_vadd(floats(name, 1), floats(name, 2))
    assert result.dtype == np.float32
    assert result.tobytes() == written(name)


def vadd_untyped(session: Session) -> None:
    name = "vector add, untyped buffers"
    output = Arg(bytearray(20))
    session.genop(
        [Arg(21, ArgType.UINT8), Arg(buf(name, 1)), Arg(buf(name, 2))],
        [output],
    )
    assert bytes(output.buf) == written(name)


def arraycopy(session: Session) -> None:
    a = np.frombuffer(buf("array copy", 1), np.int32).tolist()
    assert session.fpga_arraycopy(a) == a


def mmult(session: Session) -> None:
    name = "mmult 2x2"
    a, b = (floats(name, i).reshape(2, 2) for i in (1, 2))
    result = session.fpga_mmult(a, b)
    assert result.shape == (2, 2)
    assert result.tobytes() == written(name)


def parallel(session: Session) -> None:
    name = "parallel 2x2 elementwise"
    total, product = session.fpga_parallel(floats(name, 1), floats(name, 2))
    assert (total.tobytes(), product.tobytes()) == (written(name, 0), written(name, 1))


def sgemm(session: Session) -> None:
    name = "sgemm 2x3x2"
    a, b = floats(name, 5), floats(name, 7)
    m, n, k, lda, ldb, ldc = (int.from_bytes(buf(name, i), "little") for i in (1, 2, 3, 6, 8, 10))
    alpha, beta = (float(floats(name, i)[0]) for i in (4, 9))
    c = floats(name, 0, "write_args")
    result = session.sgemm(m, n, k, alpha, a, lda, b, ldb, beta, ldc, c)
    assert result.tobytes() == written(name)


def execute(session: Session) -> None:
    library = buf("exec", 1).rstrip(b"\0").decode()
    assert session.exec(
        library, "mytestfunc", [Arg(10, ArgType.INT32)], [Arg(0, ArgType.INT32)]
    ) == [20]


def execute_with_resource(session: Session) -> None:
    def call(resource: Resource) -> Any:
        return session.exec_with_resource(
            resource, "mytestfunc", [Arg(10, ArgType.INT32)], [Arg(0, ArgType.INT32)]
        )

    assert with_resource(session, call) == [20]


def classify(session: Session) -> None:
    image = buf("classify over genop, noop plugin", 1)
    assert session.classify(image) == (
        "This is a dummy classification tag!",
        "This is a dummy imgname!",
    )


def sync(session: Session) -> None:
    def call(resource: Resource) -> bytes:
        resource.sync(session)
        return bytes(resource.blobs()[0].data)

    assert with_resource(session, call) == b"abc"


def register_again(session: Session) -> None:
    def call(resource: Resource) -> None:
        with Session(endpoint=session.endpoint) as other:
            resource.register(other)
            assert resource.remote_id == 1

    with_resource(session, call)


def tf_load(session: Session) -> None:
    status = with_resource(session, session.tf_model_load)
    assert (status.code, status.message) == (0, "Operation handled by noop plugin")


ONES = np.ones((1, 30), np.float32)


def tf_run(session: Session) -> None:
    def call(resource: Resource) -> Any:
        return session.tf_model_run(
            resource,
            [tf.Node("serving_default_input_1", 0)],
            [tf.Tensor.from_numpy(ONES)],
            [tf.Node("StatefulPartitionedCall", 0)],
            tf.Buffer(b"none"),
        )

    (tensor,), status = with_resource(session, call)
    assert np.array_equal(tensor.as_numpy(), ONES)
    assert status.code == 0


def tflite_run(session: Session) -> None:
    tensors = [lite.Tensor.from_numpy(ONES)]
    run = with_resource(session, lambda r: session.tflite_model_run(r, tensors))
    assert np.array_equal(run[0][0].as_numpy(), ONES)
    assert run[1] == 0


def torch_run(session: Session) -> None:
    tensors = [torch.Tensor.from_numpy(ONES)]
    (tensor,) = with_resource(session, lambda r: session.torch_model_run(r, tensors))
    assert np.array_equal(tensor.as_numpy(), ONES)


CALLS: dict[str, Callable[[Session], None]] = {
    "create session": lambda session: None,
    "update session": update,
    "vector add of the article": vadd,
    "vector add, untyped buffers": vadd_untyped,
    "array copy": arraycopy,
    "mmult 2x2": mmult,
    "parallel 2x2 elementwise": parallel,
    "sgemm 2x3x2": sgemm,
    "exec": execute,
    WITH_RESOURCE: execute_with_resource,
    "classify over genop, noop plugin": classify,
    "register again with another session": register_again,
    "sync": sync,
    "tf load": tf_load,
    "tf run": tf_run,
    "tflite run": tflite_run,
    "torch run": torch_run,
    "destroy session": lambda session: session.close(),
}
BARE = (
    "classify, own method",
    PATHS,
    PROFILER,
    UNSUPPORTED,
    "unknown session",
)
"""What sessions have no call for; the connection below them has."""
APART = ("create session with a hint", "register a file as blob")


def test_every_vector_has_its_test() -> None:
    assert sorted([*CALLS, *BARE, *APART]) == sorted(UNARY)


def check_request(vector: Any, envelope: Any, payload: Any) -> None:
    assert (envelope.service, envelope.method) == (vector["service"], vector["method"])
    payload.DiscardUnknownFields()
    if vector["method"] == "CreateSession":
        payload.ClearField("features")
    wanted = METHODS[vector["method"]][0].FromString(bytes.fromhex(vector["request_hex"]))
    if vector["name"] == "vector add, untyped buffers":
        for arg in [*wanted.read_args[1:], *wanted.write_args]:
            arg.arg_type = int(ArgType.FLOAT32_ARRAY)  # our client knows better what they are
    assert payload == wanted


@pytest.mark.parametrize("name", CALLS)
def test_our_sessions_ask_as_0_8_does_and_understand_the_answer(name: str) -> None:
    peer = Peer(UNARY[name])
    with fake_peer(peer) as endpoint:
        bootstrap(Config(plugins="rpc"))
        with Session(endpoint=endpoint) as session:
            assert session.remote_id == 1
            CALLS[name](session)
    check_request(UNARY[name], *peer.requests[-1])


def test_our_sessions_pass_their_flags_on() -> None:
    vector = UNARY["create session with a hint"]
    peer = Peer(vector)
    with fake_peer(peer) as endpoint:
        bootstrap(Config(plugins="rpc"))
        with Session(endpoint=endpoint), Session(260, endpoint=endpoint) as second:
            assert second.remote_id == 2
    check_request(vector, *peer.requests[1])


def test_our_resources_register_files_with_name_and_content(tmp_path: Path) -> None:
    vector = UNARY["register a file as blob"]
    peer = Peer(vector)
    file = tmp_path / "model.onnx"
    file.write_bytes(b"abc")
    with fake_peer(peer) as endpoint:
        bootstrap(Config(plugins="rpc"))
        with Session(endpoint=endpoint) as session:
            with Resource(file, ResourceType.MODEL) as resource:
                resource.register(session)
                assert resource.remote_id == 1
    check_request(vector, *peer.requests[0])


def call(endpoint: str, vector: Any) -> Any:
    """Send the vector's request with our client; the answer."""
    client = Client(endpoint)
    try:
        request = METHODS[vector["method"]][0].FromString(bytes.fromhex(vector["request_hex"]))
        parsed, contents = parsed_and_contents(request)
        template = frames.request(
            vector["service"], vector["method"], parsed, [len(c) for c in contents]
        )
        shape, views = client.call(vector["method"], template, contents)
        assert not views
        return shape.message
    finally:
        client.close()


def parsed_and_contents(request: Any) -> tuple[Any, list[bytes]]:
    if getattr(request, "image", b""):
        content, request.image = request.image, codec.mark(0)
        return request, [content]
    return request, []


@pytest.mark.parametrize("name", BARE)
def test_our_client_asks_as_0_8_does_and_understands_the_answer(name: str) -> None:
    vector = UNARY[name]
    peer = Peer(vector)
    errors: dict[str, tuple[type[FFIError], str]] = {
        UNSUPPORTED: (NotSupported, "FFI error: 95"),
        "unknown session": (NotFound, "Unknown session 99"),
    }
    with fake_peer(peer) as endpoint:
        if name in errors:
            cls, text = errors[name]
            with pytest.raises(cls, match=text):
                call(endpoint, vector)
        else:
            assert call(endpoint, vector) == METHODS[vector["method"]][1].FromString(
                bytes.fromhex(vector["response_hex"])
            )
    check_request(vector, *peer.requests[0])


@pytest.mark.parametrize("name", STREAMING)
def test_our_client_streams_as_0_8_does(name: str) -> None:
    vector = STREAMING[name]
    wanted = [bytes.fromhex(text) for text in vector["request_frames_hex"]]
    received: list[tuple[int, int, int, bytes]] = []

    def peer(sock: socket.socket) -> None:
        received.extend(peers.read_frame(sock) for _ in wanted)
        peers.reply(sock, received[0][0], bytes.fromhex(vector["response_frame_hex"])[10:])
        peers.hang_up(sock)

    template = frames.request(SERVICES[1], "GenopStream", GenopRequest())
    parts = []
    for frame in wanted[1:]:
        message, views = codec.decode_message(GenopRequest, frame[10:])
        parts.append((frames.stream_part(message, [len(view) for view in views]), views))
    with fake_peer(peer) as endpoint:
        client = Client(endpoint)
        try:
            shape, views = client.call("GenopStream", template, parts=parts)
        finally:
            client.close()
    assert bytes(views[0]) == bytes(i % 256 for i in range(1024))
    assert shape.message.write_args[0].size == 1024
    for (stream, kind, flags, data), frame in zip(received, wanted, strict=True):
        assert stream == received[0][0]
        assert (kind, flags) == (frame[8], frame[9])
        cls = RpcRequest if kind == peers.REQUEST else GenopRequest
        parsed = cls.FromString(data)
        parsed.DiscardUnknownFields()
        assert parsed == cls.FromString(frame[10:])
