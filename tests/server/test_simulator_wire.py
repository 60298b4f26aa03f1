"""The bytes themselves: as the official SDKs read them, and how connections break, on both event loops."""

# The ollama package leaves the types of its tools' functions open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import asyncio
from importlib.util import find_spec

import anyio
import httpx
import pytest

from gearshift.server.simulator import parse_plan, running_simulator

TEXT = "One two three four five six seven eight nine ten."
PLAN = parse_plan(
    f"""
providers:
  openai: {{wire: openai}}
  anthropic: {{wire: anthropic, models: {{m: {{}}}}}}
  ollama: {{wire: ollama, models: {{m: {{}}}}}}
answers: [{{text: "{TEXT}"}}]
"""
)
BOUND_S = 10.0

needs_anthropic = pytest.mark.skipif(
    find_spec("anthropic") is None, reason="the anthropic SDK is missing: pip install 'gearshift[anthropic]'"
)
needs_ollama = pytest.mark.skipif(
    find_spec("ollama") is None, reason="the ollama SDK is missing: pip install 'gearshift[ollama]'"
)


@needs_anthropic
async def test_anthropics_own_sdk_reads_the_simulator() -> None:
    import anthropic

    turns: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Hi"}]

    def failing(text: str) -> dict[str, str]:
        return {"x-simulate-fault": text}

    async with running_simulator(PLAN) as simulator:
        url = simulator.base_urls["anthropic"]
        async with anthropic.AsyncAnthropic(api_key="k", base_url=url, max_retries=0, open_telemetry=False) as client:
            whole = await client.messages.create(model="m", max_tokens=100, messages=turns)
            assert [block.text for block in whole.content if block.type == "text"] == [TEXT]
            assert (whole.usage.input_tokens, whole.usage.output_tokens) == (8, 11)
            async with client.messages.stream(model="m", max_tokens=100, messages=turns) as stream:
                final = await stream.get_final_message()
            assert [block.text for block in final.content if block.type == "text"] == [TEXT]
            assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 11)
            assert [model.id for model in (await client.models.list()).data] == ["m"]
            for text, status in (("401", 401), ("402", 402), ("429:3", 429), ("500", 500), ("529", 529)):
                with pytest.raises(anthropic.APIStatusError) as caught:
                    await client.messages.create(model="m", max_tokens=100, messages=turns, extra_headers=failing(text))
                assert caught.value.status_code == status
                assert caught.value.request_id is not None
            with pytest.raises(anthropic.APIStatusError) as caught:
                async with client.messages.stream(
                    model="m", max_tokens=100, messages=turns, extra_headers=failing("error_in_stream@3")
                ) as stream:
                    await stream.get_final_message()
            assert caught.value.type == "overloaded_error"


@needs_ollama
async def test_ollamas_own_sdk_reads_the_simulator() -> None:
    import ollama

    async with running_simulator(PLAN) as simulator:
        client = ollama.AsyncClient(host=simulator.base_urls["ollama"], timeout=BOUND_S)
        try:
            turns = [{"role": "user", "content": "Hi"}]
            whole = await client.chat(model="m", messages=turns)
            assert whole.message.content == TEXT
            assert (whole.prompt_eval_count, whole.eval_count, whole.done_reason) == (8, 11, "stop")
            said = [line async for line in await client.chat(model="m", messages=turns, stream=True, logprobs=True)]
            assert "".join(line.message.content or "" for line in said) == TEXT
            assert said[-1].done
            assert len((await client.embed(model="m", input=["a", "b"])).embeddings) == 2
            assert [model.model for model in (await client.list()).models] == ["m"]
            assert (await client.show("m")).capabilities == ["completion"]
            with pytest.raises(ollama.ResponseError) as caught:
                await client.chat(model="other", messages=turns)
            assert caught.value.status_code == 404
        finally:
            await client.close()  # type: ignore[no-untyped-call]


async def raw(url: str, fault: str) -> tuple[bytes, BaseException | None]:
    """Give what a socket gets, and how it ends."""
    parsed = httpx.URL(url)
    reader, writer = await asyncio.open_connection(parsed.host, parsed.port)
    body = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}'
    head = f"POST {parsed.path}/chat/completions HTTP/1.1\r\nhost: x\r\nx-simulate-fault: {fault}\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
    got = b""
    try:
        while data := await reader.read(65_536):
            got += data
    except ConnectionResetError as error:
        return got, error
    finally:
        writer.close()
    return got, None


@pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_connections_break_as_they_are_told(uvloop: bool) -> None:
    async def look() -> None:
        async with running_simulator(PLAN) as simulator:
            url = simulator.base_urls["openai"]
            with anyio.fail_after(BOUND_S):
                got, error = await raw(url, "cut@4")
                assert isinstance(error, ConnectionResetError)
                assert b" four" in got
                assert b" five" not in got
                got, error = await raw(url, "close@4")
                assert error is None
                assert b" four" in got
                assert not got.endswith(b"0\r\n\r\n")
                got, error = await raw(url, "no_end@4")
                assert error is None
                assert got.endswith(b"0\r\n\r\n")
                assert b'finish_reason":"stop' not in got
                got, error = await raw(url, "reset")
                assert isinstance(error, ConnectionResetError)
                assert got == b""
                got, error = await raw(url, "no_done")
                assert b'finish_reason":"stop' in got
                assert b"[DONE]" not in got
                assert (await raw(url, "malformed@4"))[0].count(b"data: ") == 15
                assert b"\xff\xfe" in (await raw(url, "invalid_utf8@4"))[0]

    anyio.run(look, backend_options={"use_uvloop": uvloop})


async def test_provider_that_goes_down_drops_what_it_was_writing() -> None:
    plan = parse_plan("providers: {a: {wire: openai, port: 0, latency: {token_ms: 50}}}")
    async with running_simulator(plan) as simulator:
        with anyio.fail_after(BOUND_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(raw, simulator.base_urls["a"], "none")
                while not simulator.statistics()["playing"]:
                    await anyio.sleep(0.001)
                await simulator.down("a")
        assert [entry.end for entry in simulator.account.entries] == ["dropped"]
        with pytest.raises(ConnectionRefusedError):
            await raw(simulator.base_urls["a"], "none")


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"POST /p/openai/v1/chat/completions HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n",
        b"POST /p/openai/v1/chat/completions HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /p/openai/v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /p/openai/v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffff\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000,
    ],
    ids=lambda sent: repr(sent[:60]),
)
async def test_what_is_no_request_ends_its_connection(sent: bytes) -> None:
    async with running_simulator(PLAN) as simulator:
        parsed = httpx.URL(simulator.url)
        with anyio.fail_after(BOUND_S):
            reader, writer = await asyncio.open_connection(parsed.host, parsed.port)
            writer.write(sent)
            try:
                assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            except ConnectionResetError:
                pass  # what it had not read was thrown away
            writer.close()
            while simulator.statistics()["connections"]:
                await anyio.sleep(0.001)
