"""OpsService: what it shows is what is, and what it is told to do it does."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from gearshift.core.answer import Usage
from gearshift.core.blueprint import Blueprint
from gearshift.core.config.model import BreakerConfig, LimitsConfig
from gearshift.core.errors import ConfigError
from gearshift.core.words import FailureKind
from gearshift.server.trail import TRAIL_BUFFER
from gearshift.v1 import answer_pb2, ops_pb2, router_pb2, task_pb2
from tests.support.blueprints import stage
from tests.support.running_server import (
    BOUND_S,
    RunningServer,
    failure_of,
    from_yaml,
    of_stages,
    plain_call,
    running_server,
)
from tests.support.scripted_provider import Script, ScriptedProvider, fails, says
from tests.support.served_config import one_openai

PROMPT = "You answer with care and in a few words, and you never guess at what you were not told. " * 7
NOWHERE = "http://127.0.0.1:9"


def config_file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


async def refused(answering: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answering
    return caught.value.code(), caught.value.details() or ""


async def test_status_says_what_runs() -> None:
    async with running_server(of_stages(stage(0)), providers={"p0": ScriptedProvider([says("hi")])}) as server:
        first = await server.ops.GetStatus(ops_pb2.GetStatusRequest())
        await server.route(plain_call())
        second = await server.ops.GetStatus(ops_pb2.GetStatusRequest())
    assert first.version
    assert first.config_revision == "test"
    assert first.started_at.seconds > 1_700_000_000
    assert (first.calls_in_flight, first.calls_ended) == (1, 0)
    assert (second.calls_in_flight, second.calls_ended) == (1, 2)
    assert not first.HasField("embedded")
    assert list(first.warnings) == []


async def test_status_passes_on_the_configuration_s_warnings() -> None:
    config = from_yaml(one_openai(NOWHERE).replace(", prices: {input_usd: 1, output_usd: 2}", ""))
    async with running_server(config) as server:
        status = await server.ops.GetStatus(ops_pb2.GetStatusRequest())
    assert any("the price of m-up is unknown" in warning for warning in status.warnings)


async def test_chains_and_stages_are_listed_before_any_call() -> None:
    limits = LimitsConfig(requests_per_minute=60, concurrency=3)
    config = of_stages(stage(0, accounts=("a", "b"), limits=limits), stage(1))
    async with running_server(config, providers={}) as server:
        chains = (await server.ops.ListChains(ops_pb2.ListChainsRequest())).chains
        stages = (await server.ops.ListStages(ops_pb2.ListStagesRequest())).stages
        only = (await server.ops.ListStages(ops_pb2.ListStagesRequest(provider="p1"))).stages
        none = (await server.ops.ListStages(ops_pb2.ListStagesRequest(provider="p9"))).stages
    assert [chain.name for chain in chains] == ["classify", "embed", "extract", "generate", "reason"]
    assert [each.model for each in chains[0].stages] == ["m0", "m1"]
    assert chains[0].order == "written"
    assert [(each.provider, each.account, each.model) for each in stages] == [
        ("p0", "a", "m0"),
        ("p0", "b", "m0"),
        ("p1", "default", "m1"),
    ]
    assert {bucket.unit: bucket.capacity for bucket in stages[0].buckets} == {"requests": 60, "concurrency": 3}
    assert all(each.breaker == ops_pb2.BREAKER_STATE_CLOSED for each in stages)
    assert [each.provider for each in only] == ["p1"]
    assert list(none) == []


async def test_stages_show_what_was_measured_and_why_a_breaker_is_open() -> None:
    failing = ScriptedProvider([fails(FailureKind.SERVER, status=500)])
    config = of_stages(stage(0, breaker=BreakerConfig(consecutive_faults=1)), stage(1))
    async with running_server(config, providers={"p0": failing, "p1": ScriptedProvider([says("hi")])}) as server:
        await server.route(plain_call())
        weak, strong = (await server.ops.ListStages(ops_pb2.ListStagesRequest())).stages
    assert (weak.attempts, weak.failures, weak.breaker) == (1, 1, ops_pb2.BREAKER_STATE_OPEN)
    assert weak.breaker_reason
    assert 0 < weak.probe_in_seconds <= 15
    assert (strong.attempts, strong.failures, strong.accepted, strong.in_flight) == (1, 0, 1, 0)
    assert strong.total_ms > 0


# -- what it cost ------------------------------------------------------------------------------------------------------


async def flushed(server: RunningServer, calls: int) -> None:
    await server.seen.wait(calls)
    await server.app.ledger.flush()


async def test_a_comparison_of_unknown_price_is_not_told_as_zero(tmp_path: Path) -> None:
    plan = of_stages(stage(0, price=None), path=str(tmp_path / "ledger.db"))
    async with running_server(plan, providers={"p0": ScriptedProvider([says("Yes.")])}) as server:
        await server.route(plain_call())
        await flushed(server, 1)
        report = await server.ops.GetCostReport(ops_pb2.GetCostReportRequest())
    assert (report.total.unpriced, report.total.strongest_usd, report.total.saved_usd) == (1, "", "")


async def test_cost_report_is_what_happened(tmp_path: Path) -> None:
    """Whole, streamed, failed over, cancelled: a million tokens cost 1 USD at p0 and 10 USD at p1."""
    weak = ScriptedProvider(
        [
            says("a", usage=Usage(input_tokens=1000, output_tokens=100)),
            says("b", "c", usage=Usage(input_tokens=2000, output_tokens=200)),
            fails(FailureKind.SERVER, status=500),
            Script(hangs=True),
        ]
    )
    strong = ScriptedProvider([says("d", usage=Usage(input_tokens=3000, output_tokens=300))])
    config = of_stages(stage(0, price="1"), stage(1, price="10"), path=str(tmp_path / "ledger.db"))
    async with running_server(config, providers={"p0": weak, "p1": strong}) as server:
        whole = (await server.route(plain_call(task_id="whole"))).answer.completion
        streamed = (await server.stream(plain_call(task_id="streamed")))[-1].completed.completion
        over = (await server.route(plain_call(task_id="over"))).answer.completion
        call = server.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call(task_id="left")))
        with anyio.fail_after(BOUND_S):
            await call.read()
            await weak.hanging.wait()
        call.cancel()
        await flushed(server, 4)
        by_task = await server.ops.GetCostReport(ops_pb2.GetCostReportRequest())
        by_model = await server.ops.GetCostReport(
            ops_pb2.GetCostReportRequest(group_by=[ops_pb2.COST_GROUP_MODEL, ops_pb2.COST_GROUP_MODEL])
        )
        one = await server.ops.GetCostReport(ops_pb2.GetCostReportRequest(task_id="over"))
        nobody = await server.ops.GetCostReport(ops_pb2.GetCostReportRequest(tenant="nobody"))
        future = Timestamp(seconds=32_503_680_000)
        late = await server.ops.GetCostReport(ops_pb2.GetCostReportRequest(since=future))
        early = await server.ops.GetCostReport(ops_pb2.GetCostReportRequest(until=future))
    assert whole.cost.total_usd == "0.0011"
    assert streamed.cost.total_usd == "0.0022"
    rows = {row.keys[0]: row for row in by_task.rows}
    assert set(rows) == {"whole", "streamed", "over", "left"}
    assert rows["whole"].cost_usd == "0.0011"
    assert rows["streamed"].cost_usd == "0.0022"
    assert (rows["over"].calls, rows["over"].attempts, rows["over"].failed) == (1, 2, 1)
    assert rows["over"].cost_usd == over.cost.total_usd
    # A caller that left pays for what was read; how much that was is estimated.
    assert rows["left"].usage.source == answer_pb2.USAGE_SOURCE_ESTIMATED
    assert rows["left"].cost_usd == rows["left"].estimated_usd == rows["left"].overhead_usd
    total = sum(float(row.cost_usd) for row in by_task.rows)
    assert math.isclose(float(by_task.total.cost_usd), total)
    assert (by_task.total.calls, by_task.total.attempts, list(by_task.total.keys)) == (4, 5, [])
    assert by_task.pending == 0
    costs = [float(row.cost_usd) for row in by_task.rows]
    assert costs == sorted(costs, reverse=True)
    models = {row.keys[0]: row for row in by_model.rows}
    assert all(len(row.keys) == 1 for row in by_model.rows)
    assert sum(float(row.cost_usd) for row in models.values()) == pytest.approx(total)
    assert [row.keys[0] for row in one.rows] == ["over"]
    assert list(nobody.rows) == list(late.rows) == []
    assert early.total.calls == 4


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ops_pb2.GetCostReportRequest(since=Timestamp(seconds=10**17)), "since"),
        (ops_pb2.GetCostReportRequest(until=Timestamp(nanos=-1)), "until"),
        (ops_pb2.GetCostReportRequest(group_by=[99]), "group_by"),  # type: ignore[list-item]
    ],
)
async def test_cost_report_refuses_what_it_cannot_read(request_: ops_pb2.GetCostReportRequest, field: str) -> None:
    async with running_server(of_stages(stage(0)), providers={}) as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.ops.GetCostReport(request_)
    failed = failure_of(caught.value)
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(failed.fields) == [field]


async def test_restart_keeps_the_ledger(tmp_path: Path) -> None:
    config = of_stages(stage(0), path=str(tmp_path / "ledger.db"))
    for calls in (1, 2):
        async with running_server(config, providers={"p0": ScriptedProvider([says("hi")])}) as server:
            await server.route(plain_call())
            await server.app.ledger.flush()
            report = await server.ops.GetCostReport(ops_pb2.GetCostReportRequest())
            assert report.total.calls == calls


# -- caches ------------------------------------------------------------------------------------------------------------


async def put(server: RunningServer, task_id: str, number: int) -> str:
    request = router_pb2.PutPromptRequest(task_id=task_id, text=f"{chr(97 + number) * 20} {PROMPT}", static=True)
    return (await server.router.PutPrompt(request)).key


async def test_prompts_are_listed_page_by_page_most_used_first() -> None:
    provider = ScriptedProvider([says("hi")])
    async with running_server(of_stages(stage(0)), providers={"p0": provider}) as server:
        keys = [await put(server, "greet", number) for number in range(5)]
        call = plain_call()
        call.system.key = keys[3]
        assert (await server.route(call)).answer.completion.prompt_key == keys[3]
        listed: list[ops_pb2.CacheEntry] = []
        token, pages, page = "", 0, ops_pb2.ListCacheEntriesResponse()
        while pages == 0 or token:
            page = await server.ops.ListCacheEntries(ops_pb2.ListCacheEntriesRequest(page_size=2, page_token=token))
            assert 1 <= len(page.entries) <= 2
            listed += page.entries
            token, pages = page.next_page_token, pages + 1
        beyond = await server.ops.ListCacheEntries(ops_pb2.ListCacheEntriesRequest(page_token="999999"))
        one = await server.ops.ListCacheEntries(
            ops_pb2.ListCacheEntriesRequest(filter=ops_pb2.CacheFilter(key=keys[1]))
        )
    assert pages == 3
    assert listed[0].key == keys[3] and listed[0].hits == 1
    assert {entry.key for entry in listed} == set(keys)
    assert {(entry.cache, entry.tenant, entry.task_id) for entry in listed} == {("prompt", "default", "greet")}
    assert all(entry.bytes > len(PROMPT) and 3500 < entry.expires_in_seconds <= 3600 for entry in listed)
    assert page.stats[0].entries == 5 and page.stats[0].hits == 1
    assert list(beyond.entries) == [] and beyond.next_page_token == ""
    assert [entry.key for entry in one.entries] == [keys[1]]


@pytest.mark.parametrize("token", ["x", "-1", "٣", "9" * 5000])
async def test_page_token_that_we_did_not_give_is_refused(token: str) -> None:
    async with running_server(of_stages(stage(0)), providers={}) as server:
        request = ops_pb2.ListCacheEntriesRequest(page_token=token)
        code, details = await refused(server.ops.ListCacheEntries(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "page_token: must be what the last response gave, or empty" in details


async def test_purge_drops_what_the_filter_chooses() -> None:
    async with running_server(of_stages(stage(0)), providers={}) as server:
        keys = [await put(server, task, number) for number, task in enumerate(["a", "a", "b", "b"])]

        async def purged(**chosen: object) -> int:
            request = ops_pb2.PurgeCacheRequest(filter=ops_pb2.CacheFilter(**chosen))  # type: ignore[arg-type]
            return (await server.ops.PurgeCache(request)).purged

        assert await purged(min_age_seconds=3600.0) == 0
        assert await purged(tenant="nobody") == 0
        assert await purged(task_id="b", key=keys[0]) == 0
        assert await purged(key=keys[0]) == 1
        assert await purged(task_id="b", tenant="default", cache="prompt") == 2
        for empty in (ops_pb2.PurgeCacheRequest(), ops_pb2.PurgeCacheRequest(filter=ops_pb2.CacheFilter())):
            code, details = await refused(server.ops.PurgeCache(empty))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "set at least one field, or all" in details
        code, details = await refused(
            server.ops.PurgeCache(ops_pb2.PurgeCacheRequest(filter=ops_pb2.CacheFilter(cache="nothing")))
        )
        assert code is grpc.StatusCode.INVALID_ARGUMENT and "filter.cache" in details
        assert (await server.ops.PurgeCache(ops_pb2.PurgeCacheRequest(all=True))).purged == 1


# -- the trail ---------------------------------------------------------------------------------------------------------


async def test_watch_sees_every_attempt_without_content() -> None:
    providers = {
        "p0": ScriptedProvider([fails(FailureKind.SERVER, status=500)]),
        "p1": ScriptedProvider([says("the-answer")]),
    }
    async with running_server(of_stages(stage(0), stage(1)), providers=providers) as server:
        watch = server.ops.WatchAttempts(ops_pb2.WatchAttemptsRequest(task_id="greet", tenant="default"))
        await watch.wait_for_connection()
        await server.route(plain_call(task_id="other"))
        answer = (await server.route(plain_call("the-question"))).answer
        with anyio.fail_after(BOUND_S):
            first, second = await watch.read(), await watch.read()
        assert isinstance(first, ops_pb2.WatchAttemptsResponse)
        assert isinstance(second, ops_pb2.WatchAttemptsResponse)
        watch.cancel()
    assert (first.request_id, first.task_id, first.tenant) == (answer.request_id, "greet", "default")
    assert first.task_type == task_pb2.TASK_TYPE_GENERATE
    assert first.attempt.failure == answer_pb2.FAILURE_KIND_SERVER
    assert second.attempt.outcome == answer_pb2.ATTEMPT_OUTCOME_ACCEPTED
    assert second.ended_at.seconds > 1_700_000_000
    assert "the-" not in str(first) + str(second)


async def test_slow_watcher_is_told_how_many_it_missed_and_slows_nobody() -> None:
    async with running_server(of_stages(stage(0)), providers={"p0": ScriptedProvider([says("hi")])}) as server:
        await server.route(plain_call())
        context, completion, _ = server.seen.ended[0]
        trail, attempt, beyond = server.app.trail, completion.attempts[0], 3
        with trail.watch() as seen:
            for _ in range(TRAIL_BUFFER + beyond):
                trail.attempt_ended(context, attempt)
            first = await seen.receive()
            assert first.missed == 0
            trail.attempt_ended(context, attempt)
            missed = [(await seen.receive()).missed for _ in range(TRAIL_BUFFER)]
    assert sum(missed) == beyond and missed[-1] == beyond


async def test_call_that_ends_after_the_trail_was_closed_is_whole() -> None:
    async with running_server(of_stages(stage(0)), providers={"p0": ScriptedProvider([says("hi")])}) as server:
        with server.app.trail.watch():
            server.app.trail.close()
            assert (await server.route(plain_call())).answer.text == "hi"


# -- reload ------------------------------------------------------------------------------------------------------------


def reader(path: Path) -> Callable[[], Blueprint]:
    def read() -> Blueprint:
        return from_yaml(path.read_text())

    return read


async def test_reload_puts_a_changed_file_in_force_and_keeps_the_last_good_one(tmp_path: Path) -> None:
    path = config_file(tmp_path / "gearshift.yaml", one_openai(NOWHERE))
    async with running_server(from_yaml(path.read_text()), read=reader(path)) as server:
        before = (await server.ops.GetStatus(ops_pb2.GetStatusRequest())).config_revision
        same = await server.ops.Reload(ops_pb2.ReloadRequest())
        assert (same.changed, same.config_revision) == (False, before)

        config_file(path, one_openai(NOWHERE, more="tasks: {strict: true, declared: {greet: {type: generate}}}"))
        changed = await server.ops.Reload(ops_pb2.ReloadRequest())
        assert changed.changed and changed.config_revision != before
        code, _ = await refused(server.route(plain_call(task_id="other")))
        assert code is grpc.StatusCode.NOT_FOUND

        config_file(path, one_openai(NOWHERE, more="taks: {}"))
        code, details = await refused(server.ops.Reload(ops_pb2.ReloadRequest()))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "taks" in details and "tasks" in details
        path.unlink()
        assert (await server.ops.GetStatus(ops_pb2.GetStatusRequest())).config_revision == changed.config_revision
        code, _ = await refused(server.route(plain_call(task_id="other")))
        assert code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("more", "section"),
    [
        ("server: {max_calls: 7}", "server"),
        ("ledger: {durability: sync}", "ledger"),
        ("telemetry: {log_chain_position: false}", "telemetry"),
        ("caching: {ttl_minutes: 1}", "caching"),
    ],
)
async def test_reload_keeps_what_needs_a_restart_and_says_so(tmp_path: Path, more: str, section: str) -> None:
    path = config_file(tmp_path / "gearshift.yaml", one_openai(NOWHERE))
    async with running_server(from_yaml(path.read_text()), read=reader(path)) as server:
        before = server.app.router.blueprint.config
        config_file(path, one_openai(NOWHERE, more=more))
        assert not (await server.ops.Reload(ops_pb2.ReloadRequest())).changed
        # The rest of the file comes into force; what is fixed stays as it is.
        config_file(path, one_openai(NOWHERE, more=f"{more}\ntasks: {{strict: true}}"))
        assert (await server.ops.Reload(ops_pb2.ReloadRequest())).changed
        after = server.app.router.blueprint.config
        assert after.tasks.strict
        assert getattr(after, section) == getattr(before, section)
        status = await server.ops.GetStatus(ops_pb2.GetStatusRequest())
        (told,) = [each for each in status.warnings if each.startswith(f"{section}: ")]
        assert "restart the service to change it" in told


async def test_reload_without_a_file_says_so() -> None:
    async with running_server(of_stages(stage(0)), providers={}) as server:
        code, details = await refused(server.ops.Reload(ops_pb2.ReloadRequest()))
        with pytest.raises(ConfigError):
            await server.app.reload()
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "started without a file" in details


async def test_reload_changes_limits_of_tenants_and_accounts_and_keeps_running_calls(tmp_path: Path) -> None:
    def text(per_minute: int) -> str:
        return one_openai(
            NOWHERE, more=f"access: {{tenants: {{default: {{limits: {{requests_per_minute: {per_minute}}}}}}}}}"
        )

    path = config_file(tmp_path / "gearshift.yaml", text(1))
    provider = ScriptedProvider([Script(hangs=True), says("hi")])
    async with running_server(from_yaml(path.read_text()), read=reader(path), providers={"up": provider}) as server:
        running = server.router.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()))
        with anyio.fail_after(BOUND_S):
            await running.read()
            await provider.hanging.wait()
        code, _ = await refused(server.route(plain_call(), timeout=0.5))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        config_file(path, text(100))
        assert (await server.ops.Reload(ops_pb2.ReloadRequest())).changed
        assert (await server.route(plain_call())).answer.text == "hi"
        assert not running.done()
        running.cancel()
