"""The agent: sessions of this machine's runtime, for clients elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vaccel import runtime
from vaccel.config import Config
from vaccel.error import InvalidArgument, NotFound
from vaccel.rpc import address
from vaccel.rpc.handler import Limits
from vaccel.rpc.server import Server
from vaccel.runtime import Runtime
from vaccel.service import Connection
from vaccel.sources.urls import Prefixes
from vaccel.uploads.store import Store


class Agent:
    """Serves the current runtime's plugins at `endpoint`; `allow_paths`: folders of this machine
    that clients may name as resources; `allow_urls`: prefixes of URLs that it fetches as resources
    for them; `allow`: plugins that it serves only then (`Plugin.permission`), and loads if they
    are not."""

    def __init__(
        self,
        endpoint: str,
        config: Config | None = None,
        *,
        limits: Limits | None = None,
        allow_paths: Sequence[str] = (),
        allow_urls: Sequence[str] = (),
        allow: Sequence[str] = (),
    ) -> None:
        folders = [_existing(path) for path in allow_paths]
        if config is not None:
            runtime.bootstrap(config)
        running = runtime.current()
        for name in allow:
            running.load(name)
        _check_leads_elsewhere(running, endpoint)
        urls = Prefixes(allow_urls)
        permissions = frozenset(allow)
        limits = limits or Limits()
        self._store = Store(limits.store)
        self.server = Server(
            endpoint,
            lambda name: Connection(name, folders, urls, permissions, self._store, limits),
            limits,
        )

    @property
    def endpoint(self) -> str:
        return str(self.server.endpoint)

    def stop(self, grace: float = 5.0) -> bool:
        """End; running calls may finish within `grace` seconds. False if some did not."""
        finished = self.server.stop(grace)
        self._store.close()
        return finished

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


_EVERYWHERE = ("0.0.0.0", "::", "any")
_HERE = ("127.0.0.1", "::1", "localhost")


def _check_leads_elsewhere(running: Runtime, endpoint: str) -> None:
    """Each call of an agent that is its own client would wait for another one, for ever."""
    remote = next((plugin for plugin in running.plugins if plugin.is_remote), None)
    if remote is None:
        return
    here, there = address.parse(endpoint), address.parse(running.config.endpoint)
    everywhere = here.address in _EVERYWHERE and there.address in _HERE
    if here == there or (everywhere and (here.scheme, here.port) == (there.scheme, there.port)):
        raise InvalidArgument(
            f"{endpoint}: the plugin {remote.name} of this agent leads to the agent itself: "
            "set VACCEL_RPC_ADDRESS to another one, or leave it out of VACCEL_PLUGINS"
        )


def _existing(path: str) -> Path:
    """`path` without links. A mistyped one would allow nothing, and nobody would know why."""
    try:
        return Path(path).resolve(strict=True)
    except (OSError, RuntimeError) as exc:  # RuntimeError: links in a circle
        why = getattr(exc, "strerror", None) or exc
        raise NotFound(
            f"--allow-path: expected an existing folder, found {path!r}: {why}"
        ) from None
