"""The core's errors as gRPC statuses, in one table.

Rules: every class of core/errors.py has its row (a test checks it); details are google.rpc messages and the attempts, under
4 KiB; what is not in the table is INTERNAL without its text. A client refuses metadata above 8 KiB, and with it the code, so text is
cut by its length on the wire. Client retries are told off where they would multiply a storm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from gearshift.core import errors
from gearshift.server.wire import attempt_to_wire

# What gRPC leaves as it is in a status message (everything printable but the percent sign).
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
DOMAIN = "gearshift"
_PUSHBACK = "grpc-retry-pushback-ms"
_DETAILS = "grpc-status-details-bin"
_MOST_BYTES = 4096
_LONGEST_MESSAGE = 1024
_LONGEST_FIELD = 200
_LONGEST_DESCRIPTION = 400
_MOST_VIOLATIONS = 16
_MOST_VIOLATION_BYTES = 2560
_LONGEST_WAIT_S = 86_400.0

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
    errors.CacheStoreError: grpc.StatusCode.UNAVAILABLE,
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


def status_of(error: errors.RouteError) -> Status:
    """Give the status that tells an error."""
    code = CODES.get(type(error), grpc.StatusCode.UNKNOWN)
    message = cut(error.message, _LONGEST_MESSAGE)
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in _details(error):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
        if status.ByteSize() > _MOST_BYTES:
            del status.details[-1]
    metadata: list[tuple[str, str | bytes]] = [(_DETAILS, status.SerializeToString())]
    pushback = _pushback(error)
    if pushback is not None:
        metadata.append((_PUSHBACK, str(pushback)))
    return Status(code=code, message=message, metadata=tuple(metadata))


def cut(text: str, most: int) -> str:
    """Give the text, cut so that it takes at most `most` bytes on the wire, where what is not ASCII takes three times its own."""
    if len(quote(text, safe=_PLAIN)) <= most:
        return text
    size, kept = 9, 0  # of the ellipsis
    for character in text:
        size += len(quote(character, safe=_PLAIN))
        if size > most:
            break
        kept += 1
    return text[:kept] + "…"


def lone(error: BaseException) -> BaseException:
    """Give the one error that task groups wrapped, or the error itself."""
    inner = error
    while isinstance(inner, BaseExceptionGroup):
        held = cast("BaseExceptionGroup[BaseException]", inner).exceptions
        if len(held) != 1:
            return error
        inner = held[0]
    return inner


def _details(error: errors.RouteError) -> list[Message]:
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if isinstance(error, errors.InvalidRequestError):
        details.append(_bad_request(error))
    wait = _wait(error)
    if wait is not None:
        delay = duration_pb2.Duration()
        delay.FromMicroseconds(round(wait * 1e6))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(error, errors.RateLimitedError):
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=cut(error.limit, _LONGEST_FIELD), description=cut(error.message, _LONGEST_DESCRIPTION)
        )
        details.append(error_details_pb2.QuotaFailure(violations=[violation]))
    if isinstance(error, errors.ChainExhaustedError | errors.NotAcceptedError):
        # Last, since a long chain's may not all fit.
        details += [attempt_to_wire(attempt) for attempt in error.completion.attempts]
    return details


def _bad_request(error: errors.InvalidRequestError) -> Message:
    bad = error_details_pb2.BadRequest()
    for violation in error.violations[:_MOST_VIOLATIONS]:
        bad.field_violations.add(
            field=cut(violation.field, _LONGEST_FIELD), description=cut(violation.description, _LONGEST_DESCRIPTION)
        )
        if bad.ByteSize() > _MOST_VIOLATION_BYTES:
            del bad.field_violations[-1]
            break
    return cast("Message", bad)


def _wait(error: errors.RouteError) -> float | None:
    """Give the seconds that a caller should wait, or None."""
    if isinstance(error, errors.RateLimitedError | errors.ChainExhaustedError):
        wait = error.retry_after_s
        return None if wait is None else min(wait, _LONGEST_WAIT_S)
    return None


def _pushback(error: errors.RouteError) -> int | None:
    """Give what a client's own retry policy is told: milliseconds to wait, or -1 for no retry."""
    wait = _wait(error)
    if wait is not None:
        return max(1, round(wait * 1000))
    return (
        -1
        if isinstance(error, errors.RateLimitedError | errors.ChainExhaustedError | errors.NotAcceptedError)
        else None
    )


DEADLINE = status_of(errors.DeadlineError("the deadline has passed"))
