"""The shared store at work: asks it, tells it what was used, and notices when it is away and when it is back.

Rules: a call that comes waits for one round trip at most, together with those that came at the same time; while the store is
away nobody asks it but the keeper, and everybody else goes on at once. What is settled is told in the background, one
message at a time, each with a number, so that one which may have arrived is never counted twice. The tasks belong to
`running`.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from gearshift.core.config.model import BreakerConfig, LimitsConfig, SharedConfig
from gearshift.core.shared import scripts
from gearshift.core.shared.breaker import SharedBreaker
from gearshift.core.shared.buckets import SharedBucket, SharedBudget, SharedPlaces, SharedTokenBucket
from gearshift.core.shared.health import StoreAwayError, StoreHealth, StoreState

if TYPE_CHECKING:
    from gearshift.core.shared.connection import Call

_log = logging.getLogger(__name__)

_BATCH = 64
"""Calls in one round trip."""
_BEAT_S = 1.0
_PROCESS_TTL_S = 5.0
"""A process that has not been heard of for so long no longer counts."""
_GATHER_S = 0.005
_SYNC_S = 0.2
"""How often breakers are compared."""
_PROBE_S = 0.1
"""How often a store that is away is asked."""
_MOST_BREAKERS = 100
_FIRST_KNOCKS = 4
"""The first is slow: it connects and loads the scripts."""


class Connection(Protocol):
    """Runs scripts on the store."""

    async def run(self, calls: Sequence[Call]) -> list[list[Any]]:
        """Give each call's reply."""
        ...

    async def reset(self) -> None:
        """Close what stands idle: a store that was away may have forgotten it."""
        ...

    async def aclose(self) -> None:
        """Close it."""
        ...


class Wants(Protocol):
    """What a call wants of each unit."""

    def of(self, unit: str) -> float:
        """Give the amount."""
        ...


class Leave(Enum):
    """What the store says to a breaker's probe."""

    CLOSED = 0
    """The breaker is closed: another process's probe was answered."""
    WAIT = 1
    """Not yet, or another process probes."""
    GIVEN = 2


class Verdict:
    """What the store says to a reservation: `waits` by bucket, seconds, all 0 when it was granted."""

    __slots__ = ("is_granted", "waits")

    def __init__(self, is_granted: bool, waits: list[float]) -> None:
        self.is_granted = is_granted
        self.waits = waits


class _Question:
    """A reservation that is under way."""

    __slots__ = ("amounts", "arguments", "buckets", "call", "done", "heard", "is_abandoned", "is_answered", "verdict")

    def __init__(
        self,
        buckets: Sequence[SharedBucket],
        amounts: list[float],
        arguments: list[object],
        call: Call,
        heard: Callable[[Verdict | None], None] | None,
    ) -> None:
        self.buckets = buckets
        self.amounts = amounts
        self.arguments = arguments
        self.call = call
        self.done = anyio.Event()
        self.heard = heard
        self.is_abandoned = False
        self.is_answered = False
        self.verdict: Verdict | None = None

    def answer(self, verdict: Verdict | None) -> None:
        """Tell who asked; who has left gives back what was granted."""
        if self.is_answered:
            return
        self.is_answered = True
        self.verdict = verdict
        if self.is_abandoned:
            self.give_back()
        elif self.heard is not None:
            self.heard(verdict)
        self.done.set()

    def give_back(self) -> None:
        """Give back what was granted."""
        if self.verdict is not None and self.verdict.is_granted:
            now = time.monotonic()
            for bucket, amount in zip(self.buckets, self.amounts, strict=True):
                bucket.settle(amount, 0.0, now)


class SharedStore:
    """Limits and breakers that several processes share.

    Args:
        connection: to the store; owned.
        process: this process's name, unlike any other's.
        clock_us: in tests, the time that the scripts are told instead of asking the server.
        epoch_offset: in tests, what turns the buckets' time into that.

    """

    def __init__(
        self,
        config: SharedConfig,
        connection: Connection,
        *,
        process: str = "",
        clock_us: Callable[[], int] | None = None,
        epoch_offset: float | None = None,
    ) -> None:
        redis = config.redis
        assert redis is not None
        self.config = config
        self.process = process or secrets.token_hex(8)
        self.processes = config.processes
        """How many share the limits: as counted last, or as configured."""
        self.health = StoreHealth(redis.slow_s)
        self.budgets_held = 0
        self.asked = 0
        """Reservations that went to the store."""
        self.forgotten = 0
        """How often a budget was gone that had been counted: the store was emptied, or has evicted it."""
        self._tag = "{" + redis.prefix + "}"
        self._connection = connection
        self._couriers = redis.connections
        self._clock_us = clock_us
        self._buckets: dict[str, SharedBucket] = {}
        self._breakers: dict[str, SharedBreaker] = {}
        self._pending: deque[_Question] = deque()
        self._idle: list[anyio.Event] = []
        self._owing = anyio.Event()
        self._urgent = anyio.Event()
        self._sequence = time.time_ns() // 1_000_000
        self._left: set[_Question] = set()
        """Questions whose askers left before the answer came."""
        self._unsure: Call | None = None
        self._telling = anyio.Lock()
        self._changed: list[Callable[[], None]] = []
        self._kept_at = 0.0
        self._beaten_at = 0.0
        self._epoch_offset = time.time() - time.monotonic() if epoch_offset is None else epoch_offset

    @property
    def is_up(self) -> bool:
        """Whether the store decides now."""
        return self.health.is_up

    def watch(self, changed: Callable[[], None]) -> None:
        """Have somebody told when the store goes away or comes back."""
        self._changed.append(changed)

    # -- what is shared ----------------------------------------------------------------------------------------------

    def buckets(self, kind: str, name: str, limits: LimitsConfig, now: float) -> list[SharedBucket]:
        """Give the shared limits of an `account` (and model), `tenant` or `task`; those that are known get the new limits."""
        found: list[SharedBucket] = []
        away = limits.when_away
        if limits.concurrency is not None:
            key = self._key("places", kind, name)
            found.append(
                self._known(key, limits.concurrency, 0.0, away, now)
                or SharedPlaces(
                    key,
                    capacity=limits.concurrency,
                    when_away=away,
                    process=self.process,
                    processes=self.processes,
                )
            )
        for unit, per_minute in (("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute)):
            if per_minute is not None:
                key, rate = self._key(unit, kind, name), per_minute / 60
                capacity = max(1.0, rate * limits.burst_s)
                found.append(
                    self._known(key, capacity, rate, away, now)
                    or SharedTokenBucket(
                        unit,
                        key,
                        capacity=capacity,
                        refill_per_s=rate,
                        when_away=away,
                        now=now,
                        processes=self.processes,
                    )
                )
        for period, usd in (("day", limits.usd_per_day), ("month", limits.usd_per_month)):
            if usd is not None:
                key = self._key(f"usd-{period}", kind, name)
                found.append(
                    self._known(key, float(usd), 0.0, away, now)
                    or SharedBudget(
                        key,
                        capacity=float(usd),
                        period=period,
                        when_away=away,
                        epoch_offset=self._epoch_offset,
                    )
                )
                self._urgent.set()  # something of it is held ahead at once
        for bucket in found:
            bucket.stops = limits.on_overrun == "stop"
            bucket.is_away = not self.is_up
            self._buckets[bucket.key] = bucket
        return found

    @property
    def is_telling(self) -> bool:
        """Whether something that was settled is on its way."""
        return self._telling.locked() or self._unsure is not None

    @property
    def known(self) -> list[SharedBucket]:
        """Every shared limit that this process knows."""
        return list(self._buckets.values())

    def breaker(self, name: str, config: BreakerConfig) -> SharedBreaker:
        """Give the shared breaker of an account and model."""
        key = self._key("breaker", "account", name)
        breaker = self._breakers.get(key)
        if breaker is None:
            breaker = self._breakers[key] = SharedBreaker(config)
            breaker.watch(self._breaker_changed)
        return breaker

    def _known(self, key: str, capacity: float, rate: float, away: str, now: float) -> SharedBucket | None:
        known = self._buckets.get(key)
        if known is not None:
            known.resize(float(capacity), rate, away, now)
        return known

    def _key(self, what: str, kind: str, name: str) -> str:
        # The braces make all keys of a prefix one slot of a cluster, since one script speaks of several.
        return f"{self._tag}:{what}:{kind}:{name}"

    # -- asking ------------------------------------------------------------------------------------------------------

    async def reserve(self, buckets: Sequence[SharedBucket], wants: Wants, *, in_line: bool) -> Verdict | None:
        """Reserve from all buckets or none; None when the store is away.

        Args:
            in_line: the caller waits at the head of its lines: what it wants is set aside against other processes.

        """
        told = self._sequence
        verdict = await self._ask(buckets, wants, in_line)
        if verdict is None or verdict.is_granted:
            return verdict
        # Who left while asking may have been granted what this one was refused, and gives it back once that is heard.
        self._left = {each for each in self._left if not each.is_answered}
        left = [each for each in self._left if not set(each.buckets).isdisjoint(buckets)]
        for question in left:
            await question.done.wait()
        if (
            not left
            and told == self._sequence
            and not self._telling.locked()
            and not any(bucket.is_owing() for bucket in buckets)
        ):
            return verdict
        # It may have been refused without what this process gave back meanwhile, or is about to.
        await self.put_right()
        return await self._ask(buckets, wants, in_line)

    async def _ask(self, buckets: Sequence[SharedBucket], wants: Wants, in_line: bool) -> Verdict | None:
        if not self.is_up:
            return None
        question = self._question(buckets, wants, "1" if in_line else "0", None)
        self._post(question)
        try:
            await question.done.wait()
        except BaseException:
            question.is_abandoned = True
            if question.is_answered:
                question.give_back()
            else:
                self._left = {each for each in self._left if not each.is_answered} | {question}
            raise
        return question.verdict

    def extend(self, buckets: Sequence[SharedBucket], wants: Wants, heard: Callable[[Verdict | None], None]) -> None:
        """Reserve more for a stream that runs; `heard` is told a little later."""
        self._post(self._question(buckets, wants, "2", heard))

    async def may_probe(self, name: str, *, early: bool = False) -> tuple[Leave, float] | None:
        """Ask for the one place of a breaker's probe, and how long to wait for it; None when the store is away.

        Args:
            early: the call has nowhere else to go.

        """
        key = self._key("breaker", "account", name)
        call = (scripts.PROBE, (key,), (self._now(), self.process, self._lease_us, int(early)))
        replies = await self._run([call])
        if replies is None:
            return None
        return Leave(int(replies[0][0])), int(replies[0][1]) / 1e6

    async def seed(self, budget: SharedBudget, spent_usd: float) -> bool:
        """Count what was spent in this period before anybody shared the budget; tell whether nobody had."""
        replies = await self._run([(scripts.SEED, (budget.key,), (self._now(), budget.kind, budget.units(spent_usd)))])
        return replies is not None and int(replies[0][1]) == 1

    def _question(
        self,
        buckets: Sequence[SharedBucket],
        wants: Wants,
        standing: str,
        heard: Callable[[Verdict | None], None] | None,
    ) -> _Question:
        amounts = [wants.of(bucket.unit) for bucket in buckets]
        own = [bucket.argument() for bucket in buckets]
        arguments: list[object] = [self._now(), self.process, standing, self._lease_us]
        for bucket, amount, argument in zip(buckets, amounts, own, strict=True):
            arguments += (bucket.kind, bucket.capacity_units, bucket.rate_units, bucket.units(amount), argument)
        call = (scripts.RESERVE, [bucket.key for bucket in buckets], arguments)
        return _Question(buckets, amounts, own, call, heard)

    def _post(self, question: _Question) -> None:
        self.asked += 1
        self._pending.append(question)
        if self._idle:
            self._idle.pop().set()

    async def _carry(self) -> None:
        """Take what is asked to the store, all that waits at once, and bring back the answers."""
        pending = self._pending
        while True:
            while not pending:
                event = anyio.Event()
                self._idle.append(event)
                await event.wait()
            batch = [pending.popleft() for _ in range(min(len(pending), _BATCH))]
            try:
                replies = await self._run([question.call for question in batch])
            except BaseException:
                for question in batch:
                    question.answer(None)
                raise
            now = time.monotonic()
            for number, question in enumerate(batch):
                question.answer(None if replies is None else _read(question, replies[number], now))

    async def _run(self, calls: Sequence[Call], *, always: bool = False) -> list[list[Any]] | None:
        """Give the replies, or None when the store is away; `always` asks all the same."""
        if not always and not self.is_up:
            return None
        sent, busy = time.monotonic(), time.thread_time()
        try:
            replies = await self._connection.run(calls)
        except StoreAwayError as error:
            if self.health.failed(str(error), time.monotonic()):
                self._went_away()
            return None
        # What this process did meanwhile is not the store's slowness.
        if self.is_up and self.health.answered(sent, time.monotonic() - (time.thread_time() - busy)):
            self._went_away()
        return replies

    # -- telling -----------------------------------------------------------------------------------------------------

    def owes(self) -> None:
        """Say that something was settled."""
        self._owing.set()

    async def _tell(self) -> None:
        """Tell the store what was settled: soon, so that one message tells of several calls; at once where somebody waits."""
        while True:
            await self._owing.wait()
            if not any(bucket.line for bucket in self._buckets.values()):
                await anyio.sleep(_GATHER_S)
            self._owing = anyio.Event()
            if self.is_up:
                await self._put_right()

    async def put_right(self) -> bool:
        """Tell what is owed now; tell whether it arrived."""
        return self.is_up and await self._put_right()

    async def _put_right(self, *, keep: bool = False, always: bool = False) -> bool:
        """Tell what is owed and, with `keep`, which places go on; tell whether it arrived."""
        async with self._telling:
            return await self._put_right_alone(keep=keep, always=always)

    async def _put_right_alone(self, *, keep: bool, always: bool) -> bool:
        if self._unsure is not None:
            # It may have arrived: the same number once more does nothing then.
            if await self._run([self._unsure], always=always) is None:
                return False
            self._unsure = None
        told: list[SharedBucket] = []
        arguments: list[object] = [self._now(), 0, self._lease_us]
        for bucket in list(self._buckets.values()):
            keeps = keep and isinstance(bucket, SharedPlaces) and bool(bucket.leases)
            if not keeps and not bucket.is_owing():
                continue
            for change in _changes(bucket, keeps):
                told.append(bucket)
                arguments += (bucket.kind, bucket.capacity_units, bucket.rate_units, *change)
        if not told:
            return True
        self._sequence += 1
        arguments[1] = self._sequence
        keys = [f"{self._tag}:done:{self.process}", *(bucket.key for bucket in told)]
        self._unsure = (scripts.ADJUST, keys, arguments)
        replies = await self._run([self._unsure], always=always)
        if replies is None:
            return False
        self._unsure = None
        now = time.monotonic()
        for bucket, left in zip(told, replies[0][1:], strict=True):
            bucket.told(int(left), now)
            if bucket.line is not None:
                bucket.line.wake()
        return True

    # -- keeping -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[SharedStore]:
        """Share while the block runs; it is entered whether the store is there or not."""
        try:
            for _ in range(_FIRST_KNOCKS):
                if not self.is_up:
                    await self._knock(time.monotonic())
            async with anyio.create_task_group() as tasks:
                for _ in range(self._couriers):
                    tasks.start_soon(self._carry)
                tasks.start_soon(self._tell)
                tasks.start_soon(self._keep)
                yield self
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # What the block raised leaves as itself.
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1.0):
                if self.is_up:
                    for bucket in self._buckets.values():
                        if isinstance(bucket, SharedPlaces):
                            bucket.gone += bucket.leases
                            bucket.leases = []
                    await self._put_right()
                    await self._run([self._beat(scripts.LEAVE)])
                await self._connection.aclose()

    async def _keep(self) -> None:
        """Beat, compare breakers and keep places while the store is there; knock while it is not."""
        while True:
            with anyio.move_on_after(_SYNC_S if self.is_up else _PROBE_S):
                await self._urgent.wait()
            self._urgent = anyio.Event()
            now = time.monotonic()
            if not self.is_up:
                await self._knock(now)
                continue
            await self._compare()
            if now - self._kept_at >= self.config.lease_s / 3:
                self._kept_at = now
                await self._put_right(keep=True)
            if now - self._beaten_at >= _BEAT_S or self._has_new_budgets():
                await self._say_alive(now)

    async def _knock(self, now: float) -> None:
        """Ask a store that is away whether it is back; before it decides again it hears what was used meanwhile."""
        sent = time.monotonic()
        replies = await self._run([self._beat(scripts.BEAT)], always=True)
        if replies is None or not self.health.answered(sent, time.monotonic()):
            return
        self.health.state = StoreState.AWAY  # not before it has heard everything
        await self._connection.reset()
        for bucket in self._buckets.values():
            bucket.reckon(time.monotonic())
        if not await self._put_right(keep=True, always=True):
            return
        # From here to the end of the loop nothing else runs: either all limits are the store's, or none.
        self.health.state = StoreState.UP
        for bucket in self._buckets.values():
            bucket.came_back(time.monotonic())
        self._kept_at = -math.inf
        self.owes()
        await self._say_alive(now)
        if not self.is_up:
            return
        await self._compare()
        _log.info("the shared store is there", extra={"fields": {"processes": self.processes}})
        self._tell_all()

    async def _say_alive(self, now: float) -> None:
        self._beaten_at = now
        budgets = self._budgets()
        replies = await self._run([self._beat(scripts.BEAT)])
        if replies is None:
            return
        reply = replies[0]
        heard = time.monotonic()
        self.processes = max(1, int(reply[1]))
        if self._clock_us is None:
            self._epoch_offset = int(reply[0]) / 1e6 - heard
        for budget, held, is_counted in zip(budgets, reply[2::2], reply[3::2], strict=False):
            self.forgotten += budget.is_counted and not int(is_counted)
            budget.is_counted = bool(int(is_counted))
            budget.epoch_offset = self._epoch_offset
            # Valid from before it was asked for, so that it has run out here before it has there.
            budget.holds(int(held), now + self.config.money_lease_s)
        self.budgets_held = len(budgets)

    def _beat(self, script: str) -> Call:
        keys = [f"{self._tag}:processes"]
        arguments: list[object] = [
            self._now(),
            self.process,
            round(_PROCESS_TTL_S * 1e6),
            round(self.config.money_lease_s * 1e6),
        ]
        # A store that was away gets no new promise before it has heard what was spent.
        for budget in self._budgets() if self.is_up or script == scripts.LEAVE else ():
            keys += (budget.key, budget.holders_key)
            arguments += (budget.kind, budget.capacity_units, round(self.config.money_lease * 1e6))
        return script, keys, arguments

    def _budgets(self) -> list[SharedBudget]:
        return [bucket for bucket in self._buckets.values() if isinstance(bucket, SharedBudget)]

    def _has_new_budgets(self) -> bool:
        return len(self._budgets()) != self.budgets_held

    async def _compare(self) -> None:
        """Tell what breakers have seen, and hear what those of all processes come to."""
        breakers = list(self._breakers.items())
        for begin in range(0, len(breakers), _MOST_BREAKERS):
            chosen = breakers[begin : begin + _MOST_BREAKERS]
            arguments: list[object] = [self._now(), self.process]
            said = [breaker.tell(arguments) for _, breaker in chosen]
            replies = await self._run([(scripts.BREAKERS, [key for key, _ in chosen], arguments)])
            now = time.monotonic()
            for number, (_, breaker) in enumerate(chosen):
                if replies is None:
                    breaker.unsaid(said[number])
                    continue
                is_open, left, why = replies[0][3 * number + 1 : 3 * number + 4]
                breaker.hear(bool(int(is_open)), int(left) / 1e6, _text(why), now)

    def _breaker_changed(self) -> None:
        self._urgent.set()

    def _went_away(self) -> None:
        now = time.monotonic()
        for bucket in self._buckets.values():
            bucket.went_away(now, self.processes)
        _log.warning(
            "the shared store is away: each process keeps its share of the limits",
            extra={"fields": {"reason": self.health.reason, "processes": self.processes}},
        )
        while self._pending:
            self._pending.popleft().answer(None)
        self._tell_all()

    def _tell_all(self) -> None:
        for changed in self._changed:
            changed()
        for bucket in self._buckets.values():
            if bucket.line is not None:
                bucket.line.wake()

    @property
    def _lease_us(self) -> int:
        return round(self.config.lease_s * 1e6)

    def _now(self) -> object:
        return "" if self._clock_us is None else self._clock_us()


def _read(question: _Question, reply: list[Any], now: float) -> Verdict:
    """Give what a reply says, and have the buckets note it."""
    is_granted = int(reply[0]) == 1
    waits: list[float] = []
    for number, bucket in enumerate(question.buckets):
        wait, left = int(reply[2 * number + 2]), int(reply[2 * number + 3])
        waits.append(float("inf") if wait < 0 else wait / 1e6)
        bucket.told(left, now)
        if is_granted:
            bucket.granted(question.amounts[number], question.arguments[number])
    return Verdict(is_granted, waits)


def _changes(bucket: SharedBucket, keeps: bool) -> Iterable[tuple[object, ...]]:
    """Take what a bucket owes, as the adjusting script's arguments."""
    if isinstance(bucket, SharedPlaces):
        gone, bucket.gone = bucket.gone, []
        leases = bucket.leases if keeps else []
        return [(len(gone), len(leases), *gone, *leases)]
    if isinstance(bucket, SharedBudget):
        owed, bucket.owed_by_period = bucket.owed_by_period, {}
        return [(units, period) for period, units in owed.items()]
    units, bucket.owed = bucket.owed, 0
    return [(units, 0)]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
