"""The synchronous twin against the same server, which runs on the test's loop while the client blocks a thread."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import grpc
import pytest

from gearshift.clients import (
    Accumulator,
    Code,
    RpcError,
    background,
    call,
    with_api_key,
    with_default_timeout,
    with_retry,
    with_tls,
)
from gearshift.clients.context import Context as SomeContext
from gearshift.clients.sync import Client, dial
from gearshift.v1 import router_pb2
from tests.support.fake_router import Context, delta, fail, running_fake_router, started
from tests.support.loopback_tls import own_authority

TRIAGE = call("email-triage", "my invoice is wrong", labels=["billing", "other"])
LONG = "Sort mails by what they ask for. " * 20


async def _in_thread(work: Callable[[], None]) -> None:
    with anyio.fail_after(20):
        await anyio.to_thread.run_sync(work)


async def test_each_method_of_the_twin_is_called() -> None:
    async with running_fake_router() as (router, address):

        def work() -> None:
            ctx = background().with_timeout(10)
            with dial(address) as client:
                assert client.route(ctx, TRIAGE).text == TRIAGE.prompt
                assert client.execute("classify", "hello", {"labels": ["a", "b"]}).text == "hello"
                assert len(client.embed(ctx, "search", ["a", "b"]).embeddings) == 2
                assert client.explain(ctx, TRIAGE).chain == "cheap"
                assert client.put_prompt(ctx, "t", "x" * 600).key
                assert client.delete_prompt(ctx, "t", "prompt-1")
                client.report_outcome(ctx, "r-1", "accepted")
                assert client.ops.get_status(ctx).version == "0.1.0"
                assert client.ops.list_chains(ctx)[0].name == "cheap"
                assert client.ops.list_stages(ctx)[0].failures == 7
                assert client.ops.list_cache_entries(ctx).stats[0].misses == 3
                assert client.ops.purge_cache(ctx, everything=True) == 3
                assert client.ops.get_cost_report(ctx, since=datetime.datetime.now(datetime.UTC)).pending == 2
                assert client.ops.list_attempts(ctx, task_id="t").next_page_token == "page-2"
                assert client.ops.get_traffic(ctx).step_seconds == 60
                assert client.ops.reload(ctx).config_revision == "abc123"
                with client.ops.watch_attempts(ctx) as watch:
                    first = watch.receive()
                    assert first is not None and first.attempt.number == 1

        await _in_thread(work)
    assert len(router.requests) == 17


async def test_the_twins_stream_folds_to_its_text() -> None:
    answer = Accumulator()
    async with running_fake_router() as (_, address):

        def work() -> None:
            with dial(address) as client, client.stream_route(background(), TRIAGE) as stream:
                for event in stream:
                    answer.apply(event)
                assert stream.receive() is None
                stream.close()

        await _in_thread(work)
    assert answer.text == TRIAGE.prompt and answer.digest_matches()


async def test_the_twin_takes_any_channel_and_says_when_it_is_closed() -> None:
    async with running_fake_router() as (_, address):

        def work() -> None:
            client = Client(grpc.insecure_channel(address))
            assert client.route(background(), TRIAGE).text == TRIAGE.prompt
            client.close()
            client.close()
            with pytest.raises(RpcError, match="closed"):
                client.route(background(), TRIAGE)

        await _in_thread(work)


async def test_the_twins_errors_have_details() -> None:
    async def refuse(_: Any, context: Context) -> None:
        await fail(context, grpc.StatusCode.RESOURCE_EXHAUSTED, reason="TENANT_REQUESTS", retry_after=1.5)

    async with running_fake_router() as (router, address):
        router.scripts["Route"] = refuse
        router.scripts["StreamRoute"] = refuse

        def work() -> None:
            with dial(address) as client:
                with pytest.raises(RpcError) as unary:
                    client.route(background(), TRIAGE)
                with client.stream_route(background(), TRIAGE) as stream, pytest.raises(RpcError) as streamed:
                    stream.receive()
            for error in (unary.value, streamed.value):
                assert (error.code, error.reason, error.retry_after) == (
                    Code.RESOURCE_EXHAUSTED,
                    "TENANT_REQUESTS",
                    1.5,
                )

        await _in_thread(work)


async def test_the_twins_deadline_passes() -> None:
    async with running_fake_router() as (router, address):

        async def stay(_: Any, __: Context) -> None:
            await anyio.sleep_forever()

        router.scripts["Route"] = stay

        def work() -> None:
            with dial(address, with_default_timeout(0.2)) as client:
                with pytest.raises(RpcError) as caught:
                    client.route(background(), TRIAGE)
                assert caught.value.code is Code.DEADLINE_EXCEEDED
                with pytest.raises(RpcError, match="nothing was sent"):
                    client.route(background().with_timeout(0), TRIAGE)

        await _in_thread(work)
        with anyio.fail_after(10):
            await router.cancelled.wait()
    assert len(router.requests) == 1


async def test_the_twins_calls_are_cancelled_from_another_thread() -> None:
    arrived = threading.Event()

    async def stay(request: Any, context: Context) -> None:
        if isinstance(request, router_pb2.StreamRouteRequest):
            await context.write(router_pb2.StreamRouteResponse(events=[started()]))
        arrived.set()
        await anyio.sleep_forever()

    async with running_fake_router() as (router, address):
        router.scripts["Route"] = stay
        router.scripts["StreamRoute"] = stay

        def cancelled(use: Callable[[Client, SomeContext], object]) -> RpcError:
            arrived.clear()
            ctx, cancel = background().with_cancel()

            def cancel_later() -> None:
                arrived.wait(10)
                cancel()

            canceller = threading.Thread(target=cancel_later)
            canceller.start()
            with dial(address) as client, pytest.raises(RpcError) as caught:
                use(client, ctx)
            canceller.join()
            return caught.value

        def read_two(client: Client, ctx: SomeContext) -> None:
            with client.stream_route(ctx, TRIAGE) as stream:
                assert stream.receive() is not None
                stream.receive()

        def work() -> None:
            assert cancelled(lambda client, ctx: client.route(ctx, TRIAGE)).code is Code.CANCELLED
            assert cancelled(read_two).code is Code.CANCELLED

        await _in_thread(work)
        with anyio.fail_after(10):
            await router.cancelled.wait()


async def test_leaving_the_twins_stream_early_cancels_the_server() -> None:
    async def endless(_: Any, context: Context) -> None:
        await context.write(router_pb2.StreamRouteResponse(events=[started()]))
        number = 0
        while True:
            number += 1
            await context.write(router_pb2.StreamRouteResponse(events=[delta(number, "more " * 100)]))

    async with running_fake_router() as (router, address):
        router.scripts["StreamRoute"] = endless

        def work() -> None:
            with dial(address) as client, client.stream_route(background(), TRIAGE) as stream:
                assert stream.receive() is not None

        await _in_thread(work)
        with anyio.fail_after(10):
            await router.cancelled.wait()


async def test_the_twin_sends_a_forgotten_prompt_again() -> None:
    triage = call("email-triage", "hello", system=LONG)
    async with running_fake_router() as (router, address):
        answers = {"Route": router.scripts["Route"], "StreamRoute": router.scripts["StreamRoute"]}

        def forgets(method: str) -> Any:
            async def script(request: Any, context: Context) -> Any:
                if request.call.system.WhichOneof("source") == "key":
                    await fail(context, grpc.StatusCode.FAILED_PRECONDITION, reason="PROMPT_NOT_CACHED")
                return await answers[method](request, context)

            return script

        def work() -> None:
            with dial(address, with_retry()) as client:
                client.route(background(), triage)
                router.scripts.update({method: forgets(method) for method in answers})
                assert client.route(background(), triage).text == "hello"
                with client.stream_route(background(), triage) as stream:
                    assert len(list(stream)) > 2

        await _in_thread(work)
    sent = [request.call.system.WhichOneof("source") for request in router.requests]
    assert sent == ["text", "key", "text", "key", "text"]
    ids = [request.call.request_id for request in router.requests]
    assert all(ids) and len(set(ids)) == 5


async def test_threads_may_share_the_twin() -> None:
    async with running_fake_router() as (router, address), anyio.create_task_group() as tasks:
        client = dial(address)

        def work() -> None:
            for _ in range(20):
                assert client.route(background(), call("t", "hi", system=LONG)).text == "hi"

        async with anyio.create_task_group() as callers:
            for _ in range(4):
                callers.start_soon(_in_thread, work)
        client.close()
        tasks.cancel_scope.cancel()
    assert len(router.requests) == 80


async def test_the_twin_speaks_mtls_and_shows_its_key() -> None:
    certificate, key = own_authority("router")
    pair = [(key, certificate)]
    credentials = grpc.ssl_server_credentials(pair, certificate, require_client_auth=True)
    async with running_fake_router(credentials) as (router, address):

        def work() -> None:
            mutual = with_tls(ca=certificate, certificate=certificate, key=key)
            with dial(address, mutual, with_api_key("gs_1.secret")) as client:
                assert client.route(background().with_timeout(10), TRIAGE).text == TRIAGE.prompt
            with dial(address, with_tls(ca=certificate)) as stranger, pytest.raises(RpcError) as caught:
                stranger.route(background().with_timeout(10), TRIAGE)
            assert caught.value.code is Code.UNAVAILABLE

        await _in_thread(work)
    assert [metadata["authorization"] for metadata in router.metadata] == ["Bearer gs_1.secret"]


async def test_every_call_of_the_twin_has_a_deadline() -> None:
    async with running_fake_router() as (router, address):

        def work() -> None:
            with dial(address, with_default_timeout(7)) as client:
                client.route(background(), TRIAGE)
                client.embed(background(), "t", ["a"])
                client.explain(background(), TRIAGE)
                client.report_outcome(background(), "r-1", "accepted")
                with client.stream_route(background(), TRIAGE) as stream:
                    list(stream)

        await _in_thread(work)
    assert len(router.timeouts) == 5
    assert all(timeout is not None and 5 < timeout <= 7.1 for timeout in router.timeouts)
