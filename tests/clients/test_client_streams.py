"""Streams of the asynchronous client: order, ends, leaving early, slow readers, prompts by key."""

from __future__ import annotations

from typing import Any

import anyio
import grpc
import pytest

from gearshift.clients import (
    Accumulator,
    Code,
    RpcError,
    background,
    call,
    dial,
    stream_policy,
    with_default_timeout,
)
from gearshift.v1 import answer_pb2, router_pb2, stream_pb2
from tests.support.fake_router import (
    PROMPT_KEY,
    Context,
    attempt,
    completed,
    delta,
    fail,
    retract,
    running_fake_router,
    started,
    stream_of,
    switch,
)

STORY = call("story", "once upon a time")
LONG = "Sort mails by what they ask for. " * 20


async def test_a_stream_folds_to_its_text() -> None:
    answer = Accumulator()
    async with running_fake_router() as (router, address), dial(address) as client:
        policy = stream_policy(hold_back_tokens=0)
        async with client.stream_route(background(), STORY, policy) as stream:
            shown = [text async for event in stream if (text := answer.apply(event))]
    assert answer.text == "".join(shown) == "once upon a time"
    assert answer.digest_matches()
    assert answer.answer().completion.served_by.provider == "anthropic"
    assert router.requests[0].stream.hold_back_tokens == 0


async def test_events_of_one_message_come_one_by_one() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["StreamRoute"] = stream_of(
            [started(), attempt(1), delta(1, "bad")],
            [switch(), attempt(2), retract(0), delta(2, "good")],
            [completed("good")],
        )
        kinds: list[str | None] = []
        answer = Accumulator()
        async with client.stream_route(background(), STORY) as stream:
            while event := await stream.receive():
                kinds.append(event.WhichOneof("kind"))
                answer.apply(event)
            assert await stream.receive() is None
    assert kinds == ["started", "attempt", "delta", "switch", "attempt", "retract", "delta", "completed"]
    assert answer.text == "good"


async def test_a_failed_stream_gives_completed_then_its_status() -> None:
    async def script(_: Any, context: Context) -> None:
        end = completed("part", outcome=answer_pb2.OUTCOME_FAILED)
        await context.write(router_pb2.StreamRouteResponse(events=[started(), delta(1, "part"), end]))
        await fail(context, grpc.StatusCode.UNAVAILABLE, "every stage failed", reason="CHAIN_EXHAUSTED")

    answer = Accumulator()
    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["StreamRoute"] = script
        async with client.stream_route(background(), STORY) as stream:
            with pytest.raises(RpcError) as caught:
                async for event in stream:
                    answer.apply(event)
            assert await stream.receive() is None
    assert caught.value.reason == "CHAIN_EXHAUSTED"
    assert answer.completed is not None and answer.text == "part"


async def test_closing_twice_is_fine_and_ends_the_stream() -> None:
    async with running_fake_router() as (_, address), dial(address) as client:
        stream = client.stream_route(background(), STORY)
        assert await stream.receive() is not None
        await stream.aclose()
        await stream.aclose()
        assert await stream.receive() is None


async def test_leaving_early_cancels_the_server() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["StreamRoute"] = _endless
        with anyio.fail_after(10):
            async with client.stream_route(background(), STORY) as stream:
                async for _ in stream:
                    break
            await router.cancelled.wait()


async def test_a_scope_around_a_stream_cancels_the_server() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["StreamRoute"] = _one_then_silence
        with anyio.fail_after(10):
            async with client.stream_route(background(), STORY) as stream:
                await stream.receive()
                with anyio.move_on_after(0.05) as scope:
                    await stream.receive()
            await router.cancelled.wait()
    assert scope.cancelled_caught


async def test_cancelling_the_context_ends_the_stream() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["StreamRoute"] = _one_then_silence
        ctx, cancel = background().with_cancel()
        with anyio.fail_after(10):
            async with client.stream_route(ctx, STORY) as stream:
                await stream.receive()
                cancel()
                with pytest.raises(RpcError) as caught:
                    await stream.receive()
            await router.cancelled.wait()
    assert caught.value.code is Code.CANCELLED


async def test_a_stream_ends_at_its_deadline() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["StreamRoute"] = _one_then_silence
        async with client.stream_route(background().with_timeout(0.3), STORY) as stream:
            assert await stream.receive() is not None
            with anyio.fail_after(10), pytest.raises(RpcError) as caught:
                await stream.receive()
    assert caught.value.code is Code.DEADLINE_EXCEEDED


async def test_a_slow_reader_stops_the_server_and_loses_nothing() -> None:
    chunk, count = "x" * 20_000, 1_000
    written = 0

    async def script(_: Any, context: Context) -> None:
        nonlocal written
        await context.write(router_pb2.StreamRouteResponse(events=[started()]))
        for number in range(1, count + 1):
            await context.write(router_pb2.StreamRouteResponse(events=[delta(number, chunk)]))
            written = number
        await context.write(router_pb2.StreamRouteResponse(events=[completed(chunk * count)]))

    answer = Accumulator()
    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["StreamRoute"] = script
        with anyio.fail_after(60):
            async with client.stream_route(background(), STORY) as stream:
                answer.apply(_some(await stream.receive()))
                before = -1
                while written != before:  # until flow control holds the server
                    before = written
                    await anyio.sleep(0.2)
                assert written < count
                async for event in stream:
                    answer.apply(event)
    assert answer.digest_matches()


async def test_a_watch_has_no_deadline_of_its_own() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        watching = client.ops.watch_attempts(background())
        async with watching as watch:
            await watch.receive()
    assert router.timeouts[0] is None or router.timeouts[0] > 1e6


async def test_a_long_prompt_is_sent_once_and_then_by_its_key() -> None:
    triage = call("email-triage", "hello", system=LONG, variables={"name": "Ann"})
    async with running_fake_router() as (router, address), dial(address) as client:
        for _ in range(3):
            await client.route(background(), triage)
        async with client.stream_route(background(), triage) as stream:
            async for _ in stream:
                pass
        await client.route(background(), call("other-task", "hello", system=LONG))
        await client.route(background(), call("email-triage", "hello", system="short"))
    systems = [request.call.system for request in router.requests]
    assert [system.WhichOneof("source") for system in systems] == ["text", "key", "key", "key", "text", "text"]
    assert systems[1].key == PROMPT_KEY and systems[1].variables == {"name": "Ann"}
    assert triage.system.text == LONG


async def test_a_stored_prompt_is_sent_by_its_key_until_it_is_deleted() -> None:
    triage = call("email-triage", "hello", system=LONG)
    async with running_fake_router() as (router, address), dial(address) as client:
        await client.put_prompt(background(), "email-triage", LONG)
        await client.route(background(), triage)
        await client.delete_prompt(background(), "email-triage", PROMPT_KEY)
        await client.route(background(), triage)
    sent = [r.call.system.WhichOneof("source") for r in router.requests if isinstance(r, router_pb2.RouteRequest)]
    assert sent == ["key", "text"]


async def test_a_forgotten_prompt_is_sent_again_by_itself() -> None:
    triage = call("email-triage", "hello", system=LONG)
    async with running_fake_router() as (router, address), dial(address) as client:
        await client.route(background(), triage)
        router.scripts["Route"] = _forgets(router.scripts["Route"])
        answer = await client.route(background(), triage)
    assert answer.text == "hello"
    assert [r.call.system.WhichOneof("source") for r in router.requests] == ["text", "key", "text"]


async def test_a_forgotten_prompt_is_sent_again_before_a_stream_begins() -> None:
    triage = call("email-triage", "hello you", system=LONG)
    answer = Accumulator()
    async with running_fake_router() as (router, address), dial(address) as client:
        await client.route(background(), triage)
        router.scripts["StreamRoute"] = _forgets(router.scripts["StreamRoute"])
        async with client.stream_route(background(), triage) as stream:
            async for event in stream:
                answer.apply(event)
    assert answer.text == "hello you"
    assert [r.call.system.WhichOneof("source") for r in router.requests] == ["text", "key", "text"]


async def test_a_call_that_is_sent_again_has_what_is_left_of_its_one_deadline() -> None:
    triage = call("email-triage", "hello", system=LONG)
    async with running_fake_router() as (router, address), dial(address, with_default_timeout(30)) as client:
        await client.route(background(), triage)
        for method in ("Route", "StreamRoute"):
            router.scripts[method] = _forgets(router.scripts[method], after_s=0.05)
        await client.route(background(), triage)
        async with client.stream_route(background(), triage) as stream:
            await stream.fold()
    left_ms = [int(metadata["gearshift-timeout-ms"]) for metadata in router.metadata]
    assert len(left_ms) == 5
    assert left_ms[1] - left_ms[2] >= 50 and left_ms[3] - left_ms[4] >= 50


async def test_a_key_of_the_callers_own_is_not_sent_again() -> None:
    async with running_fake_router() as (router, address), dial(address) as client:
        router.scripts["Route"] = _forgets(router.scripts["Route"])
        with pytest.raises(RpcError) as caught:
            await client.route(background(), call("t", "hello", system_key="unknown"))
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "PROMPT_NOT_CACHED")
    assert len(router.requests) == 1


async def _endless(_: Any, context: Context) -> None:
    await context.write(router_pb2.StreamRouteResponse(events=[started()]))
    number = 0
    while True:
        number += 1
        await context.write(router_pb2.StreamRouteResponse(events=[delta(number, "more " * 100)]))


async def _one_then_silence(_: Any, context: Context) -> None:
    await context.write(router_pb2.StreamRouteResponse(events=[started()]))
    await anyio.sleep_forever()


def _forgets(after: Any, *, after_s: float = 0) -> Any:
    """Refuse keys, after some work, and take texts."""

    async def script(request: Any, context: Context) -> Any:
        if request.call.system.WhichOneof("source") == "key":
            await anyio.sleep(after_s)
            await fail(context, grpc.StatusCode.FAILED_PRECONDITION, "send the text", reason="PROMPT_NOT_CACHED")
        return await after(request, context)

    return script


def _some(event: stream_pb2.Event | None) -> stream_pb2.Event:
    assert event is not None
    return event
