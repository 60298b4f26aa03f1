"""The engine over the real adapters and the simulator: one process, real HTTP, no gRPC.

Each cell is a simulated provider of its own with one fault, and a chain of it and a healthy one, so that many run at once
and the simulator's account tells them apart.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal

import anyio

from gearshift.core.blueprint import AccountSpec, Stage
from gearshift.core.catalogue import Feature
from gearshift.core.catalogue.load import Catalogue
from gearshift.core.config.model import BreakerConfig, LimitsConfig, PriceConfig
from gearshift.core.http import Http
from gearshift.core.provider import Account, Provider, Timeouts
from gearshift.core.providers.anthropic import AnthropicProvider
from gearshift.core.providers.ollama import OllamaProvider
from gearshift.core.providers.openai import OpenAiProvider
from gearshift.core.router import Router
from gearshift.core.words import Complexity
from gearshift.server.simulator import Entry, Simulator, parse_plan, running_simulator
from tests.support.blueprints import blueprint, policy, stage
from tests.support.changed import changed
from tests.support.engine import Notebook

INPUT_USD, OUTPUT_USD = Decimal("0.15"), Decimal("0.60")
"""USD for a million tokens, of the simulator and of the configuration."""
HEALTHY = "healthy"
QUICK = Timeouts(connect_s=2, first_token_s=0.4, idle_s=0.4, total_s=20)
_NEVER_OPEN = BreakerConfig(
    consecutive_faults=1000, fault_rate=1, window=1000, open_s=0.001, max_open_s=0.001, authentication_open_s=0.001
)
_FEATURES = frozenset({Feature.JSON_SCHEMA, Feature.JSON_OBJECT, Feature.TEMPERATURE})


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A simulated provider; `plan` is more of its plan, such as `usage: cumulative`; `dialect` is of OpenAI's format."""

    name: str
    wire: str
    dialect: str = "compatible"
    fault: str = ""
    plan: str = ""


@dataclass(kw_only=True)
class Simulated:
    """Routers over a simulator; `HEALTHY` stands behind every cell."""

    simulator: Simulator
    http: Http
    adapters: dict[str, Provider]
    cells: Mapping[str, Cell]

    def router(self, name: str, *, timeouts: Timeouts = QUICK, healthy: bool = True) -> tuple[Router, Notebook]:
        """Give a chain of the cell and, unless told otherwise, the healthy provider, and what its observer hears."""
        stages = [self._stage(0, name, timeouts)]
        if healthy:
            stages.append(self._stage(1, HEALTHY, Timeouts(connect_s=2, first_token_s=10, idle_s=10, total_s=20)))
        notebook = Notebook()
        plan = blueprint(*stages, chain_policy=policy(max_attempts=4))
        return Router(plan, providers=self.adapters, observers=(notebook,), seed=1), notebook

    def booked(self, name: str) -> list[Entry]:
        """Give what the simulator has booked for a cell, oldest first."""
        return [entry for entry in self.simulator.account.entries if entry.provider == name]

    async def settled(self) -> None:
        """Wait until the simulator has booked everything."""
        with anyio.fail_after(10):
            while self.simulator.statistics()["playing"]:
                await anyio.sleep(0.001)

    def _stage(self, place: int, name: str, timeouts: Timeouts) -> Stage:
        made = stage(place, provider=name, capability=Complexity.HIGH if place else Complexity.LOW, features=_FEATURES)
        account = Account(name="a", base_url=self.simulator.base_urls[name])
        spec = changed(
            made.provider, accounts=(AccountSpec(account=account, limits=LimitsConfig()),), breaker=_NEVER_OPEN
        )
        prices = Catalogue.price_config(PriceConfig(input_usd=INPUT_USD, output_usd=OUTPUT_USD))
        return changed(made, provider=spec, model=changed(made.model, wire_id="m", prices=prices), timeouts=timeouts)


@asynccontextmanager
async def simulated(cells: Sequence[Cell], answers: str, *, healthy: str = "") -> AsyncGenerator[Simulated]:
    """Run a simulator of the cells.

    Args:
        answers: the plan's list of answers, as YAML.
        healthy: more of the healthy provider's plan.
    """
    lines = ["providers:", _provider(Cell(name=HEALTHY, wire="openai", plan=healthy))]
    lines += [_provider(cell) for cell in cells]
    http = Http(connections=512)
    async with running_simulator(parse_plan("\n".join([*lines, "answers:", answers])), seed=1) as simulator:
        adapters: dict[str, Provider] = {HEALTHY: OpenAiProvider(http, "compatible")}
        for cell in cells:
            match cell.wire:
                case "anthropic":
                    adapters[cell.name] = AnthropicProvider(http)
                case "ollama":
                    adapters[cell.name] = OllamaProvider(http)
                case _:
                    adapters[cell.name] = OpenAiProvider(http, cell.dialect)
        try:
            yield Simulated(
                simulator=simulator, http=http, adapters=adapters, cells={cell.name: cell for cell in cells}
            )
        finally:
            await http.aclose()


def _provider(cell: Cell) -> str:
    prices = f"{{input_usd: {INPUT_USD}, output_usd: {OUTPUT_USD}}}"
    fault = f", faults: [{{fault: '{cell.fault}'}}]" if cell.fault else ""
    more = f", {cell.plan}" if cell.plan else ""
    return f"  {cell.name}: {{wire: {cell.wire}, models: {{m: {{prices: {prices}}}}}{fault}{more}}}"
