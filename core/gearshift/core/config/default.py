"""The configuration when there is no file.

Rules: the embedded model and Ollama, if they are there; providers whose keys stand in the environment only when the
caller passes the environment in, and then one US dollar a day is all that may be spent. The dollar is shared: it stands
as the limit of tenant `default`, who everybody is without keys, and once more at each account, so that no single model
can be charged more even where tenants are not limited. Finding out what is there is the caller's work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from gearshift.core.catalogue import Catalogue, Feature
from gearshift.core.config.model import (
    AccessConfig,
    ChainConfig,
    Config,
    LimitsConfig,
    ModelConfig,
    ProviderConfig,
    StageConfig,
    TenantConfig,
)

USD_PER_DAY = Decimal(1)
"""What keys found in the environment may spend, all together."""

ENV_KEYS = {
    "anthropic": "ANTHROPIC_API_KEY",
    "groq": "GROQ_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "voyage": "VOYAGE_API_KEY",
    "openai": "OPENAI_API_KEY",
}
"""Providers by name, which tells their kind, and the variable that holds the key."""

_MEDIUM = (
    ("groq", "gpt-oss-20b"),
    ("anthropic", "claude-haiku"),
    ("openai", "gpt-6-luna"),
    ("deepseek", "deepseek-flash"),
)
_HIGH = (
    ("deepseek", "deepseek-v4-pro"),
    ("openai", "gpt-6.1-sol"),
    ("anthropic", "claude-sonnet"),
    ("anthropic", "claude-opus"),
)
"""Cheap to dear; of each list the first two that are there are taken."""
_EMBEDDED_MODEL = "gemma3-270m"


def default_config(
    *, ollama_models: Sequence[str], env: Mapping[str, str] | None, embedded: bool, catalogue: Catalogue
) -> tuple[Config, list[str]]:
    """Give a configuration for what is there, and a sentence on each thing found.

    Args:
        ollama_models: names of the models that a local Ollama lists; empty when it does not answer.
        env: where provider keys may be looked for; None looks nowhere.
        embedded: whether the embedded model can be started.
        catalogue: what is known of Ollama's models.
    """
    notices: list[str] = []
    providers: dict[str, ProviderConfig] = {}
    models: dict[str, ModelConfig] = {}
    if embedded:
        providers["embedded"] = ProviderConfig(kind="embedded")
        notices.append(f"embedded model {_EMBEDDED_MODEL}: on this machine, no key")
    chat, embedding = _of_ollama(ollama_models, catalogue)
    if chat or embedding:
        providers["ollama"] = ProviderConfig(kind="ollama")
        notices.append(f"Ollama on this machine: {', '.join(each for each in (chat, embedding) if each)}")
    if chat and catalogue.find("ollama", chat) is None:
        models[chat] = ModelConfig(provider="ollama", capability="medium")
    keyed = _with_keys(env or {})
    providers.update(keyed)
    if keyed:
        names = ", ".join(ENV_KEYS[name] for name in keyed)
        notices.append(f"keys found in the environment: {names}; spending is capped at {USD_PER_DAY} USD a day")
    chains = _chains(embedded=embedded, chat=chat, embedding=embedding, keyed=keyed)
    if not chains:
        notices.append(
            "nothing to call: install gearshift[embedded], start Ollama with a model, or write a gearshift.yaml"
        )
    access = AccessConfig()
    if keyed:
        access = AccessConfig(tenants={"default": TenantConfig(limits=LimitsConfig(usd_per_day=USD_PER_DAY))})
    return Config(providers=providers, models=models, chains=chains, access=access), notices


def _of_ollama(names: Sequence[str], catalogue: Catalogue) -> tuple[str, str]:
    """Choose one model to write and one to embed; those that the catalogue knows come first."""
    chat = embedding = unknown = ""
    for name in names:
        model = catalogue.find("ollama", name)
        if model is None:
            if "embed" not in name and not unknown:
                unknown = name
        elif Feature.EMBED in model.features:
            embedding = embedding or name
        else:
            chat = chat or name
    return chat or unknown, embedding


def _with_keys(env: Mapping[str, str]) -> dict[str, ProviderConfig]:
    return {
        name: ProviderConfig(api_key=env[variable], limits=LimitsConfig(usd_per_day=USD_PER_DAY))
        for name, variable in ENV_KEYS.items()
        if env.get(variable)
    }


def _chains(
    *, embedded: bool, chat: str, embedding: str, keyed: Mapping[str, ProviderConfig]
) -> dict[str, ChainConfig]:
    # The embedded model is trusted least once there is anything else, so that its poor answers are escalated.
    alone = not chat and not any(name in keyed for name, _ in (*_MEDIUM, *_HIGH))
    local: list[StageConfig] = []
    if embedded:
        local.append(StageConfig(provider="embedded", model=_EMBEDDED_MODEL, capability=None if alone else "low"))
    if chat:
        local.append(StageConfig(provider="ollama", model=chat, capability="medium" if embedded else None))
    medium, high = _stages(_MEDIUM, keyed), _stages(_HIGH, keyed)
    light = (*local, *medium, *high[:1])
    heavy = (*high, *medium[:1], *reversed(local))
    chains = {name: ChainConfig(stages=light) for name in ("classify", "extract") if light}
    chains |= {name: ChainConfig(stages=heavy) for name in ("generate", "reason") if heavy}
    # One stage: vectors of different models must not meet in one index.
    for provider, model in (("voyage", "voyage-4"), ("ollama", embedding), ("embedded", _EMBEDDED_MODEL)):
        is_there = provider in keyed or (provider == "ollama" and embedding) or (provider == "embedded" and embedded)
        if is_there:
            chains["embed"] = ChainConfig(stages=(StageConfig(provider=provider, model=model),))
            break
    return chains


def _stages(choices: Iterable[tuple[str, str]], keyed: Mapping[str, ProviderConfig]) -> list[StageConfig]:
    return [StageConfig(provider=name, model=model) for name, model in choices if name in keyed][:2]
