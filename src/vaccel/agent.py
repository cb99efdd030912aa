"""The agent: sessions of this machine's runtime, for clients elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vaccel import runtime
from vaccel.config import Config
from vaccel.rpc.handler import Limits
from vaccel.rpc.server import Server
from vaccel.service import Connection
from vaccel.sources.urls import Prefixes
from vaccel.uploads.store import Store


class Agent:
    """Serves the current runtime's plugins at `endpoint`; `allow_paths`: folders of this machine
    that clients may name as resources; `allow_urls`: prefixes of URLs that it fetches as resources
    for them; `allow`: plugins' permissions (`Plugin.permission`) that clients get."""

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
        if config is not None:
            runtime.bootstrap(config)
        runtime.current()
        folders = [Path(path).resolve() for path in allow_paths]
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
