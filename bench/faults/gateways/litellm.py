"""LiteLLM's proxy as its docs advise: a `config.yaml` with `fallbacks`, timeouts at each model, and a custom logger.

https://docs.litellm.ai/docs/proxy/reliability, …/proxy/timeout, …/proxy/logging (custom callbacks)
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import aiohttp
import anyio

from bench.common.process import BENCH, Process, free_port
from bench.faults.gateway import FIRST_TOKEN_S, Spent
from bench.faults.openai_client import OpenAiClient
from bench.faults.provider import INPUT_USD, OUTPUT_USD, Providers, wire_model
from bench.faults.work import GONE, PRIMARY, SECONDARY, Heard, Question

_HOME = BENCH / "litellm"
_COMMAND = _HOME / "bin/litellm"
_LOGGER = '''\
"""Writes what LiteLLM says that each call cost: one JSON line a call."""

import json
import os

from litellm.integrations.custom_logger import CustomLogger


class Spend(CustomLogger):
    def _note(self, kwargs, ended):
        payload = kwargs.get("standard_logging_object") or {}
        line = {
            "ended": ended,
            "usd": str(kwargs.get("response_cost") or 0),
            "model": payload.get("model_group") or kwargs.get("model") or "",
            "base": payload.get("api_base") or "",
        }
        with open(os.environ["BENCH_SPEND"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\\n")

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        self._note(kwargs, "success")

    async def async_log_failure_event(self, kwargs, response_obj, start_time, end_time):
        self._note(kwargs, "failure")


spend = Spend()
'''
_LOGGED_S = 1.0
"""How long its logging worker may take for the last calls."""


class LiteLlm:
    """LiteLLM's proxy."""

    name = "litellm"
    runs = 50
    in_flight = 4
    settings = (
        "`router_settings.fallbacks` from the faulty model to the healthy one, and `content_policy_fallbacks` likewise.",
        (
            "`timeout: 2` and `stream_timeout: 2` at each model: for a whole answer and, by its documentation, for a "
            "stream's first chunk; it was seen to end a stream that falls silent later, too."
        ),
        "`enable_json_schema_validation: true`: it checks whole answers against their schema, streams it does not.",
        "`num_retries: 0`, and `disable_cooldowns: true`, so that every run meets the fault.",
        "Spend is what its custom logger is told as `response_cost`, success and failure.",
    )

    def missing(self) -> str:
        if _COMMAND.exists():
            return ""
        return "python3 -m venv .bench/litellm && .bench/litellm/bin/pip install 'litellm[proxy]==1.102.4'"

    def version(self) -> str:
        code = "from importlib.metadata import version; print(version('litellm'))"
        return "litellm " + subprocess.check_output([_HOME / "bin/python", "-c", code], text=True, timeout=60).strip()

    @asynccontextmanager
    async def running(self, providers: Providers, folder: Path) -> AsyncGenerator[_Running]:
        own = folder / "litellm"
        own.mkdir(exist_ok=True)
        (own / "bench_spend.py").write_text(_LOGGER, encoding="utf-8")
        config = own / "config.yaml"
        config.write_text(json.dumps(_config(providers)), encoding="utf-8")  # JSON is YAML
        spend = own / "spend.jsonl"
        spend.touch()
        port = free_port()
        command = [str(_COMMAND), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        environment = {
            "BENCH_SPEND": str(spend),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
            "PYTHONPATH": str(own),
        }
        process = Process(self.name, command, port, folder / "litellm.log", environment, own)
        try:
            await process.start()
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                await _alive(session, port)
                yield _Running(session, f"http://127.0.0.1:{port}/v1", spend)
        finally:
            process.stop()


class _Running:
    def __init__(self, session: aiohttp.ClientSession, url: str, spend: Path) -> None:
        self._client = OpenAiClient(session, url, aiohttp.ClientTimeout(total=None))
        self._spend = spend
        self._read = 0

    async def ask(self, question: Question) -> Heard:
        return await self._client.ask(question, GONE if question.gone else PRIMARY, {})

    async def spent(self) -> list[Spent] | None:
        size = -1
        while size != self._spend.stat().st_size:
            size = self._spend.stat().st_size
            await anyio.sleep(_LOGGED_S)
        lines = self._spend.read_text("utf-8").splitlines()
        fresh, self._read = [json.loads(line) for line in lines[self._read :]], len(lines)
        return [Spent(usd=Decimal(line["usd"])) for line in fresh if Decimal(line["usd"])]


def _config(providers: Providers) -> dict[str, object]:
    def model(name: str) -> dict[str, object]:
        return {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{wire_model(name)}",
                "api_base": providers.base_urls[name],
                "api_key": "bench",
                "timeout": FIRST_TOKEN_S,
                "stream_timeout": FIRST_TOKEN_S,
                "input_cost_per_token": float(INPUT_USD[name] / 1_000_000),
                "output_cost_per_token": float(OUTPUT_USD[name] / 1_000_000),
            },
        }

    ways = [{PRIMARY: [SECONDARY]}, {GONE: [SECONDARY]}]
    return {
        "model_list": [model(name) for name in (PRIMARY, SECONDARY, GONE)],
        "router_settings": {
            "fallbacks": ways,
            "content_policy_fallbacks": ways,
            "num_retries": 0,
            "disable_cooldowns": True,
        },
        "litellm_settings": {"callbacks": ["bench_spend.spend"], "enable_json_schema_validation": True},
    }


async def _alive(session: aiohttp.ClientSession, port: int) -> None:
    """Wait until it has read its configuration, which comes after it listens."""
    with anyio.fail_after(60):
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/health/liveliness") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await anyio.sleep(0.1)


GATEWAY = LiteLlm()
