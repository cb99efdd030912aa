"""One tree of errors. Each class carries the errno that vAccel puts on the wire.

A failure raises the same class whether the operation ran here or on an agent: the class is found
again by its errno (`from_errno`).
"""

from __future__ import annotations

import errno
import os
from typing import ClassVar


class FFIError(RuntimeError):
    """Base of everything vaccel raises on purpose; `code` is an errno, `message` the text."""

    def __init__(self, code: int, message: str = "") -> None:
        self.code = code
        self.message = message or _words(code)
        super().__init__(self.message)

    def __reduce__(self) -> tuple[object, ...]:
        return from_errno, (self.code, self.message)


def _words(code: int) -> str:
    try:
        return os.strerror(code)
    except (OverflowError, ValueError):  # a peer may send any number
        return f"unknown error {code}"


class _Classed(FFIError):
    """An error whose errno is a property of its class."""

    ERRNO: ClassVar[int]

    def __init__(self, message: str = "") -> None:
        super().__init__(self.ERRNO, message)


class InvalidArgument(_Classed, ValueError):
    """An argument has the wrong type, dtype, shape, count or value."""

    ERRNO = errno.EINVAL


class NotSupported(_Classed):
    """No loaded plugin implements the operation, or the peer lacks the method."""

    ERRNO = errno.ENOTSUP


class NotFound(_Classed):
    """A session, resource, file, plugin or symbol does not exist."""

    ERRNO = errno.ENOENT


class PermissionDenied(_Classed):
    """The agent or the system refuses this to the caller."""

    ERRNO = errno.EPERM


class ResourceExhausted(_Classed):
    """A configured limit (message size, memory, requests in flight) is exceeded."""

    ERRNO = errno.ENOBUFS


class DeadlineExceeded(_Classed, TimeoutError):
    """A call or a connection attempt took longer than its time limit."""

    ERRNO = errno.ETIMEDOUT


class ConnectionFailed(_Classed, ConnectionError):
    """An endpoint could not be reached."""

    ERRNO = errno.ECONNREFUSED


class ConnectionLost(ConnectionFailed):
    """An established connection ended while it was needed."""

    ERRNO = errno.ECONNRESET


class ProtocolError(_Classed):
    """The peer sent what the protocol does not allow, or is no ttRPC peer."""

    ERRNO = errno.EPROTO


class SessionClosed(_Classed):
    """The session, resource or runtime was already released."""

    ERRNO = errno.EBADF


class PluginError(_Classed):
    """A plugin could not be loaded, or failed in a way it did not explain."""

    ERRNO = errno.ENOEXEC


class DeviceError(_Classed):
    """An accelerator is absent, does not answer, or failed."""

    ERRNO = errno.ENODEV


class InternalError(_Classed):
    """A kernel raised an exception of its own, or gave what its operation does not give."""

    ERRNO = errno.EIO


_BY_ERRNO: dict[int, type[_Classed]] = {
    cls.ERRNO: cls
    for cls in (
        InvalidArgument,
        NotSupported,
        NotFound,
        PermissionDenied,
        ResourceExhausted,
        DeadlineExceeded,
        ConnectionFailed,
        ConnectionLost,
        ProtocolError,
        SessionClosed,
        PluginError,
        DeviceError,
        InternalError,
    )
}


def from_errno(code: int, message: str = "") -> FFIError:
    """The error of the class that carries `code`; plain FFIError for an errno without a class."""
    cls = _BY_ERRNO.get(code)
    return cls(message) if cls else FFIError(code, message)


def of_kernel(operation: str, exc: Exception) -> FFIError:
    """What an exception that is none of ours, from the kernel of `operation`, means to callers."""
    if isinstance(exc, MemoryError):
        return ResourceExhausted(f"{operation}: out of memory ({exc})")
    return InternalError(f"{operation}: the kernel raised {exc!r}")
