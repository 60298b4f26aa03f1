"""Enumerations that are numbers on the wire and words everywhere else.

Rule: each number is the one of the enum of the same name in protos/gearshift/v1 (a test compares them), so that
translation is the identity; `word` is the spelling in configuration, metrics, ledger and logs.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class WordEnum(IntEnum):
    """An enumeration whose members have a lower-case word."""

    word: str

    def __new__(cls, value: int) -> Self:
        """Make the member; its word is filled in below, once its name is known."""
        member = int.__new__(cls, value)
        member._value_ = value
        return member

    def __init__(self, _value: int) -> None:
        self.word = self._name_.lower()

    @classmethod
    def from_word(cls, word: str) -> Self:
        """Give the member with this word.

        Raises:
            KeyError: there is none.

        """
        return cls[word.upper()]


class TaskType(WordEnum):
    """What kind of work a task is."""

    CLASSIFY = 1
    EXTRACT = 2
    GENERATE = 3
    REASON = 4
    EMBED = 5


class Complexity(WordEnum):
    """The capability that a model must have, or has."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3


class Sensitivity(WordEnum):
    """The clearance that a provider must have, or has."""

    PUBLIC = 1
    INTERNAL = 2
    RESTRICTED = 3


class Source(WordEnum):
    """Where one axis of a resolved task came from."""

    CALLER = 1
    DECLARATION = 2
    OUTPUT = 3
    CLASSIFIER = 4
    DEFAULT = 5
    TENANT = 6


class Role(WordEnum):
    """Who wrote a message."""

    USER = 1
    ASSISTANT = 2
    TOOL = 3


class ToolMode(WordEnum):
    """How tools are chosen."""

    AUTO = 1
    NONE = 2
    REQUIRED = 3
    NAMED = 4


class ReasoningEffort(WordEnum):
    """How much a model may think before it answers."""

    NONE = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4


class SwitchMode(WordEnum):
    """How a stream goes on after its attempt broke or was found poor."""

    REGENERATE = 1
    CONTINUE = 2
    FAIL = 3
    RESTORE = 4


class AttemptRole(WordEnum):
    """What an attempt is for."""

    ANSWER = 1
    CHECK = 2


class AttemptCause(WordEnum):
    """Why an attempt was made."""

    FIRST = 1
    RETRY = 2
    FALLBACK = 3
    ESCALATION = 4
    SECOND_LOOK = 5


class AttemptOutcome(WordEnum):
    """How an attempt ended."""

    ACCEPTED = 1
    POOR = 2
    FAILED = 3
    CANCELLED = 4
    STOPPED = 5


class FailureKind(WordEnum):
    """How an upstream call failed; failures.py says what follows from each."""

    RATE_LIMIT = 1
    OVERLOAD = 2
    SERVER = 3
    CONNECT_TIMEOUT = 4
    FIRST_TOKEN_TIMEOUT = 5
    IDLE_TIMEOUT = 6
    TOTAL_TIMEOUT = 7
    CONNECTION = 8
    AUTHENTICATION = 9
    CONTEXT_LENGTH = 10
    CONTENT_REFUSED = 11
    MALFORMED = 12
    EMPTY = 13
    INVALID_REQUEST = 14
    BILLING = 15
    MODEL_NOT_FOUND = 16
    OVERRUN = 17


class UsageSource(WordEnum):
    """How far a token count can be trusted; a greater number is less."""

    REPORTED = 1
    COUNTED = 2
    ESTIMATED = 3


class VerdictResult(WordEnum):
    """What a gate found."""

    PASS = 1
    FAIL = 2
    LOW = 3
    UNSURE = 4
    UNMEASURED = 5
    NOTED = 6


class Outcome(WordEnum):
    """How a call ended."""

    ACCEPTED = 1
    NOT_ACCEPTED = 2
    FAILED = 3


class FinishReason(WordEnum):
    """Why the model stopped."""

    STOP = 1
    LENGTH = 2
    TOOL_CALLS = 3
    CONTENT_FILTER = 4


class CheckpointPolicy(WordEnum):
    """Whether checkpoints come before a stream's end."""

    NONE = 1
    WINDOWS = 2


class InputType(WordEnum):
    """What an embedded text is for."""

    QUERY = 1
    DOCUMENT = 2


class Truncation(WordEnum):
    """What happens to a text that is longer than the model takes."""

    ERROR = 1
    END = 2


class BreakerState(WordEnum):
    """A breaker's state."""

    CLOSED = 1
    OPEN = 2
    HALF_OPEN = 3


class OutcomeVerdict(WordEnum):
    """The caller's word on an answer."""

    ACCEPTED = 1
    CORRECTED = 2
    REJECTED = 3


class CostGroup(WordEnum):
    """What a cost report is grouped by."""

    TASK = 1
    MODEL = 2
    TENANT = 3
    POSITION = 4
    DAY = 5
    TASK_TYPE = 6
    PROVIDER = 7
    ACCOUNT = 8
    CHAIN = 9
    OUTCOME = 10
    USAGE_SOURCE = 11
    REASON = 12
    HOUR = 13
