"""Providers of the file into providers that can be called.

Rules: a provider is ready when its kind is known, each account has a place to call, and a restricted one cannot be
read on the way. One that is not is None, so that stages which name it are not blamed as well.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from gearshift.core.blueprint import AccountSpec, ProviderSpec
from gearshift.core.config.hosts import is_secure, url_problem
from gearshift.core.config.kinds import DIALECTS, KINDS, KindFacts, dialect_of, facts_of, kind_of
from gearshift.core.config.model import AccountConfig, Config, ProviderConfig
from gearshift.core.config.problems import Place, Report, suggestion
from gearshift.core.machines.kinds import watched_kind
from gearshift.core.provider import Account
from gearshift.core.words import Sensitivity

_WATCHED = "kinds `ollama` and `embedded`, and dialects `vllm` and `llamacpp` of kind `openai`, are"
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def build_providers(config: Config, report: Report, own_kinds: Collection[str]) -> dict[str, ProviderSpec | None]:
    """Give every provider of the file; None for those that the report complains about."""
    return {name: _provider(name, each, report, own_kinds) for name, each in config.providers.items()}


def _provider(name: str, config: ProviderConfig, report: Report, own_kinds: Collection[str]) -> ProviderSpec | None:
    place: Place = ("providers", name)
    before = report.count
    kind = kind_of(name, config.kind, own_kinds)
    known = {*KINDS, *own_kinds}
    if not kind:
        kinds = ", ".join(f"`{each}`" for each in sorted(known))
        report.error((*place, "kind"), f"is missing, and the name `{name}` does not tell it; one of {kinds}")
        return None
    if kind not in known:
        hint = " (a dialect of kind `openai`)" if kind in DIALECTS else suggestion(kind, known)
        report.error((*place, "kind"), f"unknown kind `{kind}`{hint}")
        return None
    if kind != "openai" and config.dialect and kind in KINDS:
        report.error((*place, "dialect"), f"is for kind `openai` only, not `{kind}`")
    if kind != "embedded" and config.embedded is not None:
        report.error((*place, "embedded"), f"is for kind `embedded` only, not `{kind}`")
    if config.pressure.max_queued is not None and not watched_kind(kind, dialect_of(name, kind, config.dialect)):
        report.error((*place, "pressure", "max_queued"), f"`{name}` is no machine whose queue can be told; {_WATCHED}")
    for header in config.headers:
        if not _HEADER.fullmatch(header):
            report.error((*place, "headers", header), "is not the name of a header")
    dialect = dialect_of(name, kind, config.dialect)
    facts = facts_of(kind, dialect)
    accounts = _accounts(config, kind, facts, place, report)
    if config.breaker.max_open_s < config.breaker.open_s:
        report.error((*place, "breaker", "max_open_s"), f"must not be below open_s ({config.breaker.open_s:g})")
    if report.count > before:
        return None
    # A plug-in that names no place may call anywhere.
    urls = [each.account.base_url for each in accounts]
    secure = kind == "embedded" or all(url and is_secure(url) for url in urls)
    clearance = Sensitivity.from_word(config.clearance)
    if clearance is Sensitivity.RESTRICTED and not secure:
        report.error(
            (*place, "clearance"),
            "restricted needs TLS (https://) or a path without network (loopback, unix://) for every account",
        )
        return None
    return ProviderSpec(
        name=name,
        kind=kind,
        dialect=dialect,
        clearance=clearance,
        secure=secure,
        accounts=accounts,
        breaker=config.breaker,
        cost_per_hour_usd=config.cost_per_hour_usd,
        parallelism=config.parallelism,
        connections=config.connections,
        pressure=config.pressure,
    )


def _accounts(
    config: ProviderConfig, kind: str, facts: KindFacts, place: Place, report: Report
) -> tuple[AccountSpec, ...]:
    accounts: list[AccountSpec] = []
    names: set[str] = set()
    declared = config.accounts or (AccountConfig(name="default"),)
    for number, each in enumerate(declared):
        here = (*place, "accounts", number) if config.accounts else place
        if each.name in names:
            report.error((*here, "name"), f"account `{each.name}` stands twice")
        names.add(each.name)
        base_url = (each.base_url or config.base_url or facts.base_url).rstrip("/")
        url_place = (*here, "base_url") if each.base_url or not config.base_url else (*place, "base_url")
        if kind == "embedded":
            if base_url:
                report.error(url_place, "the embedded model makes its own socket; leave it out")
        elif not base_url:
            if facts.needs_key or kind in KINDS:
                report.error(url_place, "is missing; this kind has no documented one")
        elif problem := url_problem(base_url):
            report.error(url_place, problem)
        api_key = each.api_key or config.api_key
        if facts.needs_key and not api_key and not config.headers and _host(base_url) == _host(facts.base_url):
            report.error((*here, "api_key"), f"is missing; {_host(base_url)} takes no call without a key")
        account = Account(
            name=each.name, base_url=base_url, api_key=api_key, weight=each.weight, headers=dict(config.headers)
        )
        accounts.append(AccountSpec(account=account, limits=each.limits or config.limits))
    return tuple(accounts)


def _host(base_url: str) -> str:
    try:
        return urlsplit(base_url).hostname or ""
    except ValueError:
        return ""
