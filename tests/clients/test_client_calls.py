"""The asynchronous client against a real server: each method, errors, deadlines, cancellation."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from gearshift.clients import (
    Client,
    Code,
    QuotaViolation,
    RpcError,
    Violation,
    background,
    call,
    dial,
    with_api_key,
    with_channel_options,
    with_default_timeout,
    with_retry,
    with_round_robin,
    with_tls,
)
from gearshift.v1 import answer_pb2, call_pb2, ops_pb2, router_pb2, task_pb2
from tests.support.fake_router import Context, FakeRouter, completion_of, fail, running_fake_router
from tests.support.loopback_tls import own_authority

TRIAGE = call("email-triage", "my invoice is wrong", labels=["billing", "other"])


async def test_route_gives_the_answer() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        answer = await client.route(background(), TRIAGE)
    assert answer.text == "my invoice is wrong"
    assert answer.completion.attempts[1].stage.model == "claude-haiku-5-5"
    assert router.requests[0].call == TRIAGE


async def test_execute_takes_a_task_type_and_a_context() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        answer = await client.execute(
            "classify", "my invoice is wrong", {"labels": ["billing", "other"], "task": "email-triage"}
        )
    sent: call_pb2.Call = router.requests[0].call
    assert answer.text == "my invoice is wrong"
    assert (sent.task.id, sent.task.type) == ("email-triage", task_pb2.TASK_TYPE_CLASSIFY)
    assert list(sent.output.labels.labels) == ["billing", "other"]


async def test_execute_takes_the_id_of_a_declared_task() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        await client.execute("email-triage", "hello", ctx=background().with_timeout(5))
    assert router.requests[0].call.task == task_pb2.Task(id="email-triage")
    assert router.timeouts[0] is not None and router.timeouts[0] < 5.5


async def test_embed_keeps_the_order() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        response = await client.embed(background(), "search", ["a", "bcd"], input_type="query", dimensions=2)
    assert [list(one.values) for one in response.embeddings] == [[1.0, 1.0], [3.0, 1.0]]
    assert router.requests[0].input_type == router_pb2.INPUT_TYPE_QUERY


async def test_explain_prompts_and_outcomes_are_plain_calls() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        assert (await client.explain(background(), TRIAGE)).chain == "cheap"
        assert (await client.put_prompt(background(), "t", "x" * 600)).key == "prompt-1"
        assert await client.delete_prompt(background(), "t", "prompt-1")
        await client.report_outcome(background(), "r-1", "corrected", correction="other")
    assert router.requests[-1] == router_pb2.ReportOutcomeRequest(
        request_id="r-1", verdict=router_pb2.OUTCOME_VERDICT_CORRECTED, correction="other"
    )


async def test_each_ops_method_is_called() -> None:
    since = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
    async with running_fake_router() as (router, address), dial(address) as client:
        ctx = background().with_timeout(10)
        assert (await client.ops.get_status(ctx)).version == "0.1.0"
        assert [chain.name for chain in await client.ops.list_chains(ctx)] == ["cheap"]
        assert [stage.failures for stage in await client.ops.list_stages(ctx, provider="anthropic")] == [7]
        assert (await client.ops.list_cache_entries(ctx, cache="prompt")).entries[0].hits == 12
        assert await client.ops.purge_cache(ctx, task_id="email-triage") == 3
        assert (await client.ops.get_cost_report(ctx, group_by=["task", "day"], since=since)).pending == 2
        found = await client.ops.list_attempts(ctx, outcome="failed", since=since, page_size=10)
        assert found.next_page_token == "page-2"
        assert (await client.ops.get_traffic(ctx, group_by="tenant", step_seconds=60)).step_seconds == 60
        assert (await client.ops.reload(ctx)).changed
        async with client.ops.watch_attempts(ctx, task_id="email-triage") as watch:
            first = await watch.receive()
    assert first is not None and first.attempt.number == 1
    report: ops_pb2.GetCostReportRequest = next(
        r for r in router.requests if isinstance(r, ops_pb2.GetCostReportRequest)
    )
    assert report.since.ToDatetime(datetime.UTC) == since
    assert list(report.group_by) == [ops_pb2.COST_GROUP_TASK, ops_pb2.COST_GROUP_DAY]
    searched: ops_pb2.ListAttemptsRequest = next(
        r for r in router.requests if isinstance(r, ops_pb2.ListAttemptsRequest)
    )
    assert (searched.outcome, searched.page_size) == (answer_pb2.ATTEMPT_OUTCOME_FAILED, 10)
    traffic: ops_pb2.GetTrafficRequest = next(r for r in router.requests if isinstance(r, ops_pb2.GetTrafficRequest))
    assert traffic.group_by == ops_pb2.COST_GROUP_TENANT
    assert {type(each).__name__ for each in router.requests} == {
        f"{method.name}Request" for method in ops_pb2.DESCRIPTOR.services_by_name["OpsService"].methods
    }, "a method of the contract was left out"


async def test_a_time_without_a_zone_is_refused() -> None:
    async with running_fake_router() as (_, address), dial(address) as client:
        with pytest.raises(ValueError, match="zone"):
            await client.ops.get_cost_report(background(), since=datetime.datetime(2026, 1, 1))


async def test_an_error_has_code_reason_and_wait() -> None:
    async def spent(_: Any, context: Context) -> None:
        quota = error_details_pb2.QuotaFailure.Violation(subject="tenant:default", description="10 requests a minute")
        await fail(
            context,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "the limit is spent",
            reason="TENANT_REQUESTS",
            retry_after=2.25,
            details=[error_details_pb2.QuotaFailure(violations=[quota])],
        )

    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["Route"] = spent
        with pytest.raises(RpcError) as caught:
            await client.route(background(), TRIAGE)
    error = caught.value
    assert (error.code, error.message, error.reason) == (
        Code.RESOURCE_EXHAUSTED,
        "the limit is spent",
        "TENANT_REQUESTS",
    )
    assert error.retry_after == 2.25
    assert error.quota == (QuotaViolation("tenant:default", "10 requests a minute"),)
    assert error.info == {"task": "t"}
    assert str(error) == "RESOURCE_EXHAUSTED (TENANT_REQUESTS): the limit is spent"


async def test_an_error_names_the_refused_fields_and_the_attempts() -> None:
    async def refuse(_: Any, context: Context) -> None:
        field = error_details_pb2.BadRequest.FieldViolation(field="call.task.id", description="is empty")
        bad = error_details_pb2.BadRequest(field_violations=[field])
        await fail(context, grpc.StatusCode.INVALID_ARGUMENT, details=[bad, *completion_of("").attempts])

    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["Explain"] = refuse
        with pytest.raises(RpcError) as caught:
            await client.explain(background(), TRIAGE)
    assert caught.value.violations == (Violation("call.task.id", "is empty"),)
    assert caught.value.attempts[0].failure == answer_pb2.FAILURE_KIND_CONNECTION
    assert caught.value.details[0].type_name == "google.rpc.BadRequest"


async def test_an_address_where_nothing_listens_is_unavailable() -> None:
    async with dial("127.0.0.1:1") as client:
        with pytest.raises(RpcError) as caught:
            await client.route(background().with_timeout(5), TRIAGE)
    assert caught.value.code is Code.UNAVAILABLE


async def test_a_closed_client_says_so() -> None:
    client = dial("127.0.0.1:1")
    await client.aclose()
    await client.aclose()
    with pytest.raises(RpcError, match="closed") as caught:
        await client.route(background(), TRIAGE)
    assert caught.value.code is Code.CANCELLED


async def test_a_client_takes_any_channel() -> None:
    async with running_fake_router() as (_, address), Client(grpc.aio.insecure_channel(address)) as client:
        assert (await client.route(background(), TRIAGE)).text == TRIAGE.prompt


async def test_closing_the_client_ends_its_calls_as_cancelled() -> None:
    caught: list[RpcError] = []
    async with running_fake_router() as (router, address), dial(address) as client:
        arrived = _stays(router, "Route")

        async def wait() -> None:
            with pytest.raises(RpcError) as raised:
                await client.route(background(), TRIAGE)
            caught.append(raised.value)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await arrived.wait()
                await client.aclose()
    assert caught[0].code is Code.CANCELLED


async def test_every_call_has_a_deadline() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        await client.route(background(), TRIAGE)
        await client.route(background().with_timeout(10), TRIAGE)
    # On the wire grpc rounds a timeout up, and reuses an earlier one that is up to 3 % longer.
    assert router.timeouts[0] is not None and 290 < router.timeouts[0] < 310
    assert router.timeouts[1] is not None and router.timeouts[1] < 10.5


async def test_a_deadline_that_passes_is_deadline_exceeded() -> None:
    async with running_fake_router() as (router, address), dial(address, with_default_timeout(0.2)) as client:
        _stays(router, "Route")
        with anyio.fail_after(10):
            with pytest.raises(RpcError) as caught:
                await client.route(background(), TRIAGE)
            await router.cancelled.wait()
    assert caught.value.code is Code.DEADLINE_EXCEEDED


async def test_a_deadline_in_the_past_fails_before_anything_is_sent() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        with pytest.raises(RpcError, match="nothing was sent") as caught:
            await client.route(background().with_timeout(0), TRIAGE)
        with pytest.raises(RpcError):
            async with client.stream_route(background().with_timeout(-1), TRIAGE):
                raise AssertionError("not reached")
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert router.requests == []


async def test_a_scope_around_a_unary_call_catches_its_own_cancellation() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        arrived = _stays(router, "Route")
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                scope = anyio.CancelScope()
                tasks.start_soon(_then, arrived.wait, scope.cancel)
                with scope:
                    await client.route(background(), TRIAGE)
                assert scope.cancelled_caught
            await router.cancelled.wait()


async def test_an_anyio_timeout_around_a_unary_call_is_a_timeout() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        _stays(router, "Embed")
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.1):
                await client.embed(background(), "t", ["a"])
        with anyio.fail_after(10):
            await router.cancelled.wait()


async def test_a_cancelled_task_stays_cancelled() -> None:
    """A foreign cancel must not be turned into an error."""
    async with running_fake_router() as (router, address), dial(address) as client:
        arrived = _stays(router, "Route")
        loop = asyncio.get_running_loop()
        task = loop.create_task(client.route(background(), TRIAGE))
        with anyio.fail_after(10):
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await router.cancelled.wait()


async def test_cancelling_the_context_ends_the_call() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        arrived = _stays(router, "Route")
        ctx, cancel = background().with_cancel()
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_then, arrived.wait, cancel)
                with pytest.raises(RpcError, match="CANCELLED"):
                    await client.route(ctx.with_timeout(60), TRIAGE)
            await router.cancelled.wait()
        with pytest.raises(RpcError):
            await client.route(ctx, TRIAGE)
        assert len(router.requests) == 1


async def test_a_context_is_cancelled_from_another_thread() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        arrived = _stays(router, "Route")
        ctx, cancel = background().with_cancel()

        async def cancel_elsewhere() -> None:
            await arrived.wait()
            await anyio.to_thread.run_sync(cancel)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cancel_elsewhere)
                with pytest.raises(RpcError, match="CANCELLED"):
                    await client.route(ctx, TRIAGE)


async def test_metadata_and_key_are_sent() -> None:
    async with running_fake_router() as (router, address), dial(address, with_api_key("gs_1.secret")) as client:
        await client.route(background().with_metadata({"x-team": "blue"}), TRIAGE)
    assert router.metadata[0]["x-team"] == "blue"
    assert router.metadata[0]["authorization"] == "Bearer gs_1.secret"


async def test_unavailable_is_tried_again_with_the_same_request_id() -> None:
    async with running_fake_router() as (router, address):
        router.scripts["Route"] = _fails_times(2, router.scripts["Route"])
        async with dial(address, with_retry(attempts=3, initial_backoff=0.01)) as client:
            answer = await client.route(background().with_timeout(10), TRIAGE)
    ids = {request.call.request_id for request in router.requests}
    assert (answer.text, len(router.requests), len(ids)) == (TRIAGE.prompt, 3, 1)


async def test_without_with_retry_nothing_is_tried_again() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["Route"] = _fails_times(1, router.scripts["Route"])
        with pytest.raises(RpcError):
            await client.route(background(), TRIAGE)
    assert len(router.requests) == 1
    assert router.requests[0].call.request_id == ""


async def test_pushback_stops_retries() -> None:
    async with running_fake_router() as (router, address):
        router.scripts["Route"] = _fails_times(2, router.scripts["Route"], pushback_ms=-1)
        async with dial(address, with_retry(attempts=5, initial_backoff=0.01)) as client:
            with pytest.raises(RpcError) as caught:
                await client.route(background().with_timeout(10), TRIAGE)
    assert caught.value.reason == "CHAIN_EXHAUSTED"
    assert len(router.requests) == 1


async def test_round_robin_spreads_calls_over_all_addresses() -> None:
    async with running_fake_router() as (one, first), running_fake_router() as (other, second):
        async with dial(f"ipv4:{first},{second}", with_round_robin()) as client:
            with anyio.fail_after(20):
                while not (one.requests and other.requests):
                    await client.route(background(), TRIAGE)
        async with dial(f"ipv4:{first},{second}") as client:
            before = len(one.requests), len(other.requests)
            for _ in range(5):
                await client.route(background(), TRIAGE)
    more = {len(one.requests) - before[0], len(other.requests) - before[1]}
    assert more == {0, 5}  # without it they stay on one


async def test_tls_is_spoken_both_ways(tmp_path: Path) -> None:
    """One self-signed certificate stands for server, client and roots."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    for file, pem in zip((certificate, key), own_authority("router", dns="router"), strict=True):
        file.write_bytes(pem)
    pair = [(key.read_bytes(), certificate.read_bytes())]
    credentials = grpc.ssl_server_credentials(pair, certificate.read_bytes(), require_client_auth=True)
    async with running_fake_router(credentials) as (router, address):
        mutual = with_tls(ca=certificate, certificate=certificate, key=key, server_name="router")
        async with dial(address, mutual, with_api_key("gs_1.secret")) as client:
            assert (await client.route(background(), TRIAGE)).text == TRIAGE.prompt
        async with dial(address, with_tls(ca=certificate, server_name="router")) as stranger:
            with pytest.raises(RpcError) as caught:
                await stranger.route(background().with_timeout(5), TRIAGE)
    assert caught.value.code is Code.UNAVAILABLE
    assert len(router.requests) == 1


async def test_large_messages_pass_both_ways_up_to_the_limit() -> None:
    big = call("t", "x" * (5 << 20))
    async with running_fake_router() as (router, address):

        async def echo(request: Any, _: Context) -> router_pb2.RouteResponse:
            return router_pb2.RouteResponse(answer=answer_pb2.Answer(text="y" * (5 << 20)))

        router.scripts["Route"] = echo
        async with dial(address, with_channel_options(("grpc.max_send_message_length", 1 << 20))) as small:
            with pytest.raises(RpcError) as caught:
                await small.route(background(), big)
        async with dial(address) as client:
            answer = await client.route(background(), call("t", "small"))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert len(answer.text) == 5 << 20


def _stays(router: FakeRouter, method: str) -> anyio.Event:
    """Have a method wait for ever; return the event that says that it began."""
    arrived = anyio.Event()

    async def stay(_: Any, __: Context) -> None:
        arrived.set()
        await anyio.sleep_forever()

    router.scripts[method] = stay
    return arrived


async def _then(wait: Callable[[], Awaitable[object]], act: Callable[[], object]) -> None:
    await wait()
    act()


def _fails_times(times: int, after: Any, *, pushback_ms: int | None = None) -> Any:
    left = times

    async def script(request: Any, context: Context) -> Any:
        nonlocal left
        if left:
            left -= 1
            await fail(
                context, grpc.StatusCode.UNAVAILABLE, "no stage left", reason="CHAIN_EXHAUSTED", pushback_ms=pushback_ms
            )
        return await after(request, context)

    return script
