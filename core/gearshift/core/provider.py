"""What the engine asks of a provider adapter.

Rules: one adapter a file in providers/, over the shared HTTP layer; an adapter raises `ProviderFailure` for everything
that goes wrong upstream, keeps no state between calls but its connections, and decides nothing: retries, limits,
timeouts and gates are the engine's. Closing the generator (or cancelling the call) closes the upstream connection.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable

from msgspec import Struct

from gearshift.core.answer import Usage
from gearshift.core.catalogue import Model
from gearshift.core.events import DeltaPart
from gearshift.core.request import Message, Output, Parameters, Tool, ToolChoice
from gearshift.core.wake import Wake
from gearshift.core.words import FailureKind, FinishReason, InputType, Truncation


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One key or base URL at a provider. `repr` hides the key.

    Args:
        name: unique within the provider.
        base_url: such as `https://api.groq.com/openai/v1`, without a trailing slash; `unix:///path.sock` speaks HTTP
            over a Unix socket.
        api_key: empty when the provider takes none.
        weight: share of the calls, above 0.

    """

    name: str
    base_url: str
    api_key: str = field(default="", repr=False)
    weight: float = 1.0
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


class Timeouts(Struct, frozen=True, kw_only=True):
    """How long one attempt may take, seconds: to connect, to its first token, between tokens, in all."""

    connect_s: float = 5.0
    first_token_s: float = 30.0
    idle_s: float = 15.0
    total_s: float = 120.0

    def shortened(self, kind: FailureKind, configured: Timeouts) -> float | None:
        """Give how long a call had that ended with a timeout; None where that is as long as it is configured, or it is none."""
        if kind is FailureKind.CONNECT_TIMEOUT:
            given_s, whole_s = self.connect_s, configured.connect_s
        elif kind is FailureKind.FIRST_TOKEN_TIMEOUT:
            given_s, whole_s = self.first_token_s, configured.first_token_s
        elif kind is FailureKind.TOTAL_TIMEOUT:
            given_s, whole_s = self.total_s, configured.total_s
        else:
            return None
        return given_s if given_s < whole_s else None


class CacheHint(Enum):
    """Whether the provider should keep the static prefix; see design 9."""

    NONE = "none"
    FIVE_MINUTES = "5m"
    ONE_HOUR = "1h"


@dataclass(slots=True, kw_only=True)  # not frozen: it has the most fields of all values, and a call makes one
class ProviderCall:
    """One upstream call; an adapter changes nothing in it.

    Args:
        model: the catalogue's entry; `model.wire_id` goes on the wire, `model.options` are the adapter's own settings.
        system_static / system_dynamic: the system prompt before and after its first variable, values filled in; the
            provider's cache breakpoint goes between them.
        stream: False asks for the whole answer in one call, which the adapter gives as one chunk.
        prefill: text that the answer begins with and that the model continues; only where `model.features` has PREFILL.
        want_logprobs: only where `model.features` has LOGPROBS.
        cache_key: hash of tenant and task for providers that route by it; empty sends none.
        extra_body: fields merged into the request's body last, as configured for the stage.
        trace_head: header lines, each ended by CRLF, that tie the call to the caller's trace; empty when it is not traced.
        wake: where the engine holds text back for a time only: it may be told how a waiting read is woken, upon which the
            adapter gives an empty chunk. One that leaves it alone has held text released at its next chunk.

    """

    model: Model
    account: Account
    timeouts: Timeouts
    messages: tuple[Message, ...]
    system_static: str = ""
    system_dynamic: str = ""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    output: Output | None = None
    parameters: Parameters = Parameters()
    stream: bool = False
    prefill: str = ""
    want_logprobs: bool = False
    want_reasoning: bool = False
    cache: CacheHint = CacheHint.NONE
    cache_key: str = ""
    extra_body: Mapping[str, object] = field(default_factory=dict[str, object])
    wake: Wake | None = None
    trace_head: bytes = b""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token of the answer: its text, natural log-probability, and that of the likeliest other token if known."""

    token: str
    logprob: float
    runner_up: float | None = None


class Chunk(Struct, kw_only=True):
    """What one upstream read brought; every field may be empty.

    Args:
        parts: text, reasoning and tool call fragments, in order. Text never ends inside a character.
        tokens: answer tokens in this read when the wire has one token a frame; 0 when it does not tell.
        uncounted: something came that `tokens` does not count, or not surely: reasoning, a tool call, several tokens in
            one frame.
        usage: the provider's own count so far; the last one given stands.
        stale: something came after `usage` was counted, or, without parts, something that an earlier count lacks.
        finish_reason: in the chunk that ends the answer. A stream that ends without one was cut: the adapter raises.
        provider_state: opaque bytes that must come back with this turn.
        label_probabilities: probability of each label (sum 1), when the provider scored them.
        notes: sentences on what the adapter dropped or changed.

    """

    parts: list[DeltaPart] = []
    logprobs: list[TokenLogprob] = []
    tokens: int = 0
    uncounted: bool = False
    usage: Usage | None = None
    stale: bool = False
    finish_reason: FinishReason | None = None
    provider_state: bytes | None = None
    label_probabilities: Mapping[str, float] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedCall:
    """One upstream call for vectors; at most `model.max_batch` inputs."""

    model: Model
    account: Account
    timeouts: Timeouts
    inputs: tuple[str, ...]
    input_type: InputType | None = None
    dimensions: int | None = None
    truncation: Truncation = Truncation.ERROR
    extra_body: Mapping[str, object] = field(default_factory=dict[str, object])
    trace_head: bytes = b""
    """As in `ProviderCall`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedResult:
    """Vectors in the order of the inputs, unchecked, and what they used; None where the provider did not say."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage | None
    notes: tuple[str, ...] = ()


class Provider(Protocol):
    """An adapter. Tasks may share it."""

    def stream(self, call: ProviderCall) -> AsyncGenerator[Chunk]:
        """Give the answer, one chunk an upstream read; unary calls give exactly one.

        Raises:
            ProviderFailure: anything went wrong upstream, before or after chunks were given.

        """
        ...

    async def embed(self, call: EmbedCall) -> EmbedResult:
        """Give one vector an input.

        Raises:
            ProviderFailure: as above; INVALID_REQUEST when the provider does not embed.

        """
        ...

    async def aclose(self) -> None:
        """Close what it holds; twice is fine."""
        ...


@runtime_checkable
class WholeProvider(Provider, Protocol):
    """An adapter that can also give a unary answer without a generator, which every call would set up and take down."""

    async def answer(self, call: ProviderCall, take: Callable[[Chunk], None]) -> None:
        """Have `take` take what `stream` would give to the same unary call.

        Raises:
            ProviderFailure: as `stream`.

        """
        ...
