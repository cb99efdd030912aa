"""Stream sockets below endpoints: several addresses, deadlines, stale files, explained errors."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from vaccel.error import (
    ConnectionFailed,
    DeadlineExceeded,
    FFIError,
    NotSupported,
    PermissionDenied,
    from_errno,
)


def first(
    addresses: Sequence[tuple[int, Any]],
    prepare: Callable[[socket.socket, Any, int], None],
    telling: Collection[int] = (),
) -> socket.socket:
    """A socket for the first (family, address) that `prepare(socket, address, untried)` takes.

    `untried` counts the addresses left, this one included. If all fail, raises the last OSError,
    or the first whose `code` is in `telling`.
    """
    failures: list[OSError] = []
    for index, (family, address) in enumerate(addresses):
        try:
            with contextlib.ExitStack() as undo:
                sock = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
                prepare(sock, address, len(addresses) - index)
                undo.pop_all()
                return sock
        except OSError as error:
            failures.append(error)
    raise next((error for error in failures if code(error) in telling), failures[-1])


def dial(sock: socket.socket, address: Any, deadline: float | None) -> None:
    """Connect by the monotonic time `deadline`; `sock` keeps the time-out that is left."""
    while True:
        sock.settimeout(left(deadline))
        try:
            return sock.connect(address)
        except BlockingIOError:  # a UNIX socket with a full backlog
            if deadline is None:
                raise
            time.sleep(0.01)  # there is no event to wait for


def left(deadline: float | None) -> float | None:
    """Seconds until `deadline`, as settimeout takes them."""
    if deadline is None:
        return None
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError(errno.ETIMEDOUT, "timed out")
    return seconds


def remove_stale(path: str) -> bool:
    """Remove a socket file that nobody listens on; False if somebody does or it is no such file."""
    if path.startswith(("\0", "@")) or not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a listener with a full backlog is one, too
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            return False
    os.unlink(path)
    return True


_UNRESOLVED = 0


def code(error: OSError) -> int:
    """The errno; gaierror has numbers of its own, and time-outs of settimeout() have none."""
    if isinstance(error, socket.gaierror):
        return _UNRESOLVED
    return errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or errno.EIO


def words(error: OSError) -> str:
    return error.strerror or str(error)


def explained(
    what: str, error: OSError, otherwise: Callable[[str], FFIError] | None = None
) -> FFIError:
    """`error` with what to do about it; one not listed is `otherwise`, or goes by its errno."""
    number = code(error)
    cls, advice = _ADVICE.get(number, (otherwise, ""))
    text = f"{what}: {words(error)}{advice}"
    return cls(text) if cls else from_errno(number, text)


_KERNEL = (
    "; vsock needs the kernel module vhost_vsock in a host, vmw_vsock_virtio_transport in a guest,"
    " vsock_loopback for both ends on one machine"
)
_NETWORK = "; check the address and this machine's network"
_ADVICE: dict[int, tuple[Callable[[str], FFIError] | None, str]] = {
    _UNRESOLVED: (ConnectionFailed, "; check the host name, or write an IP address"),
    errno.EACCES: (PermissionDenied, "; check owner and mode of the socket"),
    errno.EPERM: (PermissionDenied, "; check firewall and sandbox rules"),
    errno.EAFNOSUPPORT: (NotSupported, _KERNEL),
    errno.ENODEV: (NotSupported, _KERNEL),
    errno.ETIMEDOUT: (DeadlineExceeded, "; check the address, the network and its firewalls"),
    errno.EHOSTUNREACH: (ConnectionFailed, _NETWORK),
    errno.ENETUNREACH: (ConnectionFailed, _NETWORK),
    errno.EADDRINUSE: (None, "; stop what uses it, or choose another endpoint"),
    errno.EADDRNOTAVAIL: (None, "; 0.0.0.0 or [::] stands for all addresses of this machine"),
}
