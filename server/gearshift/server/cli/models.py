"""What `gearshift models list|describe|count|pull|check` do: ask configured providers about their models.

Rules: functions that give plain data; parsing arguments and printing are elsewhere. The SDKs are imported inside the
functions that need them, so that no other command, and never the service, loads them. Only `anthropic` and `ollama`
providers can be asked; an account's first key speaks for its provider. Of others, what Gearshift itself knows is given.
"""

from __future__ import annotations

import datetime
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from gearshift.core.blueprint import Blueprint, ProviderSpec
from gearshift.core.catalogue import Model
from gearshift.core.errors import ConfigError
from gearshift.core.failures import ProviderFailure
from gearshift.core.provider import Account
from gearshift.core.sdk.listing import OnProgress, ProviderModel
from gearshift.core.words import FailureKind

KINDS: Mapping[str, str] = {"anthropic": "anthropic", "ollama": "ollama"}
"""Kinds of providers that can be asked, with the package (and extra) that each needs."""

RETIRES_SOON_DAYS = 60
"""From how many days before its retirement a model is warned of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """One model that a provider has, as plain data.

    Args:
        provider: its configured name.
        model: the name that goes on the wire.
        retires_on: an ISO date; empty when none is set.
        configured: whether a chain uses it.
        source: who says so: the `provider`, or the `catalogue` and configuration where it cannot be asked.
    """

    provider: str
    model: str
    name: str = ""
    lifecycle: str = ""
    retires_on: str = ""
    context_tokens: int = 0
    max_output_tokens: int = 0
    features: tuple[str, ...] = ()
    size_bytes: int = 0
    configured: bool = False
    source: str = "provider"
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedModel:
    """What a provider says of one configured model.

    Args:
        finding: `ok`, `retiring`, `missing`, `retired`, `unreachable`, or `unchecked` for kinds that cannot be asked.
        detail: a sentence on what to do; empty when all is well.
    """

    provider: str
    model: str
    finding: str
    detail: str = ""
    retires_on: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether calls to it can succeed, as far as is known."""
        return self.finding in ("ok", "retiring", "unchecked")


async def list_models(blueprint: Blueprint, provider: str = "") -> list[ListedModel]:
    """List the models of one provider, or of all; of one that cannot be asked, those that chains use.

    Raises:
        ConfigError: the provider is not configured, or its package is not installed.
        ProviderFailure: a provider refused or could not be reached.
    """
    specs = [_named(blueprint, provider)] if provider else list(blueprint.providers.values())
    listed: list[ListedModel] = []
    for spec in specs:
        if spec.kind not in KINDS:
            listed += _catalogued(blueprint, spec)
            continue
        configured = _configured(blueprint, spec)
        for found in await _list(spec):
            used = any(_is_same(spec.kind, found.id, wire_id) for wire_id in configured)
            listed.append(_listed(spec, found, configured=used))
    return listed


async def describe(blueprint: Blueprint, provider: str, model: str) -> ListedModel:
    """Describe one model of a provider.

    Args:
        model: the catalogue's name of a configured model, or the name on the wire.

    Raises:
        ConfigError, ProviderFailure: as above; MODEL_NOT_FOUND when the provider does not have it.
    """
    spec = _named(blueprint, provider)
    wire_id = _wire_id(blueprint, spec, model)
    if spec.kind not in KINDS:
        return _known(blueprint, spec, wire_id)
    found = await _sdk(spec).describe_model(_account(spec), wire_id)
    used = any(_is_same(spec.kind, wire_id, each) for each in _configured(blueprint, spec))
    return _listed(spec, found, configured=used)


async def count_tokens(blueprint: Blueprint, provider: str, model: str, text: str, *, system: str = "") -> int:
    """Count the input tokens of a text as the provider does, without running the model.

    Raises:
        ConfigError: as above; Ollama cannot count.
        ProviderFailure: as above.
    """
    spec = _spec(blueprint, provider)
    if spec.kind != "anthropic":
        raise ConfigError([f"provider {provider}: {spec.kind} has no command that counts tokens"])
    with _installed(spec):
        from gearshift.core.sdk import anthropic
    return await anthropic.count_tokens(_account(spec), _wire_id(blueprint, spec, model), text, system=system)


async def pull(blueprint: Blueprint, provider: str, model: str, on_progress: OnProgress) -> None:
    """Download a model to an Ollama server.

    Raises:
        ConfigError: as above; only Ollama pulls.
        ProviderFailure: as above; MODEL_NOT_FOUND when no library has it.
    """
    spec = _spec(blueprint, provider)
    if spec.kind != "ollama":
        raise ConfigError([f"provider {provider}: only models of Ollama are pulled, and this is {spec.kind}"])
    with _installed(spec):
        from gearshift.core.sdk import ollama
    await ollama.pull_model(_account(spec), _wire_id(blueprint, spec, model), on_progress)


async def check(blueprint: Blueprint, today: datetime.date) -> list[CheckedModel]:
    """Compare the configured models with what the providers have; a provider that fails is a finding, not an error.

    Raises:
        ConfigError: the package of a provider is not installed.
    """
    checked: list[CheckedModel] = []
    for spec in blueprint.providers.values():
        configured = _configured(blueprint, spec)
        if not configured:
            continue
        if spec.kind not in KINDS:
            checked += [CheckedModel(provider=spec.name, model=each, finding="unchecked") for each in configured]
            continue
        try:
            found = await _list(spec)
            checked += [await _checked(spec, wire_id, found, today) for wire_id in configured]
        except ProviderFailure as failure:
            checked += [
                CheckedModel(provider=spec.name, model=each, finding="unreachable", detail=failure.detail)
                for each in configured
            ]
    return checked


async def _checked(spec: ProviderSpec, wire_id: str, found: list[ProviderModel], today: datetime.date) -> CheckedModel:
    finding = CheckedModel(provider=spec.name, model=wire_id, finding="ok")
    model = next((each for each in found if _is_same(spec.kind, each.id, wire_id)), None)
    if model is None and spec.kind == "anthropic":
        model = await _alias(spec, wire_id)
    if model is None:
        todo = f": run `gearshift models pull {spec.name} {wire_id}`" if spec.kind == "ollama" else ""
        return replace(finding, finding="missing", detail=f"the provider does not have this model{todo}")
    if model.lifecycle == "retired":
        return replace(finding, finding="retired", detail="the provider has retired this model: choose another")
    if model.retires_at is None:
        return finding
    day = model.retires_at.date()
    finding = replace(finding, retires_on=day.isoformat())
    if (day - today).days > RETIRES_SOON_DAYS:
        return finding
    return replace(finding, finding="retiring", detail=f"the provider retires this model on {day.isoformat()}")


async def _alias(spec: ProviderSpec, wire_id: str) -> ProviderModel | None:
    """Give the model that a name stands for, such as one without its date; None when there is none."""
    try:
        found = await _sdk(spec).describe_model(_account(spec), wire_id)
    except ProviderFailure as failure:
        if failure.kind is FailureKind.MODEL_NOT_FOUND:
            return None
        raise
    return found


async def _list(spec: ProviderSpec) -> list[ProviderModel]:
    return await _sdk(spec).list_models(_account(spec))


def _listed(spec: ProviderSpec, found: ProviderModel, *, configured: bool) -> ListedModel:
    return ListedModel(
        provider=spec.name,
        model=found.id,
        name=found.name,
        lifecycle=found.lifecycle,
        retires_on=found.retires_at.date().isoformat() if found.retires_at is not None else "",
        context_tokens=found.context_tokens,
        max_output_tokens=found.max_output_tokens,
        features=found.features,
        size_bytes=found.size_bytes,
        configured=configured,
        details=found.details,
    )


def _catalogued(blueprint: Blueprint, spec: ProviderSpec) -> list[ListedModel]:
    """Give what is known here of the models that chains use, in order of name."""
    used = {model.wire_id: model for model in _models(blueprint, spec)}
    return [
        ListedModel(
            provider=spec.name,
            model=wire_id,
            name=model.id,
            context_tokens=model.context_tokens,
            max_output_tokens=model.max_output_tokens,
            features=tuple(sorted(each.value for each in model.features)),
            configured=True,
            source="catalogue",
            details={},
        )
        for wire_id, model in sorted(used.items())
    ]


def _known(blueprint: Blueprint, spec: ProviderSpec, wire_id: str) -> ListedModel:
    known = _catalogued(blueprint, spec)
    for each in known:
        if each.model == wire_id:
            return each
    names = ", ".join(each.model for each in known) or "none"
    raise ConfigError([f"provider {spec.name}: no chain uses {wire_id}; used are: {names}"])


def _named(blueprint: Blueprint, provider: str) -> ProviderSpec:
    spec = blueprint.providers.get(provider)
    if spec is None:
        known = ", ".join(sorted(blueprint.providers)) or "none"
        raise ConfigError([f"provider {provider}: not configured; configured are: {known}"])
    return spec


def _spec(blueprint: Blueprint, provider: str) -> ProviderSpec:
    spec = _named(blueprint, provider)
    if spec.kind not in KINDS:
        raise ConfigError([f"provider {provider}: a provider of kind {spec.kind} cannot be asked about its models"])
    return spec


class _Sdk(Protocol):
    """What both of the core's SDK files offer."""

    async def list_models(self, account: Account) -> list[ProviderModel]: ...

    async def describe_model(self, account: Account, model: str) -> ProviderModel: ...


def _sdk(spec: ProviderSpec) -> _Sdk:
    with _installed(spec):
        if spec.kind == "anthropic":
            from gearshift.core.sdk import anthropic

            return anthropic
        from gearshift.core.sdk import ollama

        return ollama


@contextmanager
def _installed(spec: ProviderSpec) -> Generator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        package = KINDS[spec.kind]
        raise ConfigError(
            [f"provider {spec.name}: the {package} package is missing: run `pip install 'gearshift[{package}]'`"]
        ) from error


def _account(spec: ProviderSpec) -> Account:
    return spec.accounts[0].account


def _models(blueprint: Blueprint, spec: ProviderSpec) -> list[Model]:
    return [
        stage.model for chain in blueprint.chains.values() for stage in chain.stages if stage.provider.name == spec.name
    ]


def _configured(blueprint: Blueprint, spec: ProviderSpec) -> list[str]:
    """Give the names on the wire of the models that chains use, in order of name."""
    return sorted({model.wire_id for model in _models(blueprint, spec)})


def _wire_id(blueprint: Blueprint, spec: ProviderSpec, name: str) -> str:
    return next((model.wire_id for model in _models(blueprint, spec) if model.id == name), name)


def _is_same(kind: str, one: str, other: str) -> bool:
    """Whether two names are one model: to Ollama, a name without a tag is the tag `latest`."""
    if kind == "ollama":
        one, other = (name if ":" in name.rpartition("/")[2] else f"{name}:latest" for name in (one, other))
    return one == other
