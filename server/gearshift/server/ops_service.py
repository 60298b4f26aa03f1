"""OpsService: what is running, for those who run it.

Rules: every method needs the role `ops` where keys are configured. Content is never shown.
"""

from __future__ import annotations

import re
import time
from typing import Any, Protocol

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from gearshift.core.admission import Guard
from gearshift.core.buckets import Budget
from gearshift.core.cache.manage import CACHES
from gearshift.core.cache.store import CacheFilter
from gearshift.core.errors import invalid
from gearshift.core.ledger import CostQuery, CostReport, CostRow
from gearshift.core.shared.buckets import SharedBucket, SharedBudget
from gearshift.core.words import CostGroup
from gearshift.server.access import require_ops
from gearshift.server.own_machines import OwnMachines, pressure_to_wire
from gearshift.server.recorded import (
    attempts_page,
    attempts_query,
    page_size,
    seconds,
    traffic_answer,
    traffic_query,
)
from gearshift.server.router_service import Running
from gearshift.server.trail import Seen, Trail
from gearshift.server.wire import attempt_to_wire, money, stage_to_wire, usage_to_wire
from gearshift.v1 import ops_pb2, ops_pb2_grpc, task_pb2

Context = grpc.aio.ServicerContext[Any, Any]

PAGE = 100
LARGEST_PAGE = 1000
_PAGE_TOKEN = re.compile(r"[0-9]{0,12}")


class Operated(Running, Protocol):
    """What OpsService shows and steers."""

    @property
    def trail(self) -> Trail:
        """The live trail."""
        ...

    @property
    def machines(self) -> OwnMachines:
        """Own machines."""
        ...

    def status(self) -> ops_pb2.GetStatusResponse:
        """Give what is running."""
        ...

    async def reload(self) -> bool:
        """Read the configuration again; answer whether anything changed."""
        ...


class OpsService(ops_pb2_grpc.OpsServiceServicer):
    """The service for operators."""

    def __init__(self, operated: Operated) -> None:
        self._operated = operated

    def _check(self, context: Context) -> None:
        require_ops(self._operated.access.caller(context.invocation_metadata()))

    async def GetStatus(self, request: ops_pb2.GetStatusRequest, context: Context) -> ops_pb2.GetStatusResponse:
        """Say what is running."""
        self._check(context)
        return self._operated.status()

    async def ListChains(self, request: ops_pb2.ListChainsRequest, context: Context) -> ops_pb2.ListChainsResponse:
        """Give the chains."""
        self._check(context)
        blueprint = self._operated.router.blueprint
        return ops_pb2.ListChainsResponse(
            chains=[
                ops_pb2.ChainStatus(
                    name=name,
                    stages=[stage_to_wire(stage.ref) for stage in chain.stages],
                    order="adaptive" if chain.adaptive else "written",
                    task_ids=sorted(task.id for task in blueprint.tasks.values() if task.chain.name == name),
                )
                for name, chain in sorted(blueprint.chains.items())
            ]
        )

    async def ListStages(self, request: ops_pb2.ListStagesRequest, context: Context) -> ops_pb2.ListStagesResponse:
        """Give the health of accounts and models, also of those that were never called."""
        self._check(context)
        await self._operated.machines.look()
        router, now = self._operated.router, time.monotonic()
        guards: dict[str, Guard] = {}
        for chain in router.blueprint.chains.values():
            for stage in chain.stages:
                for spec in stage.provider.accounts:
                    guard = router.state.admission.guard(stage, spec, now)
                    guards[guard.name] = guard
        return ops_pb2.ListStagesResponse(
            stages=[
                _stage_status(guard, now)
                for _, guard in sorted(guards.items())
                if not request.provider or guard.provider == request.provider
            ]
        )

    async def ListCacheEntries(
        self, request: ops_pb2.ListCacheEntriesRequest, context: Context
    ) -> ops_pb2.ListCacheEntriesResponse:
        """Give what the caches hold."""
        return await self._entries(request, context, LARGEST_PAGE)

    async def _entries(
        self, request: ops_pb2.ListCacheEntriesRequest, context: Context, largest: int
    ) -> ops_pb2.ListCacheEntriesResponse:
        """Give a page of at most `largest`."""
        self._check(context)
        caches, now = self._operated.router.state.caches, time.monotonic()
        entries = await caches.entries(*_chosen(request.filter), now)
        size = min(request.page_size or PAGE, largest)
        begin = page_begin(request)
        return ops_pb2.ListCacheEntriesResponse(
            entries=[
                ops_pb2.CacheEntry(
                    cache=entry.cache,
                    key=entry.key,
                    tenant=entry.tenant,
                    task_id=entry.task_id,
                    bytes=entry.size,
                    hits=entry.hits,
                    age_seconds=entry.age_s,
                    expires_in_seconds=entry.expires_in_s,
                )
                for entry in entries[begin : begin + size]
            ],
            next_page_token=str(begin + size) if begin + size < len(entries) else "",
            stats=[
                ops_pb2.CacheStats(
                    cache=name,
                    entries=counts.entries,
                    bytes=counts.bytes,
                    hits=counts.hits,
                    misses=counts.misses,
                    evictions=counts.evictions,
                )
                for name, counts in caches.counts().items()
            ],
        )

    async def PurgeCache(self, request: ops_pb2.PurgeCacheRequest, context: Context) -> ops_pb2.PurgeCacheResponse:
        """Drop cache entries."""
        self._check(context)
        if not request.all and not request.filter.ListFields():
            raise invalid("filter", "chooses nothing: set at least one field, or all")
        caches = self._operated.router.state.caches
        return ops_pb2.PurgeCacheResponse(purged=await caches.purge(*_chosen(request.filter), time.monotonic()))

    async def GetCostReport(
        self, request: ops_pb2.GetCostReportRequest, context: Context
    ) -> ops_pb2.GetCostReportResponse:
        """Sum the ledger."""
        self._check(context)
        groups: list[CostGroup] = []
        for number in request.group_by:
            try:
                group = CostGroup(number or CostGroup.TASK)
            except ValueError:
                raise invalid("group_by", f"{number} is unknown to this version") from None
            if group not in groups:
                groups.append(group)
        report = await self._operated.ledger.report(
            CostQuery(
                group_by=tuple(groups) or (CostGroup.TASK,),
                since=seconds(request.since, "since") if request.HasField("since") else None,
                until=seconds(request.until, "until") if request.HasField("until") else None,
                tenant=request.tenant or None,
                task_id=request.task_id or None,
                provider=request.provider or None,
                account=request.account or None,
                model=request.model or None,
                repriced=request.repriced,
            )
        )
        return _report(report)

    async def ListAttempts(
        self, request: ops_pb2.ListAttemptsRequest, context: Context
    ) -> ops_pb2.ListAttemptsResponse:
        """Find recorded attempts."""
        self._check(context)
        ledger = self._operated.ledger
        found = await ledger.attempts(attempts_query(request))
        return attempts_page(found, page_size(request), ledger.status().pending)

    async def GetTraffic(self, request: ops_pb2.GetTrafficRequest, context: Context) -> ops_pb2.GetTrafficResponse:
        """Give calls over time."""
        self._check(context)
        ledger, query = self._operated.ledger, traffic_query(request, time.time())
        return traffic_answer(query, await ledger.traffic(query), ledger.status().pending)

    async def Reload(self, request: ops_pb2.ReloadRequest, context: Context) -> ops_pb2.ReloadResponse:
        """Read the configuration again."""
        self._check(context)
        changed = await self._operated.reload()
        return ops_pb2.ReloadResponse(changed=changed, config_revision=self._operated.router.blueprint.revision)

    async def WatchAttempts(self, request: ops_pb2.WatchAttemptsRequest, context: Context) -> None:  # type: ignore[override]
        """Send attempts as they end."""
        self._check(context)
        with self._operated.trail.watch() as seen:
            # Tells the caller that nothing is missed from now on.
            await context.send_initial_metadata(())
            async for each in seen:
                resolution = each.context.resolution
                if request.task_id not in ("", resolution.task_id) or request.tenant not in ("", resolution.tenant):
                    continue
                # A key may have been revoked since the stream began.
                self._check(context)
                await context.write(attempt_seen(each))


def page_begin(request: ops_pb2.ListCacheEntriesRequest) -> int:
    """Give the rank of a page's first entry, from 0.

    Raises:
        InvalidRequestError: the token is none of ours.
    """
    if not _PAGE_TOKEN.fullmatch(request.page_token):
        raise invalid("page_token", "must be what the last response gave, or empty")
    return int(request.page_token or 0)


def attempt_seen(seen: Seen) -> ops_pb2.WatchAttemptsResponse:
    """Give an attempt that ended, for who watches."""
    resolution, ended = seen.context.resolution, Timestamp()
    ended.FromNanoseconds(int(seen.ended_at * 1e9))
    return ops_pb2.WatchAttemptsResponse(
        request_id=seen.context.request_id,
        task_id=resolution.task_id,
        tenant=resolution.tenant,
        task_type=task_pb2.TaskType.ValueType(resolution.type),
        attempt=attempt_to_wire(seen.attempt),
        ended_at=ended,
        missed=seen.missed,
    )


def _chosen(chosen: ops_pb2.CacheFilter) -> tuple[str, CacheFilter]:
    """Give the cache that is meant, empty for all, and which of its entries."""
    if chosen.cache not in ("", *CACHES):
        raise invalid("filter.cache", f"{chosen.cache!r} is no cache of this service: {', '.join(CACHES)}")
    return chosen.cache, CacheFilter(
        tenant=chosen.tenant, task_id=chosen.task_id, key=chosen.key, min_age_s=chosen.min_age_seconds
    )


def _stage_status(guard: Guard, now: float) -> ops_pb2.StageStatus:
    figures, breaker = guard.figures, guard.breaker
    return ops_pb2.StageStatus(
        provider=guard.provider,
        account=guard.account.name,
        model=guard.model,
        breaker=ops_pb2.BreakerState.ValueType(breaker.state),
        probe_in_seconds=breaker.probe_in(now),
        breaker_reason=breaker.reason,
        buckets=[
            ops_pb2.BucketStatus(
                unit=bucket.unit,
                capacity=bucket.capacity,
                level=bucket.level(now),
                refill_per_second=bucket.refill_per_s,
                waiting=len(bucket.line) if bucket.line is not None else 0,
                books=bucket.books if isinstance(bucket, SharedBucket) else "local",
                period=bucket.period if isinstance(bucket, Budget | SharedBudget) else "",
            )
            for bucket in guard.buckets
        ],
        attempts=figures.attempts,
        failures=figures.failures,
        accepted=figures.accepted,
        poor=figures.poor,
        in_flight=figures.in_flight,
        first_token_ms=figures.first_token_ms,
        total_ms=figures.total_ms,
        pressure=pressure_to_wire(guard.pressure, now) if guard.pressure is not None else None,
        parallelism=(guard.machine.parallelism(now) or 0.0) if guard.machine is not None else 0.0,
    )


def _report(report: CostReport) -> ops_pb2.GetCostReportResponse:
    return ops_pb2.GetCostReportResponse(
        rows=[_cost_row(row) for row in report.rows],
        total=_cost_row(report.total),
        pending=report.pending,
        machines=[
            ops_pb2.MachineCost(
                provider=each.provider,
                busy_seconds=each.busy_s,
                paid_usd=money(each.paid_usd),
                idle_usd=money(each.idle_usd),
            )
            for each in report.machines
        ],
    )


def _cost_row(row: CostRow) -> ops_pb2.CostRow:
    return ops_pb2.CostRow(
        keys=row.keys,
        calls=row.calls,
        attempts=row.attempts,
        failed=row.failed,
        poor=row.poor,
        usage=usage_to_wire(row.usage),
        cost_usd=money(row.cost_usd),
        unpriced=row.unpriced,
        estimated_usd=money(row.estimated_usd),
        overhead_usd=money(row.overhead_usd),
        # Where no answer has a known price on a strongest model, the sum says nothing: unknown, never zero.
        strongest_usd=money(None if row.saved_usd is None else row.strongest_usd),
        accepted=row.accepted,
        cancelled=row.cancelled,
        stopped=row.stopped,
        reported_usage=usage_to_wire(row.reported),
        counted_usage=usage_to_wire(row.counted),
        estimated_usage=usage_to_wire(row.estimated),
        fallback_usd=money(row.fallback_usd),
        escalation_usd=money(row.escalation_usd),
        saved_usd=money(row.saved_usd),
    )
