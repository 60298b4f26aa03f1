"""What comes back in OpenAI's chat and completions formats: frames of a stream, or the whole answer, folded into chunks.

Rules: pure. Unknown fields are passed over; missing ones and nulls are tolerated; a wrong type is malformed. An error
may stand in any frame, also under status 200. Only the first choice counts. Finish reason, usage and what must come
back with the turn are given in the last chunk, since the usage follows the finish reason.
"""

from __future__ import annotations

import math

from gearshift.core.answer import Usage
from gearshift.core.events import ReasoningDelta, TextDelta, ToolCallFragment
from gearshift.core.failures import ProviderFailure
from gearshift.core.provider import Chunk, TokenLogprob
from gearshift.core.providers._openai_frames import (
    ERRORS,
    FRAMES,
    VECTORS,
    WireChoice,
    WireError,
    WireFrame,
    WireFunction,
    WireToken,
    WireToolCall,
    WireUsage,
)
from gearshift.core.providers._wire import UNREADABLE, classify, cut, failure, is_one_token, malformed
from gearshift.core.words import FailureKind, FinishReason

_FINISH = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}

# Finish reasons that are failures of the server.
_BROKEN = {
    "insufficient_system_resource": FailureKind.OVERLOAD,  # DeepSeek
    "error": FailureKind.SERVER,
    "abort": FailureKind.SERVER,  # vLLM
}


class AnswerFold:
    """One answer, as far as it has come.

    Args:
        want_reasoning: give reasoning as parts; else it only counts as progress.
        keep_reasoning: it must come back with the turn whose tool calls it led to.
        may_be_empty: an answer without text is complete, since a prefill or a stop sequence may leave nothing.
    """

    __slots__ = (
        "_began",
        "_finish",
        "_keep_reasoning",
        "_may_be_empty",
        "_names",
        "_reasoning",
        "_refused",
        "_saw_text",
        "_unfinished_calls",
        "_want_reasoning",
        "done",
        "moved",
        "usage",
    )

    def __init__(self, *, want_reasoning: bool, keep_reasoning: bool, may_be_empty: bool) -> None:
        self._want_reasoning = want_reasoning
        self._keep_reasoning = keep_reasoning
        self._may_be_empty = may_be_empty
        self._began = False
        self._finish: FinishReason | None = None
        self._names: dict[int, int] = {}
        self._unfinished_calls: set[int] = set()
        self._reasoning: list[str] = []
        self._refused = False
        self._saw_text = False
        self.done = False
        """The end mark has come."""
        self.moved = False
        """Something of the answer came since this was last set to False, reasoning too."""
        self.usage: Usage | None = None

    def add(self, payload: bytes, chunk: Chunk) -> None:
        """Fold one frame, or a whole answer, into the chunk.

        Raises:
            ProviderFailure: the frame is an error, or cannot be read.
        """
        self._began = True
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            frame = FRAMES.decode(payload)
        except UNREADABLE as error:
            raise malformed("a frame of the answer is not what the format says") from error
        if frame.error is not None or frame.object == "error":
            raise _frame_failure(frame)
        if frame.choices:
            choice = frame.choices[0]
            if not choice.index:
                self._choice(choice, chunk)
        usage = frame.usage or (frame.x_groq.usage if frame.x_groq else None)
        if usage is not None:
            self.usage = chunk.usage = _usage(usage)
            chunk.stale = False

    def add_whole(self, body: bytes, chunk: Chunk) -> None:
        """Fold a whole answer into the chunk.

        Raises:
            ProviderFailure: as `add`.
        """
        chunk.uncounted = True  # nothing is to be counted
        self.add(body, chunk)
        self.done = True
        chunk.tokens = 0
        chunk.uncounted = chunk.stale = False

    def end(self, chunk: Chunk) -> None:
        """Complete the last chunk, once everything has come.

        Raises:
            ProviderFailure: the answer was cut, refused or empty.
        """
        if not self.done and not self._began:
            raise failure(FailureKind.EMPTY)
        if not self.done and self._finish is None:
            raise cut()
        if self._refused and not self._saw_text:
            raise failure(FailureKind.CONTENT_REFUSED)
        finish = self._finish or FinishReason.STOP
        if not self._saw_text and not self._names:
            if finish is FinishReason.CONTENT_FILTER:
                raise failure(FailureKind.CONTENT_REFUSED)
            if finish is not FinishReason.LENGTH and not self._may_be_empty:
                raise failure(FailureKind.EMPTY)
        if self._names:
            # Some servers end tool calls with "stop".
            finish = FinishReason.TOOL_CALLS if finish is FinishReason.STOP else finish
            chunk.parts.extend(ToolCallFragment(index, "", "", "{}") for index in sorted(self._unfinished_calls))
            if self._keep_reasoning and self._reasoning:
                chunk.provider_state = "".join(self._reasoning).encode()
        chunk.usage = self.usage
        chunk.finish_reason = finish

    def _choice(self, choice: WireChoice, chunk: Chunk) -> None:
        message = choice.delta or choice.message
        scored = choice.logprobs.content if choice.logprobs is not None else None
        if message is None:
            content = choice.text
        else:
            content = message.content
            reasoning = message.reasoning_content or message.reasoning
            if reasoning:
                self._reason(reasoning, chunk)
                chunk.stale = chunk.uncounted = True
        if content:
            self._text(content, chunk)
            chunk.stale = chunk.usage is not None
            if scored:
                chunk.tokens += len(scored)
            else:
                chunk.tokens += 1
                if not chunk.uncounted and not is_one_token(content):
                    chunk.uncounted = True
        if message is not None:
            if message.tool_calls:
                for call in message.tool_calls:
                    self._tool_call(call, chunk)
                chunk.tokens += 1
                chunk.stale = chunk.uncounted = True
            if message.refusal:
                self._refused = self.moved = True
                chunk.stale = chunk.uncounted = True
        if scored:
            _logprobs(scored, chunk)
        if choice.finish_reason:
            if (kind := _BROKEN.get(choice.finish_reason)) is not None:
                raise failure(kind)
            self._finish = _FINISH.get(choice.finish_reason, FinishReason.STOP)

    def _text(self, text: str, chunk: Chunk) -> None:
        self._saw_text = self.moved = True
        parts = chunk.parts
        if parts and isinstance(last := parts[-1], TextDelta):
            parts[-1] = TextDelta(last.text + text)
        else:
            parts.append(TextDelta(text))

    def _reason(self, text: str, chunk: Chunk) -> None:
        self.moved = True
        if self._keep_reasoning:
            self._reasoning.append(text)
        if not self._want_reasoning:
            return
        parts = chunk.parts
        if parts and isinstance(last := parts[-1], ReasoningDelta):
            parts[-1] = ReasoningDelta(last.text + text)
        else:
            parts.append(ReasoningDelta(text))

    def _tool_call(self, call: WireToolCall, chunk: Chunk) -> None:
        """Add a fragment; calls are counted in the order in which they come, whatever the server numbers them."""
        self.moved = True
        function = call.function or WireFunction()
        arguments = function.arguments or ""
        numbers = self._names
        # Without a number, a fragment that has a name begins a call and any other goes on with the last one.
        key = call.index if call.index is not None else len(numbers) - (not function.name and bool(numbers))
        index = numbers.get(key)
        if index is None:
            index = numbers[key] = len(numbers)
            fragment = ToolCallFragment(index, call.id or f"call_{index}", function.name or "", arguments)
            self._unfinished_calls.add(index)
        else:
            fragment = ToolCallFragment(index, "", "", arguments)
        if arguments:
            self._unfinished_calls.discard(index)
        parts = chunk.parts
        if parts and isinstance(last := parts[-1], ToolCallFragment) and last.index == index:
            parts[-1] = ToolCallFragment(index, last.id, last.name, last.arguments + arguments)
        elif fragment.id or arguments:
            parts.append(fragment)


def vectors(body: bytes, count: int) -> tuple[tuple[tuple[float, ...], ...], Usage | None]:
    """Read an answer of vectors, in the order of the inputs, and what they used, None where it does not say.

    Raises:
        ProviderFailure: EMPTY, or MALFORMED when it cannot be read or has not one vector for each input.
    """
    if not body.strip():
        raise failure(FailureKind.EMPTY)
    try:
        answer = VECTORS.decode(body)
    except UNREADABLE as error:
        raise malformed("the answer is not what the format says") from error
    placed = {
        vector.index if vector.index is not None else at: vector.embedding for at, vector in enumerate(answer.data)
    }
    if len(answer.data) != count or set(placed) != set(range(count)):
        raise malformed("the answer does not have one vector for each input")
    usage = answer.usage or WireUsage()
    tokens = usage.prompt_tokens if usage.prompt_tokens is not None else usage.total_tokens
    return tuple(placed[at] for at in range(count)), None if tokens is None else Usage(input_tokens=tokens)


def kind_of_error(status: int, body: bytes) -> FailureKind:
    """Tell what an error answer means; a body that says nothing leaves it to the status."""
    try:
        said = ERRORS.decode(body)
    except UNREADABLE:
        return classify(status, (), "")
    return _kind(status, said.error, said.message or str(said.detail or ""), said.type, said.code)


def room_of_error(body: bytes) -> str:
    """Give how long the prompt was and how much fits, where the server counts; else an empty text."""
    try:
        error = ERRORS.decode(body).error
    except UNREADABLE:
        return ""
    if (
        not isinstance(error, WireError)
        or not isinstance(error.n_prompt_tokens, int)
        or not isinstance(error.n_ctx, int)
    ):
        return ""
    return f": it has {error.n_prompt_tokens} tokens of at most {error.n_ctx}"


def _frame_failure(frame: WireFrame) -> ProviderFailure:
    return failure(_kind(None, frame.error, frame.message, frame.type, frame.code))


def _kind(
    status: int | None, error: WireError | str | None, message: str | None, type_: str | None, code: str | int | None
) -> FailureKind:
    if isinstance(error, WireError):
        message, type_, code = error.message, error.type, error.code
    elif error is not None:
        message = error
    if isinstance(code, str) and code.isdecimal():
        code = int(code)
    if status is None and isinstance(code, int) and 400 <= code < 600:
        status = code
    return classify(status, [word for word in (code, type_) if isinstance(word, str)], message or "")


def _usage(usage: WireUsage) -> Usage:
    given, made = usage.prompt_tokens_details, usage.completion_tokens_details
    cached = given.cached_tokens if given is not None else None
    return Usage(
        input_tokens=usage.prompt_tokens or 0,
        output_tokens=usage.completion_tokens or 0,
        cache_write_tokens=(given.cache_write_tokens or 0) if given is not None else 0,
        cache_read_tokens=(cached if cached is not None else usage.prompt_cache_hit_tokens) or 0,
        reasoning_tokens=(made.reasoning_tokens or 0) if made is not None else 0,
    )


def _logprobs(tokens: list[WireToken], chunk: Chunk) -> None:
    for token in tokens:
        if token.token is None or token.logprob is None or not math.isfinite(token.logprob):
            continue
        others = [
            other.logprob
            for other in token.top_logprobs or ()
            if other.logprob is not None and other.token != token.token and math.isfinite(other.logprob)
        ]
        chunk.logprobs.append(TokenLogprob(token.token, token.logprob, max(others, default=None)))
