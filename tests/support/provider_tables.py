"""The tables of docs/providers as the code has them."""

from __future__ import annotations

from gearshift.core.catalogue import Catalogue, Model
from gearshift.core.config.kinds import FACTS
from gearshift.core.failures import FAILURE_RULES, After

MODELS_HEAD = "| model | capability | context | features | also called |\n| --- | --- | --- | --- | --- |"
KINDS_HEAD = "| `kind` | `dialect` | base URL unless said | needs a key | a declared model can, unless it says otherwise |\n| --- | --- | --- | --- | --- |"
FAILURES_HEAD = "| failure | retried here | then | breaker | the caller reads |\n| --- | --- | --- | --- | --- |"


def models_table(kind: str, dialect: str) -> str:
    """Give the catalogue's models of one kind; those without one give an empty text."""
    models = [model for model in Catalogue.load().models.values() if (model.kind, model.dialect or "") == (kind, dialect)]
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


def _model(model: Model) -> str:
    context = f"{model.context_tokens:,}" if model.context_tokens else ""
    features = ", ".join(sorted(each.value for each in model.features))
    aliases = ", ".join(f"`{alias}`" for alias in sorted(model.aliases))
    return f"| `{model.id}` | {model.capability.word} | {context} | {features} | {aliases} |"
