"""Shows attempts: as they end, as they were recorded, and one request's whole way.

Rules: pure functions from messages to text.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Final

from gearshift.clients.cli.render import milliseconds, money, stage_name, word
from gearshift.clients.cli.terminal import Palette, safe, table
from gearshift.v1 import answer_pb2, ops_pb2, task_pb2

_BAR: Final = 40
"""Columns of a request's time line."""


def watched(one: ops_pb2.WatchAttemptsResponse, palette: Palette) -> str:
    """Give an attempt that ended, in a line."""
    made = one.attempt
    outcome = word(answer_pb2.AttemptOutcome, made.outcome)
    if made.failure:
        outcome += f" ({word(answer_pb2.FailureKind, made.failure)})"
    paint = palette.good if made.outcome == answer_pb2.ATTEMPT_OUTCOME_ACCEPTED else palette.warn
    ended = one.ended_at.ToDatetime(datetime.UTC) if one.HasField("ended_at") else None
    missed = palette.warn(f" · {one.missed} missed") if one.missed else ""
    return (
        f"{palette.dim(f'{ended:%H:%M:%S}' if ended else '--:--:--')} {safe(one.task_id)} "
        f"({word(task_pb2.TaskType, one.task_type)}) #{made.number} {stage_name(made.stage)} "
        f"{word(answer_pb2.AttemptCause, made.cause)} · {paint(outcome)} · "
        f"{made.usage.input_tokens} → {made.usage.output_tokens} · {milliseconds(made.total_ms)} · "
        f"{money(made.cost_usd)}{missed}"
    )


def recorded(found: ops_pb2.ListAttemptsResponse, palette: Palette) -> str:
    """Give recorded attempts, the latest first."""
    rows = [
        (
            f"{each.started_at.ToDatetime(datetime.UTC):%m-%d %H:%M:%S}",
            safe(each.request_id),
            safe(each.task_id),
            f"#{each.attempt.number} {stage_name(each.attempt.stage)}",
            word(answer_pb2.AttemptCause, each.attempt.cause),
            _outcome(each, palette),
            f"{each.attempt.usage.input_tokens} → {each.attempt.usage.output_tokens}",
            milliseconds(each.attempt.total_ms),
            money(each.attempt.cost_usd),
        )
        for each in found.attempts
    ]
    headings = ("started (UTC)", "request", "task", "attempt", "why", "outcome", "tokens", "took", "cost")
    text = table(headings, rows, palette, right="      rrr") if rows else "no attempt was recorded that fits"
    notes: list[str] = []
    if found.next_page_token:
        notes.append(f"there are more; these are the latest {len(rows)}: --limit")
    if found.pending:
        notes.append(f"{found.pending} rows had not reached the ledger")
    return "\n".join([text, *(palette.dim(note) for note in notes)])


def way(attempts: Sequence[ops_pb2.RecordedAttempt], palette: Palette) -> str:
    """Give one request's whole way, with its attempts on a time line. At least one attempt."""
    ordered = sorted(attempts, key=lambda each: each.attempt.number)
    first = ordered[0]
    began = min(_began_ms(each) for each in ordered)
    took = max(_began_ms(each) + each.attempt.queue_ms + each.attempt.total_ms for each in ordered) - began
    task = f"{safe(first.task_id)} ({word(task_pb2.TaskType, first.task_type)}) of {safe(first.tenant)}"
    how = f"chain {safe(first.chain)}, {'streamed' if first.stream else 'whole'}"
    when = f"{first.started_at.ToDatetime(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC, {milliseconds(took)}"
    lines = [palette.bold(safe(first.request_id)), f"{task} · {how} · {when}", ""]
    for each in ordered:
        made = each.attempt
        served = palette.good(" · served") if each.served else ""
        lines.append(
            f"{_bar(_began_ms(each) - began, made, max(took, 1e-9))} #{made.number} {stage_name(made.stage)} · "
            f"{word(answer_pb2.AttemptCause, made.cause)} · {_outcome(each, palette)}{served} · "
            f"{made.usage.input_tokens} → {made.usage.output_tokens} tokens · {milliseconds(made.total_ms)} · "
            f"{money(made.cost_usd)}"
        )
        for verdict in made.verdicts:
            sure = f" {verdict.confidence:.2f}" if verdict.HasField("confidence") else ""
            lines.append(
                palette.dim(
                    f"{' ' * _BAR}    {safe(verdict.gate)}: {word(answer_pb2.VerdictResult, verdict.result)}{sure}"
                )
            )
    return "\n".join(lines)


def _outcome(each: ops_pb2.RecordedAttempt, palette: Palette) -> str:
    text = word(answer_pb2.AttemptOutcome, each.attempt.outcome)
    if each.reason:
        text += f" ({safe(each.reason)})"
    return palette.good(text) if each.attempt.outcome == answer_pb2.ATTEMPT_OUTCOME_ACCEPTED else palette.warn(text)


def _began_ms(each: ops_pb2.RecordedAttempt) -> float:
    return each.started_at.ToNanoseconds() / 1e6


def _bar(offset_ms: float, made: answer_pb2.Attempt, whole_ms: float) -> str:
    """Draw an attempt's time: waiting, then to the first token, then writing."""
    first = made.first_token_ms if made.HasField("first_token_ms") else made.total_ms
    edges = [0.0, offset_ms, offset_ms + first, offset_ms + made.total_ms]
    columns = [min(_BAR, round(edge / whole_ms * _BAR)) for edge in edges]
    columns[3] = max(columns[3], min(columns[1] + 1, _BAR))
    drawn = " " * columns[1] + "░" * (columns[2] - columns[1]) + "█" * max(0, columns[3] - columns[2])
    return drawn.ljust(_BAR)[:_BAR]
