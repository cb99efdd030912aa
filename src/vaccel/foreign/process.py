"""A worker, from its user's side: a process that runs the functions of some libraries."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import mmap
import os
import re
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaccel import deadline
from vaccel.error import (
    DeadlineExceeded,
    FFIError,
    InvalidArgument,
    PluginError,
    ResourceExhausted,
    SessionClosed,
)
from vaccel.foreign import worker
from vaccel.foreign.arguments import Bytes, Layout
from vaccel.foreign.libraries import Plan
from vaccel.foreign.server import ForkServer
from vaccel.ops.args import Arg

MEMORY_VARIABLE = "VACCEL_EXEC_MEMORY"
_LEAST_MEMORY = 1 << 16
_KEPT_MEMORY = 1 << 26
_GRACE_MS = 1000  # for the libraries' destructors
_LOOK_MS = 50  # between looks at the memory of a process in a call
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
# After these a failed allocation that the library did not check is a likely reason.
_SUSPECT = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGTRAP)


class Limit(NamedTuple):
    """When a call must be done, in the time of time.monotonic(), and the words for one that is
    not."""

    at: float
    why: str


_NOT_BEGUN = "not begun within the time that the client gave: another call was in the library"

Begin = Callable[[], "Limit | None"]
"""The limit of a call that begins now."""


class Gone(Exception):
    """The worker has ended, the call was not begun."""


class Worker:
    """One process with the libraries of a plan, for one call at a time.

    Arguments travel through memory that both processes map: one copy in, one out, whatever their
    size, since the caller's arrays are not such memory. The socket carries the rest.
    """

    def __init__(self, server: ForkServer, plan: Plan, memory: int | None) -> None:
        """`memory`: the most bytes that the process may have, None for no limit."""
        self._server, self._plan, self._limit = server, plan, memory
        self._lock = threading.Lock()
        self._killing = threading.Lock()
        self._shared: Bytes | None = None
        self._mapped = 0  # bytes there for arguments, at most
        self._address = 0
        self._loaded = False
        self._closed = False
        self.ended = False
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            folder = os.open(plan.folder, os.O_PATH | os.O_DIRECTORY)
            try:
                self.pid = server.fork(theirs, folder, memory)
            finally:
                os.close(folder)
        except BaseException:
            self._channel.close()
            raise
        finally:
            theirs.close()
        self._pidfd = os.pidfd_open(self.pid)
        # A process that the library started may hold the socket open after the worker's end.
        self._end_seen = select.poll()
        self._end_seen.register(self._pidfd, select.POLLIN)
        self._news = select.poll()
        self._news.register(self._pidfd, select.POLLIN)
        self._news.register(self._channel, select.POLLIN)

    # -- calls ---------------------------------------------------------------------------------

    def call(self, symbol: str, read: Sequence[Arg], write: Sequence[Arg], begin: Begin) -> None:
        """Call the function and fill `write`. The limit holds for loading the libraries, too, but
        not for another call that is in the process.

        Raises Gone: the process had ended before; FFIError that says what went wrong.
        """
        with self._turn():
            if self.ended:
                raise Gone
            limit = begin()
            if not self._loaded:
                self._load(limit)
            layout = Layout(read, write)
            memory = self._memory(layout.size, limit)
            layout.fill(memory, self._address)
            outputs = self._address + layout.outputs
            numbers = (self._address, len(read), outputs, len(write))
            request = worker.CALL + worker.CALLING.pack(*numbers) + symbol.encode()
            answer = self._ask(request, limit)
            if answer[:1] == worker.MISSING:
                raise self._plan.missing(symbol)
            returned, error = worker.RETURNED.unpack(answer[1:])
            if returned:
                raise self._failed(returned, error)
            layout.take(memory, self._address)
            if layout.size > _KEPT_MEMORY:
                self._mapping.madvise(mmap.MADV_REMOVE)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Who waits too long for it must not cost the process, and with it the others' state."""
        moment = deadline.current()
        left = -1.0 if moment is None else max(moment - time.monotonic(), 0.0)
        if not self._lock.acquire(timeout=left):
            raise DeadlineExceeded(_NOT_BEGUN)
        try:
            if moment is not None and time.monotonic() >= moment:
                raise DeadlineExceeded(_NOT_BEGUN)
            yield
        finally:
            self._lock.release()

    def _load(self, limit: Limit | None) -> None:
        marks = {True: worker.GLOBAL, False: worker.LOCAL}
        names = [marks[visible] + path for path, visible in self._plan.load]
        answer = self._ask(worker.LOAD + os.fsencode("\0".join(names)), limit)
        if answer[:1] == worker.FAILED:
            raise PluginError(
                f"{self._plan.name} cannot be loaded: {answer[1:].decode(errors='replace')}"
            )
        self._loaded = True

    def _memory(self, size: int, limit: Limit | None) -> Bytes:
        """Memory of at least `size` bytes that the worker has, too."""
        if self._shared is not None and self._shared.nbytes >= size:
            return self._shared
        rounded = max(_LEAST_MEMORY, 1 << math.ceil(math.log2(size or 1)))
        fd = os.memfd_create("vaccel-exec", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, rounded)
            # Shorter, it would be a trap (SIGBUS) for this process.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            self._shared = None
            self._mapping = mmap.mmap(fd, rounded)
            self._mapped = max(self._mapped, rounded)  # one or the other, while it changes them
            answer = self._ask(worker.MAP + worker.SIZE.pack(rounded), limit, [fd])
        finally:
            os.close(fd)
        if answer[:1] == worker.FAILED:
            raise ResourceExhausted(f"{size} bytes of arguments: {answer[1:].decode()}")
        (self._address,) = worker.SIZE.unpack(answer[1:])
        self._mapped = rounded
        self._shared = np.frombuffer(self._mapping, np.uint8)
        return self._shared

    def _ask(self, request: bytes, limit: Limit | None, fds: Sequence[int] = ()) -> bytes:
        if len(request) > worker.MESSAGE:
            raise InvalidArgument("the names of libraries and symbol are too long")
        answer, broken = b"", None
        with contextlib.suppress(OSError):  # the process has ended
            socket.send_fds(self._channel, [request], fds)
            broken = self._wait(limit)
            if broken is None:
                answer = self._channel.recv(worker.MESSAGE, socket.MSG_DONTWAIT)
        if answer:
            return answer
        if broken is not None:
            self.kill()
        error = self._end()
        raise broken or error

    def _wait(self, limit: Limit | None) -> FFIError | None:
        """Until an answer, or the end of the process; the error if it breaks a limit before."""
        while True:
            left = math.inf if limit is None else limit.at - time.monotonic()
            if self._news.poll(math.ceil(min(max(left, 0.0) * 1e3, _LOOK_MS))):
                return None
            if limit is not None and time.monotonic() >= limit.at:
                return DeadlineExceeded(f"{limit.why}; its process was ended")
            used = self._resident()
            if self._limit is not None and used > self._limit:
                return ResourceExhausted(
                    f"uses {used / 2**30:.2f} GiB: {self._limit_words()}; its process was ended"
                )

    def _resident(self) -> int:
        """Bytes that only memory holds, and not those of arguments. The kernel keeps memory that
        processes share (mmap with MAP_SHARED) out of the limit that it knows."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_bytes()
        except OSError:
            return 0
        sizes = re.findall(rb"^Rss(?:Anon|Shmem):\s*(\d+) kB", status, re.MULTILINE)
        return sum(map(int, sizes)) * 1024 - self._mapped

    # -- the end -------------------------------------------------------------------------------

    def kill(self) -> None:
        """End the process; a call that runs fails. `_end` then sees to those that it started."""
        with self._killing:
            if not self.ended:
                self._kill()

    def _kill(self) -> None:
        # Until it is reaped, which `_end` does, the id is this process's and no other's.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process, at once if it is in a call; else its libraries may clean up."""
        self._closed = True
        if not self._lock.acquire(blocking=False):
            self.kill()
            self._lock.acquire()
        try:
            if not self.ended:
                self._end()
        finally:
            self._lock.release()

    def _end(self) -> FFIError:
        """Wait for the end of the process and release it; the error that tells how it ended."""
        self._channel.close()
        self._end_seen.poll(_GRACE_MS)
        with self._killing:
            self._kill()
            status = self._server.reap(self.pid)
            self.ended = True
        os.close(self._pidfd)
        self._shared = None  # the memory goes with its last view, which a traceback may hold
        if self._closed:
            return SessionClosed(
                "its process was closed during the call: the session or the resource ended, "
                "or the library's file changed"
            )
        if status is None:
            return PluginError("the process that it ran in was ended with the one that started it")
        return self._ended(status)

    def _ended(self, status: int) -> FFIError:
        if os.WIFEXITED(status):
            code = os.WEXITSTATUS(status)
            return PluginError(f"the library ended its process with exit code {code}")
        number = os.WTERMSIG(status)
        name = next((known.name for known in signal.Signals if known == number), f"signal {number}")
        words = signal.strsignal(number)
        text = f"the library's process was ended by {name} ({words})"
        if number in _SUSPECT and self._limit:
            text += f"; should an allocation have failed: {self._limit_words()}"
        if number == signal.SIGKILL:
            text += ", perhaps because the system ran out of memory"
        return PluginError(text)

    def _failed(self, returned: int, error: int) -> FFIError:
        if self._limit and errno.ENOMEM in (returned, error):
            return ResourceExhausted(f"returned {returned}, out of memory: {self._limit_words()}")
        return failure(returned)

    def _limit_words(self) -> str:
        return f"its memory is limited to {(self._limit or 0) / 2**30:g} GiB ({MEMORY_VARIABLE})"

    def disown(self) -> None:
        """In a forked child: the process is the parent's."""
        if not self.ended:
            self.ended = True
            self._channel.close()
            os.close(self._pidfd)


def failure(returned: int) -> FFIError:
    """The error for a function that did not return 0."""
    name = errno.errorcode.get(returned, "")
    words = f" (as an errno: {name}, {os.strerror(returned)})" if name else ""
    return PluginError(f"returned {returned}{words}, expected 0")
