"""Prompts that several processes share: each holds copies of its own, and all of them stand in one store.

Rules: a call never waits for the store, except one that names a key which this process does not know: that is looked up
once, before the call is prepared. What is newly kept is written by one task beside the calls, which also hears what was
purged elsewhere and lets live anew what was used; it runs while there is anything to keep. A store that is away is made up
for when it is back; one that has lost everything is told again. A prompt that comes from the store is believed only when
its key is the hash of what it says, tenant included.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio
import msgspec
from msgspec import Struct

from gearshift.core.answer import Answer
from gearshift.core.cache.store import CacheFilter, CacheInfo, CacheItem, PromptStore, Purged
from gearshift.core.events import Event
from gearshift.core.exhausted import Answering, Streaming
from gearshift.core.flight import Flights, Horizon
from gearshift.core.promptcache import PromptCache, PromptEntry, prompt_key
from gearshift.core.request import Request

HEARS_EVERY_S = 1.0
"""How often it is asked what was purged elsewhere: so long may a copy outlive that."""
_WRITES_AT_ONCE = 16
_MOST_WAITING = 4096
"""Prompts that wait to be written; beyond, the oldest is known in this process only until it is used again."""
_KEY = re.compile("[0-9a-f]{32}")


class _Stored(Struct, frozen=True, array_like=True):
    """What stands in the store."""

    tenant: str
    task_id: str
    definition_hash: str
    text: str


@dataclass(slots=True)
class _LookUp:
    """A look-up that others may wait for; `found` is None until it has ended by itself."""

    ended: anyio.Event = field(default_factory=anyio.Event)
    found: bool | None = None


class SharedPrompts:
    """The prompts of a router that others know too. Made with its state; needs the state's flights to be entered."""

    def __init__(self, prompts: PromptCache, store: PromptStore, flights: Flights) -> None:
        self._prompts = prompts
        self._store = store
        self._flights = flights
        self._mark: int | None = None
        """Up to where purges were heard; None while nothing is kept."""
        self._waiting: dict[str, None] = {}
        self._asked: dict[tuple[str, str], _LookUp] = {}
        self._turn = anyio.Lock()
        self._news: anyio.Event | None = None
        self._runs = False
        self._touched_at = 0.0
        prompts.told = self._told

    def __repr__(self) -> str:
        return f"SharedPrompts({len(self._waiting)} to be written)"

    @property
    def is_away(self) -> bool:
        """Whether the store could not be asked the last time."""
        return self._store.is_away

    def adopted(self) -> None:
        """Hear from now on what becomes of a prompt that was got otherwise than from the store."""
        if self._mark is None:
            self._mark = self._store.mark or None
        self._wake()

    def knows(self, tenant: str, key: str) -> bool:
        """Tell whether this process has a prompt, or there is none to be had."""
        return self._prompts.entry(tenant, key, time.monotonic()) is not None or _KEY.fullmatch(key) is None

    async def look_up(self, tenant: str, key: str) -> bool:
        """Look for a prompt that this process does not know; tell whether it does now. Equal look-ups are one."""
        while not self.knows(tenant, key):
            running = self._asked.get((tenant, key))
            if running is None:
                running = self._asked[tenant, key] = _LookUp()
                try:
                    running.found = await self._find(tenant, key)
                finally:
                    del self._asked[tenant, key]
                    running.ended.set()
            else:
                await running.ended.wait()
            if running.found is not None:  # else who looked has left
                return running.found
        return _KEY.fullmatch(key) is not None

    async def catch_up(self) -> None:
        """Hear what was purged until now."""
        async with self._turn:
            await self._hear()

    async def tell(self, key: str) -> None:
        """Wait until a kept prompt is written; not for a store that is away."""
        self._waiting[key] = None
        self._wake()
        async with self._turn:
            await self._write()

    async def remove(self, tenant: str, key: str) -> bool:
        """Drop a prompt from the store, and from every process; tell whether it was there.

        Raises:
            CacheStoreError: the store is away.

        """
        if _KEY.fullmatch(key) is None:
            return False
        async with self._turn:
            was_there = await self._store.remove(tenant, key)
            await self._hear()
        return was_there

    async def purge(self, chosen: CacheFilter, now: float) -> list[str]:
        """Drop what is chosen from the store, and from every process; give the keys. Errors as `remove`."""
        async with self._turn:
            keys = await self._store.purged(chosen, now)
            await self._hear()
        return keys

    async def entries(self, now: float) -> Sequence[CacheInfo]:
        """Give what is in the store."""
        return await self._store.entries(now)

    async def _find(self, tenant: str, key: str) -> bool:
        value = (await self._store.get((key,), time.monotonic()))[0]
        if value is None:
            return False
        try:
            stored = msgspec.msgpack.decode(value, type=_Stored)
        except msgspec.MsgspecError:  # of another version
            return False
        if stored.tenant != tenant or prompt_key(tenant, stored.definition_hash, stored.text) != key:
            return False
        mark = self._store.mark  # of this answer, or of a later one
        is_kept = self._prompts.adopt(tenant, stored.task_id, stored.definition_hash, stored.text, time.monotonic())
        if self._mark is None:
            self._mark = mark
        self._wake()
        return is_kept

    def _told(self, entry: PromptEntry) -> None:
        self._waiting[entry.key] = None
        if len(self._waiting) > _MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._wake()

    def _wake(self) -> None:
        """Have the task run, and not wait."""
        if self._news is not None:
            self._news.set()
        elif not self._runs and self._flights.is_open:
            self._runs = True
            self._touched_at = time.monotonic()
            self._flights.aside(self._keep)

    async def _keep(self) -> None:
        pause_s = min(HEARS_EVERY_S, self._prompts.ttl_s / 4)
        try:
            while self._waiting or self._prompts.counts().entries:
                async with self._turn:
                    await self._hear()
                    await self._write()
                    if time.monotonic() - self._touched_at >= self._prompts.ttl_s / 4:
                        await self._touch()
                is_new = bool(self._waiting) and not self._store.is_away
                if is_new:
                    continue
                self._news = anyio.Event()
                with anyio.move_on_after(pause_s):
                    await self._news.wait()
                self._news = None
        finally:
            self._runs, self._news, self._mark = False, None, None

    async def _hear(self) -> None:
        """Forget what was purged elsewhere."""
        purged = await self._store.purged_since(self._mark or 0)
        if purged is None:
            return
        mark, self._mark = self._mark, purged.mark
        if mark is None:
            return
        if not purged.begins_at <= mark <= purged.mark:  # it has lost everything
            self._waiting |= dict.fromkeys(self._prompts.keys_used_since(float("-inf")))
        elif purged.scopes:
            self._forget(purged)

    def _forget(self, purged: Purged) -> None:
        meant = {(scope.tenant, scope.task_id, scope.key) for scope in purged.scopes}

        def is_meant(entry: PromptEntry) -> bool:
            return any(
                (tenant, task_id, key) in meant
                for tenant in ("", entry.tenant)
                for task_id in ("", entry.task_id)
                for key in ("", entry.key)
            )

        self._prompts.purge(is_meant)

    async def _write(self) -> None:
        """Write what waits, for as long as the store takes it."""
        while self._waiting and self._mark is not None:
            keys = list(self._waiting)[:_WRITES_AT_ONCE]
            items: list[CacheItem] = []
            for key in keys:
                del self._waiting[key]
                entry = self._prompts.kept(key)
                if entry is not None:
                    items.append(self._item(entry))
            kept = await self._store.put(items, time.monotonic()) if items else 0
            if kept < len(items) and self._store.is_away:
                self._waiting |= dict.fromkeys(item.key for item in items)
                return
            # What was refused was purged a moment ago, and is forgotten when that is heard.

    def _item(self, entry: PromptEntry) -> CacheItem:
        return CacheItem(
            key=entry.key,
            tenant=entry.tenant,
            task_id=entry.task_id,
            generation=entry.definition_hash,
            value=msgspec.msgpack.encode(_Stored(entry.tenant, entry.task_id, entry.definition_hash, entry.text)),
            ttl_s=self._prompts.ttl_s,
            mark=self._mark,
        )

    async def _touch(self) -> None:
        """Let live anew what was used; write again what the store has dropped for want of room."""
        now = time.monotonic()
        self._prompts.entries(now)  # drops what has run out
        keys = self._prompts.keys_used_since(self._touched_at)
        touched = await self._store.touch(keys, self._prompts.ttl_s) if keys else []
        if touched is not None:
            self._touched_at = now
            self._waiting |= {key: None for key, is_there in zip(keys, touched, strict=True) if not is_there}


class PromptsFirst:
    """Looks for the prompt that a call names by its key, where this process does not know it, and makes the call then."""

    def __init__(self, prompts: SharedPrompts, answering: Answering, streaming: Streaming) -> None:
        self._prompts = prompts
        self._answering = answering
        self._streaming = streaming

    def answer(self, request: Request, ends_by: float | None, horizon: Horizon | None = None) -> Awaitable[Answer]:
        """Answer a unary call; arguments and errors as `Router.route`."""
        system = request.system
        if system is None or system.key is None or self._prompts.knows(request.tenant, system.key):
            return self._answering(request, ends_by, horizon)
        return self._answer_then(request, system.key, ends_by, horizon)

    def stream(
        self, request: Request, ends_by: float | None, horizon: Horizon | None = None
    ) -> AsyncGenerator[list[Event]]:
        """Answer a streamed call; arguments and errors as `Router.stream`."""
        system = request.system
        if system is None or system.key is None or self._prompts.knows(request.tenant, system.key):
            return self._streaming(request, ends_by, horizon)
        return self._stream_then(request, system.key, ends_by, horizon)

    async def _answer_then(self, request: Request, key: str, ends_by: float | None, horizon: Horizon | None) -> Answer:
        await self._prompts.look_up(request.tenant, key)
        return await self._answering(request, ends_by, horizon)

    async def _stream_then(
        self, request: Request, key: str, ends_by: float | None, horizon: Horizon | None
    ) -> AsyncGenerator[list[Event]]:
        await self._prompts.look_up(request.tenant, key)
        async with aclosing(self._streaming(request, ends_by, horizon)) as events:
            async for batch in events:
                yield batch
