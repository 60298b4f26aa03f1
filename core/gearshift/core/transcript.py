"""What one attempt has written so far.

Rules: pure. The final text is what the caller is to have: the label itself, or the JSON without fences around it.
Usage is the provider's own count where that covers all that came; else output is counted, where every frame was one
token, or estimated from what reached us. Its source is the least trusted of its parts', so that it is `counted` only where
the input was reported.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs

from gearshift.core.answer import NO_USAGE, Usage
from gearshift.core.confidence.assessment import assessed
from gearshift.core.events import ReasoningDelta, TextDelta
from gearshift.core.failures import ProviderFailure
from gearshift.core.gates.labels import read_label
from gearshift.core.pieces import RUN, folded
from gearshift.core.provider import Chunk, TokenLogprob
from gearshift.core.request import JsonOutput, LabelOutput, Output, ToolCall
from gearshift.core.schema import strip_fence
from gearshift.core.words import FailureKind, FinishReason, UsageSource

_ERROR_STATUS = 400
_NEVER_BILLED = frozenset(
    {
        FailureKind.RATE_LIMIT,
        FailureKind.CONNECT_TIMEOUT,
        FailureKind.AUTHENTICATION,
        FailureKind.BILLING,
        FailureKind.MODEL_NOT_FOUND,
        FailureKind.CONTEXT_LENGTH,
        FailureKind.INVALID_REQUEST,
    }
)
"""Failures that mean that the provider did no work. After any other, without an error status, it may bill the input."""
_LEFT_BY_US = frozenset({FailureKind.MALFORMED, FailureKind.OVERRUN, FailureKind.TOTAL_TIMEOUT})
"""Failures at which we closed the connection while the provider was writing."""


class Transcript:
    """The sum of an attempt's chunks."""

    __slots__ = (
        "_calls",
        "_folded",
        "_is_counted",
        "_is_stale",
        "_texts",
        "finish_reason",
        "first_token_at",
        "label_probabilities",
        "logprobs",
        "notes",
        "provider_state",
        "reasoning_characters",
        "tokens",
        "usage",
    )

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._folded = 0
        """So many of them have been looked at by `fold`."""
        self._calls: dict[int, list[str]] = {}
        self.logprobs: list[TokenLogprob] = []
        self.usage: Usage | None = None
        self.finish_reason: FinishReason | None = None
        self.provider_state: bytes | None = None
        self.label_probabilities: Mapping[str, float] | None = None
        self.notes: tuple[str, ...] = ()
        self.tokens = 0
        self._is_counted = True
        """Whether `tokens` is all that was written."""
        self._is_stale = False
        """Whether something was written after `usage` was counted."""
        self.reasoning_characters = 0
        self.first_token_at: float | None = None

    def add(self, chunk: Chunk, now: float) -> None:
        """Take what one upstream read brought. `now`: seconds, for the time of the first token."""
        if chunk.parts:
            if self.first_token_at is None:
                self.first_token_at = now
            for part in chunk.parts:
                if isinstance(part, TextDelta):
                    self._texts.append(part.text)
                elif isinstance(part, ReasoningDelta):
                    self.reasoning_characters += len(part.text)
                else:
                    call = self._calls.setdefault(part.index, ["", "", ""])
                    call[0] = call[0] or part.id
                    call[1] = call[1] or part.name
                    call[2] += part.arguments
            if chunk.uncounted or not chunk.tokens:
                self._is_counted = False
            self._is_stale = True
        elif chunk.uncounted:
            self._is_counted = False
        self.tokens += chunk.tokens
        if chunk.logprobs:
            self.logprobs += chunk.logprobs
        if chunk.usage is not None:
            self.usage = chunk.usage
            self._is_stale = chunk.stale
        elif chunk.stale:
            self._is_stale = True
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason
        if chunk.provider_state is not None:
            self.provider_state = chunk.provider_state
        if chunk.label_probabilities is not None:
            self.label_probabilities = chunk.label_probabilities
        if chunk.notes:
            self.notes += chunk.notes

    def fold(self) -> None:
        """Join short pieces, now and then: after each read of a stream, so that a long answer costs its characters."""
        texts, done = self._texts, self._folded
        if len(texts) - done >= RUN:
            texts[done:] = folded(texts[done:])
            self._folded = len(texts)

    @property
    def raw(self) -> str:
        """The text as the model wrote it."""
        if len(self._texts) > 1:
            self._texts = ["".join(self._texts)]
            self._folded = 1
        return self._texts[0] if self._texts else ""

    def take_word(self) -> float:
        """Take out what the model says of how sure it is, and give it: 0 to 1, or NOT_SAID."""
        found = assessed(self.raw)
        if found.is_marked:
            # Nobody reads what is taken out, but it was written, and counts as such.
            self.reasoning_characters += len(self.raw) - len(found.text)
            self._texts = [found.text] if found.text else []
            self._folded = len(self._texts)
            if self.finish_reason is FinishReason.LENGTH:
                self.finish_reason = FinishReason.STOP  # the answer had come to its end when the limit cut the line off
        return found.stated

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, in order."""
        if not self._calls:
            return ()
        return tuple(
            ToolCall(id=call[0], name=call[1], arguments=call[2] or "{}") for _, call in sorted(self._calls.items())
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is neither text nor a tool call."""
        return not self._calls and not self.raw.strip()

    def final(self, output: Output | None) -> str:
        """Give the text as the caller is to have it."""
        raw = self.raw
        if isinstance(output, LabelOutput):
            label = read_label(raw, output.labels)
            return raw.strip() if label is None else label
        return strip_fence(raw) if isinstance(output, JsonOutput) else raw

    def used(self, input_estimate: int, failure: ProviderFailure | None, *, ended: bool) -> Usage:
        """Give what the attempt used.

        Args:
            input_estimate: input tokens, should the provider not have reported them.
            ended: the answer came to its end, so that a reported count is the whole.

        """
        usage = self.usage
        # We left while it was writing: what was on its way then is billed, and nobody here has seen it.
        left = (failure is None or failure.kind in _LEFT_BY_US) and not ended and self.finish_reason is None
        if usage is not None and (ended or not self._is_stale):
            return structs.replace(usage, source=UsageSource.ESTIMATED) if left else usage
        written = sum(map(len, self._texts)) + sum(len(call[2]) for call in self._calls.values())
        if usage is None and not written and not self.reasoning_characters and not self.tokens:
            return (
                NO_USAGE
                if failure is not None and is_free(failure)
                else Usage(input_tokens=input_estimate, source=UsageSource.ESTIMATED)
            )
        output = self.tokens
        if not self._is_counted:  # then it is the least that was written
            output = max(output, (written + self.reasoning_characters + 3) // 4)
        if usage is None:
            return Usage(input_tokens=input_estimate, output_tokens=output, source=UsageSource.ESTIMATED)
        # Reported at the start (Anthropic's message_start): its input stands, its output is what had come by then.
        return Usage(
            input_tokens=usage.input_tokens,
            output_tokens=max(output, usage.output_tokens),
            cache_write_tokens=usage.cache_write_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
            source=UsageSource.COUNTED if self._is_counted and not left else UsageSource.ESTIMATED,
        )


def is_free(failure: ProviderFailure) -> bool:
    """Tell whether a call that failed before anything of its answer came is certainly not billed."""
    return not failure.sent or failure.kind in _NEVER_BILLED or (failure.status or 0) >= _ERROR_STATUS
