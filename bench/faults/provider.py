"""The simulated providers, in a process of their own, and their account.

Rules: one process for a sitting; its account is emptied before each batch and read when the batch has settled, that is
when no reply is being played any more: a gateway may leave its upstream open when its caller has long gone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import aiohttp
import anyio
import msgspec

from bench.common.process import Process, free_port
from bench.faults.table import ROWS, mark_of
from bench.faults.work import DOCUMENT, GONE, PRIMARY, SECONDARY, TEXTS

INPUT_USD = {PRIMARY: Decimal("0.15"), GONE: Decimal("0.15"), SECONDARY: Decimal(3)}
"""USD for a million tokens."""
OUTPUT_USD = {PRIMARY: Decimal("0.60"), GONE: Decimal("0.60"), SECONDARY: Decimal(15)}
FIRST_TOKEN_MS, TOKEN_MS = 20, 2
_LOOK_S, _MOST_S = 0.05, 40.0


def wire_model(provider: str) -> str:
    """Give the name of a provider's one model."""
    return f"{provider}-model"


class Billed(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the simulator bills it; `applied`: it met a fault."""

    status: int
    applied: bool
    input_tokens: int
    output_tokens: int
    usd: Decimal = msgspec.field(name="billed_usd")


class _Account(msgspec.Struct):
    requests: list[Billed]


class _Root(msgspec.Struct):
    providers: dict[str, str]


_ACCOUNT = msgspec.json.Decoder(_Account)
_ROOT = msgspec.json.Decoder(_Root)


@dataclass(frozen=True)
class Providers:
    """Simulated providers that run; base URLs end in /v1."""

    url: str
    status_port: int
    base_urls: dict[str, str]
    session: aiohttp.ClientSession

    async def reset(self) -> None:
        """Empty the account."""
        async with self.session.post(f"{self.url}/account/reset") as response:
            response.raise_for_status()

    async def settled(self) -> list[Billed]:
        """Wait until no reply is being played, and give the account."""
        await anyio.sleep(_LOOK_S)
        with anyio.move_on_after(_MOST_S):
            while await self._playing():
                await anyio.sleep(_LOOK_S)
        async with self.session.get(f"{self.url}/account") as response:
            response.raise_for_status()
            return _ACCOUNT.decode(await response.read()).requests

    async def _playing(self) -> int:
        async with await anyio.connect_tcp("127.0.0.1", self.status_port) as stream:
            return int(await stream.receive())


def plan(seed: int, usage: str) -> dict[str, object]:
    """Give the simulator's plan: three providers, and a rule for each fault at each place.

    Args:
        usage: when tokens are counted: at the `end`, `cumulative` or `none`.
    """
    faults = sorted({fault for row in ROWS for mode in row.modes for fault in row.faults(mode)})
    common = {"wire": "openai", "usage": usage, "latency": {"first_token_ms": FIRST_TOKEN_MS, "token_ms": TOKEN_MS}}
    providers: dict[str, dict[str, object]] = {
        name: {**common, "models": {wire_model(name): {"prices": _prices(name)}}} for name in (PRIMARY, SECONDARY, GONE)
    }
    providers[PRIMARY]["faults"] = [{"fault": each, "contains": mark_of(each)} for each in faults]
    providers[GONE] |= {"port": 0, "down": True}
    answers = [{"provider": name, "text": text, "json": DOCUMENT} for name, text in TEXTS.items()]
    return {"seed": seed, "providers": providers, "answers": answers}


@asynccontextmanager
async def running_providers(folder: Path, seed: int, usage: str) -> AsyncGenerator[Providers]:
    """Run the simulator while the block runs."""
    path = folder / "plan.yaml"
    path.write_text(json.dumps(plan(seed, usage)), encoding="utf-8")  # JSON is YAML
    port, status_port = free_port(), free_port()
    command = [sys.executable, "-m", "bench.faults.simulate", str(path), str(port), str(status_port)]
    process = Process("simulator", command, status_port, folder / "simulator.log")
    url = f"http://127.0.0.1:{port}"
    try:
        await process.start()
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as response:
                base_urls = _ROOT.decode(await response.read()).providers
            yield Providers(url, status_port, base_urls, session)
    finally:
        process.stop()


def _prices(name: str) -> dict[str, float]:
    return {"input_usd": float(INPUT_USD[name]), "output_usd": float(OUTPUT_USD[name])}
