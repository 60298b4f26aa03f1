"""Asks model servers how hard they are pressed, beside the calls and never on their way.

Rules: asked at an interval, only while there are calls or somebody looks; a question takes 2 s and 1 MiB at most, and no
server is asked twice at once. Connections are its own, so that no call waits for a question. What fails is shown and breaks
nothing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import anyio

from gearshift.core.failures import FAILURE_RULES, ProviderFailure
from gearshift.core.http import Http
from gearshift.core.machines.pressure import Pressure
from gearshift.core.machines.reading import Reading, UnreadableError, read_llamacpp, read_ollama, read_vllm
from gearshift.core.provider import Timeouts

LOOKING_S: Final = 30.0
"""How long somebody who looked counts as looking."""
_QUESTION_S: Final = 2.0
_MOST_BYTES: Final = 1024 * 1024
_CONNECTIONS: Final = 16
_IDLE_S: Final = 1.0
"""How often it is looked whether a question is due."""
_LEAST_S: Final = 0.05

_READERS: Final[dict[str, Callable[[bytes], Reading]]] = {
    "vllm": read_vllm,
    "llamacpp": read_llamacpp,
    "ollama": read_ollama,
}


class Watch:
    """Asks the servers of a configuration.

    Args:
        pressures: those that are to be known now; reloads change them.

    """

    def __init__(self, pressures: Callable[[], Iterable[Pressure]]) -> None:
        self._pressures = pressures
        self._looked_at: float | None = None
        self._look = anyio.Event()
        self._answered = anyio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Ask while the block runs."""
        http = Http(connections=_CONNECTIONS)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._ask_all, http)
                try:
                    yield
                finally:
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await http.aclose()

    async def look(self, patience_s: float = 1.0) -> None:
        """Have everything asked that is not known lately, and wait for it, but not for long."""
        self._looked_at = time.monotonic()
        self._look.set()
        with anyio.move_on_after(patience_s):
            while any(not self._is_known(each) for each in self._pressures() if each.interval_s):
                await self._answered.wait()

    def _is_known(self, pressure: Pressure) -> bool:
        """Tell whether it was asked within its interval and has answered, or failed to."""
        asked = pressure.asked_at
        return asked is not None and not pressure.is_asking and time.monotonic() - asked <= pressure.interval_s

    async def _ask_all(self, http: Http) -> None:
        async with anyio.create_task_group() as questions:
            while True:
                self._look = anyio.Event()
                now, wait = time.monotonic(), _IDLE_S
                for each in self._pressures():
                    if each.is_due(now, self._looked_at, LOOKING_S):
                        each.is_asking, each.asked_at = True, now
                        questions.start_soon(self._ask, http, each)
                    if each.interval_s:
                        wait = min(wait, each.interval_s)
                with anyio.move_on_after(max(wait, _LEAST_S)):
                    await self._look.wait()

    async def _ask(self, http: Http, pressure: Pressure) -> None:
        pressure.polls += 1
        try:
            pressure.said(await _answer(http, pressure), time.monotonic())
        except ProviderFailure as failure:
            pressure.failed(f"{_place(pressure.url)} did not answer: {FAILURE_RULES[failure.kind].told}")
        except UnreadableError as error:
            pressure.failed(str(error))
        finally:
            pressure.is_asking = False
            self._answered.set()
            self._answered = anyio.Event()


async def _answer(http: Http, pressure: Pressure) -> Reading:
    timeouts = Timeouts(connect_s=_QUESTION_S, first_token_s=_QUESTION_S, idle_s=_QUESTION_S, total_s=_QUESTION_S)
    response = await http.open(
        method="GET", url=pressure.url, headers=pressure.headers, body=b"", timeouts=timeouts, stream=False
    )
    try:
        body = await response.read_all(_MOST_BYTES)
    finally:
        response.close()
    if response.status != HTTPStatus.OK:
        hint = "; start llama-server with --metrics" if pressure.kind == "llamacpp" else ""
        raise UnreadableError(f"{_place(pressure.url)} answered with status {response.status}{hint}")
    return _READERS[pressure.kind](body)


def _place(url: str) -> str:
    """Give the path that was asked: neither host nor socket, which may be private."""
    return urlsplit(url).path.rpartition(".sock")[2] or "/"
