"""Streams over the simulator: each of its faults, asked for in several ways."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import anyio

from gearshift.server.simulator import parse_plan, running_simulator
from gearshift.v1 import call_pb2, router_pb2, task_pb2
from tests.conformance.format import Json
from tests.conformance.tape import record
from tests.support.running_server import from_yaml, running_server

FAULTS: Final[dict[str, tuple[str, ...]]] = {
    "none": ("regenerate",),
    "refused": ("regenerate", "alone"),
    "reset": ("regenerate",),
    "hang:30": ("regenerate",),
    "unauthorized": ("regenerate",),
    "payment_required": ("regenerate",),
    "rate_limited": ("regenerate", "alone"),
    "rate_limited:2": ("regenerate", "alone"),
    "server_error": ("regenerate", "alone"),
    "unavailable": ("regenerate",),
    "unavailable:1": ("regenerate",),
    "overloaded": ("regenerate",),
    "empty": ("regenerate", "alone"),
    "html": ("regenerate",),
    "wrong_type": ("regenerate",),
    "error_in_stream@12": ("regenerate", "continue", "fail", "alone"),
    "cut@12": ("regenerate", "continue", "fail", "alone", "json"),
    "close@12": ("regenerate",),
    "stall@12:30": ("regenerate", "fail"),
    "drip@12:0.02": ("regenerate",),
    "malformed@12": ("regenerate", "json"),
    "invalid_utf8@12": ("regenerate",),
    "duplicate@5": ("regenerate", "json"),
    "no_end@12": ("regenerate", "alone"),
    "no_done": ("regenerate",),
    "no_usage": ("regenerate",),
    "bad_json@4": ("json",),
    "loop@12:256": ("regenerate", "continue", "fail", "alone"),
    "refusal@12": ("regenerate", "alone"),
    "filtered@12": ("regenerate",),
    "language@12:ru": ("regenerate", "alone"),
    "unsure@2": ("labels",),
}
"""Each fault, and how it is asked for: a switch mode, a chain of one stage, a document, a label."""

_WEAK: Final = (
    "So, a gearbox is basically a box with gears in it, small ones and big ones, and they go round and round, and when you "
    "pick another one the car goes faster or slower than it did before."
)
_STRONG: Final = "A gearbox lets an engine run at the speed that suits it while the wheels turn at another: naïve, but true. \U0001f697"
_SCHEMA: Final = (
    '{"type": "object", "properties": {"item": {"enum": ["bearing", "oil", "shaft"]}, "count": {"type": "integer"}, '
    '"paid": {"type": "boolean"}, "note": {"type": "string"}}, "required": ["item", "count", "paid", "note"], '
    '"additionalProperties": false}'
)
_DOCUMENT: Final = '{"item": "bearing", "count": 12, "paid": false, "note": "two boxes of six, well oiled"}'

_AT_ONCE: Final = 6
"""Most of the time is waiting for what never comes."""
_PRICES: Final = "{input_usd: 1, output_usd: 2}"
_BREAKER: Final = "{consecutive_faults: 1000, fault_rate: 1, window: 10000, open_s: 0.001, max_open_s: 0.001, authentication_open_s: 0.001}"


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A fault and how it is asked for; each has a weak provider, a chain and a task of its own, so that none cools another."""

    fault: str
    way: str

    @property
    def name(self) -> str:
        """What provider, chain, task and request are called."""
        return re.sub("[^a-z0-9]+", "-", f"{self.fault} {self.way}")

    def simulated(self) -> str:
        """Give the provider's part of the simulator's plan."""
        match self.fault:
            case "none":
                more = ""
            case "refused":
                more = ", port: 0, down: true"
            case _:
                more = f", faults: [{{fault: '{self.fault}'}}]"
        return f"  {self.name}: {{wire: openai, latency: {{first_token_ms: 2, token_ms: 2}}{more}}}"

    def provider(self, url: str) -> str:
        """Give the provider of the configuration."""
        return f"  {self.name}: {{kind: openai, base_url: '{url}', api_key: '${{KEY}}', breaker: {_BREAKER}}}"

    def model(self, capability: str = "low") -> str:
        """Give the model."""
        features = "[json_schema, temperature, logprobs]"
        facts = f"capability: {capability}, context_tokens: 8192, features: {features}, prices: {_PRICES}"
        return f"  m-{self.name}: {{provider: {self.name}, wire_id: m, {facts}}}"

    def chain(self) -> str:
        """Give the chain: the weak model, and the strong one unless it is alone."""
        timeouts = "timeouts: {first_token_s: 1, idle_s: 0.8}"
        stages = [f"{{provider: {self.name}, model: m-{self.name}, max_retries: 0, {timeouts}}}"]
        stages += [] if self.way == "alone" else ["{provider: strong, model: m-strong, max_retries: 0}"]
        return f"  {self.name}: {{stages: [{', '.join(stages)}]}}"

    def task(self) -> str:
        """Give the declared task."""
        kind = {"json": "extract", "labels": "classify"}.get(self.way, "generate")
        return f"    {self.name}: {{type: {kind}, complexity: low, chain: {self.name}}}"

    def request(self) -> router_pb2.StreamRouteRequest:
        """Give the call."""
        call = call_pb2.Call(
            task=task_pb2.Task(id=self.name), prompt="Tell me how a gearbox works.", request_id=self.name
        )
        stream = call_pb2.StreamPolicy(hold_back_tokens=2, hold_back_ms=5000)
        match self.way:
            case "continue":
                stream.mode = call_pb2.SWITCH_MODE_CONTINUE
            case "fail":
                stream.mode = call_pb2.SWITCH_MODE_FAIL
            case "json":
                call.output.json.schema = _SCHEMA
                stream.preview = True
            case "labels":
                call.output.labels.labels.extend(["gearbox", "engine"])
                stream.preview = True
            case _:
                pass
        return router_pb2.StreamRouteRequest(call=call, stream=stream)


async def simulated_streams() -> list[Json]:
    """Record each fault in each way."""
    asked = [_Asked(fault=fault, way=way) for fault, ways in FAULTS.items() for way in ways]
    strong = _Asked(fault="none", way="strong")
    plan = ["providers:", "  strong: {wire: openai, latency: {first_token_ms: 2, token_ms: 1}}"]
    plan += [each.simulated() for each in asked]
    plan += ["answers:", f"  - {{provider: strong, text: '{_STRONG}', json: {_DOCUMENT}, label: engine}}"]
    plan += [f"  - {{text: '{_WEAK}', json: {_DOCUMENT}, label: gearbox}}"]
    async with running_simulator(parse_plan("\n".join(plan)), seed=1) as simulator:
        urls = simulator.base_urls
        config = ["version: 1", "providers:", strong.provider(urls["strong"]).replace(strong.name, "strong")]
        config += [each.provider(urls[each.name]) for each in asked]
        config += ["models:", strong.model("high").replace(strong.name, "strong"), *(each.model() for each in asked)]
        config += ["chains:", *(each.chain() for each in asked)]
        config += ["tasks:", "  declared:", *(each.task() for each in asked)]
        async with running_server(from_yaml("\n".join(config), env={"KEY": "k"})) as server:
            made: dict[str, Json] = {}
            limit = anyio.CapacityLimiter(_AT_ONCE)

            async def tape(each: _Asked) -> None:
                about = f"The first provider has the fault {each.fault}; asked for: {each.way}."
                async with limit:
                    made[each.name] = await record(server, f"{each.fault}, {each.way}", about, each.request())

            async with anyio.create_task_group() as tasks:
                for each in asked:
                    tasks.start_soon(tape, each)
    return [made[each.name] for each in asked]
