"""Resources that go to an agent in chunks: what arrives, what is kept, what is refused."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import processes
from tests.agent import kernels, peers
from tests.agent.conftest import Serve
from tests.agent.peers import RawClient, Refused, fake_peer
from tests.agent.processes import ROOT, AgentProcess
from tests.processes import abstract
from vaccel import Config, Resource, ResourceType, Session, bootstrap, cleanup
from vaccel.blob import Blob, BlobType
from vaccel.config import Timeouts
from vaccel.error import DeadlineExceeded, InvalidArgument, NotFound, ResourceExhausted
from vaccel.progress import Progress
from vaccel.rpc import messages
from vaccel.rpc.client import Client
from vaccel.rpc.content import CHUNK, SMALL, FileContent, MemoryContent, key_of, proof
from vaccel.rpc.handler import Limits
from vaccel.rpc.transport import FileSlice
from vaccel.uploads import incoming
from vaccel.uploads.service import MAX_UPLOADS
from vaccel.uploads.uploaded import Uploaded

MIB = 1 << 20
SIZE = 3 * MIB + 12345


def content(size: int = SIZE, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).bytes(size)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where agents of this process, and their children, store what they get."""
    folder = tmp_path / "disk"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    cleanup()
    assert list(folder.iterdir()) == [], "an agent leaves nothing on its disk"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The method and the size of each request that this process sends."""
    calls: list[tuple[str, int]] = []
    call = Client.call

    def counted(self: Client, method: str, template: Any, *args: Any, **options: Any) -> Any:
        calls.append((method, template.length))
        return call(self, method, template, *args, **options)

    monkeypatch.setattr(Client, "call", counted)
    return calls


def methods(sent: list[tuple[str, int]]) -> dict[str, int]:
    names = [name for name, _ in sent]
    return {name: names.count(name) for name in names if "Session" not in name}


def stored(disk: Path) -> list[int]:
    """The sizes of the files that agents keep."""
    return sorted(path.stat().st_size for path in disk.glob("vaccel.*/store.*/content.*"))


# -- what arrives ----------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:0", abstract("upload")], ids=["tcp", "unix"])
def test_files_and_memory_arrive_as_they_are_and_come_back(
    serve: Serve, disk: Path, tmp_path: Path, endpoint: str
) -> None:
    (tmp_path / "model.onnx").write_bytes(content())
    (tmp_path / "labels.txt").write_bytes(b"")
    blobs = [
        Blob("weights", memoryview(content(2 * CHUNK, 2))),
        Blob("folder/one", memoryview(b"x")),
        Blob("mapped", memoryview(content(CHUNK + 1, 3)), BlobType.MAPPED),
    ]
    agent = serve(endpoint)
    with Session(endpoint=agent.endpoint) as session:
        for resource in (
            Resource([tmp_path / "model.onnx", tmp_path / "labels.txt"], ResourceType.MODEL),
            Resource.from_blobs(blobs, ResourceType.DATA),
        ):
            resource.register(session)
            there = uploaded()
            assert there.type == resource.type
            assert [(b.name, b.type) for b in there.blobs()] == [
                (b.name, b.type) for b in resource.blobs()
            ]
            pairs = list(zip(there.blobs(), resource.blobs(), strict=True))
            assert all(b.data == c.data for b, c in pairs)
            names = [str(path.relative_to(there.rundir())) for path in there.files()]
            assert names == [b.name for b in there.blobs()]
            assert all(
                p.read_bytes() == b.data for p, b in zip(there.files(), there.blobs(), strict=True)
            )
            resource.sync(session)
            resource.unregister(session)
    assert not list(disk.glob("vaccel.*/resource.*")), "files end with their resource"


def uploaded() -> Uploaded:
    """The one resource that the agent in this process has from an upload."""
    from vaccel import runtime

    (found,) = (thing for thing in runtime.current()._open if isinstance(thing, Uploaded))
    return found


def test_what_is_small_goes_in_one_message(
    serve: Serve, disk: Path, sent: list[tuple[str, int]]
) -> None:
    agent = serve()
    with Session(endpoint=agent.endpoint) as session:
        with Resource.from_buffer(bytes(SMALL), ResourceType.DATA) as small:
            small.register(session)
            small.sync(session)
            assert methods(sent) == {"RegisterResource": 1, "SyncResource": 1}
        with Resource.from_buffer(bytes(SMALL + 1), ResourceType.DATA) as large:
            large.register(session)
    assert methods(sent)["PutChunk"] == 2
    assert methods(sent)["RegisterResource"] == 1


def test_several_sessions_share_what_was_sent_once(
    serve: Serve, disk: Path, sent: list[tuple[str, int]]
) -> None:
    agent = serve()
    with Resource.from_buffer(content(), ResourceType.MODEL) as model:
        with Session(endpoint=agent.endpoint) as one, Session(endpoint=agent.endpoint) as two:
            model.register(one)
            model.register(two)
            assert methods(sent)["CommitResource"] == methods(sent)["RegisterResource"] == 1
            model.unregister(one)
            model.sync(two)
            with pytest.raises(NotFound):
                model.sync(one)
        assert stored(disk) == [SIZE], "kept for the next client"
    agent.stop()
    assert stored(disk) == []


def test_threads_upload_at_once_over_one_connection(serve: Serve, disk: Path) -> None:
    agent = serve()
    data = [content(2 * MIB + n, n) for n in range(6)]
    failures: list[BaseException] = []

    def use(session: Session, number: int) -> None:
        try:
            with Resource.from_buffer(bytearray(data[number]), ResourceType.DATA) as resource:
                resource.register(session)
                resource.blobs()[0].data[:7] = b"changed"
                resource.sync(session)
                assert resource.blobs()[0].data == data[number]
                session.fpga_vadd([1.0], [2.0])
        except BaseException as exc:
            failures.append(exc)

    with contextlib.ExitStack() as opened:
        sessions = [opened.enter_context(Session(endpoint=agent.endpoint)) for _ in data]
        threads = [
            threading.Thread(target=use, args=pair) for pair in zip(sessions, range(6), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(peers.TIMEOUT)
    assert failures == []
    assert stored(disk) == sorted(map(len, data))


def test_threads_that_register_one_resource_send_it_once(
    serve: Serve, disk: Path, sent: list[tuple[str, int]]
) -> None:
    agent = serve()
    with contextlib.ExitStack() as opened:
        model = opened.enter_context(Resource.from_buffer(content(), ResourceType.MODEL))
        sessions = [opened.enter_context(Session(endpoint=agent.endpoint)) for _ in range(5)]
        threads = [threading.Thread(target=model.register, args=(s,)) for s in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(peers.TIMEOUT)
        assert all(model.registered_with(session) for session in sessions)
        assert (methods(sent)["OfferResource"], methods(sent)["RegisterResource"]) == (1, 4)
        uploaded()


@pytest.mark.subprocess
def test_one_resource_goes_to_several_agents(serve: Serve, disk: Path) -> None:
    data = content()
    with processes.agent(env={"TMPDIR": str(disk)}) as other, contextlib.ExitStack() as opened:
        agent = serve()
        model = opened.enter_context(Resource.from_buffer(bytearray(data), ResourceType.MODEL))
        for endpoint in (agent.endpoint, other.endpoint):
            session = opened.enter_context(Session(endpoint=endpoint))
            model.register(session)
            model.blobs()[0].data[MIB : 2 * MIB] = bytes(MIB)
            model.sync(session)
            assert model.blobs()[0].data == data


def test_a_kernel_of_ours_changes_its_own_resource_and_nobody_elses(
    serve: Serve, disk: Path
) -> None:
    agent = serve()
    ours, theirs = bytearray(content()), content()
    with Session(endpoint=agent.endpoint) as session:
        with Resource.from_buffer(ours, ResourceType.DATA) as resource:
            resource.register(session)
            uploaded().blobs()[0].data[2 * MIB : 2 * MIB + 5] = b"there"
            resource.sync(session)
            assert ours[2 * MIB : 2 * MIB + 5] == b"there"
        with Resource.from_buffer(theirs, ResourceType.DATA) as other:
            other.register(session)
            assert uploaded().blobs()[0].data == theirs
            other.sync(session)
            assert other.blobs()[0].data == theirs


def test_sync_writes_a_changed_file_and_replaces_memory_that_cannot_be_written(
    serve: Serve, disk: Path, tmp_path: Path, sent: list[tuple[str, int]]
) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(content())
    agent = serve()
    with Session(endpoint=agent.endpoint) as session:
        for resource in (
            Resource(path, ResourceType.DATA),
            Resource.from_buffer(content(seed=2), ResourceType.DATA),
        ):
            with resource:
                resource.register(session)
                expected = bytearray(resource.blobs()[0].data)
                expected[-3:] = b"end"
                uploaded().blobs()[0].data[-3:] = b"end"
                resource.sync(session)
                assert resource.blobs()[0].data == expected
    assert methods(sent)["FetchChunk"] == 2 * 4


# -- what is not sent again ------------------------------------------------------------------------


@pytest.mark.subprocess
def test_a_content_that_the_agent_has_is_proven_and_not_sent(
    disk: Path, sent: list[tuple[str, int]], tmp_path: Path
) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content(64 * MIB))
    bootstrap(Config(plugins="rpc"))
    with processes.agent(env={"TMPDIR": str(disk)}) as agent:
        for _ in range(2):
            with Session(endpoint=agent.endpoint) as session:
                with Resource(path, ResourceType.MODEL) as model:
                    model.register(session)
            traffic = sum(size for _, size in sent)
            sent.clear()
        assert stored(disk) == [64 * MIB]
    assert traffic < 64 * 300, "a hash for each chunk"


def test_equal_keys_do_not_make_equal_contents(
    serve: Serve, disk: Path, sent: list[tuple[str, int]]
) -> None:
    one = content(4 * MIB)
    two = bytearray(one)
    two[3 * MIB + 100_000] ^= 1
    assert key_of(MemoryContent(memoryview(one))) == key_of(MemoryContent(memoryview(two)))
    agent = serve()
    with Session(endpoint=agent.endpoint) as session:
        for data in (one, bytes(two)):
            with Resource.from_buffer(data, ResourceType.MODEL) as model:
                sent.clear()
                model.register(session)
                assert uploaded().blobs()[0].data == data
    assert sum(size for _, size in sent) > 4 * MIB
    assert stored(disk) == [4 * MIB], "nobody would find the first one any more"


def test_nobody_gets_a_content_of_which_it_knows_only_the_key(serve: Serve, disk: Path) -> None:
    agent = serve()
    data = content()
    with Session(endpoint=agent.endpoint) as session:
        with Resource.from_buffer(data, ResourceType.MODEL) as model:
            model.register(session)
            with RawClient(agent.endpoint) as client:
                thief = Thief(client, len(data), key_of(MemoryContent(memoryview(data))))
                assert list(thief.offered.known) == [0]
                assert thief.put(offset=0, proof=b"0" * 32).differs
                assert "expected 4 chunks of 1048576 bytes, found 0" in thief.refused_end()


def test_room_goes_to_the_content_used_last(
    serve: Serve, disk: Path, sent: list[tuple[str, int]]
) -> None:
    agent = serve(limits=Limits(store=8 * MIB))
    names = {2 * MIB: "a", 2 * MIB + 1: "b", 2 * MIB + 2: "c", 2 * MIB + 3: "d"}

    def use(size: int) -> None:
        with Session(endpoint=agent.endpoint) as session:
            with Resource.from_buffer(content(size), ResourceType.MODEL) as model:
                model.register(session)

    for number in (0, 1, 2, 0, 3):
        use(2 * MIB + number)
    assert [names[size] for size in stored(disk)] == ["a", "c", "d"]


# -- limits ----------------------------------------------------------------------------------------


def test_what_is_over_a_limit_is_refused_before_any_of_it_is_sent(
    serve: Serve, disk: Path, sent: list[tuple[str, int]]
) -> None:
    agent = serve(limits=Limits(resources=5 * MIB, store=6 * MIB))
    with contextlib.ExitStack() as opened:
        one = opened.enter_context(Session(endpoint=agent.endpoint))
        first = opened.enter_context(Resource.from_buffer(content(3 * MIB), ResourceType.MODEL))
        first.register(one)
        sent.clear()
        more = opened.enter_context(Resource.from_buffer(content(seed=2), ResourceType.MODEL))
        left = 2 * MIB
        with pytest.raises(ResourceExhausted, match=rf"this client has {left} bytes left of"):
            more.register(one)
        with RawClient(agent.endpoint) as client:
            with pytest.raises(Refused, match="--max-store"):
                Thief(client, 4 * MIB, b"")
        assert methods(sent) == {"OfferResource": 1}
        assert stored(disk) == [3 * MIB]
        first.unregister(one)
        more.register(one)


def test_a_small_message_limit_makes_small_chunks(serve: Serve, disk: Path) -> None:
    agent = serve(limits=Limits(message=100_000))
    data = bytearray(content())
    with Session(endpoint=agent.endpoint) as session:
        with Resource.from_buffer(data, ResourceType.MODEL) as model:
            model.register(session)
            assert uploaded().blobs()[0].data == data


def test_uploads_that_nobody_ends_are_limited(serve: Serve, disk: Path) -> None:
    agent = serve()
    with RawClient(agent.endpoint) as client:
        uploads = [Thief(client, 10, b"") for _ in range(MAX_UPLOADS)]
        with pytest.raises(Refused, match=f"more than {MAX_UPLOADS} uploads"):
            Thief(client, 10, b"")
        uploads[0].end("AbandonResource")
        Thief(client, 10, b"")
        assert len(stored(disk)) == MAX_UPLOADS
        client.call("DestroySession", messages.DestroySessionRequest(session_id=uploads[1].session))
        assert len(stored(disk)) == MAX_UPLOADS - 1


def test_a_peer_without_uploads_gets_one_message(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, sent: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr("vaccel.service.FEATURES", 1)
    agent = serve()
    with Session(endpoint=agent.endpoint) as session:
        with Resource.from_buffer(bytearray(content()), ResourceType.MODEL) as model:
            model.register(session)
            model.sync(session)
    assert methods(sent) == {"RegisterResource": 1, "SyncResource": 1, "UnregisterResource": 1}


@pytest.mark.skipif(sys.maxsize < 2**32, reason="maps a file of more than 1 GiB")
def test_a_peer_without_uploads_is_not_sent_more_than_it_takes(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.touch()
    os.truncate(path, (1 << 30) + 1)

    def script(sock: Any) -> None:
        stream, _, _ = peers.read_request(sock)
        peers.reply(sock, stream, peers.ok(messages.CreateSessionResponse(session_id=1)))
        stream, envelope, _ = peers.read_request(sock)
        assert envelope.method == "DestroySession"
        peers.reply(sock, stream, peers.ok(messages.Empty()))

    bootstrap(Config(plugins="rpc"))
    with fake_peer(script) as endpoint, Session(endpoint=endpoint) as session:
        with Resource(path, ResourceType.MODEL) as model:
            with pytest.raises(ResourceExhausted, match="at most 1073741824 in one message"):
                model.register(session)


# -- hostile uploads -------------------------------------------------------------------------------


class Thief:
    """An upload of one blob, in messages of our making."""

    def __init__(self, client: RawClient, size: int, key: bytes, name: str = "model") -> None:
        self.client = client
        self.session = client.session()
        blob = messages.UploadBlob(name=name, size=size, key=key)
        self.offered = client.call("OfferResource", self._request(blobs=[blob]))

    def _request(self, **fields: Any) -> Any:
        return messages.OfferResourceRequest(session_id=self.session, resource_type=2, **fields)

    def put(self, **fields: Any) -> Any:
        request = messages.PutChunkRequest(
            session_id=self.session, upload_id=self.offered.upload_id, **fields
        )
        return self.client.call("PutChunk", request)

    def end(self, method: str = "CommitResource") -> Any:
        request = messages.EndUploadRequest(
            session_id=self.session, upload_id=self.offered.upload_id
        )
        return self.client.call(method, request)

    def refused_end(self) -> str:
        with pytest.raises(Refused) as caught:
            self.end()
        return caught.value.message


@pytest.mark.parametrize(
    "name", ["../x", "a/../b", "/etc/passwd", "a\0b", ".", "..", "a/", "x" * 256]
)
def test_names_that_would_leave_the_folder_are_refused(serve: Serve, disk: Path, name: str) -> None:
    agent = serve()
    with RawClient(agent.endpoint) as client:
        with pytest.raises(Refused, match="expected a file name"):
            Thief(client, 5, b"", name)
    assert stored(disk) == []


def test_offers_that_make_no_sense_are_refused(serve: Serve, disk: Path) -> None:
    agent = serve()
    blob = messages.UploadBlob(name="a", size=5)
    nameless = messages.UploadBlob(size=5), messages.UploadBlob(name="blob.0", size=5)
    with RawClient(agent.endpoint) as client:
        session = client.session()
        for blobs, type, text in (
            ([], 0, "expected 1 to 4096, found 0"),
            ([blob] * 4097, 0, "expected 1 to 4096, found 4097"),
            ([blob, blob], 0, "expected distinct names"),
            ([blob, messages.UploadBlob(name="a/b", size=5)], 0, "expected distinct names"),
            (nameless, 0, "expected distinct names"),
            ([blob], 7, "expected LIB"),
            ([messages.UploadBlob(name="a", type=9)], 0, "expected 0, 1 or 2, found 9"),
            ([messages.UploadBlob(name="a", size=2**64 - 1)], 0, "--max-resources"),
            ([messages.UploadBlob(name="a", size=2**63)] * 2, 0, "distinct"),
        ):
            request = messages.OfferResourceRequest(
                session_id=session, resource_type=type, blobs=blobs
            )
            with pytest.raises(Refused, match=text):
                client.call("OfferResource", request)
        assert client.session() == session + 1, "the connection is still usable"
    assert stored(disk) == []


def test_chunks_that_do_not_fit_are_refused(serve: Serve, disk: Path) -> None:
    agent = serve()
    data = content(CHUNK + 5)
    with RawClient(agent.endpoint) as client:
        upload = Thief(client, len(data), b"")
        for fields, text in (
            ({"offset": 1, "data": data[1:]}, "expected a multiple of 1048576 below 1048581"),
            ({"offset": 2 * CHUNK, "data": b"x"}, "expected a multiple"),
            ({"offset": 2**64 - CHUNK, "data": data[:CHUNK]}, "expected a multiple"),
            ({"offset": CHUNK, "data": b"123456"}, "expected 5 bytes from 1048576, found 6"),
            ({"offset": CHUNK, "data": b"1234"}, "expected 5 bytes from 1048576, found 4"),
            ({"offset": 0, "data": data}, "expected 1048576 bytes from 0, found 1048581"),
            ({"blob": 1, "data": data[:CHUNK]}, "expected a number below 1, found 1"),
        ):
            with pytest.raises(Refused, match=text):
                upload.put(**fields)
        assert upload.put(offset=CHUNK, proof=b"x").differs, "it has nothing to compare with"
        upload.put(offset=CHUNK, data=data[CHUNK:])
        with pytest.raises(Refused, match="the chunk at 1048576 has come already"):
            upload.put(offset=CHUNK, data=data[CHUNK:])
        assert "expected 2 chunks of 1048576 bytes, found 1" in upload.refused_end()
        with pytest.raises(Refused, match="Unknown upload"):
            upload.put(offset=0, data=data[:CHUNK])
    assert stored(disk) == []


def test_chunks_may_come_in_any_order(serve: Serve, disk: Path) -> None:
    agent = serve()
    data = content(CHUNK + 5)
    with RawClient(agent.endpoint) as client:
        upload = Thief(client, len(data), b"")
        upload.put(offset=CHUNK, data=data[CHUNK:])
        upload.put(offset=0, data=data[:CHUNK])
        number = upload.end().resource_id
        assert uploaded().blobs()[0].data == data
        request = messages.SyncResourceRequest(resource_id=number)
        assert client.call("SyncResource", request).blobs[0].data == data
        again = Thief(client, len(data), key_of(MemoryContent(memoryview(data))))
        with pytest.raises(Refused, match="expected a proof first"):
            again.put(offset=0, data=data[:CHUNK])
        for offset in (0, CHUNK):
            found = proof(again.offered.nonce, offset, memoryview(data)[offset : offset + CHUNK])
            assert not again.put(offset=offset, proof=found).differs
        with pytest.raises(Refused, match="has come already"):
            again.put(offset=0, proof=found)
        assert again.end().resource_id != number
    agent.stop()


def test_an_upload_is_its_connections_and_its_sessions_own(serve: Serve, disk: Path) -> None:
    agent = serve()
    with RawClient(agent.endpoint) as one, RawClient(agent.endpoint) as two:
        upload = Thief(one, 5, b"")
        other = two.session()
        for client, session in ((two, other), (one, one.session())):
            request = messages.PutChunkRequest(
                session_id=session, upload_id=upload.offered.upload_id, data=b"12345"
            )
            with pytest.raises(Refused, match="Unknown upload"):
                client.call("PutChunk", request)


def test_fetches_outside_a_resource_are_refused(serve: Serve, disk: Path) -> None:
    agent = serve()
    with RawClient(agent.endpoint) as client:
        session = client.session()
        number = client.resource(session, b"abc")

        def fetch(**fields: int) -> Any:
            request = messages.FetchChunkRequest(session_id=session, **fields)
            return client.call("FetchChunk", request)

        assert fetch(resource_id=number, size=3).data == b"abc"
        for fields, text in (
            ({"resource_id": 99}, "Unknown resource 99"),
            ({"resource_id": number, "blob": 1}, "expected a number below 1"),
            ({"resource_id": number, "size": 4}, "within the 3 of blob 0"),
            ({"resource_id": number, "offset": 2**64 - 1, "size": 3}, "within the 3"),
            ({"resource_id": number, "size": 2**32 - 1}, "expected at most 1048576"),
        ):
            with pytest.raises(Refused, match=text):
                fetch(**fields)


# -- uploads that do not come to their end ---------------------------------------------------------


@pytest.mark.subprocess
def test_a_client_that_is_killed_in_the_middle_leaves_nothing(
    agent_process: Callable[..., AgentProcess], disk: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content(64 * MIB))
    agent = agent_process(plugins=f"{kernels.NAME}:cpu")
    before = agent.state()
    os_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    client = subprocess.run(
        [sys.executable, "-m", __name__, agent.endpoint, str(path)],
        env={**os.environ, "PYTHONPATH": os_path, "XDG_RUNTIME_DIR": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert client.returncode == -signal.SIGKILL
    after = agent.state()
    for what in ("connections", "open", "threads", "files"):
        assert after[what] == before[what], what
    assert after["descriptors"] == before["descriptors"] + 1, "the lock of its folder on disk"
    assert stored(disk) == []
    assert agent.stop() == 0


def die_in_the_middle(endpoint: str, path: str) -> None:
    """The program that is killed: after it has sent 20 chunks."""
    call, count = Client.call, 0

    def counted(self: Client, method: str, *args: Any, **options: Any) -> Any:
        nonlocal count
        count += method == "PutChunk"
        if count == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(self, method, *args, **options)

    Client.call = counted  # type: ignore[method-assign]
    bootstrap(Config(plugins="rpc"))
    Resource(path, ResourceType.MODEL).register(Session(endpoint=endpoint))


def test_an_interrupt_ends_the_upload_and_not_the_connection(
    serve: Serve, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = serve()

    def interrupt(self: Progress, done: int) -> None:
        raise KeyboardInterrupt

    with Session(endpoint=agent.endpoint) as session:
        with Resource.from_buffer(content(64 * MIB), ResourceType.MODEL) as model:
            with monkeypatch.context() as patch:
                patch.setattr(Progress, "show", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    model.register(session)
            assert stored(disk) == []
            assert not model.registered_with(session)
            assert session.fpga_vadd([1.0], [2.0]) == [3.0]
            model.register(session)


def test_a_file_that_shrinks_meanwhile_is_an_error_and_the_connection_goes_on(
    serve: Serve, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content(8 * MIB))
    agent = serve()
    part = FileContent.part

    def shrunk(self: FileContent, offset: int, size: int) -> Any:
        os.truncate(path, 5 * MIB + 100)
        return part(self, offset, size)

    with Session(endpoint=agent.endpoint) as session:
        with Resource(path, ResourceType.MODEL) as model, monkeypatch.context() as patch:
            patch.setattr(FileContent, "part", shrunk)
            with pytest.raises(InvalidArgument, match="a file has lost"):
                model.register(session)
        assert stored(disk) == []
        assert session.fpga_vadd([1.0], [2.0]) == [3.0]


def test_a_disk_that_is_full_is_an_error_that_says_so(
    serve: Serve, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    agent = serve()
    with Session(endpoint=agent.endpoint) as session:
        with Resource.from_buffer(content(), ResourceType.MODEL, name="m") as model:
            with monkeypatch.context() as patch:
                patch.setattr(os, "pwrite", full)
                with pytest.raises(ResourceExhausted, match=r"blob 'm'.* No space left"):
                    model.register(session)
            assert stored(disk) == []
            model.register(session)


def test_an_agent_that_does_not_take_a_chunk_in_time_is_not_waited_for(
    serve: Serve, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    write = incoming._write

    def stuck(*args: Any) -> None:
        release.wait(peers.TIMEOUT)
        write(*args)

    timeouts = Timeouts(control=0.3)
    agent = serve(config=Config(plugins="cpu:rpc", timeouts=timeouts))
    with Session(endpoint=agent.endpoint) as session:
        with Resource.from_buffer(content(), ResourceType.MODEL) as model:
            with monkeypatch.context() as patch:
                patch.setattr(incoming, "_write", stuck)
                with pytest.raises(DeadlineExceeded, match="PutChunk"):
                    model.register(session)
                release.set()
            assert session.fpga_vadd([1.0], [2.0]) == [3.0]
            model.register(session)


# -- memory, and what is shown ---------------------------------------------------------------------


@pytest.mark.subprocess
def test_two_gibibytes_take_little_memory_on_both_sides(disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    with path.open("wb") as file:
        file.truncate(2 << 30)
        file.seek(1 << 30)
        file.write(b"in the middle")
    bootstrap(Config(plugins="rpc"))
    with processes.agent(env={"TMPDIR": str(disk)}) as agent:
        pids = agent.process.pid, os.getpid()
        with Session(endpoint=agent.endpoint) as session:
            for pid in pids:
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM begins anew
            before = [memory(pid, "VmRSS") for pid in pids]
            with Resource(path, ResourceType.MODEL) as model:
                model.register(session)
                assert stored(disk) == [2 << 30]
                growth = [memory(p, "VmHWM") - b for p, b in zip(pids, before, strict=True)]
    assert max(growth) < 40 * MIB, growth


def memory(pid: int, what: str) -> int:
    """Bytes, as proc(5) calls them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith(f"{what}:"))
    return int(kibibytes) << 10


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_to_the_patient_only() -> None:
    now = 0.0
    stream, pipe = Terminal(), io.StringIO()
    progress = [Progress("uploading m", 64 * MIB, s, lambda: now) for s in (stream, pipe)]

    def at(moment: float, done: int) -> str:
        nonlocal now
        now = moment
        stream.truncate(0)
        stream.seek(0)
        for bar in progress:
            bar.show(done)
        return stream.getvalue()

    assert at(0.4, MIB) == ""
    assert at(1.0, 16 * MIB).rstrip() == (
        "\ruploading m [###.........]  25%  16 of 64 MiB, 16 MiB/s, 3 s left"
    )
    assert at(1.05, 17 * MIB) == ""
    for bar in progress:
        bar.close(64 * MIB)
    assert stream.getvalue().rstrip(" \n").endswith("] 100%  64 of 64 MiB, 61 MiB/s")
    assert stream.getvalue().endswith("\n")
    assert pipe.getvalue() == ""


def test_progress_says_whether_a_content_is_sent_or_compared(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = serve()
    shown: list[str] = []
    monkeypatch.setattr(Progress, "close", lambda self, done: shown.append(self.what))
    with Session(endpoint=agent.endpoint) as session:
        for _ in range(2):
            resource = Resource.from_buffer(content(8 * MIB), ResourceType.MODEL, name="m")
            resource.register(session)
    assert shown == ["uploading m", "checking m"]


def test_large_parts_of_files_are_sent_without_a_way_through_memory(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(CHUNK))
    with contextlib.closing(FileContent(tmp_path / "x")) as file:
        assert isinstance(file.part(0, CHUNK), FileSlice)
        assert file.part(0, 5) == bytes(5)


if __name__ == "__main__":
    die_in_the_middle(*sys.argv[1:])
