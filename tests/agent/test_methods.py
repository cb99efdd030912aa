"""Every method of the service, as a client without our code sees it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.agent import peers
from tests.agent.conftest import Serve
from tests.agent.kernels import GOOD, MISDEEDS
from tests.agent.peers import (
    ASYNC,
    INT32,
    NO_DATA,
    REMOTE_CLOSED,
    REMOTE_OPEN,
    SYNC,
    RawClient,
    Refused,
    arg,
    execute,
    genop,
    result,
    text,
)
from vaccel import Config, runtime
from vaccel.agent import Agent
from vaccel.rpc import messages
from vaccel.rpc.messages import METHODS

# The codes of ttRPC statuses.
INVALID, NOT_FOUND, UNIMPLEMENTED, INTERNAL = 3, 5, 12, 13
ENOENT, EPERM, EIO, EINVAL, ENOTSUP = 2, 1, 5, 22, 95


def refused(client: RawClient, method: str, message: Any = None, **options: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        client.call(method, message, **options)
    return caught.value


@pytest.mark.parametrize("service", [SYNC, ASYNC])
def test_both_names_of_the_service_are_served(client: RawClient, service: str) -> None:
    number = client.call("CreateSession", service=service).session_id
    assert number == 1
    answer = client.call("Genop", execute(number, "double"), service=service)
    assert answer.write_args[0].buf == bytes([42, 0, 0, 0])
    assert client.call("Genop", genop(number, 0), service=service) == messages.GenopResponse()


@pytest.mark.parametrize(
    ("service", "method"),
    [
        (SYNC, "Frobnicate"),
        (SYNC, ""),
        ("grpc.health.v1.Health", "CreateSession"),
        ("", "CreateSession"),
        ("", ""),
    ],
)
def test_unknown_services_and_methods_are_unimplemented(
    client: RawClient, service: str, method: str
) -> None:
    status = refused(client, method, service=service)
    assert status.code == UNIMPLEMENTED
    assert f"{service}/{method}" in status.message
    assert client.session() == 1, "the connection is still usable"


@pytest.mark.parametrize(
    "method", [m for m in METHODS if m not in ("CreateSession", "GenopStream")]
)
def test_every_method_refuses_sessions_and_resources_it_does_not_know(
    client: RawClient, method: str
) -> None:
    request = METHODS[method][0]
    unknown = "resource" if method == "SyncResource" else "session"
    field = f"{unknown}_id"
    status = refused(client, method, request(**{field: 99}))
    assert status.code == NOT_FOUND
    assert status.message == f"Unknown {unknown} 99"


@pytest.mark.parametrize(
    "method", [m for m in METHODS if "model_id" in METHODS[m][0].DESCRIPTOR.fields_by_name]
)
def test_model_methods_refuse_a_resource_they_do_not_know(client: RawClient, method: str) -> None:
    session = client.session()
    status = refused(client, method, METHODS[method][0](session_id=session, model_id=99))
    assert (status.code, status.message) == (NOT_FOUND, "Unknown resource 99")


# -- sessions --------------------------------------------------------------------------------------


def test_sessions_are_created_updated_and_destroyed(client: RawClient) -> None:
    assert [client.session(), client.session(flags=4), client.session()] == [1, 2, 3]
    client.call("UpdateSession", messages.UpdateSessionRequest(session_id=2, flags=1))
    client.call("DestroySession", messages.DestroySessionRequest(session_id=2))
    assert refused(client, "Genop", execute(2, "double")).code == NOT_FOUND
    assert client.call("Genop", execute(3, "double")).write_args[0].buf[0] == 42
    again = refused(client, "DestroySession", messages.DestroySessionRequest(session_id=2))
    assert (again.code, again.message) == (NOT_FOUND, "Unknown session 2")


def test_flags_choose_the_plugin_and_an_update_chooses_anew(serve: Serve) -> None:
    debug, cpu = 0x100, 0x1
    agent = serve(plugins="cpu:noop")
    request = genop(1, 21, *[arg(18, np.float32(2).tobytes())] * 2, write=(arg(18, bytes(4)),))

    def added(client: RawClient) -> float:
        answer = client.call("Genop", request)
        return float(np.frombuffer(answer.write_args[0].buf, np.float32)[0])

    with RawClient(agent.endpoint) as client:
        client.session(flags=debug)
        assert added(client) == pytest.approx(9.1)  # noop's answer
        client.call("UpdateSession", messages.UpdateSessionRequest(session_id=1, flags=cpu))
        assert added(client) == 4


def test_features_are_announced_only_to_clients_that_announce_some(client: RawClient) -> None:
    assert client.call("CreateSession").features == 0
    answer = client.call("CreateSession", messages.CreateSessionRequest(features=1))
    assert answer.features & 1


# -- resources -------------------------------------------------------------------------------------


def register(session: int, **fields: Any) -> Any:
    return messages.RegisterResourceRequest(session_id=session, **fields)


def unregister(session: int, resource: int) -> Any:
    return messages.UnregisterResourceRequest(session_id=session, resource_id=resource)


def synced(client: RawClient, resource: int) -> list[bytes]:
    answer = client.call("SyncResource", messages.SyncResourceRequest(resource_id=resource))
    assert all(blob.size == len(blob.data) for blob in answer.blobs)
    return [blob.data for blob in answer.blobs]


def test_resources_are_registered_synced_and_unregistered(client: RawClient) -> None:
    session = client.session()
    blobs = [{"name": "a", "data": b"", "size": 0}, {"name": "b", "data": bytes(9000)}]
    (number,) = {
        client.call("RegisterResource", register(session, blobs=blobs)).resource_id,
    }
    assert synced(client, number) == [b"", bytes(9000)]
    client.call("UnregisterResource", unregister(session, number))
    gone = refused(client, "SyncResource", messages.SyncResourceRequest(resource_id=number))
    assert (gone.code, gone.message) == (NOT_FOUND, f"Unknown resource {number}")


def test_a_resource_lives_as_long_as_one_of_its_sessions(client: RawClient) -> None:
    one, other = client.session(), client.session()
    number = client.resource(one)
    again = client.call("RegisterResource", register(other, resource_id=number))
    assert again.resource_id == number
    client.call("DestroySession", messages.DestroySessionRequest(session_id=one))
    assert synced(client, number) == [b"abc"]
    client.call("UnregisterResource", unregister(other, number))
    gone = refused(client, "SyncResource", messages.SyncResourceRequest(resource_id=number))
    assert gone.code == NOT_FOUND
    assert [type(t).__name__ for t in runtime.current()._open] == ["Session"]


def test_unregistering_what_is_not_registered_is_not_found(client: RawClient) -> None:
    one, other = client.session(), client.session()
    number = client.resource(one)
    status = refused(client, "UnregisterResource", unregister(other, number))
    assert status.errno == ENOENT
    assert refused(client, "UnregisterResource", unregister(one, 99)).code == NOT_FOUND
    assert synced(client, number) == [b"abc"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "expected paths or blobs, found neither"),
        ({"blobs": [{"name": "a"}, {"name": "a"}]}, "expected distinct names"),
        ({"blobs": [{"name": "../evil"}]}, "expected a file name"),
        ({"blobs": [{"name": "/etc/passwd"}]}, "expected a file name"),
        ({"blobs": [{"name": ".."}]}, "expected a file name"),
        ({"blobs": [{"name": "x" * 256}]}, "expected a file name"),
        ({"blobs": [{"name": "a\0b"}]}, "expected a file name"),
        ({"blobs": [{"name": "a", "type": 3}]}, "blob type: expected 0, 1 or 2, found 3"),
        ({"blobs": [{"name": "a"}], "resource_type": 3}, "found 3"),
        (
            {"blobs": [{"name": "a", "data": b"x", "size": 5}]},
            "blob 'a' of size 5 that carries 1 by",
        ),
        ({"blobs": [{"data": b"", "size": 5}]}, "blob 'blob.0' of size 5 that carries 0 bytes"),
        ({"blobs": [{"data": bytes(9000), "size": 8999}]}, "of size 8999 that carries 9000 bytes"),
    ],
)
def test_malformed_resources_are_invalid(
    client: RawClient, fields: dict[str, Any], message: str
) -> None:
    status = refused(client, "RegisterResource", register(client.session(), **fields))
    assert (status.code, status.errno) == (INTERNAL, EINVAL)
    assert message in status.message
    assert [type(t).__name__ for t in runtime.current()._open] == ["Session"]


def test_blobs_without_names_get_some(client: RawClient) -> None:
    session = client.session()
    request = register(session, blobs=[{"data": b"one"}, {"data": b"two"}])
    number = client.call("RegisterResource", request).resource_id
    assert synced(client, number) == [b"one", b"two"]


@pytest.mark.parametrize("path", ["secret", "allowed/../secret", "allowed/link", "a\0b"])
def test_files_outside_the_allowed_folders_are_refused(
    serve: Serve, tmp_path: Path, path: str
) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "secret")
    agent = serve(allow_paths=[str(tmp_path / "allowed")])
    with RawClient(agent.endpoint) as client:
        request = register(client.session(), paths=[f"{tmp_path}/{path}"])
        assert refused(client, "RegisterResource", request).errno == EPERM


def test_files_in_allowed_folders_are_served(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"content")
    agent = serve(allow_paths=[str(tmp_path)])
    with RawClient(agent.endpoint) as client:
        session = client.session()
        request = register(session, paths=[str(tmp_path / "data.bin")], resource_type=1)
        assert synced(client, client.call("RegisterResource", request).resource_id) == [b"content"]
        missing = register(session, paths=[str(tmp_path / "none.bin")])
        assert refused(client, "RegisterResource", missing).errno == ENOENT


# -- operations ------------------------------------------------------------------------------------


def test_exec_with_resource_gets_its_files(client: RawClient) -> None:
    session = client.session()
    number = client.resource(session).to_bytes(8, "little")
    request = genop(
        session,
        2,
        arg(peers.INT64, number),
        text("double"),
        arg(INT32, bytes([21, 0, 0, 0])),
        write=(arg(INT32, bytes(4)),),
    )
    assert result(client.answer(client.send("Genop", request))) == 42


@pytest.mark.parametrize(
    ("request_fields", "message"),
    [
        ({}, "expected the operation code"),
        ({"read_args": [arg(9, b"")]}, "expected the operation code"),
        ({"read_args": [arg(9, b"\x15\x15")]}, "expected the operation code"),
        ({"read_args": [arg(9, b"\xfe")]}, "found 254"),
        ({"read_args": [arg(9, b"\x15")]}, "expected 2 read arguments, found 0"),
        ({"read_args": [arg(9, b"\x15"), *[arg(18, bytes(4))] * 2]}, "expected 1 write arguments"),
        (
            {"read_args": [arg(9, b"\x15"), *[arg(18, bytes(5))] * 2], "write_args": [{}]},
            "fpga_vadd: a: expected whole float32 elements, found 5 bytes",
        ),
        (
            {"read_args": [arg(9, b"\x15"), *[arg(6, bytes(4))] * 2], "write_args": [{}]},
            "fpga_vadd: a: expected FLOAT32_ARRAY, found INT32_ARRAY",
        ),
        (
            {
                "read_args": [arg(9, b"\x15"), arg(18, bytes(4)), arg(18, bytes(8))],
                "write_args": [{}],
            },
            "fpga_vadd: b: expected n=1 as in the other arguments, found n=2",
        ),
        (
            {
                "read_args": [arg(9, b"\x15"), *[arg(18, bytes(8))] * 2],
                "write_args": [arg(18, bytes(4))],
            },
            "the result needs 8 bytes, the write argument offers 4",
        ),
        (
            {"read_args": [messages.Arg(buf=b"\x15", size=3)]},
            "an argument of size 3 that carries 1 bytes",
        ),
        ({"read_args": [arg(9, b"\x15"), *[arg(77, bytes(4))] * 2], "write_args": [{}]}, "type 77"),
    ],
)  # fmt: skip
def test_malformed_operations_are_invalid_and_say_what_is_wrong(
    client: RawClient, request_fields: dict[str, Any], message: str
) -> None:
    request = messages.GenopRequest(session_id=client.session(), **request_fields)
    status = refused(client, "Genop", request)
    assert (status.code, status.errno) == (INTERNAL, EINVAL), status.message
    assert message in status.message


@pytest.mark.parametrize("code", [8, 9, 10, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("method", ["Genop", "GenopStream"])
def test_operations_with_methods_of_their_own_are_no_generic_ones(
    client: RawClient, method: str, code: int
) -> None:
    session = client.session()
    model = arg(peers.INT64, client.resource(session).to_bytes(8, "little"))
    request = genop(session, code, model, write=(arg(28, bytes(8)),))
    number = client.send("Genop", request) if method == "Genop" else stream(client, [request])
    with pytest.raises(Refused, match=r"expected an operation on arguments, .* method T") as caught:
        client.answer(number)
    assert (caught.value.code, caught.value.errno) == (INTERNAL, EINVAL)


def test_operations_that_no_plugin_implements_say_so(client: RawClient, serve: Serve) -> None:
    agent = serve(plugins="cpu")
    with RawClient(agent.endpoint) as client:
        session = client.session()
        model = client.resource(session)
        for method, request in (
            ("Genop", genop(session, 4, arg(28, b"image"), write=(arg(26, bytes(9)),))),
            ("ImageClassification", messages.ClassifyRequest(session_id=session, image=b"image")),
            ("TorchModelLoad", messages.TorchLoadRequest(session_id=session, model_id=model)),
        ):
            status = refused(client, method, request)
            assert (status.code, status.errno) == (INTERNAL, ENOTSUP)
            assert "no loaded plugin implements it" in status.message


@pytest.mark.parametrize("misdeed", range(GOOD))
def test_a_kernel_that_returns_nonsense_fails_its_call_only(
    client: RawClient, misdeed: int
) -> None:
    session = client.session()
    array = arg(18, np.full(3, misdeed, np.float32).tobytes())
    request = genop(session, 20, array, array, write=(arg(18, bytes(12)),) * 2)
    for _ in range(3):  # also on the short ways, which good calls open
        if MISDEEDS[misdeed]:
            status = refused(client, "Genop", request)
            assert (status.code, status.errno) == (INTERNAL, EIO)
            assert re.match(f"fpga_parallel: the kernel's {MISDEEDS[misdeed]}", status.message)
        else:  # as many numbers as there should be, in another form
            answer = client.call("Genop", request)
            assert [arg.buf for arg in answer.write_args] == [array.buf] * 2
        good = genop(
            session,
            20,
            *[arg(18, np.full(3, GOOD, np.float32).tobytes())] * 2,
            write=(arg(18, bytes(12)),) * 2,
        )
        assert len(client.call("Genop", good).write_args) == 2
    assert client.call("Genop", execute(session, "double")).write_args[0].buf[0] == 42


def test_models_load_run_and_unload(client: RawClient) -> None:
    session = client.session()
    ids = {"session_id": session, "model_id": client.resource(session)}
    ones = np.ones((2, 3), np.float32).tobytes()
    for family, number in (("Tensorflow", 1), ("TensorflowLite", 2), ("Torch", 7)):
        load, run = METHODS[f"{family}ModelLoad"][0], METHODS[f"{family}ModelRun"][0]
        client.call(f"{family}ModelLoad", load(**ids))
        tensor = {"data": ones, "dims": [2, 3], "type": number}
        nodes = {"in_nodes": [{"name": "x"}]} if family == "Tensorflow" else {}
        given = {**ids, **nodes}
        answer = client.call(f"{family}ModelRun", run(**given, in_tensors=[tensor]))
        (out,) = answer.out_tensors
        assert (out.data, list(out.dims), out.type) == (ones, [2, 3], number)
        bad = refused(
            client, f"{family}ModelRun", run(**given, in_tensors=[{**tensor, "type": 99}])
        )
        assert bad.errno == EINVAL
        short = refused(
            client, f"{family}ModelRun", run(**given, in_tensors=[{**tensor, "data": b""}])
        )
        assert short.errno == EINVAL
        if family != "Torch":
            unload = METHODS[f"{family}ModelUnload"][0]
            client.call(f"{family}ModelUnload", unload(**ids))


def test_images_are_classified(client: RawClient) -> None:
    request = messages.ClassifyRequest(session_id=client.session(), image=b"\xff\xd8image")
    answer = client.call("ImageClassification", request)
    assert answer.tags == b"This is a dummy classification tag!"


def test_the_profiler_counts_the_calls_of_operations(serve: Serve) -> None:
    agent = serve(config=Config(plugins="cpu", profiling_enabled=True))
    with RawClient(agent.endpoint) as client:
        session = client.session()
        for _ in range(3):
            client.call("Genop", genop(session, 0))
        profiler = client.call("GetProfiler", messages.ProfilerRequest(session_id=session)).profiler
        assert profiler.component_name == "vaccel-rpc-agent"
        samples = profiler.regions["[genop] sess.genop"].samples
        assert len(samples) == 3
        starts = [sample.start for sample in samples]
        assert starts == sorted(starts)


def test_without_profiling_the_profiler_is_empty(client: RawClient) -> None:
    session = client.session()
    client.call("Genop", genop(session, 0))
    answer = client.call("GetProfiler", messages.ProfilerRequest(session_id=session))
    assert not answer.profiler.regions


# -- streams ---------------------------------------------------------------------------------------


def copy_arguments(session: int, chunks: list[bytes], size: int) -> list[Any]:
    """The messages of a streamed array copy, its input in chunks."""
    request = messages.GenopRequest
    numbered = enumerate(chunks, 1)
    parts = [
        request(
            session_id=session,
            read_args=[{"buf": c, "size": size, "arg_type": 6, "parts": len(chunks), "part_no": i}],
        )
        for i, c in numbered
    ]
    code = request(session_id=session, read_args=[arg(9, b"\x12")])
    return [code, *parts, request(session_id=session, write_args=[arg(6, bytes(size))])]


def stream(client: RawClient, parts: list[Any], **options: Any) -> int:
    number = client.send("GenopStream", flags=REMOTE_OPEN, service=ASYNC, **options)
    for part in parts[:-1]:
        client.stream_part(number, part)
    client.stream_part(number, parts[-1], REMOTE_CLOSED)
    return number


@pytest.mark.parametrize("cuts", [[], [4], [4, 8, 12], [1, 7, 15]])
def test_streamed_arguments_are_joined(client: RawClient, cuts: list[int]) -> None:
    content = np.arange(4, dtype=np.int32).tobytes()
    chunks = [content[a:b] for a, b in zip([0, *cuts], [*cuts, 16], strict=True)]
    number = stream(client, copy_arguments(client.session(), chunks, 16))
    answer = messages.GenopResponse.FromString(client.answer(number).payload)
    assert answer.write_args[0].buf == content


def test_a_stream_may_end_without_data_and_interleave_with_calls(client: RawClient) -> None:
    session = client.session()
    number = client.send("GenopStream", flags=REMOTE_OPEN, service=ASYNC)
    for part in copy_arguments(session, [bytes(4)], 4):
        client.stream_part(number, part)
        client.call("Genop", genop(session, 0))
    client.stream_part(number, None, REMOTE_CLOSED | NO_DATA)
    assert client.answer(number).payload


def test_a_large_stream_works(client: RawClient) -> None:
    content = np.arange(1 << 18, dtype=np.int32).tobytes()
    chunks = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]
    number = stream(client, copy_arguments(client.session(), chunks, len(content)))
    answer = messages.GenopResponse.FromString(client.answer(number).payload)
    assert answer.write_args[0].buf == content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts[:2], "ended before the last part"),
        (lambda parts: [parts[0], *parts[2:]], "part 1 of 3"),
        (lambda parts: [*parts[:2], parts[1], *parts[2:]], "part 2 of 3"),
        (lambda parts: [*parts[:2], parts[0], *parts[2:]], "before the last part"),
        (lambda parts: [], "expected"),
    ],
)
def test_streams_with_missing_or_misplaced_parts_are_invalid(
    client: RawClient, change: Any, message: str
) -> None:
    session = client.session()
    parts = change(copy_arguments(session, [bytes(4), bytes(4), bytes(4)], 12))
    number = stream(client, parts or [messages.GenopRequest(session_id=session)])
    with pytest.raises(Refused, match=message) as caught:
        client.answer(number)
    assert caught.value.errno == EINVAL


def test_streamed_sizes_must_agree(client: RawClient) -> None:
    session = client.session()
    for chunks, size in (([bytes(8), bytes(8)], 12), ([bytes(4), bytes(4)], 12)):
        number = stream(client, copy_arguments(session, chunks, size))
        with pytest.raises(Refused, match=f"for an argument of size {size}") as caught:
            client.answer(number)
        assert caught.value.errno == EINVAL


def test_only_the_streaming_method_takes_streams(client: RawClient) -> None:
    session = client.session()
    number = client.send("Genop", genop(session, 0), flags=REMOTE_OPEN)
    client.stream_part(number, genop(session, 0), REMOTE_CLOSED)
    with pytest.raises(Refused, match="not a streaming method") as caught:
        client.answer(number)
    assert caught.value.code == INVALID
    assert refused(client, "GenopStream", genop(session, 0), service=ASYNC).code == INVALID


# -- answers go to whom they belong ----------------------------------------------------------------


def test_another_connection_cannot_use_see_or_destroy_sessions_and_resources(
    agent: Agent, client: RawClient
) -> None:
    session = client.session()
    resource = client.resource(session)
    with RawClient(agent.endpoint) as other:
        own = other.session()
        assert own != session
        for method, request in (
            ("Genop", execute(session, "double")),
            ("UpdateSession", messages.UpdateSessionRequest(session_id=session)),
            ("DestroySession", messages.DestroySessionRequest(session_id=session)),
            ("GetProfiler", messages.ProfilerRequest(session_id=session)),
            ("RegisterResource", register(session, blobs=[{"name": "a"}])),
            ("RegisterResource", register(own, resource_id=resource)),
            ("UnregisterResource", unregister(own, resource)),
            ("UnregisterResource", unregister(session, resource)),
            ("SyncResource", messages.SyncResourceRequest(resource_id=resource)),
            ("TorchModelLoad", messages.TorchLoadRequest(session_id=own, model_id=resource)),
            ("Genop", genop(own, 2, arg(7, resource.to_bytes(8, "little")), text("double"))),
        ):
            assert refused(other, method, request).code == NOT_FOUND, method
    assert result(client.answer(client.send("Genop", execute(session, "double")))) == 42
    assert synced(client, resource) == [b"abc"]


def test_a_resource_serves_only_the_sessions_it_is_registered_with(client: RawClient) -> None:
    session, other = client.session(), client.session()
    number = client.resource(session)
    request = genop(other, 2, arg(7, number.to_bytes(8, "little")), text("double"))
    assert refused(client, "Genop", request).errno == ENOENT
