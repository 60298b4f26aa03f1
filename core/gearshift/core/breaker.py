"""When an account and model is taken out of use.

Rules: pure, time is passed in (seconds, monotonic). Opens on consecutive faults, on the share of faults in a window, and
at once on a refused key, which is kept apart because it does not heal by waiting. Refusals for a provider's rate limit
count only in a row, and open it for a short time. Half-open lets one probe through;
what the probe leaves undecided (the caller left, the request was at fault) closes nothing and frees its place. Calls that
were under way when it opened decide nothing any more: only the probe closes it.
"""

from __future__ import annotations

from collections import deque

from gearshift.core.config.model import BreakerConfig
from gearshift.core.failures import BreakerCount
from gearshift.core.words import BreakerState

LIMITED_OPEN_S = 2.0
"""How long it opens first where a provider refused all calls for its rate limit; doubled as other openings are."""


class Breaker:
    """The breaker of one account and model."""

    __slots__ = (
        "_config",
        "_consecutive",
        "_limited_s",
        "_open_s",
        "_open_until",
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
        self._probe: int | None = None
        self._probes = 0
        self.state = BreakerState.CLOSED
        self.reason = ""
        """Why it opened last; empty when it never did."""

    def permits(self, now: float) -> bool:
        """Tell whether a call may be made; it does not take the probe's place."""
        if self.state is BreakerState.CLOSED:
            return True
        return now >= self._open_until and self._probe is None

    def begin(self, now: float) -> int | None:
        """Take leave to make a call; in half-open this is the one probe.

        Give the call's ticket, which is told with how it ended: 0, or a probe's own number. None: no leave.
        """
        if self.state is BreakerState.CLOSED:
            return 0
        if now < self._open_until or self._probe is not None:
            return None
        self.state = BreakerState.HALF_OPEN
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
            self._open(self._config.authentication_open_s, reason, now)
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

    def probe_in(self, now: float) -> float:
        """Give the seconds until an open breaker lets a probe through; 0 when it is closed or due."""
        return 0.0 if self.state is BreakerState.CLOSED else max(0.0, self._open_until - now)

    def _limited(self, reason: str, now: float, ticket: int) -> None:
        if self.state is BreakerState.CLOSED:
            self._consecutive += 1
            if self._consecutive >= self._config.consecutive_faults:
                self._open(self._limited_s, reason, now)
        elif ticket == self._probe:
            self._limited_s = min(self._limited_s * 2, self._config.max_open_s)
            self._open(self._limited_s, reason, now)

    def _healed(self) -> None:
        self._consecutive = 0
        self._open_s = self._config.open_s
        self._limited_s = min(self._config.open_s, LIMITED_OPEN_S)
        self._window.clear()

    def _rate_reached(self) -> bool:
        window = self._window
        return len(window) == window.maxlen and sum(window) >= self._config.fault_rate * len(window)

    def _open(self, seconds: float, reason: str, now: float) -> None:
        self.state = BreakerState.OPEN
        self.reason = reason
        self._probe = None
        self._open_until = now + seconds
        self._consecutive = 0
        self._window.clear()

    def __repr__(self) -> str:
        return f"<Breaker {self.state.word} {self.reason!r}>"
