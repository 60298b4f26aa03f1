"""What was measured, as a table for people and as JSON for machines.

Rules: medians with least and most over the rounds. A ratio is taken round by round, so that both of its sides saw the
same machine, and then its median. A goal is met or not; nothing fails because of it, since a noisy machine is no bug.
"""

from __future__ import annotations

import os
import platform
import statistics
from datetime import UTC, datetime
from importlib.metadata import version

from bench.speed.measure import ECHO, FLOOR, GEARSHIFT, SERVERS, Results

_MEASURES = (
    ("cpu_us_request", "CPU µs/request, 16 in flight"),
    ("cpu_us_request_alone", "CPU µs/request, 1 in flight"),
    ("rps", "requests/s, 16 in flight"),
    ("added_p50_us", "added p50 µs, 1 in flight"),
    ("added_p99_us", "added p99 µs, 1 in flight"),
    ("cpu_us_paced_chunk", "CPU µs/chunk, 5 ms apart"),
    ("paced_messages", "messages of a paced stream"),
    ("paced_stream_p50_ms", "p50 ms of a paced stream"),
    ("cpu_us_burst_chunk", "CPU µs/chunk, back to back"),
    ("burst_messages", "messages of a stream back to back"),
    ("burst_chunks_s", "chunks/s, back to back"),
    ("idle_rss_mib", "resident MiB after the first answer"),
    ("rss_mib", "resident MiB after the load"),
    ("first_answer_s", "s from process start to first answer"),
)
_RATIOS = ("cpu_us_request", "cpu_us_request_alone", "rps", "cpu_us_paced_chunk", "cpu_us_burst_chunk")
_GOALS = (
    ("CPU per request ÷ echo", "cpu_us_request", ECHO, 2.6),
    ("CPU per request ÷ floor", "cpu_us_request", FLOOR, 1.4),
    ("CPU per paced chunk ÷ floor", "cpu_us_paced_chunk", FLOOR, 1.2),
    ("resident MiB, idle", "idle_rss_mib", "", 100.0),
    ("s to the first answer", "first_answer_s", "", 2.0),
)


def ratios(results: Results, name: str, against: str) -> list[float]:
    """Give Gearshift's figure over another server's, round by round."""
    pairs = zip(results[GEARSHIFT].values[name], results[against].values[name], strict=True)
    return [own / other for own, other in pairs if other]


def as_json(results: Results) -> dict[str, object]:
    """Give everything, raw."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "servers": {name: results[name].values for name in SERVERS},
        "ratios": {against: {name: ratios(results, name, against) for name in _RATIOS} for against in (ECHO, FLOOR)},
        "goals": [
            {"goal": goal, "most": most, "measured": measured, "met": measured <= most}
            for goal, measured, most in _judged(results)
        ],
    }


def as_text(results: Results) -> str:
    """Give the tables."""
    lines = [f"{machine()}; {', '.join(f'{name} {value}' for name, value in versions().items())}", ""]
    lines += [
        "| median (least-most) | (a) echo | (b) floor | (c) gearshift | c/a | c/b |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, title in _MEASURES:
        cells = [_cell(results[server].values[name]) for server in SERVERS]
        for against in (ECHO, FLOOR):
            cells.append(_cell(ratios(results, name, against)) if name in _RATIOS else "")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += ["", "| goal | at most | measured | |", "|---|---:|---:|---|"]
    for goal, measured, most in _judged(results):
        lines.append(f"| {goal} | {most:g} | {measured:.2f} | {'met' if measured <= most else 'NOT MET'} |")
    return "\n".join(lines)


def machine() -> str:
    """Say what this ran on."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def versions() -> dict[str, str]:
    """Give the versions that matter."""
    return {name: version(name) for name in ("grpcio", "protobuf", "uvloop", "aiohttp", "msgspec", "anyio")}


def _judged(results: Results) -> list[tuple[str, float, float]]:
    judged: list[tuple[str, float, float]] = []
    for goal, name, against, most in _GOALS:
        values = ratios(results, name, against) if against else results[GEARSHIFT].values[name]
        judged.append((goal, statistics.median(values), most))
    return judged


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    digits = 2 if max(values) < 20 else 0
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"
