"""What the ledger keeps: a row for every attempt, and what callers said became of an answer.

Rules: values only; built on the request's path, so building is cheap and formatting is left to the writer. No prompt,
answer or key is in a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from msgspec import Struct

from gearshift.core.answer import AttemptRecord, Verdict
from gearshift.core.request import Resolution
from gearshift.core.words import OutcomeVerdict, TaskType, VerdictResult


class LedgerCall(Struct, frozen=True, kw_only=True):
    """What all rows of one request share.

    Args:
        declared: whether the task stands in the configuration.
        chain: the chain's name.
        config_revision: hash of the configuration that was in force.
        stream: whether the answer was streamed.

    """

    request_id: str
    tenant: str
    task_id: str
    task_type: TaskType
    declared: bool
    chain: str
    config_revision: str
    stream: bool


class LedgerRow(Struct, frozen=True):
    """One attempt; `strongest_usd` is what it would have cost on the chain's strongest model, on the served row only."""

    call: LedgerCall
    attempt: AttemptRecord
    strongest_usd: Decimal | None = None

    @property
    def reason(self) -> str:
        """One word on why it was left: how it failed, or which gate it did not pass; empty when it was accepted."""
        if self.attempt.failure is not None:
            return self.attempt.failure.word
        for verdict in self.attempt.verdicts:
            if verdict.result in (VerdictResult.FAIL, VerdictResult.LOW):
                return verdict.reason or verdict.gate
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeReport:
    """The caller's word on an answer.

    Args:
        correction: what it should have been; kept so that gates can learn, never logged.
        reported_at: seconds since the epoch.

    """

    request_id: str
    tenant: str
    verdict: OutcomeVerdict
    correction: str = ""
    reported_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineTime:
    """What an own machine cost in a period, busy or idle, so that the report's lines add up to the bill.

    Args:
        provider: whose attempts ran on it.
        machine: its name, unique within the provider.
        started_at / ended_at: seconds since the epoch; periods of one machine do not overlap.
        busy_s: seconds of the period in which it worked.
        cost_usd: of the whole period.

    """

    provider: str
    machine: str
    started_at: float
    ended_at: float
    busy_s: float
    cost_usd: Decimal


def rows_of(
    attempts: Iterable[AttemptRecord],
    *,
    request_id: str,
    resolution: Resolution,
    chain: str,
    config_revision: str,
    stream: bool,
    strongest_usd: Decimal | None = None,
) -> tuple[LedgerRow, ...]:
    """Give the rows of one request, of all its attempts, the abandoned ones too.

    `strongest_usd`, the cost of the served usage on the chain's strongest model, goes to the last served attempt only,
    so that sums count it once.
    """
    call = LedgerCall(
        request_id=request_id,
        tenant=resolution.tenant,
        task_id=resolution.task_id,
        task_type=resolution.type,
        declared=resolution.declared,
        chain=chain,
        config_revision=config_revision,
        stream=stream,
    )
    rows = [LedgerRow(call, attempt) for attempt in attempts]
    if strongest_usd is not None:
        for index in range(len(rows) - 1, -1, -1):
            if rows[index].attempt.served:
                rows[index] = LedgerRow(call, rows[index].attempt, strongest_usd)
                break
    return tuple(rows)


def verdicts_text(verdicts: Iterable[Verdict]) -> str:
    """Give verdicts as one line, such as "schema:pass confidence:low:0.612:answer=0.4401", the last where it was calibrated."""
    return " ".join(
        [
            f"{each.gate}:{each.result.word}"
            if each.confidence is None and each.measured is None
            else f"{each.gate}:{each.result.word}:{_share(each.confidence)}{_measured(each)}"
            for each in verdicts
        ]
    )


def _share(confidence: float | None) -> str:
    return "" if confidence is None else f"{confidence:.3f}"


def _measured(verdict: Verdict) -> str:
    return "" if verdict.measured is None else f":{verdict.measured[0]}={verdict.measured[1]:.4f}"
