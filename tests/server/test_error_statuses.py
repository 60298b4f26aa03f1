"""The table of statuses: complete, decodable, small."""

from __future__ import annotations

import ast
import inspect

import grpc
import pytest

from gearshift.core import errors
from gearshift.core.answer import Completion
from gearshift.core.words import Outcome
from gearshift.server import guard
from gearshift.server.status import CODES, DEADLINE, INTERNAL, Status, cut, lone, status_of
from tests.support.running_server import Failed, decoded

COMPLETION = Completion(outcome=Outcome.FAILED)


def every_class(base: type[errors.RouteError] = errors.RouteError) -> list[type[errors.RouteError]]:
    return [base, *(found for each in base.__subclasses__() for found in every_class(each))]


def made(kind: type[errors.RouteError], message: str = "what to do") -> errors.RouteError:
    match kind:
        case errors.InvalidRequestError:
            return errors.invalid("call.prompt", message)
        case errors.RateLimitedError:
            return errors.RateLimitedError(message, retry_after_s=1.5, limit="tokens of groq/default/m")
        case errors.ChainExhaustedError:
            return errors.ChainExhaustedError(message, attempts=(), completion=COMPLETION)
        case errors.NotAcceptedError:
            return errors.NotAcceptedError(message, completion=COMPLETION)
        case errors.ConfigError:
            return errors.ConfigError([message])
        case _:
            return kind(message)


def read(status: Status) -> Failed:
    return decoded(status.code, status.message, status.metadata)


def test_every_error_of_the_core_has_a_row() -> None:
    declared = {
        node.name
        for node in ast.parse(inspect.getsource(errors)).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    }
    ours = {kind for kind in every_class() if kind.__module__ == errors.__name__}
    assert {kind.__name__ for kind in ours} == declared
    assert set(CODES) == ours


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.__name__) for kind in CODES])
def test_every_status_names_its_reason_and_says_what_was_raised(kind: type[errors.RouteError]) -> None:
    failed = read(status_of(made(kind)))
    assert failed.code is CODES[kind]
    assert failed.reason == kind.reason
    assert "what to do" in failed.message


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.__name__) for kind in CODES])
@pytest.mark.parametrize(
    "message", ["x" * 100_000, "ü" * 100_000, "漢" * 100_000, "%\n\x00\x7f" * 9_999, "😀" * 99_999]
)
def test_huge_messages_stay_small_on_the_wire(kind: type[errors.RouteError], message: str) -> None:
    status = status_of(made(kind, message))
    failed = read(status)
    assert failed.reason == kind.reason
    assert failed.details_bytes <= 4096
    escaped = sum(1 if 0x20 <= byte < 0x7F and byte != 0x25 else 3 for byte in status.message.encode())
    assert escaped <= 1024
    status.message.encode()


def test_bad_request_names_every_field() -> None:
    error = errors.InvalidRequestError(
        [
            errors.FieldViolation(field="call.task.id", description="is required"),
            errors.FieldViolation(field="call.parameters.top_p", description="must be above 0, to 1"),
        ]
    )
    assert read(status_of(error)).fields == {
        "call.task.id": "is required",
        "call.parameters.top_p": "must be above 0, to 1",
    }


def test_too_many_violations_keep_the_first() -> None:
    error = errors.InvalidRequestError(
        [errors.FieldViolation(field=f"field[{at}]." + "é" * 500, description="ü" * 900) for at in range(500)]
    )
    failed = read(status_of(error))
    assert failed.details_bytes <= 4096
    assert failed.fields
    assert next(iter(failed.fields)).startswith("field[0].")


def test_rate_limit_says_how_long_and_what() -> None:
    failed = read(status_of(made(errors.RateLimitedError)))
    assert failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failed.retry_after_s == 1.5
    assert failed.quotas == ["tokens of groq/default/m"]
    assert failed.pushback == "1500"


@pytest.mark.parametrize(
    ("wait_s", "pushback"),
    [
        pytest.param(None, "-1", id="nothing to wait for"),
        pytest.param(0.25, "250", id="a wait"),
        pytest.param(0.0, "1", id="no wait"),
        pytest.param(float("inf"), "86400000", id="nobody knows for how long"),
    ],
)
def test_exhausted_chain_pushes_client_retries_back(wait_s: float | None, pushback: str) -> None:
    error = errors.ChainExhaustedError("none left", attempts=(), completion=COMPLETION, retry_after_s=wait_s)
    failed = read(status_of(error))
    assert failed.code is grpc.StatusCode.UNAVAILABLE
    assert failed.pushback == pushback
    assert (failed.retry_after_s is None) is (wait_s is None)


@pytest.mark.parametrize("kind", [errors.InvalidRequestError, errors.NoStageError, errors.LedgerError])
def test_other_errors_leave_retries_to_the_client(kind: type[errors.RouteError]) -> None:
    assert read(status_of(made(kind))).pushback is None


def test_not_accepted_is_not_to_be_retried() -> None:
    assert read(status_of(made(errors.NotAcceptedError))).pushback == "-1"


def test_error_that_nobody_mapped_is_unknown() -> None:
    class NewError(errors.RouteError):
        reason = "NEW"

    assert read(status_of(NewError("new"))).code is grpc.StatusCode.UNKNOWN


def told(error: Exception) -> Status:
    return guard._told(error)  # pyright: ignore[reportPrivateUsage]


def test_unknown_errors_are_internal_without_their_text() -> None:
    assert told(KeyError("secret")) == INTERNAL
    assert "secret" not in INTERNAL.message


def test_timeouts_are_the_deadline() -> None:
    assert told(TimeoutError()) == DEADLINE
    assert read(DEADLINE).reason == "DEADLINE"


def test_group_of_one_is_its_error() -> None:
    error = errors.invalid("call.prompt", "is empty")
    group = ExceptionGroup("tasks", [ExceptionGroup("tasks", [error])])
    assert lone(group) is error
    assert told(group).code is grpc.StatusCode.INVALID_ARGUMENT


def test_group_of_several_is_internal() -> None:
    group = ExceptionGroup("tasks", [errors.invalid("a", "b"), KeyError("secret")])
    assert lone(group) is group
    assert told(group) == INTERNAL


def test_cut_text_ends_with_an_ellipsis_and_keeps_whole_characters() -> None:
    assert cut("short", 1024) == "short"
    assert cut("abcdefghijklmnop", 12) == "abc…"
    assert cut("漢" * 100, 30) == "漢漢…"
