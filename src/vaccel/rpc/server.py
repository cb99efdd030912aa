"""Listening and accepting; what happens on a connection is in `peer`."""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import threading
from collections.abc import Callable

from vaccel import log
from vaccel.rpc import address
from vaccel.rpc.handler import Handler, Limits
from vaccel.rpc.peer import Peer
from vaccel.rpc.shared import SharedReader
from vaccel.rpc.watch import Watch


class Server:
    """Listens on `endpoint` and serves each connection with a handler of its own."""

    def __init__(
        self, endpoint: str, connected: Callable[[str], Handler], limits: Limits | None = None
    ) -> None:
        self.limits = limits or Limits()
        wanted = address.parse(endpoint)
        self._connected = connected
        self._sock = address.listen(wanted)
        self.endpoint = address.bound(wanted, self._sock)
        self.watch = Watch()
        self.spare = threading.BoundedSemaphore(self.limits.threads)
        self.stopping = False
        self._shared = SharedReader(self)
        self._peers: dict[Peer, None] = {}
        self._quiet = threading.Condition()
        self._acceptor = threading.Thread(target=self._accept, name="vaccel-accept", daemon=True)
        self._acceptor.start()

    @property
    def connections(self) -> int:
        return len(self._peers)

    def _accept(self) -> None:
        for number in itertools.count(1):
            try:
                sock, _ = self._sock.accept()
            except OSError as exc:
                if self.stopping:
                    return
                log.error("cannot accept a connection: %s", exc.strerror)
                if exc.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    with self._quiet:  # until a connection ends and frees something
                        self._quiet.wait(1.0)
                continue
            if self.stopping or len(self._peers) >= self.limits.connections:
                log.warn("refused a connection: %d are open", len(self._peers))
                sock.close()
                continue
            try:
                address.tune(sock, self.limits.silence)
                peer = Peer(self, sock, self._connected(f"connection {number}"))
                self._peers[peer] = None
                peer.start(self._shared.begin)
            except Exception as exc:  # out of threads or descriptors: this client only
                log.error("cannot serve a connection: %s", exc)
                sock.close()

    def ended(self, peer: Peer) -> None:
        with self._quiet:
            self._peers.pop(peer, None)
            self._quiet.notify_all()

    def stop(self, grace: float = 5.0) -> bool:
        """End: no new requests; running ones may finish within `grace` seconds. Repeatable.

        False if some did not.
        """
        if self.stopping:
            return not self._peers
        self.stopping = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes the acceptor
        self._acceptor.join()
        self._sock.close()
        address.unlisten(self.endpoint)
        for peer in list(self._peers):
            peer.stop_reading()
        with self._quiet:
            finished = self._quiet.wait_for(lambda: not self._peers, grace)
        for peer in list(self._peers):
            peer.disconnect()
        self._shared.close()
        self.watch.stop()
        return finished
