"""Cases of failed calls: a status with its details as bytes, and what a client must make of it.

Rules: the statuses are those of the service's own table, and some that no service should send.
"""

from __future__ import annotations

import base64
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2, wrappers_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from gearshift.core import errors
from gearshift.core.answer import AttemptRecord, Completion
from gearshift.core.words import AttemptOutcome, Outcome
from gearshift.server.status import INTERNAL, Status, status_of
from gearshift.v1 import answer_pb2
from tests.conformance.format import Json
from tests.support.ledger_rows import attempt


def refused(
    name: str,
    about: str,
    status: Status,
    *,
    retry_after: float = 0.0,
    attempts: int = 0,
    violations: tuple[tuple[str, str], ...] = (),
    quota: tuple[tuple[str, str], ...] = (),
    reason: str = "",
    domain: str = "gearshift",
    info: dict[str, str] | None = None,
) -> Json:
    """Give one case; what is expected is written by hand, not read from the status."""
    raw = next((value for key, value in status.metadata if key == "grpc-status-details-bin"), b"")
    assert isinstance(raw, bytes)
    return {
        "name": name,
        "about": about,
        "status": {
            "code": status.code.name,
            "message": status.message,
            "detailsBin": base64.b64encode(raw).decode(),
        },
        "expected": {
            "code": status.code.name,
            "message": status.message,
            "reason": reason,
            "domain": domain if reason else "",
            "info": info or {},
            "retryAfter": retry_after,
            "violations": [{"field": field, "description": description} for field, description in violations],
            "quota": [{"subject": subject, "description": description} for subject, description in quota],
            "attempts": attempts,
        },
    }


def exhausted() -> Json:
    """Give the end of a chain whose stages all failed."""
    message = "every stage failed: cheap/small (connection), strong/large (overload)"
    failed = errors.ChainExhaustedError(
        message,
        attempts=(),
        completion=Completion(outcome=Outcome.FAILED, attempts=(_attempt(1), _attempt(2))),
        retry_after_s=2.25,
    )
    return refused(
        "every stage failed",
        "The attempts are details; waiting may help.",
        status_of(failed),
        reason="CHAIN_EXHAUSTED",
        retry_after=2.25,
        attempts=2,
    )


def not_accepted() -> Json:
    """Give the end of a call that required a valid answer."""
    completion = Completion(outcome=Outcome.NOT_ACCEPTED, attempts=(_attempt(1),))
    return refused(
        "nothing acceptable",
        "Under require_valid; no time to wait is named, since waiting does not help.",
        status_of(errors.NotAcceptedError("no answer passed its gates", completion=completion)),
        reason="NOT_ACCEPTED",
        attempts=1,
    )


def out_of_time() -> Json:
    """Give the end of a call whose deadline passed."""
    return refused(
        "out of time",
        "The service's own word for a deadline; gRPC's own has no details.",
        status_of(errors.DeadlineError("the deadline has passed")),
        reason="DEADLINE",
    )


def error_cases() -> list[Json]:
    """Give every case."""
    return [*_of_the_service(), *_of_others()]


def _of_the_service() -> list[Json]:
    two = errors.InvalidRequestError(
        [
            errors.FieldViolation(field="call.task.id", description="is required"),
            errors.FieldViolation(field="call.parameters.temperature", description="is 0 to 2, not 3"),
        ]
    )
    limit = errors.RateLimitedError(
        "tenant acme has spent its requests", retry_after_s=0.05, limit="requests of tenant acme"
    )
    return [
        refused(
            "two wrong fields",
            "Each field is named.",
            status_of(two),
            reason="INVALID_REQUEST",
            violations=(("call.task.id", "is required"), ("call.parameters.temperature", "is 0 to 2, not 3")),
        ),
        refused(
            "a spent limit",
            "Which limit, and the seconds to wait, which may be a fraction.",
            status_of(limit),
            reason="RATE_LIMITED",
            retry_after=0.05,
            quota=(("requests of tenant acme", "tenant acme has spent its requests"),),
        ),
        exhausted(),
        not_accepted(),
        out_of_time(),
        refused(
            "an unknown task",
            "Under tasks.strict.",
            status_of(errors.UnknownTaskError("task 'emial-triage' is not declared; did you mean 'email-triage'?")),
            reason="UNKNOWN_TASK",
        ),
        refused(
            "a forgotten prompt",
            "The client sends the text again by itself.",
            status_of(errors.PromptNotCachedError("the prompt key is not known; send the text")),
            reason="PROMPT_NOT_CACHED",
        ),
        refused(
            "no stage may serve",
            "It has the code of a forgotten prompt and another reason: branch on both.",
            status_of(errors.NoStageError("no stage of chain default may serve this call")),
            reason="NO_STAGE",
        ),
        refused(
            "no key",
            "The key is missing or unknown.",
            status_of(errors.AccessError("a key is needed: authorization: Bearer …")),
            reason="UNAUTHENTICATED",
        ),
        refused(
            "a key that may not",
            "The message is UTF-8, which gRPC sends percent-encoded.",
            status_of(errors.ForbiddenError("the key “büro” may not use task \U0001f680")),
            reason="FORBIDDEN",
        ),
        refused(
            "the ledger is away",
            "The code of an exhausted chain, another reason.",
            status_of(errors.LedgerError("the ledger cannot be written")),
            reason="LEDGER",
        ),
        refused("a fault of ours", "INTERNAL has no details.", INTERNAL),
    ]


def _of_others() -> list[Json]:
    info = error_details_pb2.ErrorInfo(reason="QUOTA", domain="proxy.example.com", metadata={"zone": "eu", "n": "1"})
    waits = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=3600))
    negative = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=-5))
    nanos = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=1))
    unavailable, exhausted_code = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED
    broken = any_pb2.Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff\xff")
    cut_info = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\x0a\xff")
    completion = answer_pb2.Completion(attempts=[answer_pb2.Attempt(number=1), answer_pb2.Attempt(number=2)])
    return [
        refused(
            "a status without details",
            "Of gRPC itself, or of a proxy: nothing is known but the code.",
            Status(code=unavailable, message="connection refused", metadata=()),
        ),
        refused(
            "an empty status",
            "No code is too rare, and a message may be empty.",
            Status(code=grpc.StatusCode.DATA_LOSS, message="", metadata=()),
        ),
        refused(
            "details of somebody else",
            "Reason and domain are told as they came, with their further facts.",
            _status(exhausted_code, info, waits),
            reason="QUOTA",
            domain="proxy.example.com",
            info={"zone": "eu", "n": "1"},
            retry_after=3600.0,
        ),
        refused(
            "details of an unknown type",
            "They are passed over, and what is known is read all the same.",
            _status(
                unavailable,
                wrappers_pb2.StringValue(value="hello"),
                any_pb2.Any(type_url="type.example.com/none.such.Type", value=b"\x01\x02"),
                error_details_pb2.ErrorInfo(reason="LEDGER", domain="gearshift"),
            ),
            reason="LEDGER",
        ),
        refused(
            "a detail that cannot be read",
            "It is passed over; the others count.",
            _status(unavailable, broken, error_details_pb2.ErrorInfo(reason="LEDGER", domain="gearshift"), cut_info),
            reason="LEDGER",
        ),
        refused(
            "details that are no status",
            "Bytes that cannot be read are no details.",
            Status(code=unavailable, message="m", metadata=(("grpc-status-details-bin", b"\xff\xff\xff"),)),
        ),
        refused("a wait below zero", "It is no wait.", _status(unavailable, negative)),
        refused("a wait of a nanosecond", "It is a wait.", _status(unavailable, nanos), retry_after=1e-9),
        refused(
            "a whole completion as a detail",
            "Its attempts count.",
            _status(
                grpc.StatusCode.ABORTED,
                error_details_pb2.ErrorInfo(reason="NOT_ACCEPTED", domain="gearshift"),
                completion,
            ),
            reason="NOT_ACCEPTED",
            attempts=2,
        ),
    ]


def _status(code: grpc.StatusCode, *details: Any, message: str = "it failed") -> Status:
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        if isinstance(detail, any_pb2.Any):
            status.details.append(detail)
            continue
        assert isinstance(detail, Message)
        packed = any_pb2.Any()
        packed.Pack(detail, deterministic=True)
        status.details.append(packed)
    raw: bytes = status.SerializeToString(deterministic=True)
    return Status(code=code, message=message, metadata=(("grpc-status-details-bin", raw),))


def _attempt(number: int) -> AttemptRecord:
    return attempt(number, position=number - 1, outcome=AttemptOutcome.FAILED)
