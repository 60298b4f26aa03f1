"""Who of several processes makes a call that others wait for: the one that holds its lease.

Rules: only where answers are shared. A lease is short and renewed while its call runs, so that what a dead process held is
free within seconds. Who waits looks for the kept answer, hears of the failure, or takes over: one at a time, unless the
answer was of a kind that is not kept. A store that is away makes nobody wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Protocol

import msgspec
from msgspec import Struct

from gearshift.core.answer import Completion
from gearshift.core.errors import ChainExhaustedError, NotAcceptedError, RouteError
from gearshift.core.words import Outcome


class Standing(Enum):
    """How it stands with a call that another process may be making."""

    MINE = "mine"
    """This process makes it, and has the lease."""
    ALONE = "alone"
    """This process makes it without a lease: the store is away, or what another one got is not kept."""
    THEIRS = "theirs"
    """Another process makes it."""
    KEPT = "kept"
    """Its answer is there."""
    FAILED = "failed"
    """The process that was waited for could not make it."""


class Claim(Struct, frozen=True, kw_only=True):
    """What came of asking.

    Args:
        token: of the lease that is held, by whomever.
        value: the kept answer's bytes, or those of the failure.

    """

    standing: Standing
    token: bytes = b""
    value: bytes = b""


class Leases(Protocol):
    """Leases of calls, by the key of their answer. Tasks of one loop may share it."""

    async def claim(self, key: str, waited_for: bytes, aside: Aside) -> Claim:
        """Take the lease, unless the answer is kept or another process has it.

        Args:
            waited_for: the token of the lease that was waited for; empty at first, when old failures are not heard of.
            aside: starts what keeps the lease while it is held.

        """
        ...

    def release(self, key: str, token: bytes, failure: bytes | None) -> None:
        """Give a lease back, at once and without waiting for the store.

        Args:
            failure: what those who wait hear of. None is nothing: the answer was kept, or one of them may try; empty says
                that nothing is to be had by waiting, so that each goes on alone.

        """
        ...


Aside = Callable[[Callable[[], Awaitable[None]]], None]
"""Runs something beside the calls."""


class _Told(Struct, frozen=True, array_like=True):
    reason: str
    message: str
    retry_after_s: float | None


def told_of(error: RouteError) -> bytes:
    """Give a failure as other processes hear of it; empty for one that is only this caller's own, such as its deadline."""
    if isinstance(error, ChainExhaustedError | NotAcceptedError):
        retry = error.retry_after_s if isinstance(error, ChainExhaustedError) else None
        return msgspec.msgpack.encode(_Told(error.reason, error.message, retry))
    return b""


def heard(value: bytes) -> RouteError:
    """Give the failure of another process as this one's callers hear of it: without its attempts, which are not theirs."""
    completion = Completion(outcome=Outcome.FAILED)
    try:
        told = msgspec.msgpack.decode(value, type=_Told)
    except msgspec.MsgspecError:  # of another version
        told = _Told(ChainExhaustedError.reason, "another process could not make this call", None)
    if told.reason == NotAcceptedError.reason:
        return NotAcceptedError(told.message, completion=completion)
    return ChainExhaustedError(told.message, attempts=(), completion=completion, retry_after_s=told.retry_after_s)
