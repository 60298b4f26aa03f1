"""The HTTP client's reading: framing, splits, junk, compression, flow control."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest

from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http, HttpResponse
from gearshift.core.http._connection import HEAD_LIMIT, Connection
from gearshift.core.http._pool import Pool
from gearshift.core.http._target import Address
from gearshift.core.http._unpacking import PIECE_BYTES
from gearshift.core.provider import Timeouts
from gearshift.core.words import FailureKind
from tests.support.scripted_server import BOUND_S, End, Reply, scripted

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def client() -> AsyncGenerator[Http]:
    http = Http(connections=4)
    try:
        with anyio.fail_after(BOUND_S):
            yield http
    finally:
        await http.aclose()


async def ask(http: Http, url: str, *, stream: bool = False) -> HttpResponse:
    return await http.open(url=url, headers={}, body=b"{}", timeouts=Timeouts(), stream=stream)


@dataclass(frozen=True)
class Outcome:
    """What became of a response, and whether its connection may be used again."""

    status: int
    body: bytes
    kind: FailureKind | None
    is_kept: bool


async def outcome(http: Http, url: str, limit: int = 1 << 20) -> Outcome:
    response = None
    body, kind = b"", None
    try:
        response = await ask(http, url)
        body = await response.read_all(limit)
    except ProviderFailure as failure:
        kind = failure.kind
    finally:
        if response is not None:
            response.close()
    return Outcome(response.status if response else 0, body, kind, http.statistics()["open"] == 1)


async def played(*pieces: bytes, end: End = End.CLEAN) -> Outcome:
    async with scripted(Reply.raw(*pieces, end=end)) as server, client() as http:
        return await outcome(http, server.url)


# What is read


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        pytest.param(CHUNKED + b"3;a=b;c\r\nabc\r\n2 \r\nde\r\n0\r\n\r\n", b"abcde", id="chunk extensions"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n", b"abc", id="trailers"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: a\r\n  b\r\ncontent-length: 1\r\n\r\nx", b"x", id="folded header"),
        pytest.param(b"HTTP/1.1 200 OK\ncontent-length: 1\n\nx", b"x", id="line feeds alone"),
        pytest.param(b"HTTP/1.1 200\r\nCONTENT-LENGTH:   1  \r\n\r\nx", b"x", id="no reason and blanks"),
        pytest.param(b"\r\n\r\n" + OK, b"ok", id="empty lines first"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", b"", id="no body"),
        pytest.param(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\nx", b"x", id="1.0 kept"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + OK, b"ok", id="1xx"),
    ],
)
async def test_answer_is_read_and_its_connection_kept(answer: bytes, body: bytes) -> None:
    found = await played(answer)
    assert (found.body, found.kind, found.is_kept) == (body, None, True)


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", End.CLEAN, id="HTTP 1.0"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nok", End.CLOSE, id="HTTP 1.0 until the close"),
        pytest.param(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", End.CLEAN, id="close"),
        pytest.param(OK + b"HTTP/1.1 2", End.CLEAN, id="another response begins"),
        pytest.param(OK + OK, End.CLEAN, id="another whole response"),
        pytest.param(OK + b"\x00\x01", End.CLEAN, id="nonsense after it"),
    ],
)
async def test_answer_is_read_and_its_connection_dropped(answer: bytes, end: End) -> None:
    assert await played(answer, end=end) == Outcome(200, b"ok", None, False)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nxx", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx", id="two lengths"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="two framings"
        ),
        pytest.param(b"HTTP/1.1 20x OK\r\n\r\n", id="status is no number"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * HEAD_LIMIT, id="head without end"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n" + b"".join(b"a%d: b\r\n" % n for n in range(3000)) + b"\r\n", id="many fields"
        ),
        pytest.param(b"HTTP/1.1 103 Hints\r\n\r\n" * HEAD_LIMIT, id="hints without end"),
        pytest.param(CHUNKED + b"1\r\na\r\n2;" + b"x" * 400_000, id="extension without end"),
        pytest.param(CHUNKED + b"1\r\na\r\n0\r\n" + b"x: y\r\n" * 80_000, id="trailers without end"),
        pytest.param(CHUNKED + b"1\r\na\r\n0\r\nx:" + b"y" * 400_000, id="trailer without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 1\r\n\r\nx", id="not asked for"),
    ],
)
async def test_nonsense_is_malformed(answer: bytes) -> None:
    # In pieces, since the limit of framing that brings nothing counts by reads.
    pieces = [answer[at : at + 16384] for at in range(0, len(answer), 16384)]
    found = await played(*pieces, end=End.HANG)
    assert (found.kind, found.body) == (FailureKind.MALFORMED, b"")


async def test_status_counts_where_the_compression_was_not_asked_for() -> None:
    answer = b"HTTP/1.1 503 Busy\r\ncontent-encoding: br\r\ncontent-length: 1\r\n\r\nx"
    async with scripted(Reply.raw(answer, end=End.CLEAN)) as server, client() as http:
        assert (await ask(http, server.url)).status == 503


async def test_trailers_are_no_headers_and_of_no_other_response() -> None:
    trailed = CHUNKED + b"1\r\na\r\n0\r\nx-late: 1\r\n\r\n"
    replies = (Reply.raw(trailed, end=End.CLEAN), Reply.raw(OK, end=End.CLEAN))
    async with scripted(*replies) as server, client() as http:
        for names in ({"transfer-encoding"}, {"content-length"}):
            response = await ask(http, server.url)
            await response.read_all()
            assert set(response.headers) == names
        assert server.connections == 1


async def test_headers_are_looked_up_without_regard_to_case() -> None:
    answer = b"HTTP/1.1 200 OK\r\nReTRY-After: 3 \r\nContent-Type: text/plain\r\ncontent-length: 0\r\n\r\n"
    async with scripted(Reply.raw(answer, end=End.CLEAN)) as server, client() as http:
        response = await ask(http, server.url)
        assert (response.headers["Retry-After"], response.headers.get("retry-after")) == ("3", "3")
        assert response.content_type == "text/plain"
        assert "x" not in response.headers
        assert len(response.headers) == 3


async def test_bytes_that_nobody_asked_for_drop_the_connection() -> None:
    go = asyncio.Event()
    async with scripted(Reply.raw(OK, go, b"HTTP/1.1 408 Timeout\r\n\r\n", end=End.HANG)) as server, client() as http:
        await (await ask(http, server.url)).read_all()
        assert http.statistics()["open"] == 1
        go.set()
        while http.statistics()["open"]:
            await anyio.lowlevel.checkpoint()


# Splits


class Wire(asyncio.Transport):
    """A transport without a network."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


async def asked(*, stream: bool, timeouts: Timeouts | None = None) -> tuple[Connection, Wire, HttpResponse]:
    """Give a connection without a network, over which a request was sent."""
    loop = asyncio.get_running_loop()
    pool = Pool(1)
    origin = pool.origin(Address("test", 80, False))
    assert await pool.acquire(origin) is None
    connection, wire = Connection(origin), Wire()
    connection.connection_made(wire)
    pool.fill(connection)
    response = HttpResponse(loop, connection, timeouts or Timeouts(), loop.time(), stream=stream)
    connection.send(response, b"POST / HTTP/1.1\r\ncontent-length: ", b"{}", loop.time() + 60)
    return connection, wire, response


async def fed(parts: Iterable[bytes], *, close: bool, stream: bool) -> Outcome:
    """Give what a connection makes of these reads, all taken before anything is read."""
    connection, wire, response = await asked(stream=stream)
    for part in parts:
        if wire.aborted:
            break
        connection.data_received(part)
    if close and not wire.aborted:
        connection.eof_received()
    body, kind = b"", None
    try:
        assert response.opening.done()
        response.opened()
        while data := await response.read():
            body += data
    except ProviderFailure as failure:
        kind = failure.kind
    is_kept = bool(connection.origin.idle)
    connection.drop()
    return Outcome(response.status, body, kind, is_kept)


PACKED = gzip.compress(b"packed " * 20)
WHOLE: Sequence[tuple[str, bytes, bool, Outcome]] = (
    ("length", OK, False, Outcome(200, b"ok", None, True)),
    (
        "hints, chunks, extension, trailers",
        b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + CHUNKED + b"3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
        False,
        Outcome(200, b"abc0123456789", None, True),
    ),
    (
        "gzip",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(PACKED), PACKED),
        False,
        Outcome(200, b"packed " * 20, None, True),
    ),
    ("until the close", b"HTTP/1.1 500 Oh\r\nx: y\r\n\r\nabcdef", True, Outcome(500, b"abcdef", None, False)),
    (
        "cut off",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
        True,
        Outcome(200, b"abc", FailureKind.CONNECTION, False),
    ),
    (
        "nonsense after two chunks",
        CHUNKED + b"1\r\na\r\n1\r\nb\r\nzz",
        False,
        Outcome(200, b"ab", FailureKind.MALFORMED, False),
    ),
    ("junk behind", OK + b"HTTP/1.1 200", False, Outcome(200, b"ok", None, False)),
)


@pytest.mark.parametrize(("answer", "close", "expected"), [pytest.param(*case[1:], id=case[0]) for case in WHOLE])
@pytest.mark.parametrize("stream", [False, True])
async def test_split_at_every_byte_gives_the_same(answer: bytes, close: bool, expected: Outcome, stream: bool) -> None:
    for at in range(len(answer) + 1):
        parts = [part for part in (answer[:at], answer[at:]) if part]
        assert await fed(parts, close=close, stream=stream) == expected, parts
    assert await fed([answer[at : at + 1] for at in range(len(answer))], close=close, stream=stream) == expected


@pytest.mark.parametrize("seed", range(4))
async def test_random_splits_give_the_same(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(60):
        body = chance.randbytes(chance.choice((0, 1, 100, 5000)))
        packed = gzip.compress(body) if chance.random() < 0.3 else body
        fields = b"".join(b"x-%d: %b\r\n" % (n, b"v" * chance.randrange(200)) for n in range(chance.randrange(12)))
        if packed is not body:
            fields += b"Content-Encoding: gzip\r\n"
        if chance.random() < 0.5:
            answer = b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (fields, len(packed), packed)
        else:
            chunks, rest = b"", packed
            while rest:
                size = chance.randrange(1, len(rest) + 1)
                chunks += b"%x\r\n%b\r\n" % (size, rest[:size])
                rest = rest[size:]
            answer = b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % (fields, chunks)
        cuts = sorted(chance.randrange(len(answer)) for _ in range(chance.randrange(30)))
        parts = [answer[start:end] for start, end in zip([0, *cuts], [*cuts, len(answer)], strict=True) if end > start]
        expected = Outcome(200, body, None, True)
        assert await fed(parts, close=False, stream=chance.random() < 0.5) == expected, (parts, body)


async def test_bytes_one_by_one_over_a_socket() -> None:
    answer = WHOLE[1][1]
    found = await played(*[answer[at : at + 1] for at in range(len(answer))])
    assert found == WHOLE[1][3]


# Compression


def two_members(data: bytes) -> bytes:
    return gzip.compress(data[:5]) + gzip.compress(data[5:])


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        pytest.param("gzip", gzip.compress, id="gzip"),
        pytest.param("X-GZIP", gzip.compress, id="its older name"),
        pytest.param("gzip", two_members, id="two members"),
        pytest.param("deflate", zlib.compress, id="deflate"),
        pytest.param("deflate", raw_deflate, id="deflate without its frame"),
        pytest.param("identity", bytes, id="none"),
    ],
)
async def test_compression_is_unpacked(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    body = random.Random(1).randbytes(300_000) + b"x" * 1_000_000
    reply = Reply(headers={"content-encoding": encoding}, pieces=(pack(body),))
    async with scripted(reply) as server, client() as http:
        assert await outcome(http, server.url, 2_000_000) == Outcome(200, body, None, True)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compression_that_does_not_end_is_malformed(encoding: str) -> None:
    packed = gzip.compress(b"hello" * 100) if encoding == "gzip" else zlib.compress(b"hello" * 100)
    async with (
        scripted(Reply(headers={"content-encoding": encoding}, pieces=(packed[:-6],))) as server,
        client() as http,
    ):
        assert (await outcome(http, server.url)).kind is FailureKind.MALFORMED


async def test_empty_body_needs_no_compression() -> None:
    async with scripted(Reply(headers={"content-encoding": "gzip"})) as server, client() as http:
        assert await outcome(http, server.url) == Outcome(200, b"", None, True)


async def test_compression_bomb_is_unpacked_no_further_than_the_limit() -> None:
    bomb = gzip.compress(b"\0" * (64 * 1024 * 1024), 1)
    async with scripted(Reply(headers={"content-encoding": "gzip"}, pieces=(bomb,))) as server, client() as http:
        response = await ask(http, server.url)
        assert len(await response.read()) <= PIECE_BYTES
        with pytest.raises(ProviderFailure) as caught:
            await response.read_all(1_000_000)
        assert caught.value.kind is FailureKind.MALFORMED
        response.close()


# Flow


@asynccontextmanager
async def flood(size: int) -> AsyncGenerator[tuple[str, list[int]]]:
    """Serve a chunked body of so many bytes as fast as it is taken; gives the address and what the system has taken."""
    taken = [0]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"{}")
                writer.write(CHUNKED)
                for start in range(0, size, 65536):
                    piece = start.to_bytes(8) * 8192
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await writer.drain()
                    taken[0] = start
                writer.write(b"0\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            left.set()

    left = asyncio.Event()
    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/", taken
    finally:
        listener.close()
        await listener.wait_closed()
        with anyio.fail_after(BOUND_S):
            await left.wait()


@pytest.mark.parametrize("stream", [False, True])
async def test_unread_body_holds_the_server_up_and_comes_whole_when_it_is_read(stream: bool) -> None:
    size = 32 * 1024 * 1024
    async with flood(size) as (url, taken), client() as http:
        response = await ask(http, url, stream=stream)
        before = -1
        while taken[0] != before:  # until the system takes no more
            before = taken[0]
            for _ in range(50):
                await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
        assert taken[0] < 8 * 1024 * 1024
        assert response.unread_bytes < 512 * 1024
        body = await response.read_all()
        assert len(body) == size
        assert all(body[at : at + 8] == at.to_bytes(8) for at in range(0, size, 65536))
        response.close()
        assert http.statistics()["open"] == 1
        again = await ask(http, url, stream=stream)
        assert await again.read()
        again.close()


async def test_finished_answer_is_read_to_its_end_by_nobody() -> None:
    async with flood(4 * 1024 * 1024) as (url, _), client() as http:
        response = await ask(http, url, stream=True)
        await response.read()
        response.finish()
        while http.statistics()["used"]:
            await anyio.lowlevel.checkpoint()
        assert http.statistics()["open"] == 1


async def test_short_unary_answer_is_waited_for_as_a_whole() -> None:
    go = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
    async with scripted(Reply.raw(head, go, b"ok", end=End.CLEAN)) as server, client() as http:
        asyncio.get_running_loop().call_later(0.02, go.set)
        response = await ask(http, server.url)
        assert go.is_set()
        assert await response.read_all() == b"ok"


async def test_unary_answer_that_breaks_off_still_has_its_status() -> None:
    answer = b"HTTP/1.1 429 Slow\r\nretry-after: 3\r\ncontent-length: 9\r\n\r\nabc"
    async with scripted(Reply.raw(answer)) as server, client() as http:
        response = await ask(http, server.url)
        assert (response.status, response.headers["retry-after"]) == (429, "3")
        assert await response.read() == b"abc"
        with pytest.raises(ProviderFailure) as caught:
            await response.read()
        assert caught.value.kind is FailureKind.CONNECTION


async def test_what_came_in_time_is_not_lost_when_the_time_is_up_before_it_is_read() -> None:
    connection, _, response = await asked(stream=True, timeouts=Timeouts(first_token_s=0.01))
    connection.data_received(CHUNKED)
    response.opened()
    came: list[bytes] = []

    async def read() -> None:
        came.append(await response.read())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        connection.data_received(b"3\r\nabc\r\n")
        assert response.overdue(asyncio.get_running_loop().time() + 1) is None
    assert came == [b"abc"]
    connection.drop()


async def test_what_came_is_read_before_the_failure_that_followed_it() -> None:
    async with scripted(Reply.sse(b"abc", end=End.BREAK)) as server, client() as http:
        response = await ask(http, server.url, stream=True)
        while http.statistics()["open"]:
            await anyio.lowlevel.checkpoint()
        assert await response.read() == b"abc"
        with pytest.raises(ProviderFailure) as caught:
            await response.read()
        assert caught.value.kind is FailureKind.CONNECTION
