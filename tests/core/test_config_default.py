"""The configuration without a file."""

from __future__ import annotations

import pytest

from gearshift.core.catalogue import Catalogue
from gearshift.core.config.build import build
from gearshift.core.config.default import ENV_KEYS, USD_PER_DAY, default_config

CATALOGUE = Catalogue.load()
KEYS = {variable: f"secret-of-{name}" for name, variable in ENV_KEYS.items()}
TYPES = {"classify", "extract", "generate", "reason", "embed"}


def test_the_embedded_model_alone_serves_every_type() -> None:
    config, notices = default_config(ollama_models=(), env=None, embedded=True, catalogue=CATALOGUE)
    blueprint = build(config, CATALOGUE)
    assert set(blueprint.chains) == TYPES
    assert blueprint.warnings == ()
    assert set(blueprint.providers) == {"embedded"}
    assert len(notices) == 1


def test_nothing_there_says_what_to_do() -> None:
    config, notices = default_config(ollama_models=(), env={}, embedded=False, catalogue=CATALOGUE)
    assert config.chains == {}
    assert "install gearshift[embedded], start Ollama" in notices[0]


def test_keys_in_the_environment_are_not_looked_for_unless_asked() -> None:
    config, _ = default_config(ollama_models=(), env=None, embedded=True, catalogue=CATALOGUE)
    assert set(config.providers) == {"embedded"}
    assert config.access.tenants == {}


def test_keys_that_are_used_are_named_but_never_shown() -> None:
    config, notices = default_config(ollama_models=(), env=KEYS, embedded=False, catalogue=CATALOGUE)
    assert set(config.providers) == set(ENV_KEYS)
    assert all(variable in notices[0] for variable in KEYS)
    assert "secret-of" not in repr((config, notices, build(config, CATALOGUE)))


def test_spending_with_found_keys_is_capped_once_for_all_and_for_each() -> None:
    config, notices = default_config(ollama_models=(), env=KEYS, embedded=True, catalogue=CATALOGUE)
    assert config.access.tenants["default"].limits.usd_per_day == USD_PER_DAY == 1
    assert all(config.providers[name].limits.usd_per_day == 1 for name in ENV_KEYS)
    assert "capped at 1 USD a day" in notices[-1]


@pytest.mark.parametrize("name", ENV_KEYS)
@pytest.mark.parametrize("embedded", [True, False])
def test_each_key_alone_gives_chains_that_can_be_built(name: str, embedded: bool) -> None:
    env = {ENV_KEYS[name]: "k", "GROQ_API_KEY": KEYS["GROQ_API_KEY"] if name == "groq" else ""}
    config, _ = default_config(ollama_models=(), env=env, embedded=embedded, catalogue=CATALOGUE)
    assert set(config.providers) - {"embedded"} == {name}
    blueprint = build(config, CATALOGUE)
    assert blueprint.chains
    # A cap can only hold what has a price.
    assert blueprint.warnings == ()


def test_chains_run_from_the_embedded_model_up() -> None:
    config, _ = default_config(ollama_models=["llama3.1:8b"], env=KEYS, embedded=True, catalogue=CATALOGUE)
    chain = build(config, CATALOGUE).chains["classify"]
    capabilities = [stage.ref.capability for stage in chain.stages]
    assert capabilities == sorted(capabilities)
    assert [stage.provider.name for stage in chain.stages][:2] == ["embedded", "ollama"]
    assert len(chain.stages) - 1 <= chain.policy.max_hops


def test_an_ollama_model_that_the_catalogue_lacks_is_declared() -> None:
    config, notices = default_config(
        ollama_models=["some-embed:1", "qwen9:4b", "other"], env=None, embedded=False, catalogue=CATALOGUE
    )
    chain = build(config, CATALOGUE).chains["generate"]
    assert [stage.model.wire_id for stage in chain.stages] == ["qwen9:4b"]
    assert "embed" not in config.chains
    assert notices == ["Ollama on this machine: qwen9:4b"]


def test_an_ollama_model_that_the_catalogue_knows_comes_first() -> None:
    config, _ = default_config(
        ollama_models=["qwen9:4b", "nomic-embed-text:latest", "llama3.1:8b"],
        env=None,
        embedded=True,
        catalogue=CATALOGUE,
    )
    assert config.models == {}
    blueprint = build(config, CATALOGUE)
    assert [stage.model.id for stage in blueprint.chains["generate"].stages] == ["llama3.1:8b", "gemma3-270m"]
    assert [stage.model.id for stage in blueprint.chains["embed"].stages] == ["nomic-embed-text"]


def test_the_embed_chain_never_mixes_spaces() -> None:
    config, _ = default_config(ollama_models=["nomic-embed-text"], env=KEYS, embedded=True, catalogue=CATALOGUE)
    assert len(config.chains["embed"].stages) == 1
    assert not config.chains["embed"].allow_space_change
