"""The shared HTTP layer against a real server that plays its part byte by byte."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http, HttpResponse
from gearshift.core.provider import Timeouts
from gearshift.core.words import FailureKind
from tests.support.loopback_tls import loopback_pem
from tests.support.scripted_server import BOUND_S, End, Piece, Reply, scripted

NEVER = asyncio.Event


@asynccontextmanager
async def client(*, tls: ssl.SSLContext | None = None, connections: int = 16) -> AsyncGenerator[Http]:
    http = Http(connections=connections, tls=tls)
    try:
        with anyio.fail_after(BOUND_S):
            yield http
    finally:
        await http.aclose()


async def ask(
    http: Http,
    url: str,
    *,
    stream: bool = False,
    timeouts: Timeouts | None = None,
    body: bytes = b"{}",
    headers: dict[str, str] | None = None,
) -> HttpResponse:
    return await http.open(url=url, headers=headers or {}, body=body, timeouts=timeouts or Timeouts(), stream=stream)


async def kind_of(http: Http, url: str, *, stream: bool = False, timeouts: Timeouts | None = None) -> FailureKind:
    """Ask, read everything, and give how it failed."""
    with pytest.raises(ProviderFailure) as caught:
        response = await ask(http, url, stream=stream, timeouts=timeouts)
        try:
            await response.read_all()
        finally:
            response.close()
    return caught.value.kind


async def test_answer_is_read_and_its_connection_used_again() -> None:
    async with scripted(Reply.json({"ok": True})) as server, client() as http:
        for _ in range(3):
            response = await ask(http, f"{server.url}/x")
            assert response.status == 200
            assert response.headers.get("Content-Type") == "application/json"
            assert await response.read_all() == b'{"ok": true}'
            assert await response.read() == b""
            response.close()
        assert server.connections == 1


async def test_request_says_what_it_must_and_nothing_else() -> None:
    async with scripted(Reply.json({})) as server, client() as http:
        response = await ask(http, f"{server.url}/v1/x?y=z", headers={"authorization": "Bearer k"})
        await response.read_all()
        (seen,) = server.requests
        assert (seen.method, seen.path, seen.body) == ("POST", "/v1/x?y=z", b"{}")
        assert dict(seen.headers) == {
            "host": server.url.removeprefix("http://"),
            "user-agent": "gearshift",
            "accept-encoding": "gzip, deflate",
            "content-length": "2",
            "authorization": "Bearer k",
            "content-type": "application/json",
        }


async def test_stream_asks_for_no_compression() -> None:
    async with scripted(Reply.sse("data: x\n\n")) as server, client() as http:
        response = await ask(http, server.url, stream=True)
        assert await response.read_all() == b"data: x\n\n"
        assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_large_body_arrives_whole() -> None:
    async with scripted(Reply.json({})) as server, client() as http:
        body = b"x" * (8 * 1024 * 1024)
        response = await ask(http, server.url, body=body)
        await response.read_all()
        assert server.requests[0].body == body


async def test_compressed_answer_is_unpacked() -> None:
    reply = Reply(headers={"content-encoding": "gzip"}, pieces=(gzip.compress(b"hello" * 100),))
    async with scripted(reply) as server, client() as http:
        response = await ask(http, server.url)
        assert await response.read_all() == b"hello" * 100


async def test_reads_come_as_the_server_writes() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    async with scripted(Reply.sse(b"one", first, b"two", second, b"three")) as server, client() as http:
        response = await ask(http, server.url, stream=True)
        assert await response.read() == b"one"
        first.set()
        assert await response.read() == b"two"
        second.set()
        assert await response.read() == b"three"
        assert await response.read() == b""


async def test_answer_without_length_ends_with_the_connection() -> None:
    async with scripted(Reply(pieces=(b"abc",), framing="none", end=End.CLOSE)) as server, client() as http:
        response = await ask(http, server.url)
        assert await response.read_all() == b"abc"
        response = await ask(http, server.url)
        assert await response.read_all() == b"abc"
        assert server.connections == 2


async def test_early_hints_are_passed_over() -> None:
    reply = Reply.raw(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    )
    async with scripted(reply) as server, client() as http:
        response = await ask(http, server.url)
        assert (response.status, await response.read_all()) == (200, b"ok")


async def test_redirect_is_not_followed() -> None:
    reply = Reply(status=307, headers={"location": "http://127.0.0.1:1/"})
    async with scripted(reply) as server, client() as http:
        response = await ask(http, server.url)
        assert response.status == 307
        assert await response.read_all() == b""
        assert len(server.requests) == 1


async def test_cookies_are_not_kept() -> None:
    async with scripted(Reply.json({}, headers={"set-cookie": "a=b"})) as server, client() as http:
        for _ in range(2):
            await (await ask(http, server.url)).read_all()
        assert "cookie" not in server.requests[1].headers


async def test_unix_socket_carries_the_path_after_it(tmp_path: Path) -> None:
    async with scripted(Reply.json({}), unix_path=str(tmp_path / "m.sock")) as server, client() as http:
        for _ in range(2):
            response = await ask(http, f"{server.url}/v1/chat")
            assert await response.read_all() == b"{}"
        assert (server.requests[0].path, server.requests[0].headers["host"]) == ("/v1/chat", "localhost")
        assert server.connections == 1


async def test_socket_ends_with_the_first_name_in_sock(tmp_path: Path) -> None:
    (tmp_path / "my.sockets").mkdir()
    path = tmp_path / "my.sockets" / "m.sock"
    async with scripted(Reply.json({}), unix_path=str(path)) as server, client() as http:
        await (await ask(http, f"{server.url}/a.sock/b")).read_all()
        assert server.requests[0].path == "/a.sock/b"


async def test_missing_socket_is_a_failed_connection(tmp_path: Path) -> None:
    async with client() as http:
        assert await kind_of(http, f"unix://{tmp_path}/none.sock/x") is FailureKind.CONNECTION


async def test_closed_port_is_a_failed_connection() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with client() as http:
            port = taken.getsockname()[1]
            assert await kind_of(http, f"http://127.0.0.1:{port}/") is FailureKind.CONNECTION


async def test_unknown_name_is_a_failed_connection() -> None:
    async with client() as http:
        assert await kind_of(http, "http://no-such-host.invalid/") is FailureKind.CONNECTION


async def test_host_that_does_not_accept_is_a_connect_timeout() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]  # the queue of a listener that never accepts
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            async with client() as http:
                url = f"http://127.0.0.1:{address[1]}/"
                assert await kind_of(http, url, timeouts=Timeouts(connect_s=0.05)) is FailureKind.CONNECT_TIMEOUT
        finally:
            for filler in fillers:
                filler.close()


async def test_full_pool_is_a_connect_timeout() -> None:
    async with scripted(Reply.sse(b"x", end=End.HANG)) as server, client(connections=1) as http:
        first = await ask(http, server.url, stream=True)
        assert await kind_of(http, server.url, timeouts=Timeouts(connect_s=0.05)) is FailureKind.CONNECT_TIMEOUT
        first.close()


@pytest.mark.parametrize("url", ["ftp://x/", "nonsense", "http:///x", "unix:///run/model/v1"])
async def test_wrong_address_is_an_invalid_request(url: str) -> None:
    async with client() as http:
        assert await kind_of(http, url) is FailureKind.INVALID_REQUEST


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "\u4f60"])
async def test_header_that_breaks_its_line_is_refused(value: str) -> None:
    async with scripted() as server, client() as http:
        with pytest.raises(ProviderFailure) as caught:
            await ask(http, server.url, headers={"authorization": value})
        assert caught.value.kind is FailureKind.INVALID_REQUEST
        assert not server.requests


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(Reply.raw(), FailureKind.CONNECTION, id="closed without an answer"),
        pytest.param(Reply.raw(end=End.CUT), FailureKind.CONNECTION, id="reset without an answer"),
        pytest.param(Reply.raw(b"HTTP/1.1 200 OK\r\ncontent-"), FailureKind.CONNECTION, id="head cut off"),
        pytest.param(
            Reply.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"), FailureKind.CONNECTION, id="body too short"
        ),
        pytest.param(Reply.sse(b"abc", end=End.BREAK), FailureKind.CONNECTION, id="chunks without their end"),
        pytest.param(Reply.sse(b"abc", end=End.CUT), FailureKind.CONNECTION, id="reset between chunks"),
        pytest.param(Reply.raw(b"SSH-2.0-OpenSSH\r\n\r\n"), FailureKind.MALFORMED, id="not HTTP"),
        pytest.param(
            Reply.raw(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n"),
            FailureKind.MALFORMED,
            id="length is no number",
        ),
        pytest.param(
            Reply.raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 20_000 + b"\r\n\r\n"),
            FailureKind.MALFORMED,
            id="head too long",
        ),
        pytest.param(
            Reply.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n", end=End.HANG),
            FailureKind.MALFORMED,
            id="chunk length is no number",
        ),
        pytest.param(
            Reply(headers={"content-encoding": "gzip"}, pieces=(b"not gzip at all",)),
            FailureKind.MALFORMED,
            id="compression is wrong",
        ),
    ],
)
async def test_broken_answer_has_its_kind(reply: Reply, kind: FailureKind) -> None:
    async with scripted(reply) as server, client() as http:
        assert await kind_of(http, server.url) is kind


async def test_broken_framing_in_the_middle_is_malformed() -> None:
    go = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
    async with scripted(Reply.raw(head, go, b"nonsense\r\n", end=End.HANG)) as server, client() as http:
        response = await ask(http, server.url, stream=True)
        assert await response.read() == b"abc"
        go.set()
        with pytest.raises(ProviderFailure) as caught:
            await response.read()
        assert caught.value.kind is FailureKind.MALFORMED
        response.close()


async def test_pooled_connection_that_died_unused_is_not_used() -> None:
    async with (
        scripted(Reply.json({}, headers={"connection": "keep-alive"}).ending(End.CLOSE)) as server,
        client() as http,
    ):
        await (await ask(http, server.url)).read_all()
        await anyio.wait_all_tasks_blocked()
        await (await ask(http, server.url)).read_all()
        assert server.connections == 2


async def test_request_on_a_stale_connection_is_sent_once() -> None:
    async with scripted(Reply.json({}), Reply.raw()) as server, client() as http:
        await (await ask(http, server.url)).read_all()
        assert await kind_of(http, server.url) is FailureKind.CONNECTION
        assert (len(server.requests), server.connections) == (2, 1)


async def test_connection_with_an_unsent_request_is_not_used_again() -> None:
    reply = Reply(status=413, read_body=False, end=End.HANG)
    async with scripted(reply, Reply.json({})) as server, client() as http:
        response = await ask(http, server.url, body=b"x" * (32 * 1024 * 1024))
        assert response.status == 413
        assert await response.read_all() == b""
        response.close()
        assert await (await ask(http, server.url)).read_all() == b"{}"
        assert server.connections == 2


async def test_answer_over_the_limit_is_malformed() -> None:
    async with scripted(Reply.json({"x": "y" * 1000})) as server, client() as http:
        response = await ask(http, server.url)
        with pytest.raises(ProviderFailure) as caught:
            await response.read_all(100)
        assert caught.value.kind is FailureKind.MALFORMED


# Closing


async def test_close_reaches_the_server_at_once() -> None:
    async with scripted(Reply.sse(b"x", end=End.HANG)) as server, client() as http:
        response = await ask(http, server.url, stream=True)
        await response.read()
        response.close()
        response.close()
        await server.wait_closed_early()
        with pytest.raises(ProviderFailure):
            await response.read()


async def test_close_reaches_a_server_that_does_not_read() -> None:
    reply = Reply(status=200, read_body=False, framing="chunked", pieces=(b"x",), end=End.HANG)
    async with scripted(reply) as server, client() as http:
        response = await ask(http, server.url, stream=True, body=b"x" * (32 * 1024 * 1024))
        await response.read()
        response.close()
        response = await ask(http, server.url, stream=True)
        await response.read()
        response.close()
        assert server.connections == 2


async def test_cancel_while_waiting_for_the_head_closes_the_connection() -> None:
    async with scripted(Reply.raw(NEVER())) as server, client() as http:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kind_of, http, server.url)
            await server.asked.wait()
            tasks.cancel_scope.cancel()
        await server.wait_closed_early()


async def test_cancel_while_reading_leaves_the_connection_to_close() -> None:
    async with scripted(Reply.sse(b"x", end=End.HANG)) as server, client() as http:
        response = await ask(http, server.url, stream=True)
        await response.read()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(response.read)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert not server.closed_early.is_set()
        response.close()
        await server.wait_closed_early()


async def test_close_after_the_end_keeps_the_connection() -> None:
    async with scripted(Reply.json({})) as server, client() as http:
        for _ in range(2):
            response = await ask(http, server.url)
            await response.read_all()
            response.close()
        assert server.connections == 1


async def test_finished_answer_keeps_its_connection_when_the_end_comes_later() -> None:
    end = asyncio.Event()
    async with scripted(Reply.sse(b"done", end, b"more"), Reply.json({})) as server, client() as http:
        response = await ask(http, server.url, stream=True)
        await response.read()
        response.finish()
        response.close()
        end.set()
        with anyio.fail_after(BOUND_S):
            while http.statistics()["used"]:
                await anyio.lowlevel.checkpoint()
        await (await ask(http, server.url)).read_all()
        assert server.connections == 1


async def test_finished_answer_whose_end_never_comes_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gearshift.core.http._response.LINGER_S", 0.02)
    async with scripted(Reply.sse(b"done", end=End.HANG)) as server, client() as http:
        response = await ask(http, server.url, stream=True)
        await response.read()
        response.finish()
        await server.wait_closed_early()


async def test_closed_client_refuses_and_has_closed_everything() -> None:
    async with scripted(Reply.sse(b"x", end=End.HANG)) as server, client() as http:
        response = await ask(http, server.url, stream=True)
        await response.read()
        await http.aclose()
        await http.aclose()
        await server.wait_closed_early()
        response.close()
        assert await kind_of(http, server.url) is FailureKind.CONNECTION


async def test_closing_the_client_drops_a_finished_answer_whose_end_has_not_come() -> None:
    async with scripted(Reply.sse(b"done", end=End.HANG)) as server, client() as http:
        response = await ask(http, server.url, stream=True)
        await response.read()
        response.finish()
        await http.aclose()
        assert http.statistics()["used"] == 0
        await server.wait_closed_early()


@pytest.mark.parametrize("reply", [Reply.sse(b"x", end=End.HANG), Reply.raw(NEVER())])
async def test_closing_the_client_ends_calls_that_wait(reply: Reply) -> None:
    async with scripted(reply) as server, client() as http:
        kinds: list[FailureKind] = []

        async def wait() -> None:
            kinds.append(await kind_of(http, server.url))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await server.asked.wait()
            await anyio.wait_all_tasks_blocked()
            await http.aclose()
        assert kinds == [FailureKind.CONNECTION]


# Time

SHORT = Timeouts(connect_s=5.0, first_token_s=0.05, idle_s=0.05, total_s=60.0)


async def test_head_that_does_not_come_is_a_first_token_timeout() -> None:
    async with scripted(Reply.raw(NEVER())) as server, client() as http:
        assert await kind_of(http, server.url, stream=True, timeouts=SHORT) is FailureKind.FIRST_TOKEN_TIMEOUT
        await server.wait_closed_early()


async def test_head_of_a_unary_answer_has_the_total_time() -> None:
    timeouts = Timeouts(first_token_s=0.01, idle_s=0.01, total_s=0.1)
    async with scripted(Reply.raw(NEVER())) as server, client() as http:
        assert await kind_of(http, server.url, timeouts=timeouts) is FailureKind.TOTAL_TIMEOUT
        await server.wait_closed_early()


async def test_unary_body_that_stops_is_a_total_timeout() -> None:
    timeouts = Timeouts(first_token_s=0.01, idle_s=0.01, total_s=0.1)
    async with scripted(Reply.sse(b"{", end=End.HANG)) as server, client() as http:
        assert await kind_of(http, server.url, timeouts=timeouts) is FailureKind.TOTAL_TIMEOUT


async def test_stream_without_progress_is_a_first_token_timeout() -> None:
    async with scripted(Reply.sse(b": ping\n\n", end=End.HANG)) as server, client() as http:
        assert await kind_of(http, server.url, stream=True, timeouts=SHORT) is FailureKind.FIRST_TOKEN_TIMEOUT


async def read_on(response: HttpResponse, *, progress: int) -> ProviderFailure:
    """Read to the failure, with progress after so many reads."""
    try:
        while True:
            data = await response.read()
            assert data
            if progress:
                progress -= 1
                response.progress()
    except ProviderFailure as failure:
        return failure
    finally:
        response.close()


async def test_silence_after_a_token_is_an_idle_timeout() -> None:
    timeouts = Timeouts(first_token_s=60.0, idle_s=0.05, total_s=60.0)
    async with scripted(Reply.sse(b"token", end=End.HANG)) as server, client() as http:
        response = await ask(http, server.url, stream=True, timeouts=timeouts)
        failure = await read_on(response, progress=1)
        assert failure.kind is FailureKind.IDLE_TIMEOUT
        assert "0.05 s" in failure.detail
        await server.wait_closed_early()


async def test_pings_do_not_count_as_progress() -> None:
    steps = [asyncio.Event() for _ in range(100)]
    pieces: list[Piece] = [b"token"]
    for step in steps:
        pieces += [step, b": ping\n\n"]
    timeouts = Timeouts(first_token_s=60.0, idle_s=0.1, total_s=60.0)
    async with scripted(Reply.sse(*pieces, end=End.HANG)) as server, client() as http:
        loop = asyncio.get_running_loop()
        for at, step in enumerate(steps):  # a ping every 10 ms
            loop.call_later(0.01 * at, step.set)
        response = await ask(http, server.url, stream=True, timeouts=timeouts)
        failure = await read_on(response, progress=1)
        assert failure.kind is FailureKind.IDLE_TIMEOUT
        assert not steps[-1].is_set()


async def test_progress_puts_the_idle_timeout_off() -> None:
    steps = [asyncio.Event() for _ in range(20)]
    pieces: list[Piece] = []
    for step in steps:
        pieces += [step, b"token"]
    timeouts = Timeouts(first_token_s=60.0, idle_s=0.6, total_s=60.0)
    async with scripted(Reply.sse(*pieces)) as server, client() as http:
        loop = asyncio.get_running_loop()
        for at, step in enumerate(steps):
            loop.call_later(0.05 * at, step.set)  # 1 s in all, well over the idle time
        response = await ask(http, server.url, stream=True, timeouts=timeouts)
        while await response.read():
            response.progress()


async def test_total_time_ends_a_stream_that_still_flows() -> None:
    steps = [asyncio.Event() for _ in range(100)]
    pieces: list[Piece] = []
    for step in steps:
        pieces += [step, b"token"]
    timeouts = Timeouts(first_token_s=5.0, idle_s=5.0, total_s=0.2)
    async with scripted(Reply.sse(*pieces)) as server, client() as http:
        loop = asyncio.get_running_loop()
        for at, step in enumerate(steps):
            loop.call_later(0.01 * at, step.set)
        response = await ask(http, server.url, stream=True, timeouts=timeouts)
        failure = await read_on(response, progress=1000)
        assert failure.kind is FailureKind.TOTAL_TIMEOUT


async def test_slow_consumer_is_not_the_providers_silence() -> None:
    go = asyncio.Event()
    timeouts = Timeouts(first_token_s=5.0, idle_s=0.3)
    async with scripted(Reply.sse(b"token", go, b"more")) as server, client() as http:
        response = await ask(http, server.url, stream=True, timeouts=timeouts)
        assert await response.read() == b"token"
        response.progress()
        held = asyncio.Event()
        asyncio.get_running_loop().call_later(timeouts.idle_s * 2, held.set)
        await held.wait()
        go.set()
        assert await response.read() == b"more"
        response.close()


async def test_answer_that_has_come_whole_waits_for_its_reader() -> None:
    timeouts = Timeouts(total_s=0.05)
    async with scripted(Reply.json({})) as server, client() as http:
        response = await ask(http, server.url, timeouts=timeouts)
        held = asyncio.Event()
        asyncio.get_running_loop().call_later(0.15, held.set)
        await held.wait()
        assert await response.read_all() == b"{}"


async def test_timeout_cancels_nothing() -> None:
    async with scripted(Reply.sse(b"x", end=End.HANG)) as server, client() as http:
        response = await ask(http, server.url, stream=True, timeouts=SHORT)
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        assert (await read_on(response, progress=1)).kind is FailureKind.IDLE_TIMEOUT
        assert task.cancelling() == before
        await anyio.lowlevel.checkpoint()


# TLS


CERTIFICATE = loopback_pem()


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


async def test_trusted_certificate_is_spoken_to() -> None:
    trust = ssl.create_default_context(cafile=str(CERTIFICATE))
    async with scripted(Reply.json({}), tls=server_tls()) as server, client(tls=trust) as http:
        for _ in range(2):
            assert await (await ask(http, server.url)).read_all() == b"{}"
        assert server.connections == 1


async def test_unknown_certificate_is_a_failed_connection() -> None:
    async with scripted(Reply.json({}), tls=server_tls()) as server, client() as http:
        with pytest.raises(ProviderFailure) as caught:
            await ask(http, server.url)
        assert caught.value.kind is FailureKind.CONNECTION
        assert "not trusted" in caught.value.detail
        assert not server.requests


async def test_tls_to_a_plain_server_is_a_failed_connection() -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as plain, client() as http:
        port = plain.sockets[0].getsockname()[1]
        assert await kind_of(http, f"https://127.0.0.1:{port}/") is FailureKind.CONNECTION


async def test_close_over_tls_reaches_the_server_at_once() -> None:
    trust = ssl.create_default_context(cafile=str(CERTIFICATE))
    reply = Reply.sse(b"x", end=End.HANG)
    async with scripted(reply, tls=server_tls()) as server, client(tls=trust) as http:
        response = await ask(http, server.url, stream=True)
        await response.read()
        response.close()
        await server.wait_closed_early()


def test_works_the_same_on_uvloop() -> None:
    code = """
import asyncio, uvloop
from tests.core import test_http as tests
async def main():
    await tests.test_answer_is_read_and_its_connection_used_again()
    await tests.test_close_reaches_the_server_at_once()
    await tests.test_close_reaches_a_server_that_does_not_read()
    await tests.test_silence_after_a_token_is_an_idle_timeout()
    await tests.test_head_that_does_not_come_is_a_first_token_timeout()
    await tests.test_finished_answer_keeps_its_connection_when_the_end_comes_later()
    await tests.test_large_body_arrives_whole()
    await tests.test_connection_with_an_unsent_request_is_not_used_again()
uvloop.run(main())
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
