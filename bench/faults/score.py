"""What came of a batch of runs: what callers were given, what it cost, and what the gateway says that it cost.

Rules: an answer is valid when it is the whole text of one provider, or a document that fits the schema. Anything else
that looked like success is truncated (the beginning of an answer, or nothing) or wrong. What the caller was told to be a
failure is an error, whatever text came with it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any

from bench.faults.gateway import Spent
from bench.faults.provider import Billed
from bench.faults.work import DOCUMENT, SCHEMA, TEXTS, Heard, Mode
from gearshift.core.schema import DocumentError, compile_schema, parse_document
from gearshift.server.simulator.tokens import tokens_of

_SCHEMA = compile_schema(SCHEMA)
_DOCUMENT = json.dumps(DOCUMENT)
_NUMBERS = re.compile(r"\b[0-9a-f]{8,}\b|\d+(\.\d+)?")
_EXAMPLES = 4
_PICO = Decimal("1e-12")
"""What money is compared to: some gateways count in binary fractions."""


class Result(Enum):
    """What a caller was given."""

    VALID = "valid"
    TRUNCATED = "truncated"
    WRONG = "wrong"
    ERROR = "error"


def judge(mode: Mode, heard: Heard) -> Result:
    """Tell what a caller was given."""
    if heard.error:
        return Result.ERROR
    text = heard.text.strip()
    if mode.json:
        try:
            document = parse_document(text)
        except DocumentError:
            return Result.TRUNCATED if _begins(text, [_DOCUMENT]) else Result.WRONG
        return Result.VALID if _SCHEMA.is_valid(document) else Result.WRONG
    if text in TEXTS.values():
        return Result.VALID
    return Result.TRUNCATED if _begins(text, TEXTS.values()) else Result.WRONG


@dataclass(kw_only=True)
class Cell:
    """One fault through one gateway in one mode.

    Args:
        noticeable: truncated answers without a finish reason: a caller that looks at it knows.
        met: runs that met the fault at the provider.
        retracted: runs in which shown text was taken back.
        latencies_ms: of valid answers, sorted.
        wasted_tokens: billed, input and output, and not in a valid answer.
        incurred_usd: what the simulator bills.
        recorded_usd: what the gateway recorded without reserve, `estimated_usd` what it called an estimate; None
            where it records nothing.
        unmatched: records without reserve that no bill has; 0 is right to the last digit.
        estimates_of_usd: what was billed and is in no record without reserve: what the estimates stand for.
        unrecorded: bills for which there is neither a record nor an estimate.
        errors: the commonest, with how often each came.
    """

    runs: int = 0
    results: dict[str, int] = field(default_factory=dict[str, int])
    noticeable: int = 0
    met: int = 0
    retracted: int = 0
    latencies_ms: list[float] = field(default_factory=list[float])
    wasted_tokens: float = 0.0
    incurred_usd: Decimal = Decimal(0)
    recorded_usd: Decimal | None = None
    estimated_usd: Decimal = Decimal(0)
    estimates_of_usd: Decimal = Decimal(0)
    unmatched: int = 0
    unrecorded: int = 0
    errors: dict[str, int] = field(default_factory=dict[str, int])

    def count(self, result: Result) -> int:
        """Give how many runs ended so."""
        return self.results.get(result.value, 0)

    def share(self, result: Result) -> float:
        """Give the share of runs that ended so."""
        return self.count(result) / self.runs if self.runs else 0.0

    def latency_ms(self, share: float) -> float | None:
        """Give a percentile of the valid answers' latencies; None without any."""
        times = self.latencies_ms
        return times[min(len(times) - 1, int(len(times) * share))] if times else None


def scored(mode: Mode, heard: Sequence[Heard], billed: Sequence[Billed], spent: Sequence[Spent] | None) -> Cell:
    """Sum up a batch."""
    cell = Cell(runs=len(heard), met=sum(one.applied or one.status == 0 for one in billed))
    judged = [(judge(mode, one), one) for one in heard]
    cell.results = dict(Counter(result.value for result, _ in judged))
    cell.noticeable = sum(result is Result.TRUNCATED and not one.finish for result, one in judged)
    cell.retracted = sum(one.retracts > 0 for one in heard)
    cell.latencies_ms = sorted(round(one.latency_s * 1000, 2) for result, one in judged if result is Result.VALID)
    told = Counter(_NUMBERS.sub("N", one.error) for one in heard if one.error)
    wrong = Counter(
        f"{result.value}: …{one.text[-60:]!r}" for result, one in judged if result in (Result.TRUNCATED, Result.WRONG)
    )
    cell.errors = {**dict(told.most_common(_EXAMPLES)), **dict(wrong.most_common(2))}
    cell.wasted_tokens = _wasted(judged, billed)
    cell.incurred_usd = sum((one.usd for one in billed), Decimal(0))
    if spent is not None:
        _compare(cell, billed, spent)
    return cell


def _begins(text: str, wholes: Any) -> bool:
    return any(whole.startswith(text) for whole in wholes)


def _wasted(judged: Sequence[tuple[Result, Heard]], billed: Sequence[Billed]) -> float:
    """Give the billed tokens without those of the valid answers; a call's input is taken as the batch's mean."""
    paid = [one for one in billed if one.input_tokens]
    if not paid:
        return 0.0
    texts = [one.text for result, one in judged if result is Result.VALID]
    output = sum(one.output_tokens for one in paid) - sum(len(tokens_of(text)) for text in texts)
    mean_input = sum(one.input_tokens for one in paid) / len(paid)
    return round(output + mean_input * (len(paid) - len(texts)), 1)


def _compare(cell: Cell, billed: Sequence[Billed], spent: Sequence[Spent]) -> None:
    """Match records with bills: each record without reserve must be some bill, to the last pico-USD."""
    bills = Counter(one.usd for one in billed if one.usd)
    exact = [one.usd.quantize(_PICO) for one in spent if not one.estimated]
    for usd in filter(None, exact):
        if bills[usd]:
            bills[usd] -= 1
        else:
            cell.unmatched += 1
    cell.recorded_usd = sum(exact, Decimal(0))
    cell.estimated_usd = sum((one.usd for one in spent if one.estimated), Decimal(0))
    estimates = sum(one.estimated and one.usd > 0 for one in spent)
    cell.unrecorded = max(0, bills.total() - estimates)
    cell.estimates_of_usd = sum((usd * count for usd, count in bills.items()), Decimal(0))
