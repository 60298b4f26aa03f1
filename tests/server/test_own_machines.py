"""Own machines behind the service: pressure for those who look, idle time in the ledger, adaptive order over a restart."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import anyio
import pytest

from gearshift.clients.cli.render import explanation
from gearshift.clients.cli.render_ops import stages as shown_stages
from gearshift.clients.cli.terminal import Palette
from gearshift.core.blueprint import Blueprint, Stage
from gearshift.core.catalogue.money import machine_cost
from gearshift.core.config.model import AdaptiveConfig, LedgerConfig, PressureConfig
from gearshift.core.errors import LedgerError
from gearshift.core.ledger import BufferedLedger, CostQuery, CostReport
from gearshift.core.ledger.opening import configured_ledger
from gearshift.core.ledger.sqlite_store import SqliteStore
from gearshift.core.words import Complexity, CostGroup, FailureKind
from gearshift.server.own_machines import OwnMachines
from gearshift.server.workers.merging import merged_stages
from gearshift.v1 import ops_pb2, router_pb2
from tests.support.blueprints import stage
from tests.support.changed import changed
from tests.support.running_server import RunningServer, of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, fails, says
from tests.support.scripted_server import BOUND_S, Reply, scripted

_METRICS = """\
vllm:num_requests_running{engine="0"} 7.0
vllm:num_requests_waiting{engine="0"} 4.0
vllm:kv_cache_usage_perc{engine="0"} 0.5
"""
_PLAIN = Palette(is_on=False)


def own_stage(url: str, *, most: int | None = None, kind: str = "openai", place: int = 0) -> Stage:
    made = stage(place, price=None)
    spec = made.provider.accounts[0]
    provider = changed(
        made.provider,
        kind=kind,
        dialect="vllm" if kind == "openai" else "",
        cost_per_hour_usd=Decimal("3.6"),
        pressure=PressureConfig(max_queued=most),
        accounts=(changed(spec, account=changed(spec.account, base_url=url)),),
    )
    return changed(made, provider=provider, model=changed(made.model, self_hosted=True))


async def _stages(server: RunningServer) -> list[ops_pb2.StageStatus]:
    return list((await server.ops.ListStages(ops_pb2.ListStagesRequest(), timeout=BOUND_S)).stages)


async def test_who_looks_sees_the_pressure_on_a_machine() -> None:
    async with scripted(Reply.text(_METRICS)) as machine:
        plan = of_stages(own_stage(f"{machine.url}/v1", most=3), stage(1))
        async with running_server(plan, providers={"p0": ScriptedProvider(), "p1": ScriptedProvider()}) as server:
            seen, other = await _stages(server)
    said = seen.pressure
    assert (said.kind, said.running, said.queued, said.cache_used, said.max_queued) == ("vllm", 7, 4, 0.5, 3)
    assert not said.own_calls
    assert not other.HasField("pressure")
    told = shown_stages([seen, other], _PLAIN)
    assert "p0/default" in told
    assert "4 of 3" in told
    assert "50%" in told


async def test_a_long_queue_sends_calls_elsewhere() -> None:
    async with scripted(Reply.text(_METRICS)) as machine:
        plan = of_stages(own_stage(f"{machine.url}/v1", most=3), stage(1))
        providers = {"p0": ScriptedProvider([says("own")]), "p1": ScriptedProvider([says("other")])}
        async with running_server(plan, providers=providers) as server:
            assert (await server.route(plain_call())).answer.completion.served_by.model == "m0"  # nothing is known yet
            await _stages(server)
            answer = (await server.route(plain_call())).answer
    assert answer.completion.served_by.model == "m1"
    assert [each.reason for each in answer.completion.skipped] == ["pressure"]


async def test_a_machine_that_cannot_be_asked_is_shown_and_used() -> None:
    plan = of_stages(own_stage("http://127.0.0.1:9", most=0, kind="ollama"))
    async with running_server(plan, providers={"p0": ScriptedProvider([says("own")])}) as server:
        (seen,) = await _stages(server)
        assert (await server.route(plain_call())).answer.completion.served_by.model == "m0"
    assert seen.pressure.own_calls
    assert "/api/ps did not answer" in seen.pressure.error
    assert seen.pressure.failures == 1
    assert "did not answer" in shown_stages([seen], _PLAIN)


async def test_metrics_show_machines_by_provider_and_account() -> None:
    async with scripted(Reply.text(_METRICS)) as machine:
        plan = of_stages(own_stage(f"{machine.url}/v1"))
        async with running_server(plan, providers={"p0": ScriptedProvider()}) as server:
            await _stages(server)
            assert server.app.metrics is not None
            told = server.app.metrics.exposition().decode()
    assert 'gearshift_machine_queued{account="default",provider="p0"} 4.0' in told
    assert 'gearshift_machine_running{account="default",provider="p0"} 7.0' in told
    assert 'gearshift_machine_busy_seconds_total{account="default",provider="p0"} 0.0' in told


async def _report(path: Path) -> CostReport:
    ledger = configured_ledger(LedgerConfig(path=str(path)), str(path))
    await ledger.start()
    try:
        return await ledger.report(CostQuery(group_by=(CostGroup.PROVIDER,)))
    finally:
        await ledger.aclose()


async def test_attempts_and_idle_time_add_up_to_the_bill(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    plan = of_stages(own_stage("http://127.0.0.1:9"), path=str(path))
    with anyio.fail_after(BOUND_S):
        async with running_server(plan, providers={"p0": ScriptedProvider([says(*"many words")])}) as server:
            for number in range(12):
                await server.route(plain_call(request_id=f"r{number}"))
    report = await _report(path)
    (machine,) = report.machines
    assert report.total.attempts == 12
    assert report.total.cost_usd > 0
    assert report.total.cost_usd + machine.idle_usd == machine.paid_usd
    assert machine.idle_usd >= 0
    # What the attempts bear is the time in which any ran, however many ran at once.
    assert report.total.cost_usd == pytest.approx(
        machine_cost(Decimal("3.6"), machine.busy_s, 1.0), abs=Decimal("2e-6")
    )


def adaptive(path: Path) -> Blueprint:
    plan = of_stages(
        stage(0, price="5"), stage(1, price="9", capability=Complexity.HIGH), path=str(path), adaptive=True
    )
    chains = {name: changed(chain, weights=AdaptiveConfig(probe_share=0.0)) for name, chain in plan.chains.items()}
    return changed(plan, chains=chains)


async def test_an_adaptive_order_is_explained_and_survives_a_restart(tmp_path: Path) -> None:
    plan = adaptive(tmp_path / "ledger.db")
    providers = {"p0": ScriptedProvider([fails(FailureKind.SERVER)]), "p1": ScriptedProvider([says("fine")])}
    async with running_server(plan, providers=providers) as server:
        for number in range(30):
            await server.route(plain_call(request_id=f"r{number}"))
        before = await server.router.Explain(router_pb2.ExplainRequest(call=plain_call()), timeout=BOUND_S)
    async with running_server(plan, providers=providers) as server:
        after = await server.router.Explain(router_pb2.ExplainRequest(call=plain_call()), timeout=BOUND_S)
    for told in (before, after):
        last = next(each for each in told.stages if each.stage.model == "m1")
        assert last.weighed.answers == pytest.approx(30, rel=0.31)  # the ledger's count as half a half-life old
        assert last.weighed.p_accept > 0.9
        assert told.adaptive.probe_share == 0.0
        assert told.adaptive.reason
        text = explanation(told, _PLAIN)
        assert "adaptive: " in text
        assert "without it" in text
    assert before.adaptive.expected_usd <= before.adaptive.written_usd


async def test_a_written_order_is_not_weighed() -> None:
    async with running_server(of_stages(stage(0)), providers={"p0": ScriptedProvider()}) as server:
        told = await server.router.Explain(router_pb2.ExplainRequest(call=plain_call()), timeout=BOUND_S)
    assert not told.HasField("adaptive")
    assert not told.stages[0].HasField("weighed")
    assert "adaptive" not in explanation(told, _PLAIN)


def test_workers_speak_of_a_machine_as_one() -> None:
    def part(running: int, age_s: float, *, own: bool) -> ops_pb2.ListStagesResponse:
        said = ops_pb2.PressureStatus(running=running, queued=1, own_calls=own, age_seconds=age_s)
        seen = ops_pb2.StageStatus(provider="p", account="a", model="m", pressure=said, parallelism=running)
        return ops_pb2.ListStagesResponse(stages=[seen])

    (asked,) = merged_stages([part(7, 3.0, own=False), part(9, 1.0, own=False)]).stages
    assert (asked.pressure.running, asked.pressure.queued, asked.parallelism) == (9, 1, 9)
    (counted,) = merged_stages([part(2, 3.0, own=True), part(3, 1.0, own=True)]).stages
    assert (counted.pressure.running, counted.pressure.queued) == (5, 2)


async def test_a_ledger_that_cannot_be_read_does_not_stop_the_start(tmp_path: Path) -> None:
    plan = adaptive(tmp_path / "ledger.db")
    async with running_server(plan, providers={"p0": ScriptedProvider(), "p1": ScriptedProvider()}) as server:
        broken = OwnMachines(lambda: server.app.router, _Unreadable(), {})
        with anyio.fail_after(BOUND_S):
            async with broken.running():
                assert broken.pressures() == []


class _Unreadable(BufferedLedger):
    """A ledger whose store is away."""

    def __init__(self) -> None:
        super().__init__(SqliteStore(":memory:", is_synced=False, busy_timeout_s=0.1), max_pending=10)

    async def report(self, query: CostQuery) -> CostReport:
        raise LedgerError("the store is away")
