"""Portkey's gateway, the open-source one of npm, as its README and docs advise: a config with strategy `fallback`.

The server library that npm picks today answers 500 to every stream, so an older one is asked for by an override.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from bench.common.process import BENCH, Process, free_port
from bench.faults.gateway import FIRST_TOKEN_S, Spent
from bench.faults.openai_client import OpenAiClient
from bench.faults.provider import Providers, wire_model
from bench.faults.work import GONE, PRIMARY, SCHEMA, SECONDARY, Heard, Question

_HOME = BENCH / "portkey"
_SERVER = _HOME / "node_modules/@portkey-ai/gateway/build/start-server.js"
_PACKAGE = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    "overrides": {"@hono/node-server": "1.13.8"},
}


class Portkey:
    """Portkey's gateway."""

    name = "portkey"
    runs = 50
    in_flight = 8
    settings = (
        (
            "`strategy: {mode: fallback}` over two targets; without `on_status_codes` it falls back on every status that is "
            "no success."
        ),
        (
            "`request_timeout: 2000` at each target: its one timeout, until the response's headers. It has none for the "
            "first token, between tokens, or for a body."
        ),
        (
            "An output guardrail `default.jsonSchema` with `deny: true` for JSON: its documentation says that a stream's "
            "answer is checked too late to fall back, and that is so."
        ),
        "No retries. No breaker. The open-source gateway records no spend.",
    )

    def missing(self) -> str:
        if _SERVER.exists():
            return ""
        return (
            f"mkdir -p .bench/portkey && echo '{json.dumps(_PACKAGE)}' > .bench/portkey/package.json && "
            "npm install --ignore-scripts --prefix .bench/portkey"
        )

    def version(self) -> str:
        def of(package: str) -> str:
            return str(json.loads((_HOME / "node_modules" / package / "package.json").read_text("utf-8"))["version"])

        return f"@portkey-ai/gateway {of('@portkey-ai/gateway')} (@hono/node-server {of('@hono/node-server')})"

    @asynccontextmanager
    async def running(self, providers: Providers, folder: Path) -> AsyncGenerator[_Running]:
        port = free_port()
        command = ["node", str(_SERVER), f"--port={port}", "--headless"]
        process = Process(self.name, command, port, folder / "portkey.log", {"NODE_ENV": "production"}, folder)
        try:
            await process.start()
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                yield _Running(providers, session, f"http://127.0.0.1:{port}/v1")
        finally:
            process.stop()


class _Running:
    def __init__(self, providers: Providers, session: aiohttp.ClientSession, url: str) -> None:
        self._client = OpenAiClient(session, url, aiohttp.ClientTimeout(total=None))
        self._headers = {
            (gone, is_json): {"x-portkey-config": json.dumps(_config(providers, GONE if gone else PRIMARY, is_json))}
            for gone in (False, True)
            for is_json in (False, True)
        }

    async def ask(self, question: Question) -> Heard:
        return await self._client.ask(question, "any", self._headers[question.gone, question.mode.json])

    async def spent(self) -> list[Spent] | None:
        return None


def _config(providers: Providers, first: str, is_json: bool) -> dict[str, object]:
    targets: list[dict[str, object]] = []
    for name in (first, SECONDARY):
        target: dict[str, object] = {
            "provider": "openai",
            "api_key": "bench",
            "custom_host": providers.base_urls[name],
            "request_timeout": int(FIRST_TOKEN_S * 1000),
            "override_params": {"model": wire_model(name)},
        }
        if is_json:
            target["output_guardrails"] = [{"default.jsonSchema": {"schema": SCHEMA}, "deny": True}]
        targets.append(target)
    return {"strategy": {"mode": "fallback"}, "targets": targets}


GATEWAY = Portkey()
