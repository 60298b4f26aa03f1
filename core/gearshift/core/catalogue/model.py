"""A model as the catalogue knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from gearshift.core.catalogue.price import PriceSchedule
from gearshift.core.words import Complexity


class Feature(Enum):
    """What a model can do on the wire; a call that needs a feature skips stages without it."""

    TOOLS = "tools"
    JSON_SCHEMA = "json_schema"
    """Takes a schema and keeps to it."""
    JSON_OBJECT = "json_object"
    """Can be told to write JSON, without a schema."""
    LOGPROBS = "logprobs"
    IMAGES = "images"
    PREFILL = "prefill"
    """Continues an answer that it is given the beginning of."""
    TEMPERATURE = "temperature"
    """Takes temperature and top_p; without it they are dropped and the answer says so."""
    SEED = "seed"
    REASONING = "reasoning"
    """Can think before it answers."""
    CACHE_CONTROL = "cache_control"
    """Caches a prefix where the request marks it."""
    LABELS = "labels"
    """Scores labels by log-probability instead of writing one."""
    EMBED = "embed"

    # Members are compared by identity; Enum's own hash, of the name, is a call of Python for every look into a set.
    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of one kind of provider.

    Args:
        id: the catalogue's name, the same in configuration, metrics and ledger.
        provider_kind: the adapter's kind: `anthropic`, `openai`, `ollama`, `voyage`, `embedded` or an own one.
        dialect: for `openai`, whose differences apply: `openai`, `groq`, `deepseek`, `vllm`, `llamacpp`, `compatible`.
        wire_id: the name that goes on the wire.
        capability: the complexity that it can be trusted with.
        context_tokens: input and output together; 0 is unknown, which never filters.
        max_output_tokens: 0 is unknown.
        prices: USD for tokens; None when the price is unknown, which is never zero, and when self_hosted.
        self_hosted: it costs machine time instead of tokens (`cost_per_hour_usd` of its provider).
        vector_space: only vectors of one space may be compared; empty for models that do not embed.
        dimensions: those that it can give, its own first; empty when it does not embed.
        max_batch: most inputs in one embedding call.
        max_input_tokens: longest text that it embeds whole; 0 is unknown.
        cache_minimum_tokens: shortest prefix that the provider caches; 0 is unknown.
        characters_per_token: first guess for estimates, before it is learned.
        options: settings of the adapter for this model, such as the embedded model's prompting.
        note: what an operator should know before using it, a sentence; empty when there is nothing to say.

    """

    id: str
    provider_kind: str
    wire_id: str
    capability: Complexity
    dialect: str = ""
    context_tokens: int = 0
    max_output_tokens: int = 0
    features: frozenset[Feature] = frozenset()
    prices: PriceSchedule | None = None
    self_hosted: bool = False
    vector_space: str = ""
    dimensions: tuple[int, ...] = ()
    max_batch: int = 1
    max_input_tokens: int = 0
    cache_minimum_tokens: int = 0
    characters_per_token: float = 4.0
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    note: str = ""
