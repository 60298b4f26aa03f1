"""The usual answer as the bytes of its message.

Rules: most answers came from one attempt that was accepted, with nothing to tell beside it. What such answers have in
common (stage, verdicts, outcome) is kept as bytes, and what differs (text, tokens, cost, times) is written between: a
message is the bytes of its fields, one after the other, in any order (https://protobuf.dev/programming-guides/encoding/).
Set field by field, it takes twice as long. Any other answer goes by `wire.py`, and a test holds both ways against each
other. The numbers of the fields are the contract's; none is written here.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from struct import Struct
from typing import Final, Generic, TypeVar

from google.protobuf.descriptor import Descriptor

from gearshift.core.answer import Answer, StageRef, Usage, Verdict
from gearshift.core.request import Resolution
from gearshift.core.words import AttemptCause, AttemptOutcome, AttemptRole, FinishReason, Outcome
from gearshift.server.wire import (
    answer_to_wire,
    money,
    resolution_to_wire,
    stage_to_wire,
    usage_to_wire,
    verdict_to_wire,
)
from gearshift.v1 import answer_pb2, router_pb2

V = TypeVar("V")

_MOST_KEPT = 256
_COUNTS: Final = range(2**31)
"""Counts of tokens that are written here; a provider may report anything."""


def route_response(answer: Answer) -> bytes:
    """Give the serialised RouteResponse of an answer."""
    data = usual_answer(answer)
    if data is None:
        data = answer_to_wire(answer).SerializeToString()
    return _ANSWER + _size(len(data)) + data


def usual_answer(answer: Answer) -> bytes | None:
    """Give the serialised Answer, or None where it has not the usual form."""
    completion = answer.completion
    attempts, served, usage, cost = completion.attempts, completion.served_by, completion.usage_served, completion.cost
    if len(attempts) != 1 or served is None:
        return None
    attempt = attempts[0]
    if (
        answer.tool_calls
        or answer.reasoning
        # What is measured (a confidence, an unusual verdict) differs from call to call, and is not worth keeping.
        or completion.confidence is not None
        or completion.verdicts is not attempt.verdicts
        or attempt.stage is not served
        or attempt.usage is not usage
        or completion.usage_total is not usage
        or attempt.cost_usd is not cost.total_usd
        or attempt.failure is not None
        or attempt.detail
        or completion.skipped
        or completion.notes
        or completion.cached
        or completion.label_probabilities
        or completion.provider_state is not None
        or cost.saved_usd is not None
    ):
        return None
    in_answer, in_attempt, in_cost = _IN_COMMON.of(
        served,
        completion.verdicts,
        completion.outcome,
        completion.finish_reason,
        cost.strongest_model,
        attempt.number,
        attempt.account,
        attempt.role,
        attempt.cause,
        attempt.outcome,
    )
    used, total = _used(usage), _usd(cost.total_usd)
    course = b"".join(
        (
            in_attempt,
            _ATTEMPT_USAGE,
            used,
            _ATTEMPT_COST_USD,
            total,
            _ATTEMPT_TIMES.pack(_QUEUE_MS, attempt.queue_ms, _ATTEMPT_TOTAL_MS, attempt.total_ms),
            b"" if attempt.first_token_ms is None else _TIME.pack(_FIRST_TOKEN_MS, attempt.first_token_ms),
        )
    )
    costs = b"".join(
        (
            in_cost,
            _TOTAL_USD,
            total,
            _SERVED_USD,
            # One attempt, served: both are one sum, and the strongest's where that has served.
            total if cost.served_usd is cost.total_usd else _usd(cost.served_usd),
            _STRONGEST_USD,
            total if cost.strongest_usd is cost.total_usd else _usd(cost.strongest_usd),
        )
    )
    ended = b"".join(
        (
            in_answer,
            _ATTEMPTS,
            _size(len(course)),
            course,
            _USAGE_SERVED,
            used,
            _USAGE_TOTAL,
            used,
            _COST,
            _size(len(costs)),
            costs,
            _DIGEST,
            _text(completion.digest),
            _PROMPT_KEY,
            _text(completion.prompt_key),
            _TIME.pack(_TOTAL_MS, completion.total_ms),
        )
    )
    return b"".join(
        (
            _REQUEST_ID,
            _text(answer.request_id),
            _TEXT,
            _text(answer.text),
            _RESOLUTIONS.of(answer.resolution),
            _COMPLETION,
            _size(len(ended)),
            ended,
        )
    )


def _used(usage: Usage) -> bytes:
    """Give a usage's message, its size before it."""
    taken, given = usage.input_tokens, usage.output_tokens
    if (
        usage.cache_write_tokens
        or usage.cache_read_tokens
        or usage.reasoning_tokens
        or taken not in _COUNTS
        or given not in _COUNTS
    ):
        data = usage_to_wire(usage).SerializeToString()
        return _VARINTS[len(data)] + data  # six numbers take 66 bytes at most
    data = b"".join((_INPUT_TOKENS, _size(taken), _OUTPUT_TOKENS, _size(given), _SOURCE, _VARINTS[usage.source]))
    return _VARINTS[len(data)] + data


def _usd(amount: Decimal | None) -> bytes:
    return _text(money(amount))


def _text(value: str) -> bytes:
    data = value.encode()
    size = len(data)
    return (_VARINTS[size] if size < _KNOWN else _size(size)) + data


def _size(number: int) -> bytes:
    """Give a number, 0 or more, as a varint: seven bits a byte, the lowest first."""
    if number < _KNOWN:
        return _VARINTS[number]
    return bytes((number & 0x7F | 0x80,)) + _size(number >> 7)


_KNOWN: Final = 2048
_VARINTS: Final = [bytes((n,)) if n < 0x80 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(_KNOWN)]


def _in_common(
    stage: StageRef,
    verdicts: tuple[Verdict, ...],
    outcome: Outcome,
    finish_reason: FinishReason | None,
    strongest_model: str,
    number: int,
    account: str,
    role: AttemptRole,
    cause: AttemptCause,
    attempt_outcome: AttemptOutcome,
) -> tuple[bytes, bytes, bytes]:
    """Give what such answers have in common: in the completion, in its attempt, in its cost."""
    served, said = stage_to_wire(stage), [verdict_to_wire(verdict) for verdict in verdicts]
    completion = answer_pb2.Completion(
        outcome=answer_pb2.Outcome.ValueType(outcome),
        served_by=served,
        finish_reason=answer_pb2.FinishReason.ValueType(finish_reason or 0),
        verdicts=said,
    )
    attempt = answer_pb2.Attempt(
        number=number,
        stage=served,
        account=account,
        role=answer_pb2.AttemptRole.ValueType(role),
        cause=answer_pb2.AttemptCause.ValueType(cause),
        outcome=answer_pb2.AttemptOutcome.ValueType(attempt_outcome),
        verdicts=said,
    )
    cost = answer_pb2.Cost(strongest_model=strongest_model)
    return completion.SerializeToString(), attempt.SerializeToString(), cost.SerializeToString()


def _resolution(resolution: Resolution) -> bytes:
    """Give the answer's field of a resolution."""
    return answer_pb2.Answer(resolution=resolution_to_wire(resolution)).SerializeToString()


class _Kept(Generic[V]):
    """What follows from values that come with call after call as the same objects.

    Args:
        make: gives it.
    """

    def __init__(self, make: Callable[..., V]) -> None:
        self._make = make
        self._kept: dict[tuple[int, ...], tuple[tuple[object, ...], V]] = {}
        """By the values' identities; an entry keeps its values alive, so that no others can have theirs."""

    def of(self, *values: object) -> V:
        """Give what follows from these values."""
        key = tuple(map(id, values))
        known = self._kept.get(key)
        if known is not None:
            return known[1]
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        made = self._make(*values)
        self._kept[key] = (values, made)
        return made


_IN_COMMON: _Kept[tuple[bytes, bytes, bytes]] = _Kept(_in_common)
_RESOLUTIONS: _Kept[bytes] = _Kept(_resolution)


def _tag(message: Descriptor, field: str) -> bytes:
    """Give what stands before a field's value: its number, and how the value is written."""
    described = message.fields_by_name[field]
    counts = (described.TYPE_INT64, described.TYPE_ENUM)
    written = 1 if described.type == described.TYPE_DOUBLE else 0 if described.type in counts else 2
    return _size(described.number << 3 | written)


_RESPONSE, _OF_ANSWER = router_pb2.RouteResponse.DESCRIPTOR, answer_pb2.Answer.DESCRIPTOR
_OF_COMPLETION, _OF_ATTEMPT = answer_pb2.Completion.DESCRIPTOR, answer_pb2.Attempt.DESCRIPTOR
_OF_USAGE, _OF_COST = answer_pb2.Usage.DESCRIPTOR, answer_pb2.Cost.DESCRIPTOR

_ANSWER: Final = _tag(_RESPONSE, "answer")
_REQUEST_ID: Final = _tag(_OF_ANSWER, "request_id")
_TEXT: Final = _tag(_OF_ANSWER, "text")
_COMPLETION: Final = _tag(_OF_ANSWER, "completion")
_ATTEMPTS: Final = _tag(_OF_COMPLETION, "attempts")
_USAGE_SERVED: Final = _tag(_OF_COMPLETION, "usage_served")
_USAGE_TOTAL: Final = _tag(_OF_COMPLETION, "usage_total")
_COST: Final = _tag(_OF_COMPLETION, "cost")
_DIGEST: Final = _tag(_OF_COMPLETION, "digest")
_PROMPT_KEY: Final = _tag(_OF_COMPLETION, "prompt_key")
_TOTAL_MS: Final = _tag(_OF_COMPLETION, "total_ms")
_ATTEMPT_USAGE: Final = _tag(_OF_ATTEMPT, "usage")
_ATTEMPT_COST_USD: Final = _tag(_OF_ATTEMPT, "cost_usd")
_QUEUE_MS: Final = _tag(_OF_ATTEMPT, "queue_ms")
_FIRST_TOKEN_MS: Final = _tag(_OF_ATTEMPT, "first_token_ms")
_ATTEMPT_TOTAL_MS: Final = _tag(_OF_ATTEMPT, "total_ms")
_INPUT_TOKENS: Final = _tag(_OF_USAGE, "input_tokens")
_OUTPUT_TOKENS: Final = _tag(_OF_USAGE, "output_tokens")
_SOURCE: Final = _tag(_OF_USAGE, "source")
_TOTAL_USD: Final = _tag(_OF_COST, "total_usd")
_SERVED_USD: Final = _tag(_OF_COST, "served_usd")
_STRONGEST_USD: Final = _tag(_OF_COST, "strongest_usd")

# Times of the numbers up to 15 have a tag of one byte.
_TIME: Final = Struct("<sd")
_ATTEMPT_TIMES: Final = Struct("<sdsd")
