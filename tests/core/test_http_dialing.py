"""How the HTTP client connects: names, several addresses, TLS, and what it says when that fails."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest

from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http
from gearshift.core.provider import Timeouts
from gearshift.core.words import FailureKind
from tests.support.loopback_tls import loopback_pem
from tests.support.scripted_server import BOUND_S, Reply, scripted


@asynccontextmanager
async def client(tls: ssl.SSLContext | None = None) -> AsyncGenerator[Http]:
    http = Http(connections=16, tls=tls)
    try:
        with anyio.fail_after(BOUND_S):
            yield http
    finally:
        await http.aclose()


async def call(http: Http, url: str) -> None:
    response = await http.open(url=url, headers={}, body=b"{}", timeouts=Timeouts(), stream=False)
    try:
        await response.read_all()
    finally:
        response.close()


async def failure_of(http: Http, url: str) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        await call(http, url)
    return caught.value


def found_at(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Have every name lead to these addresses; gives the names that were asked for."""
    asked: list[str] = []
    loop = asyncio.get_running_loop()

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    return asked


@contextmanager
def listener_that_hangs(address: str, port: int) -> Generator[None]:
    """Take an address whose connections are neither accepted nor refused."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex((address, port))
            yield
        finally:
            for filler in fillers:
                filler.close()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def test_address_that_refuses_is_followed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted() as server, client() as http:
        found_at(monkeypatch, "127.0.0.2", "127.0.0.1")
        await call(http, f"http://model.test:{port_of(server.url)}/")
        assert server.requests[0].headers["host"] == f"model.test:{port_of(server.url)}"


async def test_address_that_does_not_answer_does_not_hold_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted() as server, client() as http:
        found_at(monkeypatch, "127.0.0.2", "127.0.0.1")
        with listener_that_hangs("127.0.0.2", port_of(server.url)), anyio.fail_after(2):
            await call(http, f"http://model.test:{port_of(server.url)}/")


async def test_name_is_asked_for_once_by_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted() as server, client() as http:
        asked = found_at(monkeypatch, "127.0.0.1")
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(call, http, f"http://model.test:{port_of(server.url)}/")
        assert asked == ["model.test"]
        assert server.connections > 1


async def test_addresses_of_a_name_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    async with client() as http:
        found_at(monkeypatch, "127.0.0.1", "127.0.0.2")
        dialer = http._dialer  # pyright: ignore[reportPrivateUsage]
        turns = [(await dialer.addresses("model.test", 80))[0][4][0] for _ in range(3)]
        assert turns == ["127.0.0.1", "127.0.0.2", "127.0.0.1"]


async def test_localhost_is_found() -> None:
    async with scripted() as server, client() as http:
        await call(http, f"http://localhost:{port_of(server.url)}/")


async def test_ipv6_address_is_spoken_to_and_named_in_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    hosts: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hosts.append(await reader.readuntil(b"{}"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    try:
        listener = await asyncio.start_server(serve, "::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    async with listener, client() as http:
        port = listener.sockets[0].getsockname()[1]
        await call(http, f"http://[::1]:{port}/")
        assert f"host: [::1]:{port}\r\n".encode() in hosts[0]


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        pytest.param("http://no-such-host.invalid/", "name", id="unknown name"),
        pytest.param(f"http://{'a' * 70}.invalid/", "name", id="name that cannot be"),
        pytest.param("http://255.255.255.255:9/", "reached", id="unreachable"),
    ],
)
async def test_what_cannot_be_reached_is_told_apart(url: str, detail: str) -> None:
    async with client() as http:
        failure = await failure_of(http, url)
        assert (failure.kind, failure.sent) == (FailureKind.CONNECTION, False)
        assert detail in failure.detail


@pytest.mark.parametrize(
    ("url", "line", "host"),
    [
        pytest.param("http://H.test/a b?q=ü", "POST /a%20b?q=%C3%BC HTTP/1.1", "h.test", id="quoted"),
        pytest.param("http://h.test?x=1", "POST /?x=1 HTTP/1.1", "h.test", id="no path"),
        pytest.param("https://h.test:443/%2F/x#part", "POST /%2F/x HTTP/1.1", "h.test", id="usual port and a part"),
        pytest.param("http://user:word@h.test:8080/", "POST / HTTP/1.1", "h.test:8080", id="user"),
        pytest.param("http://bücher.test/", "POST / HTTP/1.1", "xn--bcher-kva.test", id="name in letters"),
    ],
)
async def test_address_is_written_as_http_wants_it(url: str, line: str, host: str) -> None:
    async with client() as http:
        head = http.sender(url=url, headers={}, stream=False).head.decode().split("\r\n")
        assert head[:2] == [line, f"host: {host}"]


async def test_connection_does_not_delay_small_packets_and_bounds_what_it_receives() -> None:
    async with scripted() as server, client() as http:
        await call(http, server.url)
        (connection,) = http._pools[""].connections  # pyright: ignore[reportPrivateUsage]
        transport = connection._transport  # pyright: ignore[reportPrivateUsage]
        assert transport is not None
        found = transport.get_extra_info("socket")
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 256 * 1024


# TLS


CERTIFICATE = loopback_pem()


def server_tls(names: list[str | None] | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    if names is not None:
        context.sni_callback = lambda _, name, __: names.append(name)
    return context


def trust() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE))


async def test_certificate_for_another_name_is_not_trusted_and_nothing_is_sent() -> None:
    names: list[str | None] = []
    async with scripted(tls=server_tls(names)) as server, client(trust()) as http:
        failure = await failure_of(http, f"https://localhost:{port_of(server.url)}/")
        assert (failure.kind, failure.sent) == (FailureKind.CONNECTION, False)
        assert "not trusted" in failure.detail
        assert names == ["localhost"]
        assert not server.requests


async def test_handshake_that_fails_is_told_apart() -> None:
    refusing = server_tls()
    refusing.maximum_version = ssl.TLSVersion.TLSv1_2
    demanding = trust()
    demanding.minimum_version = ssl.TLSVersion.TLSv1_3
    async with scripted(tls=refusing) as server, client(demanding) as http:
        failure = await failure_of(http, server.url)
        assert (failure.kind, failure.sent) == (FailureKind.CONNECTION, False)
        assert "handshake" in failure.detail


async def test_handshake_that_never_ends_is_a_connect_timeout() -> None:
    left = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.transport.abort()
            left.set()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as silent, client() as http:
        url = f"https://127.0.0.1:{silent.sockets[0].getsockname()[1]}/"
        with pytest.raises(ProviderFailure) as caught:
            await http.open(url=url, headers={}, body=b"{}", timeouts=Timeouts(connect_s=0.05), stream=False)
        assert (caught.value.kind, caught.value.sent) == (FailureKind.CONNECT_TIMEOUT, False)
        await left.wait()


async def test_large_answer_over_tls_comes_whole() -> None:
    body = bytes(range(256)) * 16 * 1024
    async with scripted(Reply(pieces=(body,)), tls=server_tls()) as server, client(trust()) as http:
        for _ in range(2):
            response = await http.open(url=server.url, headers={}, body=b"{}", timeouts=Timeouts(), stream=True)
            assert await response.read_all() == body
        assert server.connections == 1


def test_works_the_same_on_uvloop() -> None:
    code = """
import inspect, pytest, uvloop
from tests.core import test_http_dialing as dialing, test_http_pool as pool, test_http_wire as wire
async def main():
    for module in (dialing, pool, wire):
        for name, test in inspect.getmembers(module, inspect.iscoroutinefunction):
            if not name.startswith("test_") or getattr(test, "pytestmark", None):
                continue
            wanted = inspect.signature(test).parameters
            if not wanted:
                await test()
            elif "http_pool" in module.__name__:
                with pytest.MonkeyPatch.context() as patch:
                    await test(patch)
uvloop.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
