"""Rules across the whole file: who may call, where it listens, and what an operator should know.

Rule: an error is what could not work or would break a promise; a warning is what works otherwise than it looks.
"""

from __future__ import annotations

from collections.abc import Mapping

from gearshift.core.blueprint import Chain, DeclaredTask, ProviderSpec, Stage
from gearshift.core.config.hosts import is_loopback, stays_here
from gearshift.core.config.model import STOP, AccessConfig, Config, expiry_of, has_keys
from gearshift.core.config.problems import Place, Report, suggestion
from gearshift.core.words import Sensitivity, TaskType


def check_whole(
    config: Config,
    providers: Mapping[str, ProviderSpec | None],
    chains: Mapping[str, Chain | None],
    tasks: Mapping[str, DeclaredTask],
    report: Report,
) -> None:
    """Report what only the whole file shows."""
    ready = [chain for chain in chains.values() if chain is not None]
    _check_prices(config, ready, report)
    for chain in ready:
        used_by = {TaskType.from_word(chain.name)} if chain.name in _TYPE_WORDS else set[TaskType]()
        used_by |= {task.type for task in tasks.values() if task.chain is chain}
        if TaskType.EMBED in used_by:
            _check_spaces(chain, report)
    _check_keys(config.access, report)
    _check_tenants(config, report)
    _check_exhausted(config, chains, report)
    if len(ready) == len(chains):
        _check_allowed_models(config, ready, report)
    if None not in providers.values():
        _check_floors(config, providers, report)
    _check_server(config, report)
    if not config.chains:
        report.warn(("chains",), "there is no chain: every call will be refused")
    if config.retry.max_s < config.retry.base_s:
        report.error(("retry", "max_s"), f"must not be below base_s ({config.retry.base_s:g})")


_TYPE_WORDS = {each.word for each in TaskType}


def _check_prices(config: Config, chains: list[Chain], report: Report) -> None:
    """Say once for each model that its cost will be unknown."""
    seen: set[tuple[str, str]] = set()
    for chain in chains:
        for number, stage in enumerate(chain.stages):
            key = (stage.provider.name, stage.model.id)
            if key not in seen and (message := _unpriced(stage)):
                report.warn(("chains", chain.name, "stages", number, "model"), message)
            seen.add(key)


def _unpriced(stage: Stage) -> str:
    model, provider = stage.model, stage.provider
    if not model.self_hosted:
        if model.prices is not None:
            return ""
        return (
            f"the price of {model.id} is unknown: its calls are recorded without cost and no cost cap holds them "
            "(give it `prices` under `models`)"
        )
    away = [each for each in provider.accounts if not stays_here(each.account.base_url)]
    if provider.cost_per_hour_usd is None and away:
        return (
            f"{model.id} is self-hosted and `{provider.name}` has no cost_per_hour_usd: its cost is unknown, not zero"
        )
    return ""


def _check_spaces(chain: Chain, report: Report) -> None:
    spaces = {stage.model.vector_space: stage for stage in reversed(chain.stages)}
    if len(spaces) < 2 or chain.allow_space_change:
        return
    first = chain.stages[0].model.vector_space
    others = [stage for space, stage in spaces.items() if space != first]
    for stage in sorted(others, key=lambda each: each.ref.position):
        report.warn(
            ("chains", chain.name, "stages", stage.ref.position, "model"),
            f"{stage.model.id} makes vectors of another space ({stage.model.vector_space}) than the chain's first stage "
            f"({first}): it serves only callers who name that space, unless the chain sets allow_space_change",
        )


def _check_tenants(config: Config, report: Report) -> None:
    for name, tenant in config.access.tenants.items():
        place: Place = ("access", "tenants", name)
        floor = Sensitivity.from_word(tenant.sensitivity_floor)
        if floor > Sensitivity.from_word(tenant.clearance):
            report.error(
                (*place, "clearance"), f"is below its sensitivity_floor ({floor.word}): the tenant could send nothing"
            )
        for number, task in enumerate(tenant.tasks):
            if config.tasks.strict and task not in config.tasks.declared:
                told = suggestion(task, config.tasks.declared)
                report.error((*place, "tasks", number), f"task `{task}` is not declared, and tasks.strict is set{told}")
        limits = (tenant.policy.min_confidence, tenant.policy.escalation_threshold)
        if limits[0] is not None and limits[1] is not None and limits[1] > limits[0]:
            report.error((*place, "policy", "escalation_threshold"), "must not be above min_confidence")


def _check_exhausted(config: Config, chains: Mapping[str, Chain | None], report: Report) -> None:
    """Check where tenants' calls go when their budget is spent."""
    for name, tenant in config.access.tenants.items():
        place: Place = ("access", "tenants", name, "on_exhausted")
        if tenant.on_exhausted == STOP:
            continue
        if tenant.on_exhausted not in chains:
            told = suggestion(tenant.on_exhausted, (STOP, *chains))
            report.error(place, f"must be `{STOP}` or a chain's name, not `{tenant.on_exhausted}`{told}")
        elif tenant.limits.usd_per_day is None and tenant.limits.usd_per_month is None:
            report.warn(place, "does nothing: limits.usd_per_day and limits.usd_per_month are both unset")
    if STOP in chains and any(tenant.on_exhausted == STOP for tenant in config.access.tenants.values()):
        report.warn(("chains", STOP), f"`on_exhausted: {STOP}` refuses calls; it does not name this chain")


def _check_allowed_models(config: Config, chains: list[Chain], report: Report) -> None:
    known = {stage.model.id for chain in chains for stage in chain.stages} | set(config.models)
    for name, tenant in config.access.tenants.items():
        for number, model in enumerate(tenant.models):
            if model not in known:
                place = ("access", "tenants", name, "models", number)
                report.error(place, f"model `{model}` is in no chain{suggestion(model, known)}")
        for number, provider in enumerate(tenant.providers):
            if provider not in config.providers:
                place = ("access", "tenants", name, "providers", number)
                report.error(place, f"unknown provider `{provider}`{suggestion(provider, config.providers)}")


def _check_keys(access: AccessConfig, report: Report) -> None:
    ids: set[str] = set()
    digests: set[str] = set()
    for number, key in enumerate(access.keys):
        place: Place = ("access", "keys", number)
        if key.id in ids:
            report.error((*place, "id"), f"key `{key.id}` stands twice")
        if key.sha256 in digests:
            report.error((*place, "sha256"), "another key has the same digest")
        ids.add(key.id)
        digests.add(key.sha256)
        if key.tenant != "default" and key.tenant not in access.tenants:
            report.error((*place, "tenant"), f"unknown tenant `{key.tenant}`{suggestion(key.tenant, access.tenants)}")
        if key.expires and expiry_of(key.expires) is None:
            report.error((*place, "expires"), f"there is no such day or time: `{key.expires}`")
    if access.tenants and not has_keys(access) and set(access.tenants) != {"default"}:
        report.warn(("access", "tenants"), "without keys every caller is tenant `default`; the others have no way in")


def _check_floors(config: Config, providers: Mapping[str, ProviderSpec | None], report: Report) -> None:
    may_restricted = any(
        each and each.secure and each.clearance is Sensitivity.RESTRICTED for each in providers.values()
    )
    for name, tenant in config.access.tenants.items():
        if tenant.sensitivity_floor == Sensitivity.RESTRICTED.word and not may_restricted:
            report.error(
                ("access", "tenants", name, "sensitivity_floor"),
                "restricted, but no provider is cleared for it: the tenant could send nothing",
            )


def _check_server(config: Config, report: Report) -> None:
    server = config.server
    if not is_loopback(server.host):
        if not has_keys(config.access):
            report.warn(("server", "host"), "listens beyond this machine without keys: anybody may spend your money")
        if server.tls is None:
            report.warn(("server", "host"), "listens beyond this machine without TLS: prompts and keys can be read")
    if server.http and not is_loopback(server.http_host) and not has_keys(config.access):
        report.warn(("server", "http_host"), "the HTTP port listens beyond this machine without keys")
    if server.http and server.port and server.port == server.http_port:
        report.error(("server", "http_port"), f"is the gRPC port ({server.port}) as well")
