"""The configuration that is replayed: its own chains, gates and limits, on simulated providers.

Rules: pure. Changed is only what would reach outside (addresses, keys, ports, the ledger, shared stores) and, for a baseline,
the chains: each is one stage, judged by the same gates and never left for another, without a breaker that would refuse calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from gearshift.core.blueprint import Blueprint, Chain
from gearshift.core.catalogue import Catalogue, Feature
from gearshift.core.config.build import build
from gearshift.core.config.load import LoadedConfig
from gearshift.core.config.model import (
    AccessConfig,
    BreakerConfig,
    ChainConfig,
    ChainPolicyConfig,
    Config,
    LedgerConfig,
    ModelConfig,
    PressureConfig,
    ProviderConfig,
    ServerConfig,
    SharedConfig,
    StageConfig,
    TasksConfig,
    TelemetryConfig,
)
from gearshift.core.errors import ConfigError
from gearshift.core.words import Complexity
from gearshift.server.simulator.plan import FaultPlan, LatencyPlan, ModelPlan, Plan, ProviderPlan

CHAINS, LAST, FIRST = "chains", "last", "first"
LATENCY = LatencyPlan(first_token_ms=250.0, token_ms=10.0, jitter=0.2)
"""Of models of which neither trace nor plan says anything."""
FAULTS = ("rate_limited", "overloaded", "server_error", "reset")
"""What `--fault-rate` shares out, in equal parts."""

_WIRES = {"openai": "openai", "anthropic": "anthropic", "ollama": "ollama", "voyage": "voyage"}
_MOST_CALLS = 1_000_000
_MOST_RETRIES = 10
_EMBEDDED = "embedded"
_NOWHERE = "http://127.0.0.1:1/v1"
_NEVER_OPEN = BreakerConfig(
    consecutive_faults=1000, fault_rate=1.0, window=10_000, open_s=0.001, max_open_s=0.001, authentication_open_s=0.001
)
"""Who calls one model without a gateway has no breaker either."""


class AnyKey(Mapping[str, str]):
    """An environment in which every key is set: nobody is asked with them."""

    def __getitem__(self, name: str) -> str:
        return "replay"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A configuration, read and checked, and the simulated providers that stand in for its own.

    Args:
        names: providers' names in the simulator, by those in the configuration.
    """

    loaded: LoadedConfig
    blueprint: Blueprint
    plan: Plan
    names: Mapping[str, str]
    outages: tuple[Outage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A provider refuses connections for a while, in every run; seconds of the trace, as its calls' times."""

    provider: str
    begins: float
    ends: float


def world_of(
    loaded: LoadedConfig,
    catalogue: Catalogue,
    *,
    plan: Plan | None = None,
    fault_rate: float = 0.0,
    outages: Sequence[Outage] = (),
    seed: int = 0,
) -> World:
    """Give what is simulated of a configuration.

    Args:
        plan: latency, quality and faults, by the configuration's names of providers and models.
        fault_rate: share of each provider's requests that fail, besides the plan's.
        outages: of providers that chains use.

    Raises:
        ConfigError: the configuration is wrong, or has a provider that cannot be simulated.
    """
    blueprint = build(loaded, catalogue)
    if any(spec.kind == _EMBEDDED for spec in blueprint.providers.values()):
        loaded = replace(loaded, config=_outside(loaded.config, blueprint))
        blueprint = build(loaded, catalogue)
    used = {stage.provider.name: stage.provider for chain in blueprint.chains.values() for stage in chain.stages}
    if strange := [spec.name for spec in used.values() if spec.kind not in _WIRES]:
        raise ConfigError([f"provider {name}: a provider of its kind cannot be simulated" for name in strange])
    if not used:
        raise ConfigError(["there are no chains to replay: name a configuration with --chains"])
    planned = {} if plan is None else plan.providers
    if unknown := [name for name in planned if name not in blueprint.providers]:
        raise ConfigError([f"plan: the configuration has no provider {name}" for name in unknown])
    if unknown := [each.provider for each in outages if each.provider not in used]:
        raise ConfigError([f"outage: no chain has a provider {name}; there are {', '.join(used)}" for name in unknown])
    names = {name: f"p{number}" for number, name in enumerate(used)}
    providers = {
        names[name]: _simulated(blueprint, name, _WIRES[spec.kind], planned.get(name), fault_rate)
        for name, spec in used.items()
    }
    for each in outages:
        # Only a port of its own can refuse connections.
        providers[names[each.provider]] = structs.replace(providers[names[each.provider]], port=0)
    answers = () if plan is None else plan.answers
    return World(
        loaded=loaded,
        blueprint=blueprint,
        plan=Plan(seed=seed, providers=providers, answers=answers),
        names=names,
        outages=tuple(outages),
    )


def _outside(config: Config, blueprint: Blueprint) -> Config:
    """Give the configuration with embedded models as ones of a llama.cpp server, which can be simulated."""
    providers = {
        name: structs.replace(
            config.providers[name],
            kind="openai",
            dialect="llamacpp",
            base_url=_NOWHERE,
            embedded=None,
            pressure=PressureConfig(interval_s=0.0),
        )
        for name, spec in blueprint.providers.items()
        if spec.kind == _EMBEDDED
    }
    models = {
        written.model: ModelConfig(
            provider=stage.provider.name,
            wire_id=stage.model.wire_id,
            capability=stage.model.capability.word,
            context_tokens=stage.model.context_tokens,
            max_output_tokens=stage.model.max_output_tokens,
            features=tuple(each.value for each in stage.model.features if each is not Feature.LABELS),
            self_hosted=True,
        )
        for name, chain in blueprint.chains.items()
        for stage, written in zip(chain.stages, config.chains[name].stages, strict=True)
        if stage.provider.name in providers
    }
    return structs.replace(config, providers=config.providers | providers, models=config.models | models)


def _simulated(
    blueprint: Blueprint, name: str, wire: str, planned: ProviderPlan | None, fault_rate: float
) -> ProviderPlan:
    base = planned or ProviderPlan(wire=wire, latency=LATENCY)
    models: dict[str, ModelPlan] = {}
    for chain in blueprint.chains.values():
        for stage in chain.stages:
            if stage.provider.name == name:
                model = stage.model
                found = base.models.get(model.id) or base.models.get(model.wire_id) or ModelPlan()
                dimensions = model.dimensions[0] if model.dimensions else found.dimensions
                models[model.wire_id] = structs.replace(found, dimensions=dimensions)
    drawn = (
        tuple(FaultPlan(fault=fault, probability=fault_rate / len(FAULTS)) for fault in FAULTS) if fault_rate else ()
    )
    return structs.replace(base, wire=wire, port=None, down=False, models=models, faults=(*base.faults, *drawn))


def stage_names(blueprint: Blueprint) -> tuple[str, ...]:
    """Give `provider/model` of every stage that answers with text."""
    found = {
        f"{stage.provider.name}/{stage.model.id}": None
        for chain in blueprint.chains.values()
        if not embeds(chain)
        for stage in chain.stages
    }
    return tuple(found)


def embeds(chain: Chain) -> bool:
    """Tell whether a chain gives vectors."""
    return any(stage.model.dimensions for stage in chain.stages)


def checked_run(world: World, name: str) -> str:
    """Give the name of a run, if there is such a one.

    Args:
        name: `chains`; or of the one stage of each chain: `last`, `first`, or `provider/model` of some stage; each of these
            with `@N` behind it is tried N times more after a failure, instead of as often as the configuration says.

    Raises:
        ConfigError: no stage is called so.
    """
    stage, _ = _parted(name)
    known = (LAST, FIRST, *stage_names(world.blueprint))
    if name != CHAINS and stage not in known:
        raise ConfigError([f"baseline {name}: no stage is called so; there are {', '.join(known)}"])
    return name


def _parted(name: str) -> tuple[str, int | None]:
    """Give a baseline's stage and how often it is tried again; None is as configured."""
    stage, mark, retries = name.rpartition("@")
    if mark and retries.isdecimal() and int(retries) <= _MOST_RETRIES:
        return stage, int(retries)
    return name, None


def replayed(world: World, name: str, urls: Mapping[str, str], ledger: str, catalogue: Catalogue) -> Blueprint:
    """Give what is served: `chains` as they are, or a baseline.

    Args:
        name: of the run, checked.
        urls: where the simulated providers are, by their names in the simulator.
        ledger: a file.
    """
    config = world.loaded.config
    providers = {
        each: _inside(
            config.providers[each], world.blueprint.providers[each].kind, urls[short], is_baseline=name != CHAINS
        )
        for each, short in world.names.items()
    }
    changed = structs.replace(
        config,
        providers=providers,
        chains=config.chains if name == CHAINS else _alone(world, name),
        tasks=config.tasks if name == CHAINS else _calm_tasks(config),
        ledger=LedgerConfig(path=ledger),
        access=AccessConfig(),
        shared=SharedConfig(),
        telemetry=TelemetryConfig(log_chain_position=False, export_metrics="none", log_level="error"),
        server=ServerConfig(
            port=0,
            http=False,
            grace_s=5.0,
            max_calls=_MOST_CALLS,
            own_cores=False,
            watch_config=False,
            max_message_bytes=config.server.max_message_bytes,
        ),
    )
    return build(replace(world.loaded, config=changed), catalogue)


def _inside(provider: ProviderConfig, kind: str, url: str, *, is_baseline: bool) -> ProviderConfig:
    accounts = tuple(structs.replace(each, api_key="replay", base_url="") for each in provider.accounts)
    return structs.replace(
        provider,
        kind=kind,
        base_url=url,
        api_key="replay",
        headers={},
        accounts=accounts,
        breaker=_NEVER_OPEN if is_baseline else provider.breaker,
    )


def _alone(world: World, name: str) -> dict[str, ChainConfig]:
    """Give chains of one stage each."""
    config, chains = world.loaded.config, world.blueprint.chains
    wanted, retries = _parted(name)
    found: dict[str, ChainConfig] = {}
    for key, chain in config.chains.items():
        # Nothing else gives vectors: what embeds stays as it is.
        stage = _stage(world, chain.stages, wanted) if not embeds(chains[key]) else chain.stages[0]
        # Asked for everything, also for what it is not declared to be capable of.
        alone = structs.replace(
            stage,
            capability=Complexity.HIGH.word,
            max_retries=stage.max_retries if retries is None else retries,
        )
        found[key] = structs.replace(chain, stages=(alone,), order="written", policy=_never_escalating(chain.policy))
    return found


def _stage(world: World, stages: Sequence[StageConfig], name: str) -> StageConfig:
    if name in (LAST, FIRST):
        return stages[-1 if name == LAST else 0]
    for key, chain in world.blueprint.chains.items():
        for number, stage in enumerate(chain.stages):
            if f"{stage.provider.name}/{stage.model.id}" == name:
                return world.loaded.config.chains[key].stages[number]
    raise AssertionError(name)


def _never_escalating(policy: ChainPolicyConfig) -> ChainPolicyConfig:
    return structs.replace(policy, min_confidence=0.0, escalation_threshold=0.0, second_look=False)


def _calm_tasks(config: Config) -> TasksConfig:
    """Give the declared tasks without thresholds of their own."""
    declared = {
        name: structs.replace(task, policy=_never_escalating(task.policy))
        for name, task in config.tasks.declared.items()
    }
    return structs.replace(config.tasks, declared=declared)
