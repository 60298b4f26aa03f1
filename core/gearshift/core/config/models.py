"""Which model a name of the file means.

Rules: an entry of `models` wins over the catalogue; it is known to every provider of the kind and dialect of the one
that it names. `like` starts from another entry, or from the catalogue (always so when it is the entry's own name). A
name that neither knows is an error with what to write, since nobody else can say what such a model can be trusted with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gearshift.core.blueprint import ProviderSpec
from gearshift.core.catalogue import Catalogue, Feature, Model, PriceSchedule
from gearshift.core.config.kinds import facts_of
from gearshift.core.config.model import Config, ModelConfig
from gearshift.core.config.problems import Place, Report, suggestion
from gearshift.core.errors import ConfigError
from gearshift.core.words import Complexity


class Models:
    """The models that a file may name. Entries that are wrong are reported once, when this is made."""

    def __init__(
        self, config: Config, catalogue: Catalogue, providers: Mapping[str, ProviderSpec | None], report: Report
    ) -> None:
        self._config = config
        self._catalogue = catalogue
        self._providers = providers
        self._report = report
        self._declared: dict[str, Model | None] = {}
        for name in config.models:
            self._entry(name, ())

    def find(self, provider: ProviderSpec, name: str, place: Place) -> Model | None:
        """Give the model that `name` means at a provider; None when the report says why not."""
        if name in self._declared:
            declared = self._declared[name]
            if declared is None or _fits(declared, provider):
                return declared
        found = self._catalogue.find(provider.kind, name, provider.dialect)
        if found is None:
            self._unknown(provider, name, place)
        elif note := self._catalogue.alias_note(provider.kind, name, provider.dialect):
            self._report.warn(place, note)
        return found

    def _entry(self, name: str, trail: tuple[str, ...]) -> Model | None:
        """Resolve an entry once; `trail` is who asked, through `like`."""
        if name in trail:
            circle = " → ".join((*trail[trail.index(name) :], name))
            self._report.error(("models", name, "like"), f"goes in a circle: {circle}")
            return None
        if name not in self._declared:
            self._declared[name] = self._resolved(name, self._config.models[name], trail)
        return self._declared[name]

    def _resolved(self, name: str, entry: ModelConfig, trail: tuple[str, ...]) -> Model | None:
        place: Place = ("models", name)
        if entry.provider not in self._providers:
            hint = suggestion(entry.provider, self._providers)
            self._report.error((*place, "provider"), f"unknown provider `{entry.provider}`{hint}")
            return None
        provider = self._providers[entry.provider]
        if provider is None:
            return None
        prices = self._prices(entry, place)
        if entry.like:
            base = self._like(name, entry.like, provider, trail)
        elif entry.capability is None:
            self._report.error(
                (*place, "capability"), "is missing; low, medium or high: the complexity that it can be trusted with"
            )
            base = None
        else:
            base = _plain(name, entry, provider)
        return None if base is None else _overridden(base, name, entry, prices)

    def _like(self, name: str, like: str, provider: ProviderSpec, trail: tuple[str, ...]) -> Model | None:
        place: Place = ("models", name, "like")
        if like != name and like in self._config.models:
            base = self._entry(like, (*trail, name))
            if base is not None and not _fits(base, provider):
                self._report.error(place, f"`{like}` is a model of another kind of provider")
                return None
            return base
        base = self._catalogue.find(provider.kind, like, provider.dialect)
        if base is None:
            names = (*self._catalogue.names(provider.kind, provider.dialect), *self._config.models)
            told = suggestion(like, (each for each in names if each != name))
            self._report.error(place, f"unknown model `{like}`{told}")
        return base

    def _prices(self, entry: ModelConfig, place: Place) -> PriceSchedule | None:
        if entry.prices is None:
            return None
        try:
            return self._catalogue.price_config(entry.prices)
        except ConfigError as error:
            self._report.error((*place, "prices"), error.problems[0].removeprefix("prices: "))
            return None

    def _unknown(self, provider: ProviderSpec, name: str, place: Place) -> None:
        names = [*self._catalogue.names(provider.kind, provider.dialect)]
        names += [each for each, model in self._declared.items() if model is not None and _fits(model, provider)]
        snippet = f'models: {{"{name}": {{provider: {provider.name}, capability: medium}}}}'
        kind = provider.dialect or provider.kind
        self._report.error(
            place,
            f"unknown model `{name}` for `{provider.name}` ({kind}){suggestion(name, names)} (or declare it: {snippet})",
        )


def _fits(model: Model, provider: ProviderSpec) -> bool:
    return (model.provider_kind, model.dialect) == (provider.kind, provider.dialect)


def _plain(name: str, entry: ModelConfig, provider: ProviderSpec) -> Model:
    """Start without `like`: what the kind and dialect usually can, or an embedding model when it has vectors."""
    facts = facts_of(provider.kind, provider.dialect)
    embeds = bool(entry.dimensions) or bool(entry.vector_space)
    return Model(
        id=name,
        provider_kind=provider.kind,
        dialect=provider.dialect,
        wire_id=name,
        capability=Complexity.LOW,
        features=frozenset({Feature.EMBED}) if embeds else facts.features,
        self_hosted=facts.self_hosted,
        max_batch=32 if embeds else 1,
    )


def _overridden(base: Model, name: str, entry: ModelConfig, prices: PriceSchedule | None) -> Model:
    features = base.features if entry.features is None else frozenset(Feature(word) for word in entry.features)
    space = base.vector_space if entry.vector_space is None else entry.vector_space
    return replace(
        base,
        id=name,
        wire_id=entry.wire_id or base.wire_id,
        capability=base.capability if entry.capability is None else Complexity.from_word(entry.capability),
        context_tokens=_or(entry.context_tokens, base.context_tokens),
        max_output_tokens=_or(entry.max_output_tokens, base.max_output_tokens),
        features=features,
        prices=prices or base.prices,
        self_hosted=base.self_hosted if entry.self_hosted is None else entry.self_hosted,
        vector_space=space or (name if Feature.EMBED in features else ""),
        dimensions=base.dimensions if entry.dimensions is None else entry.dimensions,
        max_batch=_or(entry.max_batch, base.max_batch),
        max_input_tokens=_or(entry.max_input_tokens, base.max_input_tokens),
        options={**base.options, **(entry.options or {})},
    )


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value
