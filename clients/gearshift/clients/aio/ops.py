"""The client for those who run the service; each method is one call of OpsService."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from gearshift.clients._transport.aio import ServerStream, unary
from gearshift.clients.aio.connection import Connection
from gearshift.clients.aio.streams import AttemptWatch
from gearshift.clients.context import Context
from gearshift.v1 import answer_pb2, ops_pb2
from gearshift.v1.ops_pb2_grpc import OpsServiceStub

if TYPE_CHECKING:
    from gearshift.v1.ops_pb2_grpc import OpsServiceAsyncStub

CacheName = Literal["", "prompt", "response", "embedding"]
CostGroupName = Literal[
    "task",
    "model",
    "tenant",
    "position",
    "day",
    "task_type",
    "provider",
    "account",
    "chain",
    "outcome",
    "usage_source",
    "reason",
    "hour",
]
TrafficGroupName = Literal["", "task", "tenant"]
AttemptOutcomeName = Literal["", "accepted", "poor", "failed", "cancelled", "stopped"]


class OpsClient:
    """What `client.ops` is. It needs a key with the role `ops` where keys are configured; every method may raise RpcError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub: OpsServiceAsyncStub | None = None

    async def get_status(self, ctx: Context) -> ops_pb2.GetStatusResponse:
        """Say what is running."""
        return await unary(self._ops().GetStatus, ops_pb2.GetStatusRequest(), ctx, self._connection.settings)

    async def list_chains(self, ctx: Context) -> Sequence[ops_pb2.ChainStatus]:
        """Give the chains and their stages, by name."""
        request = ops_pb2.ListChainsRequest()
        return (await unary(self._ops().ListChains, request, ctx, self._connection.settings)).chains

    async def list_stages(self, ctx: Context, *, provider: str = "") -> Sequence[ops_pb2.StageStatus]:
        """Give the health of each account and model; of one provider when it is named."""
        request = ops_pb2.ListStagesRequest(provider=provider)
        return (await unary(self._ops().ListStages, request, ctx, self._connection.settings)).stages

    async def list_cache_entries(
        self,
        ctx: Context,
        *,
        cache: CacheName = "",
        tenant: str = "",
        task_id: str = "",
        key: str = "",
        min_age_seconds: float = 0.0,
        page_size: int = 0,
        page_token: str = "",
    ) -> ops_pb2.ListCacheEntriesResponse:
        """Give what the caches hold, one page (1 to 1000 entries; 0 is 100), and the sums of each cache."""
        request = ops_pb2.ListCacheEntriesRequest(
            filter=_cache_filter(cache, tenant, task_id, key, min_age_seconds),
            page_size=page_size,
            page_token=page_token,
        )
        return await unary(self._ops().ListCacheEntries, request, ctx, self._connection.settings)

    async def purge_cache(
        self,
        ctx: Context,
        *,
        cache: CacheName = "",
        tenant: str = "",
        task_id: str = "",
        key: str = "",
        min_age_seconds: float = 0.0,
        everything: bool = False,
    ) -> int:
        """Drop the entries that fit all that is said, or everything; return how many."""
        chosen = _cache_filter(cache, tenant, task_id, key, min_age_seconds)
        request = ops_pb2.PurgeCacheRequest(filter=chosen, all=everything)
        return (await unary(self._ops().PurgeCache, request, ctx, self._connection.settings)).purged

    async def get_cost_report(
        self,
        ctx: Context,
        *,
        group_by: Sequence[CostGroupName] = (),
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        tenant: str = "",
        task_id: str = "",
        provider: str = "",
        account: str = "",
        model: str = "",
        repriced: bool = False,
    ) -> ops_pb2.GetCostReportResponse:
        """Sum the ledger, by task when nothing is said; times need a zone."""
        request = ops_pb2.GetCostReportRequest(
            group_by=[ops_pb2.CostGroup.Value(f"COST_GROUP_{name.upper()}") for name in group_by],
            tenant=tenant,
            task_id=task_id,
            provider=provider,
            account=account,
            model=model,
            repriced=repriced,
        )
        _set_period(request, since, until)
        return await unary(self._ops().GetCostReport, request, ctx, self._connection.settings)

    async def list_attempts(
        self,
        ctx: Context,
        *,
        request_id: str = "",
        tenant: str = "",
        task_id: str = "",
        provider: str = "",
        model: str = "",
        outcome: AttemptOutcomeName = "",
        text: str = "",
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        page_size: int = 0,
        page_token: str = "",
    ) -> ops_pb2.ListAttemptsResponse:
        """Find recorded attempts, the latest first, one page (1 to 1000; 0 is 100); times need a zone.

        Args:
            ctx: its deadline and cancellation.
            text: what the request id, task id, model, failure or reason begins with.
        """
        request = ops_pb2.ListAttemptsRequest(
            request_id=request_id,
            tenant=tenant,
            task_id=task_id,
            provider=provider,
            model=model,
            outcome=answer_pb2.AttemptOutcome.Value(f"ATTEMPT_OUTCOME_{outcome.upper() or 'UNSPECIFIED'}"),
            text=text,
            page_size=page_size,
            page_token=page_token,
        )
        _set_period(request, since, until)
        return await unary(self._ops().ListAttempts, request, ctx, self._connection.settings)

    async def get_traffic(
        self,
        ctx: Context,
        *,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        step_seconds: float = 0.0,
        group_by: TrafficGroupName = "",
        tenant: str = "",
        task_id: str = "",
    ) -> ops_pb2.GetTrafficResponse:
        """Give calls over time, the last hour by minutes when nothing is said; times need a zone."""
        request = ops_pb2.GetTrafficRequest(
            step_seconds=step_seconds,
            group_by=ops_pb2.CostGroup.Value(f"COST_GROUP_{group_by.upper() or 'UNSPECIFIED'}"),
            tenant=tenant,
            task_id=task_id,
        )
        _set_period(request, since, until)
        return await unary(self._ops().GetTraffic, request, ctx, self._connection.settings)

    async def reload(self, ctx: Context) -> ops_pb2.ReloadResponse:
        """Have the configuration read again; an invalid one changes nothing and raises."""
        return await unary(self._ops().Reload, ops_pb2.ReloadRequest(), ctx, self._connection.settings)

    def watch_attempts(self, ctx: Context, *, task_id: str = "", tenant: str = "") -> AttemptWatch:
        """Give attempts as they end, until it is closed; only the context's deadline ends it."""
        request = ops_pb2.WatchAttemptsRequest(task_id=task_id, tenant=tenant)
        return AttemptWatch(
            lambda: ServerStream(self._ops().WatchAttempts, request, ctx, self._connection.settings, endless=True)
        )

    def _ops(self) -> OpsServiceAsyncStub:
        channel = self._connection.channel()
        if self._stub is None:
            self._stub = OpsServiceStub(channel)
        return self._stub


def _cache_filter(cache: str, tenant: str, task_id: str, key: str, min_age_seconds: float) -> ops_pb2.CacheFilter:
    return ops_pb2.CacheFilter(cache=cache, tenant=tenant, task_id=task_id, key=key, min_age_seconds=min_age_seconds)


def _set_period(
    request: ops_pb2.GetCostReportRequest | ops_pb2.ListAttemptsRequest | ops_pb2.GetTrafficRequest,
    since: datetime.datetime | None,
    until: datetime.datetime | None,
) -> None:
    for point, time in ((request.since, since), (request.until, until)):
        if time is not None:
            if time.tzinfo is None:
                raise ValueError("a time needs a zone, such as datetime.UTC")
            point.FromDatetime(time)
