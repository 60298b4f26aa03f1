"""Which trace a call belongs to, by W3C Trace Context (https://www.w3.org/TR/trace-context/).

Rules: pure but for `CURRENT`, by which the edge tells the call that runs in its context, as tracing libraries do; nothing is
decided by it. A call's spans have ids that follow from the call's own, so that the header that goes upstream and the span
that is told of afterwards agree without a table of open spans.
"""

from __future__ import annotations

import random
import re
from contextvars import ContextVar

from msgspec import Struct

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_SAMPLED = 1
TRACE_HEADERS = ("traceparent", "tracestate")
"""What a caller tells its trace by; names in lower case."""
_MOST_STATE = 512
_STATE = re.compile(r"[\x20-\x7e]*")


class Trace(Struct, frozen=True):
    """A call's place in a trace.

    Args:
        trace_id: 32 hex digits.
        parent_id: the caller's span, 16 hex digits; empty when the trace begins here.
        span: the call's own span, from 1 to 2^64 - 1.
        is_sampled: whether its spans are kept.
        state: the caller's `tracestate`, passed on as it came.
    """

    trace_id: str
    parent_id: str
    span: int
    is_sampled: bool
    state: str = ""

    def span_id(self, attempt: int = 0) -> int:
        """Give the id of the call's span, or of an attempt's, from 1."""
        return (self.span + attempt) % 2**64 or 2**63

    def head(self, attempt: int) -> bytes:
        """Give the header lines that tie an attempt's upstream call to the trace."""
        flags = int(self.is_sampled)
        line = f"traceparent: 00-{self.trace_id}-{self.span_id(attempt):016x}-{flags:02x}\r\n"
        return (f"{line}tracestate: {self.state}\r\n" if self.state else line).encode("ascii")


CURRENT: ContextVar[Trace | None] = ContextVar("gearshift_trace", default=None)
"""The trace of the call that runs in this context; None where calls are not traced."""


def trace_of(traceparent: str, tracestate: str, *, share: float, chance: random.Random) -> Trace:
    """Give a call's place in the caller's trace, or a new one.

    Args:
        traceparent: the caller's, empty or wrong when there is none to go on with.
        tracestate: the caller's.
        share: of traces that begin here, how many are sampled, 0 to 1; a caller's own decision stands.
        chance: makes ids.
    """
    span = chance.getrandbits(63) + 1
    told = _TRACEPARENT.fullmatch(traceparent)
    # "ff" is no version; version 00 ends here, later ones may go on.
    if told and told[1] != "ff" and told[2] != _NO_TRACE and told[3] != _NO_SPAN and (told[1] != "00" or not told[5]):
        state = tracestate if len(tracestate) <= _MOST_STATE and _STATE.fullmatch(tracestate) else ""
        return Trace(told[2], told[3], span, bool(int(told[4], 16) & _SAMPLED), state)
    return Trace(f"{chance.getrandbits(128) or 1:032x}", "", span, chance.random() < share)
