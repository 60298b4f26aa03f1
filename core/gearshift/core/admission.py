"""Leave to make an upstream call: breaker, limits and the choice of an account.

Rules: state belongs to account + model and is shared by all chains. A reservation is all or none; it is settled
synchronously, once, when the call has ended, however it ended. Waiters of one account and model are served in order.
Money is reserved in USD as floats for pacing; what is billed is decimal and stands in the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import anyio
from msgspec import Struct

from gearshift.core.blueprint import AccountSpec, Stage
from gearshift.core.breaker import Breaker
from gearshift.core.buckets import Concurrency, DailyBudget, TokenBucket
from gearshift.core.config.model import LimitsConfig
from gearshift.core.failures import FAILURE_RULES
from gearshift.core.pace import Pacer
from gearshift.core.words import FailureKind

_SMOOTHING = 0.2
_LONGEST_PAUSE_S = 300.0
"""A provider's `Retry-After` is believed so far, should nothing else be heard of it."""

AnyBucket = TokenBucket | DailyBudget | Concurrency


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no call may be made now; `wait_s` is infinite when nobody knows for how long.

    Args:
        reason: `breaker` or `limit`.
        limit: what was spent, such as `tokens of groq/default/llama-3.1-8b-instant`.

    """

    reason: str
    limit: str
    wait_s: float


@dataclass(slots=True)
class Figures:
    """What has been measured of one account and model since the start; times are moving averages, milliseconds."""

    attempts: int = 0
    failures: int = 0
    accepted: int = 0
    poor: int = 0
    in_flight: int = 0
    first_token_ms: float = 0.0
    total_ms: float = 0.0


class Guard:
    """Breaker, limits and figures of one account and model."""

    def __init__(self, stage: Stage, spec: AccountSpec, now: float, places: Places) -> None:
        self.provider = stage.provider.name
        self.account = spec.account
        self.model = stage.model.id
        self.breaker = Breaker(stage.provider.breaker)
        self.buckets = buckets_of(spec.limits, now)
        self.pacer = Pacer(spec.limits.pace) if spec.limits.pace else None
        self.figures = Figures()
        self.spec = spec
        self._turn = anyio.Lock()
        self._places = places
        self._paused_until = now

    @property
    def name(self) -> str:
        """Provider, account and model."""
        return f"{self.provider}/{self.account.name}/{self.model}"

    @property
    def waiting(self) -> int:
        """Callers that wait for a limit."""
        return self._turn.statistics().tasks_waiting + int(self._turn.locked())

    def refusal(self, amounts: Amounts, now: float) -> Refusal | None:
        """Give why no call may be made now, or None."""
        if not self.breaker.permits(now):
            return Refusal("breaker", self.breaker.reason, self.breaker.probe_in(now) or 1.0)
        if now < self._paused_until:
            return Refusal("limit", f"the provider's own limit of {self.name}", self._paused_until - now)
        return refusal_of(self.buckets, amounts, now, self.name)

    def agreed(self) -> None:
        """Count an answer as accepted after all: a second look confirmed it."""
        self.figures.poor -= 1
        self.figures.accepted += 1

    def pause(self, seconds: float, now: float) -> None:
        """Pass it over for as long as the provider asked to be left alone."""
        self._paused_until = max(self._paused_until, now + min(seconds, _LONGEST_PAUSE_S))

    def freed(self) -> None:
        """Wake who waits for a place."""
        self._places.freed()

    async def wait(self, seconds: float) -> None:
        """Wait so long, or until a place was freed anywhere."""
        await self._places.wait(seconds)

    @property
    def turn(self) -> anyio.Lock:
        """Who holds it is first in line; a lock of anyio is handed on in the order in which it was asked for."""
        return self._turn


class Places:
    """Wakes those who are first in line when a call has ended, on whichever account: tenants share places over all."""

    def __init__(self) -> None:
        self._waiting = 0
        self._freed = anyio.Event()

    def freed(self) -> None:
        """Wake everybody who is first in line."""
        if self._waiting:
            self._freed.set()
            self._freed = anyio.Event()

    async def wait(self, seconds: float) -> None:
        """Wait so long, or until a place was freed."""
        self._waiting += 1
        try:
            with anyio.move_on_after(min(seconds, 3600.0)):
                await self._freed.wait()
        finally:
            self._waiting -= 1


class Amounts(Struct, frozen=True):
    """What a call is expected to take."""

    tokens: int
    cost_usd: Decimal | None

    def of(self, unit: str) -> float:
        """Give the amount in a bucket's unit."""
        if unit == "tokens":
            return float(self.tokens)
        if unit == "cost":
            return float(self.cost_usd or 0)
        return 1.0


class Permit:
    """Leave to make one call. Settle it once, in a `finally`."""

    __slots__ = ("_buckets", "_reserved", "_settled", "_ticket", "account", "guard", "queue_s")

    def __init__(
        self, guard: Guard, extra: Sequence[AnyBucket], reserved: Amounts, queue_s: float, ticket: int = 0
    ) -> None:
        self.guard = guard
        self.account = guard.account
        self.queue_s = queue_s
        self._buckets = (*guard.buckets, *extra)
        self._reserved = reserved
        self._ticket = ticket
        self._settled = False

    def cancel(self) -> None:
        """Give everything back: the call was not made."""
        if self._settled:
            return
        self._settled = True
        now = time.monotonic()
        for bucket in self._buckets:
            bucket.settle(self._reserved.of(bucket.unit), 0.0, now)
        self.guard.figures.in_flight -= 1
        self.guard.breaker.abandon(self._ticket)
        self.guard.freed()

    def settle(
        self,
        *,
        tokens: int,
        cost_usd: Decimal | None,
        failure: FailureKind | None,
        cancelled: bool,
        accepted: bool | None,
        first_token_ms: float | None,
        total_ms: float,
        now: float,
        retry_after_s: float | None = None,
    ) -> None:
        """Put right what was reserved and tell the breaker how the call ended; the second time does nothing.

        Args:
            retry_after_s: how long the provider asked to be left alone, with `failure` only.

        """
        if self._settled:
            return
        self._settled = True
        guard, figures = self.guard, self.guard.figures
        if self._buckets:
            used = Amounts(tokens, cost_usd)
            for bucket in self._buckets:
                bucket.settle(self._reserved.of(bucket.unit), used.of(bucket.unit), now)
        figures.in_flight -= 1
        figures.attempts += 1
        if cancelled:
            guard.breaker.abandon(self._ticket)
        elif failure is not None:
            figures.failures += 1
            guard.breaker.fail(FAILURE_RULES[failure].breaker, failure.word, now, self._ticket)
            if retry_after_s is not None:
                guard.pause(retry_after_s, now)
        else:
            guard.breaker.succeed(self._ticket)
            figures.total_ms += _SMOOTHING * (total_ms - figures.total_ms) if figures.total_ms else total_ms
            if first_token_ms is not None:
                old = figures.first_token_ms
                figures.first_token_ms += _SMOOTHING * (first_token_ms - old) if old else first_token_ms
            if accepted is not None:
                figures.accepted += accepted
                figures.poor += not accepted
        guard.freed()


class Admission:
    """The guards of every account and model, and the buckets of tenants and tasks. Shared by all calls of a router."""

    def __init__(self) -> None:
        self._guards: dict[tuple[str, str, str], Guard] = {}
        self._credits: dict[tuple[str, str, str], float] = {}
        self._shared: dict[tuple[str, str], tuple[LimitsConfig, list[AnyBucket]]] = {}
        self._places = Places()

    def guards(self) -> list[Guard]:
        """Give every guard, by name."""
        return sorted(self._guards.values(), key=lambda guard: guard.name)

    def guard(self, stage: Stage, spec: AccountSpec, now: float) -> Guard:
        """Give the guard of a stage's model on an account; new limits keep the old breaker and figures."""
        key = (stage.provider.name, spec.account.name, stage.model.id)
        guard = self._guards.get(key)
        if guard is None:
            guard = self._guards[key] = Guard(stage, spec, now, self._places)
        elif guard.spec is not spec and guard.spec != spec:
            fresh = Guard(stage, spec, now, self._places)
            fresh.breaker, fresh.figures = guard.breaker, guard.figures
            guard = self._guards[key] = fresh
        return guard

    def shared_buckets(self, kind: str, name: str, limits: LimitsConfig | None, now: float) -> Sequence[AnyBucket]:
        """Give the buckets of a tenant or task, made on first use and anew when its limits have changed."""
        if limits is None:
            return ()
        key = (kind, name)
        known = self._shared.get(key)
        if known is None or (known[0] is not limits and known[0] != limits):
            known = self._shared[key] = (limits, buckets_of(limits, now))
        return known[1]

    def limits_money(self, stage: Stage, extra: Sequence[AnyBucket]) -> bool:
        """Tell whether a call's expected cost matters to any limit on it."""
        for spec in stage.provider.accounts:
            if spec.limits.usd_per_day is not None:
                return True
        return bool(extra) and _limits_money(extra)

    def state_of(self, stage: Stage, now: float, excluded: frozenset[str] = frozenset()) -> Guard:
        """Give the guard of the stage's account that is best off: the one whose breaker permits, or the first."""
        accounts = stage.provider.accounts
        if len(accounts) == 1:
            return self.guard(stage, accounts[0], now)
        usable = [spec for spec in accounts if spec.account.name not in excluded] if excluded else accounts
        guards = [self.guard(stage, spec, now) for spec in usable or accounts]
        return next((guard for guard in guards if guard.breaker.permits(now)), guards[0])

    def admit_nowait(
        self,
        stage: Stage,
        amounts: Amounts,
        extra: Sequence[AnyBucket],
        *,
        excluded: frozenset[str] = frozenset(),
        queue_s: float = 0.0,
        in_turn: Guard | None = None,
    ) -> Permit | Refusal:
        """Give leave to call the stage's model on one of its accounts, or say why not.

        Args:
            extra: buckets of the tenant and task, reserved together with the account's.
            excluded: accounts that must not be used again for this call.
            in_turn: the guard whose turn the caller holds; others do not pass the queue of a guard.

        """
        now = time.monotonic()
        is_unpriced = amounts.cost_usd is None and not stage.model.self_hosted
        if is_unpriced and _limits_money(extra):
            return _unpriced(stage, "tenant or task")
        if extra and (refused := refusal_of(extra, amounts, now, "tenant or task")) is not None:
            return refused
        refused = None
        for spec in self._in_turn(stage, excluded):
            guard = self.guard(stage, spec, now)
            if is_unpriced and _limits_money(guard.buckets):
                refused = refused or _unpriced(stage, guard.name)
                continue
            why = guard.refusal(amounts, now)
            if why is None and guard.turn.locked() and guard is not in_turn:
                why = Refusal("limit", f"queue of {guard.name}", 0.05)
            if why is None:
                ticket = guard.breaker.begin(now) or 0
                for bucket in guard.buckets:
                    bucket.take(amounts.of(bucket.unit), now)
                for bucket in extra:
                    bucket.take(amounts.of(bucket.unit), now)
                guard.figures.in_flight += 1
                return Permit(guard, extra, amounts, queue_s, ticket)
            if refused is None or why.wait_s < refused.wait_s:
                refused = why
        return refused or Refusal("limit", f"every account of {stage.provider.name} was tried", float("inf"))

    async def admit(
        self,
        stage: Stage,
        amounts: Amounts,
        extra: Sequence[AnyBucket],
        *,
        excluded: frozenset[str] = frozenset(),
        until: float,
    ) -> Permit | Refusal:
        """Wait in line for leave, no longer than until `until` (seconds, monotonic), and not at all where that is vain."""
        began = time.monotonic()
        guard = self.state_of(stage, began, excluded)
        with anyio.move_on_after(max(0.0, until - began)):
            async with guard.turn:
                while True:
                    got = self.admit_nowait(
                        stage,
                        amounts,
                        extra,
                        excluded=excluded,
                        queue_s=time.monotonic() - began,
                        in_turn=guard,
                    )
                    if isinstance(got, Permit) or got.reason != "limit":
                        return got
                    # Nobody knows when a place is freed, so that is waited for.
                    if time.monotonic() + (0.001 if got.wait_s == float("inf") else got.wait_s) > until:
                        return got
                    await guard.wait(got.wait_s)
        return Refusal("limit", f"queue of {guard.name}", max(0.05, until - began))

    def _in_turn(self, stage: Stage, excluded: frozenset[str]) -> Iterable[AccountSpec]:
        """Give the accounts by smooth weighted turns (as nginx does it): the heavier are first more often."""
        accounts = stage.provider.accounts
        if len(accounts) == 1:
            return () if accounts[0].account.name in excluded else accounts
        usable = [spec for spec in accounts if spec.account.name not in excluded]
        credits, prefix = self._credits, (stage.provider.name, stage.model.id)
        for spec in usable:
            key = (*prefix, spec.account.name)
            credits[key] = credits.get(key, 0.0) + spec.account.weight
        usable.sort(key=lambda spec: -credits[*prefix, spec.account.name])
        if usable:
            credits[*prefix, usable[0].account.name] -= sum(spec.account.weight for spec in usable)
        return usable


def _limits_money(buckets: Iterable[AnyBucket]) -> bool:
    return any(bucket.unit == "cost" for bucket in buckets)


def _unpriced(stage: Stage, whose: str) -> Refusal:
    why = f"the price of {stage.model.id} is unknown, so the limit on the spending of {whose} cannot be kept"
    return Refusal("cap", why, float("inf"))


def buckets_of(limits: LimitsConfig, now: float) -> list[AnyBucket]:
    """Make the buckets that limits ask for, full."""
    buckets: list[AnyBucket] = []
    if limits.concurrency is not None:
        buckets.append(Concurrency(limits.concurrency))
    for unit, per_minute in (("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute)):
        if per_minute is not None:
            rate = per_minute / 60
            buckets.append(TokenBucket(unit, capacity=max(1.0, rate * limits.burst_s), refill_per_s=rate, now=now))
    if limits.usd_per_day is not None:
        offset = time.time() - time.monotonic()
        buckets.append(DailyBudget(capacity=float(limits.usd_per_day), epoch_offset=offset, now=now))
    return buckets


def refusal_of(buckets: Iterable[AnyBucket], amounts: Amounts, now: float, whose: str) -> Refusal | None:
    """Give why the buckets cannot be reserved from now, or None; nothing is taken."""
    longest: Refusal | None = None
    for bucket in buckets:
        wait = bucket.wait_for(amounts.of(bucket.unit), now)
        if wait > 0 and (longest is None or wait > longest.wait_s):
            longest = Refusal("limit", f"{bucket.unit} of {whose}", wait)
    return longest
