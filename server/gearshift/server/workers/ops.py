"""OpsService of one of several workers: it speaks for all of them.

Rules: who may ask is checked here, by the worker that was asked; the others trust the bus. A worker that does not answer
within a second is named as silent and not waited for.
"""

from __future__ import annotations

from typing import Self, cast

import anyio
import msgspec

from gearshift.core.errors import CacheStoreError, ConfigError
from gearshift.server.ops_service import (
    LARGEST_PAGE,
    PAGE,
    Context,
    Operated,
    OpsService,
    attempt_seen,
    page_begin,
)
from gearshift.server.trail import TRAIL_BUFFER, Seen, Trail
from gearshift.server.workers.member import Member
from gearshift.server.workers.merging import merged_entries, merged_stages, merged_status
from gearshift.server.workers.messages import SUPERVISOR, Answers
from gearshift.server.workers.status import ReloadResult, SupervisorStatus
from gearshift.v1 import ops_pb2

_BUS = cast("Context", None)
"""The context of a question that came over the bus."""
_STORED = ("response", "embedding")


class TeamOpsService(OpsService):
    """The service for operators, over all workers."""

    def __init__(self, operated: Operated, member: Member) -> None:
        super().__init__(operated)
        self._member = member
        self._attempts = TeamTrail(operated.trail, member)
        member.answers("status", self._give_status)
        member.answers("stages", self._give_stages)
        member.answers("entries", self._give_entries)
        member.answers("purge", self._give_purged)

    def _check(self, context: Context) -> None:
        if context is not _BUS:
            super()._check(context)

    async def GetStatus(self, request: ops_pb2.GetStatusRequest, context: Context) -> ops_pb2.GetStatusResponse:
        """Say what is running."""
        mine = await super().GetStatus(request, context)
        answers = await self._member.ask("status")
        told = [part for part in answers.parts if part.worker == SUPERVISOR]
        parts = [(self._member.number, mine)]
        parts += [
            (part.worker, ops_pb2.GetStatusResponse.FromString(part.body))
            for part in answers.parts
            if part.worker != SUPERVISOR and not part.error
        ]
        whole = merged_status(parts)
        if not told:
            whole.warnings.append("the supervisor does not answer: this is one worker's status")
            return whole
        supervisor = msgspec.msgpack.decode(told[0].body, type=SupervisorStatus)
        whole.warnings.extend(supervisor.warnings)
        by_number = dict(parts)
        for row in supervisor.workers:
            own = by_number.get(row.number, ops_pb2.GetStatusResponse())
            whole.workers.append(
                ops_pb2.WorkerStatus(
                    number=row.number,
                    state="silent" if row.number in answers.missing else row.state,
                    pid=row.pid,
                    restarts=row.restarts,
                    up_seconds=row.up_s,
                    resident_bytes=row.resident_bytes,
                    calls_in_flight=own.calls_in_flight,
                    calls_ended=own.calls_ended,
                    last_error=row.last_error,
                    answers=row.number == self._member.number,
                )
            )
            if row.state != "serving":
                whole.warnings.append(f"worker {row.number} does not serve: {row.last_error or row.state}")
            elif row.number in answers.missing:
                whole.warnings.append(f"worker {row.number} does not answer: this status is without it")
        for model in supervisor.embedded:
            whole.embedded.CopyFrom(
                ops_pb2.EmbeddedStatus(
                    state=model.state,
                    pid=model.pid,
                    resident_bytes=model.resident_bytes,
                    restarts=model.restarts,
                    last_error=model.last_error,
                )
            )
        return whole

    async def ListStages(self, request: ops_pb2.ListStagesRequest, context: Context) -> ops_pb2.ListStagesResponse:
        """Give the health of accounts and models."""
        mine = await super().ListStages(request, context)
        answers = await self._member.ask("stages", request.SerializeToString())
        return merged_stages([mine, *map(ops_pb2.ListStagesResponse.FromString, _bodies(answers))])

    async def ListCacheEntries(
        self, request: ops_pb2.ListCacheEntriesRequest, context: Context
    ) -> ops_pb2.ListCacheEntriesResponse:
        """Give what the caches hold."""
        begin, size = page_begin(request), min(request.page_size or PAGE, LARGEST_PAGE)
        # An entry's rank among all is never before its rank in its own worker.
        whole = ops_pb2.ListCacheEntriesRequest(filter=request.filter, page_size=begin + size)
        mine = await self._entries(whole, context, begin + size)
        answers = await self._member.ask("entries", whole.SerializeToString())
        config = self._operated.router.blueprint.config.shared
        stored = _STORED if config.redis is not None and config.caches else ()
        parts = [mine, *map(ops_pb2.ListCacheEntriesResponse.FromString, _bodies(answers))]
        return merged_entries(parts, begin, size, stored)

    async def PurgeCache(self, request: ops_pb2.PurgeCacheRequest, context: Context) -> ops_pb2.PurgeCacheResponse:
        """Drop cache entries."""
        mine = await super().PurgeCache(request, context)
        answers = await self._member.ask("purge", request.SerializeToString())
        failed = sorted({*answers.missing, *(part.worker for part in answers.parts if part.error)})
        if failed:
            named = ", ".join(map(str, failed))
            raise CacheStoreError(f"not purged by all workers: no answer from {named}; purge again")
        others = map(ops_pb2.PurgeCacheResponse.FromString, _bodies(answers))
        return ops_pb2.PurgeCacheResponse(purged=mine.purged + sum(each.purged for each in others))

    async def Reload(self, request: ops_pb2.ReloadRequest, context: Context) -> ops_pb2.ReloadResponse:
        """Read the configuration again, in all workers or in none."""
        self._check(context)
        answers = await self._member.ask("reload")
        if not answers.parts:
            raise ConfigError(["the supervisor does not answer"])
        result = msgspec.msgpack.decode(answers.parts[0].body, type=ReloadResult)
        if result.problems:
            raise ConfigError(result.problems)
        return ops_pb2.ReloadResponse(changed=result.changed, config_revision=result.revision)

    async def WatchAttempts(self, request: ops_pb2.WatchAttemptsRequest, context: Context) -> None:  # type: ignore[override]
        """Send attempts of all workers as they end."""
        self._check(context)
        with self._attempts.watch() as seen:
            await self._attempts.joined()
            await context.send_initial_metadata(())
            async for each in seen.stream:
                if request.task_id not in ("", each.task_id) or request.tenant not in ("", each.tenant):
                    continue
                # A key may have been revoked since the stream began.
                self._check(context)
                await context.write(seen.counted(each))

    async def _give_status(self, _body: bytes) -> bytes:
        return (await super().GetStatus(ops_pb2.GetStatusRequest(), _BUS)).SerializeToString()

    async def _give_stages(self, body: bytes) -> bytes:
        return (await super().ListStages(ops_pb2.ListStagesRequest.FromString(body), _BUS)).SerializeToString()

    async def _give_entries(self, body: bytes) -> bytes:
        request = ops_pb2.ListCacheEntriesRequest.FromString(body)
        return (await self._entries(request, _BUS, request.page_size)).SerializeToString()

    async def _give_purged(self, body: bytes) -> bytes:
        return (await super().PurgeCache(ops_pb2.PurgeCacheRequest.FromString(body), _BUS)).SerializeToString()


class Watching:
    """What a watcher reads; `missed` counts what it was too slow for since it was last asked."""

    def __init__(self, trail: TeamTrail) -> None:
        send, self.stream = anyio.create_memory_object_stream[ops_pb2.WatchAttemptsResponse](TRAIL_BUFFER)
        self.send = send
        self.missed = 0
        self._trail = trail

    def counted(self, attempt: ops_pb2.WatchAttemptsResponse) -> ops_pb2.WatchAttemptsResponse:
        """Give an attempt with what was missed before it; attempts are shared with who else watches."""
        if not self.missed:
            return attempt
        counted = ops_pb2.WatchAttemptsResponse()
        counted.CopyFrom(attempt)
        counted.missed += self.missed
        self.missed = 0
        return counted

    def __enter__(self) -> Self:
        self._trail.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._trail.remove(self)
        self.send.close()
        self.stream.close()


class TeamTrail:
    """Attempts of all workers, for those who watch here and elsewhere.

    Rules: nothing is sent and nothing is looked at while nobody watches.
    """

    def __init__(self, trail: Trail, member: Member) -> None:
        self._trail = trail
        self._member = member
        self._here: list[Watching] = []
        self._elsewhere: set[int] = set()
        self._is_tapping = False
        self._is_closed = False
        trail.when_closed(self._close)
        member.hears("watch", self._watched)
        member.hears("attempt", self._heard)
        member.answers("watch", self._confirm)
        member.when_changed(self._team_changed)

    def watch(self) -> Watching:
        """Give attempts from now on, until the block is left."""
        return Watching(self)

    async def joined(self) -> None:
        """Wait until the others send theirs, a second at most."""
        await self._member.ask("watch", str(self._member.number).encode())

    def add(self, watching: Watching) -> None:
        """Have a watcher told."""
        self._here.append(watching)
        self._changed()
        if self._is_closed:
            watching.send.close()

    def remove(self, watching: Watching) -> None:
        """Have it told no longer."""
        self._here.remove(watching)
        if not self._here:
            self._member.tell("watch", b"0")
        self._changed()

    def _changed(self) -> None:
        wanted = bool(self._here or self._elsewhere)
        if wanted != self._is_tapping:
            self._is_tapping = wanted
            if wanted:
                self._trail.tap(self._pass_on)
            else:
                self._trail.untap(self._pass_on)

    def _close(self) -> None:
        self._is_closed = True
        for watching in self._here:
            watching.send.close()

    def _pass_on(self, seen: Seen) -> None:
        attempt = attempt_seen(seen)
        if self._elsewhere:
            self._member.tell("attempt", attempt.SerializeToString(), sorted(self._elsewhere))
        self._show(attempt)

    def _show(self, attempt: ops_pb2.WatchAttemptsResponse) -> None:
        for watching in self._here:
            try:
                watching.send.send_nowait(attempt)
            except anyio.WouldBlock:
                watching.missed += 1
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                continue

    def _heard(self, _sender: int, body: bytes) -> None:
        self._show(ops_pb2.WatchAttemptsResponse.FromString(body))

    def _watched(self, sender: int, body: bytes) -> None:
        if body == b"1":
            self._elsewhere.add(sender)
        else:
            self._elsewhere.discard(sender)
        self._changed()

    async def _confirm(self, body: bytes) -> bytes:
        self._watched(int(body), b"1")
        return b""

    def _team_changed(self) -> None:
        self._elsewhere &= set(self._member.serving)
        self._changed()
        if self._here:
            # Who has come since must know that somebody watches.
            self._member.tell("watch", b"1")


def _bodies(answers: Answers) -> list[bytes]:
    return [part.body for part in answers.parts if not part.error]
