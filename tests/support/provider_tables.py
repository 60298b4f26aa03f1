"""The tables of docs/providers as the code has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gearshift.core.config.kinds import FACTS
from gearshift.core.failures import FAILURE_RULES, After

DATA = Path(__file__).parents[2] / "core/gearshift/core/catalogue/data.yaml"
MODELS_HEAD = "| model | capability | context | features | also called |\n| --- | --- | --- | --- | --- |"
KINDS_HEAD = "| `kind` | `dialect` | base URL unless said | needs a key | a declared model can, unless it says otherwise |\n| --- | --- | --- | --- | --- |"
FAILURES_HEAD = "| failure | retried here | then | breaker | the caller reads |\n| --- | --- | --- | --- | --- |"


def models_table(kind: str, dialect: str) -> str:
    """Give the catalogue's models of one kind; those without one give an empty text."""
    models = [each for each in _entries() if (each["kind"], each.get("dialect", "")) == (kind, dialect)]
    return "\n".join([MODELS_HEAD, *map(_model, models)]) if models else ""


def kinds_table() -> str:
    """Give every kind and dialect."""
    lines = [
        f"| `{kind}` | {f'`{dialect}`' if dialect else ''} | {f'`{facts.base_url}`' if facts.base_url else ''} "
        f"| {'yes' if facts.needs_key else ''} | {', '.join(sorted(each.value for each in facts.features))} |"
        for (kind, dialect), facts in FACTS.items()
    ]
    return "\n".join([KINDS_HEAD, *lines])


def failures_table() -> str:
    """Give what follows from each kind of failure."""
    lines = [
        f"| `{kind.word}` | {('yes' if rule.same_account else 'on another account') if rule.retry_here else 'no'} "
        f"| {'next stage' if rule.then is After.NEXT_STAGE else 'stop'} | {rule.breaker.value} | {rule.told} |"
        for kind, rule in FAILURE_RULES.items()
    ]
    return "\n".join([FAILURES_HEAD, *lines])


def _entries() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = yaml.safe_load(DATA.read_text("utf-8"))["models"]
    return entries


def _model(model: dict[str, Any]) -> str:
    context = f"{model['context_tokens']:,}" if "context_tokens" in model else ""
    aliases = ", ".join(f"`{alias}`" for alias in model.get("aliases", ()))
    return f"| `{model['id']}` | {model['capability']} | {context} | {', '.join(model['features'])} | {aliases} |"
