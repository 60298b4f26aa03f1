"""The time of one machine, shared out among the calls that run on it.

Rules: pure; time is passed in, seconds, monotonic. While n calls run, each bears 1/n of every second, so that what all
calls bear is the time in which at least one ran, whatever their number and length: with the idle time it is the whole
time, and nothing is counted twice. The clock is the integral of dt / n; a call bears its advance between begin and end,
which makes begin and end cost the same however many calls run.
"""

from __future__ import annotations

import math

_HALF_LIFE_S = 600.0
"""Busy seconds after which what was measured counts half."""
_MEASURED_FROM_S = 10.0
"""Busy seconds from which the measured parallelism is believed."""


class Machine:
    """One machine: an account's base URL of a provider.

    Args:
        provider: the provider's name.
        name: unique within the provider.
        now: when it began to be counted.

    """

    def __init__(self, provider: str, name: str, now: float) -> None:
        self.provider = provider
        self.name = name
        self.since = now
        self.in_flight = 0
        self.busy_s = 0.0
        """Seconds in which at least one call ran, as of the last change."""
        self._clock = 0.0
        self._at = now
        self._seen = 0
        self._seen_until = now
        self._worked = 0.0
        """Decayed integrals: calls x seconds, and seconds in which any ran."""
        self._while = 0.0

    def begin(self, now: float) -> float:
        """Count a call as running from now; give its mark, for `end`."""
        self._advance(now)
        self.in_flight += 1
        return self._clock

    def end(self, mark: float, now: float) -> float:
        """Count a call as ended; give the machine's seconds that it bears, from 0."""
        self._advance(now)
        self.in_flight -= 1
        return self._clock - mark

    def see(self, running: int, now: float, until: float) -> None:
        """Hear from the machine how many calls it runs, ours and others', believed until `until`.

        Other processes' calls bear their part; what nobody here bears counts as idle.
        """
        self._advance(now)
        self._seen, self._seen_until = running, until

    def busy(self, now: float) -> float:
        """Give the seconds in which at least one call of this process ran, up to now."""
        self._advance(now)
        return self.busy_s

    def parallelism(self, now: float) -> float | None:
        """Give how many calls ran at once of late while any ran, from 1; None until that is measured."""
        self._advance(now)
        return max(1.0, self._worked / self._while) if self._while >= _MEASURED_FROM_S else None

    def _advance(self, now: float) -> None:
        passed = now - self._at
        if passed <= 0:
            return
        if self.in_flight:
            running = max(self.in_flight, self._seen) if self._at < self._seen_until else self.in_flight
            self._clock += passed / running
            self.busy_s += passed
            kept = math.exp2(-passed / _HALF_LIFE_S)
            self._worked = self._worked * kept + passed * running
            self._while = self._while * kept + passed
        self._at = now

    def __repr__(self) -> str:
        return f"<Machine {self.provider}/{self.name}: {self.in_flight} running, {self.busy_s:.1f} s busy>"
