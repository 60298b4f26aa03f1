"""Providers that write a text that is known beforehand, so that a test knows what must have come of it.

An author continues a prefill from where it ends, in one of the ways in which models do: with or without the space that
stood there, with white space first and alone, or repeating some words. It pauses, dies, loops, or ends too early.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from gearshift.core.answer import Usage
from gearshift.core.catalogue import Feature
from gearshift.core.events import ReasoningDelta, TextDelta
from gearshift.core.failures import ProviderFailure
from gearshift.core.provider import Chunk, EmbedCall, EmbedResult, ProviderCall
from gearshift.core.words import FailureKind, FinishReason

UNIT = " and then the same words once more, since nothing new comes to the mind that writes them down"
"""What a loop repeats: long, so that it is seen long after it began."""

_SEEN_OVERLAP = 12
"""Words repeated by chance are shorter."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """How one upstream call goes.

    Args:
        dies_after: of this call's own characters; None lives.
        kind: how it dies.
        loops_after: from so many of its own characters on it repeats UNIT; None does not.
        ends_after: after so many of its own characters it says that it reached its limit; None has none.
        way: how it continues a prefill: `as it was`, `no space`, `space alone`, `repeats`.
        pause_s: silence after the first chunk.
        thinks: it writes reasoning first.
        seed: of its cuts.
    """

    dies_after: int | None = None
    kind: FailureKind = FailureKind.CONNECTION
    loops_after: int | None = None
    ends_after: int | None = None
    way: str = "as it was"
    pause_s: float = 0.0
    thinks: bool = False
    seed: int = 0


@dataclass
class Author:
    """Writes `text`; its turns are taken in order, the last one again and again."""

    text: str
    turns: list[Turn]
    calls: list[ProviderCall] = field(default_factory=list[ProviderCall])
    running: int = 0

    async def stream(self, call: ProviderCall) -> AsyncGenerator[Chunk]:
        """Write the text, or what follows the prefill."""
        self.calls.append(call)
        turn = self.turns[min(len(self.calls), len(self.turns)) - 1]
        assert not call.prefill or Feature.PREFILL in call.model.features, "asked to continue what it cannot"
        assert self.text.startswith(call.prefill), "what was committed is not what was written"
        chance = random.Random(turn.seed)
        rung = anyio.Event()
        if call.wake is not None:
            call.wake.by(lambda: rung.set())
        self.running += 1
        try:
            if turn.thinks:
                yield Chunk(parts=[ReasoningDelta("Hm.")])
            pieces = self._pieces(call.prefill, turn, chance)
            for number, piece in enumerate(pieces):
                if number == 1 and turn.pause_s:
                    with anyio.move_on_after(turn.pause_s):
                        await rung.wait()
                    if rung.is_set():
                        rung = anyio.Event()
                        yield Chunk()
                else:
                    await anyio.lowlevel.checkpoint()
                yield Chunk(parts=[TextDelta(piece)], tokens=chance.choice((0, 1, max(1, len(piece) // 5))))
            if turn.dies_after is not None:
                raise ProviderFailure(turn.kind, f"scripted {turn.kind.word}")
            finish = FinishReason.STOP if turn.ends_after is None else FinishReason.LENGTH
            yield Chunk(finish_reason=finish, usage=Usage(input_tokens=10, output_tokens=len(pieces)))
        finally:
            self.running -= 1

    async def embed(self, call: EmbedCall) -> EmbedResult:
        """Never asked."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Nothing to close."""

    def _pieces(self, prefill: str, turn: Turn, chance: random.Random) -> list[str]:
        rest = self.text[len(prefill) :]
        first: list[str] = []
        if prefill:
            match turn.way:
                case "no space":
                    rest = rest.lstrip()
                case "space alone":
                    first, rest = [" "], rest.lstrip()
                case "repeats":
                    again = prefill[-chance.randint(14, 60) :].lstrip()
                    rest = (again if len(again) >= _SEEN_OVERLAP else "") + rest
                case _:
                    pass
        if turn.loops_after is not None:
            rest = rest[: turn.loops_after].rstrip() + UNIT * 40
        for limit in (turn.dies_after, turn.ends_after):
            rest = rest if limit is None else rest[:limit]
        pieces, at = first, 0
        while at < len(rest):
            end = at + chance.choice((1, 7, 40, 130, 300))
            if chance.random() < 0.7 and (space := rest.find(" ", end)) > 0:
                end = space
            pieces.append(rest[at:end])
            at = end
        return pieces
