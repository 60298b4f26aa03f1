"""A provider that plays scripts: what each upstream call answers, token by token, and how it fails.

It stands where an adapter stands, so that the engine is tested on its own; adapters are tested over real HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from gearshift.core.answer import Usage
from gearshift.core.events import DeltaPart, TextDelta
from gearshift.core.failures import ProviderFailure
from gearshift.core.provider import Chunk, EmbedCall, EmbedResult, ProviderCall
from gearshift.core.words import FailureKind, FinishReason


@dataclass(frozen=True, kw_only=True)
class Script:
    """One upstream call: chunks, then an end, a failure, or a wait for ever.

    Args:
        waits_for: what must happen before the last chunk is written.
        stalls: after the chunks nothing comes until the call's own timeouts end it, as the HTTP layer's watchdog does.

    """

    chunks: Sequence[Chunk] = ()
    failure: ProviderFailure | None = None
    hangs: bool = False
    stalls: bool = False
    vectors: tuple[tuple[float, ...], ...] = ()
    counts: bool = True
    """Whether vectors come with what they used."""
    waits_for: anyio.Event | None = None


def says(*pieces: str | DeltaPart, usage: Usage | None = None, finish: FinishReason = FinishReason.STOP) -> Script:
    """Give a call that writes the pieces, one a read, and ends well."""
    parts = [TextDelta(piece) if isinstance(piece, str) else piece for piece in pieces]
    chunks = [Chunk(parts=[part], tokens=1) for part in parts]
    end = Chunk(finish_reason=finish, usage=usage or Usage(input_tokens=10, output_tokens=len(parts)))
    return Script(chunks=[*chunks, end])


def fails(kind: FailureKind, *pieces: str, retry_after_s: float | None = None, status: int | None = None) -> Script:
    """Give a call that writes the pieces and then fails."""
    return Script(
        chunks=[Chunk(parts=[TextDelta(piece)], tokens=1) for piece in pieces],
        failure=ProviderFailure(kind, f"scripted {kind.word}", retry_after_s=retry_after_s, status=status),
    )


@dataclass
class ScriptedProvider:
    """Plays its scripts in order, the last one again and again."""

    scripts: list[Script] = field(default_factory=list[Script])
    calls: list[ProviderCall] = field(default_factory=list[ProviderCall])
    embed_calls: list[EmbedCall] = field(default_factory=list[EmbedCall])
    closed_early: int = 0
    running: int = 0
    most_running: int = 0
    hanging: anyio.Event = field(default_factory=anyio.Event)
    waiting: anyio.Event = field(default_factory=anyio.Event)
    """Set when a script waits for what it `waits_for`."""

    def _next(self, made: int) -> Script:
        return self.scripts[min(made, len(self.scripts)) - 1]

    async def stream(self, call: ProviderCall) -> AsyncGenerator[Chunk]:
        """Play the next script; a unary call gets one chunk of everything."""
        self.calls.append(call)
        script = self._next(len(self.calls))
        ended = False
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if call.stream:
                for place, chunk in enumerate(script.chunks):
                    await anyio.lowlevel.checkpoint()
                    if place == len(script.chunks) - 1:
                        await self._wait(script)
                    yield chunk
            else:
                await anyio.lowlevel.checkpoint()
                await self._wait(script)
                if script.failure is None and not script.hangs and not script.stalls:
                    yield folded(script.chunks)
            if script.hangs:
                self.hanging.set()
                await anyio.sleep_forever()
            if script.stalls:
                began = bool(script.chunks) and call.stream
                timeouts = call.timeouts
                await anyio.sleep(min(timeouts.idle_s if began else timeouts.first_token_s, timeouts.total_s))
                ended = True
                kind = FailureKind.IDLE_TIMEOUT if began else FailureKind.FIRST_TOKEN_TIMEOUT
                raise ProviderFailure(kind, f"scripted {kind.word}")
            if script.failure is not None:
                ended = True
                raise script.failure
            ended = True
        finally:
            self.running -= 1
            self.closed_early += not ended

    async def _wait(self, script: Script) -> None:
        if script.waits_for is not None:
            self.waiting.set()
            await script.waits_for.wait()

    async def embed(self, call: EmbedCall) -> EmbedResult:
        """Give the next script's vectors."""
        self.embed_calls.append(call)
        script = self._next(len(self.embed_calls))
        if script.hangs:
            self.hanging.set()
            await anyio.sleep_forever()
        if script.stalls:
            await anyio.sleep(call.timeouts.total_s)
            raise ProviderFailure(FailureKind.TOTAL_TIMEOUT, "scripted total_timeout")
        if script.failure is not None:
            raise script.failure
        await self._wait(script)
        vectors = script.vectors or tuple((1.0, float(len(text)), 0.5) for text in call.inputs)
        usage = Usage(input_tokens=len(call.inputs)) if script.counts else None
        return EmbedResult(vectors=vectors, usage=usage)

    async def aclose(self) -> None:
        """Nothing to close."""


def folded(chunks: Sequence[Chunk]) -> Chunk:
    """Give all chunks as one."""
    whole = Chunk()
    for chunk in chunks:
        whole.parts += chunk.parts
        whole.logprobs += chunk.logprobs
        whole.tokens += chunk.tokens
        whole.usage = chunk.usage or whole.usage
        whole.finish_reason = chunk.finish_reason or whole.finish_reason
        whole.label_probabilities = chunk.label_probabilities or whole.label_probabilities
        whole.provider_state = chunk.provider_state or whole.provider_state
    return whole
