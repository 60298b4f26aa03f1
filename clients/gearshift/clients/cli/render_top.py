"""Shows the service at a glance: traffic, cost, stages and the latest attempts, in one screen.

Rules: pure functions from messages to text; what does not fit the screen is cut, never wrapped.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gearshift.clients.cli import render_ops
from gearshift.clients.cli.render import milliseconds, money, saving, stage_name, word
from gearshift.clients.cli.terminal import Palette, cut, safe, table
from gearshift.v1 import answer_pb2, ops_pb2

_BARS: Final = "▁▂▃▄▅▆▇█"
PERIOD_S: Final = 1800.0
"""How far back the figures look, seconds."""
STEPS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """Everything that is shown, as OpsService said it."""

    status: ops_pb2.GetStatusResponse
    stages: Sequence[ops_pb2.StageStatus]
    traffic: ops_pb2.GetTrafficResponse
    costs: ops_pb2.GetCostReportResponse
    attempts: Sequence[ops_pb2.RecordedAttempt]


def screen(seen: Glance, palette: Palette, *, columns: int, lines: int, lost: str = "") -> str:
    """Give one screen; `lost` says that it is what was seen last."""
    calls = _series(seen.traffic, lambda point: float(point.calls))
    slow = _series(seen.traffic, lambda point: point.p95_ms)
    all_calls = sum(point.calls for point in seen.traffic.points)
    unserved = sum(point.unserved for point in seen.traffic.points)
    step_s = seen.traffic.step_seconds or 1.0
    total = seen.costs.total
    now = seen.traffic.until.ToDatetime(datetime.UTC)
    whole = "all served" if not unserved else palette.warn(f"{unserved} unserved")
    worst, last = (milliseconds(value) if value else "-" for value in (max(slow), slow[-1]))
    running = f"{seen.status.calls_in_flight} running · {seen.status.calls_ended} ended"
    head = [
        f"{palette.bold('gearshift')} {safe(seen.status.version)} · {now:%H:%M:%S} UTC · {running}",
        f"{'calls/s':<8}{_bars(calls)}  {calls[-1] / step_s:.1f} now, {all_calls / PERIOD_S:.2f} of late, {whole}",
        f"{'p95':<8}{_bars(slow)}  {last} now, {worst} at most",
        f"{'cost':<8}{_cost(total, palette)}",
    ]
    head += [palette.bad(f"! {lost}")] if lost else []
    head += [palette.warn(f"! {safe(text)}") for text in seen.status.warnings]
    parts = [
        "\n".join(head),
        render_ops.stages(seen.stages, palette).partition("\n\n")[0],
        _tasks(seen.costs, palette),
        _latest(seen.attempts, palette),
    ]
    rows = "\n\n".join(part for part in parts if part).split("\n")
    return "\n".join(cut(row, columns) for row in rows[:lines])


def _series(traffic: ops_pb2.GetTrafficResponse, value: Callable[[ops_pb2.TrafficPoint], float]) -> list[float]:
    """Give a value for each step, 0 for those without a call."""
    since = traffic.since.ToNanoseconds() / 1e9
    found = [0.0] * STEPS
    for point in traffic.points:
        at = round((point.at.ToNanoseconds() / 1e9 - since) / (traffic.step_seconds or 1.0))
        if 0 <= at < STEPS:
            found[at] = value(point)
    return found


def _bars(values: Sequence[float]) -> str:
    most = max(values)
    if not most:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(len(_BARS) - 1, int(value / most * len(_BARS)))] for value in values)


def _cost(total: ops_pb2.CostRow, palette: Palette) -> str:
    wasted = f"{money(total.overhead_usd)} of it not served"
    return f"{money(total.cost_usd)} in {PERIOD_S / 60:.0f} min · {wasted} · {_saved(total, palette)}"


def _saved(total: ops_pb2.CostRow, palette: Palette) -> str:
    if not total.saved_usd:
        return "savings unknown"
    share = saving(total.cost_usd, total.strongest_usd)
    text = f"{money(total.saved_usd)} saved against the strongest models" + (f" ({share})" if share else "")
    return palette.good(text) if Decimal(total.saved_usd) > 0 else palette.warn(text)


def _tasks(costs: ops_pb2.GetCostReportResponse, palette: Palette) -> str:
    rows = [
        (
            safe(row.keys[0]),
            str(row.calls),
            str(row.attempts),
            str(row.failed),
            str(row.poor),
            money(row.cost_usd),
            saving(row.cost_usd, row.strongest_usd) or "-",
        )
        for row in costs.rows[:6]
    ]
    headings = ("task", "calls", "attempts", "failed", "poor", "cost", "saving")
    return table(headings, rows, palette, right=" rrrrrr") if rows else ""


def _latest(attempts: Sequence[ops_pb2.RecordedAttempt], palette: Palette) -> str:
    lines: list[str] = []
    for each in attempts:
        made = each.attempt
        outcome = word(answer_pb2.AttemptOutcome, made.outcome) + (f" ({safe(each.reason)})" if each.reason else "")
        good = made.outcome == answer_pb2.ATTEMPT_OUTCOME_ACCEPTED
        lines.append(
            f"{palette.dim(f'{each.started_at.ToDatetime(datetime.UTC):%H:%M:%S}')} {safe(each.task_id)} "
            f"#{made.number} {stage_name(made.stage)} · {(palette.good if good else palette.warn)(outcome)} · "
            f"{milliseconds(made.total_ms)} · {money(made.cost_usd)}"
        )
    return "\n".join(lines)
