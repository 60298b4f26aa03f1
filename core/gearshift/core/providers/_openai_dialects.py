"""How servers of OpenAI's chat format differ, as data.

Rules: the adapter asks this table and never a server's name. A new server is a row here; `compatible` sends only what
nearly every server takes.

Sources: https://platform.openai.com/docs/api-reference/chat, https://api-docs.deepseek.com,
https://console.groq.com/docs, https://docs.vllm.ai (OpenAI-compatible server), llama.cpp's tools/server/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from gearshift.core.words import ReasoningEffort

Fields = Mapping[str, object]


class SchemaForm(Enum):
    """How the server takes a JSON Schema."""

    STRICT = "strict"
    """`json_schema` with `strict`, for schemas of the strict subset and an object at the root."""
    GRAMMAR = "grammar"
    """`json_schema` that becomes a grammar: any schema, any root."""
    WORDS = "words"
    """Not at all: `json_object`, and the schema in the system prompt."""


class PrefillForm(Enum):
    """How a partial answer is continued."""

    NONE = "none"
    LAST_ASSISTANT = "last_assistant"
    """By a last message of the assistant."""
    PREFIX = "prefix"
    """By a last message of the assistant that is marked `prefix`, at the address `/beta`."""
    CONTINUE_FINAL = "continue_final"
    """By a last message of the assistant and two fields that keep the template open."""


class LabelForm(Enum):
    """How the server is held to one of some labels; all are asked in words as well."""

    WORDS = "words"
    CHOICE = "choice"
    """`structured_outputs.choice`."""
    GRAMMAR = "grammar"
    """A GBNF `grammar`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One server's ways.

    Args:
        schema: how it takes a JSON Schema, for models that have the feature.
        labels: how it is held to labels.
        prefill: how it continues a partial answer.
        logprobs: False where asking is an error.
        stream_usage: whether `stream_options.include_usage` is sent.
        usage_options: more of `stream_options`, with which the server counts in every frame, so that a stream that is cut
            is billed exactly.
        max_tokens: the field that limits the answer.
        max_stops: most stop sequences; 0 is no limit.
        cache_key: the field that takes the cache key; empty when there is none.
        effort: fields for each wish of how much to think.
        reasoning: fields that are always sent to models that think.
        state_from_reasoning: reasoning must come back with the turn whose tool calls it led to.
        chat: fields that are always sent.
        truncate: fields that let the server cut a text that is too long to embed; empty when it cannot.
    """

    schema: SchemaForm = SchemaForm.WORDS
    labels: LabelForm = LabelForm.WORDS
    prefill: PrefillForm = PrefillForm.LAST_ASSISTANT
    logprobs: bool = True
    stream_usage: bool = True
    usage_options: Fields = field(default_factory=dict[str, object])
    max_tokens: str = "max_tokens"
    max_stops: int = 4
    cache_key: str = ""
    effort: Mapping[ReasoningEffort, Fields] = field(default_factory=dict[ReasoningEffort, Fields])
    reasoning: Fields = field(default_factory=dict[str, object])
    state_from_reasoning: bool = False
    chat: Fields = field(default_factory=dict[str, object])
    truncate: Fields = field(default_factory=dict[str, object])


_WORDS_OF_EFFORT: Mapping[ReasoningEffort, Fields] = {
    effort: {"reasoning_effort": effort.word} for effort in ReasoningEffort
}
_TEMPLATE_EFFORT: Mapping[ReasoningEffort, Fields] = {
    effort: {"chat_template_kwargs": {"enable_thinking": effort is not ReasoningEffort.NONE}}
    for effort in ReasoningEffort
}

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        "openai": Dialect(
            schema=SchemaForm.STRICT,
            prefill=PrefillForm.NONE,
            max_tokens="max_completion_tokens",
            cache_key="prompt_cache_key",
            effort=_WORDS_OF_EFFORT,
        ),
        "groq": Dialect(
            schema=SchemaForm.STRICT,
            logprobs=False,
            max_tokens="max_completion_tokens",
            effort=_WORDS_OF_EFFORT,
            # Inside the text by default; hidden, a long thought would look like a stalled stream.
            reasoning={"reasoning_format": "parsed"},
        ),
        "deepseek": Dialect(
            prefill=PrefillForm.PREFIX,
            max_stops=16,
            effort={
                effort: {"thinking": {"type": "disabled" if effort is ReasoningEffort.NONE else "enabled"}}
                for effort in ReasoningEffort
            },
            state_from_reasoning=True,
        ),
        "vllm": Dialect(
            schema=SchemaForm.GRAMMAR,
            labels=LabelForm.CHOICE,
            prefill=PrefillForm.CONTINUE_FINAL,
            usage_options={"continuous_usage_stats": True},
            max_stops=0,
            cache_key="cache_salt",
            effort=_TEMPLATE_EFFORT,
            truncate={"truncate_prompt_tokens": -1},
        ),
        "llamacpp": Dialect(
            schema=SchemaForm.GRAMMAR,
            labels=LabelForm.GRAMMAR,
            max_stops=0,
            effort=_TEMPLATE_EFFORT,
            chat={"cache_prompt": True},
        ),
        "compatible": Dialect(effort=_WORDS_OF_EFFORT),
    }
)
