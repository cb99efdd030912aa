"""The same resources through an agent, and URLs that an agent fetches for its clients."""

from __future__ import annotations

import contextlib
import hashlib
import resource as resource_limits
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.agent.peers import RawClient, Refused, genop
from tests.resources.conftest import files_below
from tests.resources.hostile import tar_of, zip_of
from tests.resources.server import File, WebServer, raw, redirect
from vaccel import Config, Resource, ResourceType, Session, runtime
from vaccel.agent import Agent
from vaccel.cli import agent as program
from vaccel.error import InvalidArgument
from vaccel.plugin import Plugin
from vaccel.rpc import messages, status

MODEL = ResourceType.MODEL
EPERM, ENOENT, EINVAL = 1, 2, 22
LARGE = bytes(range(256)) * 8192  # 2 MiB: goes in chunks


class Keeper(Plugin):
    """Notes what comes to the agent: the names, and what `files` makes of them."""

    def __init__(self) -> None:
        super().__init__("keeper")
        self.seen: list[dict[str, bytes]] = []
        self.kernel(Session.noop)(lambda session: None)

    def register(self, session: Session, resource: Resource) -> None:
        if session.is_remote:
            return
        folder = resource.rundir() if not resource.paths else None
        found = {}
        for blob, file in zip(resource.blobs(), resource.files(), strict=True):
            assert bytes(blob.data) == file.read_bytes()
            if folder is not None:
                assert file == folder / blob.name
            found[blob.name] = file.read_bytes()
        self.seen.append(found)


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def serve(disk: Path, keeper: Keeper) -> Iterator[Callable[..., Agent]]:
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> Agent:
            agent = Agent("tcp://127.0.0.1:0", Config(plugins=""), **options)
            runtime.current().add(keeper, "the test")
            return stack.enter_context(agent)

        yield start


# -- what the client resolves ----------------------------------------------------------------------


@pytest.mark.parametrize("large", [b"small", LARGE], ids=["one message", "chunks"])
def test_folders_archives_and_urls_arrive_as_trees(
    serve: Callable[..., Agent],
    keeper: Keeper,
    tmp_path: Path,
    web: WebServer,
    large: bytes,
    disk: Path,
) -> None:
    agent = serve()
    files = {"a/b/weights": large, "a/labels.txt": b"cat", "top": b""}
    folder = tmp_path / "folder"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    web.routes["/m.onnx"] = File(large)
    with Session(endpoint=agent.endpoint) as session, contextlib.ExitStack() as stack:
        for resource in (
            Resource(folder, MODEL),
            Resource.from_archive(zip_of(tmp_path / "m.zip", *files.items()), MODEL),
            Resource.from_archive(tar_of(tmp_path / "m.tar.gz", *files.items()), MODEL),
            Resource.from_url(web.url("/m.onnx"), MODEL),
        ):
            session.noop()
            stack.enter_context(resource).register(session)
    assert keeper.seen == [dict(sorted(files.items()))] * 3 + [{"m.onnx": large}]
    # What was uploaded stays for the next client that has it.
    assert [name for name in files_below(disk) if "/content." not in name] == []


def test_a_peer_without_folders_in_names_gets_flat_ones(
    serve: Callable[..., Agent],
    keeper: Keeper,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vaccel.service.FEATURES", 0)  # as an agent of 0.8 answers
    agent = serve()
    (tmp_path / "m" / "a").mkdir(parents=True)
    for name in ("x", "a/x", "a/y"):
        (tmp_path / "m" / name).write_text(name)
    with Session(endpoint=agent.endpoint) as session, Resource(tmp_path / "m", MODEL) as resource:
        session.noop()
        resource.register(session)
        resource.sync(session)
    assert keeper.seen == [{"x": b"a/x", "y": b"a/y", "2.x": b"x"}]


def test_a_folder_may_hold_more_files_than_a_process_may_have_open(
    serve: Callable[..., Agent], keeper: Keeper, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    soft, hard = resource_limits.getrlimit(resource_limits.RLIMIT_NOFILE)
    resource_limits.setrlimit(resource_limits.RLIMIT_NOFILE, (min(1024, hard), hard))
    request.addfinalizer(
        lambda: resource_limits.setrlimit(resource_limits.RLIMIT_NOFILE, (soft, hard))
    )
    agent = serve()
    (tmp_path / "m").mkdir()
    for i in range(4095):
        (tmp_path / "m" / f"{i:04}").write_bytes(b"%d" % i)
    (tmp_path / "m" / "large").write_bytes(LARGE)  # so that they go in chunks
    with Session(endpoint=agent.endpoint) as session, Resource(tmp_path / "m", MODEL) as resource:
        session.noop()
        resource.register(session)
    (found,) = keeper.seen
    assert (len(found), found["4094"], found["large"]) == (4096, b"4094", LARGE)


def test_many_clients_register_one_url_at_once(
    serve: Callable[..., Agent], keeper: Keeper, web: WebServer
) -> None:
    web.routes["/m"] = File(LARGE)
    agent = serve(allow_urls=[web.url("/")])

    def client(_: int) -> None:
        with RawClient(agent.endpoint) as raw_client:
            register(raw_client, web.url("/m"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client, range(8)))
    assert keeper.seen == [{"m": LARGE}] * 8
    assert len([h for h in web.asked_for("/m") if "If-None-Match" not in h]) == 1


# -- what the agent fetches ------------------------------------------------------------------------


def register(client: RawClient, *paths: str) -> int:
    session = client.session()
    client.call("Genop", genop(session, 0))  # plugins hear of a session with its first call
    request = messages.RegisterResourceRequest(session_id=session, paths=paths, resource_type=2)
    return int(client.call("RegisterResource", request).resource_id)


def refused(agent: Agent, *paths: str) -> Refused:
    with RawClient(agent.endpoint) as client, pytest.raises(Refused) as caught:
        register(client, *paths)
    return caught.value


def test_an_agent_fetches_what_is_below_a_prefix(
    serve: Callable[..., Agent], keeper: Keeper, web: WebServer
) -> None:
    web.routes |= {"/v1/m": File(b"model"), "/v1/l": redirect("/v1/n"), "/v1/n": File(b"labels")}
    agent = serve(allow_urls=["https://other/", web.url("/v1/")])
    with RawClient(agent.endpoint) as client:
        number = register(client, web.url("/v1/m"), web.url("/v1/l"))
        answer = client.call("SyncResource", messages.SyncResourceRequest(resource_id=number))
    assert [(blob.name, blob.data) for blob in answer.blobs] == [("m", b"model"), ("l", b"labels")]
    assert keeper.seen == [{"m": b"model", "l": b"labels"}]


def test_an_agent_fetches_nothing_unless_it_was_allowed(
    serve: Callable[..., Agent], keeper: Keeper, web: WebServer, tmp_path: Path
) -> None:
    agent = serve(allow_paths=[str(tmp_path)])
    for url in (web.url("/m"), web.url("/m").upper().replace("/M", "/m")):
        answer = refused(agent, url)
        assert answer.errno == EPERM
        assert "start it with --allow-url PREFIX to allow that" in answer.message
    assert (web.asked, keeper.seen) == ([], [])


def test_a_redirect_may_not_leave_the_prefix(
    serve: Callable[..., Agent], keeper: Keeper, web: WebServer
) -> None:
    local = web.url("/v1/m").replace("127.0.0.1", "localhost")
    targets = ["/v2/m", "/v1/../v2/m", local, "http://127.0.0.1:1/v1/m", "file:///etc/passwd"]
    agent = serve(allow_urls=[web.url("/v1/")])
    web.routes["/v2/m"] = File(b"secret")
    for target in targets:
        web.routes["/v1/m"] = redirect(target)
        assert refused(agent, web.url("/v1/m")).errno == EPERM, target
    assert {path for path, _ in web.asked} == {"/v1/m"}
    assert keeper.seen == []


def test_other_urls_and_mixtures_are_refused(
    serve: Callable[..., Agent], web: WebServer, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    agent = serve(allow_urls=[web.url("/v1/")], allow_paths=[str(tmp_path)])
    web.routes["/v1/m"] = File(b"model")
    for url in ("file:///etc/passwd", "ftp://127.0.0.1/v1/m", "data:,x"):
        assert refused(agent, url).errno == EPERM
    for url in (web.url("/v1/../v2"), web.url("/v1/%2e%2e/v2"), web.url("/v1/m#x")):
        assert refused(agent, url).errno == EINVAL
    assert refused(agent, web.url("/v1/m"), str(tmp_path / "file")).errno == EINVAL
    assert refused(agent, web.url("/v1/none")).errno == ENOENT
    assert refused(agent, web.url(f"/v1/m#sha256={'0' * 64}")).errno == EINVAL


def test_a_sum_gives_a_client_nothing_that_others_fetched(
    serve: Callable[..., Agent], web: WebServer, keeper: Keeper
) -> None:
    web.routes["/private/m"] = File(b"private")
    agent = serve(allow_urls=[web.url("/v1/")])
    Resource.from_url(web.url("/private/m"), MODEL).close()
    sha256 = hashlib.sha256(b"private").hexdigest()
    assert refused(agent, web.url(f"/v1/m#sha256={sha256}")).errno == ENOENT
    assert keeper.seen == []


def test_a_clients_deadline_ends_the_fetch(serve: Callable[..., Agent], web: WebServer) -> None:
    hung_up = threading.Event()

    def begin(request: BaseHTTPRequestHandler) -> None:
        raw(b"HTTP/1.1 200 OK\r\n")(request)
        request.connection.recv(1)  # nothing comes but the end
        hung_up.set()

    web.routes["/m"] = begin
    agent = serve(allow_urls=[web.url("/")])
    with RawClient(agent.endpoint) as client:
        request = messages.RegisterResourceRequest(
            session_id=client.session(), paths=[web.url("/m")]
        )
        # In the words of the agent's watch or of the fetch, whichever is first.
        with pytest.raises(Refused, match=r"within 0\.\d+ s") as caught:
            client.call("RegisterResource", request, timeout_nano=200_000_000)
        assert caught.value.code == status.DEADLINE_EXCEEDED
        assert hung_up.wait(10)


def test_a_folder_of_the_agent_is_served_where_allowed(
    serve: Callable[..., Agent], keeper: Keeper, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "m"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "x").write_bytes(b"1")
    (tmp_path / "secret").write_bytes(b"secret")
    agent = serve(allow_paths=[str(tmp_path / "models")])
    with RawClient(agent.endpoint) as client:
        register(client, str(folder))
    assert keeper.seen == [{"a/x": b"1"}]
    (folder / "link").symlink_to(tmp_path / "secret")
    assert refused(agent, str(folder)).errno == EINVAL
    assert refused(agent, str(tmp_path)).errno == EPERM
    assert len(keeper.seen) == 1


def test_a_prefix_that_is_none_stops_the_agent(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidArgument, match="expected a URL with http:// or https://"):
        Agent("tcp://127.0.0.1:0", allow_urls=["models.example"])
    arguments = ["-a", "tcp://127.0.0.1:0", "--allow-url", "ftp://models.example"]
    assert program.main(arguments) == 2
    assert "expected a URL with http:// or https://" in capsys.readouterr().err
