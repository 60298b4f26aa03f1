"""What goes wrong in a call, as a caller sees it.

Rules: one class for every failed call; branch on `code` and `reason`, never on a text. Nothing here imports grpc, and
cancellation of the caller's own scope is not an error: it stays what it is.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from gearshift.v1 import answer_pb2


class Code(enum.Enum):
    """How a call ended; numbers and meanings are gRPC's (https://grpc.io/docs/guides/status-codes/)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class Violation:
    """A field that the server refused, and why."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """A limit that was spent: whose, and which."""

    subject: str
    description: str


@dataclass(frozen=True, slots=True)
class Detail:
    """One detail of a status as it came: the full name of its message type, and its bytes."""

    type_name: str
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusDetails:
    """The `google.rpc` details of a status, decoded; what was not sent is empty."""

    reason: str = ""
    domain: str = ""
    info: Mapping[str, str] = field(default_factory=dict[str, str])
    retry_after: float = 0.0
    violations: tuple[Violation, ...] = ()
    quota: tuple[QuotaViolation, ...] = ()
    attempts: tuple[answer_pb2.Attempt, ...] = ()
    details: tuple[Detail, ...] = ()


class RpcError(Exception):
    """Raised when a call failed, wherever it failed.

    `reason` is one stable word (ErrorInfo), such as "PROMPT_NOT_CACHED", empty when the server gave none.
    `retry_after` is the seconds to wait before another try (RetryInfo), 0.0 when the server named none.
    `violations` are the refused fields, `quota` the spent limits, `attempts` the upstream calls that were made,
    `info` the further facts of ErrorInfo, `details` everything as it came.
    """

    def __init__(self, code: Code, message: str, details: StatusDetails | None = None) -> None:
        details = details or StatusDetails()
        super().__init__(code, message, details)
        self.code = code
        self.message = message
        self.reason = details.reason
        self.domain = details.domain
        self.info = details.info
        self.retry_after = details.retry_after
        self.violations = details.violations
        self.quota = details.quota
        self.attempts = details.attempts
        self.details = details.details

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.code.name}{reason}: {self.message}"


class StreamProtocolError(Exception):
    """Raised when the events of a stream break the contract, so that its text cannot be trusted.

    `rule` is one stable word for what was broken, such as "number_not_rising"; tests/conformance/README.md has them all.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule, message)
        self.rule = rule
        self.message = message

    def __str__(self) -> str:
        return self.message
