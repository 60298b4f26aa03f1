"""No gateway: a client with the same timeouts and nobody to fall back to."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from bench.faults.gateway import FIRST_TOKEN_S, Spent
from bench.faults.openai_client import OpenAiClient
from bench.faults.provider import Providers, wire_model
from bench.faults.work import GONE, PRIMARY, Heard, Question


class Direct:
    """The faulty provider itself."""

    name = "direct"
    runs = 50
    in_flight = 8
    settings = ("Not a gateway: the client asks the faulty provider itself and waits 2 s for each read.",)

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return f"aiohttp {aiohttp.__version__}"

    @asynccontextmanager
    async def running(self, providers: Providers, folder: Path) -> AsyncGenerator[_Direct]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield _Direct(providers, session)


class _Direct:
    def __init__(self, providers: Providers, session: aiohttp.ClientSession) -> None:
        timeouts = aiohttp.ClientTimeout(total=None, sock_read=FIRST_TOKEN_S)
        self._clients = {name: OpenAiClient(session, providers.base_urls[name], timeouts) for name in (PRIMARY, GONE)}

    async def ask(self, question: Question) -> Heard:
        name = GONE if question.gone else PRIMARY
        return await self._clients[name].ask(question, wire_model(name), {})

    async def spent(self) -> list[Spent] | None:
        return None


GATEWAY = Direct()
