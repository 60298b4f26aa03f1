"""Which configuration is meant, and what it comes to.

Rules: a file that is named must be there; without one, `gearshift.yaml` in the working folder; without that, what is on
this machine. Only here are the environment and a local Ollama looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from gearshift.core.blueprint import Blueprint
from gearshift.core.catalogue import Catalogue
from gearshift.core.config.build import build
from gearshift.core.config.default import default_config
from gearshift.core.config.load import load_config
from gearshift.core.config.model import Config
from gearshift.core.embedded import default_weights_are_installed, runtime_is_installed
from gearshift.core.providers.registry import own_kinds

DEFAULT_FILE = "gearshift.yaml"
CONFIG_VARIABLE = "GEARSHIFT_CONFIG"
_OLLAMA = "http://127.0.0.1:11434/api/tags"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """A valid configuration and where it came from.

    Args:
        notices: sentences on what was found, for a person.
        read: reads the file again; None when there is no file.
    """

    blueprint: Blueprint
    source: str
    notices: tuple[str, ...]
    read: Callable[[], Blueprint] | None


def configured(
    path: str | None,
    *,
    use_env_keys: bool = False,
    changed: Callable[[Config], Config] | None = None,
    catalogue: Catalogue | None = None,
) -> Configured:
    """Find, read and build the configuration.

    Args:
        path: the file, or None.
        use_env_keys: without a file, use provider keys that stand in the environment.
        changed: puts what the command line asks into the configuration, also when it is read again.
        catalogue: models and prices; None is the package's.

    Raises:
        ConfigError: it is wrong; one problem a line.
    """
    catalogue = Catalogue.load() if catalogue is None else catalogue
    chosen = path or os.environ.get(CONFIG_VARIABLE) or (DEFAULT_FILE if Path(DEFAULT_FILE).exists() else None)
    if chosen is not None:
        file = chosen

        def read() -> Blueprint:
            loaded = load_config(file, os.environ)
            if changed is not None:
                loaded = replace(loaded, config=changed(loaded.config))
            return build(loaded, catalogue, own_kinds=own_kinds())

        return Configured(blueprint=read(), source=file, notices=(), read=read)
    config, notices = default_config(
        ollama_models=ollama_models(),
        env=os.environ if use_env_keys else None,
        embedded=runtime_is_installed() and default_weights_are_installed(),
        catalogue=catalogue,
    )
    if changed is not None:
        config = changed(config)
    return Configured(
        blueprint=build(config, catalogue, own_kinds=own_kinds()),
        source="what is on this machine (no gearshift.yaml)",
        notices=tuple(notices),
        read=None,
    )


def ollama_models() -> list[str]:
    """Give the models of an Ollama on this machine; none when it does not answer at once."""
    try:
        answer = httpx.get(_OLLAMA, timeout=0.5, trust_env=False)
        answer.raise_for_status()
        models = answer.json()["models"]
        return [str(model["name"]).removesuffix(":latest") for model in models]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return []
