"""How hard one model server is pressed: what it said last, and what we ourselves have sent it.

Rules: pure; time is passed in, seconds, monotonic. A word is believed for `valid_s`, then it is unknown, which is never
pressed: a server that cannot be asked is passed over by breakers, not by guesses. Where a server names no queue (Ollama),
it is our own calls beyond those that it runs at once.
"""

from __future__ import annotations

from typing import Protocol

from gearshift.core.machines.machine import Machine
from gearshift.core.machines.reading import Reading

VALID_POLLS = 3
"""How many intervals a reading is believed."""


class Counted(Protocol):
    """What counts our own calls on one model (`Figures`)."""

    in_flight: int
    attempts: int


class Pressure:
    """The pressure on one base URL of a provider.

    Args:
        kind: `vllm`, `llamacpp` or `ollama`: how it is asked.
        parallelism: calls that it runs at once, as configured; for servers that name no queue.

    """

    def __init__(self, provider: str, account: str, kind: str, parallelism: float) -> None:
        self.provider = provider
        self.account = account
        self.kind = kind
        self.url = ""
        """What is asked; empty until it is known."""
        self.headers: dict[str, str] = {}
        self.parallelism = parallelism
        self.interval_s = 0.0
        """How often it is asked; 0 is never."""
        self.max_queued: int | None = None
        """While more than this wait there, its stages are passed over; None is never."""
        self.reading = Reading()
        self.read_at: float | None = None
        self.asked_at: float | None = None
        self.error = ""
        """Why the last question failed, a sentence; empty when it did not."""
        self.failures = 0
        """Questions that failed since the start."""
        self.polls = 0
        """Questions since the start."""
        self.is_asking = False
        self.figures: list[Counted] = []
        """Of every model called there."""
        self.machine: Machine | None = None
        """What is told how many calls run, others' too, where its time is paid for."""
        self._heard = 0

    @property
    def own_in_flight(self) -> int:
        """Our own calls that run or wait there."""
        return sum(each.in_flight for each in self.figures)

    def is_fresh(self, now: float) -> bool:
        """Tell whether what it said last is still believed."""
        return self.read_at is not None and now - self.read_at <= VALID_POLLS * self.interval_s

    def running(self, now: float) -> int | None:
        """Give the requests that it works on; None when unknown."""
        if self.kind == "ollama":
            return min(self.own_in_flight, int(max(1.0, self.parallelism)))
        return self.reading.running if self.is_fresh(now) else None

    def queued(self, now: float) -> int | None:
        """Give the requests that wait in it; None when unknown."""
        if self.kind == "ollama":
            return max(0, self.own_in_flight - int(max(1.0, self.parallelism)))
        return self.reading.queued if self.is_fresh(now) else None

    def too_many(self, now: float) -> int | None:
        """Give how many requests wait in it, where that is more than there may; else None."""
        queued = None if self.max_queued is None else self.queued(now)
        return queued if queued is not None and self.max_queued is not None and queued > self.max_queued else None

    def is_due(self, now: float, looked_at: float | None, looking_s: float) -> bool:
        """Tell whether it is to be asked now: only while there are calls, or somebody looks."""
        if (
            not self.interval_s
            or not self.url
            or self.is_asking
            or (self.asked_at is not None and now < self.asked_at + self.interval_s)
        ):
            return False
        if looked_at is not None and now - looked_at <= looking_s:
            return True
        # Nothing is counted on the calls' way: those that ended since the last time are seen by their number.
        made = sum(each.attempts for each in self.figures)
        was, self._heard = self._heard, made
        return made != was or self.own_in_flight > 0

    def said(self, reading: Reading, now: float) -> None:
        """Note what it said."""
        self.reading, self.read_at, self.error = reading, now, ""
        if self.machine is not None and reading.running is not None:
            self.machine.see(reading.running, now, now + VALID_POLLS * self.interval_s)

    def failed(self, why: str) -> None:
        """Note that it could not be asked."""
        self.error = why
        self.failures += 1

    def __repr__(self) -> str:
        return f"<Pressure {self.provider}/{self.account} {self.kind}: {self.reading}{self.error and ' ' + self.error}>"
