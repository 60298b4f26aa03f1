"""What is known of each kind of provider and each dialect: where it is, what it needs, what it usually can.

Sources: the providers' own documentation of their APIs. What a single model can stands in the catalogue and wins.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from gearshift.core.catalogue.model import Feature

_CHAT = frozenset({Feature.TOOLS, Feature.TEMPERATURE})
_LOCAL = _CHAT | {Feature.JSON_SCHEMA, Feature.JSON_OBJECT, Feature.LOGPROBS, Feature.SEED}


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFacts:
    """A kind, or one dialect of it; an empty `base_url` must be configured (or, for `embedded`, is made at the start)."""

    base_url: str
    needs_key: bool
    self_hosted: bool = False
    features: frozenset[Feature] = frozenset()


FACTS: dict[tuple[str, str], KindFacts] = {
    ("anthropic", ""): KindFacts(
        base_url="https://api.anthropic.com",
        needs_key=True,
        features=_CHAT | {Feature.JSON_SCHEMA, Feature.IMAGES, Feature.CACHE_CONTROL},
    ),
    ("ollama", ""): KindFacts(
        base_url="http://127.0.0.1:11434", needs_key=False, self_hosted=True, features=_LOCAL | {Feature.PREFILL}
    ),
    ("voyage", ""): KindFacts(
        base_url="https://api.voyageai.com/v1", needs_key=True, features=frozenset({Feature.EMBED})
    ),
    ("embedded", ""): KindFacts(
        base_url="",
        needs_key=False,
        self_hosted=True,
        features=frozenset({Feature.JSON_SCHEMA, Feature.LOGPROBS, Feature.TEMPERATURE, Feature.SEED, Feature.LABELS}),
    ),
    ("openai", "openai"): KindFacts(
        base_url="https://api.openai.com/v1",
        needs_key=True,
        features=_CHAT | {Feature.JSON_SCHEMA, Feature.JSON_OBJECT, Feature.IMAGES},
    ),
    ("openai", "groq"): KindFacts(
        base_url="https://api.groq.com/openai/v1",
        needs_key=True,
        features=_CHAT | {Feature.JSON_OBJECT, Feature.SEED, Feature.PREFILL},
    ),
    ("openai", "deepseek"): KindFacts(
        base_url="https://api.deepseek.com",
        needs_key=True,
        features=_CHAT | {Feature.JSON_OBJECT, Feature.LOGPROBS},
    ),
    ("openai", "vllm"): KindFacts(
        base_url="http://127.0.0.1:8000/v1", needs_key=False, self_hosted=True, features=_LOCAL | {Feature.PREFILL}
    ),
    ("openai", "llamacpp"): KindFacts(
        base_url="http://127.0.0.1:8080/v1", needs_key=False, self_hosted=True, features=_LOCAL
    ),
    ("openai", "compatible"): KindFacts(base_url="", needs_key=False, features=frozenset({Feature.TEMPERATURE})),
}
"""By kind and dialect."""

KINDS = tuple(dict.fromkeys(kind for kind, _ in FACTS))
DIALECTS = tuple(dialect for kind, dialect in FACTS if kind == "openai")
OWN = KindFacts(base_url="", needs_key=False, features=frozenset({Feature.TEMPERATURE}))
"""Of kinds that a plug-in brings."""


def kind_of(name: str, kind: str, own_kinds: Collection[str]) -> str:
    """Give a provider's kind: as written, or told from its name (`groq-eu` is kind openai), else empty."""
    if kind:
        return kind
    first = _first_word(name)
    if first in DIALECTS:
        return "openai"
    return first if first in KINDS else name if name in own_kinds else ""


def dialect_of(name: str, kind: str, dialect: str) -> str:
    """Give the dialect of a provider of kind openai: as written, or told from its name, else `compatible`."""
    if kind != "openai" or dialect:
        return dialect
    first = _first_word(name)
    return first if first in DIALECTS else "compatible"


def facts_of(kind: str, dialect: str) -> KindFacts:
    """Give what is known of a kind and dialect."""
    return FACTS.get((kind, dialect), OWN)


def _first_word(name: str) -> str:
    return re.split(r"[-_.:/]", name.lower(), maxsplit=1)[0]
