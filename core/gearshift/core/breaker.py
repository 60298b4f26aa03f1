"""When an account and model is taken out of use.

Rules: pure, time is passed in (seconds, monotonic). Opens on consecutive faults, on the share of faults in a window, and
at once on a refused key, which is kept apart because it does not heal by waiting. Refusals for a provider's rate limit
count only in a row, and open it for a short time. Half-open lets one probe through;
what the probe leaves undecided (the caller left, the request was at fault) closes nothing and frees its place. Calls that
were under way when it opened decide nothing any more: only the probe closes it.

A call that has nowhere else to go may be the probe *early*: refusing it would be certain to fail it. Early probes too run
one at a time, with pauses that grow to half a second, and one that fails says nothing new: it stays open for as long as it
would have. Not where a key was refused, nor where the provider asked to be left alone for its rate limit.
"""

from __future__ import annotations

import math
from collections import deque

from gearshift.core.config.model import BreakerConfig
from gearshift.core.failures import BreakerCount
from gearshift.core.words import BreakerState

LIMITED_OPEN_S = 2.0
"""How long it opens first where a provider refused all calls for its rate limit; doubled as other openings are."""
EARLY_PAUSE_S = (0.05, 0.5)
"""Between early probes that fail: the first pause, and the longest that doubling makes of it. The longest is how late a
provider's return is noticed where calls have nowhere else to go; two calls a second are no burden to one that is away."""


class Breaker:
    """The breaker of one account and model."""

    __slots__ = (
        "_config",
        "_consecutive",
        "_early_at",
        "_is_early",
        "_limited_s",
        "_open_s",
        "_open_until",
        "_pause_s",
        "_probe",
        "_probes",
        "_window",
        "reason",
        "state",
    )

    def __init__(self, config: BreakerConfig) -> None:
        self._config = config
        self._window: deque[bool] = deque(maxlen=config.window)
        self._consecutive = 0
        self._open_s = config.open_s
        self._limited_s = min(config.open_s, LIMITED_OPEN_S)
        self._open_until = 0.0
        self._early_at = 0.0
        """From when on a call that has nowhere else to go may be the probe."""
        self._pause_s = 0.0
        """Between the last early probe and the next."""
        self._probe: int | None = None
        self._is_early = False
        """Whether the probe that runs began before its time."""
        self._probes = 0
        self.state = BreakerState.CLOSED
        self.reason = ""
        """Why it opened last; empty when it never did."""

    def permits(self, now: float, *, early: bool = False) -> bool:
        """Tell whether a call may be made; it does not take the probe's place.

        Args:
            early: the call has nowhere else to go.

        """
        if self.state is BreakerState.CLOSED:
            return True
        return self._probe is None and now >= self._due(early=early)

    def begin(self, now: float, *, early: bool = False) -> int | None:
        """Take leave to make a call; in half-open this is the one probe.

        Give the call's ticket, which is told with how it ended: 0, or a probe's own number. None: no leave.
        """
        if self.state is BreakerState.CLOSED:
            return 0
        if not self.permits(now, early=early):
            return None
        self.state = BreakerState.HALF_OPEN
        self._is_early = now < self._open_until
        self._probes += 1
        self._probe = self._probes
        return self._probe

    def succeed(self, ticket: int = 0) -> None:
        """Note a call that was answered, however well."""
        if self.state is BreakerState.CLOSED:
            self._consecutive = 0
            self._window.append(False)
        elif ticket == self._probe:
            self.state = BreakerState.CLOSED
            self._probe = None
            self._healed()

    def fail(self, count: BreakerCount, reason: str, now: float, ticket: int = 0) -> None:
        """Note a call that failed."""
        if count is BreakerCount.NONE:
            self.abandon(ticket)
        elif count is BreakerCount.AUTHENTICATION:
            self._open(self._config.authentication_open_s, reason, now, heals=False)
        elif ticket and ticket == self._probe and self._is_early:
            self._failed_early(now)
        elif count is BreakerCount.LIMITED:
            self._limited(reason, now, ticket)
        elif self.state is BreakerState.CLOSED:
            self._consecutive += 1
            self._window.append(True)
            if self._consecutive >= self._config.consecutive_faults or self._rate_reached():
                self._open(self._open_s, reason, now)
        elif ticket == self._probe:
            self._open_s = min(self._open_s * 2, self._config.max_open_s)
            self._open(self._open_s, reason, now)

    def abandon(self, ticket: int = 0) -> None:
        """Note a call that ended without saying anything about the provider's health."""
        if ticket and ticket == self._probe:
            self._probe = None
            self.state = BreakerState.OPEN

    def probe_in(self, now: float, *, early: bool = False) -> float:
        """Give the seconds until an open breaker lets a probe through; 0 when it is closed or due."""
        return 0.0 if self.state is BreakerState.CLOSED else max(0.0, self._due(early=early) - now)

    def _due(self, *, early: bool) -> float:
        return min(self._early_at, self._open_until) if early else self._open_until

    def _limited(self, reason: str, now: float, ticket: int) -> None:
        if self.state is BreakerState.CLOSED:
            self._consecutive += 1
            if self._consecutive >= self._config.consecutive_faults:
                self._open(self._limited_s, reason, now, heals=False)
        elif ticket == self._probe:
            self._limited_s = min(self._limited_s * 2, self._config.max_open_s)
            self._open(self._limited_s, reason, now, heals=False)

    def _failed_early(self, now: float) -> None:
        self.state = BreakerState.OPEN
        self._probe = None
        first, longest = EARLY_PAUSE_S
        self._pause_s = min(max(self._pause_s * 2, first), longest)
        self._early_at = now + self._pause_s

    def _healed(self) -> None:
        self._consecutive = 0
        self._open_s = self._config.open_s
        self._limited_s = min(self._config.open_s, LIMITED_OPEN_S)
        self._pause_s = 0.0
        self._window.clear()

    def _rate_reached(self) -> bool:
        window = self._window
        return len(window) == window.maxlen and sum(window) >= self._config.fault_rate * len(window)

    def _open(self, seconds: float, reason: str, now: float, *, heals: bool = True) -> None:
        """Open it; `heals` tells whether asking again before the time is over could be of use."""
        self.state = BreakerState.OPEN
        self.reason = reason
        self._probe = None
        self._open_until = now + seconds
        self._early_at = now + self._pause_s if heals else math.inf
        self._consecutive = 0
        self._window.clear()

    def __repr__(self) -> str:
        return f"<Breaker {self.state.word} {self.reason!r}>"
