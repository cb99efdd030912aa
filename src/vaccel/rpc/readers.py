"""Threads that read connections and run their requests.

A thread that reads also runs the requests, without a thread switch. A connection that is busy while
the others rest is read apart, by a thread that waits in recv. The others share a reader, which
waits for all of them and serves them in turn: a thread for each would spend more on taking the
interpreter from each other than on the requests. A connection that keeps the shared reader waiting
gets its thread, and the others a new one; when it has answered it goes back. One that sends large
messages has a reader of its own from then on.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from enum import Enum
from typing import Protocol

import numpy as np

from vaccel import log
from vaccel.rpc.handler import Owner


class Outcome(Enum):
    """Why a connection was read no further."""

    READY = 0
    """What it had sent is served."""
    LOST = 1
    """Another thread reads in the place of this one."""
    LARGE = 2
    """A large message comes in."""
    ENDED = 3


# Before Python 3.12 each look at a member of an enum is a call.
READY, LOST = Outcome.READY, Outcome.LOST


class Readable(Protocol):
    """A connection, as its reader sees it."""

    fd: int

    @property
    def pending(self) -> bool:
        """Requests were read, or answers are ready, that another thread could see to."""

    def read(self, reader: Reader, flags: int = 0) -> Outcome:
        """Receive (with `flags`) and run requests; see `Reader.once`."""

    def limit_wait(self, seconds: float) -> None:
        """Come back from `read` when nothing comes for so long; 0 is no limit."""

    def hold(self) -> None:
        """One more thread uses the connection, which stays open until all have released it."""

    def release(self) -> None: ...

    def finish(self) -> None:
        """The peer sends no more: disconnect unless answers are under way, and release."""

    def disconnect(self) -> None: ...


class Group(Protocol):
    """Who reads the connections that have no reader of their own."""

    def add(self, peer: Readable) -> None: ...

    def forget(self, reader: OwnReader) -> None:
        """`reader` reads apart no longer: it ends, or has a connection of its own for good."""


class Reader:
    """The right to read, and to run what was read: one thread's at a time."""

    shared = False
    once = False
    """Of a connection it reads what comes in one piece, and no large messages."""

    def __init__(self, owner: Owner, fd: int) -> None:
        self.owner = owner
        self.fd = fd
        self.resting = True
        """The watch does not look here. It sets this, and then looks at `rounds` once more."""
        self.rounds = 0
        """Grows when requests begin to run, and when reading goes on: odd while they run."""
        # The right to read, while its holder runs requests, under the round that it began: whoever
        # pops it has it.
        self.claim: dict[int, bool] = {}

    def run(self) -> int:
        """Let the watch give the reading to another thread, until `reclaim`."""
        token = self.rounds = self.rounds + 1
        self.claim[token] = True
        if self.resting:
            self.owner.watch.enter(self)
        return token

    def reclaim(self, token: int) -> bool:
        if not self.claim.pop(token, False):
            return False
        self.rounds += 1
        return True

    @property
    def pending(self) -> bool:
        raise NotImplementedError

    def take_over(self) -> bool:
        """Called by the watch: read on in another thread; False if none is free now."""
        raise NotImplementedError

    def _spawn(self, target: Callable[[], None]) -> None:
        def work() -> None:
            # Results are IEEE; a floating-point warning would reach nobody who could act on it.
            np.seterr(all="ignore")
            target()

        threading.Thread(target=work, name="vaccel-peer", daemon=True).start()

    def _desert(self, peer: Readable, why: Exception) -> None:
        """There is no thread to read `peer`. Its client would wait for ever, so it is told."""
        log.error("%s: %s; connection closed", self.owner.endpoint, why)
        peer.disconnect()
        peer.release()

    def _stolen(self) -> bool:
        try:
            self.claim.popitem()
        except KeyError:  # its holder came back just now
            return False
        self.rounds += 1  # in the place of the one who has lost the claim
        return True


class OwnReader(Reader):
    """Reads one connection. If it reads `once`, gives it back to the group when it rests."""

    def __init__(self, owner: Owner, peer: Readable, group: Group, *, once: bool = False) -> None:
        super().__init__(owner, peer.fd)
        self._peer = peer
        self._group = group
        self.once = once
        self._threads = 1
        self._lock = threading.Lock()

    def start(self) -> None:
        """RuntimeError if the system has no thread to give."""
        self._spawn(self.read)

    @property
    def pending(self) -> bool:
        return self._peer.pending

    def take_over(self) -> bool:
        if not self.owner.spare.acquire(blocking=False):
            return False
        self._peer.hold()
        if not self._stolen():
            self._peer.release()
            self.owner.spare.release()
            return True
        with self._lock:
            self._threads += 1
        try:
            self._spawn(self.read)
        except RuntimeError as exc:
            self._end()
            self._group.forget(self)
            self._desert(self._peer, exc)
        return True

    def carry_on(self) -> None:
        """Called by the thread in whose place the shared reader has got a new one."""
        if self._stolen():
            self.read()
        else:
            self._end()
            self._peer.release()

    def read(self) -> None:
        """Read until the connection ends, rests, or is read by another thread."""
        peer = self._peer
        try:
            while True:
                last = self.once and self._threads == 1
                outcome = peer.read(self, socket.MSG_DONTWAIT if last else 0)
                if outcome is Outcome.LARGE:
                    self._group.forget(self)
                    peer.limit_wait(0)
                    self.once = False
                elif outcome is not READY or (last and self._threads == 1):
                    break
        except BaseException:  # a defect of ours: the client is not to wait for ever
            self._group.forget(self)
            peer.disconnect()
            peer.release()
            raise
        finally:
            self._end()
        if outcome is not LOST:
            self._group.forget(self)
        if outcome is READY:
            self._group.add(peer)
        elif outcome is Outcome.ENDED:
            peer.finish()
        else:
            peer.release()

    def _end(self) -> None:
        with self._lock:
            self._threads -= 1
            spare = self._threads > 0
        if spare:  # the thread that stays is the connection's own from now on
            self.owner.spare.release()
