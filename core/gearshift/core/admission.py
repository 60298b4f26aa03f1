"""Leave to make an upstream call: breaker, limits and the choice of an account.

Rules: state belongs to account + model and is shared by all chains. A reservation is all or none; it is settled
synchronously, once, when the call has ended, however it ended. Who waits for a limit, of an account, tenant or task, is
served in the order of arrival (line.py). Money is reserved in USD as floats for pacing; what is billed is decimal and
stands in the ledger. Limits that several processes share are in `shared/`, on top of this module.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

import anyio
from msgspec import Struct

from gearshift.core.blueprint import AccountSpec, ProviderSpec, Stage
from gearshift.core.breaker import Breaker
from gearshift.core.buckets import NEVER, Bucket, Budget, Concurrency, TokenBucket
from gearshift.core.config.model import LimitsConfig
from gearshift.core.failures import FAILURE_RULES
from gearshift.core.line import Line, Lined, Waiter
from gearshift.core.machines.kinds import question_url, watched_kind
from gearshift.core.machines.machine import Machine
from gearshift.core.machines.pressure import Pressure
from gearshift.core.pace import Pacer
from gearshift.core.words import BreakerState, FailureKind

ASK = "ask"
"""Reason of a refusal that is none: a shared store must be asked, which `admit` does."""

_SMOOTHING = 0.2
_METERED = ("tokens", "cost")
_PATIENCE = 3.0
"""So many times its usual time a provider may take before a call that its caller's deadline ends counts against it ..."""
_PATIENCE_MS = 2000.0
"""... or so long, while nobody knows what is usual."""
_LONGEST_PAUSE_S = 300.0
"""A provider's `Retry-After` is believed so far, should nothing else be heard of it."""

AnyBucket = Bucket


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no call may be made now; `wait_s` is infinite when nobody knows for how long.

    Args:
        reason: `breaker` or `limit`.
        limit: what was spent, such as `tokens of groq/default/llama-3.1-8b-instant`.
        lacking: in whose lines a call stands that waits; empty where waiting is vain.

    """

    reason: str
    limit: str
    wait_s: float
    lacking: tuple[Lined, ...] = ()


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

    def was_hurried(self, given_s: float, *, of_first_token: bool) -> bool:
        """Tell whether a call that its caller's deadline ended had too little time to say anything of the provider.

        Else callers in a hurry would take a healthy provider out of use for everybody.
        """
        usual_ms = self.first_token_ms if of_first_token else self.total_ms
        return given_s * 1000 < (_PATIENCE * usual_ms or _PATIENCE_MS)


class Guard:
    """Breaker, limits and figures of one account and model."""

    def __init__(
        self, stage: Stage, spec: AccountSpec, buckets: Sequence[AnyBucket], breaker: Breaker, now: float
    ) -> None:
        self.provider = stage.provider.name
        self.account = spec.account
        self.model = stage.model.id
        self.breaker = breaker
        self.buckets = buckets
        self.pacer = Pacer(spec.limits.pace) if spec.limits.pace else None
        self.figures = Figures()
        self.spec = spec
        self.permit: Callable[..., Permit] = Permit
        self.machine: Machine | None = None
        """The own machine that it runs on, where its time is paid for."""
        self.pressure: Pressure | None = None
        """What the model server says of itself, where it can be asked."""
        self.line: Line | None = None
        """Who waits until the provider may be asked again."""
        self.waiting = 0
        """Callers that wait for a limit."""
        self._paused_until = now

    @property
    def name(self) -> str:
        """Provider, account and model."""
        return f"{self.provider}/{self.account.name}/{self.model}"

    def refusal(
        self, amounts: Amounts, now: float, waiter: Waiter | None = None, *, early: bool = False
    ) -> Refusal | None:
        """Give why no call may be made now, or None; `early` as for `admit_nowait`."""
        if self.breaker.permits(now) and now >= self._paused_until and self.line is None:
            return refusal_of(self.buckets, amounts, now, self.name, waiter) if self.buckets else None
        return self.closed(now, waiter, early=early) or refusal_of(self.buckets, amounts, now, self.name, waiter)

    def closed(self, now: float, waiter: Waiter | None = None, *, early: bool = False) -> Refusal | None:
        """Give why no call may be made now whatever its limits hold, or None."""
        if not self.breaker.permits(now, early=early):
            return Refusal("breaker", self.breaker.reason, self.breaker.probe_in(now, early=early) or 1.0)
        if now < self._paused_until:
            wait = self._paused_until - now
            return Refusal("limit", f"the provider's own limit of {self.name}", wait, (self,))
        if self.line is not None and self.line.waiters[0] is not waiter:
            return Refusal("limit", f"queue of {self.name}", 0.05, (self,))
        return None

    def is_free(self, now: float) -> bool:
        """Tell whether there is neither a limit nor a fault that could refuse a call."""
        return (
            not self.buckets
            and self.pacer is None
            and self.breaker.state is BreakerState.CLOSED
            and now >= self._paused_until
            and self.line is None
        )

    def parallelism(self, configured: float) -> float:
        """Give how many calls its machine runs at once, as measured of late, else as configured."""
        measured = None if self.machine is None else self.machine.parallelism(time.monotonic())
        return configured if measured is None else measured

    def follow(self, before: Guard, now: float) -> None:
        """Go on where the guard of another configuration stands: with its breaker and figures, and all that was taken.

        Calls that run, also those of the configuration before, go on giving back to the limits that they took from.
        """
        self.breaker, self.figures = before.breaker, before.figures
        if self.spec.account == before.spec.account:
            self._paused_until = before._paused_until
        if self.spec.limits == before.spec.limits:
            self.buckets, self.pacer = before.buckets, before.pacer
        else:
            self.buckets = renewed(before.buckets, self.buckets, now)

    def agreed(self) -> None:
        """Count an answer as accepted after all: a second look confirmed it."""
        self.figures.poor -= 1
        self.figures.accepted += 1

    def pause(self, seconds: float, now: float) -> None:
        """Pass it over for as long as the provider asked to be left alone."""
        self._paused_until = max(self._paused_until, now + min(seconds, _LONGEST_PAUSE_S))


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


_NOTHING = Amounts(0, None)


class Permit:
    """Leave to make one call. Settle it once, in a `finally`."""

    __slots__ = (
        "_at",
        "_borne_s",
        "_buckets",
        "_mark",
        "_more",
        "_reserved",
        "_settled",
        "_ticket",
        "account",
        "guard",
        "queue_s",
    )

    answers_later: ClassVar[bool] = False
    """Whether `extend` is answered a little later, and not at once."""

    def __init__(
        self, guard: Guard, extra: Sequence[AnyBucket], reserved: Amounts, queue_s: float, ticket: int, at: float
    ) -> None:
        self.guard = guard
        self.account = guard.account
        self.queue_s = queue_s
        self._buckets = (*guard.buckets, *extra)
        self._reserved = reserved
        self._more: list[float] | None = None
        self._ticket = ticket
        self._at = at
        self._settled = False

    def machine_s(self) -> float | None:
        """End the call on its machine; give the machine's seconds that it bears, None where they are not measured."""
        return None

    @property
    def metered(self) -> Sequence[AnyBucket]:
        """The limits that a running stream may pass: those on model tokens and money."""
        return [bucket for bucket in self._buckets if bucket.unit in _METERED]

    def extend(self, amounts: Amounts, answer: Callable[[bool], None]) -> None:
        """Reserve more for a stream that runs, all or none; `answer` hears whether, at once or a little later.

        It stands in no line: what has begun is ended before something else is begun.
        """
        metered, now = self.metered, time.monotonic()
        for bucket in metered:
            if bucket.wait_for(amounts.of(bucket.unit), now) > 0:
                answer(False)
                return
        for bucket in metered:
            bucket.take(amounts.of(bucket.unit), now)
        self.extended(amounts)
        answer(True)

    def extended(self, amounts: Amounts) -> None:
        """Note that more was reserved: of each limit what was taken of it, which is never more than it holds at all."""
        more = self._more or [0.0] * len(self._buckets)
        for place, bucket in enumerate(self._buckets):
            if bucket.unit in _METERED:
                more[place] += min(amounts.of(bucket.unit), bucket.capacity)
        self._more = more

    def cancel(self) -> None:
        """Give everything back: the call was not made."""
        if self._settled:
            return
        self._settled = True
        if self._buckets:
            self._put_right(_NOTHING, time.monotonic())
        self.guard.figures.in_flight -= 1
        self.guard.breaker.abandon(self._ticket)

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
        tells: bool = True,
    ) -> None:
        """Put right what was reserved and tell the breaker how the call ended; the second time does nothing.

        Args:
            retry_after_s: how long the provider asked to be left alone, with `failure` only.
            tells: whether a failure says anything of the provider's health.

        """
        if self._settled:
            return
        self._settled = True
        guard, figures = self.guard, self.guard.figures
        if self._buckets:
            self._put_right(Amounts(tokens, cost_usd), now)
        figures.in_flight -= 1
        figures.attempts += 1
        if cancelled:
            guard.breaker.abandon(self._ticket)
        elif failure is not None:
            figures.failures += 1
            if tells:
                guard.breaker.fail(FAILURE_RULES[failure].breaker, failure.word, now, self._ticket)
            else:
                guard.breaker.abandon(self._ticket)
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

    def _put_right(self, used: Amounts, now: float) -> None:
        """Give back what was reserved too much, or owe what was too little; who is first in line may go on."""
        reserved, is_made = self._reserved, used is not _NOTHING
        for bucket in self._buckets:
            unit = bucket.unit
            bucket.settle(reserved.of(unit), used.of(unit) if is_made else 0.0, now, self._at)
            if bucket.line is not None:
                bucket.line.wake()
        if self._more is not None:
            for bucket, more in zip(self._buckets, self._more, strict=True):
                if more:
                    bucket.settle(0.0, -more, now, self._at)


class MachinePermit(Permit):
    """Leave to make one call on a machine whose time is paid for: it runs there until it is settled."""

    __slots__ = ()

    _borne_s: float | None
    _mark: float

    def __init__(
        self, guard: Guard, extra: Sequence[AnyBucket], reserved: Amounts, queue_s: float, ticket: int, at: float
    ) -> None:
        super().__init__(guard, extra, reserved, queue_s, ticket, at)
        self.begin()

    def begin(self) -> None:
        """Count the call as running."""
        assert self.guard.machine is not None
        self._borne_s = None
        self._mark = self.guard.machine.begin(time.monotonic())

    def machine_s(self) -> float | None:
        """End the call on its machine, once; give the machine's seconds that it bears."""
        if self._borne_s is None:
            assert self.guard.machine is not None
            self._borne_s = self.guard.machine.end(self._mark, time.monotonic())
        return self._borne_s

    def cancel(self) -> None:
        """Give everything back."""
        self.machine_s()
        super().cancel()

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
        tells: bool = True,
    ) -> None:
        """Settle, and no longer run."""
        self.machine_s()
        super().settle(
            tokens=tokens,
            cost_usd=cost_usd,
            failure=failure,
            cancelled=cancelled,
            accepted=accepted,
            first_token_ms=first_token_ms,
            total_ms=total_ms,
            now=now,
            retry_after_s=retry_after_s,
            tells=tells,
        )


class Admission:
    """The guards of every account and model, and the buckets of tenants and tasks. Shared by all calls of a router."""

    poll_s = NEVER
    """How often who is first in line asks again, though nothing was heard."""

    def __init__(self) -> None:
        self._permit: Callable[..., Permit] = Permit
        self._machine_permit: Callable[..., Permit] = MachinePermit
        self._machines: dict[tuple[str, str], Machine] = {}
        self._pressures: dict[tuple[str, str], Pressure] = {}
        self._guards: dict[tuple[str, str, str], Guard] = {}
        self._credits: dict[tuple[str, str, str], float] = {}
        self._shared: dict[tuple[str, str], tuple[LimitsConfig, Sequence[AnyBucket]]] = {}

    def guards(self) -> list[Guard]:
        """Give every guard, by name."""
        return sorted(self._guards.values(), key=lambda guard: guard.name)

    def guard(self, stage: Stage, spec: AccountSpec, now: float) -> Guard:
        """Give the guard of a stage's model on an account; new limits keep the old breaker and figures."""
        key = (stage.provider.name, spec.account.name, stage.model.id)
        guard = self._guards.get(key)
        if guard is None:
            guard = self._guards[key] = self._placed(self._fresh(stage, spec, now), stage, now)
        elif guard.spec is not spec and guard.spec != spec:
            fresh = self._fresh(stage, spec, now)
            fresh.follow(guard, now)
            guard = self._guards[key] = self._placed(fresh, stage, now)
        return guard

    def machine(self, provider: ProviderSpec, spec: AccountSpec, now: float) -> Machine:
        """Give the machine of an account, which is its base URL."""
        key = (provider.name, spec.account.base_url)
        machine = self._machines.get(key)
        if machine is None:
            machine = self._machines[key] = Machine(provider.name, spec.account.name, now)
        return machine

    def pressure(self, provider: ProviderSpec, spec: AccountSpec, base_url: str = "") -> Pressure | None:
        """Give what is known of the pressure on an account's server; None where it cannot be asked.

        Args:
            base_url: of the running embedded model, which has none in the configuration.

        """
        kind = watched_kind(provider.kind, provider.dialect)
        if not kind:
            return None
        account = spec.account
        key = (provider.name, account.base_url)
        known = self._pressures.get(key)
        if known is None:
            known = self._pressures[key] = Pressure(provider.name, account.name, kind, provider.parallelism)
        if place := base_url or account.base_url:
            known.url = question_url(kind, place)
        known.interval_s, known.parallelism = provider.pressure.interval_s, provider.parallelism
        known.max_queued = provider.pressure.max_queued
        known.headers = {name.lower(): value for name, value in account.headers.items()}
        if account.api_key:
            known.headers["authorization"] = f"Bearer {account.api_key}"
        return known

    def pressures(self, providers: Mapping[str, ProviderSpec], embedded: Mapping[str, str]) -> list[Pressure]:
        """Give the pressure on every server that can be asked.

        Args:
            embedded: base URLs of running embedded models, by provider name.

        """
        found: dict[int, Pressure] = {}
        for name, provider in providers.items():
            for spec in provider.accounts:
                pressure = self.pressure(provider, spec, embedded.get(name, ""))
                if pressure is not None:
                    found[id(pressure)] = pressure
        return list(found.values())

    def _is_pressed(self, provider: ProviderSpec, spec: AccountSpec, now: float) -> bool:
        pressure = self._pressures.get((provider.name, spec.account.base_url))
        return pressure is not None and pressure.too_many(now) is not None

    def _placed(self, guard: Guard, stage: Stage, now: float) -> Guard:
        """Tell a new guard what machine it is on."""
        provider = stage.provider
        guard.permit = self._permit
        if stage.model.self_hosted and provider.cost_per_hour_usd is not None:
            guard.machine, guard.permit = self.machine(provider, guard.spec, now), self._machine_permit
        guard.pressure = self.pressure(provider, guard.spec)
        if guard.pressure is not None and not any(each is guard.figures for each in guard.pressure.figures):
            guard.pressure.figures.append(guard.figures)
        if guard.pressure is not None and guard.machine is not None:
            guard.pressure.machine = guard.machine
        return guard

    def budgets(self) -> list[tuple[str, str, Budget]]:
        """Give every limit on spending that was asked for so far, with whose it is: `account`, `tenant` or `task`, and its name.

        For seeding them from the ledger when a service starts.
        """
        found = [("account", guard.name, each) for guard in self.guards() for each in guard.buckets]
        found += [(kind, name, each) for (kind, name), (_, made) in self._shared.items() for each in made]
        return [(kind, name, each) for kind, name, each in found if isinstance(each, Budget)]

    def changed(self) -> None:
        """Hear that limits were settled with outside of a permit; a shared store is told of it."""

    def _fresh(self, stage: Stage, spec: AccountSpec, now: float) -> Guard:
        name = f"{stage.provider.name}/{spec.account.name}/{stage.model.id}"
        breaker = Breaker(stage.provider.breaker)
        return Guard(stage, spec, self._buckets("account", name, spec.limits, now), breaker, now)

    def _buckets(self, kind: str, name: str, limits: LimitsConfig, now: float) -> Sequence[AnyBucket]:
        """Make the buckets of an account and model, a tenant or a task."""
        return buckets_of(limits, now)

    def shared_buckets(self, kind: str, name: str, limits: LimitsConfig | None, now: float) -> Sequence[AnyBucket]:
        """Give the buckets of a tenant or task, made on first use and anew when its limits have changed."""
        if limits is None:
            return ()
        key = (kind, name)
        known = self._shared.get(key)
        if known is None or (known[0] is not limits and known[0] != limits):
            made = self._buckets(kind, name, limits, now)
            if known is not None:
                made = renewed(known[1], made, now)
            known = self._shared[key] = (limits, made)
        return known[1]

    def limits_money(self, stage: Stage, extra: Sequence[AnyBucket]) -> bool:
        """Tell whether a call's expected cost matters to any limit on it."""
        for spec in stage.provider.accounts:
            if spec.limits.usd_per_day is not None or spec.limits.usd_per_month is not None:
                return True
        return bool(extra) and has_money_limit(extra)

    def state_of(self, stage: Stage, now: float, excluded: frozenset[str] = frozenset()) -> Guard:
        """Give the guard of the stage's account that is best off: its breaker permits, or may be asked early, or it is the first."""
        accounts = stage.provider.accounts
        if len(accounts) == 1:
            spec = accounts[0]
            known = self._guards.get((stage.provider.name, spec.account.name, stage.model.id))
            return known if known is not None and known.spec is spec else self.guard(stage, spec, now)
        usable = [spec for spec in accounts if spec.account.name not in excluded] if excluded else accounts
        guards = [self.guard(stage, spec, now) for spec in usable or accounts]
        permitted = [guard for guard in guards if guard.breaker.permits(now)]
        if stage.provider.pressure.max_queued is not None:
            free = [guard for guard in permitted if guard.pressure is None or guard.pressure.too_many(now) is None]
            permitted = free or permitted
        if permitted:
            return permitted[0]
        return next((guard for guard in guards if guard.breaker.permits(now, early=True)), guards[0])

    def unlimited(self, stage: Stage, excluded: frozenset[str]) -> Permit | None:
        """Give leave where nothing could refuse it: one account without any limit, in good health and not paused.

        None says nothing: ask `admit_nowait`. This asks for no amounts, so that nobody need work them out.
        """
        accounts = stage.provider.accounts
        if len(accounts) != 1 or excluded:
            return None
        now = time.monotonic()
        guard = self.state_of(stage, now)
        if not guard.is_free(now):
            return None
        guard.figures.in_flight += 1
        return guard.permit(guard, (), _NOTHING, 0.0, 0, now)

    def admit_nowait(
        self,
        stage: Stage,
        amounts: Amounts,
        extra: Sequence[AnyBucket],
        *,
        excluded: frozenset[str] = frozenset(),
        queue_s: float = 0.0,
        waiter: Waiter | None = None,
        early: bool = False,
    ) -> Permit | Refusal:
        """Give leave to call the stage's model on one of its accounts, or say why not.

        Args:
            extra: buckets of the tenant and task, reserved together with the account's.
            excluded: accounts that must not be used again for this call.
            waiter: the caller, where it stands in line; others do not pass those who do.
            early: the call has nowhere else to go, so that an open breaker may let it through as its probe before its time.

        """
        now = time.monotonic()
        has_no_price = amounts.cost_usd is None and not stage.model.self_hosted
        if has_no_price and has_money_limit(extra):
            return unpriced(stage, "tenant or task")
        lacked = refusal_of(extra, amounts, now, "tenant or task", waiter) if extra else None
        if lacked is not None and waiter is None:
            return lacked
        refused = None
        for spec in self._in_turn(stage, excluded):
            guard = self.guard(stage, spec, now)
            if has_no_price and has_money_limit(guard.buckets):
                refused = refused or unpriced(stage, guard.name)
                continue
            why = guard.refusal(amounts, now, waiter, early=early)
            if why is None and lacked is None:
                ticket = guard.breaker.begin(now, early=early) or 0
                for bucket in guard.buckets:
                    bucket.take(amounts.of(bucket.unit), now)
                for bucket in extra:
                    bucket.take(amounts.of(bucket.unit), now)
                guard.figures.in_flight += 1
                return guard.permit(guard, extra, amounts, queue_s, ticket, now)
            if why is None or (lacked is not None and why.reason == "limit"):
                why = _both(lacked, why)
            if refused is None or why.wait_s < refused.wait_s:
                refused = why
        return refused or Refusal("limit", f"every account of {stage.provider.name} was tried", NEVER)

    async def admit(
        self,
        stage: Stage,
        amounts: Amounts,
        extra: Sequence[AnyBucket],
        *,
        excluded: frozenset[str] = frozenset(),
        until: float,
        early: bool = False,
    ) -> Permit | Refusal:
        """Wait in line for leave, no longer than until `until` (seconds, monotonic), and not at all where that is vain.

        Args:
            early: as for `admit_nowait`.

        """
        began = time.monotonic()
        guard = self.state_of(stage, began, excluded)
        waiter = Waiter(amounts)
        guard.waiting += 1
        try:
            while True:
                waiter.event = anyio.Event()  # before asking, or what changes meanwhile would be missed
                got = await self._ask(stage, amounts, extra, excluded, time.monotonic() - began, waiter, early=early)
                if isinstance(got, Permit) or got.reason != "limit" or not got.lacking:
                    return got
                # Nobody knows when a place is freed, so that is waited for.
                left = until - time.monotonic()
                if (left <= 0 if got.wait_s == NEVER else got.wait_s > left) or _is_vain(got):
                    return got
                waiter.stand(got.lacking)
                # Only who is first looks at the clock: whoever stands behind is woken when it is its turn.
                with anyio.move_on_after(min(got.wait_s, left, self.poll_s) if waiter.is_first else left):
                    await waiter.event.wait()
        finally:
            guard.waiting -= 1
            waiter.leave()

    async def _ask(
        self,
        stage: Stage,
        amounts: Amounts,
        extra: Sequence[AnyBucket],
        excluded: frozenset[str],
        queue_s: float,
        waiter: Waiter,
        *,
        early: bool,
    ) -> Permit | Refusal:
        return self.admit_nowait(stage, amounts, extra, excluded=excluded, queue_s=queue_s, waiter=waiter, early=early)

    def _in_turn(self, stage: Stage, excluded: frozenset[str]) -> Iterable[AccountSpec]:
        """Give the accounts by smooth weighted turns (as nginx does it): the heavier are first more often."""
        accounts = stage.provider.accounts
        if len(accounts) == 1:
            return () if accounts[0].account.name in excluded else accounts
        usable = [spec for spec in accounts if spec.account.name not in excluded]
        pressed: list[AccountSpec] = []
        if stage.provider.pressure.max_queued is not None:
            # Machines whose queue is too long come last, and take no turn.
            now = time.monotonic()
            pressed = [spec for spec in usable if self._is_pressed(stage.provider, spec, now)]
            if len(pressed) < len(usable):
                usable = [spec for spec in usable if spec not in pressed]
            else:
                pressed = []
        credits, prefix = self._credits, (stage.provider.name, stage.model.id)
        for spec in usable:
            key = (*prefix, spec.account.name)
            credits[key] = credits.get(key, 0.0) + spec.account.weight
        usable.sort(key=lambda spec: -credits[*prefix, spec.account.name])
        if usable:
            credits[*prefix, usable[0].account.name] -= sum(spec.account.weight for spec in usable)
        return [*usable, *pressed] if pressed else usable


def is_unpriced(stage: Stage, amounts: Amounts) -> bool:
    """Tell whether nobody knows what a call will cost."""
    return amounts.cost_usd is None and not stage.model.self_hosted


def has_money_limit(buckets: Iterable[AnyBucket]) -> bool:
    """Tell whether one of the buckets limits spending."""
    return any(bucket.unit == "cost" for bucket in buckets)


def unpriced(stage: Stage, whose: str) -> Refusal:
    """Refuse a call whose price is unknown where spending is limited."""
    why = f"the price of {stage.model.id} is unknown, so the limit on the spending of {whose} cannot be kept"
    return Refusal("cap", why, float("inf"))


def _both(one: Refusal | None, other: Refusal | None) -> Refusal:
    """Give the refusal that is waited for longer, with what is lacking for either."""
    if one is None or other is None:
        either = one or other
        assert either is not None
        return either
    longer = one if one.wait_s >= other.wait_s else other
    return Refusal(longer.reason, longer.limit, longer.wait_s, (*one.lacking, *other.lacking))


def _is_vain(refusal: Refusal) -> bool:
    """Tell whether no waiting helps: the call costs more than a whole budget."""
    return refusal.wait_s == NEVER and refusal.limit.startswith("cost ")


def buckets_of(limits: LimitsConfig, now: float) -> list[AnyBucket]:
    """Make the buckets that limits ask for, full."""
    buckets: list[AnyBucket] = []
    if limits.concurrency is not None:
        buckets.append(Concurrency(limits.concurrency))
    for unit, per_minute in (("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute)):
        if per_minute is not None:
            rate = per_minute / 60
            buckets.append(TokenBucket(unit, capacity=max(1.0, rate * limits.burst_s), refill_per_s=rate, now=now))
    for period, usd in (("day", limits.usd_per_day), ("month", limits.usd_per_month)):
        if usd is not None:
            offset = time.time() - time.monotonic()
            buckets.append(Budget(capacity=float(usd), epoch_offset=offset, now=now, period=period))
    for bucket in buckets:
        bucket.stops = limits.on_overrun == "stop"
    return buckets


def renewed(old: Iterable[AnyBucket], new: Iterable[AnyBucket], now: float) -> list[AnyBucket]:
    """Put new limits in force in those of the same unit and period, where there are any: another limit is no new one.

    What was taken stays taken, and who stands in line stays there.
    """
    known = {_kind_of(bucket): bucket for bucket in old}
    found: list[AnyBucket] = []
    for bucket in new:
        before = known.get(_kind_of(bucket))
        if isinstance(before, TokenBucket | Budget | Concurrency):
            before.renew(bucket, now)
            bucket = before
        found.append(bucket)
    return found


def _kind_of(bucket: AnyBucket) -> tuple[type[AnyBucket], str, str]:
    return type(bucket), bucket.unit, bucket.period if isinstance(bucket, Budget) else ""


def refusal_of(
    buckets: Iterable[AnyBucket], amounts: Amounts, now: float, whose: str, waiter: Waiter | None = None
) -> Refusal | None:
    """Give why the buckets cannot be reserved from now, or None; nothing is taken."""
    longest: tuple[float, AnyBucket] | None = None
    lacking: tuple[Lined, ...] = ()
    for bucket in buckets:
        unit, line = bucket.unit, bucket.line
        ahead = 0.0 if line is None else line.ahead(waiter, unit)
        wait = bucket.wait_for(amounts.of(unit), now, ahead)
        if wait > 0:
            lacking = (*lacking, bucket)
            if longest is None or wait > longest[0]:
                longest = (wait, bucket)
    if longest is None:
        return None
    return Refusal("limit", f"{longest[1].unit} of {whose}", longest[0], lacking)
