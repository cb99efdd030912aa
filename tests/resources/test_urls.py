"""Resources from URLs, fetched from a real server."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.resources.conftest import files_below
from tests.resources.server import File, WebServer, raw, redirect, status, tag
from vaccel import Resource, ResourceType, Session
from vaccel.error import (
    ConnectionFailed,
    ConnectionLost,
    DeadlineExceeded,
    FFIError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ProtocolError,
    ResourceExhausted,
)
from vaccel.sources import urls
from vaccel.sources.downloads import fetch
from vaccel.sources.transfer import UrlLimits
from vaccel.sources.urls import Prefixes

MODEL = ResourceType.MODEL
CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def parts(cache: Path) -> list[str]:
    return [name for name in files_below(cache) if name.endswith(".part")]


# -- what comes ------------------------------------------------------------------------------------


def test_a_url_is_a_file_of_that_name(web: WebServer, cache: Path) -> None:
    web.routes["/models/cat%20dog.onnx"] = File(CONTENT)
    with Session() as session:
        with Resource.from_url(web.url("/models/cat%20dog.onnx?key=1"), MODEL) as resource:
            resource.register(session)
            (file,) = resource.files()
            assert (file.name, file.read_bytes()) == ("cat dog.onnx", CONTENT)
            (blob,) = resource.blobs()
            assert (blob.name, bytes(blob.data), resource.type) == ("cat dog.onnx", CONTENT, MODEL)
    assert file == cache / "contents" / SHA256 / "cat dog.onnx"
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    assert parts(cache) == []


def test_several_urls_are_one_resource(web: WebServer) -> None:
    web.routes |= {"/a/x": File(b"one"), "/b/x": File(b"two"), "/": File(b"three")}
    urls = [web.url(path) for path in ("/a/x", "/b/x", "/")]
    with Resource.from_url(urls, MODEL) as resource:
        found = [(blob.name, bytes(blob.data)) for blob in resource.blobs()]
    assert found == [("x", b"one"), ("1.x", b"two"), ("download", b"three")]


def test_a_file_without_length_or_in_chunks_comes_whole(web: WebServer) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    web.routes["/until-the-end"] = raw(head + b"\r\n", b"abc", b"def")
    chunks = b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
    web.routes["/chunks"] = raw(head + b"Transfer-Encoding: chunked\r\n\r\n", chunks)
    web.routes["/empty"] = status(200)
    for path, content in [("/until-the-end", b"abcdef"), ("/chunks", b"abcdef"), ("/empty", b"")]:
        assert fetch(web.url(path)).read_bytes() == content


def test_what_writes_to_a_resource_leaves_the_cache_as_it_is(web: WebServer) -> None:
    web.routes["/data"] = File(CONTENT)
    with Resource.from_url(web.url("/data"), ResourceType.DATA) as resource:
        (kept,) = resource.files()
        resource.patch(0, 3, memoryview(b"written"))
        (file,) = resource.files()
        assert file != kept
        assert file.read_bytes()[:12] == CONTENT[:3] + b"written" + CONTENT[10:12]
        resource.update([b"all new"])
        assert resource.files()[0].read_bytes() == b"all new"
    assert (kept.read_bytes(), file.exists()) == (CONTENT, False)


# -- the cache -------------------------------------------------------------------------------------


def test_a_file_that_did_not_change_comes_once(web: WebServer) -> None:
    web.routes["/m"] = file = File(CONTENT)
    paths = {fetch(web.url("/m")) for _ in range(3)}
    assert [h.get("If-None-Match") for h in web.asked_for("/m")] == [None, *[tag(CONTENT)] * 2]
    file.content = b"a new version"
    assert fetch(web.url("/m")).read_bytes() == b"a new version"
    assert [path.read_bytes() for path in paths] == [CONTENT]


def test_a_known_content_is_not_asked_for(web: WebServer) -> None:
    web.routes |= {"/m.onnx": File(CONTENT), "/copy.onnx": File(CONTENT)}
    first = fetch(web.url("/m.onnx"))
    again = fetch(web.url(f"/m.onnx#sha256={SHA256.upper()}"))
    other = fetch(web.url(f"/mirror/model.onnx#sha256={SHA256}"))
    assert [path for path, _ in web.asked] == ["/m.onnx"]
    assert (again, other) == (first, first.with_name("model.onnx"))
    assert other.samefile(first)
    assert fetch(web.url("/copy.onnx")).samefile(first)


def test_the_cache_may_be_removed_and_damaged(web: WebServer, cache: Path) -> None:
    web.routes["/m"] = File(CONTENT)
    path = fetch(web.url("/m"))
    path.unlink()
    assert fetch(web.url("/m")).read_bytes() == CONTENT
    (entry,) = (cache / "urls").iterdir()
    for damage in (b"{", b"[]", b'{"x": "y"}', b'{"etag": 1}', b"\xff"):
        entry.write_bytes(damage)
        assert fetch(web.url("/m")).read_bytes() == CONTENT


def test_many_ask_and_one_transfers(web: WebServer) -> None:
    web.routes["/m"] = File(CONTENT)
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: fetch(web.url("/m")), range(8)))
    assert len(paths) == 1
    whole = [h for h in web.asked_for("/m") if "If-None-Match" not in h]
    assert (len(whole), len(web.asked)) == (1, 8)


def test_a_wait_for_another_fetch_ends_with_the_time(web: WebServer) -> None:
    begun = threading.Event()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    finish = threading.Event()

    def wait() -> None:
        begun.set()
        finish.wait()

    web.routes["/m"] = raw(head, b"abc", then=wait)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fetch, web.url("/m"), UrlLimits(attempts=1))
        begun.wait()
        with pytest.raises(DeadlineExceeded, match=r"within 0\.1 s"):
            fetch(web.url("/m"), UrlLimits(total=0.1))
        finish.set()
        assert isinstance(first.exception(), ConnectionLost)


# -- transfers that break off ----------------------------------------------------------------------


def test_a_transfer_that_breaks_off_is_resumed(web: WebServer, cache: Path) -> None:
    web.routes["/m"] = File(CONTENT, cuts=(1000, 300_000, 0))
    assert fetch(web.url("/m")).read_bytes() == CONTENT
    ranges = [headers.get("Range") for headers in web.asked_for("/m")]
    assert ranges == [None, "bytes=1000-", "bytes=301000-", "bytes=301000-"]
    assert parts(cache) == []


def test_a_later_fetch_goes_on_where_the_last_one_failed(web: WebServer, cache: Path) -> None:
    web.routes["/m"] = File(CONTENT, cuts=(1000, 1000))
    with pytest.raises(ConnectionLost, match=f"broke off 2 times, .* 2000 of {len(CONTENT)}"):
        fetch(web.url("/m"), UrlLimits(attempts=2))
    assert len(parts(cache)) == 1
    assert fetch(web.url("/m")).read_bytes() == CONTENT
    assert web.asked_for("/m")[-1]["Range"] == "bytes=2000-"
    assert parts(cache) == []


def test_a_file_that_changed_meanwhile_comes_anew(web: WebServer) -> None:
    web.routes["/m"] = File(CONTENT, cuts=(1000,))
    with pytest.raises(ConnectionLost):
        fetch(web.url("/m"), UrlLimits(attempts=1))
    web.routes["/m"] = File(CONTENT[::-1])
    assert fetch(web.url("/m")).read_bytes() == CONTENT[::-1]


def test_without_an_etag_a_transfer_begins_anew(web: WebServer, cache: Path) -> None:
    web.routes["/m"] = File(CONTENT, cuts=(1000, 2000), etag=False)
    assert fetch(web.url("/m")).read_bytes() == CONTENT
    assert all("Range" not in headers for headers in web.asked_for("/m"))
    web.routes["/m"] = File(b"x" * 50, cuts=(1, 2), etag=False)
    with pytest.raises(ConnectionLost):
        fetch(web.url("/m"), UrlLimits(attempts=2))
    assert parts(cache) == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 10\r\n\r\n"
        + b"x" * 10,
        b"HTTP/1.1 206 Partial\r\nContent-Range: nonsense\r\nContent-Length: 6\r\n\r\nxxxxxx",
        b'HTTP/1.1 206 Partial\r\nETag: "other"\r\nContent-Range: bytes 4-9/10\r\n'
        b"Content-Length: 6\r\n\r\nxxxxxx",
        b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["wrong start", "nonsense", "another file", "not satisfiable"],
)
def test_an_answer_that_is_not_the_rest_is_not_taken_for_it(web: WebServer, answer: bytes) -> None:
    good = b"0123456789"
    whole = b'HTTP/1.1 200 OK\r\nETag: "t"\r\nContent-Length: 10\r\n\r\n'
    answers = iter([raw(whole, good[:4]), raw(answer), raw(whole, good)])
    web.routes["/m"] = lambda request: next(answers)(request)
    assert fetch(web.url("/m")).read_bytes() == good


def test_a_length_that_is_a_lie_is_an_error(web: WebServer, cache: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    web.routes["/m"] = raw(head, b"short")
    with pytest.raises(ConnectionLost, match="broke off 5 times, the last time after 5 of 100"):
        fetch(web.url("/m"))
    web.routes["/chunks"] = raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"ff\r\nshort"
    )
    with pytest.raises(ConnectionLost, match="after 5 of unknown bytes"):
        fetch(web.url("/chunks"))
    assert files_below(cache / "contents") == parts(cache) == []


# -- limits ----------------------------------------------------------------------------------------


def test_a_file_over_the_size_is_not_begun(web: WebServer, cache: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n"
    web.routes["/m"] = raw(head, then=web.ended.wait)
    with pytest.raises(ResourceExhausted, match=r"at most 1000 bytes, found 10{12} \(UrlLimits"):
        fetch(web.url("/m"), UrlLimits(size=1000))
    assert parts(cache) == []


def test_a_body_without_end_is_cut_off_at_the_size(web: WebServer, cache: Path) -> None:
    def endless(request: object) -> None:
        raw(b"HTTP/1.1 200 OK\r\n\r\n")(request)  # type: ignore[arg-type]
        while True:  # until the client hangs up
            request.wfile.write(bytes(65536))  # type: ignore[attr-defined]

    web.routes["/m"] = endless
    with pytest.raises(ResourceExhausted, match="at most 1000000 bytes, found more"):
        fetch(web.url("/m"), UrlLimits(size=1_000_000))
    assert files_below(cache / "contents") == parts(cache) == []


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\nabc"])
def test_a_server_that_stops_is_waited_for_no_longer_than_the_time(
    web: WebServer, sent: bytes
) -> None:
    web.routes["/m"] = raw(sent, then=web.ended.wait)
    with pytest.raises(DeadlineExceeded, match=r"expected it within 0\.2 s"):
        fetch(web.url("/m"), UrlLimits(total=0.2))


def test_a_server_that_sends_byte_by_byte_cannot_hold_up_a_fetch(web: WebServer) -> None:
    def trickle(request: object) -> None:
        while not web.ended.wait(0.01):
            request.wfile.write(b"H")  # type: ignore[attr-defined]

    web.routes["/m"] = trickle
    with pytest.raises(DeadlineExceeded, match=r"expected it within 0\.2 s"):
        fetch(web.url("/m"), UrlLimits(total=0.2, silence=10))


def test_silence_ends_a_fetch(web: WebServer) -> None:
    web.routes["/m"] = raw(then=web.ended.wait)
    with pytest.raises(DeadlineExceeded, match=r"no answer for 0\.1 s"):
        fetch(web.url("/m"), UrlLimits(silence=0.1))
    web.routes["/half"] = raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", then=web.ended.wait
    )
    with pytest.raises(ConnectionLost, match="broke off 2 times"):
        fetch(web.url("/half"), UrlLimits(silence=0.1, attempts=2))


# -- what is not there, or not what it should be ---------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error", "advice"),
    [
        (404, NotFound, "check the address"),
        (410, NotFound, "check the address"),
        (401, PermissionDenied, "fetch it yourself"),
        (403, PermissionDenied, "fetch it yourself"),
        (500, ConnectionFailed, "try again later"),
        (204, ConnectionFailed, "try again later"),
        (206, ConnectionFailed, "try again later"),
    ],
)
def test_a_refusal_says_what_the_server_answered(
    web: WebServer, code: int, error: type[FFIError], advice: str
) -> None:
    web.routes["/m"] = status(code)
    with pytest.raises(error, match=f"/m.*: the server answers {code} .*{advice}") as caught:
        fetch(web.url("/m?secret=1"))
    assert "secret" not in caught.value.message


def test_who_does_not_listen_or_speak_http_is_named(web: WebServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(ConnectionFailed, match=f"http://127.0.0.1:{port}/m cannot be reached"):
        fetch(f"http://127.0.0.1:{port}/m")
    for host in ("a" * 64, "a..b"):
        with pytest.raises(ConnectionFailed, match=f"http://{host}/m cannot be reached: .*label"):
            fetch(f"http://{host}/m")
    web.routes["/m"] = raw(b"\x00\x01 no HTTP\r\n\r\n")
    with pytest.raises(ProtocolError, match="expected HTTP, found BadStatusLine"):
        fetch(web.url("/m"))
    web.routes["/m"] = raw()
    with pytest.raises(ConnectionLost, match="cannot be reached: Remote end closed"):
        fetch(web.url("/m"))
    with pytest.raises(ConnectionFailed, match="no trust in the server"):
        fetch(web.url("/m").replace("http", "https"))


def test_another_content_than_the_sum_says_is_refused(web: WebServer, cache: Path) -> None:
    web.routes["/m"] = File(CONTENT)
    wrong = "0" * 64
    with pytest.raises(
        InvalidArgument, match=f"expected the sha256 {wrong}, found {SHA256}: .*check"
    ):
        Resource.from_url(web.url(f"/m#sha256={wrong}"), MODEL)
    assert files_below(cache / "contents") == parts(cache) == []
    assert fetch(web.url(f"/m#sha256={SHA256}")).read_bytes() == CONTENT


BAD = [
    ("ftp://host/m", "expected a URL with http:// or https://"),
    ("file:///etc/passwd", "expected a URL with http:// or https://"),
    ("http://", "expected a host"),
    ("http:///m", "expected a host"),
    ("http://host:port/m", "ort"),
    ("http://host:99999/m", "ort"),
    ("http://[::1/m", "IPv6"),
    ("http://me:secret@host/m", "expected no user name or password"),
    ("http://host/a/../b", "expected a path without '.' and '..'"),
    ("http://host/a/%2e%2E/b", "expected a path without '.' and '..'"),
    ("http://host/a%2f..%2fb", "expected a path without '.' and '..'"),
    ("http://host/a b", "expected ASCII without blanks"),
    ("http://host/a\r\nX: y", "expected ASCII without blanks"),
    ("http://höst/", "expected ASCII without blanks"),
    ("http://host\\@other/", "expected"),
    ("http://host/m#part", "expected nothing after '#' but sha256="),
    ("http://host/m#sha256=12", "64 hexadecimal digits"),
    ("http://host/" + "x" * 9000, "expected at most 8192 characters"),
]


@pytest.mark.parametrize(("url", "message"), BAD, ids=[url[:30] for url, _ in BAD])
def test_a_malformed_url_is_not_asked_for(url: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        fetch(url)
    assert message in caught.value.message
    assert "secret" not in caught.value.message


@given(st.text())
def test_any_text_is_a_url_or_refused(text: str) -> None:
    for candidate in (text, f"http://{text}", f"https://h/{text}", f"http://h:{text}"):
        try:
            url = urls.parse(candidate)
        except InvalidArgument:
            continue
        assert url.scheme in ("http", "https")
        assert url.name not in ("", ".", "..")
        assert "/" not in url.name


# -- redirects -------------------------------------------------------------------------------------


def test_redirects_are_followed_and_the_name_stays(web: WebServer) -> None:
    web.routes |= {
        "/m.onnx": redirect("/b?x=é"),
        "/b": redirect(web.url("/c"), 307),
        "/c": File(CONTENT),
    }
    path = fetch(web.url("/m.onnx"))
    assert (path.name, path.read_bytes()) == ("m.onnx", CONTENT)


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/m", "data:,x", "gopher://127.0.0.1/"]
)
def test_a_redirect_to_anything_but_http_is_refused(
    web: WebServer, target: str, cache: Path
) -> None:
    web.routes["/m"] = redirect(target)
    with pytest.raises(PermissionDenied, match="expected http or https; nothing else is followed"):
        fetch(web.url("/m"))
    assert files_below(cache / "contents") == []


def test_redirects_without_end_or_place_are_an_error(web: WebServer) -> None:
    web.routes |= {"/a": redirect("/b"), "/b": redirect("/a"), "/none": status(302)}
    with pytest.raises(ProtocolError, match="expected at most 10 redirects, found more"):
        fetch(web.url("/a"))
    assert len(web.asked) == 11
    with pytest.raises(ProtocolError, match="redirects"):
        fetch(web.url("/none"))


@pytest.mark.parametrize(
    ("address", "first", "allowed"),
    [
        ("93.184.216.34", "93.184.216.34", True),
        ("10.1.2.3", "93.184.216.34", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "127.0.0.1", True),
        ("127.0.0.1", "93.184.216.34", False),
        ("::1", "93.184.216.34", False),
        ("::ffff:127.0.0.1", "10.1.2.3", False),
        ("169.254.169.254", "169.254.169.254", False),
        ("::ffff:169.254.169.254", "10.0.0.1", False),
        ("fe80::1%eth0", "fe80::1%eth0", False),
        ("224.0.0.1", "10.0.0.1", False),
    ],
)
def test_hosts_that_nothing_may_lead_to(address: str, first: str, allowed: bool) -> None:
    url = urls.parse("http://host/m")
    if allowed:
        urls.check_peer(url, address, first)
        return
    with pytest.raises(PermissionDenied, match=f"http://host/m is at {address}"):
        urls.check_peer(url, address, first)


def test_a_redirect_does_not_lead_from_https_to_http() -> None:
    url = urls.parse("https://host/m")
    with pytest.raises(PermissionDenied, match="expected https again"):
        urls.redirected(url, "http://host/m")
    assert urls.redirected(url, "//other/m").text == "https://other/m"


# -- prefixes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://host/v1/m", True),
        ("https://host/v1", True),
        ("https://HOST.:443/v1/a/b?x=1", True),
        ("https://host/v10/m", False),
        ("https://host/", False),
        ("http://host/v1/m", False),
        ("https://host:444/v1/m", False),
        ("https://host.evil/v1/m", False),
        ("https://other/v1/m", False),
    ],
)
def test_a_prefix_is_of_whole_hosts_and_folders(url: str, allowed: bool) -> None:
    prefixes = Prefixes(["https://host/v1"])
    if allowed:
        prefixes.check(urls.parse(url))
        return
    with pytest.raises(PermissionDenied, match="start it with --allow-url PREFIX"):
        prefixes.check(urls.parse(url))


def test_a_prefix_has_no_query_and_none_allows_nothing() -> None:
    for bad in ("https://host/?x=1", f"https://host/#sha256={SHA256}"):
        with pytest.raises(InvalidArgument, match="expected a scheme, a host and a path at most"):
            Prefixes([bad])
    with pytest.raises(PermissionDenied):
        Prefixes([]).check(urls.parse("https://host/"))


# -- https -----------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path / "server.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command.split(), *names, "-keyout", str(path), "-out", f"{path}.crt"],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


def test_https_is_fetched_from_servers_that_are_trusted(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WebServer(certificate) as web:
        web.routes |= {"/m": File(CONTENT, cuts=(1000,)), "/down": redirect("http://127.0.0.1/m")}
        web.routes["/stop"] = raw(b"HTTP/1.1 200 OK\r\n", then=web.ended.wait)
        with pytest.raises(ConnectionFailed, match=r"no trust in the server: .*SSL_CERT_FILE"):
            fetch(web.url("/m"))
        assert web.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch(web.url("/m")).read_bytes() == CONTENT
        with pytest.raises(PermissionDenied, match="expected https again"):
            fetch(web.url("/down"))
        with pytest.raises(DeadlineExceeded, match=r"within 0\.3 s"):
            fetch(web.url("/stop"), UrlLimits(total=0.3))


# -- proxies ---------------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_used(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", web.url(""))
    web.routes["http://models.example/m"] = File(CONTENT)
    assert fetch("http://models.example/m").read_bytes() == CONTENT
    web.routes["/m"] = File(b"direct")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert fetch(web.url("/m")).read_bytes() == b"direct"


def test_descriptors_are_closed(web: WebServer) -> None:
    web.routes |= {"/m": File(CONTENT, cuts=(9,)), "/r": redirect("/m"), "/bad": redirect("file:/")}
    fetch(web.url("/r"))
    before = len(os.listdir("/proc/self/fd"))
    for path in ("/r", "/m", "/bad", "/none"):
        try:
            fetch(web.url(path))
        except FFIError:
            continue
    # Of a server's connection thread that has not ended yet there may be one.
    assert len(os.listdir("/proc/self/fd")) <= before + 1
