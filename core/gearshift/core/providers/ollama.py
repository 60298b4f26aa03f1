"""Ollama's own API, `/api/chat` and `/api/embed`, spoken directly.

Rules: one upstream read is one chunk, and one line of a stream is one token of text, unless it cannot be. A prompt that is longer than the
model's context is an error, not silently cut, since Ollama is asked not to truncate. An error may come as a line inside
a 200 stream; its words are only looked at, never passed on. `keep_alive` is left to the server.

What a model wants beyond its features is in its options, as words:
    think    `switch` (default): thinking is on or off; `levels`: it takes low, medium and high
    num_ctx  the context to load the model with, tokens; without it the server's own default counts

Source: https://docs.ollama.com/api and the types of the ollama package 0.6.3.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from gearshift.core.answer import Usage
from gearshift.core.catalogue import Feature
from gearshift.core.events import ReasoningDelta, TextDelta, ToolCallFragment
from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http, Woken
from gearshift.core.provider import Chunk, EmbedCall, EmbedResult, ProviderCall, TokenLogprob
from gearshift.core.providers._incoming import GatheredAnswer, require_answer
from gearshift.core.providers._outgoing import encoded, headers_of, invalid_request, json_object
from gearshift.core.providers._spoken import instruction, label_schema, unwrapped_label
from gearshift.core.providers._wire import (
    UNREADABLE,
    LineSplitter,
    classify,
    failure,
    is_one_token,
    malformed,
    retry_after_s,
)
from gearshift.core.request import Image, LabelOutput, Message, Text, ToolCall, ToolResult
from gearshift.core.words import FailureKind, FinishReason, ReasoningEffort, Role, ToolMode, Truncation

BASE_URL = "http://127.0.0.1:11434"

_TOP_LOGPROBS = 2
"""The chosen token and its likeliest rival."""

_Block = dict[str, object]


class OllamaProvider:
    """The `ollama` adapter. Tasks may share it.

    Args:
        http: the shared HTTP layer; it is not closed here.
    """

    def __init__(self, http: Http) -> None:
        self._http = http

    async def stream(self, call: ProviderCall) -> AsyncGenerator[Chunk]:
        """Give the answer, one chunk an upstream read; unary calls give exactly one.

        Raises:
            ProviderFailure: anything went wrong upstream, before or after chunks were given.
        """
        request = _chat_request(call)
        response = await self._http.open(
            url=f"{call.account.base_url or BASE_URL}/api/chat",
            headers=headers_of(call.account),
            body=request.body,
            timeouts=call.timeouts,
            stream=call.stream,
            more=call.trace_head,
        )
        answer = _Answer(request.notes, label_wrapped=request.label_wrapped, want_reasoning=call.want_reasoning)
        try:
            await require_answer(response, _http_failure)
            lines = LineSplitter()
            if call.wake is not None:
                call.wake.by(response.wake)
            while not answer.ended:
                try:
                    data = await (response.read() if call.stream else response.read_all())
                except Woken:
                    yield Chunk()
                    continue
                last = not data or not call.stream
                answer.take([*lines.feed(data), *lines.finish()] if last else lines.feed(data))
                if answer.progressed:
                    answer.progressed = False
                    response.progress()
                if answer.ended:
                    response.finish()
                if (chunk := answer.chunk()) is not None:
                    yield chunk
                if answer.failed is not None:
                    raise answer.failed
                if last and not answer.ended:
                    raise answer.broken_off()
        finally:
            response.close()

    async def embed(self, call: EmbedCall) -> EmbedResult:
        """Give one vector an input.

        Raises:
            ProviderFailure: anything went wrong upstream.
        """
        body: _Block = {
            "model": call.model.wire_id,
            "input": list(call.inputs),
            "truncate": call.truncation is Truncation.END,
        }
        if call.dimensions is not None:
            body["dimensions"] = call.dimensions
        if "num_ctx" in call.model.options:
            body["options"] = {"num_ctx": int(call.model.options["num_ctx"])}
        body.update(call.extra_body)
        response = await self._http.open(
            url=f"{call.account.base_url or BASE_URL}/api/embed",
            headers=headers_of(call.account),
            body=encoded(body),
            timeouts=call.timeouts,
            stream=False,
            more=call.trace_head,
        )
        try:
            await require_answer(response, _http_failure)
            data = await response.read_all()
        finally:
            response.close()
        if not data.strip():
            raise failure(FailureKind.EMPTY)
        try:
            embedded = _EMBEDDED.decode(data)
        except UNREADABLE as error:
            raise malformed("the answer is not the JSON that it should be") from error
        if embedded.embeddings is None:
            raise malformed("the answer has no embeddings")
        tokens = embedded.prompt_eval_count
        return EmbedResult(
            vectors=tuple(embedded.embeddings), usage=None if tokens is None else Usage(input_tokens=tokens)
        )

    async def aclose(self) -> None:
        """Do nothing: the connections are the shared layer's."""


@dataclass(slots=True)
class _ChatRequest:
    """A body, ready to be sent, and what reading its answer needs to know."""

    body: bytes = b""
    label_wrapped: bool = False
    notes: list[str] = field(default_factory=list[str])


def _chat_request(call: ProviderCall) -> _ChatRequest:
    built = _ChatRequest()
    body: _Block = {"model": call.model.wire_id, "stream": call.stream, "truncate": False}
    spoken = _format(call, body, built)
    body["messages"] = _messages(call, spoken)
    if call.tools:
        _tools(call, body, built)
    options = _options(call, built)
    if options:
        body["options"] = options
    think = _think(call, built)
    if think is not None:
        body["think"] = think
    if call.want_logprobs:
        body["logprobs"] = True
        body["top_logprobs"] = _TOP_LOGPROBS
    body.update(call.extra_body)
    built.body = encoded(body)
    return built


def _format(call: ProviderCall, body: _Block, built: _ChatRequest) -> str:
    """Set the format where the model keeps to one; gives what must be said in words."""
    output, features = call.output, call.model.features
    if output is None:
        return ""
    if isinstance(output, LabelOutput):
        if Feature.JSON_SCHEMA not in features:
            return instruction(output, enforced=False)
        body["format"] = label_schema(output)
        built.label_wrapped = True
        return instruction(output, enforced=True)
    if output.schema and Feature.JSON_SCHEMA in features:
        body["format"] = json_object(output.schema, "the schema is")
    elif features & {Feature.JSON_SCHEMA, Feature.JSON_OBJECT}:
        body["format"] = "json"
    # Ollama's grammar shapes the answer but tells the model nothing, so the schema is said in any case.
    return instruction(output, enforced=False)


def _messages(call: ProviderCall, spoken: str) -> list[_Block]:
    messages: list[_Block] = []
    system = call.system_static + call.system_dynamic
    system = "\n\n".join(part for part in (system, spoken) if part.strip())
    if system:
        messages.append({"role": "system", "content": system})
    names: dict[str, str] = {}
    for message in call.messages:
        messages.extend(_turn(message, names))
    if call.prefill:
        if Feature.PREFILL not in call.model.features:
            raise invalid_request("the model cannot continue an answer that was begun")
        messages.append({"role": "assistant", "content": call.prefill})
    return messages


def _turn(message: Message, names: dict[str, str]) -> list[_Block]:
    """Give a turn's messages: results of tools are each their own. `names` holds the tools that were called, by id."""
    texts: list[str] = []
    images: list[str] = []
    calls: list[_Block] = []
    results: list[_Block] = []
    for part in message.parts:
        match part:
            case Text():
                texts.append(part.text)
            case Image():
                if part.data is None:
                    raise invalid_request("Ollama does not fetch images: send their bytes instead of a URL")
                images.append(base64.b64encode(part.data).decode())
            case ToolCall():
                names[part.id] = part.name
                arguments = json_object(part.arguments, f"the arguments of the tool call {part.id} are")
                calls.append({"id": part.id, "function": {"name": part.name, "arguments": arguments}})
            case ToolResult():
                result: _Block = {"role": "tool", "content": part.content, "tool_call_id": part.tool_call_id}
                if part.tool_call_id in names:
                    result["tool_name"] = names[part.tool_call_id]
                results.append(result)
    if not (texts or images or calls):
        return results
    role = "assistant" if message.role is Role.ASSISTANT else "user"
    turn: _Block = {"role": role, "content": "\n".join(texts)}
    if images:
        turn["images"] = images
    if calls:
        turn["tool_calls"] = calls
    return [*results, turn]


def _tools(call: ProviderCall, body: _Block, built: _ChatRequest) -> None:
    tools = call.tools
    match call.tool_choice.mode:
        case ToolMode.AUTO:
            pass
        case ToolMode.NONE:
            return
        case ToolMode.REQUIRED:
            built.notes.append("Ollama cannot force a tool call; the choice was left to the model")
        case ToolMode.NAMED:
            tools = tuple(tool for tool in tools if tool.name == call.tool_choice.name)
            built.notes.append("Ollama cannot force a tool call; the model was offered only the named tool")
    body["tools"] = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": {
                    "type": "object",
                    "properties": {},
                    **json_object(tool.parameters_schema, f"the parameters of the tool {tool.name} are"),
                },
            },
        }
        for tool in tools
    ]


def _options(call: ProviderCall, built: _ChatRequest) -> _Block:
    parameters, features = call.parameters, call.model.features
    options: _Block = {}
    if "num_ctx" in call.model.options:
        options["num_ctx"] = int(call.model.options["num_ctx"])
    if parameters.max_tokens is not None:
        options["num_predict"] = parameters.max_tokens
    if parameters.temperature is not None or parameters.top_p is not None:
        if Feature.TEMPERATURE in features:
            options |= {
                name: value
                for name, value in (("temperature", parameters.temperature), ("top_p", parameters.top_p))
                if value is not None
            }
        else:
            built.notes.append("the model takes no temperature or top_p; they were dropped")
    if parameters.seed is not None:
        if Feature.SEED in features:
            options["seed"] = parameters.seed
        else:
            built.notes.append("the model takes no seed; it was dropped")
    if parameters.stop:
        options["stop"] = list(parameters.stop)
    return options


def _think(call: ProviderCall, built: _ChatRequest) -> bool | str | None:
    effort = call.parameters.reasoning_effort
    if Feature.REASONING not in call.model.features:
        if effort not in (None, ReasoningEffort.NONE):
            built.notes.append("the model does not think before it answers; the reasoning effort was dropped")
        return None
    if effort is None:
        return True if call.want_reasoning else None
    if effort is ReasoningEffort.NONE:
        return False
    return effort.word if call.model.options.get("think") == "levels" else True


# What is read. Every field may be missing or null; what is not named here is passed over.


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _ToolCall(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _TopLogprob(msgspec.Struct):
    token: str | None = None
    logprob: float | None = None


class _Logprob(msgspec.Struct):
    token: str | None = None
    logprob: float | None = None
    top_logprobs: list[_TopLogprob] | None = None


class _Line(msgspec.Struct):
    message: _Message | None = None
    logprobs: list[_Logprob] | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: str | dict[str, object] | None = None


class _Embedded(msgspec.Struct):
    embeddings: list[tuple[float, ...]] | None = None
    prompt_eval_count: int | None = None


_LINE = msgspec.json.Decoder(_Line)
_EMBEDDED = msgspec.json.Decoder(_Embedded)

_DONE_REASONS: Mapping[str, FinishReason] = MappingProxyType({"stop": FinishReason.STOP, "length": FinishReason.LENGTH})


class _Answer(GatheredAnswer):
    """An answer made of lines."""

    def take(self, lines: Sequence[bytes]) -> None:
        """Read lines, up to the first failure or the end."""
        for data in lines:
            if not data.strip():
                continue
            self._began = True
            try:
                line = _LINE.decode(data)
            except UNREADABLE:
                self.failed = malformed("a line of the answer is not the JSON that it should be")
                return
            self._line(line)
            if self.ended or self.failed is not None:
                return

    def _line(self, line: _Line) -> None:
        if line.error is not None:
            self.failed = _failure(None, {}, line.error)
            return
        self._anything = True
        chunk = self._next
        if (message := line.message) is not None:
            if message.thinking:
                self.progressed = True
                chunk.uncounted = True
                if self._want_reasoning:
                    chunk.parts.append(ReasoningDelta(message.thinking))
            if message.content:
                self.progressed = True
                if not line.done:  # the line that ends a whole answer holds all of it and counts its tokens itself
                    chunk.tokens += len(line.logprobs) if line.logprobs else 1
                    chunk.uncounted = chunk.uncounted or not (line.logprobs or is_one_token(message.content))
                if self._label is None:
                    chunk.parts.append(TextDelta(message.content))
                else:
                    self._label.append(message.content)
            for call in message.tool_calls or ():
                self._call(call)
        if line.logprobs:
            self._score(line.logprobs)
        if line.done:
            self._end(line)

    def _call(self, call: _ToolCall) -> None:
        self.progressed = True
        self._next.uncounted = True
        function = call.function or _Function()
        arguments = bytes(function.arguments).decode()
        # Older servers give calls no id, and results must name one.
        name = call.id or f"call_{secrets.token_hex(8)}"
        self._next.parts.append(
            ToolCallFragment(self._calls, name, function.name or "", "{}" if arguments == "null" else arguments)
        )
        self._calls += 1

    def _score(self, logprobs: Sequence[_Logprob]) -> None:
        for each in logprobs:
            if each.token is None or each.logprob is None:
                continue
            if self._label is not None and not each.token.strip('" \n\t'):
                continue  # the quotes around a label say nothing of it
            rivals = [
                rival.logprob
                for rival in each.top_logprobs or ()
                if rival.logprob is not None and rival.token != each.token
            ]
            self._next.logprobs.append(TokenLogprob(each.token, each.logprob, max(rivals, default=None)))

    def _end(self, line: _Line) -> None:
        self.ended = True
        chunk = self._next
        if self._label:
            chunk.parts.append(TextDelta(unwrapped_label("".join(self._label))))
        if line.prompt_eval_count is not None or line.eval_count is not None:
            chunk.usage = Usage(input_tokens=line.prompt_eval_count or 0, output_tokens=line.eval_count or 0)
        reason = _DONE_REASONS.get(line.done_reason or "", FinishReason.STOP)
        chunk.finish_reason = FinishReason.TOOL_CALLS if self._calls and reason is FinishReason.STOP else reason


class _ErrorBody(msgspec.Struct):
    error: str | dict[str, object] | None = None


_ERROR_BODY = msgspec.json.Decoder(_ErrorBody)


def _http_failure(status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
    try:
        error = _ERROR_BODY.decode(body).error
    except UNREADABLE:
        error = None
    return _failure(status, headers, error or "")


def _failure(status: int | None, headers: Mapping[str, str], error: str | dict[str, object]) -> ProviderFailure:
    """Tell what an error is; status is None inside a stream. Ollama says in words alone what went wrong."""
    message = error if isinstance(error, str) else str(error.get("message", ""))
    kind = classify(status, (), message)
    if kind is FailureKind.MODEL_NOT_FOUND:
        detail = "the Ollama server does not have the model: pull it with `gearshift models pull`"
        return ProviderFailure(kind, detail, status=status)
    return failure(kind, status=status, retry_after_s=retry_after_s(headers, now=time.time()))
