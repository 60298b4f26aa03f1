"""What a client of OpenAI's API is told when a call fails: a status, an error object, and whether to try again.

Rules: pure; one table, complete over core/errors.py (a test checks it). Types and codes are OpenAI's where it has one for
the case, since clients branch on them; the reason of gRPC's ErrorInfo is told beside them, under `gearshift`. A provider's
words are never told. `x-should-retry` keeps the clients' own retries from multiplying the chain's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from gearshift.core import errors
from gearshift.core.answer import AttemptRecord
from gearshift.core.words import AttemptOutcome, FailureKind
from gearshift.server.web.openai.names import OpenAiNames
from gearshift.server.wire import money

_LONGEST_WAIT_S = 86_400.0
_LONGEST_MESSAGE = 2048
_MOST_ATTEMPTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How a kind of error is told; `retries` None leaves it to the wait that the error knows."""

    status: int
    type: str
    code: str
    param: str | None = None
    retries: bool | None = False


_INVALID = "invalid_request_error"
_OURS = "server_error"

TOLD: Mapping[type[errors.RouteError], Told] = {
    errors.InvalidRequestError: Told(status=400, type=_INVALID, code="invalid_value"),
    errors.UnknownTaskError: Told(status=404, type=_INVALID, code="model_not_found", param="model"),
    errors.PromptNotCachedError: Told(status=400, type=_INVALID, code="prompt_not_cached"),
    errors.NoStageError: Told(status=400, type=_INVALID, code="no_stage"),
    errors.RateLimitedError: Told(status=429, type="rate_limit_error", code="rate_limit_exceeded", retries=None),
    errors.ChainExhaustedError: Told(status=503, type=_OURS, code="chain_exhausted", retries=None),
    errors.NotAcceptedError: Told(status=422, type="not_accepted", code="not_accepted"),
    errors.DeadlineError: Told(status=504, type="timeout", code="deadline_exceeded"),
    errors.AccessError: Told(status=401, type=_INVALID, code="invalid_api_key"),
    errors.ForbiddenError: Told(status=403, type="permission_error", code="forbidden"),
    errors.LedgerError: Told(status=503, type=_OURS, code="ledger"),
    errors.CacheStoreError: Told(status=503, type=_OURS, code="cache_store"),
    errors.ConfigError: Told(status=500, type=_OURS, code="config"),
    errors.EmbeddedModelError: Told(status=503, type=_OURS, code="embedded_model"),
    errors.RouteError: Told(status=500, type=_OURS, code="route_error"),
}
_CALLERS_FAULTS = {
    FailureKind.CONTEXT_LENGTH: Told(status=400, type=_INVALID, code="context_length_exceeded", param="messages"),
    FailureKind.CONTENT_REFUSED: Told(status=400, type=_INVALID, code="content_filter", param="messages"),
}
"""Failures that another call would meet again, told as OpenAI tells them, where every attempt failed so."""
_SPENT = Told(status=429, type="insufficient_quota", code="insufficient_quota")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed call, ready to be told."""

    status: int
    error: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def body(self) -> bytes:
        """Give the JSON of a response, or of an event of a stream."""
        return msgspec.json.encode({"error": self.error})


def failure_of(error: errors.RouteError, names: OpenAiNames, request_id: str) -> Failure:
    """Give how an error is told."""
    told = _told(error)
    param, message = told.param, error.message
    if isinstance(error, errors.InvalidRequestError):
        param = names.of(error.violations[0].field)
        message = "; ".join(f"{names.of(each.field)}: {each.description}" for each in error.violations)
    more: dict[str, object] = {"reason": error.reason, "request_id": request_id}
    wait = _wait(error)
    if wait is not None:
        more["retry_after_s"] = wait
    if isinstance(error, errors.RateLimitedError):
        more["limit"] = error.limit
    if isinstance(error, errors.ChainExhaustedError | errors.NotAcceptedError):
        more["attempts"] = [attempt_body(each) for each in error.completion.attempts[:_MOST_ATTEMPTS]]
    return _failure(told, message, param, more, wait)


def unknown_failure(request_id: str) -> Failure:
    """Give what is told of a fault of ours: nothing of its text."""
    told = Told(status=500, type=_OURS, code="internal_error")
    message = "an internal fault; the service's log has the whole of it"
    return _failure(told, message, None, {"reason": "INTERNAL", "request_id": request_id}, None)


def plain_failure(status: int, code: str, message: str, *, retries: bool = False) -> Failure:
    """Give how a request is refused that no call was made of."""
    kind = _INVALID if status < 500 else _OURS
    told = Told(status=status, type=kind, code=code, retries=retries)
    return _failure(told, message, None, {"reason": code.upper()}, None)


def attempt_body(attempt: AttemptRecord) -> dict[str, Any]:
    """Give one attempt."""
    return {
        "number": attempt.number,
        "position": attempt.stage.position,
        "provider": attempt.stage.provider,
        "model": attempt.stage.model,
        "cause": attempt.cause.word,
        "outcome": attempt.outcome.word,
        "failure": None if attempt.failure is None else attempt.failure.word,
        "cost_usd": usd(attempt.cost_usd),
        "total_ms": round(attempt.total_ms, 1),
    }


def usd(amount: Decimal | None) -> str | None:
    """Give USD as a plain decimal; None when it is unknown."""
    return None if amount is None else money(amount)


def _told(error: errors.RouteError) -> Told:
    told = TOLD.get(type(error), TOLD[errors.RouteError])
    if isinstance(error, errors.ChainExhaustedError):
        failures = {each.failure for each in error.attempts if each.outcome is AttemptOutcome.FAILED}
        lone = failures.pop() if len(failures) == 1 and len(error.attempts) else None
        return told if lone is None else _CALLERS_FAULTS.get(lone, told)
    if isinstance(error, errors.RateLimitedError) and "cost of " in error.limit:
        return _SPENT
    return told


def _wait(error: errors.RouteError) -> float | None:
    if isinstance(error, errors.RateLimitedError | errors.ChainExhaustedError):
        wait = error.retry_after_s
        return None if wait is None or not math.isfinite(wait) else round(min(max(wait, 0.0), _LONGEST_WAIT_S), 3)
    return None


def _failure(told: Told, message: str, param: str | None, more: Mapping[str, object], wait: float | None) -> Failure:
    if len(message) > _LONGEST_MESSAGE:
        message = message[:_LONGEST_MESSAGE] + "…"
    headers: dict[str, str] = {}
    if wait is not None:
        headers["retry-after"] = str(math.ceil(wait))
        headers["retry-after-ms"] = str(max(1, math.ceil(wait * 1000)))
    retries = wait is not None if told.retries is None else told.retries
    headers["x-should-retry"] = "true" if retries else "false"
    if told.status == 401:
        headers["www-authenticate"] = "Bearer"
    error = {"message": message, "type": told.type, "param": param, "code": told.code, "gearshift": more}
    return Failure(status=told.status, error=error, headers=headers)
