"""The table that `bench.quality` prints, and its place in docs/quality.md."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).resolve().parents[2] / "docs/quality.md"
MARKS = ("<!-- measured: begin -->", "<!-- measured: end -->")


class Row(NamedTuple):
    """One line: what is measured, what is aimed at, what simple means reach, what came out, and how it was measured."""

    what: str
    aim: str
    baseline: str
    measured: str
    protocol: str


def not_measured(what: str, aim: str, baseline: str, why: str) -> Row:
    """Give the line of what could not be measured."""
    return Row(what, aim, baseline, "not measured", why)


def as_table(rows: Sequence[Row]) -> str:
    """Give the lines as Markdown."""
    lines = ["| what | aim | baseline | measured | protocol |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def write(table: str, told: str, page: Path = PAGE) -> None:
    """Put the table between its marks, with the date and what was measured."""
    begin, end = MARKS
    text = page.read_text("utf-8") if page.exists() else f"# Quality\n\n{begin}\n{end}\n"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    today = datetime.datetime.now(datetime.UTC).date()
    page.write_text(f"{head}{begin}\nMeasured on {today}: {told}\n\n{table}\n{end}{tail}", "utf-8")
