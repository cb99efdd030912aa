"""The reader that most connections of a server share."""

from __future__ import annotations

import select
import socket
import threading

from vaccel.rpc.handler import Owner
from vaccel.rpc.readers import LOST, READY, Outcome, OwnReader, Readable, Reader

_APART = 64
"""So many requests in a row from one connection, and it is read apart."""
_REST = 1.0
"""Seconds. A reader of one connection looks so often whether it is to give that back."""


class SharedReader(Reader):
    """Reads many connections, whichever has sent something."""

    shared = True
    once = True

    def __init__(self, owner: Owner) -> None:
        self._epoll = select.epoll()
        super().__init__(owner, self._epoll.fileno())
        self._lock = threading.RLock()
        self._peers: dict[int, Readable] = {}
        self._moved: dict[int, OwnReader] = {}
        """Connections that kept us waiting, with their new readers, until the thread knows."""
        self._apart: OwnReader | None = None
        """Of the connection that is read apart, until it is given back or ends."""
        self._serving: Readable
        self._running = False
        self._closing = False
        owner.watch.add(self.fd)

    def begin(self, peer: Readable) -> None:
        """Read `peer`, a new connection: apart, if it is the only one."""
        own = self._set_apart(peer) if not self._peers else None
        if own is None:
            return self.add(peer)
        try:
            own.start()
        except RuntimeError:
            self.forget(own)
            raise
        return None

    def _set_apart(self, peer: Readable) -> OwnReader | None:
        """Its new reader; None while another connection is read apart, or to come back."""
        with self._lock:
            if self._apart is not None:
                return None
            own = self._apart = OwnReader(self.owner, peer, self)
        peer.limit_wait(_REST)
        return own

    def add(self, peer: Readable) -> None:
        """Read `peer`, too."""
        with self._lock:
            if self._epoll.closed:  # it rests after the server has given up waiting for it
                return peer.finish()
            self._peers[peer.fd] = peer
            self._epoll.register(peer.fd, select.EPOLLIN)
            start, self._running = not self._running, True
        if start:
            self._start()
        return None

    def forget(self, reader: OwnReader) -> None:
        with self._lock:
            if self._apart is reader:
                self._apart = None

    def close(self) -> None:
        """Read until the last connection has ended, and no longer."""
        self.owner.watch.remove(self.fd)
        with self._lock:
            self._closing = True
            if not self._running:
                self._epoll.close()

    @property
    def pending(self) -> bool:
        return self._serving.pending

    def take_over(self) -> bool:
        with self._lock:
            if not self._stolen():
                return True
            peer = self._serving
            own = self._moved[peer.fd] = OwnReader(self.owner, peer, self, once=True)
            own.run()
            others = self._drop(peer)
        peer.limit_wait(_REST)  # whoever reads it meanwhile looks whether it can be given back
        if others:
            self._start()
        return True

    def _start(self) -> None:
        try:
            self._spawn(self._read)
        except RuntimeError as exc:
            with self._lock:
                peers = list(self._peers.values())
                for peer in peers:
                    self._drop(peer)
            for peer in peers:
                self._desert(peer, exc)

    def _drop(self, peer: Readable) -> bool:
        """Read `peer` no longer; False if it was the last, with which the thread ends."""
        with self._lock:
            if self._peers.pop(peer.fd, None) is not None:
                self._epoll.unregister(peer.fd)
            self._running = bool(self._peers)
            if self._closing and not self._running:
                self._epoll.close()
            return self._running

    def _read(self) -> None:
        latest, row = -1, 0
        going_on = True
        while going_on:
            for fd, _ in self._epoll.poll():
                peer = self._peers.get(fd)
                if peer is None:
                    continue
                self._serving = peer
                outcome = peer.read(self, socket.MSG_DONTWAIT)
                apart = self._apart
                if apart is not None:
                    apart.once = True  # its connection is to wait its turn from now on
                row = row + 1 if fd == latest else 0
                latest = fd
                if outcome is READY and row < _APART:
                    continue
                row = 0
                going_on = self._leave(peer, outcome)
                if not going_on:
                    break

    def _leave(self, peer: Readable, outcome: Outcome) -> bool:
        """Read `peer` no longer; False if this thread reads the others no longer, either."""
        if outcome is LOST:  # a new thread reads them, and this one is the connection's
            with self._lock:
                own = self._moved.pop(peer.fd)
            own.carry_on()
            return False
        new = self._set_apart(peer) if outcome is READY else OwnReader(self.owner, peer, self)
        if new is None:
            return True
        others = self._drop(peer)
        if outcome is Outcome.LARGE:
            peer.limit_wait(0)
        if outcome is Outcome.ENDED:
            peer.finish()
        elif not others:
            new.read()
        else:
            self._move(peer, new, outcome)
        return others

    def _move(self, peer: Readable, own: OwnReader, outcome: Outcome) -> None:
        """To its new reader's thread."""
        try:
            own.start()
        except RuntimeError as exc:
            self.forget(own)
            if outcome is READY:
                self.add(peer)
            else:
                self._desert(peer, exc)
