"""A configuration into a blueprint.

Rules: pure; every problem of the file is found before any is raised. A part that is wrong is left out of what is checked
after it, so that one slip is one line.
"""

from __future__ import annotations

from collections.abc import Collection

from gearshift.core.blueprint import Blueprint
from gearshift.core.catalogue import Catalogue
from gearshift.core.config.chains import ChainBuilder
from gearshift.core.config.check import check_whole
from gearshift.core.config.load import LoadedConfig
from gearshift.core.config.made import checked
from gearshift.core.config.model import Config, DefaultsConfig
from gearshift.core.config.models import Models
from gearshift.core.config.policies import base_policy, stream_policy
from gearshift.core.config.problems import Report
from gearshift.core.config.providers import build_providers
from gearshift.core.config.revision import config_revision
from gearshift.core.config.tasks import build_tasks
from gearshift.core.words import Complexity, TaskType


def build(config: Config | LoadedConfig, catalogue: Catalogue, *, own_kinds: Collection[str] = ()) -> Blueprint:
    """Give what a configuration comes to.

    Args:
        config: as it was loaded, which lets problems name their lines, or made by hand.
        catalogue: the models that it may name.
        own_kinds: kinds of provider that plug-ins bring.

    Raises:
        ConfigError: holds every problem.
    """
    loaded = config if isinstance(config, LoadedConfig) else LoadedConfig(config=checked(config))
    config = loaded.config
    report = Report(loaded.source, loaded.positions)
    providers = build_providers(config, report, own_kinds)
    models = Models(config, catalogue, providers, report)
    builder = ChainBuilder(config, providers, models, base_policy(config, report), report)
    chains = {name: builder.build(name, each) for name, each in config.chains.items()}
    tasks = build_tasks(config, chains, report)
    check_whole(config, providers, chains, tasks, report)
    report.raise_problems()
    return Blueprint(
        config=config,
        providers={name: each for name, each in providers.items() if each is not None},
        chains={name: each for name, each in chains.items() if each is not None},
        tasks=tasks,
        capability_matrix=_matrix(config.defaults),
        stream=stream_policy(config.stream),
        revision=config_revision(config),
        warnings=(*loaded.warnings, *report.warnings),
    )


def _matrix(defaults: DefaultsConfig) -> dict[TaskType, Complexity]:
    """Give every type its complexity; those that the file leaves out keep theirs."""
    words = {**DefaultsConfig().complexity, **defaults.complexity}
    return {each: Complexity.from_word(words[each.word]) for each in TaskType}
