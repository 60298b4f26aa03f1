"""Budgets of tenants: a hard stop or a cheaper chain, over restarts and reloads, whichever store the ledger has."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import anyio
import grpc
import grpc.aio
import pytest

from gearshift.core.answer import Usage
from gearshift.core.blueprint import Blueprint
from gearshift.core.buckets import Budget, period_of
from gearshift.core.config.model import (
    AccessConfig,
    LedgerConfig,
    LimitsConfig,
    RedisConfig,
    SharedConfig,
    TenantConfig,
)
from gearshift.core.errors import LedgerError
from gearshift.core.ledger import BufferedLedger
from gearshift.core.shared.buckets import SharedBudget
from gearshift.core.shared.store import SharedStore
from gearshift.v1 import call_pb2, router_pb2
from tests.support.blueprints import declared_task, stage
from tests.support.changed import changed
from tests.support.postgres_server import postgres_server
from tests.support.redis_server import RedisServer, redis_server
from tests.support.running_server import RunningServer, events_of, failure_of, of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, says
from tests.support.shared_limits import until

FIVE_HUNDRED = call_pb2.Parameters(max_tokens=500)
DEAR = stage(0, price="1000")
"""1 USD for 1000 tokens."""
CHEAP = stage(0, provider="cheap", model="mini", price="10")
CALL = Usage(input_tokens=500, output_tokens=500)
"""1 USD on the dear stage, 0.01 on the cheap one."""


def house(day: str | None, month: str | None = None, on_exhausted: str = "stop", **config: object) -> Blueprint:
    """Give a service whose only tenant has a budget, with a cheaper chain beside the dear one."""
    limits = LimitsConfig(
        usd_per_day=None if day is None else Decimal(day), usd_per_month=None if month is None else Decimal(month)
    )
    tenants = {"default": TenantConfig(limits=limits, on_exhausted=on_exhausted)}
    made = of_stages(DEAR, access=AccessConfig(tenants=tenants))
    small = changed(made.chains["generate"], name="small", stages=(CHEAP,), revision="small")
    providers = {**made.providers, "cheap": CHEAP.provider}
    return replace(
        made,
        chains={**made.chains, "small": small},
        providers=providers,
        config=changed(made.config, **config),
        revision=f"{day} {month} {on_exhausted}",
    )


def upstream() -> dict[str, ScriptedProvider]:
    """Give both providers; each call uses what `CALL` says."""
    return {name: ScriptedProvider([says(f"by {name}", usage=CALL)]) for name in ("p0", "cheap")}


async def told(server: RunningServer, task_id: str = "greet") -> str:
    """Give what a call is answered, or how it fails."""
    try:
        return (await server.route(plain_call(task_id=task_id, parameters=FIVE_HUNDRED), timeout=5)).answer.text
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {','.join(failure_of(error).quotas)}"


async def test_spent_budget_stops_and_says_until_when() -> None:
    async with running_server(house("2"), providers=upstream()) as server:
        assert [await told(server) for _ in range(2)] == ["by p0", "by p0"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.route(plain_call(parameters=FIVE_HUNDRED), timeout=5)
    failed = failure_of(caught.value)
    assert (failed.code, failed.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert failed.quotas == ["cost of tenant default"]
    ends = period_of("day", time.time())[1]
    assert failed.retry_after_s == pytest.approx(ends - time.time(), abs=30)


async def test_call_dearer_than_the_budget_is_sent_away_until_the_next_day() -> None:
    async with running_server(house("0.2"), providers=upstream()) as server:
        with pytest.raises(grpc.aio.AioRpcError, match="cost of tenant default") as caught:
            await server.route(plain_call(parameters=FIVE_HUNDRED), timeout=5)
    wait = failure_of(caught.value).retry_after_s
    assert wait == pytest.approx(period_of("day", time.time())[1] - time.time(), abs=30)


async def test_spent_budget_goes_on_in_the_cheaper_chain_and_says_so() -> None:
    provider = upstream()
    async with running_server(house("2", on_exhausted="small"), providers=provider) as server:
        assert [await told(server) for _ in range(4)] == ["by p0", "by p0", "by cheap", "by cheap"]
        answer = (await server.route(plain_call(parameters=FIVE_HUNDRED), timeout=5)).answer
        assert answer.completion.served_by.provider == "cheap"
        (note,) = answer.completion.notes
        assert note.startswith("the budget of the tenant default is spent until ")
        assert note.endswith("UTC: the chain small serves instead")
        events = await server.stream(plain_call(parameters=FIVE_HUNDRED), timeout=5)
        assert [each.provider for each in events_of(events, "started")[0].plan] == ["cheap"]
        explained = await server.router.Explain(router_pb2.ExplainRequest(call=plain_call(parameters=FIVE_HUNDRED)))
        assert [each.stage.provider for each in explained.stages] == ["cheap"]
    assert len(provider["p0"].calls) == 2


async def test_what_the_cheaper_chain_costs_is_counted() -> None:
    async with running_server(house("1", "5", on_exhausted="small"), providers=upstream()) as server:
        assert await told(server) == "by p0"
        for _ in range(5):
            assert await told(server) == "by cheap"
        left = server.app.budgets.left(time.monotonic())
        assert left["tenant", "default", "day"] == pytest.approx(-0.05)
        assert left["tenant", "default", "month"] == pytest.approx(3.95)
        assert server.app.metrics is not None
        text = server.app.metrics.exposition().decode()
        assert 'gearshift_budget_left_usd{name="default",of="tenant",period="month"} 3.95' in text


async def test_call_dearer_than_the_budget_goes_to_the_cheaper_chain_at_once() -> None:
    async with running_server(house("0.2", on_exhausted="small"), providers=upstream()) as server:
        assert await told(server) == "by cheap"


async def test_budget_that_runs_out_after_planning_goes_on_in_the_cheaper_chain() -> None:
    async with running_server(house("1.4", on_exhausted="small"), providers=upstream()) as server:
        answers: list[str] = []
        streams: list[str] = []

        async def call() -> None:
            answers.append(await told(server))

        async def stream() -> None:
            events = await server.stream(plain_call(parameters=FIVE_HUNDRED), timeout=5)
            kinds = [event.WhichOneof("kind") for event in events]
            assert (kinds[0], kinds[-1], kinds.count("started")) == ("started", "completed", 1)
            streams.append(events_of(events, "completed")[-1].completion.served_by.provider)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(call)
                tasks.start_soon(stream)
        assert len(answers) == len(streams) == 10
        # At 0.5 USD a reservation there is room for two at once, and for one where the first has ended before.
        assert 1 <= answers.count("by p0") + streams.count("p0") <= 2


async def test_refusal_for_another_reason_is_told_whole_to_streams() -> None:
    made = house("5", on_exhausted="small")
    tenant = made.config.access.tenants["default"]
    limits = changed(tenant.limits, concurrency=1)
    access = AccessConfig(tenants={"default": changed(tenant, limits=limits)})
    held = anyio.Event()
    provider = ScriptedProvider([changed(says("by p0", usage=CALL), waits_for=held)])
    made = changed(made, config=changed(made.config, access=access))
    async with running_server(made, providers={"p0": provider}) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(told, server)
        await provider.waiting.wait()
        stream = server.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()), timeout=0.5)
        first = await stream.read()
        assert isinstance(first, router_pb2.StreamRouteResponse)
        assert [event.WhichOneof("kind") for event in first.events] == ["started", "completed"]
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.read()
        held.set()


@contextmanager
def sqlite(folder: Path) -> Generator[LedgerConfig]:
    yield LedgerConfig(path=str(folder / "ledger.db"))


@contextmanager
def postgres(_folder: Path) -> Generator[LedgerConfig]:
    with postgres_server() as server:
        yield LedgerConfig(url=server.url)


@pytest.mark.parametrize("store", [sqlite, postgres])
async def test_budgets_survive_a_restart(
    tmp_path: Path, store: Callable[[Path], AbstractContextManager[LedgerConfig]]
) -> None:
    with store(tmp_path) as ledger:
        async with running_server(house("3", "4", ledger=ledger), providers=upstream()) as server:
            assert [await told(server) for _ in range(2)] == ["by p0", "by p0"]
        for first in (True, False):
            async with running_server(house("3", "4", ledger=ledger), providers=upstream()) as server:
                left = server.app.budgets.left(time.monotonic())
                assert left["tenant", "default", "day"] == pytest.approx(1 if first else 0)
                assert left["tenant", "default", "month"] == pytest.approx(2 if first else 1)
                assert await told(server) == ("by p0" if first else "RESOURCE_EXHAUSTED cost of tenant default")


async def test_a_tasks_and_an_accounts_budget_survive_too(tmp_path: Path) -> None:
    ledger = LedgerConfig(path=str(tmp_path / "ledger.db"))
    made = house(None, ledger=ledger)
    two = LimitsConfig(usd_per_day=Decimal(2))
    chain = made.chains["generate"]
    task = changed(declared_task("greet", chain), limits=two)
    of_task = replace(made, tasks={"greet": task})
    limited = stage(0, price="1000", limits=two)
    of_account = replace(made, chains={**made.chains, "generate": changed(chain, stages=(limited,))})
    async with running_server(made, providers=upstream()) as server:
        assert [await told(server) for _ in range(2)] == ["by p0", "by p0"]
    async with running_server(of_task, providers=upstream()) as server:
        assert await told(server) == "RESOURCE_EXHAUSTED cost of task greet"
        assert await told(server, "other") == "by p0"
    async with running_server(of_account, providers=upstream()) as server:
        assert await told(server) == "RESOURCE_EXHAUSTED cost of p0/default/m0"


async def test_yesterdays_spending_is_not_todays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = LedgerConfig(path=str(tmp_path / "ledger.db"))
    async with running_server(house("2", ledger=ledger), providers=upstream()) as server:
        assert [await told(server) for _ in range(2)] == ["by p0", "by p0"]
    later = period_of("day", time.time())[1] + 60 - time.time()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + later)
    async with running_server(house("2", ledger=ledger), providers=upstream()) as server:
        assert await told(server) == "by p0"


async def test_another_limit_is_no_new_money(tmp_path: Path) -> None:
    ledger = LedgerConfig(path=str(tmp_path / "ledger.db"))
    now = house("2", ledger=ledger)
    async with running_server(now, providers=upstream(), read=lambda: now) as server:
        assert [await told(server) for _ in range(2)] == ["by p0", "by p0"]
        now = house("2.5", ledger=ledger)
        await server.app.reload()
        assert (await told(server)).startswith("RESOURCE_EXHAUSTED")
        # A budget that is new counts what was spent before it was there.
        now = house(None, "2", ledger=ledger)
        await server.app.reload()
        assert (await told(server)).startswith("RESOURCE_EXHAUSTED")
        now = house("3", "3", ledger=ledger)
        await server.app.reload()
        assert await told(server) == "by p0"
        assert (await told(server)).startswith("RESOURCE_EXHAUSTED")


async def test_ledger_that_cannot_be_read_at_the_start_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = LedgerConfig(path=str(tmp_path / "ledger.db"))
    async with running_server(house("2", ledger=ledger), providers=upstream()) as server:
        assert [await told(server) for _ in range(2)] == ["by p0", "by p0"]
    real, is_away = BufferedLedger.spent, True

    async def spent(self: BufferedLedger, **query: object) -> Decimal:
        if is_away:
            raise LedgerError("the ledger is away")
        return await real(self, **query)  # type: ignore[arg-type]

    monkeypatch.setattr(BufferedLedger, "spent", spent)
    monkeypatch.setattr("gearshift.server.budgets._RETRY_S", 0.01)
    async with running_server(house("2", ledger=ledger), providers=upstream()) as server:
        assert any("budgets do not yet count" in each for each in server.app.status().warnings)
        is_away = False
        with anyio.fail_after(5):
            while server.app.status().warnings:
                await anyio.sleep(0.01)
        assert (await told(server)).startswith("RESOURCE_EXHAUSTED")


async def test_shared_budget_is_seeded_once(tmp_path: Path) -> None:
    ledger = LedgerConfig(path=str(tmp_path / "ledger.db"))
    async with running_server(house("3", ledger=ledger), providers=upstream()) as server:
        assert [await told(server) for _ in range(2)] == ["by p0", "by p0"]
    async with redis_server() as redis:
        shared = SharedConfig(redis=RedisConfig(url=redis.url, slow_s=2.0, timeout_s=2.0))
        made = house("3", on_exhausted="small", ledger=ledger, shared=shared)
        async with AsyncExitStack() as stack:
            one, two, three = [
                await stack.enter_async_context(running_server(made, providers=upstream())) for _ in range(3)
            ]
            assert await told(one) == "by p0"
            assert await told(one) == "by cheap"
            # The others have not heard of that when they plan.
            assert await told(two) == "by cheap"
            events = await three.stream(plain_call(parameters=FIVE_HUNDRED), timeout=5)
            assert [each.plan[0].provider for each in events_of(events, "started")] == ["cheap"]


async def test_shared_budget_is_seeded_as_soon_as_its_store_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gearshift.server.budgets._RETRY_S", 0.02)
    ledger = LedgerConfig(path=str(tmp_path / "ledger.db"))
    async with running_server(house("2", ledger=ledger), providers=upstream()) as server:
        assert [await told(server) for _ in range(2)] == ["by p0", "by p0"]
    async with redis_server() as redis:
        redis.kill()
        shared = SharedConfig(redis=RedisConfig(url=redis.url, slow_s=2.0, timeout_s=2.0))
        async with running_server(house("2", ledger=ledger, shared=shared), providers=upstream()) as server:
            assert any("the shared store is away" in each for each in server.app.status().warnings)
            assert (await told(server)).startswith("RESOURCE_EXHAUSTED")
            await redis.start()
            with anyio.fail_after(10):
                while server.app.status().warnings:
                    await anyio.sleep(0.02)
            assert (await told(server)).startswith("RESOURCE_EXHAUSTED")
            left = server.app.budgets.left(time.monotonic())
            assert left["tenant", "default", "day"] == pytest.approx(0)


def budgets_of(store: SharedStore) -> list[SharedBudget]:
    """Give the budgets that a store keeps."""
    return [each for each in store.known if isinstance(each, SharedBudget)]


async def _restarted(redis: RedisServer) -> None:
    redis.kill()
    await redis.start()


async def _emptied(redis: RedisServer) -> None:
    await redis.lose_everything()


@pytest.mark.parametrize("loses", [_restarted, _emptied], ids=["restarted", "emptied"])
async def test_shared_budget_is_counted_anew_where_its_store_lost_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loses: Callable[[RedisServer], Awaitable[None]]
) -> None:
    monkeypatch.setattr("gearshift.server.budgets._RETRY_S", 0.02)
    ledger = LedgerConfig(path=str(tmp_path / "ledger.db"))
    async with redis_server() as redis:
        shared = SharedConfig(redis=RedisConfig(url=redis.url, slow_s=2.0, timeout_s=2.0))
        async with running_server(house("2", ledger=ledger, shared=shared), providers=upstream()) as server:
            assert [await told(server) for _ in range(2)] == ["by p0", "by p0"]
            await server.app.ledger.flush()
            rounds = server.app.budgets.rounds
            store = server.app.store
            assert store is not None
            await until(lambda: store.budgets_held > 0 and all(each.is_counted for each in budgets_of(store)))
            await loses(redis)
            with anyio.fail_after(10):
                while server.app.budgets.rounds == rounds:
                    await anyio.sleep(0.02)
            assert (await told(server)).startswith("RESOURCE_EXHAUSTED")


def test_budget_counts_what_was_spent_before() -> None:
    budget = Budget(capacity=5.0, epoch_offset=0.0, now=10.0)
    budget.seed(4.5, 10.0)
    assert budget.wait_for(0.4, 10.0) == 0 and budget.wait_for(0.6, 10.0) > 0


async def test_budget_follows_a_clock_that_went_on_while_the_machine_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gearshift.server.budgets._CLOCK_S", 0.02)
    async with running_server(house("1"), providers=upstream()) as server:
        assert await told(server) == "by p0"
        assert (await told(server)).startswith("RESOURCE_EXHAUSTED")
        real, slept_s = time.time, 86_400
        monkeypatch.setattr(time, "time", lambda: real() + slept_s)
        await until(lambda: server.app.budgets.left(time.monotonic())["tenant", "default", "day"] == 1)
        monkeypatch.undo()
