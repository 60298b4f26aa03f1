"""What a reload may change, and what keeps its old value until a restart.

Rules: pure. A section that is fixed at the start keeps its value and is told of in a warning; the rest of the file comes
into force. What would need a process that does not run is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from msgspec import structs

from gearshift.core.blueprint import Blueprint
from gearshift.core.config.model import Config, EmbeddedConfig
from gearshift.core.config.revision import config_revision
from gearshift.core.errors import ConfigError

_FIXED: Final[Mapping[str, str]] = {
    "server": "ports, workers and sizes are fixed at the start",
    "shared": "the shared store is joined at the start",
    "ledger": "the store is opened at the start",
    "telemetry": "logs and metrics are set up at the start",
    "caching": "the caches are made at the start",
}


def reloadable(old: Blueprint, new: Blueprint) -> Blueprint:
    """Give what of a new configuration can come into force, with a warning for each section that cannot.

    Raises:
        ConfigError: it names an embedded model that does not run.
    """
    kept: dict[str, object] = {}
    warnings: list[str] = []
    for section, why in _FIXED.items():
        if getattr(old.config, section) != getattr(new.config, section):
            kept[section] = getattr(old.config, section)
            warnings.append(f"{section}: {why}; restart the service to change it")
    running = _embedded(old.config)
    for name, settings in _embedded(new.config).items():
        if name not in running:
            raise ConfigError(
                [f"providers.{name}: the embedded model's process is started once; restart the service to add it"]
            )
        if running[name] != settings:
            warnings.append(
                f"providers.{name}: the embedded model's process is started once; restart the service to change it"
            )
    config = structs.replace(new.config, **kept) if kept else new.config
    return replace(
        new,
        config=config,
        revision=config_revision(config) if kept else new.revision,
        warnings=(*new.warnings, *warnings),
    )


def _embedded(config: Config) -> dict[str, EmbeddedConfig]:
    return {
        name: each.embedded or EmbeddedConfig() for name, each in config.providers.items() if each.kind == "embedded"
    }
