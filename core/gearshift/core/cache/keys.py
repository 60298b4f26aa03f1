"""Keys of what is cached: everything that an answer or a vector depends on, and everybody's rights.

Rules: two calls that differ in tenant, sensitivity, task definition, chain, allow-lists or anything that the model reads
never share a key; prompts stand in keys only as a part of a SHA-256. The parts are written as JSON of a fixed shape before
they are hashed, so that no two lists of parts read the same. `None` says that the call is not to be kept at all.
"""

from __future__ import annotations

import hashlib

import msgspec

from gearshift.core.blueprint import Stage
from gearshift.core.call import PreparedCall
from gearshift.core.plan import Caps
from gearshift.core.request import EmbedRequest, Image, Message, Part, Text, ToolCall
from gearshift.core.resolve import Resolved
from gearshift.core.words import Sensitivity

_VERSION = 1
_SINGLE = ("single",)
"""Raised when the meaning of a key or the form of what stands under it changes."""


def generation_of(definition_hash: str, chain_revision: str) -> str:
    """Give what entries depend on in the configuration: the task's definition and the chain's revision."""
    return _hash([definition_hash, chain_revision])


def response_key(call: PreparedCall) -> str | None:
    """Give the key of a call's answer; None when it is not to be kept: no `cache`, restricted, or drawn by chance."""
    declared = call.resolved.declared
    cache = declared.cache if declared is not None else None
    if cache is None or call.resolved.resolution.sensitivity is Sensitivity.RESTRICTED or call.request.policy.no_cache:
        return None
    if not cache.any_temperature and _by_chance(call):
        return None
    request, policy = call.request, call.policy
    system = request.system
    return _hash(
        [
            "response",
            *_whose(call.resolved, call.caps),
            call.prompt.static,
            call.prompt.dynamic,
            sorted(system.variables.items()) if system is not None else [],
            [_message(message) for message in request.messages],
            request.tools,
            [request.tool_choice.mode, request.tool_choice.name, *(_SINGLE if request.tool_choice.is_single else ())],
            [type(call.resolved.output).__name__, call.resolved.output],
            call.parameters,
            [
                policy.min_confidence,
                policy.escalation_threshold,
                policy.require_valid,
                policy.require_confidence,
                policy.enforce_schema,
                policy.check_coherence,
                policy.second_look,
                policy.confidence,
                policy.self_assessment,
                policy.repair,
                request.policy.no_second_look,
                request.policy.no_escalation,
            ],
        ]
    )


def embedding_keys(request: EmbedRequest, resolved: Resolved, caps: Caps, stage: Stage) -> list[str] | None:
    """Give the key of each text's vector by a stage's model; None when they are not to be kept."""
    if resolved.resolution.sensitivity is Sensitivity.RESTRICTED or request.policy.no_cache:
        return None
    model = stage.model
    common = _hash(
        [
            "embedding",
            *_whose(resolved, caps),
            [stage.provider.name, model.id, model.wire_id, model.vector_space, stage.ref.position],
            [request.dimensions, request.input_type, request.truncation],
        ]
    )
    return [hashlib.sha256(f"{common}{text}".encode()).hexdigest() for text in request.inputs]


def _whose(resolved: Resolved, caps: Caps) -> list[object]:
    """Give whose call it is, by what right, and what serves it."""
    resolution = resolved.resolution
    return [
        _VERSION,
        resolution.tenant,
        resolution.sensitivity,
        resolution.task_id,
        resolved.definition_hash,
        resolution.type,
        # A complexity that somebody declared drops weaker stages.
        [resolution.complexity, resolved.complexity_declared],
        [resolved.chain.name, resolved.chain.revision],
        sorted(caps.allowed_models),
        sorted(caps.allowed_providers),
        caps.require_confidence,
    ]


def _by_chance(call: PreparedCall) -> bool:
    """Tell whether another run may well give another answer: a temperature above 0, or one that nobody set."""
    asked = call.parameters.temperature
    if asked is not None:
        return asked > 0
    return any(stage.temperature != 0 for stage in call.resolved.chain.stages)


def _message(message: Message) -> list[object]:
    state = message.provider_state
    return [
        message.role,
        [_part(part) for part in message.parts],
        None if state is None else [state.provider, state.model, hashlib.sha256(state.data).hexdigest()],
    ]


def _part(part: Part) -> list[object]:
    if isinstance(part, Text):
        return ["text", part.text]
    if isinstance(part, Image):
        data = None if part.data is None else hashlib.sha256(part.data).hexdigest()
        return ["image", data, part.url, part.media_type]
    if isinstance(part, ToolCall):
        return ["call", part.id, part.name, part.arguments]
    return ["result", part.tool_call_id, part.content, part.is_error]


def _hash(parts: list[object]) -> str:
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()
