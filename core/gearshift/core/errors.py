"""What a caller of the router may be told.

Rules: one tree; each class answers whether another call may help (`retryable`) and carries only text that may be shown.
A failed upstream call is not in this tree: it is a `ProviderFailure` (failures.py), which the engine turns into one of
these when no stage is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gearshift.core.answer import AttemptRecord, Completion


class RouteError(Exception):
    """Raised when a call cannot be served; the message may be shown to the caller."""

    reason: str = "ROUTE_ERROR"
    """One stable word in capitals, for programs to branch on."""
    retryable: bool = False
    """Whether the same call may succeed later."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """One field of a request that is wrong: its path, such as `call.output.json.schema`, and what to do about it."""

    field: str
    description: str


class InvalidRequestError(RouteError):
    """Raised when the caller's request is wrong; names each field."""

    reason = "INVALID_REQUEST"

    def __init__(self, violations: Sequence[FieldViolation] | FieldViolation) -> None:
        self.violations = (violations,) if isinstance(violations, FieldViolation) else tuple(violations)
        super().__init__("; ".join(f"{each.field}: {each.description}" for each in self.violations))


def invalid(field: str, description: str) -> InvalidRequestError:
    """Give the error for one wrong field."""
    return InvalidRequestError(FieldViolation(field=field, description=description))


class UnknownTaskError(RouteError):
    """Raised when the configuration serves declared tasks only and this one is not declared."""

    reason = "UNKNOWN_TASK"


class PromptNotCachedError(RouteError):
    """Raised when a prompt key is unknown or has run out; send the text again."""

    reason = "PROMPT_NOT_CACHED"


class NoStageError(RouteError):
    """Raised when no stage of the chain may serve the call: each skipped stage says why."""

    reason = "NO_STAGE"


class RateLimitedError(RouteError):
    """Raised when a limit is spent."""

    reason = "RATE_LIMITED"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float, limit: str) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.limit = limit


class ChainExhaustedError(RouteError):
    """Raised when every stage failed; holds the attempts and, when waiting may help, for how long."""

    reason = "CHAIN_EXHAUSTED"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        attempts: Sequence[AttemptRecord],
        completion: Completion,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)
        self.completion = completion
        self.retry_after_s = retry_after_s


class NotAcceptedError(RouteError):
    """Raised under `require_valid` when no answer passed its gates."""

    reason = "NOT_ACCEPTED"

    def __init__(self, message: str, *, completion: Completion) -> None:
        super().__init__(message)
        self.completion = completion


class DeadlineError(RouteError):
    """Raised when the caller's deadline has passed, or would before any stage could answer."""

    reason = "DEADLINE"
    retryable = True


class AccessError(RouteError):
    """Raised when the caller's key is missing, unknown, revoked or has run out; `cause` is one of these, in a word."""

    reason = "UNAUTHENTICATED"

    def __init__(self, message: str, *, cause: str = "unknown") -> None:
        super().__init__(message)
        self.cause = cause


class ForbiddenError(RouteError):
    """Raised when the caller's key does not allow what was asked."""

    reason = "FORBIDDEN"


class LedgerError(RouteError):
    """Raised when the ledger cannot be opened, or a call that must be recorded first could not be."""

    reason = "LEDGER"
    retryable = True


class CacheStoreError(RouteError):
    """Raised when a purge did not reach everything that it should have; purge again."""

    reason = "CACHE_STORE"
    retryable = True


class ConfigError(RouteError):
    """Raised when a configuration is wrong; one problem a line, each with its place and what to do."""

    reason = "CONFIG"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class EmbeddedModelError(RouteError):
    """Raised when the embedded model cannot be started; the message says what to do."""

    reason = "EMBEDDED_MODEL"
