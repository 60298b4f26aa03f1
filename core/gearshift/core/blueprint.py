"""What a valid configuration comes to: chains of resolved stages and declared tasks.

Rules: frozen, built once for each configuration by `config.build`; every name in it has been resolved and every word
been checked, so the engine asks no more questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from gearshift.core.answer import StageRef
from gearshift.core.catalogue import Model
from gearshift.core.config.model import (
    STOP,
    AdaptiveConfig,
    BreakerConfig,
    Config,
    LimitsConfig,
    PressureConfig,
    TaskCacheConfig,
)
from gearshift.core.provider import Account, Timeouts
from gearshift.core.request import Output, StreamPolicy
from gearshift.core.words import Complexity, Sensitivity, TaskType


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSpec:
    """An account with the limits that guard it."""

    account: Account
    limits: LimitsConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSpec:
    """A provider, ready to be called. `accounts` is never empty."""

    name: str
    kind: str
    dialect: str
    clearance: Sensitivity
    secure: bool
    """TLS, or a path without network (loopback, a Unix socket): what restricted tasks need."""
    accounts: tuple[AccountSpec, ...]
    breaker: BreakerConfig
    cost_per_hour_usd: Decimal | None
    parallelism: float
    connections: int
    pressure: PressureConfig = PressureConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One model on one provider at one place of a chain."""

    ref: StageRef
    provider: ProviderSpec
    model: Model
    max_retries: int
    timeouts: Timeouts
    max_tokens: int | None = None
    temperature: float | None = None
    extra_body: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPolicy:
    """Caps and thresholds in force."""

    max_attempts: int
    max_hops: int
    max_cost_usd: Decimal | None
    min_confidence: float
    escalation_threshold: float
    require_valid: bool
    require_confidence: bool
    second_look: bool
    enforce_schema: bool
    check_coherence: bool
    coherence: tuple[tuple[str, str], ...] = ()
    """Checks and what they do (`reject`, `note`, `off`), sorted, where that is not their default."""
    confidence: str = "logprobs"
    """What confidence is measured by: `logprobs` as they stand, or `answer`: those or the answer itself, calibrated."""
    self_assessment: bool = False
    """Whether models are asked how sure they are, where the form of the answer allows it."""
    repair: bool = False
    """Whether a stage may mend its own document once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Stages in the order in which they are tried; `revision` is a hash of everything in it but keys."""

    name: str
    stages: tuple[Stage, ...]
    adaptive: bool
    policy: ChainPolicy
    allow_space_change: bool
    revision: str
    refuses_losses: bool = False
    """Whether calls go without stages that cost more than they save, also in the written order."""
    weights: AdaptiveConfig = AdaptiveConfig()
    """What is weighed where that decides; no part of the revision, since no answer depends on it."""

    @property
    def is_weighed(self) -> bool:
        """Whether what its stages cost and save decides which are tried."""
        return self.adaptive or self.refuses_losses


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredTask:
    """A task of the configuration; its policy is already merged with its chain's."""

    id: str
    type: TaskType
    complexity: Complexity | None
    sensitivity: Sensitivity | None
    prompt: str
    static: bool
    output: Output | None
    chain: Chain
    policy: ChainPolicy
    stream: StreamPolicy
    max_tokens: int | None
    temperature: float | None
    limits: LimitsConfig | None
    definition_hash: str
    """Hash of the definition: what caches are keyed by, so that a changed task starts anew."""
    cache: TaskCacheConfig | None = None
    """How its answers are kept; None keeps none."""
    on_exhausted: str = STOP
    """What follows when its budget is spent: `stop`, or a chain's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """A whole valid configuration."""

    config: Config
    providers: Mapping[str, ProviderSpec]
    chains: Mapping[str, Chain]
    """By name; those named like a task type serve it."""
    tasks: Mapping[str, DeclaredTask]
    capability_matrix: Mapping[TaskType, Complexity]
    stream: StreamPolicy
    """Defaults of streams of undeclared tasks."""
    revision: str
    """Hash of the configuration, without keys."""
    warnings: tuple[str, ...] = ()
    """What an operator should know, a sentence each."""
