"""What the ledger recorded, for OpsService: single attempts, and calls over time.

Rules: pure; questions are checked here, answers translated. Content is never in the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from gearshift.core.errors import invalid
from gearshift.core.ledger import AttemptQuery, RecordedAttempt, TrafficPoint, TrafficQuery
from gearshift.core.ledger.traffic import MOST_STEPS
from gearshift.core.words import AttemptOutcome, CostGroup
from gearshift.server.wire import money, usage_to_wire, verdict_to_wire
from gearshift.v1 import answer_pb2, ops_pb2, task_pb2

PAGE = 100
LARGEST_PAGE = 1000
MOST_TEXT = 200
USUAL_POINTS = 240
_HOUR_S = 3600.0
_MINUTE_S = 60.0
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_PAGE_TOKEN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)-([0-9]{1,19})")


def seconds(stamp: Timestamp, field: str) -> float:
    """Give a time as seconds since the epoch.

    Raises:
        InvalidRequestError: it is none.
    """
    if not (_FIRST_SECOND <= stamp.seconds <= _LAST_SECOND and 0 <= stamp.nanos < 1_000_000_000):
        raise invalid(field, "must be a time between the years 1 and 9999")
    return stamp.seconds + stamp.nanos / 1e9


def attempts_query(request: ops_pb2.ListAttemptsRequest) -> AttemptQuery:
    """Give what a search means; it asks for one attempt more than a page has, to know whether there is another page.

    Raises:
        InvalidRequestError: a field is wrong.
    """
    outcome: AttemptOutcome | None = None
    if request.outcome:
        try:
            outcome = AttemptOutcome(request.outcome)
        except ValueError:
            raise invalid("outcome", f"{request.outcome} is unknown to this version") from None
    if len(request.text) > MOST_TEXT:
        raise invalid("text", f"has {len(request.text)} characters; at most {MOST_TEXT} are looked for")
    before: tuple[float, int] | None = None
    if request.page_token:
        told = _PAGE_TOKEN.fullmatch(request.page_token)
        if told is None:
            raise invalid("page_token", "must be what the last response gave, or empty")
        before = float(told[1]), int(told[2])
    return AttemptQuery(
        since=seconds(request.since, "since") if request.HasField("since") else None,
        until=seconds(request.until, "until") if request.HasField("until") else None,
        tenant=request.tenant or None,
        task_id=request.task_id or None,
        provider=request.provider or None,
        model=request.model or None,
        outcome=outcome,
        request_id=request.request_id or None,
        text=request.text,
        limit=page_size(request) + 1,
        before=before,
    )


def page_size(request: ops_pb2.ListAttemptsRequest) -> int:
    """Give how many attempts a page has at most."""
    return min(request.page_size or PAGE, LARGEST_PAGE)


def attempts_page(found: Sequence[RecordedAttempt], size: int, pending: int) -> ops_pb2.ListAttemptsResponse:
    """Give a page of what was found."""
    shown = found[:size]
    token = f"{shown[-1].started_at!r}-{shown[-1].id}" if len(found) > size else ""
    return ops_pb2.ListAttemptsResponse(
        attempts=[_recorded(each) for each in shown], next_page_token=token, pending=pending
    )


def traffic_query(request: ops_pb2.GetTrafficRequest, now: float) -> TrafficQuery:
    """Give what a question for calls over time means.

    Raises:
        InvalidRequestError: a field is wrong.
    """
    until = seconds(request.until, "until") if request.HasField("until") else now
    since = seconds(request.since, "since") if request.HasField("since") else until - _HOUR_S
    if until <= since:
        raise invalid("since", "must be before until")
    if request.group_by not in (ops_pb2.COST_GROUP_UNSPECIFIED, ops_pb2.COST_GROUP_TASK, ops_pb2.COST_GROUP_TENANT):
        raise invalid("group_by", "must be COST_GROUP_TASK, COST_GROUP_TENANT or unset")
    step = request.step_seconds or max(_MINUTE_S, (until - since) / USUAL_POINTS)
    if not step >= 1:
        raise invalid("step_seconds", "must be at least 1, or 0")
    if (until - since) / step > MOST_STEPS:
        raise invalid(
            "step_seconds", f"makes more than {MOST_STEPS} points; at least {(until - since) / MOST_STEPS:.0f}"
        )
    return TrafficQuery(
        since=since,
        until=until,
        step_s=step,
        by=CostGroup(request.group_by) if request.group_by else None,
        tenant=request.tenant or None,
        task_id=request.task_id or None,
    )


def traffic_answer(query: TrafficQuery, points: Sequence[TrafficPoint], pending: int) -> ops_pb2.GetTrafficResponse:
    """Give calls over time as a message."""
    return ops_pb2.GetTrafficResponse(
        points=[
            ops_pb2.TrafficPoint(
                key=each.key,
                at=_stamp(each.at),
                calls=each.calls,
                unserved=each.unserved,
                attempts=each.attempts,
                p50_ms=each.p50_ms,
                p95_ms=each.p95_ms,
                first_token_p50_ms=each.first_token_p50_ms,
                tokens=each.tokens,
                cost_usd=money(each.cost_usd),
                saved_usd=money(each.saved_usd),
            )
            for each in points
        ],
        since=_stamp(query.since),
        until=_stamp(query.until),
        step_seconds=query.step_s,
        pending=pending,
    )


def _recorded(attempt: RecordedAttempt) -> ops_pb2.RecordedAttempt:
    made = answer_pb2.Attempt(
        number=attempt.number,
        stage=answer_pb2.StageRef(position=attempt.position, provider=attempt.provider, model=attempt.model),
        account=attempt.account,
        role=answer_pb2.AttemptRole.ValueType(attempt.role),
        cause=answer_pb2.AttemptCause.ValueType(attempt.cause),
        outcome=answer_pb2.AttemptOutcome.ValueType(attempt.outcome),
        failure=answer_pb2.FailureKind.ValueType(attempt.failure or 0),
        verdicts=[verdict_to_wire(each) for each in attempt.verdicts],
        usage=usage_to_wire(attempt.usage),
        cost_usd=money(attempt.cost_usd),
        queue_ms=attempt.queue_ms,
        first_token_ms=attempt.first_token_ms,
        total_ms=attempt.total_ms,
    )
    return ops_pb2.RecordedAttempt(
        request_id=attempt.request_id,
        tenant=attempt.tenant,
        task_id=attempt.task_id,
        task_type=task_pb2.TaskType.ValueType(attempt.task_type),
        chain=attempt.chain,
        attempt=made,
        reason=attempt.reason,
        served=attempt.served,
        stream=attempt.stream,
        started_at=_stamp(attempt.started_at),
        strongest_usd=money(attempt.strongest_usd),
        config_revision=attempt.config_revision,
    )


def _stamp(at: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(round(at * 1e9))
    return stamp
