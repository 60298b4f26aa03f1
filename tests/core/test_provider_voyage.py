"""Voyage's embeddings over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from gearshift.core.answer import Usage
from gearshift.core.catalogue import Feature, Model
from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http
from gearshift.core.provider import Account, EmbedCall, Provider, ProviderCall, Timeouts
from gearshift.core.providers.voyage import VoyageProvider
from gearshift.core.request import user
from gearshift.core.words import Complexity, FailureKind, InputType, Truncation
from tests.support.openai_bodies import voyage_answer
from tests.support.scripted_server import BOUND_S, Reply, ScriptedServer, scripted

MODEL = Model(
    id="voyage-4",
    provider_kind="voyage",
    wire_id="voyage-4",
    capability=Complexity.LOW,
    features=frozenset({Feature.EMBED}),
    dimensions=(1024, 256, 512, 2048),
    max_batch=1000,
)
CALL = EmbedCall(
    model=MODEL, account=Account(name="a", base_url="", api_key="k"), timeouts=Timeouts(), inputs=("a", "b")
)


@asynccontextmanager
async def serving(*replies: Reply) -> AsyncGenerator[tuple[ScriptedServer, VoyageProvider, EmbedCall]]:
    http = Http()
    async with scripted(*replies) as server:
        try:
            with anyio.fail_after(BOUND_S):
                account = replace(CALL.account, base_url=f"{server.url}/v1")
                yield server, VoyageProvider(http), replace(CALL, account=account)
        finally:
            await http.aclose()


async def test_vectors_and_usage_come_back() -> None:
    async with serving(Reply.json(voyage_answer([0.5, 1], [2, 3]))) as (server, provider, call):
        result = await provider.embed(call)
        assert result.vectors == ((0.5, 1.0), (2.0, 3.0))
        assert result.usage == Usage(input_tokens=7)
        (seen,) = server.requests
        assert seen.path == "/v1/embeddings"
        assert seen.headers["authorization"] == "Bearer k"
        assert seen.json == {"model": "voyage-4", "input": ["a", "b"], "truncation": False}


async def test_wishes_go_in_voyages_fields() -> None:
    async with serving(Reply.json(voyage_answer([1], [2]))) as (server, provider, call):
        await provider.embed(
            replace(
                call,
                input_type=InputType.QUERY,
                dimensions=256,
                truncation=Truncation.END,
                extra_body={"output_dtype": "float"},
            )
        )
        assert server.requests[0].json == {
            "model": "voyage-4",
            "input": ["a", "b"],
            "truncation": True,
            "input_type": "query",
            "output_dimension": 256,
            "output_dtype": "float",
        }


@pytest.mark.parametrize("input_type", list(InputType))
async def test_every_input_type_has_its_word(input_type: InputType) -> None:
    async with serving(Reply.json(voyage_answer([1], [2]))) as (server, provider, call):
        await provider.embed(replace(call, input_type=input_type))
        assert server.requests[0].json["input_type"] == input_type.word


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(Reply.json({"detail": "secret"}, status=400), FailureKind.INVALID_REQUEST, id="400"),
        pytest.param(
            Reply.json({"detail": "The max allowed tokens per batch; too many tokens"}, status=400),
            FailureKind.CONTEXT_LENGTH,
            id="too long",
        ),
        pytest.param(Reply.json({"detail": "secret"}, status=401), FailureKind.AUTHENTICATION, id="401"),
        pytest.param(Reply.json({"detail": "secret"}, status=403), FailureKind.AUTHENTICATION, id="403"),
        pytest.param(
            Reply.json({"detail": "secret"}, status=429, headers={"retry-after": "2"}), FailureKind.RATE_LIMIT, id="429"
        ),
        pytest.param(Reply.text("secret", status=500), FailureKind.SERVER, id="500"),
        pytest.param(Reply.json({}, status=503), FailureKind.OVERLOAD, id="503"),
        pytest.param(Reply.json({}), FailureKind.MALFORMED, id="no data"),
        pytest.param(Reply.json(voyage_answer([1])), FailureKind.MALFORMED, id="one too few"),
        pytest.param(Reply(pieces=()), FailureKind.EMPTY, id="no body"),
        pytest.param(Reply.raw(), FailureKind.CONNECTION, id="closed"),
    ],
)
async def test_failure_has_its_kind(reply: Reply, kind: FailureKind) -> None:
    async with serving(reply) as (_, provider, call):
        with pytest.raises(ProviderFailure) as caught:
            await provider.embed(call)
        assert caught.value.kind is kind
        assert caught.value.retry_after_s == (2.0 if kind is FailureKind.RATE_LIMIT else None)
        assert "secret" not in str(caught.value)


async def test_answer_is_refused() -> None:
    async with serving() as (server, provider, call):
        wrong = ProviderCall(model=MODEL, account=call.account, timeouts=Timeouts(), messages=(user("Hi"),))
        with pytest.raises(ProviderFailure) as caught:
            await anext(provider.stream(wrong))
        assert caught.value.kind is FailureKind.INVALID_REQUEST
        assert not server.requests


async def test_cancelling_closes_the_upstream() -> None:
    async with serving(Reply.raw(asyncio.Event())) as (server, provider, call):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(provider.embed, call)
            await server.asked.wait()
            tasks.cancel_scope.cancel()
        await server.wait_closed_early()


async def test_adapter_is_a_provider() -> None:
    provider: Provider = VoyageProvider(Http())
    await provider.aclose()
