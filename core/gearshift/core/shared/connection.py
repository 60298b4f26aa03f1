"""The one file that knows redis-py.

Rules: imported only when a configuration names a Redis; every failure of it, also a refusal of the server (loading, out of
memory, read-only), leaves as `StoreAwayError`. Nothing is tried again here: redis-py's own ten retries make a dead server
cost seconds a call. Calls that come together are one round trip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from gearshift.core.config.model import RedisConfig
from gearshift.core.errors import ConfigError
from gearshift.core.shared.health import StoreAwayError

Call = tuple[str, Sequence[str], Sequence[object]]
"""A script, its keys and its arguments."""


class RedisConnection:
    """Runs scripts. Tasks may share it.

    Raises:
        ConfigError: the URL is none.

    """

    def __init__(self, config: RedisConfig) -> None:
        options: dict[str, Any] = {
            "max_connections": config.connections + 2,  # the keeper's and the flusher's
            "timeout": config.timeout_s,
            "socket_timeout": config.timeout_s,
            "socket_connect_timeout": config.timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "client_name": "gearshift",
        }
        try:
            self._pool = BlockingConnectionPool.from_url(config.url, **options)  # pyright: ignore[reportUnknownMemberType]
        except (ValueError, RedisError):
            raise ConfigError(
                ["shared.redis.url: must be redis://, rediss:// or unix://, with host and port"]
            ) from None
        self._redis = Redis.from_pool(self._pool)
        self._digests: dict[str, str] = {}

    async def run(self, calls: Sequence[Call]) -> list[list[Any]]:
        """Give each call's reply.

        Raises:
            StoreAwayError: the server did not answer in time, or refused one of them.

        """
        try:
            replies = await self._send(calls)
            missing = [number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if missing:
                for script in {calls[number][0] for number in missing}:
                    await self._redis.script_load(script)
                again = await self._send([calls[number] for number in missing])
                for number, reply in zip(missing, again, strict=True):
                    replies[number] = reply
        except (
            RedisError,
            OSError,
            TimeoutError,
            RuntimeError,
        ) as error:  # the last is what uvloop says of a closed transport
            raise StoreAwayError(_told(error)) from error
        for reply in replies:
            if isinstance(reply, Exception):
                raise StoreAwayError(_told(reply)) from reply
        return replies

    async def _send(self, calls: Sequence[Call]) -> list[Any]:
        commands: list[tuple[Any, ...]] = []
        for script, keys, arguments in calls:
            digest = self._digests.get(script)
            if digest is None:
                digest = self._digests[script] = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
            commands.append(("EVALSHA", digest, len(keys), *keys, *arguments))
        # As redis-py's pipeline does it, for half its time.
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # pyright: ignore[reportUnknownMemberType]
        replies: list[Any] = []
        try:
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
            if any(isinstance(each, ResponseError) and not isinstance(each, NoScriptError) for each in replies):
                # What refuses to serve (read-only since a failover, loading) may be somebody else behind the same name by now.
                await connection.disconnect(nowait=True)
        except BaseException:
            # What was sent and not read would be taken for the answer to somebody else.
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)
        return replies

    async def reset(self) -> None:
        """Close the connections that stand idle: a server that was away may have closed them, which is seen only on use."""
        await self._pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose(close_connection_pool=True)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
