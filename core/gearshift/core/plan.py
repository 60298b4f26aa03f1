"""Which stages of a chain may serve a call, in which order, and why the others may not (design 5.2, 5.3).

Rules: pure; health and prices are asked through what is passed in. Every stage of the chain is either planned or
skipped with a reason; one that nothing but its open breaker keeps away is the last resort of a call that has nowhere else
to go. Sensitivity is checked here, at load, and again before each call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from msgspec import Struct

from gearshift.core.admission import Guard
from gearshift.core.answer import SkippedStage, Usage
from gearshift.core.blueprint import Stage
from gearshift.core.catalogue import Feature, Model
from gearshift.core.catalogue.money import machine_cost
from gearshift.core.estimate import Estimator
from gearshift.core.experience import Experience
from gearshift.core.request import Image, JsonOutput, Request
from gearshift.core.resolve import Resolved
from gearshift.core.weighing import Weighing, adapted
from gearshift.core.words import BreakerState, Complexity, Sensitivity

_MANY = 1_000_000
_MOST_RESERVED = 1024
"""How much of a context is kept free for the answer, at most, in model tokens."""
_MOST_OUTPUT = 32_768
"""More than this is no bound worth sending to a model whose own limit is unknown."""


class PlannedStage:
    """A stage that may be tried, and what one try is expected to take.

    Args:
        expected_cost: USD, None when the price is unknown.
        forecast: tells all three in their place, should anybody ask: only caps, limits, the choice between stages and
            answers without a usage do.

    """

    __slots__ = ("_cost", "_forecast", "_input", "_output", "stage")

    is_last_resort: ClassVar[bool] = False
    """Whether its breaker is open, so that it is tried only where nothing else is left."""

    def __init__(
        self,
        *,
        stage: Stage,
        input_tokens: int = 0,
        output_tokens: int = 0,
        expected_cost: Decimal | None = None,
        forecast: Forecast | None = None,
    ) -> None:
        self.stage = stage
        self._input = input_tokens
        self._output = output_tokens
        self._cost = expected_cost
        self._forecast = forecast

    @property
    def input_tokens(self) -> int:
        """How much the model is expected to read, in model tokens."""
        if self._forecast is not None:
            self._ask(self._forecast)
        return self._input

    @property
    def output_tokens(self) -> int:
        """How much one try is expected to write, in model tokens."""
        if self._forecast is not None:
            self._ask(self._forecast)
        return self._output

    @property
    def expected_cost(self) -> Decimal | None:
        """What one try is expected to cost, USD; None when the price is unknown."""
        if self._forecast is not None:
            self._ask(self._forecast)
        return self._cost

    def _ask(self, forecast: Forecast) -> None:
        self._forecast = None
        self._input, self._output, self._cost = forecast.of(self.stage)

    def __repr__(self) -> str:
        return f"<PlannedStage {self.stage.ref.position} {self.stage.model.id}: {self.expected_cost} USD>"


class LastResort(PlannedStage):
    """A stage whose breaker is open: tried only where nothing else is left."""

    __slots__ = ()

    is_last_resort: ClassVar[bool] = True

    @classmethod
    def of(cls, planned: PlannedStage) -> LastResort:
        """Give a stage that was planned otherwise."""
        return cls(
            stage=planned.stage,
            input_tokens=planned.input_tokens,
            output_tokens=planned.output_tokens,
            expected_cost=planned.expected_cost,
        )


class Forecast(Struct, frozen=True):
    """What tells how much stages would read, write and cost."""

    estimator: Estimator
    guard_of: Callable[[Stage], Guard]
    task_id: str
    needs: Needs
    at: datetime
    warm: Callable[[Model], int] | None = None
    """Tells the tokens of the prefix that a model's provider still keeps; None is none of any."""

    def of(self, stage: Stage) -> tuple[int, int, Decimal | None]:
        """Give the input tokens, the output tokens and the cost, USD, that are expected of one try."""
        model, needs = stage.model, self.needs
        entered = self.estimator.input_tokens(needs.characters, needs.images, model)
        written = self.estimator.output_tokens(self.task_id, model, smallest(needs.max_tokens, stage.max_tokens))
        return entered, written, self.cost(stage, entered, written)

    def cost(self, stage: Stage, entered: int, written: int) -> Decimal | None:
        """Give what one try that reads and writes so many tokens is expected to cost, USD."""
        warm = 0 if self.warm is None else min(entered, self.warm(stage.model))
        return expected_cost(stage, entered, written, self.guard_of, self.at, warm)

    def has_seen(self, stage: Stage) -> bool:
        """Tell whether it has been seen how much the stage's model writes for this task."""
        return self.estimator.has_seen(self.task_id, stage.model)


class Plan(Struct, frozen=True, kw_only=True):
    """Stages to try, in order, and those that are not."""

    stages: tuple[PlannedStage, ...]
    skipped: tuple[SkippedStage, ...]
    last_resorts: tuple[LastResort, ...] = ()
    """Those of the skipped ones that nothing but an open breaker keeps away: tried where all others have failed."""
    weighing: Weighing | None = None
    """How an adaptive order came about, where that was asked for."""


class Needs(Struct, frozen=True, kw_only=True):
    """What a call asks of a model."""

    features: tuple[tuple[frozenset[Feature], str], ...]
    """Each: any one of these features, and what it is needed for."""
    characters: int
    images: int
    max_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What the caller's policy adds to the chain's, already merged."""

    max_cost_usd: Decimal | None
    allowed_models: frozenset[str]
    allowed_providers: frozenset[str]
    require_confidence: bool


def needs_of(request: Request, resolved: Resolved, characters: int, images: int, max_tokens: int | None) -> Needs:
    """Say what a call asks of a model."""
    features: list[tuple[frozenset[Feature], str]] = []
    if request.tools:
        features.append((frozenset({Feature.TOOLS}), "tools"))
    if images and any(isinstance(part, Image) for message in request.messages for part in message.parts):
        features.append((frozenset({Feature.IMAGES}), "images"))
    if isinstance(resolved.output, JsonOutput):
        features.append((frozenset({Feature.JSON_SCHEMA, Feature.JSON_OBJECT}), "JSON"))
    return Needs(features=tuple(features), characters=characters, images=images, max_tokens=max_tokens)


_CONFIDENCE = (frozenset({Feature.LOGPROBS, Feature.LABELS}), "log-probabilities, since confidence is required")


class Layout(Struct, frozen=True):
    """What of a plan follows from the task, its chain and the caps, so that it holds for call after call.

    Args:
        stages: the chain's, each with why it may never serve such a call, or None.
        least_context: of all stages, model tokens; infinite where none is known.
        is_mixed: some stage is below the guessed complexity, so that those above it go first.
        is_plain: the stages that may serve are tried as written, whatever happens.

    """

    stages: tuple[tuple[Stage, tuple[str, str] | None], ...]
    least_context: float
    is_mixed: bool
    is_plain: bool = True


def lay_out(resolved: Resolved, caps: Caps) -> Layout:
    """Say what of a plan is the same for all calls with this task and these caps."""
    sensitivity, wanted = resolved.resolution.sensitivity, resolved.resolution.complexity
    is_filtered = resolved.complexity_declared
    is_mixed = not is_filtered and any(stage.ref.capability < wanted for stage in resolved.chain.stages)
    has_queues = any(stage.provider.pressure.max_queued is not None for stage in resolved.chain.stages)
    return Layout(
        tuple(
            [
                (stage, not_allowed(stage, sensitivity, caps) or (_too_weak(stage, resolved) if is_filtered else None))
                for stage in resolved.chain.stages
            ]
        ),
        min([stage.model.context_tokens or float("inf") for stage in resolved.chain.stages], default=float("inf")),
        is_mixed,
        not is_mixed and not has_queues and not resolved.chain.is_weighed,
    )


def plan(
    resolved: Resolved,
    needs: Needs,
    caps: Caps,
    estimator: Estimator,
    guard_of: Callable[[Stage], Guard],
    at: datetime,
    now: float,
    chance: float,
    layout: Layout | None = None,
    experience: Experience | None = None,
    *,
    explains: bool = False,
    warm: Callable[[Model], int] | None = None,
) -> Plan:
    """Plan a call.

    Args:
        layout: what `lay_out` gave for the same task and caps, where that was kept.
        at: for prices that follow the clock, UTC.
        now: for breakers, seconds, monotonic.
        chance: a random number in [0, 1), for probing stages that do not pay.
        experience: what stages are weighed by; None keeps the written order and all of them.
        explains: say how an adaptive order came about.
        warm: tells the tokens of the call's prefix that a model's provider still keeps, which cost less; None is none.

    """
    if layout is None:
        layout = lay_out(resolved, caps)
    kept: list[PlannedStage] = []
    skipped: list[SkippedStage] = []
    broken: list[LastResort] | None = None
    features = (*needs.features, _CONFIDENCE) if caps.require_confidence else needs.features
    # Most calls are far from filling any model's context, whatever their tokens turn out to be.
    is_close = estimator.most_input_tokens(needs.characters, needs.images) + _MOST_RESERVED > layout.least_context
    forecast = Forecast(estimator, guard_of, resolved.resolution.task_id, needs, at, warm)
    for stage, why in layout.stages:
        if why is None:
            planned = PlannedStage(stage=stage, forecast=forecast)
            why = (
                (_unfit(planned, needs.max_tokens, features) if is_close or features else None)
                or (_too_dear(planned.expected_cost, caps) if caps.max_cost_usd is not None else None)
                or ((guard := guard_of(stage)).breaker.state is not BreakerState.CLOSED and _broken(guard, now))
                or None
            )
            if why is None:
                kept.append(planned)
                continue
            if why[0] == "breaker":
                broken = [*(broken or ()), LastResort(stage=stage, forecast=forecast)]
        skipped.append(SkippedStage(stage=stage.ref, reason=why[0], detail=why[1]))
    if broken is not None and not kept:
        return with_last_resorts((), skipped, broken, guard_of, now)
    if layout.is_plain:
        if broken is None:
            return Plan(stages=tuple(kept), skipped=tuple(skipped))
        return Plan(stages=tuple(kept), skipped=tuple(skipped), last_resorts=tuple(broken))
    if layout.is_mixed and len(kept) > 1:
        wanted = resolved.resolution.complexity
        kept.sort(key=lambda planned: planned.stage.ref.capability < wanted)
    kept = _not_pressed(kept, skipped, guard_of, now)
    weighing = None
    if resolved.chain.is_weighed and experience is not None and kept:
        kept, weighing = adapted(kept, skipped, resolved, experience, forecast, chance, explains=explains)
    return Plan(stages=tuple(kept), skipped=tuple(skipped), last_resorts=tuple(broken or ()), weighing=weighing)


def with_last_resorts(
    kept: Sequence[PlannedStage],
    skipped: Sequence[SkippedStage],
    last: Sequence[LastResort],
    guard_of: Callable[[Stage], Guard],
    now: float,
) -> Plan:
    """Give a plan in which stages whose breaker is open stand behind all others, or are tried at once where there are none.

    Refusing a call that has nowhere else to go would be certain to fail it.
    """
    if kept:
        return Plan(stages=tuple(kept), skipped=tuple(skipped), last_resorts=tuple(last))
    tried = [each for each in last if guard_of(each.stage).breaker.permits(now, early=True)]
    positions = {each.stage.ref.position for each in tried}
    return Plan(stages=tuple(tried), skipped=tuple([each for each in skipped if each.stage.position not in positions]))


def not_allowed(stage: Stage, sensitivity: Sensitivity, caps: Caps) -> tuple[str, str] | None:
    """Give why a stage may not see the call: clearance or an allow-list."""
    provider = stage.provider
    if provider.clearance < sensitivity:
        return "clearance", (
            f"{provider.name} is cleared for {provider.clearance.word}, the task is {sensitivity.word}: "
            f"it needs a provider with `clearance: {sensitivity.word}` in the configuration"
        )
    if sensitivity is Sensitivity.RESTRICTED and not provider.secure:
        return "clearance", f"{provider.name} is reached without TLS over a network, which restricted tasks forbid"
    if caps.allowed_models and stage.model.id not in caps.allowed_models:
        return "policy", f"{stage.model.id} is not among the allowed models"
    if caps.allowed_providers and provider.name not in caps.allowed_providers:
        return "policy", f"{provider.name} is not among the allowed providers"
    return None


def expected_cost(
    stage: Stage,
    input_tokens: int,
    output_tokens: int,
    guard_of: Callable[[Stage], Guard],
    at: datetime,
    warm_tokens: int = 0,
) -> Decimal | None:
    """Give what one try is expected to cost, USD; None when the price is unknown.

    Args:
        warm_tokens: of the input, what its provider still keeps.

    """
    if stage.model.self_hosted:
        return machine_time_forecast(stage, guard_of(stage))
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, cache_read_tokens=warm_tokens)
    return token_cost(stage.model, usage, at)


def token_cost(model: Model, usage: Usage, at: datetime) -> Decimal | None:
    """Give what tokens cost, USD; None when the price is unknown."""
    return None if model.prices is None else model.prices.cost(usage, at)


def affordable_output(model: Model, input_tokens: int, left_usd: Decimal, at: datetime) -> int | None:
    """Give how many output tokens so much money pays for, at least 1; None when that is no bound."""
    before = token_cost(model, Usage(input_tokens=input_tokens), at)
    after = token_cost(model, Usage(input_tokens=input_tokens, output_tokens=_MANY), at)
    if before is None or after is None or after <= before:
        return None
    tokens = int((left_usd - before) * _MANY / (after - before))
    return max(1, tokens) if tokens < (model.max_output_tokens or _MOST_OUTPUT) else None


def machine_time_cost(stage: Stage, busy_s: float, borne_s: float | None) -> Decimal | None:
    """Give what a call on a self-hosted model cost, USD; None when its machine's price is unknown.

    Args:
        busy_s: how long it took.
        borne_s: its part of the machine's time, among all calls that ran (`Permit.machine_s`); None when not measured.

    """
    provider = stage.provider
    if provider.cost_per_hour_usd is None:
        return None
    if borne_s is not None:
        return machine_cost(provider.cost_per_hour_usd, borne_s, 1.0)
    return machine_cost(provider.cost_per_hour_usd, busy_s, provider.parallelism)


def machine_time_forecast(stage: Stage, guard: Guard) -> Decimal | None:
    """Give what a call on a self-hosted model is expected to cost, USD, by how long calls take and how many run at once."""
    provider = stage.provider
    if provider.cost_per_hour_usd is None:
        return None
    busy_s = guard.figures.total_ms / 1000
    return machine_cost(provider.cost_per_hour_usd, busy_s, guard.parallelism(provider.parallelism))


def smallest(*values: int | None) -> int | None:
    """Give the smallest of those that are not None, or None."""
    least: int | None = None
    for value in values:
        if value is not None and (least is None or value < least):
            least = value
    return least


def strongest(stages: Sequence[Stage]) -> Stage:
    """Give the chain's strongest stage: the highest capability, the later one on a tie."""
    best = stages[0]
    for stage in stages:
        if stage.ref.capability >= best.ref.capability:
            best = stage
    return best


def _too_weak(stage: Stage, resolved: Resolved) -> tuple[str, str] | None:
    wanted: Complexity = resolved.resolution.complexity
    if resolved.complexity_declared and stage.ref.capability < wanted:
        return "capability", f"{stage.model.id} is trusted with {stage.ref.capability.word}, the task is {wanted.word}"
    return None


def _unfit(
    planned: PlannedStage, max_tokens: int | None, features: tuple[tuple[frozenset[Feature], str], ...]
) -> tuple[str, str] | None:
    stage, model = planned.stage, planned.stage.model
    written = min(smallest(max_tokens, stage.max_tokens) or 1, _MOST_RESERVED)
    if model.context_tokens and planned.input_tokens + written > model.context_tokens:
        detail = f"about {planned.input_tokens} tokens do not fit {model.id}'s {model.context_tokens}"
        return "context", detail
    for any_of, what in features:
        if not any_of & model.features:
            return "feature", f"{model.id} lacks what the call needs: {what}"
    return None


def _too_dear(cost: Decimal | None, caps: Caps) -> tuple[str, str] | None:
    if caps.max_cost_usd is None:
        return None
    if cost is None:
        return "cap", f"the price is unknown, so a cap of {caps.max_cost_usd} USD cannot be kept"
    if cost > caps.max_cost_usd:
        return "cap", f"one try is expected to cost {cost:f} USD, more than the cap of {caps.max_cost_usd}"
    return None


def _broken(guard: Guard, now: float) -> tuple[str, str] | None:
    if guard.breaker.permits(now):
        return None
    return "breaker", f"the breaker of {guard.name} is open ({guard.breaker.reason})"


def _not_pressed(
    kept: list[PlannedStage], skipped: list[SkippedStage], guard_of: Callable[[Stage], Guard], now: float
) -> list[PlannedStage]:
    """Pass over machines whose queue is too long, unless nothing else is left: waiting is better than failing."""
    told: dict[int, str] = {}
    for planned in kept:
        most = planned.stage.provider.pressure.max_queued
        pressure = guard_of(planned.stage).pressure if most is not None else None
        queued = pressure.too_many(now) if pressure is not None else None
        if queued is not None:
            name = planned.stage.provider.name
            told[planned.stage.ref.position] = f"{queued} requests wait in {name}, more than {most}"
    if not told or len(told) == len(kept):
        return kept
    skipped += [
        SkippedStage(stage=planned.stage.ref, reason="pressure", detail=why)
        for planned in kept
        if (why := told.get(planned.stage.ref.position)) is not None
    ]
    return [planned for planned in kept if planned.stage.ref.position not in told]
