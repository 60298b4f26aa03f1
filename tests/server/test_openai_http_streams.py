"""Streams of OpenAI's API, byte for byte: what was sent is never taken back, and no broken answer looks whole."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import structs

from gearshift.core.catalogue import Feature
from gearshift.core.config.model import AccessConfig, KeyConfig, OpenAiConfig, ServerConfig
from gearshift.core.provider import Chunk, ProviderCall
from gearshift.core.request import Image
from gearshift.core.words import Complexity, FailureKind, Outcome
from tests.server.test_ledger_durability import rows_in
from tests.support.blueprints import ALL_FEATURES, policy, stage
from tests.support.flooding_provider import KERNEL, flooding
from tests.support.openai_bodies import openai_stream
from tests.support.openai_clients import AT_ONCE, RawAnswer, asked_raw, chat_body, request_of
from tests.support.running_server import BOUND_S, RunningServer, from_yaml, of_stages, running_server
from tests.support.scripted_provider import Script, ScriptedProvider, fails, says
from tests.support.scripted_server import Reply, scripted
from tests.support.served_config import one_openai

WORDS = ["word", *(f" word{number}" for number in range(400))]
EVERY_MODE = ("continue", "fail", "hold_all")


def served(mode: str = "fail", *, held: bool = False, grace_s: float = 5, **more: Any) -> ServerConfig:
    """Give a server that holds nothing back unless `held`."""
    openai = OpenAiConfig(stream=mode) if held else OpenAiConfig(stream=mode, hold_back_tokens=0, hold_back_ms=0)
    return ServerConfig(port=0, http_port=0, grace_s=grace_s, openai=openai, **more)


def is_clean(answer: RawAnswer) -> bool:
    """Tell whether an answer says that it is whole, in every way there is."""
    return answer.is_whole and answer.events[-1] == "[DONE]" and len(answer.finishes) == 1


def is_broken(answer: RawAnswer) -> bool:
    """Tell whether an answer says that it is not, in every way there is."""
    return not answer.is_whole and "[DONE]" not in answer.events and not answer.finishes and bool(answer.error)


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(BOUND_S):
        while not is_so():
            await anyio.sleep(0.005)


def streaming(**fields: object) -> dict[str, object]:
    return chat_body(model="chain:generate", stream=True, **fields)


# -- What breaks -------------------------------------------------------------------------------------------------------


async def test_failure_after_text_was_sent_is_an_error_event_and_the_body_is_cut() -> None:
    spare = ScriptedProvider([says("other")])
    providers = {"p0": ScriptedProvider([fails(FailureKind.CONNECTION, "one ", "two ")]), "p1": spare}
    async with running_server(of_stages(stage(0), stage(1), server=served()), providers=providers) as server:
        answer = await asked_raw(server, streaming())
    assert (answer.status, answer.text) == (200, "one two ")
    assert is_broken(answer)
    assert answer.error["code"] == "chain_exhausted"
    assert answer.error["gearshift"]["attempts"][0]["failure"] == "connection"
    assert spare.calls == []


@pytest.mark.parametrize("mode", EVERY_MODE)
async def test_failure_before_text_was_sent_is_an_http_error(mode: str) -> None:
    """A client can try an HTTP error again; an event of a stream it cannot."""
    provider = ScriptedProvider([fails(FailureKind.RATE_LIMIT, retry_after_s=90)])
    async with running_server(of_stages(stage(0), server=served(mode)), providers={"p0": provider}) as server:
        answer = await asked_raw(server, streaming())
    assert (answer.status, answer.is_whole, answer.events) == (503, True, [])
    assert answer.headers["content-type"] == "application/json"
    assert 1 <= int(answer.headers["retry-after"]) <= 90
    assert answer.error["gearshift"]["reason"] == "CHAIN_EXHAUSTED"


@pytest.mark.parametrize("mode", EVERY_MODE)
async def test_failure_within_the_held_window_is_never_seen(mode: str) -> None:
    providers = {
        "p0": ScriptedProvider([fails(FailureKind.CONNECTION, "one ", "two ")]),
        "p1": ScriptedProvider([says("good ", "day")]),
    }
    config = of_stages(stage(0), stage(1), server=served(mode, held=True))
    async with running_server(config, providers=providers) as server:
        answer = await asked_raw(server, streaming())
    assert answer.text == "good day" and is_clean(answer)
    assert {chunk["model"] for chunk in answer.chunks} == {"m1"}


async def test_held_whole_answer_falls_back_however_late_it_breaks() -> None:
    providers = {
        "p0": ScriptedProvider([fails(FailureKind.CONNECTION, *WORDS)]),
        "p1": ScriptedProvider([says("good ", "day")]),
    }
    config = of_stages(stage(0), stage(1), server=served("hold_all"))
    async with running_server(config, providers=providers) as server:
        answer = await asked_raw(server, streaming())
    assert answer.text == "good day" and is_clean(answer)
    assert answer.headers["x-gearshift-model"] == "m1" and answer.headers["x-gearshift-attempts"] == "2"


async def test_held_whole_answer_sends_nothing_before_its_end() -> None:
    going_on = anyio.Event()
    provider = ScriptedProvider([replace(says(*WORDS), waits_for=going_on)])
    async with running_server(of_stages(stage(0), server=served("hold_all")), providers={"p0": provider}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.app.http_port)
        writer.write(request_of(server, streaming()))
        await provider.waiting.wait()
        with anyio.move_on_after(0.1) as waiting:
            await reader.read(1)
        assert waiting.cancelled_caught
        going_on.set()
        with anyio.fail_after(BOUND_S):
            assert (await reader.read()).endswith(b"0\r\n\r\n")
        writer.close()


async def test_continued_stream_shows_only_what_stands() -> None:
    """The first model dies in the middle; the second goes on from the last checkpoint, and nothing was to be taken back."""
    providers = {
        "p0": ScriptedProvider([fails(FailureKind.CONNECTION, *WORDS)]),
        "p1": ScriptedProvider([says("and ", "so ", "it ", "ends.")]),
    }
    config = of_stages(stage(0), stage(1), server=served("continue"))
    async with running_server(config, providers=providers) as server:
        answer = await asked_raw(server, streaming())
    begun = providers["p1"].calls[0].prefill
    assert begun and "".join(WORDS).startswith(begun)
    assert answer.text == f"{begun} and so it ends." and is_clean(answer)
    assert answer.chunks[0]["model"] == "m0" and answer.chunks[-1]["model"] == "m1"


async def test_stream_that_no_stage_can_continue_fails_instead() -> None:
    features = ALL_FEATURES - {Feature.PREFILL}
    providers = {
        "p0": ScriptedProvider([fails(FailureKind.CONNECTION, *WORDS)]),
        "p1": ScriptedProvider([says("other")]),
    }
    config = of_stages(stage(0), stage(1, features=features), server=served("continue"))
    async with running_server(config, providers=providers) as server:
        answer = await asked_raw(server, streaming())
    assert answer.text == "".join(WORDS) and is_broken(answer)


async def test_text_that_a_gate_stops_half_way_is_an_error_event() -> None:
    loop = ["the same old thing again and again. "] * 120
    async with running_server(
        of_stages(stage(0), server=served()), providers={"p0": ScriptedProvider([says(*loop)])}
    ) as server:
        answer = await asked_raw(server, streaming())
    assert is_broken(answer) and len(answer.text) < len("".join(loop))


@pytest.mark.parametrize("mode", ["fail", "hold_all"])
async def test_answer_that_must_be_valid_and_is_not_never_ends_well(mode: str) -> None:
    chosen = policy(require_valid=True)
    refusal = ScriptedProvider([says("I cannot help with that request.")])
    config = of_stages(stage(0), server=served(mode), chain_policy=chosen)
    async with running_server(config, providers={"p0": refusal}) as server:
        answer = await asked_raw(server, streaming())
    if mode == "hold_all":
        assert (answer.status, answer.is_whole) == (422, True)
    else:
        assert is_broken(answer)
    assert answer.error["code"] == "not_accepted"


async def test_answer_that_is_not_accepted_ends_and_says_so() -> None:
    refusal = ScriptedProvider([says("I cannot help with that request.")])
    async with running_server(of_stages(stage(0), server=served()), providers={"p0": refusal}) as server:
        answer = await asked_raw(server, streaming())
    assert is_clean(answer)
    assert answer.chunks[-1]["gearshift"]["outcome"] == "not_accepted"


class Strange(ScriptedProvider):
    """Fails as no adapter should."""

    async def stream(self, call: ProviderCall) -> AsyncGenerator[Chunk]:
        async for chunk in super().stream(call):
            yield chunk
            raise RuntimeError("secret of ours")


@pytest.mark.parametrize("mode", ["fail", "hold_all"])
async def test_fault_of_ours_is_told_without_its_text(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    provider = Strange([says("one ", "two ")])
    async with running_server(of_stages(stage(0), server=served(mode)), providers={"p0": provider}) as server:
        answer = await asked_raw(server, streaming())
        assert server.app.guard.in_flight == 0
    if mode == "hold_all":
        assert answer.status == 500
    else:
        assert is_broken(answer)
    assert answer.error["code"] == "internal_error"
    assert b"secret" not in answer.body
    assert "secret of ours" in caplog.text


# -- Time --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_deadline_of_the_caller_ends_the_call(stream: bool) -> None:
    provider = ScriptedProvider([Script(hangs=True)])
    async with running_server(of_stages(stage(0), server=served()), providers={"p0": provider}) as server:
        answer = await asked_raw(server, chat_body(stream=stream, metadata={"gearshift.timeout_ms": "200"}))
        await server.seen.wait()
    assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")
    assert answer.headers["x-should-retry"] == "false"
    assert provider.running == 0


async def test_deadline_in_the_middle_of_a_stream_is_an_error_event() -> None:
    provider = ScriptedProvider([replace(says("one "), chunks=says("one ").chunks[:1], hangs=True)])
    async with running_server(of_stages(stage(0), server=served()), providers={"p0": provider}) as server:
        answer = await asked_raw(server, streaming(metadata={"gearshift.timeout_ms": "300"}))
        await server.seen.wait()
    assert answer.text == "one " and is_broken(answer)
    assert answer.error["code"] == "deadline_exceeded"
    assert provider.running == 0


@pytest.mark.parametrize("header", ["x-stainless-read-timeout", "x-stainless-timeout"])
async def test_patience_of_the_official_clients_bounds_answers_that_come_whole(header: str) -> None:
    provider = ScriptedProvider([Script(hangs=True)])
    async with running_server(of_stages(stage(0), server=served()), providers={"p0": provider}) as server:
        answer = await asked_raw(server, chat_body(), headers={header: "0.2"})
        assert answer.error["code"] == "deadline_exceeded"


@pytest.mark.parametrize("value", ["600", "soon", "-1", "nan", ""])
async def test_patience_that_says_nothing_leaves_the_usual_deadline(value: str) -> None:
    provider = ScriptedProvider([says("hi")])
    async with running_server(of_stages(stage(0), server=served()), providers={"p0": provider}) as server:
        assert (await asked_raw(server, chat_body(), headers={"x-stainless-timeout": value})).status == 200
    assert provider.calls[0].timeouts.total_s <= 300


# -- Silence -----------------------------------------------------------------------------------------------------------

QUICK = 0.05
"""Seconds of silence after which a comment comes here."""


def kept_alive(mode: str, silence_s: float = QUICK, *, held: bool = False) -> ServerConfig:
    """Give a server whose streams are kept alive."""
    server = served(mode, held=held)
    return structs.replace(server, openai=structs.replace(server.openai, keep_alive_s=silence_s))


@pytest.mark.parametrize("mode", EVERY_MODE)
async def test_stream_in_which_nothing_is_said_yet_is_kept_alive_by_comments(mode: str) -> None:
    going_on = anyio.Event()
    provider = ScriptedProvider([replace(says("good day"), waits_for=going_on)])
    config = of_stages(stage(0), server=kept_alive(mode, held=True))
    async with running_server(config, providers={"p0": provider}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.app.http_port)
        writer.write(request_of(server, streaming()))
        with anyio.fail_after(BOUND_S):
            head = await reader.readuntil(b"\r\n\r\n")
            for _ in range(3):
                assert (await reader.readuntil(b"\n\n")).endswith(b": still at work\n\n")
            going_on.set()
            rest = await reader.read()
        writer.close()
    assert head.startswith(b"HTTP/1.1 200") and b"x-request-id" in head.lower()
    assert b"good day" in rest and b"data: [DONE]" in rest and rest.endswith(b"0\r\n\r\n")


async def test_stream_that_falls_silent_after_text_is_kept_alive_and_ends_as_it_would() -> None:
    going_on = anyio.Event()
    provider = ScriptedProvider([replace(says("one ", "two"), waits_for=going_on)])
    async with running_server(of_stages(stage(0), server=kept_alive("fail")), providers={"p0": provider}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.app.http_port)
        writer.write(request_of(server, streaming()))
        with anyio.fail_after(BOUND_S):
            await reader.readuntil(b"two")
            await reader.readuntil(b": still at work\n\n")
            going_on.set()
            assert (await reader.read()).endswith(b"0\r\n\r\n")
        writer.close()


async def test_comments_are_not_sent_before_their_time_nor_where_they_are_turned_off() -> None:
    for silence_s in (0.0, 600.0):
        going_on = anyio.Event()
        provider = ScriptedProvider([replace(says("good day"), waits_for=going_on)])
        config = of_stages(stage(0), server=kept_alive("hold_all", silence_s))
        async with running_server(config, providers={"p0": provider}) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.app.http_port)
            writer.write(request_of(server, streaming()))
            await provider.waiting.wait()
            with anyio.move_on_after(4 * QUICK) as waiting:
                await reader.read(1)
            assert waiting.cancelled_caught
            going_on.set()
            with anyio.fail_after(BOUND_S):
                assert b": still" not in await reader.read()
            writer.close()


@pytest.mark.parametrize("mode", EVERY_MODE)
async def test_failure_after_a_comment_is_an_error_event_and_the_body_is_cut(mode: str) -> None:
    provider = ScriptedProvider([Script(hangs=True)])
    async with running_server(of_stages(stage(0), server=kept_alive(mode)), providers={"p0": provider}) as server:
        answer = await asked_raw(server, streaming(metadata={"gearshift.timeout_ms": "300"}))
        await until(lambda: server.app.guard.in_flight == 0)
    assert answer.status == 200 and answer.comments
    assert is_broken(answer) and answer.error["code"] == "deadline_exceeded"


async def test_client_that_leaves_a_stream_that_is_kept_alive_stops_its_call() -> None:
    provider = ScriptedProvider([Script(hangs=True)])
    async with running_server(of_stages(stage(0), server=kept_alive("hold_all")), providers={"p0": provider}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.app.http_port)
        writer.write(request_of(server, streaming()))
        with anyio.fail_after(BOUND_S):
            await reader.readuntil(b": still at work\n\n")
            writer.transport.abort()
            await server.seen.wait()
        await until(lambda: server.app.guard.in_flight == 0)
    assert (provider.running, provider.closed_early) == (0, 1)


# -- Readers -----------------------------------------------------------------------------------------------------------


async def unread(server: RunningServer, **fields: object) -> asyncio.StreamWriter:
    """Ask for a stream over a socket that nobody reads."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", server.app.http_port))
    _, writer = await asyncio.open_connection(sock=raw, limit=1024)
    writer.write(request_of(server, streaming(**fields)))
    return writer


async def test_unread_stream_stops_its_provider_within_a_megabyte() -> None:
    async with flooding(4096) as flood, running_server(from_yaml(one_openai(flood.url))) as server:
        writer = await unread(server)
        await flood.stopped()
        assert flood.written <= 1_000_000 + 2 * KERNEL
        writer.transport.abort()
        await server.seen.wait()
        await until(lambda: server.app.guard.in_flight == 0)


async def test_deadline_ends_an_unread_stream_and_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with flooding(4096) as flood, running_server(from_yaml(one_openai(flood.url))) as server:
        writer = await unread(server, metadata={"gearshift.timeout_ms": "600"})
        await server.seen.wait()
        await until(lambda: server.app.guard.in_flight == 0)
        writer.transport.abort()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_client_that_leaves_stops_the_model_within_a_tenth_of_a_second() -> None:
    frames = replace(says("one "), chunks=says("one ").chunks[:1], hangs=True)
    provider = ScriptedProvider([frames])
    async with running_server(of_stages(stage(0), server=served()), providers={"p0": provider}) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.app.http_port)
        writer.write(request_of(server, streaming()))
        with anyio.fail_after(BOUND_S):
            await reader.readuntil(b"one ")
            await provider.hanging.wait()
            began = asyncio.get_running_loop().time()
            writer.transport.abort()
            await server.seen.wait()
        await until(lambda: server.app.guard.in_flight == 0)
        assert asyncio.get_running_loop().time() - began < 0.1
    _, completion, error = server.seen.ended[0]
    assert (error, completion.outcome) == ("CANCELLED", Outcome.FAILED)
    assert completion.attempts[0].usage.output_tokens > 0


# -- Stricter ----------------------------------------------------------------------------------------------------------


async def test_call_may_be_stricter_than_the_configuration() -> None:
    providers = {
        "p0": ScriptedProvider([fails(FailureKind.CONNECTION, *WORDS)]),
        "p1": ScriptedProvider([says("good ", "day")]),
    }
    async with running_server(of_stages(stage(0), stage(1), server=served()), providers=providers) as server:
        held = await asked_raw(server, streaming(metadata={"gearshift.stream": "hold_all"}))
        longer = await asked_raw(
            server, streaming(metadata={"gearshift.hold_back_tokens": "4000", "gearshift.hold_back_ms": "9000"})
        )
    assert held.text == longer.text == "good day"
    assert is_clean(held) and is_clean(longer)


@pytest.mark.parametrize(
    ("mode", "setting", "value"),
    [
        ("fail", "stream", "continue"),
        ("hold_all", "stream", "fail"),
        ("fail", "hold_back_tokens", "1"),
        ("fail", "hold_back_ms", "1"),
    ],
)
async def test_call_may_not_be_laxer(mode: str, setting: str, value: str) -> None:
    provider = ScriptedProvider([says("hi")])
    config = replace_openai(served(mode), hold_back_tokens=32, hold_back_ms=400)
    async with running_server(of_stages(stage(0), server=config), providers={"p0": provider}) as server:
        answer = await asked_raw(server, streaming(metadata={f"gearshift.{setting}": value}))
    assert (answer.status, answer.error["param"]) == (400, f"metadata.gearshift.{setting}")
    assert provider.calls == []


def replace_openai(config: ServerConfig, **fields: Any) -> ServerConfig:
    return structs.replace(config, openai=structs.replace(config.openai, **fields))


# -- One way for a request ---------------------------------------------------------------------------------------------


async def test_answers_and_ends_come_after_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    config = of_stages(stage(0), path=str(path), durability="sync", server=served())
    async with running_server(config, providers={"p0": ScriptedProvider([says("hi")])}) as server:
        await asked_raw(server, chat_body())
        assert rows_in(path) == 1
        assert is_clean(await asked_raw(server, streaming()))
        assert rows_in(path) == 2
        await asked_raw(server, {"model": "gearshift", "input": "a"}, path="/v1/embeddings")
        assert rows_in(path) == 3


async def test_repeat_of_a_request_id_joins_the_running_call() -> None:
    going_on = anyio.Event()
    provider = ScriptedProvider([replace(says("one ", "two"), waits_for=going_on)])
    answers: list[RawAnswer] = []
    body = streaming(metadata={"gearshift.request_id": "same"})
    async with running_server(of_stages(stage(0), server=served()), providers={"p0": provider}) as server:

        async def ask() -> None:
            answers.append(await asked_raw(server, body))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            tasks.start_soon(ask)
            await until(lambda: server.app.guard.in_flight == 2)
            going_on.set()
    assert [answer.text for answer in answers] == ["one two"] * 2
    assert all(is_clean(answer) for answer in answers)
    assert len(provider.calls) == 1


async def test_kept_answer_is_streamed_from_the_cache() -> None:
    more = f"{AT_ONCE}\ntasks: {{declared: {{faq: {{type: generate, cache: {{}}}}}}}}"
    async with (
        scripted(Reply.sse(*openai_stream(["Good ", "day"]))) as upstream,
        running_server(one_openai(upstream.url, more=more)) as server,
    ):
        body = chat_body(model="task:faq", stream=True, temperature=0)
        first = await asked_raw(server, body)
        second = await asked_raw(server, body)
    assert first.text == second.text == "Good day" and is_clean(second)
    assert second.chunks[-1]["gearshift"]["cached"] is True
    assert second.chunks[-1]["model"] == "m-up"
    assert len(upstream.requests) == 1


async def test_crowded_service_says_when_to_come_again() -> None:
    provider = ScriptedProvider([Script(hangs=True)])
    config = of_stages(stage(0), server=served(max_calls=1))
    async with running_server(config, providers={"p0": provider}) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.app.http_port)
        writer.write(request_of(server, chat_body()))
        await provider.hanging.wait()
        answer = await asked_raw(server, chat_body())
        writer.transport.abort()
    assert (answer.status, answer.headers["retry-after-ms"], answer.headers["x-should-retry"]) == (429, "200", "true")


async def test_running_streams_are_given_their_grace_and_new_calls_are_sent_away() -> None:
    going_on = anyio.Event()
    provider = ScriptedProvider([replace(says("one ", "two"), waits_for=going_on), says("hi")])
    answers: list[RawAnswer] = []

    async def ask(server: RunningServer) -> None:
        answers.append(await asked_raw(server, streaming()))

    async def look(server: RunningServer) -> None:
        await until(lambda: server.app.guard.is_leaving)
        answers.append(await asked_raw(server, streaming()))
        going_on.set()

    async with (
        anyio.create_task_group() as tasks,
        running_server(of_stages(stage(0), server=served()), providers={"p0": provider}) as server,
    ):
        tasks.start_soon(ask, server)
        await provider.waiting.wait()
        tasks.start_soon(look, server)
    refused, ended = answers
    assert (refused.status, refused.error["code"], refused.headers["x-should-retry"]) == (503, "stopping", "true")
    assert ended.text == "one two" and is_clean(ended)


async def test_stream_that_outlives_the_grace_is_cut() -> None:
    provider = ScriptedProvider([replace(says("one "), chunks=says("one ").chunks[:1], hangs=True)])
    answers: list[RawAnswer] = []
    config = of_stages(stage(0), server=served(grace_s=0.2))
    async with anyio.create_task_group() as tasks, running_server(config, providers={"p0": provider}) as server:

        async def ask() -> None:
            answers.append(await asked_raw(server, streaming()))

        tasks.start_soon(ask)
        await provider.hanging.wait()
    assert answers[0].text == "one "
    assert not answers[0].is_whole and not answers[0].finishes


# -- Bodies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        pytest.param(b"", 400, "is not JSON", id="empty"),
        pytest.param(b"{", 400, "is not JSON", id="cut off"),
        pytest.param(b'{"model": "\xff"}', 400, "is not JSON", id="invalid UTF-8"),
        pytest.param(b'{"user": ' + b"[" * 100_000, 400, "nested too deeply", id="deep"),
        pytest.param(b"[]", 400, "expected `object`", id="no object"),
        pytest.param(b"{}", 400, "is required", id="nothing in it"),
        pytest.param(b" " * 70_000, 413, "server.max_message_bytes", id="too long"),
    ],
)
async def test_body_that_cannot_be_read_is_refused_with_a_reason(body: bytes, status: int, told: str) -> None:
    config = of_stages(stage(0), server=served(max_message_bytes=65_536 if status == 413 else 1 << 20))
    async with running_server(config, providers={"p0": ScriptedProvider([says("hi")])}) as server:
        answer = await asked_raw(server, body)
    assert (answer.status, answer.is_whole) == (status, True)
    assert told in answer.error["message"]


async def test_picture_in_a_data_uri_arrives_as_bytes() -> None:
    provider = ScriptedProvider([says("a dot")])
    parts = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8=", "detail": "low"}},
    ]
    async with running_server(
        of_stages(stage(0, capability=Complexity.HIGH), server=served()), providers={"p0": provider}
    ) as server:
        answer = await asked_raw(server, chat_body(messages=[{"role": "user", "content": parts}]))
        wrong = json.loads(json.dumps(parts).replace("aGVsbG8=", "%%%"))
        refused = await asked_raw(server, chat_body(messages=[{"role": "user", "content": wrong}]))
    assert answer.status == 200
    assert provider.calls[0].messages[0].parts[1] == Image(data=b"hello", media_type="image/png")
    assert refused.error["param"] == "messages[0].content[1].image_url.url"


@pytest.mark.parametrize("chosen", ["a\r\nSet-Cookie: x", "a b", "ä", "x" * 200, "\ud800"])
async def test_request_id_that_is_none_is_refused_and_not_repeated_in_headers(chosen: str) -> None:
    async with running_server(
        of_stages(stage(0), server=served()), providers={"p0": ScriptedProvider([says("hi")])}
    ) as server:
        answer = await asked_raw(server, chat_body(metadata={"gearshift.request_id": chosen}))
    assert (answer.status, answer.is_whole) == (400, True)
    assert "set-cookie" not in answer.headers


async def test_key_that_cannot_be_one_is_unknown() -> None:
    access = AccessConfig(keys=(KeyConfig(id="app", sha256="0" * 64, tenant="default"),))
    config = of_stages(stage(0), server=served(), access=access)
    async with running_server(config, providers={"p0": ScriptedProvider([says("hi")])}) as server:
        for value in ("Bearer ü", "Bearer", "Basic eDp5", "Bearer " + "x" * 4000, ""):
            answer = await asked_raw(server, chat_body(), headers={"Authorization": value})
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
            assert answer.headers["www-authenticate"] == "Bearer"
