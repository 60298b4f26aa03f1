"""How upstream calls fail, and the one table of what follows.

Rules: adapters raise `ProviderFailure` and nothing else; the text of a failure is ours, never the provider's. The table
is complete over `FailureKind` (a test checks it); what an attempt was billed is the only other question asked of a kind
(transcript.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from gearshift.core.words import FailureKind


class ProviderFailure(Exception):
    """Raised by an adapter when an upstream call failed.

    Args:
        kind: how it failed.
        detail: a sentence of ours, which may be shown to the caller.
        retry_after_s: how long the provider asks to wait; None when it does not say.
        status: the HTTP status, where there was one.
        sent: the request may have reached the provider, so that it may bill for it.

    """

    def __init__(
        self,
        kind: FailureKind,
        detail: str,
        *,
        retry_after_s: float | None = None,
        status: int | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(f"{kind.word}: {detail}")
        self.kind = kind
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.status = status
        self.sent = sent


class BreakerCount(Enum):
    """What a failure means to the breaker of its account and model."""

    FAULT = "fault"
    """It counts towards opening."""
    AUTHENTICATION = "authentication"
    """Kept apart: it opens at once and stays open for long, since a wrong key does not heal."""
    LIMITED = "limited"
    """It counts only in a row: a provider that answers nobody any more is left alone for a while, one that answers some calls
    and refuses others is at its limit and well."""
    NONE = "none"
    """It says nothing about the provider's health; a half-open probe that ends so has not failed."""


class After(Enum):
    """What may be tried after a failure, besides a retry."""

    NEXT_STAGE = "next_stage"
    STOP = "stop"
    """The request itself is at fault: no other stage would take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRule:
    """What follows from one kind of failure.

    `retry_here`: whether the same stage may be asked again, within its declared retries. `same_account`: whether that
    retry may go to the account that failed. `told` is the sentence that the caller reads.
    """

    retry_here: bool
    same_account: bool
    then: After
    breaker: BreakerCount
    told: str


def _rule(
    told: str,
    *,
    retry: bool = False,
    same_account: bool = True,
    then: After = After.NEXT_STAGE,
    breaker: BreakerCount = BreakerCount.FAULT,
) -> FailureRule:
    return FailureRule(retry_here=retry, same_account=same_account, then=then, breaker=breaker, told=told)


FAILURE_RULES: Mapping[FailureKind, FailureRule] = MappingProxyType(
    {
        FailureKind.RATE_LIMIT: _rule(
            "the provider's rate limit was reached", retry=True, same_account=True, breaker=BreakerCount.LIMITED
        ),
        FailureKind.OVERLOAD: _rule("the provider is overloaded", retry=True),
        FailureKind.SERVER: _rule("the provider had an internal fault", retry=True),
        FailureKind.CONNECT_TIMEOUT: _rule("the provider could not be reached in time", retry=True),
        FailureKind.FIRST_TOKEN_TIMEOUT: _rule("the provider gave no first token in time"),
        FailureKind.IDLE_TIMEOUT: _rule("the provider stopped sending"),
        FailureKind.TOTAL_TIMEOUT: _rule("the provider did not finish in time"),
        FailureKind.CONNECTION: _rule("the connection to the provider failed", retry=True),
        FailureKind.AUTHENTICATION: _rule(
            "the provider refused the configured key",
            retry=True,
            same_account=False,
            breaker=BreakerCount.AUTHENTICATION,
        ),
        FailureKind.BILLING: _rule(
            "the account with the provider has no credit left",
            retry=True,
            same_account=False,
            breaker=BreakerCount.AUTHENTICATION,
        ),
        FailureKind.MODEL_NOT_FOUND: _rule(
            "the provider does not know the model",
            retry=True,
            same_account=False,
            breaker=BreakerCount.AUTHENTICATION,
        ),
        FailureKind.CONTEXT_LENGTH: _rule("the request does not fit the model's context", breaker=BreakerCount.NONE),
        FailureKind.OVERRUN: _rule("a limit of this service ended the stream", breaker=BreakerCount.NONE),
        FailureKind.CONTENT_REFUSED: _rule("the provider refused the content", breaker=BreakerCount.NONE),
        FailureKind.MALFORMED: _rule("the provider's answer could not be read", retry=True),
        FailureKind.EMPTY: _rule("the provider's answer was empty", retry=True),
        # Another provider may take what this one calls invalid (its schema dialect, a parameter), so the chain goes on.
        FailureKind.INVALID_REQUEST: _rule("the provider called the request invalid", breaker=BreakerCount.NONE),
    }
)
