"""The breaker of one account and model, shared by several processes.

Rules: no I/O; the store (store.py) tells and hears. Each process counts for itself and opens by its own count; the store
counts the outcomes of all and may open it earlier. An opening is told at once, and heard by the others within the store's
next comparison. While it is open only one process probes, early or not; the store gives it leave for that.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from gearshift.core.breaker import Breaker
from gearshift.core.config.model import BreakerConfig
from gearshift.core.failures import FAILURE_RULES, BreakerCount
from gearshift.core.words import BreakerState

Said = tuple[list[str], str, float]
"""Outcomes, what has happened, and for how long it opened, seconds."""

_VAIN = frozenset(
    kind.word
    for kind, rule in FAILURE_RULES.items()
    if rule.breaker in (BreakerCount.AUTHENTICATION, BreakerCount.LIMITED)
)
"""Reasons for which nobody asks again before the time is over."""


def _nobody() -> None:
    """Stand for who is told, until somebody is."""


class SharedBreaker(Breaker):
    """A breaker that tells what it sees."""

    __slots__ = ("_event", "_notify", "_opened_s", "_outcomes")

    def __init__(self, config: BreakerConfig) -> None:
        super().__init__(config)
        self._outcomes: deque[str] = deque(maxlen=config.window)
        self._event = ""
        self._opened_s = 0.0
        self._notify: Callable[[], None] = _nobody

    def watch(self, notify: Callable[[], None]) -> None:
        """Have somebody told when there is something to tell at once."""
        self._notify = notify

    @property
    def untold(self) -> bool:
        """Whether something was seen that the store has not been told."""
        return bool(self._outcomes or self._event)

    def succeed(self, ticket: int = 0) -> None:
        """Note a call that was answered, however well."""
        if self.state is BreakerState.CLOSED:
            self._outcomes.append("0")
        elif ticket and ticket == self._probe:
            self._say("c")
        super().succeed(ticket)

    def fail(self, count: BreakerCount, reason: str, now: float, ticket: int = 0) -> None:
        """Note a call that failed."""
        is_probe = bool(ticket) and ticket == self._probe
        if self.state is BreakerState.CLOSED and count in (BreakerCount.FAULT, BreakerCount.LIMITED):
            self._outcomes.append("1" if count is BreakerCount.FAULT else "2")
            self.reason = reason
            self._notify()
        until = self._open_until
        super().fail(count, reason, now, ticket)
        if self.state is BreakerState.OPEN and self._open_until != until:
            self._opened_s = self._open_until - now
            self._say("f" if is_probe and count is not BreakerCount.AUTHENTICATION else "o")
        elif is_probe and self._probe is None:
            self._say("a")  # it began early, and changes nothing

    def abandon(self, ticket: int = 0) -> None:
        """Note a call that ended without saying anything about the provider's health."""
        if ticket and ticket == self._probe:
            self._say("a")
        super().abandon(ticket)

    def tell(self, arguments: list[object]) -> Said:
        """Add what the comparing script wants to know, and give it."""
        config = self._config
        said: Said = (list(self._outcomes), self._event, self._opened_s)
        self._outcomes.clear()
        self._event = ""
        arguments += (
            "".join(said[0]),
            config.consecutive_faults,
            config.window,
            round(config.fault_rate * 1e6),
            round(config.open_s * 1e6),
            round(config.max_open_s * 1e6),
            said[1],
            round(said[2] * 1e6),
            self.reason,
        )
        return said

    def unsaid(self, said: Said) -> None:
        """Take back what did not arrive."""
        self._outcomes.extendleft(reversed(said[0]))
        self._event = self._event or said[1]

    def hear(self, is_open: bool, left_s: float, reason: str, now: float) -> None:
        """Take the state that all processes come to, unless something has happened here since it was told."""
        if self._event or self.state is BreakerState.HALF_OPEN:
            return
        if is_open:
            if self.state is BreakerState.CLOSED:
                self._open(left_s, reason, now, heals=reason not in _VAIN)
            else:
                self._open_until = now + left_s
                if reason in _VAIN:
                    self._early_at = math.inf
        elif self.state is BreakerState.OPEN:
            self.close()

    def close(self) -> None:
        """Close it: another process's probe was answered."""
        self.state = BreakerState.CLOSED
        self._probe = None
        self._healed()

    def _say(self, event: str) -> None:
        self._event = event
        self._notify()
