"""Metrics of all workers, as text, from any of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from gearshift.core.blueprint import Blueprint
from gearshift.server.metrics import Metrics, exposition_of
from gearshift.server.workers.figures import Family, summed
from gearshift.server.workers.member import Member


def whole_exposition(member: Member, metrics: Metrics, blueprint: Blueprint) -> Callable[[], Awaitable[bytes]]:
    """Give what makes the exposition for all workers, and has others' questions answered."""
    shared = blueprint.config.shared
    families = msgspec.msgpack.Decoder(list[Family])

    async def answer(_body: bytes) -> bytes:
        return msgspec.msgpack.encode(metrics.families())

    async def whole() -> bytes:
        own = metrics.families()
        answers = await member.ask("figures", msgspec.msgpack.encode(own))
        parts = [families.decode(part.body) for part in answers.parts if not part.error]
        has_store = shared.redis is not None
        return exposition_of(summed([own, *parts], shares_caches=has_store and shared.caches, shares_limits=has_store))

    member.answers("figures", answer)
    return whole
