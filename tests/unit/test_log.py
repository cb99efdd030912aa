"""Log lines: format, levels, and where they go."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from vaccel import Config, Session, bootstrap, cleanup, log
from vaccel.error import InvalidArgument

LINE = re.compile(r"\d{4}\.\d\d\.\d\d-\d\d:\d\d:\d\d\.\d\d - <(error|warn|info|debug)> (.*)")


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    yield
    log.release()


def say_all() -> None:
    for say in (log.error, log.warn, log.info, log.debug):
        say("the %s", "text")


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_lines_of_the_level_and_graver_ones_are_printed(
    level: int, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(level, None)
    say_all()
    out, err = capsys.readouterr()
    assert out == ""
    parsed = [LINE.fullmatch(line) for line in err.splitlines()]
    assert [match and match.groups() for match in parsed] == [
        (name, "the text") for name in ("error", "warn", "info", "debug")[:level]
    ]


def test_lines_go_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vaccel.log"
    path.write_text("before\n")
    bootstrap(Config(plugins="cpu", log_level=4, log_file=str(path)))
    with Session() as session:
        session.noop()
    cleanup()
    first, *lines = path.read_text().splitlines()
    assert first == "before"
    texts = [LINE.fullmatch(line)[2] for line in lines]  # type: ignore[index]
    assert texts[0] == "Initializing vAccel"
    assert texts[1].startswith("Created top-level rundir: /")
    assert texts[2] == "Registered plugin cpu"
    assert "session:1 New session" in texts
    assert "Found implementation in cpu plugin" in texts
    assert texts[-1] == "Unregistered plugin cpu"
    assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"log_file: expected .*no/file' \(No such file"):
        bootstrap(Config(plugins="cpu", log_file=str(tmp_path / "no" / "file")))


def test_bare_lines_have_no_time_stamp(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(4, None)
    log.bare("100% as it is")
    assert capsys.readouterr().err == "100% as it is\n"


def test_a_line_is_printed_once_and_to_the_application_after_cleanup(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    log.configure(2, None)
    log.configure(2, None)
    log.warn("once")
    assert capsys.readouterr().err.count("once") == 1
    assert not caplog.records
    log.release()
    log.warn("later")
    assert [record.message for record in caplog.records] == ["later"]
    assert "later" not in capsys.readouterr().err


def test_the_logger_can_be_configured_by_its_name() -> None:
    assert log.logger is logging.getLogger("vaccel")


def test_a_traceback_follows_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(1, None)
    try:
        raise KeyError("x")
    except KeyError:
        log.logger.exception("failed")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("<error> failed")
    assert lines[-1] == "KeyError: 'x'"
