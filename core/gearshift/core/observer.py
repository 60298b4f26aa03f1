"""Who is told what happened: ledger, metrics, log, live trail.

Rules: observers are synchronous, cheap and never raise; they see no prompt text and no keys in what they keep. An own
observer plugs in by the same protocol (entry points `gearshift.observers`).
"""

from __future__ import annotations

from msgspec import Struct

from gearshift.core.answer import AttemptRecord, Completion, StageRef
from gearshift.core.request import Resolution
from gearshift.core.tracing import Trace


class CallContext(Struct, frozen=True, kw_only=True):
    """What is the same for every attempt of a call."""

    request_id: str
    resolution: Resolution
    chain: str
    stream: bool
    revision: str
    """Of the configuration."""
    trace: Trace | None = None
    """Its place in a trace; None where calls are not traced."""
    unheld: tuple[tuple[str, str], ...] = ()
    """Whose budget was spent, so that another chain served: `tenant` or `task`, and its name."""


class Observer:
    """Told of every call; each method does nothing here, so that an observer writes only what it wants to hear."""

    def attempt_starting(self, context: CallContext, stage: StageRef, account: str) -> None:
        """Hear that a call goes upstream now; for restricted tasks this is the audit line."""

    def attempt_ended(self, context: CallContext, attempt: AttemptRecord) -> None:
        """Hear how an attempt ended."""

    def call_ended(self, context: CallContext, completion: Completion, error: str) -> None:
        """Hear how a call ended; `error` is the reason word of what was raised, or empty."""
