"""What callers said of answers, beside the attempts that gave them: what confidence is calibrated by.

Rules: only attempts that were served count, since a caller sees no other; of a request's served attempts the last. Attempts that were pruned
are gone, and their outcomes with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Final

from msgspec import Struct

from gearshift.core.confidence import AGREEMENT, ANSWER, ANSWER_AND_STATED, LOGPROBS, STATED, Outcome
from gearshift.core.ledger.store import Session
from gearshift.core.words import OutcomeVerdict

_SQL: Final = (
    "SELECT o.request_id, o.verdict, a.chain, a.task_type, a.position, a.provider, a.model, a.verdicts, "
    "a.cost_{money}, a.started_at, a.tenant FROM outcomes o JOIN attempts a ON a.request_id = o.request_id AND a.tenant = o.tenant "
    "WHERE a.served = ? ORDER BY o.reported_at DESC, a.id DESC LIMIT ?"
)
_MEASURES: Final = frozenset({ANSWER, LOGPROBS, AGREEMENT, STATED, ANSWER_AND_STATED})
_GATES: Final = frozenset({"confidence", "second_look"})


class JudgedAttempt(Struct, frozen=True, kw_only=True):
    """An attempt and the caller's word on its answer.

    Args:
        verdicts: as the ledger keeps them, see `verdicts_text`.
        cost_usd: None when its price is unknown.

    """

    request_id: str
    verdict: OutcomeVerdict
    chain: str
    task_type: str
    position: int
    provider: str
    model: str
    verdicts: str
    cost_usd: Decimal | None

    @property
    def right(self) -> bool:
        """Whether the caller took it as it was."""
        return self.verdict is OutcomeVerdict.ACCEPTED


def read_outcomes(session: Session, limit: int) -> list[JudgedAttempt]:
    """Give the attempts that were judged, the latest words first."""
    dialect = session.dialect
    found: list[JudgedAttempt] = []
    seen: set[tuple[str, str]] = set()
    for row in session.rows(_SQL.format(money=dialect.money_suffix), (True, limit)):
        request_id, verdict, chain, kind, position, provider, model, verdicts, cost, _, tenant = row
        if (key := (str(tenant), str(request_id))) in seen:
            continue
        seen.add(key)
        found.append(
            JudgedAttempt(
                request_id=str(request_id),
                verdict=OutcomeVerdict.from_word(str(verdict)),
                chain=str(chain),
                task_type=str(kind),
                position=int(str(position)),
                provider=str(provider),
                model=str(model),
                verdicts=str(verdicts),
                cost_usd=dialect.amount(cost) if isinstance(cost, int | Decimal) else None,
            )
        )
    return found


def measured(judged: Iterable[JudgedAttempt]) -> Iterator[Outcome]:
    """Give those whose confidence was measured, as what calibration learns from."""
    for each in judged:
        for measure, score, _ in _measures(each.verdicts):
            yield Outcome(model=each.model, task_type=each.task_type, measure=measure, score=score, right=each.right)


def confidence_of(judged: JudgedAttempt) -> float | None:
    """Give the confidence that an attempt had, after a second look where there was one; None when it was not measured."""
    found = [confidence for _, _, confidence in _measures(judged.verdicts) if confidence is not None]
    return found[-1] if found else None


def _measures(verdicts: str) -> list[tuple[str, float, float | None]]:
    """Give measure, score and confidence of each verdict that has a score, in order; one that says nothing yet has no confidence."""
    found: list[tuple[str, float, float | None]] = []
    for verdict in verdicts.split(" "):
        parts = verdict.split(":")
        if len(parts) == 4 and parts[0] in _GATES:
            measure, _, score = parts[3].partition("=")
            with suppress(ValueError):
                if measure in _MEASURES:
                    found.append((measure, float(score), float(parts[2]) if parts[2] else None))
    return found
