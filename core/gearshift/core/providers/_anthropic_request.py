"""The body of a call to Anthropic's Messages API.

Rules: pure. The order is tools, static prompt, cache breakpoint, variables, messages, so that the prefix that repeats
comes first. What the model does not take is left out and said in a note, except where leaving it out would change what
was asked (an unreadable tool argument): that is an invalid request.

What a model wants beyond its features is in its options, as words:
    thinking      `adaptive` (default): effort is a word; `budget`: effort is a number of tokens
    thinking_off  how it is told not to think: `disabled` (default), `between_tools`, or `never` when it always thinks
    forced_tools  `no` when it refuses a tool choice that forces a call

Source: https://platform.claude.com/docs/en/api/messages and the types of the anthropic package 2.12.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from gearshift.core.catalogue import Feature
from gearshift.core.provider import CacheHint, ProviderCall
from gearshift.core.providers._anthropic_schema import supported_schema
from gearshift.core.providers._outgoing import encoded, invalid_request, json_object
from gearshift.core.providers._spoken import instruction, label_object_schema
from gearshift.core.request import Image, LabelOutput, Message, Part, Text, ToolCall, ToolResult
from gearshift.core.words import ReasoningEffort, Role, ToolMode

DEFAULT_MAX_TOKENS = 4096
"""What an answer may cost when nobody said: the API requires a number."""

_BUDGETS: Mapping[ReasoningEffort, int] = {
    ReasoningEffort.LOW: 1024,
    ReasoningEffort.MEDIUM: 4096,
    ReasoningEffort.HIGH: 16384,
}
"""Tokens to think with, for models that take a number; 1024 is the API's least."""

_LEAST_BUDGET = 1024

_Block = dict[str, object]


class StateBlock(msgspec.Struct, omit_defaults=True):
    """A thinking block as the provider signed it, and where it stood: after so many tool calls, after text or not."""

    type: str
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    calls: int = 0
    after_text: bool = False

    def sent(self) -> _Block:
        """Give the block as the provider wants it back, unchanged."""
        if self.type == "redacted_thinking":
            return {"type": self.type, "data": self.data or ""}
        return {"type": self.type, "thinking": self.thinking or "", "signature": self.signature or ""}


STATE_ENCODER = msgspec.json.Encoder()
_STATE_DECODER = msgspec.json.Decoder(list[StateBlock])


@dataclass(slots=True)
class AnthropicRequest:
    """A body, ready to be sent, and what reading its answer needs to know."""

    body: bytes = b""
    label_wrapped: bool = False
    """The answer is an object that holds the label."""
    prefill_tail: str = ""
    """White space that was cut off the prefill and that the answer may begin with."""
    notes: list[str] = field(default_factory=list[str])


def build(call: ProviderCall, provider: str) -> AnthropicRequest:
    """Build the body of a call.

    Args:
        call: what was asked.
        provider: the provider's configured name; empty when it is not known. Only its own opaque state is sent back.

    Raises:
        ProviderFailure: INVALID_REQUEST, when the call cannot be said in this API.
    """
    built = AnthropicRequest()
    model, parameters = call.model, call.parameters
    limit = min(DEFAULT_MAX_TOKENS, model.max_output_tokens or DEFAULT_MAX_TOKENS)
    max_tokens = limit if parameters.max_tokens is None else parameters.max_tokens
    body: _Block = {"model": model.wire_id, "max_tokens": max_tokens}
    if call.stream:
        body["stream"] = True
    budget = _reasoning(call, max_tokens, body, built)
    if call.tools:
        body["tools"] = _tools(call)
        _tool_choice(call, body, built, thinking=budget)
    spoken = _output(call, body, built)
    system = _system(call, spoken)
    if system:
        body["system"] = system
    elif call.tools and _cached(call):
        tools = body["tools"]
        assert isinstance(tools, list)
        tools[-1]["cache_control"] = _cache_control(call.cache)
    body["messages"] = _messages(call, provider, built)
    _sampling(call, body, built, thinking=budget)
    body.update(call.extra_body)
    built.body = encoded(body)
    return built


def _reasoning(call: ProviderCall, max_tokens: int, body: _Block, built: AnthropicRequest) -> bool:
    """Say how much to think; gives whether a token budget was set, which forbids other settings."""
    effort, options = call.parameters.reasoning_effort, call.model.options
    if Feature.REASONING not in call.model.features:
        if effort not in (None, ReasoningEffort.NONE):
            built.notes.append("the model does not think before it answers; the reasoning effort was dropped")
        return False
    if options.get("thinking") == "budget":
        if effort in (None, ReasoningEffort.NONE):
            return False  # these models think only when told to
        if call.prefill:
            built.notes.append("the model does not think when it continues an answer; the reasoning effort was dropped")
            return False
        budget = min(_BUDGETS[effort], max_tokens - 1)
        if budget < _LEAST_BUDGET:
            built.notes.append("max_tokens leaves no room to think; the reasoning effort was dropped")
            return False
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
        return True
    if effort is ReasoningEffort.NONE:
        off = options.get("thinking_off", "disabled")
        if off == "never":
            built.notes.append("the model always thinks; it was asked to think as little as it can")
            body["output_config"] = {"effort": "low"}
        else:
            body["thinking"] = {"type": off}
        return False
    if effort is not None:
        body["output_config"] = {"effort": effort.word}
    if effort is not None or call.want_reasoning:
        # Newer models leave the text of their thinking out unless it is asked for.
        display = {"display": "summarized"} if call.want_reasoning else {}
        body["thinking"] = {"type": "adaptive", **display}
    return False


def _tools(call: ProviderCall) -> list[_Block]:
    tools: list[_Block] = []
    for tool in call.tools:
        block: _Block = {"name": tool.name}
        if tool.description:
            block["description"] = tool.description
        schema = json_object(tool.parameters_schema, f"the parameters of the tool {tool.name} are")
        block["input_schema"] = {"type": "object", **schema}
        tools.append(block)
    return tools


def _tool_choice(call: ProviderCall, body: _Block, built: AnthropicRequest, *, thinking: bool) -> None:
    match call.tool_choice.mode:
        case ToolMode.AUTO:
            if call.tool_choice.is_single:
                body["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
            return
        case ToolMode.NONE:
            body["tool_choice"] = {"type": "none"}
            return
        case ToolMode.REQUIRED:
            choice: _Block = {"type": "any"}
        case ToolMode.NAMED:
            choice = {"type": "tool", "name": call.tool_choice.name}
    if call.tool_choice.is_single:
        choice["disable_parallel_tool_use"] = True
    if thinking or call.model.options.get("forced_tools") == "no":
        built.notes.append("the model cannot be forced to call a tool here; the choice was left to it")
    else:
        body["tool_choice"] = choice


def _output(call: ProviderCall, body: _Block, built: AnthropicRequest) -> str:
    """Set the output format where the model keeps to one; gives what must be said in words."""
    output = call.output
    if output is None:
        return ""
    schema: _Block | None = None
    if Feature.JSON_SCHEMA in call.model.features:
        if isinstance(output, LabelOutput):
            schema = label_object_schema(output)
        else:
            schema = supported_schema(output.schema)
            if schema is None and output.schema:
                built.notes.append("the provider cannot enforce this schema; the model was told it in words")
    if schema is None:
        return instruction(output, enforced=False)
    config = body.setdefault("output_config", {})
    assert isinstance(config, dict)
    config["format"] = {"type": "json_schema", "schema": schema}
    built.label_wrapped = isinstance(output, LabelOutput)
    return instruction(output, enforced=True)


def _system(call: ProviderCall, spoken: str) -> list[_Block]:
    blocks: list[_Block] = []
    if call.system_static.strip():
        block = _text(call.system_static)
        if _cached(call):
            block["cache_control"] = _cache_control(call.cache)
        blocks.append(block)
    dynamic = "\n\n".join(part for part in (call.system_dynamic, spoken) if part.strip())
    if dynamic:
        blocks.append(_text(dynamic))
    return blocks


def _cached(call: ProviderCall) -> bool:
    return call.cache is not CacheHint.NONE and Feature.CACHE_CONTROL in call.model.features


def _cache_control(cache: CacheHint) -> _Block:
    return {"type": "ephemeral", "ttl": "1h"} if cache is CacheHint.ONE_HOUR else {"type": "ephemeral"}


def _messages(call: ProviderCall, provider: str, built: AnthropicRequest) -> list[_Block]:
    """Give the turns: neighbours of one role are one turn, and results of tools come first in theirs."""
    turns: list[tuple[str, list[_Block]]] = []
    for message in call.messages:
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        blocks = [_part(part) for part in message.parts if not (isinstance(part, Text) and not part.text.strip())]
        if message.provider_state is not None:
            blocks = _with_state(message, blocks, call, provider, built)
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    if call.prefill and Feature.PREFILL in call.model.features:
        # The API refuses a prefill that ends with white space.
        cut = call.prefill.rstrip()
        built.prefill_tail = call.prefill[len(cut) :]
        if cut:
            turns.append(("assistant", [_text(cut)]))
    elif call.prefill:
        raise invalid_request("the model cannot continue an answer that was begun")
    for _, blocks in turns:
        blocks.sort(key=lambda block: block["type"] != "tool_result")
    return [{"role": role, "content": blocks} for role, blocks in turns if blocks]


def _part(part: Part) -> _Block:
    match part:
        case Text():
            return _text(part.text)
        case Image(url=str(url)) if url:
            return {"type": "image", "source": {"type": "url", "url": url}}
        case Image():
            data = base64.b64encode(part.data or b"").decode()
            return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": data}}
        case ToolCall():
            arguments = json_object(part.arguments, f"the arguments of the tool call {part.id} are")
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
        case ToolResult():
            block: _Block = {"type": "tool_result", "tool_use_id": part.tool_call_id, "content": part.content}
            if part.is_error:
                block["is_error"] = True
            return block


def _with_state(
    message: Message, blocks: Sequence[_Block], call: ProviderCall, provider: str, built: AnthropicRequest
) -> list[_Block]:
    """Put the signed thinking back where it stood, if it is this model's own."""
    state = message.provider_state
    assert state is not None
    try:
        thoughts = _STATE_DECODER.decode(state.data)
    except msgspec.DecodeError:
        thoughts = []
    if not thoughts or state.model != call.model.id or (provider and state.provider != provider):
        built.notes.append("signed thinking of another provider or model was left out")
        return list(blocks)
    total = sum(block["type"] == "tool_use" for block in blocks)
    placed: list[_Block] = []
    calls = 0
    for block in blocks:
        is_call = block["type"] == "tool_use"
        # A turn may not end with a thought, so what came after everything else goes before the last call or in front.
        due = [
            each
            for each in thoughts
            if min(each.calls, max(total - 1, 0)) <= calls and (is_call or not total or not each.after_text)
        ]
        thoughts = [each for each in thoughts if each not in due]
        placed.extend(each.sent() for each in due)
        placed.append(block)
        calls += is_call
    return placed


def _sampling(call: ProviderCall, body: _Block, built: AnthropicRequest, *, thinking: bool) -> None:
    parameters = call.parameters
    temperature, top_p = parameters.temperature, parameters.top_p
    if temperature is not None or top_p is not None:
        if thinking or Feature.TEMPERATURE not in call.model.features:
            built.notes.append("the model takes no temperature or top_p; they were dropped")
        elif temperature is not None:
            body["temperature"] = min(temperature, 1.0)
            if temperature > 1.0:
                built.notes.append("the provider's highest temperature is 1; it was lowered to that")
            if top_p is not None:
                built.notes.append("the provider takes temperature or top_p; top_p was dropped")
        else:
            body["top_p"] = top_p
    if parameters.seed is not None:
        built.notes.append("the provider takes no seed; it was dropped")
    stop = [each for each in parameters.stop if each.strip()]
    if stop:
        body["stop_sequences"] = stop
    if len(stop) < len(parameters.stop):
        built.notes.append("the provider takes no stop sequence of white space; it was dropped")


def _text(text: str) -> _Block:
    return {"type": "text", "text": text}
