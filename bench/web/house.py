"""What runs: a simulated provider, one that never stops, and a service with both ports.

Rules: each is a process of its own, ended by its id. The provider answers a whole call at once and streams at an even pace.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.common.process import Process, free_port
from bench.streams.house import Held, ask
from bench.streams.proc import Proc

TOKEN_MS = 50
QUICK, PACED, FLOOD = "quick-task", "paced-task", "flood-task"

_CONFIG = """\
version: 1
providers:
  quick: {{kind: openai, dialect: openai, base_url: "{simulator}/quick/v1", api_key: bench}}
  paced: {{kind: openai, dialect: openai, base_url: "{simulator}/paced/v1", api_key: bench}}
  flood: {{kind: openai, dialect: openai, base_url: "{flood}", api_key: bench}}
models:
  quick: {{provider: quick, wire_id: m, {facts}}}
  paced: {{provider: paced, wire_id: m, {facts}}}
  flood: {{provider: flood, wire_id: flood-4096, {facts}}}
chains:
  quick: {{stages: [{{provider: quick, model: quick, max_retries: 0}}]}}
  paced: {{stages: [{{provider: paced, model: paced, max_retries: 0}}]}}
  flood: {{stages: [{{provider: flood, model: flood, max_retries: 0, timeouts: {{idle_s: 100, total_s: 110}}}}]}}
tasks:
  declared:
    quick-task: {{type: generate, complexity: low, chain: quick}}
    paced-task: {{type: generate, complexity: low, chain: paced}}
    flood-task: {{type: generate, complexity: low, chain: flood}}
stream: {{hold_back_tokens: 0, hold_back_ms: 0}}
defaults: {{deadline_s: 120}}
ledger: {{path: "{ledger}"}}
server: {{port: {port}, http_port: {http}, watch_config: false}}
"""
_FACTS = "capability: medium, context_tokens: 128000, prices: {input_usd: 0.15, output_usd: 0.6}"
_HELD = msgspec.json.Decoder(Held)


@dataclass(frozen=True)
class House:
    """Ports of loopback, and the service's process."""

    grpc_port: int
    http_port: int
    service: Proc
    status_port: int

    async def held(self) -> Held:
        """Give what the service holds."""
        return _HELD.decode(await ask(self.status_port, b"held"))


@asynccontextmanager
async def running_house(folder: Path, words: int) -> AsyncGenerator[House]:
    """Run everything while the block runs.

    Args:
        folder: is there, and takes configurations, logs and ledger.
        words: of a paced answer.

    Raises:
        RuntimeError: something does not start.
    """
    plan, config = folder / "plan.yaml", folder / "gearshift.yaml"
    simulator, simulator_status, flood, flood_status, port, http, status = (free_port() for _ in range(7))
    plan.write_text(json.dumps(_plan(words)), encoding="utf-8")  # JSON is YAML
    config.write_text(
        _CONFIG.format(
            simulator=f"http://127.0.0.1:{simulator}/p",
            flood=f"http://127.0.0.1:{flood}/v1",
            facts=_FACTS,
            ledger=folder / "ledger.db",
            port=port,
            http=http,
        ),
        encoding="utf-8",
    )
    environment = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    modules: dict[str, tuple[int, tuple[object, ...]]] = {
        "simulate": (simulator_status, (plan, simulator, simulator_status)),
        "flood": (flood_status, (flood, flood_status)),
        "serve": (status, (config, status)),
    }
    async with AsyncExitStack() as stack:
        started: dict[str, Process] = {}
        for module, (listens, arguments) in modules.items():
            command = [sys.executable, "-m", f"bench.streams.{module}", *map(str, arguments)]
            process = started[module] = Process(module, command, listens, folder / f"{module}.log", environment)
            stack.callback(process.stop)
            await process.start()
        yield House(port, http, Proc(started["serve"].pid), status)


def _plan(words: int) -> dict[str, object]:
    common: dict[str, object] = {"wire": "openai", "models": {"m": {}}}
    return {
        "seed": 1,
        "providers": {
            "quick": {**common, "latency": {"first_token_ms": 0, "token_ms": 0}},
            "paced": {**common, "latency": {"first_token_ms": TOKEN_MS, "token_ms": TOKEN_MS}},
        },
        "answers": [{"provider": "quick", "words": 4}, {"words": words}],
    }
