"""Errors ↔ ttRPC statuses (wire protocol, section 3: errors)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vaccel import error
from vaccel.error import FFIError
from vaccel.rpc.messages import ERROR_TYPE_URL, ProtoError

OK, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 0, 3, 4, 5
PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 7, 8, 12
INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 13, 14, 16

_BY_CODE: dict[int, Callable[[str], FFIError]] = {
    INVALID_ARGUMENT: error.InvalidArgument,
    DEADLINE_EXCEEDED: error.DeadlineExceeded,
    NOT_FOUND: error.NotFound,
    PERMISSION_DENIED: error.PermissionDenied,
    RESOURCE_EXHAUSTED: error.ResourceExhausted,
    UNIMPLEMENTED: error.NotSupported,
    UNAVAILABLE: error.ConnectionFailed,
    UNAUTHENTICATED: error.PermissionDenied,
}


class RpcFailure(Exception):
    """A failure of the call rather than of the operation: a plain status without errno detail."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def to_status(exc: FFIError | RpcFailure) -> dict[str, Any]:
    """The fields of a `ttrpc.Status` for `exc`."""
    if isinstance(exc, RpcFailure):
        return {"code": exc.code, "message": exc.message}
    detail = ProtoError(ffi_error=exc.code).SerializeToString()
    code = DEADLINE_EXCEEDED if isinstance(exc, error.DeadlineExceeded) else INTERNAL
    return {
        "code": code,
        "message": exc.message,
        "details": [{"type_url": ERROR_TYPE_URL, "value": detail}],
    }


def to_error(status: Any) -> FFIError:
    """The exception for a received status: by errno where it carries one, else by its code."""
    for detail in status.details:
        if detail.type_url == ERROR_TYPE_URL:
            try:
                found = ProtoError.FromString(detail.value)
            except Exception:  # each protobuf implementation has a class of its own for this
                continue
            if found.HasField("ffi_error"):
                message = found.status.message or status.message
                return error.from_errno(found.ffi_error, message)
    cls = _BY_CODE.get(status.code, error.InternalError)
    return cls(status.message or f"status {status.code}")
