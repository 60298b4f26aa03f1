"""What every gateway under test offers the bench."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from bench.faults.provider import Providers
from bench.faults.work import Heard, Question

NAMES = ("gearshift", "litellm", "portkey", "direct")
"""Each has a file in `gateways`, in the order of tables."""
FIRST_TOKEN_S = IDLE_S = 2.0
"""The timeouts that every gateway gets, where it has such a setting."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a gateway recorded of one upstream call; `estimated` when it says so itself."""

    usd: Decimal
    estimated: bool = False


class Running(Protocol):
    """A gateway that runs."""

    async def ask(self, question: Question) -> Heard:
        """Ask it."""
        ...

    async def spent(self) -> list[Spent] | None:
        """Give what it recorded since the last time; None when it records none."""
        ...


class Gateway(Protocol):
    """A gateway that can be run."""

    name: str
    runs: int
    """Runs of each case, unless the bench is told otherwise."""
    in_flight: int
    """Calls at once where no fault waits."""
    settings: tuple[str, ...]
    """Sentences on how it is configured, for the report."""

    def missing(self) -> str:
        """Give the command that installs it; empty when it is there."""
        ...

    def version(self) -> str:
        """Give its version."""
        ...

    def running(self, providers: Providers, folder: Path) -> AbstractAsyncContextManager[Running]:
        """Run it while the block runs."""
        ...
