"""Adapters of the configured providers.

Rules: an adapter's module is imported only when a configuration names its kind. Own kinds come from entry points in
`gearshift.providers`: a callable (Http, ProviderSpec) -> Provider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points

from gearshift.core.blueprint import Blueprint, ProviderSpec
from gearshift.core.errors import ConfigError
from gearshift.core.http import Http
from gearshift.core.provider import Provider

OWN_PROVIDERS = "gearshift.providers"


@dataclass(frozen=True, slots=True)
class Providers:
    """Adapters by provider name, and the HTTP layer that they share."""

    adapters: Mapping[str, Provider]
    http: Http

    async def aclose(self) -> None:
        """Close every adapter, then the connections."""
        for adapter in self.adapters.values():
            await adapter.aclose()
        await self.http.aclose()


def make_providers(blueprint: Blueprint, embedded: Mapping[str, str]) -> Providers:
    """Make the adapters of a configuration.

    Args:
        embedded: base URLs of running embedded models, by provider name.

    Raises:
        ConfigError: a provider's kind is neither built in nor installed.

    """
    connections = max((spec.connections for spec in blueprint.providers.values()), default=256)
    http = Http(connections=connections)
    return Providers(
        {name: _make(spec, http, embedded.get(name, "")) for name, spec in blueprint.providers.items()}, http
    )


def own_kinds() -> frozenset[str]:
    """Give the kinds that installed packages add."""
    return frozenset(point.name for point in entry_points(group=OWN_PROVIDERS))


def _make(spec: ProviderSpec, http: Http, socket: str) -> Provider:
    match spec.kind:
        case "openai":
            from gearshift.core.providers.openai import OpenAiProvider

            return OpenAiProvider(http, spec.dialect)
        case "anthropic":
            from gearshift.core.providers.anthropic import AnthropicProvider

            return AnthropicProvider(http, name=spec.name)
        case "ollama":
            from gearshift.core.providers.ollama import OllamaProvider

            return OllamaProvider(http)
        case "voyage":
            from gearshift.core.providers.voyage import VoyageProvider

            return VoyageProvider(http)
        case "embedded":
            from gearshift.core.providers.embedded import EmbeddedProvider

            return EmbeddedProvider(http, socket)
        case _:
            return _own(spec, http)


def _own(spec: ProviderSpec, http: Http) -> Provider:
    for point in entry_points(group=OWN_PROVIDERS, name=spec.kind):
        make: Callable[[Http, ProviderSpec], Provider] = point.load()
        return make(http, spec)
    raise ConfigError([f"providers.{spec.name}.kind: nothing installed knows the kind {spec.kind!r}"])
