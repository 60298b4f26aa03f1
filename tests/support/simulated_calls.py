"""Calls of the real adapters at simulated providers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio

from gearshift.core.catalogue import Feature, Model
from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http
from gearshift.core.provider import Account, EmbedCall, EmbedResult, Provider, ProviderCall, Timeouts
from gearshift.core.providers.anthropic import AnthropicProvider
from gearshift.core.providers.ollama import OllamaProvider
from gearshift.core.providers.openai import OpenAiProvider
from gearshift.core.providers.voyage import VoyageProvider
from gearshift.core.request import Output, Parameters, user
from gearshift.core.words import Complexity, FailureKind
from gearshift.server.simulator import FAULT_HEADER, KEY_HEADER, Entry, Plan, Simulator, running_simulator
from tests.support.chunk_folding import Folded

BOUND_S = 10.0
"""How long a test waits for anything before it fails."""

TIMEOUTS = Timeouts(connect_s=2, first_token_s=5, idle_s=5, total_s=8)

LIMITED = Parameters(max_tokens=500)
_FEATURES = frozenset({Feature.JSON_SCHEMA, Feature.LOGPROBS, Feature.PREFILL, Feature.TEMPERATURE})


@dataclass(slots=True)
class Got:
    """How a call ended: with `failure`, or with `answer` alone; and what the simulator booked."""

    answer: Folded
    failure: ProviderFailure | None
    entry: Entry | None = None

    @property
    def kind(self) -> FailureKind | None:
        """How it failed; None when it did not."""
        return self.failure.kind if self.failure is not None else None

    @property
    def booked(self) -> Entry:
        """What the simulator booked."""
        assert self.entry is not None
        return self.entry


@dataclass(slots=True)
class Caller:
    """The adapters, and the simulator that they call."""

    simulator: Simulator
    http: Http
    providers: Mapping[str, Provider] = field(default_factory=dict[str, Provider])

    def call(
        self,
        name: str,
        prompt: str = "Tell me about gears.",
        *,
        fault: str = "",
        key: str = "",
        model: str = "m",
        stream: bool = True,
        output: Output | None = None,
        parameters: Parameters = LIMITED,
        logprobs: bool = False,
        prefill: str = "",
        timeouts: Timeouts = TIMEOUTS,
        headers: Mapping[str, str] | None = None,
    ) -> ProviderCall:
        """Give a call of a simulated provider."""
        wire = self.simulator.wires[name]
        return ProviderCall(
            model=Model(
                id=f"{name}/{model}",
                provider_kind=wire,
                wire_id=model,
                capability=Complexity.HIGH,
                features=_FEATURES - ({Feature.LOGPROBS} if wire == "anthropic" else set[Feature]()),
            ),
            account=Account(name="a", base_url=self.simulator.base_urls[name], headers=_headers(fault, key, headers)),
            timeouts=timeouts,
            messages=(user(prompt),),
            stream=stream,
            output=output,
            parameters=parameters,
            want_logprobs=logprobs and wire != "anthropic",
            prefill=prefill,
        )

    async def ask(self, call: ProviderCall) -> Got:
        """Make a call to its end."""
        provider = self._provider(call.model.provider_kind)
        before = self.simulator.account.total.requests
        answer, failed = Folded(), None
        with anyio.fail_after(BOUND_S):
            try:
                async with aclosing(provider.stream(call)) as chunks:
                    async for chunk in chunks:
                        answer.take(chunk)
            except ProviderFailure as failure:
                failed = failure
            await self.settled()
        entries = list(self.simulator.account.entries)
        return Got(answer, failed, entries[-1] if self.simulator.account.total.requests > before else None)

    async def embed(self, name: str, *inputs: str, fault: str = "", model: str = "m") -> EmbedResult:
        """Make a call for vectors."""
        call = self.call(name, fault=fault, model=model)
        asked = EmbedCall(
            model=replace(call.model, max_batch=64), account=call.account, timeouts=call.timeouts, inputs=inputs
        )
        with anyio.fail_after(BOUND_S):
            try:
                return await self._provider(call.model.provider_kind).embed(asked)
            finally:
                await self.settled()

    async def settled(self) -> None:
        """Wait until the simulator has booked everything."""
        while self.simulator.statistics()["playing"]:
            await anyio.sleep(0.001)

    def _provider(self, wire: str) -> Provider:
        return self.providers[wire]


def _headers(fault: str, key: str, more: Mapping[str, str] | None) -> dict[str, str]:
    headers = dict(more or {})
    if fault:
        headers[FAULT_HEADER] = fault
    if key:
        headers[KEY_HEADER] = key
    return headers


@asynccontextmanager
async def calling(plan: Plan, *, seed: int | None = None) -> AsyncGenerator[Caller]:
    """Run a simulator and give adapters that call it."""
    http = Http()
    async with running_simulator(plan, seed=seed) as simulator:
        providers: dict[str, Provider] = {
            "openai": OpenAiProvider(http, "vllm"),
            "anthropic": AnthropicProvider(http),
            "ollama": OllamaProvider(http),
            "voyage": VoyageProvider(http),
        }
        try:
            yield Caller(simulator, http, providers)
        finally:
            await http.aclose()
