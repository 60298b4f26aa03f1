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

from bench.faults.process import ROOT
from bench.streams.figures import Line, Part


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


def write_page(path: Path, parts: Sequence[Part]) -> None:
    """Put the figures into the page, between its marks; the text around them stays.

    Raises:
        ValueError: the page has no marks.
    """
    page = path.read_text("utf-8")
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{path} lacks its marks {_BEGIN} and {_END}")
    measured = f"Measured {_now()} on {machine()}; commit {commit()}."
    path.write_text(f"{before}{_BEGIN}\n\n{measured}\n\n{as_text(parts)}\n{_END}{after}", encoding="utf-8")


_BEGIN, _END = "<!-- figures -->", "<!-- end of figures -->"


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
