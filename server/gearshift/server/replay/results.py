"""What became of each call, and whether its answer was right.

Rules: pure. Money is the ledger's, whole pico-USD; a call with an attempt of unknown price has no cost. An answer is right as
its recording says while it is that recording; a text that a fault spoilt is wrong; what has no recording is compared with
what was expected.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from gearshift.server.replay.names import Names
from gearshift.server.replay.trace import Call


@dataclass(slots=True, kw_only=True)
class Paid:
    """The ledger's word on a call.

    Args:
        pico: USD times 1e12 of all attempts; None when a price is unknown.
        models: `provider`, `model` and whether it answered, of every attempt in order.
    """

    pico: int | None = 0
    attempts: int = 0
    retries: int = 0
    fallbacks: int = 0
    escalations: int = 0
    models: list[tuple[str, str, bool]] = field(default_factory=list[tuple[str, str, bool]])


@dataclass(slots=True, kw_only=True)
class Ended:
    """A call that has ended.

    Args:
        number: its place in the workload.
        lag_s: how much later than due it was sent.
        latency_s: from sending to the end, as the caller saw it.
        error: why there is no answer, such as `UNAVAILABLE ALL_STAGES_FAILED`; empty when there is one.
        accepted: its gates passed.
        served: `provider/model`; empty when there is no answer.
        right: 0 to 1; None is unknown, or there is no answer.
        confidence: of the answer; None was not measured.
    """

    number: int
    task: str
    lag_s: float
    latency_s: float
    error: str = ""
    accepted: bool = False
    served: str = ""
    right: float | None = None
    confidence: float | None = None
    paid: Paid = field(default_factory=Paid)
    recorded_usd: Decimal | None = None
    """What the trace says that the attempts cost; None when it does not know one."""


def rightness(call: Call, names: Names, provider: str, model: str, text: str, *, whole: bool) -> float | None:
    """Give how right an answer is; `whole` is False when it was cut at a limit."""
    found = names.of_model(call, provider, model)
    if found is not None and found.correct is not None:
        if found.text is None:
            return float(found.correct)
        same, said = found.text.strip(), text.strip()
        # The service gives a label or a document without what stands around it.
        is_it = said == same or (whole and bool(said) and said in same)
        return float(found.correct) if is_it else 0.0
    if call.expected is None:
        return None
    if isinstance(call.expected, str):
        return float(text.strip() == call.expected.strip())
    try:
        return float(json.loads(text) == call.expected)
    except ValueError:
        return 0.0


def paid_of(rows: Iterable[Sequence[object]]) -> dict[str, Paid]:
    """Sum the ledger's rows: request, provider, model, cause, outcome, pico-USD; by request."""
    found: dict[str, Paid] = {}
    for request, provider, model, cause, outcome, pico in rows:
        paid = found.setdefault(str(request), Paid())
        paid.attempts += 1
        paid.retries += cause == "retry"
        paid.fallbacks += cause == "fallback"
        paid.escalations += cause == "escalation"
        paid.models.append((str(provider), str(model), outcome in ("accepted", "poor")))
        paid.pico = None if pico is None or paid.pico is None else paid.pico + int(str(pico))
    return found


def settle(ended: Iterable[Ended], calls: Sequence[Call], paid: Mapping[str, Paid], run: str, names: Names) -> None:
    """Give each call what the ledger says of it."""
    for each in ended:
        each.paid = paid.get(request_id(run, each.number), Paid())
        told: Decimal | None = Decimal(0)
        for provider, model, answered in each.paid.models:
            found = names.of_model(calls[each.number], provider, model)
            if answered and told is not None:
                told = None if found is None or found.cost_usd is None else told + found.cost_usd
        each.recorded_usd = told


def request_id(run: str, number: int) -> str:
    """Give the id under which a call is found in the ledger."""
    return f"{run}-{number:07d}"
