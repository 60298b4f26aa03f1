"""Rows for tests of the ledger: one builder with everything set to something plain."""

from __future__ import annotations

from decimal import Decimal

from gearshift.core.answer import AttemptRecord, StageRef, Usage, Verdict
from gearshift.core.ledger import LedgerRow, rows_of
from gearshift.core.request import Resolution
from gearshift.core.words import (
    AttemptCause,
    AttemptOutcome,
    AttemptRole,
    Complexity,
    FailureKind,
    Sensitivity,
    Source,
    TaskType,
)

START = 1_795_435_200.0  # 2026-11-23T12:00:00Z


def resolution(tenant: str = "acme", task_id: str = "email", task_type: TaskType = TaskType.CLASSIFY) -> Resolution:
    return Resolution(
        task_id=task_id,
        declared=True,
        type=task_type,
        type_source=Source.DECLARATION,
        type_confidence=1.0,
        complexity=Complexity.LOW,
        complexity_source=Source.DEFAULT,
        sensitivity=Sensitivity.INTERNAL,
        sensitivity_source=Source.DEFAULT,
        tenant=tenant,
    )


def attempt(
    number: int = 1,
    *,
    position: int = 0,
    provider: str = "anthropic",
    model: str = "claude-haiku-5-5",
    outcome: AttemptOutcome = AttemptOutcome.ACCEPTED,
    failure: FailureKind | None = None,
    verdicts: tuple[Verdict, ...] = (),
    usage: Usage | None = None,
    cost_usd: Decimal | None = Decimal("0.001"),
    started_at: float = START,
    served: bool = True,
    detail: str = "",
) -> AttemptRecord:
    return AttemptRecord(
        number=number,
        stage=StageRef(position=position, provider=provider, model=model, capability=Complexity.LOW),
        account="main",
        role=AttemptRole.ANSWER,
        cause=AttemptCause.FIRST if number == 1 else AttemptCause.FALLBACK,
        outcome=outcome,
        failure=failure,
        detail=detail,
        verdicts=verdicts,
        usage=Usage(input_tokens=100, output_tokens=10) if usage is None else usage,
        cost_usd=cost_usd,
        queue_ms=0.5,
        first_token_ms=None if failure else 12.5,
        total_ms=40.0,
        started_at=started_at,
        served=served,
    )


def rows(
    request_id: str = "r1",
    *attempts: AttemptRecord,
    resolved: Resolution | None = None,
    strongest_usd: Decimal | None = None,
) -> tuple[LedgerRow, ...]:
    return rows_of(
        attempts or (attempt(),),
        request_id=request_id,
        resolution=resolution() if resolved is None else resolved,
        chain="classify",
        config_revision="c0ffee",
        stream=False,
        strongest_usd=strongest_usd,
    )
