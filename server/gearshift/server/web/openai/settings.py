"""What a caller says of Gearshift's own in `metadata`, which every client of OpenAI's API can send.

Rules: pure. Keys that begin with `gearshift.` are read here, and an unknown one is refused; all others are the caller's
own and passed over. Every value is text. A setting means what the field of that name in protos/gearshift/v1 means.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, structs

from gearshift.core.config.problems import suggestion
from gearshift.core.errors import FieldViolation, InvalidRequestError
from gearshift.core.request import NO_POLICY, Policy, Task
from gearshift.core.words import Complexity, Sensitivity, TaskType

PREFIX = "gearshift."
_VARIABLE = "var."
_LISTS = frozenset({"labels", "allowed_models", "allowed_providers"})
"""Settings that are several words, with commas between them."""

StreamMode = Literal["continue", "fail", "hold_all"]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a call; None and empty are unset."""

    task: str = ""
    task_type: Literal["classify", "extract", "generate", "reason"] | None = None
    complexity: Literal["low", "medium", "high"] | None = None
    sensitivity: Literal["public", "internal", "restricted"] | None = None
    labels: tuple[str, ...] = ()
    request_id: str = ""
    timeout_ms: Annotated[int, Meta(ge=1, le=86_400_000)] | None = None
    stream: StreamMode | None = None
    hold_back_tokens: int | None = None
    hold_back_ms: int | None = None
    max_attempts: int | None = None
    max_hops: int | None = None
    max_cost_usd: Decimal | None = None
    min_confidence: float | None = None
    escalation_threshold: float | None = None
    require_valid: bool = False
    require_confidence: bool = False
    allowed_models: tuple[str, ...] = ()
    allowed_providers: tuple[str, ...] = ()
    no_second_look: bool = False
    no_cache: bool = False
    no_escalation: bool = False
    input_type: Literal["query", "document"] | None = None
    truncate: Literal["error", "end"] | None = None
    vector_space: str = ""
    allow_space_change: bool = False


NO_SETTINGS = Settings()
_CHAT_ONLY = frozenset(
    {
        "labels",
        "stream",
        "hold_back_tokens",
        "hold_back_ms",
        "no_second_look",
        "no_escalation",
        "task_type",
        "require_valid",
        "require_confidence",
        "min_confidence",
        "escalation_threshold",
    }
)
_EMBEDDINGS_ONLY = frozenset({"input_type", "truncate", "vector_space", "allow_space_change"})
_NAMES = structs.fields(Settings)


def settings_of(metadata: Mapping[str, str] | None, *, embeds: bool = False) -> tuple[Settings, Mapping[str, str]]:
    """Give the settings, and the values for the places of the system prompt (`gearshift.var.<name>`).

    Raises:
        InvalidRequestError: a name is unknown here, or a value is wrong; names each.
    """
    said: dict[str, Any] = {}
    variables: dict[str, str] = {}
    faults: list[FieldViolation] = []
    known = {each.name for each in _NAMES} - (_CHAT_ONLY if embeds else _EMBEDDINGS_ONLY)
    for key, value in (metadata or {}).items():
        if not key.startswith(PREFIX):
            continue
        name = key[len(PREFIX) :]
        if name.startswith(_VARIABLE) and not embeds:
            variables[name[len(_VARIABLE) :]] = value
        elif name not in known:
            faults.append(_fault(name, f"is not a setting of this call{suggestion(name, known)}"))
        elif name in _LISTS:
            said[name] = tuple(word for each in value.split(",") if (word := each.strip()))
        else:
            said[name] = value
    settings = NO_SETTINGS
    if said:
        try:
            settings = msgspec.convert(said, Settings, strict=False)
        except msgspec.ValidationError as error:
            told, _, place = str(error).partition(" - at `$.")
            faults.append(_fault(place.rstrip("`"), told[:1].lower() + told[1:]))
    if faults:
        raise InvalidRequestError(faults)
    return settings, variables


def task_of(settings: Settings, task_id: str, kind: TaskType | None) -> Task:
    """Give the task that model name and settings say; the id that the name says goes first."""
    said = TaskType.from_word(settings.task_type) if settings.task_type is not None else kind
    return Task(
        id=task_id,
        type=said,
        complexity=Complexity.from_word(settings.complexity) if settings.complexity is not None else None,
        sensitivity=Sensitivity.from_word(settings.sensitivity) if settings.sensitivity is not None else None,
    )


def policy_of(settings: Settings) -> Policy:
    """Give what the caller asks of the chain."""
    policy = Policy(
        max_attempts=settings.max_attempts,
        max_hops=settings.max_hops,
        max_cost_usd=settings.max_cost_usd,
        min_confidence=settings.min_confidence,
        escalation_threshold=settings.escalation_threshold,
        require_valid=settings.require_valid,
        require_confidence=settings.require_confidence,
        allowed_models=frozenset(settings.allowed_models),
        allowed_providers=frozenset(settings.allowed_providers),
        no_second_look=settings.no_second_look,
        no_cache=settings.no_cache,
        no_escalation=settings.no_escalation,
    )
    return NO_POLICY if policy == NO_POLICY else policy


def _fault(name: str, description: str) -> FieldViolation:
    return FieldViolation(field=f"metadata.{PREFIX}{name}", description=description)
