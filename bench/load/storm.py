"""Providers that refuse everybody with 429, and callers whose gRPC retries by itself.

python -m bench.load storm --seconds 10

Rules: simulated providers, the service and the callers are processes of their own; what went upstream is counted where it
arrived. 200 callers never wait long before they call again; those with a standard retry policy (4 attempts on UNAVAILABLE and
RESOURCE_EXHAUSTED) are compared with as many that have none.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import anyio
import uvloop

from bench.load._house import running_house
from bench.load.lines import Line, line
from bench.streams.house import House, Row, key_of
from gearshift.clients import Client, RpcError, background, call, dial, with_channel_options
from gearshift.v1 import ops_pb2

QUICK = ("--seconds", "4")
CALLERS = 200
CAP = 4
"""Attempts of a call, as the chain declares."""
CLIENT_ATTEMPTS = 4
OPEN_S = 1.0
_CONNECTIONS = 8
_AGAIN_S = 0.05
_LAST_S = 0.3
_PROVIDERS = ("first", "second", "third")
_ALL, _MOST = "[[all]]", "[[most]]"
"""In prompts that are refused always, and 85 times of a hundred."""

_CONFIG = f"""
version: 1
providers:
{"".join(f'  {name}: {{kind: openai, dialect: compatible, base_url: "{{url}}/{name}/v1", breaker: {{consecutive_faults: 5, open_s: {OPEN_S}, max_open_s: 4}}}}' + chr(10) for name in _PROVIDERS)}
models:
{"".join(f"  m-{name}: {{provider: {name}, wire_id: m, capability: high, prices: {{input_usd: 1, output_usd: 2}}}}" + chr(10) for name in _PROVIDERS)}
chains:
  generate:
    policy: {{max_attempts: {CAP}}}
    stages:
{"".join(f"      - {{provider: {name}, model: m-{name}, max_retries: 1}}" + chr(10) for name in _PROVIDERS)}
tasks: {{declared: {{storm: {{type: generate, complexity: low}}}}}}
retry: {{base_s: 0.01, max_s: 0.05}}
"""
_RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": CLIENT_ATTEMPTS,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
                },
            }
        ]
    }
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--seconds", type=float, default=10.0, help="of each storm (10)")


def run(arguments: argparse.Namespace) -> list[Line]:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        return uvloop.run(storms(Path(folder), arguments.seconds))


def plan() -> dict[str, object]:
    """Give the simulator's plan; of the refusals of `_MOST` four in ten say when to come again."""
    faults: list[dict[str, object]] = [
        {"fault": "rate_limited", "contains": _ALL},
        {"fault": "rate_limited", "probability": 0.5, "contains": _MOST},
        {"fault": "rate_limited:1", "probability": 0.7, "contains": _MOST},
    ]
    each: dict[str, object] = {"wire": "openai", "models": {"m": dict[str, object]()}, "faults": faults}
    return {"seed": 1, "providers": dict.fromkeys(_PROVIDERS, each), "answers": [{"words": 12}]}


@dataclass
class Storm:
    """What a storm came to.

    Args:
        calls: that callers made; `served` of them were answered, `told` tells how the others ended.
        handled: that reached the service, the clients' retries too.
        rows: what arrived at the providers, in the order in which it ended.
        attempts: the most ledger rows of one call that reached the service.
        opened_s: from the first call until every breaker was seen open; None when they never were.
    """

    calls: int = 0
    served: int = 0
    told: Counter[str] = field(default_factory=Counter[str])
    handled: int = 0
    rows: Sequence[Row] = ()
    attempts: int = 0
    began: float = 0.0
    opened_s: float | None = None
    most_upstream: int = 0
    """Calls upstream for one call of a caller, its client's retries too."""

    def first(self) -> int:
        """Give the calls upstream until a moment after the breakers had opened."""
        return sum(each.booked_at <= self._settled for each in self.rows)

    def probes(self) -> int:
        """Give the most calls that a provider got after that."""
        return max(Counter(each.provider for each in self.rows if each.booked_at > self._settled).values(), default=0)

    def nearest_s(self) -> float:
        """Give the shortest time between two calls to one provider after that."""
        at: dict[str, list[float]] = defaultdict(list)
        for each in sorted(self.rows, key=lambda row: row.booked_at):
            if each.booked_at > self._settled:
                at[each.provider].append(each.booked_at)
        return min((b - a for times in at.values() for a, b in pairwise(times)), default=float("inf"))

    @property
    def _settled(self) -> float:
        # What was under way when they opened has arrived, and no probe has leave yet.
        return self.began + (self.opened_s or 0.0) + 0.9 * OPEN_S


async def storms(folder: Path, seconds: float) -> list[Line]:
    """Let three storms pass, each over a fresh service."""
    alone = await _storm(folder / "alone", _ALL, seconds, retries=False)
    within = await _storm(folder / "within", _ALL, seconds, retries=True)
    most = await _storm(folder / "most", _MOST, seconds, retries=True)
    opened = [each.opened_s for each in (alone, within)]
    what = "429 storm over gRPC"
    # The n-th probe comes after 1, 2, 4, 4 … seconds at the earliest.
    probes = 2 + int(seconds / 2)
    return [
        line(
            f"{what}, all refused, {CALLERS} callers with a retry policy of {CLIENT_ATTEMPTS}: attempts of a call, cap {CAP}",
            f"at most {CAP}",
            f"{within.attempts} ({within.calls} calls of callers, {within.handled} at the service)",
            within.attempts <= CAP,
        ),
        line(
            f"{what}: all breakers open after",
            "under 1 s",
            ", ".join("never" if each is None else f"{each:.2f} s" for each in opened),
            all(each is not None and each < 1.0 for each in opened),
        ),
        line(
            f"{what}: calls upstream until they were open",
            f"at most {CALLERS * CAP}",
            f"{within.first()} (without the policy {alone.first()})",
            within.first() <= CALLERS * CAP,
        ),
        line(
            f"{what}: calls upstream of one call, its client's retries included",
            f"at most {CAP} and a probe for each retry",
            str(within.most_upstream),
            within.most_upstream <= CAP + CLIENT_ATTEMPTS - 1,
        ),
        line(
            f"{what}: probes of a stage in {seconds:.0f} s, and the least time between two",
            f"at most {probes}, at least {OPEN_S * 0.9:.1f} s",
            f"{within.probes()}, {within.nearest_s():.2f} s (without the policy {alone.probes()}, {alone.nearest_s():.2f} s)",
            max(within.probes(), alone.probes()) <= probes
            and min(within.nearest_s(), alone.nearest_s()) >= OPEN_S * 0.9,
        ),
        line(
            f"{what}: calls upstream in all, with the policy and without",
            "not multiplied: at most a probe a second and stage more",
            f"{len(within.rows)} and {len(alone.rows)} of {within.calls} and {alone.calls} calls",
            len(within.rows) <= CALLERS * CAP + probes * len(_PROVIDERS),
        ),
        line(
            f"{what}, 85 of 100 refused: attempts of a call, cap {CAP}",
            f"at most {CAP}",
            f"{most.attempts} ({most.calls} calls, {most.handled} at the service, {len(most.rows)} upstream, {most.served} answered)",
            most.attempts <= CAP,
        ),
        line(
            f"{what}, 85 of 100 refused: calls upstream of one call, its client's retries included",
            f"at most {CAP} for each of its {CLIENT_ATTEMPTS}",
            str(most.most_upstream),
            most.most_upstream <= CAP * CLIENT_ATTEMPTS,
        ),
    ]


async def _storm(folder: Path, mark: str, seconds: float, *, retries: bool) -> Storm:
    folder.mkdir(parents=True)  # noqa: ASYNC240 - nothing runs yet
    storm, prompts = Storm(), list[str]()
    options: list[tuple[str, object]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", int(retries))]
    if retries:
        options.append(("grpc.service_config", _RETRIES))
    async with running_house(folder, plan(), _CONFIG) as house, AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(dial(f"127.0.0.1:{house.port}", with_channel_options(*options)))
            for _ in range(_CONNECTIONS)
        ]
        watching = await stack.enter_async_context(dial(f"127.0.0.1:{house.port}"))
        for client in (*clients, watching):
            await client.ops.get_status(background().with_timeout(20))  # they are connected
        handled = (await watching.ops.get_status(background())).calls_ended
        storm.began = time.monotonic()

        async def caller(number: int) -> None:
            turn = 0
            while time.monotonic() < storm.began + seconds:
                prompt = f"{mark} caller {number} for the {turn}. time"
                prompts.append(prompt)
                turn += 1
                await _called(storm, clients[number % _CONNECTIONS], prompt, streams=number % 2 == 1)
                await anyio.sleep(_AGAIN_S)

        with anyio.move_on_after(seconds + _LAST_S):  # clients that wait for their next try are not waited for
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_watch, storm, watching, seconds)
                for number in range(CALLERS):
                    tasks.start_soon(caller, number)
        status = await watching.ops.get_status(background().with_timeout(20))
        storm.handled = status.calls_ended - handled
        storm.rows = await house.rows()
        await _written(watching)
        storm.attempts = _most_attempts(house, folder / "ledger.db")
    upstream = Counter(each.key for each in storm.rows)
    storm.most_upstream = max((upstream[key_of(prompt)] for prompt in prompts), default=0)
    return storm


async def _called(storm: Storm, client: Client, prompt: str, *, streams: bool) -> None:
    ctx = background().with_timeout(6)
    storm.calls += 1
    try:
        if streams:
            async with client.stream_route(ctx, call("storm", prompt)) as stream:
                async for _ in stream:
                    pass
        else:
            await client.route(ctx, call("storm", prompt))
        storm.served += 1
    except RpcError as error:
        storm.told[error.code.name] += 1


async def _watch(storm: Storm, client: Client, seconds: float) -> None:
    """Note when all breakers are open."""
    while time.monotonic() < storm.began + seconds:
        stages = await client.ops.list_stages(background().with_timeout(20))
        if len(stages) == len(_PROVIDERS) and all(each.breaker != ops_pb2.BREAKER_STATE_CLOSED for each in stages):
            storm.opened_s = time.monotonic() - storm.began
            return
        await anyio.sleep(0.01)


async def _written(client: Client) -> None:
    with anyio.fail_after(20):
        while (await client.ops.get_status(background().with_timeout(20))).ledger_pending:
            await anyio.sleep(0.02)


def _most_attempts(house: House, ledger: Path) -> int:
    with closing(sqlite3.connect(ledger)) as database:
        rows = database.execute("SELECT COUNT(*) FROM attempts GROUP BY tenant, request_id").fetchall()
    return max((int(count) for (count,) in rows), default=0)
