from __future__ import annotations

import datetime
import json
import sys
from dataclasses import asdict
from importlib.util import find_spec

import pytest

from gearshift.core.answer import StageRef
from gearshift.core.blueprint import AccountSpec, Blueprint, Chain, ChainPolicy, ProviderSpec, Stage
from gearshift.core.config.model import BreakerConfig, Config, LimitsConfig
from gearshift.core.errors import ConfigError
from gearshift.core.failures import ProviderFailure
from gearshift.core.provider import Account, Timeouts
from gearshift.core.request import StreamPolicy
from gearshift.core.sdk.listing import PullProgress
from gearshift.core.words import Complexity, FailureKind, Sensitivity
from gearshift.server.cli.models import check, count_tokens, describe, list_models, pull
from tests.support import anthropic_wire, ollama_wire
from tests.support.chunk_folding import some_model
from tests.support.scripted_server import Reply, scripted

needs_anthropic = pytest.mark.skipif(
    find_spec("anthropic") is None, reason="the anthropic SDK is missing: pip install 'gearshift[anthropic]'"
)
needs_ollama = pytest.mark.skipif(
    find_spec("ollama") is None, reason="the ollama SDK is missing: pip install 'gearshift[ollama]'"
)

TODAY = datetime.date(2026, 11, 23)


def provider(kind: str, url: str, *, api_key: str = "sk-test") -> ProviderSpec:
    account = Account(name="main", base_url=url, api_key=api_key)
    return ProviderSpec(
        name=f"my-{kind}",
        kind=kind,
        dialect="",
        clearance=Sensitivity.INTERNAL,
        secure=True,
        accounts=(AccountSpec(account=account, limits=LimitsConfig()),),
        breaker=BreakerConfig(),
        cost_per_hour_usd=None,
        parallelism=1,
        connections=4,
    )


def blueprint(spec: ProviderSpec, *wire_ids: str) -> Blueprint:
    """Give a configuration with one chain of these models."""
    stages = tuple(
        Stage(
            ref=StageRef(position=place, provider=spec.name, model=wire_id, capability=Complexity.HIGH),
            provider=spec,
            model=some_model(spec.kind, wire_id=wire_id),
            max_retries=0,
            timeouts=Timeouts(),
        )
        for place, wire_id in enumerate(wire_ids)
    )
    policy = ChainPolicy(
        max_attempts=1,
        max_hops=0,
        max_cost_usd=None,
        min_confidence=0.85,
        escalation_threshold=0.75,
        require_valid=False,
        require_confidence=False,
        second_look=False,
        enforce_schema=True,
        check_coherence=True,
    )
    chain = Chain(name="generate", stages=stages, adaptive=False, policy=policy, allow_space_change=False, revision="1")
    return Blueprint(
        config=Config(),
        providers={spec.name: spec},
        chains={chain.name: chain},
        tasks={},
        capability_matrix={},
        stream=StreamPolicy(),
        revision="1",
    )


def claude(id: str, *, lifecycle: str = "active", retires_at: str | None = None) -> dict[str, object]:
    yes, no = {"supported": True}, {"supported": False}
    kinds = {"adaptive": yes, "between_tools": no, "disabled": yes, "enabled": no}
    levels = {"low": yes, "medium": yes, "high": yes, "xhigh": yes, "max": yes}
    return {
        "type": "model",
        "id": id,
        "display_name": id.title(),
        "created_at": "2026-09-28T00:00:00Z",
        "deprecated_at": "2026-10-01T00:00:00Z" if lifecycle != "active" else None,
        "lifecycle": lifecycle,
        "retires_at": retires_at,
        "max_input_tokens": 1_000_000,
        "max_tokens": 128_000,
        "line": None,
        "capabilities": {
            "batch": yes,
            "citations": yes,
            "code_execution": no,
            "context_management": {"supported": False},
            "effort": {"supported": True, **levels},
            "image_input": yes,
            "pdf_input": yes,
            "server_tools": {"supported": False},
            "structured_outputs": yes,
            "thinking": {"supported": True, "types": kinds},
        },
    }


def page(*models: dict[str, object]) -> Reply:
    return Reply.json({"data": list(models), "has_more": False, "first_id": None, "last_id": None})


# Anthropic.


@needs_anthropic
async def test_models_of_anthropic_are_listed_with_their_life_cycle() -> None:
    reply = page(
        claude("claude-opus-5-5"),
        claude("claude-sonnet-4-5", lifecycle="deprecated", retires_at="2026-11-30T00:00:00Z"),
    )
    async with scripted(reply) as server:
        listed = await list_models(blueprint(provider("anthropic", server.url), "claude-opus-5-5"))
    assert [(each.model, each.lifecycle, each.retires_on, each.configured) for each in listed] == [
        ("claude-opus-5-5", "active", "", True),
        ("claude-sonnet-4-5", "deprecated", "2026-11-30", False),
    ]
    assert (listed[0].context_tokens, listed[0].max_output_tokens) == (1_000_000, 128_000)
    assert listed[0].features == ("batch", "effort", "images", "json_schema", "reasoning")
    assert json.dumps([asdict(each) for each in listed])
    assert (server.requests[0].method, server.requests[0].path) == ("GET", "/v1/models?limit=1000")
    assert server.requests[0].headers["authorization"] == "Bearer sk-test"


@needs_anthropic
async def test_model_of_anthropic_is_described_by_its_name_in_the_catalogue() -> None:
    async with scripted(Reply.json(claude("claude-opus-5-5"))) as server:
        config = blueprint(provider("anthropic", server.url), "claude-opus-5-5")
        described = await describe(config, "my-anthropic", "anthropic/claude-opus-5-5")
    assert server.requests[0].path == "/v1/models/claude-opus-5-5"
    assert (described.name, described.configured) == ("Claude-Opus-5-5", True)


@needs_anthropic
async def test_tokens_are_counted_by_the_provider() -> None:
    async with scripted(Reply.json({"input_tokens": 42})) as server:
        config = blueprint(provider("anthropic", server.url), "claude-opus-5-5")
        assert await count_tokens(config, "my-anthropic", "claude-opus-5-5", "Hello", system="Be brief.") == 42
    assert server.requests[0].path == "/v1/messages/count_tokens"
    assert server.requests[0].json == {
        "model": "claude-opus-5-5",
        "messages": [{"role": "user", "content": "Hello"}],
        "system": "Be brief.",
    }


@needs_anthropic
async def test_check_tells_what_is_missing_retired_and_about_to_go() -> None:
    listed = page(
        claude("claude-opus-5-5"),
        claude("claude-sonnet-4-5", lifecycle="deprecated", retires_at="2026-11-30T00:00:00Z"),
        claude("claude-opus-4", lifecycle="retired", retires_at="2026-06-15T00:00:00Z"),
        claude("claude-sonnet-5", lifecycle="deprecated", retires_at="2027-09-01T00:00:00Z"),
        claude("claude-haiku-4-5-20251001"),
    )
    alias = Reply.json(claude("claude-haiku-4-5-20251001"))
    unknown = Reply.json(anthropic_wire.error("not_found_error"), status=404)
    async with scripted(listed, alias, unknown) as server:
        config = blueprint(
            provider("anthropic", server.url),
            "claude-opus-5-5",
            "claude-sonnet-4-5",
            "claude-opus-4",
            "claude-sonnet-5",
            "claude-haiku-4-5",
            "claude-nonsense",
        )
        checked = await check(config, TODAY)
    assert {each.model: (each.finding, each.retires_on, each.is_usable) for each in checked} == {
        "claude-opus-5-5": ("ok", "", True),
        "claude-sonnet-4-5": ("retiring", "2026-11-30", True),
        "claude-opus-4": ("retired", "", False),
        "claude-sonnet-5": ("ok", "2027-09-01", True),
        "claude-haiku-4-5": ("ok", "", True),
        "claude-nonsense": ("missing", "", False),
    }


@needs_anthropic
async def test_refused_key_is_a_finding_of_the_check_and_an_error_of_the_list() -> None:
    async with scripted(Reply.json(anthropic_wire.error("authentication_error"), status=401)) as server:
        config = blueprint(provider("anthropic", server.url), "claude-opus-5-5")
        checked = await check(config, TODAY)
        with pytest.raises(ProviderFailure) as caught:
            await list_models(config)
    assert [(each.finding, each.is_usable) for each in checked] == [("unreachable", False)]
    assert caught.value.kind is FailureKind.AUTHENTICATION
    assert "secret words" not in str(caught.value)


@needs_anthropic
async def test_key_of_the_environment_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-environment")
    async with scripted(page()) as server:
        with pytest.raises(ProviderFailure, match="no key"):
            await list_models(blueprint(provider("anthropic", server.url, api_key=""), "claude-opus-5-5"))
    assert not server.requests


# Ollama.


@needs_ollama
async def test_models_of_ollama_are_listed_with_their_size() -> None:
    async with scripted(Reply.json(ollama_wire.tags("qwen3:latest", "gemma3:270m"))) as server:
        listed = await list_models(blueprint(provider("ollama", server.url, api_key=""), "qwen3"), "my-ollama")
    assert [(each.model, each.configured) for each in listed] == [("qwen3:latest", True), ("gemma3:270m", False)]
    assert listed[0].size_bytes == 5_200_000_000
    assert listed[0].details == {"family": "qwen3", "parameters": "8.2B", "quantization": "Q4_K_M"}


@needs_ollama
async def test_model_of_ollama_is_described_with_its_context() -> None:
    async with scripted(Reply.json(ollama_wire.show())) as server:
        config = blueprint(provider("ollama", server.url, api_key=""), "qwen3")
        described = await describe(config, "my-ollama", "qwen3")
    assert described.context_tokens == 40960
    assert described.features == ("reasoning", "tools")
    assert described.details["license"] == "Apache License 2.0"


@needs_ollama
async def test_pull_reports_its_progress() -> None:
    reports: list[PullProgress] = []
    reply = Reply.sse(ollama_wire.lines(ollama_wire.pull()), content_type="application/x-ndjson")
    async with scripted(reply) as server:
        config = blueprint(provider("ollama", server.url, api_key=""), "qwen3")
        await pull(config, "my-ollama", "ollama/qwen3", reports.append)
    assert server.requests[0].path == "/api/pull"
    assert server.requests[0].json["model"] == "qwen3"
    assert [(each.status, each.completed, each.total) for each in reports][1:3] == [
        ("pulling a3de86cd1c13", 40, 100),
        ("pulling a3de86cd1c13", 100, 100),
    ]
    assert reports[-1].status == "success"


@needs_ollama
async def test_pull_of_a_model_that_no_library_has_says_so() -> None:
    lines: list[ollama_wire.Line] = [
        {"status": "pulling manifest"},
        {"error": "pull model manifest: file does not exist"},
    ]
    async with scripted(Reply.sse(ollama_wire.lines(lines))) as server:
        config = blueprint(provider("ollama", server.url, api_key=""), "qwen3")
        with pytest.raises(ProviderFailure) as caught:
            await pull(config, "my-ollama", "qwen3", lambda _: None)
    assert caught.value.kind is FailureKind.MODEL_NOT_FOUND


@needs_ollama
async def test_check_says_how_to_get_a_missing_model() -> None:
    async with scripted(Reply.json(ollama_wire.tags("qwen3:latest"))) as server:
        checked = await check(blueprint(provider("ollama", server.url, api_key=""), "qwen3", "gemma3"), TODAY)
    assert [(each.model, each.finding) for each in checked] == [("gemma3", "missing"), ("qwen3", "ok")]
    assert "gearshift models pull my-ollama gemma3`" in checked[0].detail


@needs_ollama
async def test_server_that_is_not_there_is_unreachable() -> None:
    async with scripted() as server:
        config = blueprint(provider("ollama", server.url, api_key=""), "qwen3")
    assert [each.finding for each in await check(config, TODAY)] == ["unreachable"]


@needs_ollama
async def test_key_of_the_environment_is_not_sent_to_a_configured_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "environment")
    async with scripted(Reply.json(ollama_wire.tags())) as server:
        await list_models(blueprint(provider("ollama", server.url, api_key=""), "qwen3"))
        await list_models(blueprint(provider("ollama", server.url, api_key="own"), "qwen3"))
    assert "authorization" not in server.requests[0].headers
    assert server.requests[1].headers["authorization"] == "Bearer own"


# Any provider.


async def test_kinds_that_cannot_be_asked_are_told_of_by_the_catalogue() -> None:
    config = blueprint(provider("voyage", "https://example.com"), "voyage-4")
    assert [each.finding for each in await check(config, TODAY)] == ["unchecked"]
    listed = await list_models(config)
    assert [(each.model, each.source, each.configured) for each in listed] == [("voyage-4", "catalogue", True)]
    assert listed == await list_models(config, "my-voyage") == [await describe(config, "my-voyage", "voyage-4")]
    with pytest.raises(ConfigError, match="no chain uses voyage-9; used are: voyage-4"):
        await describe(config, "my-voyage", "voyage-9")
    with pytest.raises(ConfigError, match="kind voyage"):
        await count_tokens(config, "my-voyage", "voyage-4", "Hi")
    with pytest.raises(ConfigError, match="configured are: my-voyage"):
        await describe(config, "other", "x")


async def test_commands_that_a_kind_does_not_have_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="counts tokens"):
        await count_tokens(blueprint(provider("ollama", "http://127.0.0.1:9")), "my-ollama", "qwen3", "Hi")
    with pytest.raises(ConfigError, match="only models of Ollama"):
        await pull(
            blueprint(provider("anthropic", "http://127.0.0.1:9")), "my-anthropic", "claude-opus-5-5", lambda _: None
        )


@pytest.mark.parametrize("kind", ["anthropic", "ollama"])
async def test_missing_package_is_named_with_its_install_command(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"gearshift.core.sdk.{kind}", raising=False)
    monkeypatch.setitem(sys.modules, kind, None)
    import gearshift.core.sdk

    monkeypatch.delattr(gearshift.core.sdk, kind, raising=False)
    with pytest.raises(ConfigError, match=rf"pip install 'gearshift\[{kind}\]'"):
        await list_models(blueprint(provider(kind, "http://127.0.0.1:9"), "m"))
