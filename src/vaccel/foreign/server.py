"""The fork server, from its user's side."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from vaccel.error import PluginError
from vaccel.foreign import worker


class ForkServer:
    """Starts workers and tells how they ended. They all end with it, and it with this process."""

    def __init__(self) -> None:
        """PluginError: it could not be started."""
        self._lock = threading.Lock()
        self._broken = False
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folder = os.open("/", os.O_PATH | os.O_DIRECTORY)
        try:
            self._process = _start(theirs.fileno(), folder)
        except OSError as exc:
            self._control.close()
            raise PluginError(f"{sys.executable} could not be started: {exc.strerror}") from exc
        finally:
            theirs.close()
            os.close(folder)

    @property
    def alive(self) -> bool:
        return not self._broken and self._process.poll() is None

    def fork(self, channel: socket.socket, folder: int, memory: int | None) -> int:
        """The process id of a new worker, with one end of a socket, and the folder in which it
        looks for libraries; `memory`: the most bytes of data it may have."""
        request = worker.FORK + worker.FORKING.pack(memory or 0)
        return self._ask(request, [channel.fileno(), folder])

    def reap(self, pid: int) -> int | None:
        """How a worker that ends or has ended did so, as wait(2) says it; None: nobody knows."""
        try:
            return self._ask(worker.REAP + worker.NUMBER.pack(pid), [])
        except PluginError:
            return None

    def _ask(self, request: bytes, fds: list[int]) -> int:
        with self._lock:
            try:
                socket.send_fds(self._control, [request], fds)
                answer = self._control.recv(worker.MESSAGE)
            except OSError:
                answer = b""
        if not answer:
            self._broken = True
            raise PluginError("the process that starts workers has ended; the next call retries")
        (number,) = worker.NUMBER.unpack(answer)
        return int(number)

    def close(self) -> None:
        """The workers are closed already."""
        self._control.close()
        self._process.wait()

    def disown(self) -> None:
        """In a forked child: the processes are the parent's."""
        self._control.close()
        self._process.returncode = 0  # else subprocess would warn that it still runs


def _start(control: int, folder: int) -> subprocess.Popen[bytes]:
    """As the loader reads LD_LIBRARY_PATH once, at the start, it names a descriptor, which is
    another folder in each worker: libraries without a SONAME are only found by their folder."""
    path = f"/proc/self/fd/{folder}"
    if others := os.environ.get("LD_LIBRARY_PATH"):
        path = f"{path}:{others}"
    script = Path(worker.__file__)
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(script), str(control), str(folder)],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LD_LIBRARY_PATH": path},
        pass_fds=(control, folder),
        start_new_session=True,  # Ctrl-C is for the program, which ends it
    )
