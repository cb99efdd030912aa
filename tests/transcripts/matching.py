"""Compares a run with a transcript, line for line.

May differ: time stamps; the rundir's random part and its base, paths of plugins, the address and
the picture's size, each of which must be what this run makes it. Functions of a plugin may be
registered in any order, and more of them. Further lines are allowed at level info or debug, but not
between two lines of a program's own output.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent

_LOG = re.compile(r"\d{4}\.\d\d\.\d\d-\d\d:\d\d:\d\d\.\d\d - <(error|warn|info|debug)> (.*)")
_FUNCTION = re.compile(r"Registered function (.+) from plugin (\w+)")
_BLOCK = re.compile(r"(Registered|Loaded) plugin (\w+)")


@dataclass(frozen=True)
class Facts:
    """What the differing parts of a line have to be in this run, as regular expressions."""

    rundirs: str
    address: str = r"tcp://127\.0\.0\.1:[1-9]\d*"
    image_size: int = 0


@dataclass(frozen=True)
class Line:
    text: str
    level: str = ""
    """Empty: not a log line with a time stamp."""

    @property
    def is_output(self) -> bool:
        return not self.level and not self.text.startswith("[")

    @property
    def may_be_added(self) -> bool:
        return self.level in ("info", "debug")


@dataclass
class Parsed:
    lines: list[Line] = field(default_factory=list)
    functions: dict[str, list[str]] = field(default_factory=dict)
    """By plugin."""
    problem: str = ""


def transcript(name: str) -> list[str]:
    """The lines of a session, without the command that was typed."""
    lines = (FOLDER / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if not re.match(r"\S*\$ ", line)]


def difference(expected: list[str], actual: list[str], facts: Facts) -> str:
    """The first thing in which `actual` is not what `expected` and the rules ask for; or ''."""
    want, have = _parse(expected), _parse(actual)
    if want.problem or have.problem:
        return want.problem or have.problem
    for plugin, functions in want.functions.items():
        found = have.functions.get(plugin, [])
        if len(set(found)) < len(found):
            return f"plugin {plugin}: a function is registered twice: {found}"
        if missing := set(functions) - set(found):
            return f"plugin {plugin}: not registered: {missing}"
    place = 0
    for line in have.lines:
        if place < len(want.lines) and _fits(want.lines[place], line, facts):
            place += 1
        elif not line.may_be_added or _inside_output(want.lines, place):
            wanted = want.lines[place] if place < len(want.lines) else "the end"
            return f"found {line}, expected {wanted}"
    return f"missing at the end: {want.lines[place]}" if place < len(want.lines) else ""


def _parse(lines: list[str]) -> Parsed:
    parsed, block = Parsed(), ""
    for text in lines:
        match = _LOG.fullmatch(text)
        line = Line(match[2], match[1]) if match else Line(text)
        if function := _FUNCTION.fullmatch(line.text):
            if line.level != "debug" or function[2] != block:
                parsed.problem = parsed.problem or f"outside of its plugin's block: {text}"
            if function[2] not in parsed.functions:  # they stand here, as one
                parsed.lines.append(Line(f"functions of {function[2]}", "debug"))
            parsed.functions.setdefault(function[2], []).append(function[1])
            continue
        if edge := _BLOCK.match(line.text):
            block = edge[2] if edge[1] == "Registered" else ""
        parsed.lines.append(line)
    return parsed


def _inside_output(lines: list[Line], place: int) -> bool:
    return 0 < place < len(lines) and lines[place - 1].is_output and lines[place].is_output


def _fits(want: Line, have: Line, facts: Facts) -> bool:
    return want.level == have.level and bool(re.fullmatch(_pattern(want.text, facts), have.text))


def _pattern(text: str, facts: Facts) -> str:
    """What a line with the expected `text` may say in this run."""
    variable = (
        (r"(Created top-level rundir: )\S+", facts.rundirs + r"/vaccel\.\w{6,8}"),
        (r"(Loaded plugin \w+ from )\S+", r"/\S+/\w+\.py"),
        (r"(vaccel ttRPC server started\. address: )\S+", facts.address),
        (r"(Image size: )\d+B", f"{facts.image_size}B"),
        (r"(\[noop\] len_img: )\d+", str(facts.image_size)),
    )
    for form, replacement in variable:
        if match := re.fullmatch(form, text):
            return re.escape(match[1]) + replacement
    return re.escape(text)
