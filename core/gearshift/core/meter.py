"""What a running stream has left of what it reserved.

Rules: no I/O of its own. A stream that comes within one window of the end of its reservation asks for the next window (`on_overrun:
extend`), at once where limits are this process's, in the background where they are shared; it is asked for once more at half
a window. What was reserved is never passed by more than one window, and by nothing where the answer is known: then the stream
ends. A stream that is one window beyond before the answer has come is not read until it has: a fast model on a slow store is
held up for a moment, and not ended while the limit has room.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from decimal import Decimal

import anyio

from gearshift.core.admission import Amounts, Permit
from gearshift.core.answer import Usage
from gearshift.core.events import ReasoningDelta, TextDelta
from gearshift.core.failures import ProviderFailure
from gearshift.core.plan import PlannedStage, token_cost
from gearshift.core.provider import Chunk
from gearshift.core.words import FailureKind


class Meter:
    """Counts one stream's answer tokens against its reservation.

    Args:
        permit: what was reserved with.
        planned: what was reserved.
        window: tokens that are reserved at a time.

    """

    __slots__ = (
        "_answered",
        "_ask_below",
        "_cost",
        "_is_asking",
        "_left",
        "_per_token",
        "_permit",
        "_stops",
        "_window",
    )

    def __init__(self, permit: Permit, planned: PlannedStage, window: int) -> None:
        model = planned.stage.model
        self._permit = permit
        self._left = float(planned.output_tokens)
        self._window = window
        self._per_token = model.characters_per_token
        self._stops = any(bucket.stops for bucket in permit.metered)
        self._ask_below = -math.inf if self._stops else float(window)
        self._is_asking = False
        self._answered: anyio.Event | None = None
        self._cost: Decimal | None = None
        if not model.self_hosted and any(bucket.unit == "cost" for bucket in permit.metered):
            self._cost = token_cost(model, Usage(output_tokens=window), datetime.now(UTC))

    def take(self, chunk: Chunk) -> None:
        """Count what one upstream read brought.

        Raises:
            ProviderFailure: the limit has nothing left for the stream to go on (`OVERRUN`).

        """
        tokens = chunk.tokens or self._estimate(chunk)
        if not tokens:
            return
        self._left -= tokens
        if self._left < self._ask_below and not self._is_asking:
            self._ask()
        if self._left < 0 and not self._is_asking:
            raise _overrun()

    async def paced(self, chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
        """Give what is read, each before the next is read; for limits whose answer comes later."""
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
                while self._is_asking and self._left < -self._window:
                    self._answered = anyio.Event()
                    await self._answered.wait()
                if self._left < 0 and self._ask_below == -math.inf and not self._is_asking:
                    raise _overrun()

    def _ask(self) -> None:
        windows = math.ceil((self._window - self._left) / self._window)
        self._is_asking = True
        cost = None if self._cost is None else self._cost * windows
        tokens = windows * self._window

        def heard(is_granted: bool) -> None:
            self._is_asking = False
            if is_granted:
                self._left += tokens
                self._ask_below = float(self._window)
            else:
                self._ask_below = self._window / 2 if self._left >= self._window / 2 else -math.inf
            if self._answered is not None:
                self._answered.set()
                self._answered = None

        self._permit.extend(Amounts(tokens, cost), heard)

    def _estimate(self, chunk: Chunk) -> float:
        """Give the tokens of a read whose wire does not count them."""
        characters = 0
        for part in chunk.parts:
            characters += len(part.text) if isinstance(part, TextDelta | ReasoningDelta) else len(part.arguments)
        return characters / self._per_token


def _overrun() -> ProviderFailure:
    return ProviderFailure(FailureKind.OVERRUN, "a limit of this service ended the stream: nothing was left of it")


def meter_of(permit: Permit, planned: PlannedStage, window: int) -> Meter | None:
    """Give what counts a stream's tokens, or None where no limit is on tokens or money."""
    return Meter(permit, planned, window) if permit.metered else None
