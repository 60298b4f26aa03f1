"""The body of a call in OpenAI's chat and embeddings formats.

Rules: pure. The order is tools, static prompt, variables, messages, so that the prefix that repeats comes first. What
the model or its server does not take is left out and said in a note, except where leaving it out would change what was
asked: that is an invalid request.
"""

from __future__ import annotations

import base64
import re

from msgspec import Struct

from gearshift.core.catalogue import Feature, Model
from gearshift.core.provider import EmbedCall, ProviderCall
from gearshift.core.providers._openai_dialects import Dialect, LabelForm, PrefillForm, SchemaForm
from gearshift.core.providers._openai_schema import read_schema
from gearshift.core.providers._outgoing import invalid_request
from gearshift.core.providers._spoken import instruction
from gearshift.core.request import (
    Image,
    JsonOutput,
    LabelOutput,
    Message,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from gearshift.core.words import ReasoningEffort, Role, ToolMode, Truncation

_Fields = dict[str, object]

_RUNNERS_UP = 2
"""`top_logprobs`: the token itself and the likeliest other one."""

_NO_PARAMETERS: _Fields = {"type": "object", "properties": {}}


class OpenAiRequest(Struct):
    """A body, ready to be encoded, where it goes under the base URL, and what was left out."""

    path: str = "/chat/completions"
    body: _Fields = {}
    notes: list[str] = []


def chat_request(call: ProviderCall, dialect: Dialect) -> OpenAiRequest:
    """Build the body of a call for an answer.

    Raises:
        ProviderFailure: INVALID_REQUEST, when the model or its server cannot do what is asked.
    """
    request = OpenAiRequest()
    body = request.body
    body["model"] = call.model.wire_id
    spoken = "" if call.output is None else _output(call, dialect, request)
    system = call.system_static + call.system_dynamic
    if spoken:
        system = f"{system}\n\n{spoken}" if system else spoken
    messages: list[_Fields] = [{"role": "system", "content": system}] if system else []
    for message in call.messages:
        if len(message.parts) == 1 and isinstance(only := message.parts[0], Text):  # most turns
            messages.append({"content": only.text, "role": "assistant" if message.role is Role.ASSISTANT else "user"})
        else:
            messages.extend(_messages(message, call.model, dialect))
    if call.prefill:
        messages.append(_prefill(call.prefill, dialect, request))
    body["messages"] = messages
    if call.tools:
        _tools(call, request)
    _parameters(call, dialect, request)
    if call.want_logprobs and _takes(call.model, Feature.LOGPROBS, dialect.logprobs, "log-probabilities", request):
        body["logprobs"] = True
        body["top_logprobs"] = _RUNNERS_UP
    if call.stream:
        body["stream"] = True
        if dialect.stream_usage:
            body["stream_options"] = {"include_usage": True, **dialect.usage_options}
    if dialect.cache_key and call.cache_key:
        body[dialect.cache_key] = call.cache_key
    if dialect.chat:
        body.update(dialect.chat)
    if call.extra_body:
        body.update(call.extra_body)
    return request


def embed_request(call: EmbedCall, dialect: Dialect) -> OpenAiRequest:
    """Build the body of a call for vectors."""
    request = OpenAiRequest(path="/embeddings")
    body = request.body
    body["model"] = call.model.wire_id
    body["input"] = call.inputs
    body["encoding_format"] = "float"
    # The model's own length goes unsaid: servers whose models have only one refuse the field.
    if call.dimensions is not None and call.dimensions != next(iter(call.model.dimensions), None):
        body["dimensions"] = call.dimensions
    if call.truncation is Truncation.END:
        body.update(dialect.truncate)
        if not dialect.truncate:
            request.notes.append("the provider does not cut texts that are too long; it refuses them")
    if call.input_type is not None:
        request.notes.append("the provider does not tell queries from documents; the input type was left out")
    body.update(call.extra_body)
    return request


# Messages


def _messages(message: Message, model: Model, dialect: Dialect) -> list[_Fields]:
    """Give one turn as the messages that it is: each tool result is a message of its own."""
    texts: list[str] = []
    content: list[_Fields] = []
    calls: list[_Fields] = []
    results: list[_Fields] = []
    has_image = False
    for part in message.parts:
        match part:
            case Text():
                texts.append(part.text)
                content.append({"type": "text", "text": part.text})
            case Image():
                has_image = True
                content.append({"type": "image_url", "image_url": {"url": _image_url(part, model)}})
            case ToolCall():
                function = {"name": part.name, "arguments": part.arguments or "{}"}
                calls.append({"id": part.id, "type": "function", "function": function})
            case ToolResult():
                # The format has no mark for a failed tool, so the model reads it.
                said = f"Error: {part.content}" if part.is_error else part.content
                results.append({"role": "tool", "tool_call_id": part.tool_call_id, "content": said})
    turns = results
    if content or calls or not results:
        # Plain text goes as a string: some servers' templates know nothing else.
        turn: _Fields = {"content": content if has_image else "\n\n".join(texts)}
        turn["role"] = "assistant" if message.role is Role.ASSISTANT else "user"
        if calls:
            turn["tool_calls"] = calls
            turn["content"] = turn["content"] or None
            state = message.provider_state
            if dialect.state_from_reasoning and state is not None and state.model == model.id:
                turn["reasoning_content"] = state.data.decode(errors="replace")
        turns.append(turn)
    return turns


def _image_url(image: Image, model: Model) -> str:
    if Feature.IMAGES not in model.features:
        raise invalid_request("the model does not take images")
    if image.data is None:
        return image.url or ""
    return f"data:{image.media_type or 'image/png'};base64,{base64.b64encode(image.data).decode()}"


def _prefill(text: str, dialect: Dialect, request: OpenAiRequest) -> _Fields:
    turn: _Fields = {"role": "assistant", "content": text}
    match dialect.prefill:
        case PrefillForm.NONE:
            raise invalid_request("the provider does not continue a partial answer")
        case PrefillForm.PREFIX:
            turn["prefix"] = True
            request.path = "/beta/chat/completions"
        case PrefillForm.CONTINUE_FINAL:
            request.body["continue_final_message"] = True
            request.body["add_generation_prompt"] = False
        case PrefillForm.LAST_ASSISTANT:
            pass
    return turn


# Tools


def _tools(call: ProviderCall, request: OpenAiRequest) -> None:
    if Feature.TOOLS not in call.model.features:
        if call.tool_choice.mode in (ToolMode.REQUIRED, ToolMode.NAMED):
            raise invalid_request("the model does not call tools")
        request.notes.append("the model does not call tools; they were left out")
        return
    request.body["tools"] = [_tool(tool) for tool in call.tools]
    if (choice := _tool_choice(call.tool_choice)) is not None:
        request.body["tool_choice"] = choice
    if call.tool_choice.is_single:
        request.body["parallel_tool_calls"] = False


def _tool(tool: Tool) -> _Fields:
    function: _Fields = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = read_schema(tool.parameters_schema).raw if tool.parameters_schema else _NO_PARAMETERS
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice) -> object:
    match choice.mode:
        case ToolMode.AUTO:
            return None
        case ToolMode.NAMED:
            return {"type": "function", "function": {"name": choice.name}}
        case ToolMode.NONE | ToolMode.REQUIRED:
            return choice.mode.word


# Parameters


def _parameters(call: ProviderCall, dialect: Dialect, request: OpenAiRequest) -> None:
    parameters, model, body = call.parameters, call.model, request.body
    temperature, top_p = parameters.temperature, parameters.top_p
    if (temperature is not None or top_p is not None) and _takes(
        model, Feature.TEMPERATURE, True, "temperature and top_p", request
    ):
        if temperature is not None:
            body["temperature"] = temperature
        if top_p is not None:
            body["top_p"] = top_p
    if parameters.max_tokens is not None:
        body[dialect.max_tokens] = min(parameters.max_tokens, model.max_output_tokens or parameters.max_tokens)
    if parameters.stop:
        stop = parameters.stop[: dialect.max_stops] if dialect.max_stops else parameters.stop
        body["stop"] = stop
        if len(stop) < len(parameters.stop):
            request.notes.append(f"the provider takes {dialect.max_stops} stop sequences; the others were left out")
    if parameters.seed is not None and _takes(model, Feature.SEED, True, "a seed", request):
        body["seed"] = parameters.seed
    _effort(parameters.reasoning_effort, model, dialect, request)


def _effort(effort: ReasoningEffort | None, model: Model, dialect: Dialect, request: OpenAiRequest) -> None:
    if Feature.REASONING not in model.features:
        if effort not in (None, ReasoningEffort.NONE):
            request.notes.append("the model takes no reasoning effort; it was left out")
        return
    request.body.update(dialect.reasoning)
    if effort is not None:
        request.body.update(dialect.effort.get(effort, {}))


def _takes(model: Model, feature: Feature, dialect_takes: bool, what: str, request: OpenAiRequest) -> bool:
    if dialect_takes and feature in model.features:
        return True
    request.notes.append(f"the model does not take {what}; left out")
    return False


# Output specs


def _output(call: ProviderCall, dialect: Dialect, request: OpenAiRequest) -> str:
    """Hold the model to the output spec as far as its server can; gives what it must be told in words."""
    match call.output:
        case None:
            return ""
        case LabelOutput():
            return _labels(call.output, call.model, dialect, request)
        case JsonOutput():
            return _json(call.output, call.model, dialect, request)


def _labels(output: LabelOutput, model: Model, dialect: Dialect, request: OpenAiRequest) -> str:
    # The bare label is asked for, never a JSON object around it, so that the log-probabilities are the label's own.
    if Feature.JSON_SCHEMA in model.features:
        if dialect.labels is LabelForm.CHOICE:
            request.body["structured_outputs"] = {"choice": output.labels}
        elif dialect.labels is LabelForm.GRAMMAR:
            request.body["grammar"] = "root ::= " + " | ".join(_gbnf(label) for label in output.labels)
    return instruction(output, enforced=False)


def _gbnf(text: str) -> str:
    """Give a GBNF literal: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md."""
    return '"' + "".join(c if c.isalnum() or c in " _-" else f"\\U{ord(c):08X}" for c in text) + '"'


def _json(output: JsonOutput, model: Model, dialect: Dialect, request: OpenAiRequest) -> str:
    # 1. A grammar takes any schema; 2. strict mode takes its subset; 3. others are told in words, and JSON is asked for
    #    where the schema's root may be an object.
    can = Feature.JSON_SCHEMA in model.features
    schema = read_schema(output.schema) if output.schema else None
    if schema is not None and can:
        wanted: _Fields = {"name": _schema_name(output.name), "schema": schema.raw}
        if dialect.schema is SchemaForm.GRAMMAR:
            request.body["response_format"] = {"type": "json_schema", "json_schema": wanted}
            return instruction(output, enforced=True)
        if dialect.schema is SchemaForm.STRICT and schema.is_object:
            wanted["strict"] = schema.is_strict
            request.body["response_format"] = {"type": "json_schema", "json_schema": wanted}
            if not schema.is_strict:
                request.notes.append(
                    "the schema is outside the provider's strict subset; it is asked for, not enforced"
                )
            return instruction(output, enforced=schema.is_strict)
    if schema is not None:
        request.notes.append("the provider does not enforce this schema; it was put into the prompt")
    if (can or Feature.JSON_OBJECT in model.features) and (schema is None or schema.is_object):
        request.body["response_format"] = {"type": "json_object"}
    return instruction(output, enforced=False)


def _schema_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "answer"
