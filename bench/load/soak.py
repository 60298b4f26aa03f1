"""A long run of mixed calls with faults at 80 % load: what grows in the service.

python -m bench.load soak --seconds 600

Rules: arrivals are open-loop (they do not wait for answers), at a share of the rate at which a closed loop saturated this
machine; most of that is the service's core. Memory, sockets, files and threads are read from /proc each second, tasks and objects
from the service itself before and after, once it is idle.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import uvloop

from bench.common.figures import percentile
from bench.load._house import running_house
from bench.load.lines import Line, line, say
from bench.streams.house import House
from gearshift.clients import Client, Code, RpcError, background, call, dial, with_channel_options

QUICK = ("--seconds", "60")
LOAD = 0.8
GROWTH = 0.05
_CLIENTS = 4
_CROWDS = (64, 128, 256, 512)
"""Callers of the closed loop; the best rate counts. Many, since most of a call is waiting, up to 1 s where a provider says
`Retry-After`: fewer would not fill the cores."""
_MOST_BEHIND_S = 2.0
"""Seconds of the load that may be under way; what comes beyond is not sent, and told of. Calls may wait 1 s for a provider that
asked for it, so that a second's worth is under way for a moment; a machine that does 80 % of what it can never has two."""
_DEADLINE_S = 20.0
_GONE_S = 75.0
"""Unused connections are looked at every 30 s, and closed when they have not been used for 30 s."""

_KINDS = {
    "unary": 30,
    "stream": 20,
    "embed": 8,
    "kept": 14,
    "json": 8,
    "left": 9,
    "deadline": 3,
    "repeat": 8,
}
"""Of a hundred calls. `kept` ones are answered from the response cache where they can, `left` ones are cancelled."""
_ENDS = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.ABORTED, Code.RESOURCE_EXHAUSTED})
"""How calls may fail where providers do."""

_FAULTS = (
    "reset", "rate_limited", "server_error", "unavailable", "overloaded", "empty", "html",
    "error_in_stream", "cut", "close", "malformed", "invalid_utf8", "no_end", "no_usage", "loop", "refusal", "bad_json",
    "duplicate", "stall@8:2", "wrong_type",
)  # fmt: skip
_FAULT_SHARE = 0.003
"""Of each."""
_PAUSE, _PAUSE_SHARE = "rate_limited:1", 0.0002
"""Asks for a second without calls, from all callers: once in a few seconds. More often, and the load would be one of calls that
wait for that, and of crowds that set off together."""
_SCHEMA = {
    "type": "object",
    "properties": {"teeth": {"type": "integer"}, "shafts": {"type": "integer"}, "name": {"type": "string"}},
    "required": ["teeth", "shafts"],
    "additionalProperties": False,
}
_CONFIG = """
version: 1
providers:
  cheap: {kind: openai, dialect: compatible, base_url: "{url}/cheap/v1"}
  strong: {kind: anthropic, base_url: "{url}/strong"}
  vectors: {kind: voyage, base_url: "{url}/vectors/v1"}
models:
  small: {provider: cheap, capability: medium, context_tokens: 32768, features: [json_schema, json_object, logprobs, temperature, seed],
          prices: {input_usd: 0.05, output_usd: 0.10}}
  large: {provider: strong, capability: high, context_tokens: 200000, prices: {input_usd: 3, output_usd: 15}}
  space: {provider: vectors, capability: low, dimensions: [64], prices: {input_usd: 0.06, output_usd: 0}}
chains:
  generate: &two
    stages:
      - {provider: cheap, model: small, max_retries: 1, timeouts: {idle_s: 0.5}}
      - {provider: strong, model: large, max_retries: 1}
  extract: *two
  embed: {stages: [{provider: vectors, model: space, max_retries: 1}]}
tasks:
  declared:
    soak-kept: {type: generate, complexity: low, temperature: 0, cache: {ttl_minutes: 0.2}}
    soak-text: {type: generate, complexity: low}
    soak-json: {type: extract, complexity: low}
retry: {base_s: 0.01, max_s: 0.1}
# What is kept is full long before the last third.
caching: {request_window_s: 10, response_max_bytes: 2000000, embedding_max_bytes: 1000000}
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--seconds", type=float, default=600.0, help="of load (600)")
    parser.add_argument("--calibrate", type=float, default=20.0, help="seconds of the closed loop before it (20)")
    parser.add_argument("--rate", type=float, default=0.0, help="calls a second instead of 80 %% of the saturated rate")
    parser.add_argument("--settle", type=float, default=_GONE_S, help="most seconds until pools are empty again (75)")
    parser.add_argument("--seed", type=int, default=1)


def run(arguments: argparse.Namespace) -> list[Line]:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        return uvloop.run(
            soak(
                Path(folder),
                seconds=arguments.seconds,
                calibrate_s=arguments.calibrate,
                rate=arguments.rate,
                settle_s=arguments.settle,
                seed=arguments.seed,
            )
        )


def plan() -> dict[str, object]:
    """Give the simulator's plan."""
    faults = [
        *({"fault": each, "probability": _FAULT_SHARE} for each in _FAULTS),
        {"fault": _PAUSE, "probability": _PAUSE_SHARE},
    ]
    latency = {"first_token_ms": 10, "token_ms": 0.5, "jitter": 0.5}
    models = {"prices": {"input_usd": 0.05, "output_usd": 0.1}}
    return {
        "seed": 1,
        "providers": {
            "cheap": {"wire": "openai", "models": {"small": models}, "latency": latency, "faults": faults},
            "strong": {"wire": "anthropic", "models": {"large": models}, "latency": latency},
            "vectors": {"wire": "voyage", "models": {"space": {"dimensions": 64}}, "latency": latency},
        },
        "answers": [{"contains": "as JSON", "json": {"teeth": 40, "shafts": 3, "name": "main"}}, {"words": 40}],
    }


@dataclass(frozen=True)
class Sample:
    """What the service has at one moment."""

    at: float
    rss_mib: float
    sockets: int
    files: int
    threads: int
    cpu_s: float


@dataclass
class Load:
    """Calls of many kinds on a few connections, and how they ended."""

    clients: Sequence[Client]
    chance: random.Random
    ended: Counter[str] = field(default_factory=Counter[str])
    strange: Counter[str] = field(default_factory=Counter[str])
    unary_ms: list[float] = field(default_factory=list[float])
    running: int = 0
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def one(self) -> None:
        """Draw a call, and make it to its end."""
        (kind,) = self.chance.choices(list(_KINDS), list(_KINDS.values()))
        number = next(self._numbers)
        await self._ended(kind, self.clients[number % len(self.clients)], number, self.chance.random())

    async def _ended(self, kind: str, client: Client, number: int, extra: float) -> None:
        self.running += 1
        began = time.perf_counter()
        try:
            how = await self._made(kind, client, number, extra)
        except RpcError as error:
            how = error.code.name.lower()
            # The service's clock may run out a moment before the client's, whose gRPC then says CANCELLED.
            late = kind in ("left", "deadline") or time.perf_counter() - began > 0.95 * _DEADLINE_S
            expected = error.code in _ENDS or (error.code is Code.CANCELLED and late)
            if not expected:
                self.strange[f"{kind}: {error.code.name} {error.message[:60]}"] += 1
        finally:
            self.running -= 1
        if kind == "unary" and how == "answered":
            self.unary_ms.append((time.perf_counter() - began) * 1000)
        self.ended[f"{kind} {how}"] += 1

    async def _made(self, kind: str, client: Client, number: int, extra: float) -> str:
        ctx = background().with_timeout(_DEADLINE_S)
        asked = f"Reader {number} asks what a gearbox is for. {'Please be patient. ' * (number % 9)}"
        match kind:
            case "unary":
                await client.route(ctx, call("soak-text", asked))
            case "embed":
                await client.embed(ctx, "soak-vectors", [f"{asked} {part}" for part in range(1 + number % 4)])
            case "kept":
                await client.route(ctx, call("soak-kept", f"Question {int(extra * 400)}: what is a gearbox?"))
            case "json":
                await client.route(ctx, call("soak-json", f"{asked} Answer as JSON.", schema=_SCHEMA))
            case "deadline":
                await client.route(background().with_timeout(0.005 + extra * 0.04), call("soak-text", asked))
            case "repeat":
                await self._repeated(client, asked, f"soak-{number}")
            case _:
                return await self._streamed(client, asked, int(extra * 15) if kind == "left" else None)
        return "answered"

    async def _repeated(self, client: Client, asked: str, request_id: str) -> None:
        """Make a call twice under one id: the second joins the first."""

        async def once() -> None:
            try:
                await client.route(
                    background().with_timeout(_DEADLINE_S), call("soak-text", asked, request_id=request_id)
                )
            except RpcError as error:
                if error.code not in _ENDS:
                    self.strange[f"repeat: {error.code.name} {error.message[:60]}"] += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(once)
            tasks.start_soon(once)

    async def _streamed(self, client: Client, asked: str, leaves_after: int | None) -> str:
        seen, done = 0, False
        async with client.stream_route(background().with_timeout(_DEADLINE_S), call("soak-text", asked)) as stream:
            async for event in stream:
                seen += 1
                done = done or event.HasField("completed")
                if leaves_after is not None and seen > leaves_after:
                    return "left"
        if not done:
            self.strange["stream: without completed"] += 1
        return "answered"


async def soak(
    folder: Path, *, seconds: float, calibrate_s: float, rate: float = 0.0, settle_s: float = _GONE_S, seed: int = 1
) -> list[Line]:
    """Calibrate, load, let it come to rest, and compare."""
    async with running_house(folder, plan(), _CONFIG, hooked=True) as house:
        await house.held()  # the port for such questions is there from now on, and its connection gone
        await anyio.sleep(0.3)
        first = house.service.descriptors()
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    dial(f"127.0.0.1:{house.port}", with_channel_options(("grpc.use_local_subchannel_pool", 1)))
                )
                for _ in range(_CLIENTS)
            ]
            load = Load(clients, random.Random(seed))
            saturated, busy = await _saturated(load, calibrate_s / len(_CROWDS), house)
            wanted = rate or saturated * LOAD
            say(f"soak: saturates at {saturated:.0f} calls a second ({busy:.0%} of a core), loads with {wanted:.0f}")
            await _idle(house)
            before = await house.held()
            load.ended.clear()
            load.strange.clear()
            load.unary_ms.clear()
            samples: list[Sample] = []
            refused = await _open(load, house, wanted, seconds, samples)
            await _idle(house)
            after = await house.held()
            status = await clients[0].ops.get_status(background().with_timeout(20))
        if settle_s:
            say("soak: waiting for unused connections to go")
            with anyio.move_on_after(settle_s):
                while house.service.descriptors()[1] > first[1]:
                    await anyio.sleep(0.25)
        last = house.service.descriptors()
    what = f"soak of {seconds:.0f} s"
    calls = sum(load.ended.values())
    cpu = (samples[-1].cpu_s - samples[0].cpu_s) / (samples[-1].at - samples[0].at)
    failed = sum(count for how, count in load.ended.items() if how.split()[1] not in ("answered", "left"))
    found = [
        line(
            f"{what}: load",
            f"{rate:g} calls/s, as asked" if rate else f"{LOAD:.0%} of what saturates",
            f"{calls / seconds:.0f} calls/s of {saturated:.0f} ({busy:.0%} of a core then, {cpu:.0%} now), {calls} calls, "
            f"{failed} failed as they may, {refused} not sent",
            refused <= calls // 1000,
        ),
        line(
            f"{what}: unary calls, ms",
            "–",
            f"p50 {percentile(load.unary_ms, 0.5):.1f}, p99 {percentile(load.unary_ms, 0.99):.1f}",
        ),
        line(
            f"{what}: calls that ended as none may",
            "0",
            f"{sum(load.strange.values())}{''.join(f'; {how}' for how, _ in load.strange.most_common(3))}",
            not load.strange,
        ),
        line(f"{what}: ledger rows dropped", "0", str(status.ledger_dropped), status.ledger_dropped == 0),
        _grown(what, "resident memory", "MiB", [each.rss_mib for each in samples]),
        _grown(
            what, "sockets, as many as the calls under way need", "", [each.sockets for each in samples], judged=False
        ),
        _grown(what, "other open files", "", [each.files for each in samples]),
        _same(f"{what}: threads", samples[len(samples) // 3].threads, samples[-1].threads),
        _same(f"{what}: tasks of the loop, idle before and after", before.tasks, after.tasks),
        _same(f"{what}: calls in flight, attempts, transcripts, responses alive", 0, sum(after.of_streams.values())),
    ]
    if settle_s:
        found.append(_same(f"{what}: sockets before the first call and after the last connection", first[1], last[1]))
    return found


def _grown(what: str, of: str, unit: str, values: Sequence[float], *, judged: bool = True) -> Line:
    """Compare the last third with the second."""
    third = len(values) // 3
    second, last = (sum(part) / len(part) for part in (values[third : 2 * third], values[2 * third : 3 * third]))
    growth = last / second - 1 if second else 0.0
    return line(
        f"{what}: {of}, mean of the second and of the last third",
        f"at most {GROWTH:.0%} more" if judged else "–",
        f"{second:.1f} and {last:.1f}{' ' if unit else ''}{unit}, {growth:+.1%}",
        not judged or growth <= GROWTH or last - second < 1,
    )


def _same(what: str, before: int, after: int) -> Line:
    return line(what, "no more", f"{before} and {after}", after <= before)


async def _saturated(load: Load, step_s: float, house: House) -> tuple[float, float]:
    """Give the most calls a second of a closed loop, and the service's share of a core then."""
    await _closed(load, step_s, _CROWDS[0])  # connections, imports, first sizes
    best = busy = 0.0
    for crowd in _CROWDS:
        cpu_s, began = house.service.cpu_s(), time.monotonic()
        made = await _closed(load, step_s, crowd)
        passed = time.monotonic() - began
        say(f"soak: {crowd} callers: {made / passed:.0f} calls a second")
        if made / passed > best:
            best, busy = made / passed, (house.service.cpu_s() - cpu_s) / passed
    return best, busy


async def _closed(load: Load, seconds: float, crowd: int) -> int:
    """Keep a crowd busy; give the calls that ended in time."""
    ends = time.monotonic() + seconds
    made = 0

    async def lane() -> None:
        nonlocal made
        while time.monotonic() < ends:
            await load.one()
            made += 1

    with anyio.move_on_after(seconds):
        async with anyio.create_task_group() as tasks:
            for _ in range(crowd):
                tasks.start_soon(lane)
    return made


async def _open(load: Load, house: House, rate: float, seconds: float, samples: list[Sample]) -> int:
    """Send calls as they come; give how many were not sent because too many were under way."""
    chance = random.Random(load.chance.random())
    began = time.monotonic()
    refused, at = 0, began

    async def sampler() -> None:
        every = min(1.0, seconds / 60)
        for number in itertools.count(1):
            await anyio.sleep(max(0.0, began + number * every - time.monotonic()))
            total, sockets = house.service.descriptors()
            service = house.service
            samples.append(
                Sample(
                    time.monotonic() - began,
                    service.rss_mib(),
                    sockets,
                    total - sockets,
                    service.threads(),
                    service.cpu_s(),
                )
            )
            if number % 60 == 0:
                say(f"soak: {samples[-1].at:.0f} s, {samples[-1].rss_mib:.1f} MiB, {load.running} under way")

    async with anyio.create_task_group() as watching:
        watching.start_soon(sampler)
        async with anyio.create_task_group() as tasks:
            while at < began + seconds:
                at += chance.expovariate(rate)
                await anyio.sleep(max(0.0, at - time.monotonic()))
                if load.running >= rate * _MOST_BEHIND_S:
                    refused += 1
                else:
                    tasks.start_soon(load.one)
        watching.cancel_scope.cancel()
    return refused


async def _idle(house: House) -> None:
    with anyio.move_on_after(40):
        while (await house.held()).in_flight:
            await anyio.sleep(0.2)
