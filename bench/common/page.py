"""Tables for people, JSON for machines."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from bench.common.figures import Line, Part
from bench.common.process import ROOT


def as_text(parts: Sequence[Part]) -> str:
    """Give the tables."""
    pieces: list[str] = []
    for part in parts:
        pieces += [f"## {part.title}", "", *_table(part.lines), "", *part.notes, ""]
    return "\n".join(pieces).strip() + "\n"


def as_json(parts: Sequence[Part]) -> bytes:
    """Give everything."""
    return msgspec.json.format(
        msgspec.json.encode({"date": _now(), "machine": machine(), "commit": commit(), "parts": parts}), indent=2
    )


def machine() -> str:
    """Say what this ran on."""
    load = f"load {os.getloadavg()[0]:.1f} at the end"
    versions = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "aiohttp", "uvloop"))
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {load}, Python {platform.python_version()}, {versions}"


def commit() -> str:
    """Give the checkout's commit, and whether it has changes."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def put_figures(page: Path, name: str, text: str, told: str = "") -> None:
    """Put a part's figures into the page, between its marks; the text around them, and other parts' figures, stay.

    Args:
        told: what else there is to know of the measurement, sentences.

    Raises:
        ValueError: the page has no marks for it.
    """
    begin, end = f"<!-- figures of {name} -->", f"<!-- end of {name} -->"
    before, found_begin, rest = page.read_text("utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"{page} lacks its marks {begin} and {end}")
    measured = f"Measured {_now()} on {machine()}; commit {commit()}. {told}".rstrip()
    page.write_text(f"{before}{begin}\n\n{measured}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")


def _table(lines: Sequence[Line]) -> list[str]:
    heads: list[str] = []
    for line in lines:
        heads += [head for head in line.cells if head not in heads]
    rows = [f"| measured | {' | '.join(heads)} | at most | |", f"|---|{'---:|' * len(heads)}---|---|"]
    for line in lines:
        cells = " | ".join(line.cells.get(head, "") for head in heads)
        verdict = "" if line.met is None else "met" if line.met else "NOT MET"
        rows.append(f"| {line.what} | {cells} | {line.most} | {verdict} |")
    return rows


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
