"""Calls for adapters, and what their chunks come to."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from gearshift.core.answer import Usage
from gearshift.core.catalogue import Feature, Model
from gearshift.core.events import ReasoningDelta, TextDelta, ToolCallFragment
from gearshift.core.provider import Account, Chunk, Provider, ProviderCall, TokenLogprob
from gearshift.core.request import ToolCall
from gearshift.core.words import Complexity, FinishReason


@dataclass(slots=True)
class Folded:
    """The whole answer."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list[ToolCall])
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    tokens: int = 0
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    provider_state: bytes | None = None
    notes: list[str] = field(default_factory=list[str])
    chunks: list[Chunk] = field(default_factory=list[Chunk])

    def take(self, chunk: Chunk) -> None:
        """Add a chunk, as the engine does."""
        assert self.finish_reason is None, "a chunk came after the one that ended the answer"
        self.chunks.append(chunk)
        for part in chunk.parts:
            match part:
                case TextDelta():
                    self.text += part.text
                case ReasoningDelta():
                    self.reasoning += part.text
                case ToolCallFragment():
                    self._fragment(part)
        self.logprobs.extend(chunk.logprobs)
        self.tokens += chunk.tokens
        self.usage = chunk.usage or self.usage
        self.finish_reason = chunk.finish_reason
        self.provider_state = chunk.provider_state or self.provider_state
        self.notes.extend(chunk.notes)

    def _fragment(self, part: ToolCallFragment) -> None:
        if part.index == len(self.tool_calls):
            assert part.id and part.name
            self.tool_calls.append(ToolCall(id=part.id, name=part.name, arguments=part.arguments))
        else:
            assert not part.id and not part.name
            known = self.tool_calls[part.index]
            self.tool_calls[part.index] = ToolCall(
                id=known.id, name=known.name, arguments=known.arguments + part.arguments
            )


async def folded(provider: Provider, call: ProviderCall, into: Folded | None = None) -> Folded:
    """Make the call; what came before a failure is in `into`."""
    answer = into if into is not None else Folded()
    async with aclosing(provider.stream(call)) as chunks:
        async for chunk in chunks:
            answer.take(chunk)
    return answer


def some_model(
    kind: str,
    *features: Feature,
    options: Mapping[str, str] | None = None,
    max_output_tokens: int = 0,
    wire_id: str = "claude-opus-5-5",
) -> Model:
    """Give a model with these features."""
    return Model(
        id=f"{kind}/{wire_id}",
        provider_kind=kind,
        wire_id=wire_id,
        capability=Complexity.HIGH,
        features=frozenset(features),
        options=options or {},
        max_output_tokens=max_output_tokens,
    )


def account(url: str, *, api_key: str = "sk-test") -> Account:
    """Give an account at a scripted server."""
    return Account(name="main", base_url=url, api_key=api_key)
