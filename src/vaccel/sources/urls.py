"""URLs that may be fetched: their form, prefixes that allow them, redirects."""

from __future__ import annotations

import ipaddress
import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote, urljoin, urlsplit

from vaccel.error import InvalidArgument, PermissionDenied

_PORTS = {"http": 80, "https": 443}
_MAX_LENGTH = 8192
_SHA256 = re.compile("sha256=([0-9a-fA-F]{64})")


@dataclass(frozen=True)
class Url:
    """`text` is what is asked for; the sum that its fragment named is in `sha256`, or it is ''."""

    text: str
    scheme: str
    host: str
    port: int
    path: str
    query: str
    sha256: str = ""

    def __str__(self) -> str:
        """For messages: a query often holds a key."""
        return self.text.partition("?")[0] + ("?…" if self.query else "")

    @property
    def name(self) -> str:
        """The file's: the last part of the path."""
        name = unquote(self.path.rpartition("/")[2], errors="replace")
        usable = name and "/" not in name and name.isprintable() and len(name.encode()) <= 255
        return name if usable else "download"


def is_url(text: object) -> bool:
    return isinstance(text, str) and text.lower().startswith(("http://", "https://"))


def parse(text: str) -> Url:
    """InvalidArgument for what is not `http(s)://host/path`, as in `…/m.onnx#sha256=HEX`."""
    if not is_url(text):
        raise InvalidArgument(f"expected a URL with http:// or https://, found {text!r:.300}")
    try:
        split = urlsplit(text)
        port = split.port or _PORTS[split.scheme]
    except ValueError as exc:
        raise InvalidArgument(f"URL {text!r:.300}: {exc}") from None
    if "@" in split.netloc:
        raise InvalidArgument(f"URL for {split.hostname}: expected no user name or password in it")
    sha256 = _SHA256.fullmatch(split.fragment)
    url = Url(
        text=text.partition("#")[0],
        scheme=split.scheme,
        host=(split.hostname or "").rstrip("."),
        port=port,
        path=split.path or "/",
        query=split.query,
        sha256=sha256[1].lower() if sha256 else "",
    )
    problem = _problem(text, url, split.fragment)
    if problem:
        raise InvalidArgument(f"URL {str(url)!r:.300}: {problem}")
    return url


def _problem(text: str, url: Url, fragment: str) -> str:
    if len(text) > _MAX_LENGTH:
        return f"expected at most {_MAX_LENGTH} characters, found {len(text)}"
    if not re.fullmatch(r"[!-~]+", text) or "\\" in text:
        return "expected ASCII without blanks and '\\'; others are written as %XX"
    if not url.host:
        return "expected a host"
    if {".", ".."} & set(unquote(url.path).replace("\\", "/").split("/")):
        return "expected a path without '.' and '..'"
    if fragment and not url.sha256:
        return "expected nothing after '#' but sha256= and 64 hexadecimal digits"
    return ""


class Prefixes:
    """URLs that an agent fetches for its clients: those below one of these."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._allowed = [parse(text) for text in texts]
        for url in self._allowed:
            if url.query or url.sha256:
                raise InvalidArgument(
                    f"URL prefix {url}: expected a scheme, a host and a path at most"
                )

    def check(self, url: Url) -> None:
        if not any(_is_below(url, prefix) for prefix in self._allowed):
            raise PermissionDenied(
                f"the agent does not fetch {url} for clients; start it with --allow-url PREFIX "
                "to allow that"
            )


def _is_below(url: Url, prefix: Url) -> bool:
    same = (url.scheme, url.host, url.port) == (prefix.scheme, prefix.host, prefix.port)
    folder = prefix.path if prefix.path.endswith("/") else prefix.path + "/"
    return same and (url.path == prefix.path or url.path.startswith(folder))


def redirected(url: Url, location: str | None) -> Url:
    """Where the answer to `url` leads; PermissionDenied if nothing may lead there."""
    # Servers write what they like; this is what urllib makes of it.
    target = urljoin(
        url.text, quote(location or "", encoding="iso-8859-1", safe=string.punctuation)
    )
    if not is_url(target):
        raise PermissionDenied(
            f"{url} leads to {target!r:.300}: expected http or https; nothing else is followed"
        )
    if url.scheme == "https" and not target.lower().startswith("https:"):
        raise PermissionDenied(f"{url} leads to {target!r:.300}: expected https again")
    return parse(target.partition("#")[0])


def check_peer(url: Url, address: str, first: str) -> None:
    """PermissionDenied for a host that nothing may lead to: its `address` is link-local, as that of
    services that tell a virtual machine its secrets, or of this machine while `first`, from which
    the redirects come, was not."""
    ip = _ip(address)
    if ip is None or not (
        ip.is_link_local or ip.is_multicast or (ip.is_loopback and not _is_loopback(first))
    ):
        return
    raise PermissionDenied(
        f"{url} is at {address}, a link-local address or a local one that a redirect leads to; "
        "fetch it yourself and pass the file"
    )


def _is_loopback(address: str) -> bool:
    ip = _ip(address)
    return ip is not None and ip.is_loopback


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip
