"""The exit codes of the command line, and which end of a call has which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gearshift.clients.errors import RpcError
    from gearshift.v1 import answer_pb2

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NO_CONNECTION: Final = 3
NOT_ACCEPTED: Final = 4
LIMIT: Final = 5
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

TABLE: Final = """\
exit codes:
  0    done
  1    the call failed
  2    the command line is wrong
  3    no server could be reached
  4    the answer was not accepted by its gates
  5    a limit was spent, or the deadline passed
  130  interrupted (Ctrl-C)"""


class UsageError(Exception):
    """Raised when the command line asks for what cannot be done; its text says what to do."""


def exit_code_of(error: RpcError) -> int:
    """Give the exit code of a failed call."""
    match error.code.name:
        case "RESOURCE_EXHAUSTED" | "DEADLINE_EXCEEDED":
            return LIMIT
        case "ABORTED":
            return NOT_ACCEPTED
        case "UNAVAILABLE" if not error.reason and not error.details:
            return NO_CONNECTION  # the server explains itself; grpc does not
        case _:
            return FAILED


def exit_code_for(outcome: answer_pb2.Outcome.ValueType) -> int:
    """Give the exit code of an answer."""
    from gearshift.v1 import answer_pb2

    if outcome == answer_pb2.OUTCOME_NOT_ACCEPTED:
        return NOT_ACCEPTED
    return FAILED if outcome == answer_pb2.OUTCOME_FAILED else OK
