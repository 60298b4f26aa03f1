"""What several workers say of themselves, as one.

Rules: pure; messages of the contract in and out. What a store that all share tells is taken once; what each keeps for
itself is summed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from gearshift.v1 import ops_pb2

_WORST = (
    ops_pb2.BREAKER_STATE_OPEN,
    ops_pb2.BREAKER_STATE_HALF_OPEN,
    ops_pb2.BREAKER_STATE_CLOSED,
    ops_pb2.BREAKER_STATE_UNSPECIFIED,
)


def merged_status(parts: Sequence[tuple[int, ops_pb2.GetStatusResponse]]) -> ops_pb2.GetStatusResponse:
    """Give the service's status from that of each worker, by number; the first one is who was asked."""
    whole = ops_pb2.GetStatusResponse()
    whole.CopyFrom(parts[0][1])
    started = [part.started_at for _, part in parts]
    whole.started_at.CopyFrom(min(started, key=lambda at: (at.seconds, at.nanos)))
    whole.calls_in_flight = sum(part.calls_in_flight for _, part in parts)
    whole.calls_ended = sum(part.calls_ended for _, part in parts)
    whole.ledger_pending = sum(part.ledger_pending for _, part in parts)
    whole.ledger_dropped = sum(part.ledger_dropped for _, part in parts)
    said: dict[str, list[int]] = {}
    for number, part in parts:
        for warning in part.warnings:
            said.setdefault(warning, []).append(number)
    del whole.warnings[:]
    for warning, numbers in said.items():
        is_all = len(numbers) == len(parts)
        whole.warnings.append(warning if is_all else f"worker {', '.join(map(str, sorted(numbers)))}: {warning}")
    revisions = {part.config_revision for _, part in parts}
    if len(revisions) > 1:
        whole.warnings.append("the workers serve different configurations: a reload is under way, or one of them hangs")
    return whole


def merged_stages(parts: Sequence[ops_pb2.ListStagesResponse]) -> ops_pb2.ListStagesResponse:
    """Give each account and model as all workers see it: the worst breaker, sums of counts, weighted means of times."""
    by_name: dict[tuple[str, str, str], list[ops_pb2.StageStatus]] = {}
    for part in parts:
        for stage in part.stages:
            by_name.setdefault((stage.provider, stage.account, stage.model), []).append(stage)
    return ops_pb2.ListStagesResponse(stages=[_stage(each) for each in by_name.values()])


def _stage(seen: Sequence[ops_pb2.StageStatus]) -> ops_pb2.StageStatus:
    if len(seen) == 1:
        return seen[0]
    whole = ops_pb2.StageStatus()
    whole.CopyFrom(min(seen, key=lambda each: _WORST.index(each.breaker)))
    if whole.breaker == ops_pb2.BREAKER_STATE_OPEN:
        whole.probe_in_seconds = min(each.probe_in_seconds for each in seen if each.breaker == whole.breaker)
    whole.attempts = sum(each.attempts for each in seen)
    whole.failures = sum(each.failures for each in seen)
    whole.accepted = sum(each.accepted for each in seen)
    whole.poor = sum(each.poor for each in seen)
    whole.in_flight = sum(each.in_flight for each in seen)
    whole.first_token_ms = _mean((each.first_token_ms, each.attempts) for each in seen)
    whole.total_ms = _mean((each.total_ms, each.attempts) for each in seen)
    said = [each.pressure for each in seen if each.HasField("pressure")]
    if said:
        # All ask the same server: the latest word stands, unless it is a count of each worker's own calls.
        whole.pressure.CopyFrom(
            min(said, key=lambda each: each.age_seconds if each.HasField("age_seconds") else math.inf)
        )
        if whole.pressure.own_calls:
            whole.pressure.running = sum(each.running for each in said)
            whole.pressure.queued = sum(each.queued for each in said)
        whole.parallelism = max(each.parallelism for each in seen)
    del whole.buckets[:]
    by_unit: dict[tuple[str, str], list[ops_pb2.BucketStatus]] = {}
    for each in seen:
        for bucket in each.buckets:
            by_unit.setdefault((bucket.unit, bucket.period), []).append(bucket)
    whole.buckets.extend(_bucket(each) for each in by_unit.values())
    return whole


def _bucket(seen: Sequence[ops_pb2.BucketStatus]) -> ops_pb2.BucketStatus:
    whole = ops_pb2.BucketStatus()
    whole.CopyFrom(seen[0])
    whole.waiting = sum(each.waiting for each in seen)
    if whole.books != "shared":
        whole.capacity = sum(each.capacity for each in seen)
        whole.level = sum(each.level for each in seen)
        whole.refill_per_second = sum(each.refill_per_second for each in seen)
    return whole


def _mean(weighted: Iterable[tuple[float, int]]) -> float:
    known = [(value, weight) for value, weight in weighted if value and weight]
    return sum(value * weight for value, weight in known) / sum(weight for _, weight in known) if known else 0.0


def merged_entries(
    parts: Sequence[ops_pb2.ListCacheEntriesResponse], begin: int, size: int, stored: Collection[str]
) -> ops_pb2.ListCacheEntriesResponse:
    """Give a page of what the caches of all workers hold, most used first.

    Args:
        begin: of the page; each part holds its own entries up to the page's end.
        size: of the page.
        stored: caches that are in one store, of which each worker tells the whole.

    """
    entries: dict[tuple[str, str, str], ops_pb2.CacheEntry] = {}
    stats: dict[str, ops_pb2.CacheStats] = {}
    for part in parts:
        for entry in part.entries:
            key = (entry.cache, entry.tenant, entry.key)
            known = entries.get(key)
            if known is None:
                entries[key] = entry
            elif entry.cache not in stored:
                known.hits += entry.hits
                known.age_seconds = max(known.age_seconds, entry.age_seconds)
                known.expires_in_seconds = max(known.expires_in_seconds, entry.expires_in_seconds)
        for each in part.stats:
            whole = stats.setdefault(each.cache, ops_pb2.CacheStats(cache=each.cache))
            whole.hits += each.hits
            whole.misses += each.misses
            whole.evictions += each.evictions
            if each.cache in stored:
                whole.entries, whole.bytes = max(whole.entries, each.entries), max(whole.bytes, each.bytes)
            else:
                whole.entries += each.entries
                whole.bytes += each.bytes
    ordered = sorted(entries.values(), key=lambda entry: -entry.hits)
    is_more = len(ordered) > begin + size or any(part.next_page_token for part in parts)
    return ops_pb2.ListCacheEntriesResponse(
        entries=ordered[begin : begin + size],
        stats=stats.values(),
        next_page_token=str(begin + size) if is_more else "",
    )
