"""Who was called, in the words of the conventions.

Rules: pure. What a configuration says of its providers, accounts and models is gathered once; what it no longer names,
since it was reloaded while a call ran, goes by the name that the call has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from gearshift.core.answer import AttemptRecord
from gearshift.core.blueprint import Blueprint
from gearshift.server.telemetry.names import provider_value

_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Who made an attempt.

    Args:
        provider: the value of `gen_ai.provider.name`.
        model: the name that went on the wire.
        address: host, or path of a Unix socket; empty where the configuration does not say it.
        port: 0 where there is none.
    """

    provider: str
    model: str
    address: str = ""
    port: int = 0


class Upstreams:
    """Those of one configuration."""

    def __init__(self, blueprint: Blueprint) -> None:
        self.blueprint = blueprint
        self._providers = {name: provider_value(spec.kind, spec.dialect) for name, spec in blueprint.providers.items()}
        self._places = {
            (name, each.account.name): _place(each.account.base_url)
            for name, spec in blueprint.providers.items()
            for each in spec.accounts
        }
        self._models = {
            (stage.ref.provider, stage.ref.model): stage.model.wire_id
            for chain in blueprint.chains.values()
            for stage in chain.stages
        }

    def of(self, attempt: AttemptRecord) -> Upstream:
        """Give who made an attempt."""
        provider, model = attempt.stage.provider, attempt.stage.model
        address, port = self._places.get((provider, attempt.account), ("", 0))
        return Upstream(
            provider=self._providers.get(provider, provider),
            model=self._models.get((provider, model), model),
            address=address,
            port=port,
        )


def _place(base_url: str) -> tuple[str, int]:
    """Give address and port of a base URL."""
    parts = urlsplit(base_url)
    if parts.scheme == "unix":
        return parts.path, 0
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
