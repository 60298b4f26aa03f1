"""What a caller asks for, as the core sees it.

Rules: values only, frozen; limits on sizes are checked in `validation.py`, not here. Orders are oldest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from msgspec import Struct

from gearshift.core.words import (
    Complexity,
    InputType,
    ReasoningEffort,
    Role,
    Sensitivity,
    Source,
    SwitchMode,
    TaskType,
    ToolMode,
    Truncation,
)


class Task(Struct, frozen=True, kw_only=True):
    """What the caller wants done; None leaves an axis to the router."""

    id: str
    type: TaskType | None = None
    complexity: Complexity | None = None
    sensitivity: Sensitivity | None = None


class Resolution(Struct, frozen=True, kw_only=True):
    """The task as the router understood it, and where each axis came from."""

    task_id: str
    declared: bool
    type: TaskType
    type_source: Source
    type_confidence: float
    complexity: Complexity
    complexity_source: Source
    sensitivity: Sensitivity
    sensitivity_source: Source
    tenant: str


class SystemPrompt(Struct, frozen=True, kw_only=True):
    """The static instructions, by text or by key, with the values for their `{{name}}` places."""

    text: str | None = None
    key: str | None = None
    variables: Mapping[str, str] = {}
    static: bool = False


class Text(Struct, frozen=True):
    """A piece of text in a message."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture: encoded bytes with their media type, or an https URL that only the provider fetches."""

    data: bytes | None = None
    url: str | None = None
    media_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool that a model asked for; `arguments` is a JSON object as text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool gave."""

    tool_call_id: str
    content: str
    is_error: bool = False


Part = Text | Image | ToolCall | ToolResult


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderState:
    """Opaque state of one provider (signed thinking); it goes back to that provider and model only."""

    provider: str
    model: str
    data: bytes


class Message(Struct, frozen=True, kw_only=True):
    """One turn."""

    role: Role
    parts: tuple[Part, ...]
    provider_state: ProviderState | None = None

    @property
    def has_results(self) -> bool:
        """Whether it gives a tool's result."""
        for part in self.parts:
            if isinstance(part, ToolResult):
                return True
        return False


def user(text: str) -> Message:
    """Give a user turn of one text."""
    return Message(role=Role.USER, parts=(Text(text),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may ask for; `parameters_schema` is JSON Schema as text, empty for any object."""

    name: str
    description: str = ""
    parameters_schema: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Whether and which tool is called; `name` with NAMED only.

    `is_single` asks for at most one call in a turn; providers that cannot be held to that may still give several.
    """

    mode: ToolMode = ToolMode.AUTO
    name: str = ""
    is_single: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOutput:
    """Exactly one of the labels; examples are (text, label)."""

    labels: tuple[str, ...]
    examples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonOutput:
    """A JSON document; `schema` is JSON Schema as text, empty for any; examples are (text, JSON text)."""

    schema: str = ""
    name: str = "answer"
    examples: tuple[tuple[str, str], ...] = ()


Output = LabelOutput | JsonOutput


class Parameters(Struct, frozen=True, kw_only=True):
    """Generation parameters; None leaves each to the stage."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning_effort: ReasoningEffort | None = None


NO_PARAMETERS = Parameters()
"""No wish at all, told by identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the caller asks of the chain; each field only tightens. None and empty mean no wish."""

    max_attempts: int | None = None
    max_hops: int | None = None
    max_cost_usd: Decimal | None = None
    min_confidence: float | None = None
    escalation_threshold: float | None = None
    require_valid: bool = False
    require_confidence: bool = False
    allowed_models: frozenset[str] = frozenset()
    allowed_providers: frozenset[str] = frozenset()
    no_second_look: bool = False
    no_cache: bool = False
    no_escalation: bool = False


NO_POLICY = Policy()
"""No wish at all: what most calls bring, told by identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPolicy:
    """How a stream is held back and switched; None takes what the declared task says, else the configuration."""

    hold_back_tokens: int | None = None
    hold_back_ms: int | None = None
    mode: SwitchMode | None = None
    escalate_at_end: bool | None = None
    preview: bool = False
    include_reasoning: bool = False


class Request(Struct, frozen=True, kw_only=True):
    """One call. `stream` is None for a unary answer; `tenant` is set by the edge, never by the caller."""

    request_id: str
    tenant: str
    task: Task
    messages: tuple[Message, ...]
    system: SystemPrompt | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    output: Output | None = None
    parameters: Parameters = NO_PARAMETERS
    policy: Policy = NO_POLICY
    stream: StreamPolicy | None = None
    resolution: Resolution | None = None
    """Filled in by the router."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """Texts to turn into vectors; the order is kept."""

    request_id: str
    tenant: str
    task: Task
    inputs: tuple[str, ...]
    input_type: InputType | None = None
    dimensions: int | None = None
    truncation: Truncation = Truncation.ERROR
    vector_space: str = ""
    allow_space_change: bool = False
    policy: Policy = NO_POLICY
