"""The catalogue that ships: names, features, sources of prices; and what a broken one is told."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from gearshift.core.answer import Usage
from gearshift.core.catalogue import Catalogue, Feature, Model
from gearshift.core.config.model import PriceConfig
from gearshift.core.errors import ConfigError
from gearshift.core.words import Complexity

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CATALOGUE = Catalogue.load()


def model(kind: str, name: str, dialect: str = "") -> Model:
    found = CATALOGUE.find(kind, name, dialect)
    assert found is not None, name
    return found


@pytest.mark.parametrize(
    ("kind", "dialect", "name", "model_id"),
    [
        ("ollama", "", "llama3.1:8b", "llama3.1:8b"),
        ("openai", "groq", "llama3-8b", "gpt-oss-20b"),
        ("anthropic", "", "claude-haiku", "claude-haiku-5-5"),
        ("anthropic", "", "claude-sonnet", "claude-sonnet-5-5"),
        ("anthropic", "", "claude-opus", "claude-opus-5-5"),
        ("openai", "deepseek", "deepseek-chat", "deepseek-flash"),
        ("ollama", "", "nomic-embed-text", "nomic-embed-text"),
        ("voyage", "", "voyage-3", "voyage-3"),
    ],
)
def test_names_of_the_article_resolve_to_current_models(kind: str, dialect: str, name: str, model_id: str) -> None:
    assert model(kind, name, dialect).id == model_id


def test_alias_of_an_ended_model_says_so() -> None:
    assert "2026-07-24" in CATALOGUE.alias_note("openai", "deepseek-chat", "deepseek")
    assert "gpt-oss-20b" in CATALOGUE.alias_note("openai", "llama3-8b", "groq")
    assert CATALOGUE.alias_note("anthropic", "claude-haiku") == ""
    assert CATALOGUE.alias_note("anthropic", "claude-haiku-5-5") == ""


def test_name_belongs_to_its_dialect() -> None:
    assert CATALOGUE.find("openai", "llama3-8b", "deepseek") is None
    assert CATALOGUE.find("openai", "gpt-oss-20b", "vllm") is None
    assert model("openai", "gpt-oss-20b").dialect == "groq"
    assert CATALOGUE.find("anthropic", "claude-haiku-9") is None
    assert CATALOGUE.find("nobody", "claude-haiku") is None


def test_misspelt_name_gets_the_nearest() -> None:
    assert "claude-haiku" in CATALOGUE.suggest("anthropic", "claude-hiaku")
    assert CATALOGUE.suggest("anthropic", "zzzzz") == ()
    assert "deepseek-chat" in CATALOGUE.names("openai", "deepseek")
    assert "deepseek-chat" not in CATALOGUE.names("openai", "groq")
    assert set(CATALOGUE.names("openai", "groq")) < set(CATALOGUE.names("openai"))


@pytest.mark.parametrize("each", CATALOGUE.models, ids=lambda each: each.id)
def test_model_is_whole(each: Model) -> None:
    assert each.features
    assert each.wire_id
    embeds = Feature.EMBED in each.features
    assert embeds == bool(each.vector_space) == bool(each.dimensions)
    if each.self_hosted:
        assert each.prices is None
    if each.prices is not None:
        assert each.prices.source
        cost = each.prices.cost(Usage(input_tokens=1000, output_tokens=1000), NOW)
        assert cost is not None
        assert cost > 0
        assert len([period for period in each.prices.periods if period.holds(NOW)]) == 1


def test_unknown_price_is_none() -> None:
    assert model("openai", "text-embedding-3-small").prices is None


@pytest.mark.parametrize(
    ("name", "tokens", "usd"),
    [
        ("claude-haiku", 100_000, "0.01"),
        ("claude-haiku", 200_000, "0.1"),
        ("claude-sonnet", 1_000_000, "2"),
        ("claude-opus", 1_000_000, "4"),
    ],
)
def test_claude_input_costs_what_its_page_says(name: str, tokens: int, usd: str) -> None:
    prices = model("anthropic", name).prices
    assert prices is not None
    assert prices.cost(Usage(input_tokens=tokens), NOW) == Decimal(usd)


def test_deepseek_costs_double_in_working_hours_of_beijing() -> None:
    prices = model("openai", "deepseek-chat", "deepseek").prices
    assert prices is not None
    usage = Usage(input_tokens=1_000_000, cache_read_tokens=500_000, output_tokens=1_000_000)
    peak = prices.cost(usage, datetime(2026, 11, 23, 3, tzinfo=UTC))
    off_peak = prices.cost(usage, datetime(2026, 11, 23, 12, tzinfo=UTC))
    assert off_peak == Decimal("0.6765")
    assert peak == Decimal("1.353")


def test_features_follow_what_providers_take() -> None:
    for each in CATALOGUE.models:
        if each.provider_kind == "anthropic":
            assert Feature.LOGPROBS not in each.features
            older = each.id == "claude-haiku-4-5"
            assert (Feature.PREFILL in each.features) == (Feature.TEMPERATURE in each.features) == older
        if each.dialect == "groq":
            assert Feature.LOGPROBS not in each.features
        if each.dialect == "deepseek":
            assert Feature.JSON_OBJECT in each.features
            assert Feature.JSON_SCHEMA not in each.features


def test_vectors_may_be_compared_within_the_voyage_4_series_only() -> None:
    spaces = {name: model("voyage", name).vector_space for name in CATALOGUE.names("voyage")}
    assert spaces["voyage-4-large"] == spaces["voyage-4"] == spaces["voyage-4-lite"] == "voyage-4"
    assert spaces["voyage-3"] != "voyage-4"


def test_embedded_model_is_weak_without_examples() -> None:
    strong, weak = model("embedded", "gemma3-270m"), model("embedded", "gemma3-270m-zero-shot")
    assert strong.capability > weak.capability
    assert strong.wire_id == weak.wire_id
    assert weak.capability is Complexity.LOW
    assert weak.options == {"examples": "off", "calibration": "off"}
    assert strong.features - weak.features == {
        Feature.LABELS,
        Feature.JSON_SCHEMA,
        Feature.JSON_OBJECT,
        Feature.EMBED,
        Feature.PREFILL,
    }
    assert (strong.vector_space, strong.dimensions) == ("gemma3-270m-mean", (640,))


def test_prices_of_the_configuration_become_a_schedule() -> None:
    config = PriceConfig(input_usd=Decimal(2), output_usd=Decimal(8), cache_read_usd=Decimal("0.5"))
    schedule = Catalogue.price_config(config)
    usage = Usage(input_tokens=300, cache_read_tokens=100, cache_write_tokens=100, output_tokens=100)
    assert schedule.cost(usage, NOW) == Decimal("0.00125")
    with pytest.raises(ConfigError, match="6 decimals"):
        Catalogue.price_config(PriceConfig(input_usd=Decimal("0.0000001")))


ENTRY = """
version: 1
as_of: 2026-11-23
models:
  - id: one
    kind: openai
    capability: low
    features: [tools]
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("a: [", "catalogue:", id="not YAML"),
        pytest.param("version: 2\nas_of: 2026-11-23\nmodels: []", "version", id="another version"),
        pytest.param(ENTRY + "    colour: red\n", "colour", id="an unknown field"),
        pytest.param(ENTRY.replace("low", "lowest"), "one", id="an unknown capability"),
        pytest.param(ENTRY.replace("tools", "teleport"), "teleport", id="an unknown feature"),
        pytest.param(ENTRY + "    aliases: {one: ''}\n", "two models named 'one'", id="a name twice"),
        pytest.param(
            ENTRY + "    prices: {source: here, periods: [tiers: [input: 0.10]]}\n", "str", id="a price as a float"
        ),
        pytest.param(ENTRY + "    prices: {periods: [tiers: [input: '1']]}\n", "source", id="a price without source"),
        pytest.param(
            ENTRY + "    prices: {source: here, periods: [tiers: [input: cheap]]}\n", "one", id="a word as a price"
        ),
        pytest.param(ENTRY + "    prices: {source: here, periods: []}\n", "period", id="no period"),
    ],
)
def test_broken_catalogue_says_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Catalogue.parse(text)
    assert told in str(caught.value)


def test_small_catalogue_is_read() -> None:
    catalogue = Catalogue.parse(ENTRY)
    found = catalogue.find("openai", "one")
    assert found is not None
    assert (found.wire_id, found.prices, catalogue.as_of.isoformat()) == ("one", None, "2026-11-23")
