"""Recorded attempts, the latest first: what a search finds, and one request's whole way.

Rules: read page by page; what was pruned is not found. No content: the ledger has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from gearshift.core.answer import Usage, Verdict
from gearshift.core.ledger.columns import TOKEN_COLUMNS
from gearshift.core.ledger.store import Session, Value
from gearshift.core.words import (
    AttemptCause,
    AttemptOutcome,
    AttemptRole,
    FailureKind,
    TaskType,
    UsageSource,
    VerdictResult,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptQuery:
    """Which attempts.

    Args:
        since / until: seconds since the epoch; attempts that started at or after, and before. None is no bound.
        tenant / task_id / provider / model / outcome / request_id: only this one; None is all.
        text: what the request id, the task's id, the model, the failure or the reason begins with; empty is all.
        limit: most attempts, from 1.
        before: the last attempt of the page before: when it started, and its id.
    """

    since: float | None = None
    until: float | None = None
    tenant: str | None = None
    task_id: str | None = None
    provider: str | None = None
    model: str | None = None
    outcome: AttemptOutcome | None = None
    request_id: str | None = None
    text: str = ""
    limit: int = 100
    before: tuple[float, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAttempt:
    """One attempt as the ledger has it; fields as in `LedgerCall` and `AttemptRecord`."""

    id: int
    request_id: str
    tenant: str
    task_id: str
    task_type: TaskType
    chain: str
    position: int
    provider: str
    account: str
    model: str
    number: int
    role: AttemptRole
    cause: AttemptCause
    outcome: AttemptOutcome
    failure: FailureKind | None
    reason: str
    usage: Usage
    cost_usd: Decimal | None
    strongest_usd: Decimal | None
    queue_ms: float
    first_token_ms: float | None
    total_ms: float
    verdicts: tuple[Verdict, ...]
    served: bool
    stream: bool
    started_at: float
    config_revision: str


_SEARCHED: Final = ("request_id", "task_id", "model", "failure", "reason")


def read_attempts(session: Session, query: AttemptQuery) -> list[RecordedAttempt]:
    """Give a page, the latest first; those that started at the same moment by their ids."""
    tests: list[str] = []
    values: list[Value] = []
    for test, value in (
        ("started_at >= ?", query.since),
        ("started_at < ?", query.until),
        ("tenant = ?", query.tenant),
        ("task_id = ?", query.task_id),
        ("provider = ?", query.provider),
        ("model = ?", query.model),
        ("outcome = ?", query.outcome.word if query.outcome is not None else None),
        ("request_id = ?", query.request_id),
    ):
        if value is not None:
            tests.append(test)
            values.append(value)
    if query.text:
        # Not LIKE, which databases fold and escape each in their way.
        tests.append(f"({' OR '.join(f'substr({column}, 1, ?) = ?' for column in _SEARCHED)})")
        values += [len(query.text), query.text] * len(_SEARCHED)
    if query.before is not None:
        tests.append("(started_at, id) < (?, ?)")
        values += query.before
    suffix = session.dialect.money_suffix
    where = f" WHERE {' AND '.join(tests)}" if tests else ""
    found = session.rows(
        "SELECT id, request_id, tenant, task_id, task_type, chain, position, provider, account, model, number, role, "
        f"cause, outcome, failure, reason, {', '.join(TOKEN_COLUMNS)}, usage_source, cost_{suffix}, strongest_{suffix}, "
        "queue_ms, first_token_ms, total_ms, verdicts, served, stream, started_at, config_revision "
        f"FROM attempts{where} ORDER BY started_at DESC, id DESC LIMIT {int(query.limit)}",
        values,
    )
    return [_recorded(each, session) for each in found]


def _recorded(values: Sequence[Any], session: Session) -> RecordedAttempt:
    (
        id_, request_id, tenant, task_id, task_type, chain, position, provider, account, model, number, role, cause,
        outcome, failure, reason, *tokens, source, cost, strongest, queue_ms, first_token_ms, total_ms, verdicts, served,
        stream, started_at, revision,
    ) = values  # fmt: skip
    amount = session.dialect.amount
    return RecordedAttempt(
        id=int(id_),
        request_id=request_id,
        tenant=tenant,
        task_id=task_id,
        task_type=TaskType.from_word(task_type),
        chain=chain,
        position=int(position),
        provider=provider,
        account=account,
        model=model,
        number=int(number),
        role=AttemptRole.from_word(role),
        cause=AttemptCause.from_word(cause),
        outcome=AttemptOutcome.from_word(outcome),
        failure=FailureKind.from_word(failure) if failure else None,
        reason=reason,
        usage=Usage(
            **{name: int(value) for name, value in zip(TOKEN_COLUMNS, tokens, strict=True)},
            source=UsageSource.from_word(source),
        ),
        cost_usd=amount(cost) if cost is not None else None,
        strongest_usd=amount(strongest) if strongest is not None else None,
        queue_ms=float(queue_ms),
        first_token_ms=float(first_token_ms) if first_token_ms is not None else None,
        total_ms=float(total_ms),
        verdicts=verdicts_of(verdicts),
        served=bool(served),
        stream=bool(stream),
        started_at=float(started_at),
        config_revision=revision,
    )


def verdicts_of(text: str) -> tuple[Verdict, ...]:
    """Give what `row.verdicts_text` wrote; what a later version wrote otherwise is left out."""
    found: list[Verdict] = []
    for word in text.split(" "):
        gate, _, rest = word.partition(":")
        result, _, rest = rest.partition(":")
        confidence = rest.partition(":")[0]
        try:
            found.append(
                Verdict(
                    gate=gate,
                    result=VerdictResult.from_word(result),
                    confidence=float(confidence) if confidence else None,
                )
            )
        except (KeyError, ValueError):
            continue
    return tuple(found)
