"""Errors: one tree, found again by errno, as in Python as possible."""

from __future__ import annotations

import errno
import pickle

import pytest

from vaccel import error
from vaccel.error import FFIError, from_errno

CLASSES = [
    cls
    for cls in vars(error).values()
    if isinstance(cls, type) and issubclass(cls, FFIError) and hasattr(cls, "ERRNO")
]


@pytest.mark.parametrize("cls", CLASSES)
def test_each_class_is_found_by_its_errno(cls: type[FFIError]) -> None:
    raised = from_errno(cls.ERRNO, "why")  # type: ignore[attr-defined]
    assert type(raised) is cls
    assert (raised.code, raised.message, str(raised)) == (cls.ERRNO, "why", "why")  # type: ignore[attr-defined]


def test_errnos_are_those_of_the_protocol_and_distinct() -> None:
    codes = [cls.ERRNO for cls in CLASSES]
    assert len(codes) == len(set(codes)) == 13
    assert error.NotSupported("").code == errno.ENOTSUP == 95
    assert error.InvalidArgument("").code == errno.EINVAL == 22
    assert error.NotFound("").code == errno.ENOENT == 2
    assert error.PermissionDenied("").code == errno.EPERM == 1


def test_an_errno_without_a_class_is_kept() -> None:
    raised = from_errno(errno.ENOSPC)
    assert type(raised) is FFIError
    assert (raised.code, raised.message) == (errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (error.FFIError, RuntimeError),
        (error.InvalidArgument, ValueError),
        (error.DeadlineExceeded, TimeoutError),
        (error.ConnectionFailed, ConnectionError),
        (error.ConnectionLost, error.ConnectionFailed),
    ],
)
def test_errors_are_what_python_programs_catch(
    cls: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(cls, builtin)


def test_errors_cross_processes() -> None:
    for raised in (error.NotFound("gone"), FFIError(28, "full")):
        copy = pickle.loads(pickle.dumps(raised))
        assert (type(copy), copy.code, copy.message) == (type(raised), raised.code, raised.message)


def test_a_message_is_never_empty() -> None:
    assert error.InvalidArgument().message == "Invalid argument"
