"""Which connection a call gets: the limit, the order of waiting, and what becomes of connections that lie unused."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http, HttpResponse
from gearshift.core.provider import Timeouts
from gearshift.core.words import FailureKind
from tests.support.scripted_server import BOUND_S, End, Reply, ScriptedServer, scripted

HANGING = Reply.sse(b"x", end=End.HANG)


@asynccontextmanager
async def client(connections: int) -> AsyncGenerator[Http]:
    http = Http(connections=connections)
    try:
        with anyio.fail_after(BOUND_S):
            yield http
    finally:
        await http.aclose()


async def ask(http: Http, url: str, *, stream: bool = False, connect_s: float = 5.0) -> HttpResponse:
    timeouts = Timeouts(connect_s=connect_s)
    return await http.open(url=url, headers={}, body=b"{}", timeouts=timeouts, stream=stream)


async def call(http: Http, url: str) -> None:
    response = await ask(http, url)
    try:
        await response.read_all()
    finally:
        response.close()


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await anyio.lowlevel.checkpoint()


async def test_no_more_connections_are_open_than_allowed() -> None:
    async with scripted(Reply.json({})) as server, client(2) as http:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(call, http, server.url)
        assert len(server.requests) == 20
        assert server.connections == 2
        assert http.statistics() == {"open": 2, "used": 0, "pools": 1}


async def test_the_last_used_connection_is_used_first() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    replies = (Reply.sse(b"a", first), Reply.sse(b"b", second), Reply.json({}))
    async with scripted(*replies) as server, client(4) as http:
        one = await ask(http, server.url, stream=True)
        two = await ask(http, server.url, stream=True)
        for response, event in ((two, second), (one, first)):  # the first connection comes back last
            event.set()
            await response.read_all()
        for _ in range(3):
            await call(http, server.url)
        assert [seen.connection for seen in server.requests] == [0, 1, 0, 0, 0]


async def test_who_came_first_is_served_first() -> None:
    async with scripted(HANGING, Reply.json({})) as server, client(1) as http:
        first = await ask(http, server.url, stream=True)
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(call, http, f"{server.url}/{number}")
                await anyio.wait_all_tasks_blocked()
            first.close()
        assert [seen.path for seen in server.requests[1:]] == [f"/{number}" for number in range(5)]


async def test_a_newcomer_does_not_overtake_who_waits_for_another_address() -> None:
    held = asyncio.Event()
    async with (
        scripted(Reply.sse(b"x", held), Reply.json({})) as one,
        scripted(Reply.json({})) as two,
        client(1) as http,
    ):
        order: list[str] = []

        async def noted(server: ScriptedServer, name: str) -> None:
            await call(http, server.url)
            order.append(name)

        first = await ask(http, one.url, stream=True)
        async with anyio.create_task_group() as tasks:
            for server, name in ((two, "two"), (one, "one")):
                tasks.start_soon(noted, server, name)
                await anyio.wait_all_tasks_blocked()
            held.set()
            await first.read_all()
        assert order == ["two", "one"]
        assert one.connections == 2  # the first was given up for the other address


async def test_unused_connection_makes_room_for_another_address() -> None:
    async with scripted() as one, scripted() as two, client(1) as http:
        for server in (one, two, one):
            await call(http, server.url)
            assert http.statistics()["open"] == 1
        assert (one.connections, two.connections) == (2, 1)


async def test_who_gives_up_waiting_takes_no_place() -> None:
    async with scripted(HANGING, Reply.json({})) as server, client(1) as http:
        first = await ask(http, server.url, stream=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, http, server.url)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        with pytest.raises(ProviderFailure) as caught:
            await ask(http, server.url, connect_s=0.02)
        assert (caught.value.kind, caught.value.sent) == (FailureKind.CONNECT_TIMEOUT, False)
        first.close()
        await call(http, server.url)
        assert len(server.requests) == 2


@pytest.mark.parametrize("gives", ["a connection", "a place"])
async def test_what_a_cancelled_call_was_given_goes_to_the_next(gives: str) -> None:
    held = asyncio.Event()
    async with scripted(Reply.sse(b"x", held), Reply.json({})) as server, client(1) as http:
        first = await ask(http, server.url, stream=True)
        scope = anyio.CancelScope()

        async def unlucky() -> None:
            with scope:
                await call(http, server.url)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(unlucky)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(call, http, f"{server.url}/next")
            await anyio.wait_all_tasks_blocked()
            if gives == "a place":
                first.close()
            else:
                held.set()
                await until(lambda: http.statistics()["used"] == 0)
            scope.cancel()  # what was given has not been taken yet
        assert server.requests[-1].path == "/next"
        assert http.statistics()["open"] == 1


async def test_connection_that_dies_on_its_way_to_who_waits_is_replaced() -> None:
    held = asyncio.Event()
    async with scripted(Reply.sse(b"x", held), Reply.json({})) as server, client(1) as http:
        first = await ask(http, server.url, stream=True)
        (connection,) = http._pools[""].connections  # pyright: ignore[reportPrivateUsage]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, http, server.url)
            await anyio.wait_all_tasks_blocked()
            held.set()
            await until(lambda: http.statistics()["used"] == 0)
            connection.drop()
        assert server.connections == 2
        assert await first.read_all() == b"x"


async def test_failed_connecting_gives_its_place_back() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        refusing = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        async with scripted() as server, client(1) as http:
            for _ in range(3):
                with pytest.raises(ProviderFailure) as caught:
                    await ask(http, refusing)
                assert (caught.value.kind, caught.value.sent) == (FailureKind.CONNECTION, False)
            await call(http, server.url)


async def test_connecting_that_takes_too_long_gives_its_place_back() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]  # the queue of a listener that never accepts
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            async with scripted() as server, client(1) as http:
                with pytest.raises(ProviderFailure) as caught:
                    await ask(http, f"http://127.0.0.1:{listener.getsockname()[1]}/", connect_s=0.02)
                assert caught.value.kind is FailureKind.CONNECT_TIMEOUT
                await call(http, server.url)
        finally:
            for filler in fillers:
                filler.close()


async def test_unused_connection_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gearshift.core.http._connection.KEEP_ALIVE_S", 0.02)
    async with scripted() as server, client(2) as http:
        await call(http, server.url)
        await until(lambda: http.statistics()["open"] == 0)
        await call(http, server.url)
        assert server.connections == 2


async def test_connection_in_use_outlives_the_time_it_may_lie_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gearshift.core.http._connection.KEEP_ALIVE_S", 0.02)
    go = asyncio.Event()
    async with scripted(Reply.json({}), Reply.sse(b"a", go, b"b")) as server, client(2) as http:
        await call(http, server.url)
        response = await ask(http, server.url, stream=True)
        asyncio.get_running_loop().call_later(0.1, go.set)
        assert await response.read_all() == b"ab"
        assert server.connections == 1


async def test_closing_fails_who_waits_for_a_place() -> None:
    async with scripted(HANGING) as server, client(1) as http:
        await ask(http, server.url, stream=True)
        failures: list[ProviderFailure] = []

        async def wait() -> None:
            try:
                await ask(http, server.url)
            except ProviderFailure as failure:
                failures.append(failure)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await http.aclose()
        assert [(failure.kind, failure.sent) for failure in failures] == [(FailureKind.CONNECTION, False)]


async def test_sender_of_a_closed_client_sends_nothing() -> None:
    async with scripted() as server, client(1) as http:
        sender = http.sender(url=server.url, headers={}, stream=False)
        assert await (await http.send(sender, b"{}", Timeouts())).read_all() == b"{}"
        await http.aclose()
        with pytest.raises(ProviderFailure) as caught:
            await http.send(sender, b"{}", Timeouts())
        assert (caught.value.kind, caught.value.sent) == (FailureKind.CONNECTION, False)
        assert len(server.requests) == 1


async def test_many_calls_that_are_cancelled_at_any_time_leave_every_place_free() -> None:
    async with scripted(Reply.json({})) as server, client(3) as http:

        async def hasty(ticks: int) -> None:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(call, http, server.url)
                    for _ in range(ticks):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

        for round_ in range(15):
            async with anyio.create_task_group() as tasks:
                for at in range(12):
                    tasks.start_soon(hasty, (at * 7 + round_) % 40)
        await until(lambda: http.statistics()["used"] == 0)
        async with anyio.create_task_group() as tasks:
            for _ in range(12):
                tasks.start_soon(call, http, server.url)
        assert http.statistics()["open"] <= 3
        pool = http._pools[""]  # pyright: ignore[reportPrivateUsage]
        assert pool.taken == len(pool.connections)
