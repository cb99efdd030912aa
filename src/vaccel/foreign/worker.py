"""The processes in which foreign code runs; started from this file: `python worker.py …`.

A *fork server*, started once, forks a *worker* for each set of libraries: that takes a millisecond,
an interpreter's start a hundred times as long. It has one thread, so that the kernel ends its
workers with it (PR_SET_PDEATHSIG means the thread that forked, and an agent's threads come and go),
and it ends with the process at the other end of its socket.

Libraries may start processes. Those of a worker belong to it, however they detach themselves
(PR_SET_CHILD_SUBREAPER); when it ends they fall to the fork server, which ends them.

Nothing of vaccel is imported here: that would bring numpy and protobuf into every worker.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

# To the fork server: with a worker's socket and the folder of its libraries; or the id of a worker
# that has ended. It answers with the worker's id; with its status, as wait(2) gives it.
FORK, REAP = b"F", b"R"
FORKING = struct.Struct("=Q")  # bytes of memory, 0: no limit
NUMBER = struct.Struct("=i")

# To a worker: libraries, NUL between them, each with a mark; memory, as a descriptor; a call.
LOAD, MAP, CALL = b"L", b"M", b"C"
GLOBAL, LOCAL = "+", "-"
SIZE = struct.Struct("=Q")
CALLING = struct.Struct("=QQQQ")  # inputs' address, count, outputs' address, count; then the symbol
# It answers: nothing, an address, or what the function returned; a text; there is no such symbol.
DONE, FAILED, MISSING = b"D", b"F", b"M"
RETURNED = struct.Struct("=ii")  # what the function returned, errno

MESSAGE = 1 << 15
"""The longest one: below what sockets take, and what malloc gives without a system call."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None)

Function = Callable[[int, int, int, int], int]


class Libraries:
    """Shared libraries in this process."""

    def __init__(self) -> None:
        self._handles: list[ctypes.CDLL] = []
        self._functions: dict[str, Function] = {}

    def load(self, libraries: Sequence[tuple[str, bool]]) -> None:
        """Paths in loading order; True: later ones find its symbols. OSError: dlopen's words."""
        for path, visible in libraries:
            mode = os.RTLD_NOW | (os.RTLD_GLOBAL if visible else os.RTLD_LOCAL)
            self._handles.append(ctypes.CDLL(path, mode=mode, use_errno=True))

    def find(self, symbol: str) -> Function | None:
        """The function called `symbol`; the library loaded last is asked first."""
        function = self._functions.get(symbol)
        if function is not None:
            return function
        for handle in reversed(self._handles):
            with contextlib.suppress(AttributeError):
                found = handle[symbol]
                found.restype = ctypes.c_int
                found.argtypes = (ctypes.c_void_p, ctypes.c_size_t) * 2
                return self._functions.setdefault(symbol, found)
        return None


def call(function: Function, *arguments: int) -> tuple[int, int]:
    """What the function returns, and the errno that it leaves."""
    ctypes.set_errno(0)
    returned = function(*arguments)
    return returned, ctypes.get_errno()


class _Worker:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._libraries = Libraries()
        self._memory: mmap.mmap | None = None
        self._exported: Any = None  # keeps the mapping where the address says

    def serve(self) -> None:
        """Until the other end closes."""
        while True:
            request, fds, _, _ = socket.recv_fds(self._channel, MESSAGE, 1)
            if not request:
                return
            kind, content = request[:1], request[1:]
            if kind == CALL:
                answer = self._call(content)
            elif kind == MAP:
                answer = self._map(fds[0], *SIZE.unpack(content))
            else:
                answer = self._load(content)
            self._channel.send(answer)

    def _load(self, content: bytes) -> bytes:
        names = os.fsdecode(content).split("\0")
        try:
            self._libraries.load([(name[1:], name[0] == GLOBAL) for name in names])
        except OSError as exc:
            return FAILED + str(exc).encode(errors="replace")[: MESSAGE // 2]
        return DONE

    def _map(self, fd: int, size: int) -> bytes:
        try:
            self._exported = None
            if self._memory is not None:
                self._memory.close()
            self._memory = mmap.mmap(fd, size)
        except (OSError, ValueError) as exc:
            return FAILED + str(exc).encode()
        finally:
            os.close(fd)
        self._exported = ctypes.c_char.from_buffer(self._memory)
        return DONE + SIZE.pack(ctypes.addressof(self._exported))

    def _call(self, content: bytes) -> bytes:
        symbol = content[CALLING.size :].decode()
        function = self._libraries.find(symbol)
        if function is None:
            return MISSING
        result = call(function, *CALLING.unpack_from(content))
        _LIBC.fflush(None)
        return DONE + RETURNED.pack(*result)


def _begin_worker(server: int, limit: int) -> None:
    os.setsid()  # so that a library's kill(0, …) meets its own processes only
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:  # it ended before that
        os._exit(1)
    if limit:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        # Not the address space, which libraries may reserve and never use.
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _work(channel: socket.socket) -> None:
    try:
        _Worker(channel).serve()
    except OSError:  # the other process has ended
        os._exit(1)
    _LIBC.exit(0)  # not os._exit: libraries may have destructors, and files to flush


def _serve(control: socket.socket, folder: int, workers: set[int]) -> None:
    """Fork workers, and tell how they ended, until the other end closes. `workers`: those that
    there are."""
    server = os.getpid()
    while True:
        request, fds, _, _ = socket.recv_fds(control, MESSAGE, 2)
        if not request:
            return
        if request[:1] == REAP:
            (pid,) = NUMBER.unpack(request[1:])
            _, status = os.waitpid(pid, 0)
            workers.discard(pid)
            _end_others(workers)
            control.send(NUMBER.pack(status))
            continue
        worker = os.fork()
        if worker == 0:
            try:
                control.close()
                _begin_worker(server, *FORKING.unpack(request[1:]))
                os.dup2(fds[1], folder, inheritable=False)
                os.close(fds[1])
                _work(socket.socket(fileno=fds[0]))
            finally:
                os._exit(1)
        workers.add(worker)
        for fd in fds:
            os.close(fd)
        control.send(NUMBER.pack(worker))


def _end_others(workers: set[int]) -> None:
    """End the children that are no workers: processes that ended workers have left, and theirs."""
    while others := _children() - workers:
        for pid in others:
            os.kill(pid, signal.SIGKILL)  # until it is reaped, the id is its own
        for pid in others:
            os.waitpid(pid, 0)


def _children() -> set[int]:
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children") as file:
            return set(map(int, file.read().split()))
    except FileNotFoundError:  # the kernel was built without this list
        return _children_among_all(me)


def _children_among_all(parent: int) -> set[int]:
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            # proc(5): pid (command) state parent …; the command may hold anything.
            if int(file.read().rpartition(b")")[2].split()[1]) == parent:
                found.add(int(name))
    return found


def _main(control: str, folder: str) -> None:
    """`folder`: a descriptor in LD_LIBRARY_PATH, which each worker turns to its libraries."""
    for name in (control, folder):
        os.set_inheritable(int(name), False)
    path = os.environ.pop("LD_LIBRARY_PATH").partition(":")[2]
    if path:
        os.environ["LD_LIBRARY_PATH"] = path
    # Standard output belongs to the program's own results.
    with contextlib.suppress(OSError):
        os.dup2(2, 1)
    # By lines, so that a library that crashes has printed what it said.
    stdout = ctypes.c_void_p.in_dll(_LIBC, "stdout")
    _LIBC.setvbuf(stdout, None, 1, 0)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    workers: set[int] = set()
    try:
        with contextlib.suppress(ConnectionError):
            _serve(socket.socket(fileno=int(control)), int(folder), workers)
    finally:
        _end_others(set())


if __name__ == "__main__":
    _main(*sys.argv[1:])
