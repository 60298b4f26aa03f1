"""The fenced blocks of a page for people, and what the page says of them.

Rules: pure. A mark is an HTML comment on the lines right above a fence, which readers do not see:

    <!-- file: NAME -->       the block is written to this file of the page's folder, for the blocks after it
    <!-- not run: WHY -->     it cannot be run here; what it says is looked at all the same
    <!-- shown: WHAT -->      a text that no command prints: a diagram, a part of something
    <!-- exit code: N -->     what the last command of the block ends with
    <!-- varies: WHY -->      a model's own words are in it: that something is printed is all that is looked at, and an
                              answer that its gates did not accept (exit code 4) is one too

A `text` block right after a program is what the program prints. In outputs `…` is anything on its line, and any lines
where it stands alone.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

PROGRAMS = frozenset({"python", "go", "ts"})
"""What is run as a whole file."""
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)\s*$")
_MARK = re.compile(r"^ *<!-- (?P<name>[a-z ]+): (?P<value>.*?) -->$")
MARKS = frozenset({"file", "not run", "shown", "exit code", "varies"})
_MEASURED = re.compile(r"\d+\.\d{3,}")
"""Figures that differ a little from run to run and machine to machine."""
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block.

    Args:
        line: of its opening fence, from 1.
        body: without the fence's indent.
        printed: the text of the block after it, for a program; None where none follows.
        is_output: it is such a text.
    """

    page: str
    line: int
    language: str
    body: str
    marks: dict[str, str] = field(default_factory=dict[str, str])
    printed: str | None = None
    is_output: bool = False

    @property
    def place(self) -> str:
        """Page and line, for people."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A command of a console block, continued lines joined, and the output that the page shows; None shows none."""

    command: str
    printed: str | None


def blocks_of(path: Path, root: Path) -> list[Block]:
    """Give the blocks of a page, in order.

    Raises:
        ValueError: a fence that is not closed, or a mark that is not known.
    """
    page, found = str(path.relative_to(root)), list[Block]()
    lines = path.read_text("utf-8").splitlines()
    at = 0
    after_program = False
    while at < len(lines):
        opening = _FENCE.match(lines[at])
        if opening is None:
            if lines[at].strip():
                after_program = False
            at += 1
            continue
        indent = opening["indent"]
        close = at + 1
        while close < len(lines) and lines[close].rstrip() != f"{indent}```":
            close += 1
        if close == len(lines):
            raise ValueError(f"{page}:{at + 1}: the fence is not closed")
        body = "".join(f"{line.removeprefix(indent)}\n" for line in lines[at + 1 : close])
        marks = _marks_above(lines, at, page)
        block = Block(page=page, line=at + 1, language=opening["language"], body=body, marks=marks)
        if block.language == "text" and after_program and not marks:
            found[-1] = replace(found[-1], printed=body)
            block = replace(block, is_output=True)
        found.append(block)
        after_program = block.language in PROGRAMS
        at = close + 1
    return found


def _marks_above(lines: list[str], at: int, page: str) -> dict[str, str]:
    marks: dict[str, str] = {}
    while at > 0 and (mark := _MARK.match(lines[at - 1])):
        if mark["name"] not in MARKS:
            raise ValueError(f"{page}:{at}: no mark is called `{mark['name']}`")
        marks[mark["name"]] = mark["value"]
        at -= 1
    return marks


def typed(body: str) -> list[Typed]:
    """Give the commands of a console block."""
    found: list[Typed] = []
    lines = iter(body.splitlines())
    shown: list[str] = []
    command = ""
    for line in lines:
        if not line.startswith("$ "):
            shown.append(line)
            continue
        if command:
            found.append(_typed(command, shown))
        command, shown = line.removeprefix("$ "), []
        while command.endswith("\\") or _is_open(command):
            command = f"{command}\n{next(lines)}"
    if command:
        found.append(_typed(command, shown))
    return found


def _typed(command: str, shown: list[str]) -> Typed:
    text = "\n".join(shown).strip("\n")
    return Typed(command=command, printed=f"{text}\n" if text else None)


def _is_open(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return True
    return False


def same(printed: str, shown: str, *, exactly: bool = False) -> bool:
    """Tell whether a program printed what a page shows.

    Args:
        exactly: numbers count too, but for those with three decimals and more; otherwise times, ids and sizes may differ,
            and so may the width of columns.
    """
    wanted, came = _lines(shown, exactly), _lines(printed, exactly)
    return _match(wanted, came)


def _match(wanted: list[str], came: list[str]) -> bool:
    # As file names are matched: when a line does not fit, the last `…` takes one line more.
    at = 0
    wait: tuple[int, int] | None = None
    now = 0
    while now < len(came):
        if at < len(wanted) and wanted[at].strip() == "…":
            at += 1
            wait = at, now
        elif at < len(wanted) and _fits(wanted[at], came[now]):
            at, now = at + 1, now + 1
        elif wait is not None:
            at, now = wait[0], wait[1] + 1
            wait = at, now
        else:
            return False
    return all(line.strip() == "…" for line in wanted[at:])


def _fits(wanted: str, came: str) -> bool:
    return re.fullmatch(".*".join(re.escape(part) for part in wanted.split("…")), came) is not None


def _lines(text: str, exactly: bool) -> list[str]:
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    if exactly:
        return [_MEASURED.sub("0", line) for line in lines]
    told = [_neutral(line) for line in lines]
    return [line for line in told if line]


def _neutral(line: str) -> str:
    line = re.sub(r"\b[0-9a-f]{8,64}\b", "ID", line)
    line = re.sub(r"\d[\d,:.]*(e-\d+)?", "0", line)
    line = re.sub(r"-{2,}", "-", line)
    return re.sub(r"\s+", " ", line).strip()


def links_of(text: str) -> list[str]:
    """Give the targets of a page's links that are not on the web."""
    prose = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [target for target in _LINK.findall(prose) if "://" not in target]
