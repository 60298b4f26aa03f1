"""The three processes of a sitting, and what is asked of their status ports.

Rules: providers, service and load are processes of their own, ended by their ids. The primary provider has whatever
fault the prompt names in double brackets, the secondary is healthy and its first token comes after FIRST_TOKEN_MS. The
service's breakers are kept from opening, so that every call meets its fault; nothing is tried twice at one stage.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import msgspec

from bench.common.process import Process, free_port
from bench.streams.proc import Proc
from gearshift.server.simulator.draws import Draws

FIRST_TOKEN_MS = 50
"""Of the secondary provider."""
TOKEN_MS = 5
IDLE_S = 0.4
PRIMARY, SECONDARY, FLOOD = "primary", "secondary", "flood"
STREAM_TASK, JSON_TASK = "stream-task", "json-task"
_FIELDS = ("teeth", "shafts", "price", "weight", "speeds", "year")
SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "integer"} for name in _FIELDS},
    "required": list(_FIELDS),
    "additionalProperties": False,
}
JSON_MARK = "[[json]]"
"""In prompts that ask for JSON of SCHEMA."""
FLOODS = (4, 64, 4096)
"""Characters a frame of the providers that never stop."""
NOISE_TASK = "noise-task"

_CONFIG = """\
version: 1
providers:
  primary: {{kind: openai, dialect: openai, base_url: "{primary}", api_key: bench, breaker: {breaker}}}
  secondary: {{kind: openai, dialect: openai, base_url: "{secondary}", api_key: bench, breaker: {breaker}}}
  flood: {{kind: openai, dialect: openai, base_url: "{flood}", api_key: bench, breaker: {breaker}}}
models:
  weak: {{provider: primary, wire_id: m, capability: medium, {facts}}}
  strong: {{provider: secondary, wire_id: m, capability: high, {facts}}}
  noise: {{provider: flood, wire_id: noise, capability: medium, {facts}}}
{flood_models}
chains:
  two:
    stages:
      - {{provider: primary, model: weak, max_retries: 0, timeouts: {{first_token_s: 2, idle_s: {idle}}}}}
      - {{provider: secondary, model: strong, max_retries: 0}}
  noisy:
    stages:
      - {{provider: flood, model: noise, max_retries: 0}}
      - {{provider: secondary, model: strong, max_retries: 0}}
{flood_chains}
tasks:
  declared:
    stream-task: {{type: generate, complexity: low, chain: two}}
    json-task: {{type: extract, complexity: low, chain: two}}
    noise-task: {{type: extract, complexity: low, chain: noisy}}
{flood_tasks}
gates: {{min_tokens_per_s: 5}}
defaults: {{deadline_s: 120}}
ledger: {{path: "{ledger}"}}
server: {{port: {port}, http: false, max_calls: 512}}
"""
_BREAKER = (
    "{consecutive_faults: 1000, fault_rate: 1, window: 10000, open_s: 0.001, max_open_s: 0.001, "
    "authentication_open_s: 0.001}"
)
_FACTS = (
    "context_tokens: 128000, features: [json_schema, json_object, logprobs, temperature, seed], "
    "prices: {input_usd: 0.15, output_usd: 0.6}"
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A reply of the simulator; `booked_at` is a moment of `time.monotonic`."""

    key: str
    provider: str
    fault: str
    end: str
    tokens: int
    written: int
    first_token_ms: float | None
    left_after_ms: float | None
    booked_at: float

    @property
    def last_write_at(self) -> float:
        """When the simulator last wrote to it, or broke it off."""
        return self.booked_at - (self.left_after_ms or 0.0) / 1000


class _Told(msgspec.Struct, frozen=True):
    connections: int
    playing: int
    rows: list[Row]


class Held(msgspec.Struct, frozen=True):
    """What the service holds; `of_streams` counts live objects by their class."""

    tasks: int
    in_flight: int
    ended: int
    objects: int
    of_streams: dict[str, int]


_HELD = msgspec.json.Decoder(Held)
_TOLD = msgspec.json.Decoder(_Told)


@dataclass(frozen=True)
class House:
    """What runs: ports of loopback."""

    port: int
    simulator: int
    service: Proc
    service_status: int
    simulator_status: int
    flood_status: int

    async def rows(self) -> list[Row]:
        """Wait until no reply is being played, and give those since the last `reset`."""
        with anyio.fail_after(40):
            while (told := _TOLD.decode(await ask(self.simulator_status, b"rows"))).playing:
                await anyio.sleep(0.05)
            return told.rows

    async def connections(self) -> int:
        """Give the simulator's open connections, of which idle ones are the service's pool."""
        return _TOLD.decode(await ask(self.simulator_status, b"rows")).connections

    async def reset(self) -> None:
        """Forget the simulator's replies."""
        await ask(self.simulator_status, b"reset")

    async def held(self) -> Held:
        """Give what the service holds."""
        return _HELD.decode(await ask(self.service_status, b"held"))


async def ask(port: int, word: bytes) -> bytes:
    """Say one word to a status port, and give what it tells."""
    pieces: list[bytes] = []
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(word + b"\n")
        try:
            while True:
                pieces.append(await stream.receive())
        except anyio.EndOfStream:
            return b"".join(pieces)


def marked(fault: str) -> str:
    """Give the words by which a prompt asks the primary provider for a fault; a language's name would make it lawful."""
    return f"[[{fault.replace('language', 'script').replace(':ru', '')}]]"


def key_of(prompt: str) -> str:
    """Give what the simulator books a prompt of STREAM_TASK under."""
    return Draws("m", False, "", prompt, "").hex(16)


def plan(faults: Sequence[str], answers: Sequence[Mapping[str, object]] = ()) -> dict[str, object]:
    """Give the simulator's plan."""
    rules = [{"fault": each, "contains": marked(each)} for each in faults]
    document = {name: number * 7 for number, name in enumerate(_FIELDS, 1)}
    common: dict[str, object] = {"wire": "openai", "models": {"m": {}}}
    shaped = {"contains": JSON_MARK, "json": document}
    return {
        "seed": 1,
        "providers": {
            PRIMARY: {**common, "latency": {"first_token_ms": TOKEN_MS, "token_ms": TOKEN_MS}, "faults": rules},
            SECONDARY: {**common, "latency": {"first_token_ms": FIRST_TOKEN_MS, "token_ms": 1}},
        },
        "answers": [*answers, shaped, {"provider": SECONDARY, "words": 12}, {"words": 120}],
    }


@asynccontextmanager
async def running_house(folder: Path, simulated: Mapping[str, object]) -> AsyncGenerator[House]:
    """Run providers and service while the block runs; `folder` is there, and takes configurations, logs and ledger.

    Raises:
        RuntimeError: one of them does not start.
    """
    plan_file, config_file = folder / "plan.yaml", folder / "gearshift.yaml"
    plan_file.write_text(json.dumps(simulated), encoding="utf-8")  # JSON is YAML
    simulator, simulator_status, flood, flood_status, port, status = (free_port() for _ in range(6))
    url = f"http://127.0.0.1:{simulator}/p/"
    config_file.write_text(
        _config(f"{url}primary/v1", f"{url}secondary/v1", f"http://127.0.0.1:{flood}/v1", port, folder / "ledger.db"),
        encoding="utf-8",
    )
    environment = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    modules = {
        "simulate": (simulator_status, (plan_file, simulator, simulator_status)),
        "flood": (flood_status, (flood, flood_status)),
        "serve": (status, (config_file, status)),  # which listens last
    }
    async with AsyncExitStack() as stack:
        started: dict[str, Process] = {}
        for module, (listens, arguments) in modules.items():
            command = [sys.executable, "-m", f"bench.streams.{module}", *map(str, arguments)]
            process = started[module] = Process(module, command, listens, folder / f"{module}.log", environment)
            stack.callback(process.stop)
            await process.start()
        yield House(port, simulator, Proc(started["serve"].pid), status, simulator_status, flood_status)


def _config(primary: str, secondary: str, flood: str, port: int, ledger: Path) -> str:
    names = [f"flood-{size}" for size in FLOODS]
    return _CONFIG.format(
        primary=primary,
        secondary=secondary,
        flood=flood,
        port=port,
        ledger=ledger,
        idle=IDLE_S,
        breaker=_BREAKER,
        facts=_FACTS,
        flood_models="\n".join(
            f"  {name}: {{provider: flood, capability: high, context_tokens: 128000, prices: {{input_usd: 1, output_usd: 1}}}}"
            for name in names
        ),
        flood_chains="\n".join(
            f"  {name}: {{stages: [{{provider: flood, model: {name}, timeouts: {{idle_s: 100, total_s: 110}}}}]}}"
            for name in names
        ),
        flood_tasks="\n".join(f"    {name}: {{type: generate, complexity: low, chain: {name}}}" for name in names),
    )
