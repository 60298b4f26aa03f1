"""What the simulated providers sent, and what they would bill for it.

Rules: what was generated is billed, input and output, as providers do: also what a client that left never read, and
nothing where no token was generated. Sums are exact (whole pico-USD) and never forgotten; of the single requests the
latest are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from gearshift.core.catalogue.money import from_pico, to_pico, usd_text

_KEPT = 20_000


@dataclass(slots=True, kw_only=True)
class Entry:
    """One request.

    Args:
        id: unique in this process; the client got it as the response's request id.
        key: digest of what was asked, the same for a retry; `repeat` counts these from 1.
        fault: as it was meant; `applied` is False when it made no sense for this request.
        status: of the response; 0 when there was none.
        input_tokens / output_tokens: what is billed: output as far as it was generated.
        cached_tokens: of the input, what the provider's cache had.
        tokens: of the whole answer.
        tokens_written: of which frames were given to the socket whole, a duplicate once more.
        bytes_written: of the response.
        bytes_unacknowledged: how many of them the client's kernel had not taken when the simulator broke off; None when
            it did not.
        end: `complete`, `fault`, `client left`, or `dropped` when the provider or the simulator went down.
        first_token_ms: from the moment when the request had come whole to the one when a stream's first token was written.
        left_after_ms: from the last byte that was written to the moment when the client was seen to leave.
        right: how the draw against the quality fell, and whether no fault spoilt the text.
    """

    id: str
    provider: str
    wire: str
    model: str
    form: str
    key: str = ""
    repeat: int = 1
    fault: str = ""
    applied: bool = False
    status: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    tokens_written: int = 0
    frames_written: int = 0
    bytes_written: int = 0
    bytes_unacknowledged: int | None = None
    billed_usd: Decimal = Decimal(0)
    usage_told: bool = False
    right: bool = True
    end: str = ""
    first_token_ms: float | None = None
    left_after_ms: float | None = None

    def document(self) -> dict[str, Any]:
        """Give it as JSON; money as text."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {**fields, "billed_usd": usd_text(self.billed_usd)}


@dataclass(slots=True)
class Sums:
    """What some requests come to."""

    requests: int = 0
    complete: int = 0
    faults: int = 0
    clients_left: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    tokens_written: int = 0
    billed_pico: int = 0
    left_after_ms: float = 0.0
    """Sum of the times that clients took to leave."""

    def add(self, entry: Entry) -> None:
        """Count a request."""
        self.requests += 1
        self.complete += entry.end == "complete"
        self.faults += entry.applied
        self.clients_left += entry.left_after_ms is not None
        self.input_tokens += entry.input_tokens
        self.output_tokens += entry.output_tokens
        self.tokens_written += entry.tokens_written
        self.billed_pico += to_pico(entry.billed_usd)
        self.left_after_ms += entry.left_after_ms or 0.0

    @property
    def billed_usd(self) -> Decimal:
        """What they cost, exactly."""
        return from_pico(self.billed_pico)

    def document(self) -> dict[str, Any]:
        """Give them as JSON; money as text."""
        mean = round(self.left_after_ms / self.clients_left, 3) if self.clients_left else None
        return {
            "requests": self.requests,
            "complete": self.complete,
            "faults": self.faults,
            "clients_left": self.clients_left,
            "mean_left_after_ms": mean,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "tokens_written": self.tokens_written,
            "billed_usd": usd_text(self.billed_usd),
        }


@dataclass(slots=True)
class Account:
    """The simulator's own account; one task writes it at a time, since nothing here waits."""

    total: Sums = field(default_factory=Sums)
    models: dict[tuple[str, str], Sums] = field(default_factory=dict[tuple[str, str], Sums])
    _entries: deque[Entry] = field(default_factory=lambda: deque[Entry](maxlen=_KEPT))

    @property
    def entries(self) -> Iterable[Entry]:
        """The latest requests that have ended, oldest first."""
        return tuple(self._entries)

    @property
    def billed_usd(self) -> Decimal:
        """What all requests cost, exactly."""
        return self.total.billed_usd

    def add(self, entry: Entry) -> None:
        """Book a request that has ended."""
        self._entries.append(entry)
        self.total.add(entry)
        self.models.setdefault((entry.provider, entry.model), Sums()).add(entry)

    def reset(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.models.clear()
        self.total = Sums()

    def document(self) -> dict[str, Any]:
        """Give all of it as JSON."""
        providers: dict[str, dict[str, Any]] = {}
        for (provider, model), sums in self.models.items():
            providers.setdefault(provider, {})[model] = sums.document()
        return {
            "total": self.total.document(),
            "providers": providers,
            "requests": [entry.document() for entry in self._entries],
        }
