"""The core's errors as gRPC statuses, in one table.

Rules: every class of core/errors.py has its row (a test checks it); details are google.rpc messages, under 4 KiB; what
is not in the table is INTERNAL without its text. Client retries are told off where they would multiply a storm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from gearshift.core import errors

DOMAIN = "gearshift"
_PUSHBACK = "grpc-retry-pushback-ms"
_DETAILS = "grpc-status-details-bin"
_MOST_BYTES = 4096
_LONGEST_MESSAGE = 1024
_MOST_VIOLATIONS = 16

CODES: Mapping[type[errors.RouteError], grpc.StatusCode] = {
    errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownTaskError: grpc.StatusCode.NOT_FOUND,
    errors.PromptNotCachedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoStageError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RateLimitedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ChainExhaustedError: grpc.StatusCode.UNAVAILABLE,
    errors.NotAcceptedError: grpc.StatusCode.ABORTED,
    errors.DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.AccessError: grpc.StatusCode.UNAUTHENTICATED,
    errors.ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    errors.LedgerError: grpc.StatusCode.UNAVAILABLE,
    errors.ConfigError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.EmbeddedModelError: grpc.StatusCode.UNAVAILABLE,
    errors.RouteError: grpc.StatusCode.UNKNOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a failed call ends with."""

    code: grpc.StatusCode
    message: str
    metadata: tuple[tuple[str, str | bytes], ...]


INTERNAL = Status(
    code=grpc.StatusCode.INTERNAL, message="an internal fault; the service's log has the whole of it", metadata=()
)
DEADLINE = Status(code=grpc.StatusCode.DEADLINE_EXCEEDED, message="the deadline has passed", metadata=())


def status_of(error: errors.RouteError) -> Status:
    """Give the status that tells an error."""
    code = CODES.get(type(error), grpc.StatusCode.UNKNOWN)
    message = error.message if len(error.message) <= _LONGEST_MESSAGE else error.message[:_LONGEST_MESSAGE] + "…"
    details = _details(error)
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        if status.ByteSize() + packed.ByteSize() > _MOST_BYTES:
            break
        status.details.append(packed)
    metadata: list[tuple[str, str | bytes]] = [
        (key, value)
        for key, value in rpc_status.to_status(status).trailing_metadata or ()
        if key == _DETAILS
    ]
    pushback = _pushback(error)
    if pushback is not None:
        metadata.append((_PUSHBACK, str(pushback)))
    return Status(code=code, message=message, metadata=tuple(metadata))


def _details(error: errors.RouteError) -> list[Message]:
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if isinstance(error, errors.InvalidRequestError):
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=violation.field[:200], description=violation.description[:400]
                    )
                    for violation in error.violations[:_MOST_VIOLATIONS]
                ]
            )
        )
    wait = _wait(error)
    if wait is not None:
        delay = duration_pb2.Duration()
        delay.FromMicroseconds(round(wait * 1e6))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(error, errors.RateLimitedError):
        violation = error_details_pb2.QuotaFailure.Violation(subject=error.limit[:200], description=error.message[:400])
        details.append(error_details_pb2.QuotaFailure(violations=[violation]))
    return details


def _wait(error: errors.RouteError) -> float | None:
    """Give the seconds that a caller should wait, or None."""
    if isinstance(error, errors.RateLimitedError | errors.ChainExhaustedError):
        return error.retry_after_s
    return None


def _pushback(error: errors.RouteError) -> int | None:
    """Give what a client's own retry policy is told: milliseconds to wait, or -1 for no retry."""
    wait = _wait(error)
    if wait is not None:
        return max(1, round(wait * 1000))
    return -1 if isinstance(error, errors.RateLimitedError | errors.ChainExhaustedError | errors.NotAcceptedError) else None
