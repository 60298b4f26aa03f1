"""Chains of the file into chains of resolved stages.

Rules: every stage names a provider and a model that exist; no stage stands twice with the same settings. A chain with a
broken stage is None, so that tasks which name it are not blamed as well.
"""

from __future__ import annotations

from collections.abc import Mapping

from gearshift.core.answer import StageRef
from gearshift.core.blueprint import Chain, ChainPolicy, ProviderSpec, Stage
from gearshift.core.catalogue import Feature
from gearshift.core.config.model import AdaptiveConfig, ChainConfig, Config, StageConfig, TimeoutsConfig
from gearshift.core.config.models import Models
from gearshift.core.config.policies import merged
from gearshift.core.config.problems import Place, Report, suggestion
from gearshift.core.config.revision import chain_revision, digest
from gearshift.core.provider import Timeouts
from gearshift.core.words import Complexity, TaskType


class ChainBuilder:
    """Builds the chains of one file."""

    def __init__(
        self,
        config: Config,
        providers: Mapping[str, ProviderSpec | None],
        models: Models,
        policy: ChainPolicy,
        report: Report,
    ) -> None:
        self._config = config
        self._providers = providers
        self._models = models
        self._policy = policy
        self._report = report

    def build(self, name: str, config: ChainConfig) -> Chain | None:
        """Give the chain; None when the report says why not."""
        place: Place = ("chains", name)
        before = self._report.count
        if not config.stages:
            self._report.error((*place, "stages"), "must not be empty")
        stages = [
            stage
            for number, each in enumerate(config.stages)
            if (stage := self._stage(number, each, (*place, "stages", number))) is not None
        ]
        self._refuse_twins(stages, place)
        policy = merged(self._policy, config.policy, (*place, "policy"), self._report)
        if name in {each.word for each in TaskType}:
            check_fit(stages, TaskType.from_word(name), (*place, "stages"), self._report)
        if self._report.count > before or len(stages) < len(config.stages):
            return None
        adaptive, refuses_losses = config.order == "adaptive", config.on_loss == "refuse"
        if config.adaptive is not None and not adaptive and not refuses_losses:
            self._report.warn((*place, "adaptive"), "has no effect without `order: adaptive` or `on_loss: refuse`")
        return Chain(
            name=name,
            stages=tuple(stages),
            adaptive=adaptive,
            policy=policy,
            allow_space_change=config.allow_space_change,
            revision=chain_revision(
                name,
                stages,
                adaptive=adaptive,
                refuses_losses=refuses_losses,
                policy=policy,
                allow_space_change=config.allow_space_change,
            ),
            refuses_losses=refuses_losses,
            weights=config.adaptive or AdaptiveConfig(),
        )

    def _stage(self, position: int, config: StageConfig, place: Place) -> Stage | None:
        if config.provider not in self._providers:
            hint = suggestion(config.provider, self._providers)
            self._report.error((*place, "provider"), f"unknown provider `{config.provider}`{hint}")
            return None
        provider = self._providers[config.provider]
        if provider is None:
            return None
        model = self._models.find(provider, config.model, (*place, "model"))
        if model is None:
            return None
        if model.max_output_tokens and config.max_tokens and config.max_tokens > model.max_output_tokens:
            self._report.error(
                (*place, "max_tokens"),
                f"{config.max_tokens} is more than {model.id} writes ({model.max_output_tokens})",
            )
        capability = model.capability if config.capability is None else Complexity.from_word(config.capability)
        return Stage(
            ref=StageRef(
                position=position, provider=provider.name, model=model.id, capability=capability, label=config.label
            ),
            provider=provider,
            model=model,
            max_retries=config.max_retries,
            timeouts=_timeouts(config.timeouts or self._config.providers[config.provider].timeouts),
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            extra_body=config.extra_body,
        )

    def _refuse_twins(self, stages: list[Stage], place: Place) -> None:
        """Refuse stages that would only do again what an earlier one did; retries are for that."""
        seen: dict[str, int] = {}
        for stage in stages:
            settings = (stage.max_tokens, stage.temperature, stage.extra_body, stage.ref.label)
            mark = digest([stage.provider.name, stage.model.id, settings])
            first = seen.setdefault(mark, stage.ref.position)
            if first != stage.ref.position:
                self._report.error(
                    (*place, "stages", stage.ref.position, "model"),
                    f"{stage.provider.name} {stage.model.id} stands in stage {first} already, with the same settings; "
                    "raise its max_retries instead",
                )


def check_fit(stages: list[Stage], task_type: TaskType, place: Place, report: Report) -> None:
    """Report stages whose model cannot do this type of task at all: vectors are not text."""
    for stage in stages:
        features = stage.model.features
        here = (*place, stage.ref.position, "model")
        if task_type is TaskType.EMBED and Feature.EMBED not in features:
            report.error(here, f"{stage.model.id} makes no embeddings")
        elif task_type is not TaskType.EMBED and features and features <= {Feature.EMBED}:
            report.error(here, f"{stage.model.id} makes embeddings only")


def _timeouts(config: TimeoutsConfig) -> Timeouts:
    return Timeouts(
        connect_s=config.connect_s, first_token_s=config.first_token_s, idle_s=config.idle_s, total_s=config.total_s
    )
