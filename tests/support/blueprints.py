"""Small configurations for tests of the engine: chains of scripted stages."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from gearshift.core.answer import StageRef
from gearshift.core.blueprint import AccountSpec, Blueprint, Chain, ChainPolicy, DeclaredTask, ProviderSpec, Stage
from gearshift.core.catalogue import Feature, Model
from gearshift.core.catalogue.load import Catalogue
from gearshift.core.config.model import BreakerConfig, Config, LimitsConfig, PriceConfig, RetryConfig
from gearshift.core.provider import Account, Timeouts
from gearshift.core.request import StreamPolicy
from gearshift.core.words import Complexity, Sensitivity, TaskType

ALL_FEATURES = frozenset(Feature)


def stage(
    position: int,
    *,
    provider: str = "",
    model: str = "",
    capability: Complexity = Complexity.LOW,
    price: str | None = "1",
    max_retries: int = 0,
    features: frozenset[Feature] = ALL_FEATURES,
    clearance: Sensitivity = Sensitivity.INTERNAL,
    secure: bool = True,
    limits: LimitsConfig | None = None,
    accounts: Sequence[str] = ("default",),
    breaker: BreakerConfig | None = None,
    context_tokens: int = 0,
    vector_space: str = "space",
    max_batch: int = 16,
) -> Stage:
    """Give a stage of the provider `p<position>` with the model `m<position>`; `price` is USD for a million tokens."""
    name = provider or f"p{position}"
    model_id = model or f"m{position}"
    prices = None
    if price is not None:
        prices = Catalogue.price_config(PriceConfig(input_usd=Decimal(price), output_usd=Decimal(price)))
    return Stage(
        ref=StageRef(position=position, provider=name, model=model_id, capability=capability),
        provider=ProviderSpec(
            name=name,
            kind="scripted",
            dialect="",
            clearance=clearance,
            secure=secure,
            accounts=tuple(
                AccountSpec(
                    account=Account(name=account, base_url="http://127.0.0.1:9"), limits=limits or LimitsConfig()
                )
                for account in accounts
            ),
            breaker=breaker or BreakerConfig(),
            cost_per_hour_usd=None,
            parallelism=1.0,
            connections=8,
        ),
        model=Model(
            id=model_id,
            provider_kind="scripted",
            wire_id=model_id,
            capability=capability,
            features=features,
            prices=prices,
            context_tokens=context_tokens,
            vector_space=vector_space,
            dimensions=(3,),
            max_batch=max_batch,
        ),
        max_retries=max_retries,
        timeouts=Timeouts(),
    )


def policy(
    *,
    max_attempts: int = 8,
    max_hops: int = 4,
    max_cost_usd: Decimal | None = None,
    require_valid: bool = False,
    require_confidence: bool = False,
    second_look: bool = True,
) -> ChainPolicy:
    """Give a policy with the documented thresholds."""
    return ChainPolicy(
        max_attempts=max_attempts,
        max_hops=max_hops,
        max_cost_usd=max_cost_usd,
        min_confidence=0.85,
        escalation_threshold=0.75,
        require_valid=require_valid,
        require_confidence=require_confidence,
        second_look=second_look,
        enforce_schema=True,
        check_coherence=True,
    )


def blueprint(*stages: Stage, chain_policy: ChainPolicy | None = None, adaptive: bool = False) -> Blueprint:
    """Give a configuration in which every task type is served by one chain of the stages."""
    chosen = chain_policy or policy()
    chains = {
        kind.word: Chain(
            name=kind.word,
            stages=stages,
            adaptive=adaptive,
            policy=chosen,
            allow_space_change=False,
            revision="test",
        )
        for kind in TaskType
    }
    return Blueprint(
        config=Config(retry=RetryConfig(base_s=0.001, max_s=0.01)),
        providers={each.provider.name: each.provider for each in stages},
        chains=chains,
        tasks={},
        capability_matrix={
            TaskType.CLASSIFY: Complexity.LOW,
            TaskType.EXTRACT: Complexity.LOW,
            TaskType.GENERATE: Complexity.LOW,
            TaskType.REASON: Complexity.LOW,
            TaskType.EMBED: Complexity.LOW,
        },
        stream=StreamPolicy(),
        revision="test",
    )


def declared_task(task_id: str, chain: Chain) -> DeclaredTask:
    """Give a task of the type `generate` that leaves everything else to its chain and its callers; see `changed`."""
    return DeclaredTask(
        id=task_id,
        type=TaskType.GENERATE,
        complexity=None,
        sensitivity=None,
        prompt="",
        static=False,
        output=None,
        chain=chain,
        policy=chain.policy,
        stream=StreamPolicy(),
        max_tokens=None,
        temperature=None,
        limits=None,
        definition_hash=task_id,
    )
