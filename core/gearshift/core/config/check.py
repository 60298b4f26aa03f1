"""Rules across the whole file: who may call, where it listens, and what an operator should know.

Rule: an error is what could not work or would break a promise; a warning is what works otherwise than it looks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from gearshift.core.blueprint import Chain, DeclaredTask, ProviderSpec, Stage
from gearshift.core.catalogue import Model
from gearshift.core.config.chains import check_fit
from gearshift.core.config.hosts import is_loopback, stays_here, url_problem
from gearshift.core.config.model import STOP, AccessConfig, Config, LimitsConfig, expiry_of, has_keys
from gearshift.core.config.problems import Place, Report, suggestion
from gearshift.core.words import Sensitivity, TaskType

_OTLP_OVER_HTTP: Final = 4318
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


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
    _check_exhausted(config, chains, tasks, report)
    if len(ready) == len(chains):
        _check_allowed_models(config, ready, report)
    if None not in providers.values():
        _check_floors(config, providers, report)
    _check_server(config, report)
    _check_otlp(config, report)
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


def _check_exhausted(
    config: Config, chains: Mapping[str, Chain | None], tasks: Mapping[str, DeclaredTask], report: Report
) -> None:
    """Check where tenants' and tasks' calls go when their budget is spent."""
    tenants, declared = config.access.tenants, config.tasks.declared
    named: list[tuple[Place, str, LimitsConfig]] = [
        (("access", "tenants", name), each.on_exhausted, each.limits) for name, each in tenants.items()
    ]
    named += [
        (("tasks", "declared", name), each.on_exhausted, each.limits or _NO_LIMITS) for name, each in declared.items()
    ]
    for owner, chain, limits in named:
        place: Place = (*owner, "on_exhausted")
        if chain == STOP:
            continue
        if chain not in chains:
            told = suggestion(chain, (STOP, *chains))
            report.error(place, f"must be `{STOP}` or a chain's name, not `{chain}`{told}")
        elif limits.usd_per_day is None and limits.usd_per_month is None:
            report.warn(place, "does nothing: limits.usd_per_day and limits.usd_per_month are both unset")
    for task in tasks.values():
        other = chains.get(task.on_exhausted)
        if task.on_exhausted != STOP and other is not None:
            _check_instead(task, other, report)
    if STOP in chains and any(chain == STOP and limits != _NO_LIMITS for _, chain, limits in named):
        report.warn(("chains", STOP), f"`on_exhausted: {STOP}` refuses calls; it does not name this chain")


def _check_instead(task: DeclaredTask, chain: Chain, report: Report) -> None:
    """Check that the chain that a task names for when its budget is spent can do its work."""
    place: Place = ("tasks", "declared", task.id, "on_exhausted")
    if task.type is not TaskType.EMBED:
        check_fit(list(chain.stages), task.type, ("chains", chain.name, "stages"), report)
        return
    first = task.chain.stages[0].model
    alike = [each.model for each in chain.stages if each.model.vector_space == first.vector_space]
    if not any(each.dimensions[:1] == first.dimensions[:1] for each in alike) and not task.chain.allow_space_change:
        report.error(
            place,
            f"no stage of `{chain.name}` makes vectors like those of {first.id} (space {first.vector_space}, "
            f"{_length(first)} numbers): other vectors would ruin an index",
        )


def _length(model: Model) -> str:
    return str(model.dimensions[0]) if model.dimensions else "?"


_NO_LIMITS = LimitsConfig()


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


def is_origin(text: str) -> bool:
    """Tell whether it is an origin as browsers write it: scheme, host, and the port unless it is the scheme's own."""
    return _ORIGIN.fullmatch(text) is not None


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
    _check_openai(config, report)
    for place, origin in enumerate(server.http_allowed_origins):
        if not is_origin(origin):
            told = (
                f"`{origin}` is no origin: write it as browsers do, such as https://chat.example.com, in small letters"
            )
            report.error(("server", "http_allowed_origins", place), told)
    if server.http_tls and server.tls is None:
        report.error(("server", "http_tls"), "needs server.tls, whose certificates it takes")
    if server.http and server.http_calls and server.tls is not None and not server.http_tls:
        if server.tls.client_ca:
            told = "takes no calls, since server.tls asks for client certificates and this port does not: set http_tls"
            report.warn(("server", "http_port"), told)
        elif not is_loopback(server.http_host):
            told = "takes calls beyond this machine without TLS: prompts and keys can be read; set http_tls"
            report.warn(("server", "http_host"), told)


def _check_otlp(config: Config, report: Report) -> None:
    otlp = config.telemetry.otlp
    if otlp is None or not otlp.endpoint:
        return
    place: Place = ("telemetry", "otlp", "endpoint")
    if problem := url_problem(otlp.endpoint):
        report.error(place, problem)
        return
    parts = urlsplit(otlp.endpoint)
    if otlp.protocol == "grpc" and parts.path.strip("/"):
        report.error(place, "has a path, which gRPC has not: leave it out, or set protocol: http/protobuf")
    if otlp.protocol == "grpc" and parts.port == _OTLP_OVER_HTTP:
        report.warn(place, "is where collectors take HTTP: set protocol: http/protobuf, or port 4317")


def _check_openai(config: Config, report: Report) -> None:
    """Check what the model names of OpenAI's API stand for."""
    tasks = config.tasks
    for name, meant in config.server.openai.models.items():
        place: Place = ("server", "openai", "models", name)
        kind, _, rest = meant.partition(":")
        if name == _ANY_TASK or name.startswith(("task:", "chain:")):
            report.error(place, "has its own meaning: choose another name")
        elif kind == "task" and rest:
            if tasks.strict and rest not in tasks.declared:
                told = suggestion(rest, tasks.declared)
                report.error(place, f"task `{rest}` is not declared, and tasks.strict is set{told}")
        elif meant != _ANY_TASK and not (kind == "chain" and rest in _TYPE_WORDS):
            types = ", ".join(sorted(_TYPE_WORDS))
            report.error(place, f"must be `gearshift`, `task:<id>` or `chain:<task type>` ({types}), not `{meant}`")


_ANY_TASK = "gearshift"
