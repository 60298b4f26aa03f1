"""A waiting read can be woken without a cancellation and without losing anything."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from gearshift.core.http import Http, HttpResponse, Woken
from gearshift.core.provider import Timeouts
from gearshift.core.wake import Wake
from tests.support.scripted_server import Reply, scripted

BOUND_S = 10.0


async def opened(http: Http, url: str) -> HttpResponse:
    return await http.open(url=url, headers={}, body=b"{}", timeouts=Timeouts(), stream=True)


async def test_waiting_read_is_woken_and_the_next_one_gives_what_comes() -> None:
    more = asyncio.Event()
    http = Http()
    async with scripted(Reply.sse(b"one", more, b"two")) as server:
        response = await opened(http, server.url)
        with anyio.fail_after(BOUND_S):
            assert await response.read() == b"one"
            for _ in range(3):
                asyncio.get_running_loop().call_soon(response.wake)
                with pytest.raises(Woken):
                    await response.read()
            more.set()
            assert await response.read() == b"two"
            assert await response.read() == b""
        response.close()
        await http.aclose()


async def test_wake_between_two_reads_is_not_lost() -> None:
    more = asyncio.Event()
    http = Http()
    async with scripted(Reply.sse(b"one", more, b"two")) as server:
        response = await opened(http, server.url)
        with anyio.fail_after(BOUND_S):
            assert await response.read() == b"one"
            response.wake()
            with pytest.raises(Woken):
                await response.read()
            more.set()
            assert await response.read() == b"two"
        response.close()
        response.wake()
        await http.aclose()


async def test_wake_rings_once_and_can_be_cancelled() -> None:
    rings: list[float] = []
    loop = asyncio.get_running_loop()
    wake = Wake()
    wake.after(0.001)
    assert not wake.is_set  # nobody said how
    wake.by(lambda: rings.append(loop.time()))
    began = loop.time()
    wake.after(0.02)
    wake.after(0.5)
    assert wake.is_set
    with anyio.fail_after(BOUND_S):
        while not rings:
            await anyio.sleep(0.002)
    assert 0.015 < rings[0] - began < 0.4
    assert not wake.is_set
    wake.after(0.005)
    wake.cancel()
    await anyio.sleep(0.02)
    assert len(rings) == 1
