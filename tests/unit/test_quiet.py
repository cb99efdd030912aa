"""What libraries warn of in vain is ignored, and nothing else."""

from __future__ import annotations

import warnings

from vaccel import quiet


def ignore() -> None:
    quiet.ignore(UserWarning, message="in vain", module=r"here\.")


def warn(message: str, module: str = "here.now") -> None:
    warnings.warn_explicit(message, UserWarning, "here.py", 1, module)


def test_other_warnings_are_heard():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        ignore()
        warn("in vain, says the library")
        warn("another one")
        warn("in vain", "elsewhere")
    assert [str(one.message) for one in found] == ["another one", "in vain"]


def test_a_second_time_changes_nothing():
    with warnings.catch_warnings():
        ignore()
        before = list(warnings.filters)
        ignore()
        assert list(warnings.filters) == before


def test_it_holds_again_after_filters_were_put_back():
    with warnings.catch_warnings():
        ignore()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ignore()
        warn("in vain")
