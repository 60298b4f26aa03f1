"""Anthropic's Messages API, version 2026-10-21, spoken directly.

Rules: one upstream read is one chunk; pings are no progress and give none. The API may send text in pieces of several
tokens, which are not counted; where every piece so far may be one, they are. Usage is cumulative: the last one given
stands. Thinking is signed by the provider; its
blocks leave as opaque state with the last chunk and come back with the turn. Failures are told apart by the error's
type, which also comes inside a 200 stream, and then by the HTTP status; the provider's words are only looked at, never
passed on.

Source: https://platform.claude.com/docs/en/api/messages-streaming and https://platform.claude.com/docs/en/api/errors
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType

import msgspec

from gearshift.core.answer import Usage
from gearshift.core.events import ReasoningDelta, TextDelta, ToolCallFragment
from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http, Woken
from gearshift.core.provider import Account, Chunk, EmbedCall, EmbedResult, ProviderCall
from gearshift.core.providers._anthropic_request import STATE_ENCODER, AnthropicRequest, StateBlock, build
from gearshift.core.providers._incoming import GatheredAnswer, require_answer
from gearshift.core.providers._outgoing import headers_of
from gearshift.core.providers._spoken import unwrapped_label
from gearshift.core.providers._wire import (
    UNREADABLE,
    SseSplitter,
    classify,
    failure,
    is_one_token,
    malformed,
    retry_after_s,
)
from gearshift.core.words import FailureKind, FinishReason

BASE_URL = "https://api.anthropic.com"
VERSION = "2026-10-21"
"""What the anthropic package 2.12 sends as `anthropic-version`."""


class AnthropicProvider:
    """The `anthropic` adapter. Tasks may share it.

    Args:
        http: the shared HTTP layer; it is not closed here.
        name: the provider's configured name. With it, only opaque state of this provider is sent back; without it,
            state of the same model is.
    """

    def __init__(self, http: Http, *, name: str = "") -> None:
        self._http = http
        self._name = name

    async def stream(self, call: ProviderCall) -> AsyncGenerator[Chunk]:
        """Give the answer, one chunk an upstream read; unary calls give exactly one.

        A refusal that comes before any text is CONTENT_REFUSED, after a chunk that holds its usage.

        Raises:
            ProviderFailure: anything went wrong upstream, before or after chunks were given.
        """
        request = build(call, self._name)
        response = await self._http.open(
            url=f"{call.account.base_url or BASE_URL}/v1/messages",
            headers=_headers(call.account, stream=call.stream),
            body=request.body,
            timeouts=call.timeouts,
            stream=call.stream,
            more=call.trace_head,
        )
        answer = _Answer(request, want_reasoning=call.want_reasoning)
        try:
            await require_answer(response, _http_failure)
            if not call.stream:
                answer.take_whole(await response.read_all())
                if (chunk := answer.chunk()) is not None:
                    yield chunk
                if answer.failed is not None:
                    raise answer.failed
                return
            events = SseSplitter()
            if call.wake is not None:
                call.wake.by(response.wake)
            while not answer.ended:
                try:
                    data = await response.read()
                except Woken:
                    yield Chunk()
                    continue
                answer.take(events.feed(data) if data else events.finish())
                if answer.progressed:
                    answer.progressed = False
                    response.progress()
                if answer.ended:
                    response.finish()
                if (chunk := answer.chunk()) is not None:
                    yield chunk
                if answer.failed is not None:
                    raise answer.failed
                if not data and not answer.ended:
                    raise answer.broken_off()
        finally:
            response.close()

    async def embed(self, call: EmbedCall) -> EmbedResult:
        """Refuse: this provider has no embeddings.

        Raises:
            ProviderFailure: INVALID_REQUEST, always.
        """
        raise ProviderFailure(FailureKind.INVALID_REQUEST, f"{call.model.provider_kind} does not embed")

    async def aclose(self) -> None:
        """Do nothing: the connections are the shared layer's."""


def _headers(account: Account, *, stream: bool) -> dict[str, str]:
    accept = "text/event-stream" if stream else "application/json"
    return {"anthropic-version": VERSION, **headers_of(account, accept=accept)}


# What is read. Every field may be missing or null; what is not named here is passed over.


class _CacheCreation(msgspec.Struct):
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None


class _Block(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Delta(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None


class _Details(msgspec.Struct):
    error_code: str | None = None


class _Error(msgspec.Struct):
    type: str | None = None
    message: str | None = None
    details: _Details | None = None


class _Message(msgspec.Struct):
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None
    error: _Error | None = None


class _Event(msgspec.Struct):
    type: str | None = None
    index: int | None = None
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: _Error | None = None


_EVENT = msgspec.json.Decoder(_Event)
_MESSAGE = msgspec.json.Decoder(_Message)

_STOP_REASONS: Mapping[str, FinishReason] = MappingProxyType(
    {
        "end_turn": FinishReason.STOP,
        "stop_sequence": FinishReason.STOP,
        "max_tokens": FinishReason.LENGTH,
        "model_context_window_exceeded": FinishReason.LENGTH,
        "pause_turn": FinishReason.LENGTH,
        "tool_use": FinishReason.TOOL_CALLS,
        "refusal": FinishReason.CONTENT_FILTER,
    }
)


class _Answer(GatheredAnswer):
    """An answer made of content blocks; pings bring nothing."""

    def __init__(self, request: AnthropicRequest, *, want_reasoning: bool) -> None:
        super().__init__(request.notes, label_wrapped=request.label_wrapped, want_reasoning=want_reasoning)
        self._tail = request.prefill_tail
        self._blocks: dict[int, _OpenBlock] = {}
        self._state: list[StateBlock] = []
        self._wrote = False
        self._frames_are_tokens = True
        self._stop_reason = ""
        self._usage = _Usage()

    def take(self, events: Sequence[bytes]) -> None:
        """Read events of a stream, up to the first failure or the end."""
        for data in events:
            self._began = True
            try:
                self._event(_EVENT.decode(data))
            except UNREADABLE:
                self.failed = malformed("an event of the stream is not the JSON that it should be")
            if self.ended or self.failed is not None:
                return

    def _event(self, event: _Event) -> None:
        match event.type:
            case "content_block_delta" if event.delta is not None:
                self._add(event.index or 0, event.delta)
            case "content_block_start" if event.content_block is not None:
                self._open(event.index or 0, event.content_block)
            case "content_block_stop":
                self._shut(event.index or 0)
            case "message_start" if event.message is not None:
                self._count(event.message.usage)
            case "message_delta":
                self._count(event.usage)
                if event.delta is not None and event.delta.stop_reason:
                    self._stop_reason = event.delta.stop_reason
            case "message_stop":
                self._end()
            case "error":
                self.failed = _failure(None, {}, event.error or _Error())
            case _:  # pings, and what the API may add
                pass

    def take_whole(self, data: bytes) -> None:
        """Read a whole answer.

        Raises:
            ProviderFailure: it cannot be read.
        """
        if not data.strip():
            raise self.broken_off()
        try:
            message = _MESSAGE.decode(data)
        except UNREADABLE as error:
            raise malformed("the answer is not the JSON that it should be") from error
        if message.error is not None:
            raise _failure(None, {}, message.error)
        if message.content is None:
            raise malformed("the answer has no content")
        self._frames_are_tokens = False
        self._count(message.usage)
        self._stop_reason = message.stop_reason or ""
        for index, block in enumerate(message.content):
            self._open(index, block)
            self._shut(index)
        self._next.stale = False  # it was counted once all of it was there
        self._end()

    def _open(self, index: int, block: _Block) -> None:
        self._anything = True
        opened = self._blocks[index] = _OpenBlock(block.type or "")
        match block.type:
            case "text":
                self._write(block.text or "")
            case "tool_use":
                self._next.stale = self._next.uncounted = True
                opened.call = self._calls
                self._calls += 1
                self._wrote = self.progressed = True
                # A stream begins with an empty object and sends the real one in pieces.
                opened.arguments = bytes(block.input).decode()
                fragment = ToolCallFragment(opened.call, block.id or f"call_{opened.call}", block.name or "", "")
                self._next.parts.append(fragment)
            case "thinking" | "redacted_thinking":
                self._next.stale = self._next.uncounted = True
                opened.state = StateBlock(
                    type=block.type,
                    thinking=block.thinking or "",
                    signature=block.signature or "",
                    data=block.data,
                    calls=self._calls,
                    after_text=self._wrote,
                )
                self._state.append(opened.state)
                self._think(block.thinking or "")
            case _:
                pass

    def _add(self, index: int, delta: _Delta) -> None:
        self._anything = True
        opened = self._blocks.get(index)
        if delta.text:
            self._write(delta.text)
        elif delta.partial_json and opened is not None and opened.type == "tool_use":
            opened.sent = self.progressed = True
            self._next.stale = self._next.uncounted = True
            self._next.parts.append(ToolCallFragment(opened.call, "", "", delta.partial_json))
        elif opened is not None and opened.state is not None:
            self.progressed = True
            self._next.stale = self._next.uncounted = True
            if delta.thinking:
                opened.state.thinking = (opened.state.thinking or "") + delta.thinking
                self._think(delta.thinking)
            if delta.signature:
                opened.state.signature = (opened.state.signature or "") + delta.signature

    def _shut(self, index: int) -> None:
        opened = self._blocks.pop(index, None)
        if opened is not None and opened.type == "tool_use" and not opened.sent:
            self._anything = True
            self._next.parts.append(
                ToolCallFragment(opened.call, "", "", "{}" if opened.arguments == "null" else opened.arguments)
            )

    def _write(self, text: str) -> None:
        if not text:
            return
        chunk = self._next
        chunk.stale = True
        if self._frames_are_tokens:
            if is_one_token(text):
                chunk.tokens += 1
            else:
                self._frames_are_tokens = False
                chunk.tokens = 0
        if not self._frames_are_tokens:
            chunk.uncounted = True
        if self._tail:
            text = self._untailed(text)
        if not text:
            return
        self._wrote = self.progressed = True
        if self._label is not None:
            self._label.append(text)
        else:
            self._next.parts.append(TextDelta(text))

    def _untailed(self, text: str) -> str:
        """Take off the white space that the prefill already ended with."""
        tail = self._tail
        same = 0
        while same < min(len(tail), len(text)) and tail[same] == text[same]:
            same += 1
        self._tail = tail[same:] if same == len(text) else ""
        return text[same:]

    def _think(self, text: str) -> None:
        if text and self._want_reasoning:
            self._next.parts.append(ReasoningDelta(text))

    def _count(self, usage: _Usage | None) -> None:
        if usage is None:
            return
        self._anything = True
        known = self._usage
        for name in _Usage.__struct_fields__:
            if (value := getattr(usage, name)) is not None:
                setattr(known, name, value)
        written, read = known.cache_creation_input_tokens or 0, known.cache_read_input_tokens or 0
        details, creation = known.output_tokens_details, known.cache_creation
        self._next.stale = False
        self._next.usage = Usage(
            input_tokens=(known.input_tokens or 0) + written + read,
            output_tokens=known.output_tokens or 0,
            cache_write_tokens=written,
            cache_read_tokens=read,
            reasoning_tokens=(details.thinking_tokens or 0) if details is not None else 0,
            cache_write_1h_tokens=(creation.ephemeral_1h_input_tokens or 0) if creation is not None else 0,
        )

    def _end(self) -> None:
        self.ended = True
        self._anything = True
        for index in list(self._blocks):
            self._shut(index)
        if self._stop_reason == "refusal" and not self._wrote:
            self.failed = failure(FailureKind.CONTENT_REFUSED)
            return
        if self._label:
            self._next.parts.append(TextDelta(unwrapped_label("".join(self._label))))
        fallback = FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP
        self._next.finish_reason = _STOP_REASONS.get(self._stop_reason, fallback)
        if self._stop_reason == "pause_turn":
            self._next.notes = ("the provider paused the turn; the answer may be incomplete",)
        if self._state:
            self._next.provider_state = STATE_ENCODER.encode(self._state)


class _OpenBlock:
    """A content block whose end has not come."""

    __slots__ = ("arguments", "call", "sent", "state", "type")

    def __init__(self, kind: str) -> None:
        self.type = kind
        self.call = 0
        self.arguments = ""
        self.sent = False
        self.state: StateBlock | None = None


# Codes of causes that an error's type does not tell.
_ERROR_CODES: Mapping[str, FailureKind] = MappingProxyType(
    {
        "contract_spend_limit_reached": FailureKind.BILLING,
        "enforced_spend_limit_reached": FailureKind.BILLING,
        "linked_organization_billing_unavailable": FailureKind.BILLING,
        "linked_organization_spend_limit_reached": FailureKind.BILLING,
        "organization_on_hold": FailureKind.BILLING,
        "image_dimensions_too_large": FailureKind.INVALID_REQUEST,
    }
)
_TOO_LONG = re.compile(r"prompt is too long|exceed(?:s|ed)? (?:the )?context|context window", re.IGNORECASE)


def _http_failure(status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
    try:
        error = _MESSAGE.decode(body).error or _Error()
    except UNREADABLE:
        error = _Error()
    return _failure(status, headers, error)


def _failure(status: int | None, headers: Mapping[str, str], error: _Error) -> ProviderFailure:
    """Tell what an error is; status is None inside a stream."""
    kind = _kind(status, error)
    return failure(kind, status=status, retry_after_s=retry_after_s(headers, now=time.time()))


def _kind(status: int | None, error: _Error) -> FailureKind:
    name, message = error.type or "", error.message or ""
    code = (error.details.error_code if error.details is not None else None) or ""
    if code in _ERROR_CODES:
        return _ERROR_CODES[code]
    if name == "invalid_request_error":
        if _TOO_LONG.search(message):
            return FailureKind.CONTEXT_LENGTH
        status = status or HTTPStatus.BAD_REQUEST
    return classify(status, (name,), message)
