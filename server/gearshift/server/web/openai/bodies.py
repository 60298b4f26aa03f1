"""What clients of OpenAI's API send, as Structs.

Rules: a field that is not here is refused, as OpenAI refuses it; null is unset everywhere. Fields of type Any are known
and not served: `request.py` says for each whether it is passed over or refused. Of messages, what answers bring and
clients send back is taken. Source: https://platform.openai.com/docs/api-reference/chat/create and …/embeddings/create.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Raw, Struct

NO_SCHEMA = Raw()


class _Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Common to all."""


class TextPart(_Body, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A piece of text."""

    text: str
    prompt_cache_breakpoint: Any = None


class ImageUrl(_Body, frozen=True, kw_only=True):
    """Where a picture is: an https address, or a `data:` URI that holds it."""

    url: str
    detail: Any = None


class ImagePart(_Body, frozen=True, kw_only=True, tag_field="type", tag="image_url"):
    """A picture."""

    image_url: ImageUrl
    prompt_cache_breakpoint: Any = None


class RefusalPart(_Body, frozen=True, kw_only=True, tag_field="type", tag="refusal"):
    """A model's refusal, of an earlier answer."""

    refusal: str


class SystemMessage(_Body, frozen=True, kw_only=True, tag_field="role", tag="system"):
    """Instructions."""

    content: str | list[TextPart]
    name: str | None = None


class DeveloperMessage(_Body, frozen=True, kw_only=True, tag_field="role", tag="developer"):
    """Instructions, by their newer name."""

    content: str | list[TextPart]
    name: str | None = None


class UserMessage(_Body, frozen=True, kw_only=True, tag_field="role", tag="user"):
    """What the user says."""

    content: str | list[TextPart | ImagePart]
    name: str | None = None


class CalledFunction(_Body, frozen=True, kw_only=True):
    """Which function a model called, and with what."""

    name: str
    arguments: str
    parsed_arguments: Any = None


class CalledTool(_Body, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """A call of a tool, of an earlier answer."""

    id: str
    function: CalledFunction
    index: int | None = None


class MessageState(_Body, frozen=True, kw_only=True):
    """What an answer's message brought under `gearshift`: opaque state of the provider that wrote it."""

    provider: str
    model: str
    state: str


class AssistantMessage(_Body, frozen=True, kw_only=True, tag_field="role", tag="assistant"):
    """What a model said before."""

    content: str | list[TextPart | RefusalPart] | None = None
    refusal: str | None = None
    tool_calls: list[CalledTool] | None = None
    name: str | None = None
    gearshift: MessageState | None = None
    annotations: Any = None
    audio: Any = None
    function_call: Any = None
    parsed: Any = None
    reasoning: Any = None
    reasoning_content: Any = None


class ToolMessage(_Body, frozen=True, kw_only=True, tag_field="role", tag="tool"):
    """What a tool gave."""

    content: str | list[TextPart]
    tool_call_id: str


AnyMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class FunctionBody(_Body, frozen=True, kw_only=True):
    """A function that a model may call."""

    name: str
    description: str | None = None
    parameters: Raw = NO_SCHEMA
    strict: bool | None = None


class ToolBody(_Body, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """A tool; functions are the only kind that is served."""

    function: FunctionBody


class ChosenFunction(_Body, frozen=True, kw_only=True):
    """The name of a function."""

    name: str


class ChosenTool(_Body, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """The function that must be called."""

    function: ChosenFunction


class TextFormat(_Body, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """Plain text."""


class JsonFormat(_Body, frozen=True, kw_only=True, tag_field="type", tag="json_object"):
    """Any JSON document."""


class NamedSchema(_Body, frozen=True, kw_only=True):
    """A JSON Schema."""

    name: str
    schema: Raw = NO_SCHEMA
    description: str | None = None
    strict: bool | None = None


class SchemaFormat(_Body, frozen=True, kw_only=True, tag_field="type", tag="json_schema"):
    """A JSON document by a schema."""

    json_schema: NamedSchema


class StreamOptions(_Body, frozen=True, kw_only=True):
    """What a stream brings besides text."""

    include_usage: bool | None = None
    include_obfuscation: Any = None


class ChatBody(_Body, frozen=True, kw_only=True):
    """POST /v1/chat/completions."""

    model: str
    messages: list[AnyMessage]
    tools: list[ToolBody] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | JsonFormat | SchemaFormat | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: dict[str, str] | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    modalities: list[str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    verbosity: str | None = None
    user: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    audio: Any = None
    function_call: Any = None
    functions: Any = None
    moderation: Any = None
    prediction: Any = None
    web_search_options: Any = None


class EmbeddingsBody(_Body, frozen=True, kw_only=True):
    """POST /v1/embeddings; `metadata` is of Gearshift, as in chat completions."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    metadata: dict[str, str] | None = None
    user: Any = None
    safety_identifier: Any = None
