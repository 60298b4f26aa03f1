"""Shows what OpsService says: status, chains, stages, caches, costs.

Rules: pure functions from messages to text.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

from gearshift.clients.cli.render import fields, milliseconds, money, saving, stage_name, word
from gearshift.clients.cli.terminal import Palette, safe, table
from gearshift.v1 import ops_pb2


def status(found: ops_pb2.GetStatusResponse, palette: Palette) -> str:
    """Give what is running."""
    body = [
        ("version", safe(found.version)),
        ("config", safe(found.config_revision)),
        ("calls", f"{found.calls_in_flight} running, {found.calls_ended} ended"),
        ("ledger", f"{found.ledger_pending} rows wait, {found.ledger_dropped} were dropped"),
    ]
    if found.HasField("started_at"):
        started = found.started_at.ToDatetime(datetime.UTC)
        body.insert(1, ("started", f"{started:%Y-%m-%d %H:%M:%S} UTC"))
    if found.HasField("embedded"):
        body.append(("embedded", _embedded(found.embedded)))
    body += [("warning", palette.warn(safe(text))) for text in found.warnings]
    return fields(body, palette)


def chains(found: Iterable[ops_pb2.ChainStatus], palette: Palette) -> str:
    """Give the chains."""
    rows = [
        (
            safe(one.name),
            safe(one.order),
            " → ".join(stage_name(stage) for stage in one.stages),
            safe(", ".join(one.task_ids)) or "-",
        )
        for one in found
    ]
    return table(("chain", "order", "stages", "declared tasks"), rows, palette) if rows else "no chain"


def stages(found: Sequence[ops_pb2.StageStatus], palette: Palette) -> str:
    """Give the health of each account and model."""
    headings = ("stage", "account", "breaker", "running", "attempts", "failed", "poor", "first", "total", "limits")
    rows = [
        (
            safe(f"{one.provider}/{one.model}"),
            safe(one.account) or "-",
            _breaker(one, palette),
            str(one.in_flight),
            str(one.attempts),
            str(one.failures),
            str(one.poor),
            milliseconds(one.first_token_ms) if one.first_token_ms else "-",
            milliseconds(one.total_ms) if one.total_ms else "-",
            " · ".join(_bucket(bucket) for bucket in one.buckets) or "-",
        )
        for one in found
    ]
    text = table(headings, rows, palette, right="   rrrrrr") if rows else "no stage"
    pressed = [_pressure(one, palette) for one in found if one.HasField("pressure")]
    if not pressed:
        return text
    machines = ("machine", "running", "queued", "cache", "at once", "loaded", "said")
    # Models of one account share its machine, and say the same.
    return f"{text}\n\n{table(machines, list(dict.fromkeys(pressed)), palette, right=' rrrr')}"


def _pressure(one: ops_pb2.StageStatus, palette: Palette) -> tuple[str, ...]:
    """Give what a model server says of itself."""
    said = one.pressure
    own = " (ours)" if said.own_calls else ""
    most = f" of {said.max_queued}" if said.HasField("max_queued") else ""
    age = f"{duration(said.age_seconds)} ago" if said.HasField("age_seconds") else "nothing yet"
    return (
        safe(f"{one.provider}/{one.account}"),
        f"{said.running}{own}" if said.HasField("running") else "-",
        f"{said.queued}{most}" if said.HasField("queued") else "-",
        f"{said.cache_used:.0%}" if said.HasField("cache_used") else "-",
        f"{one.parallelism:.1f}" if one.parallelism else "-",
        ", ".join(_loaded(each) for each in said.loaded) or "-",
        palette.warn(safe(said.error)) if said.error else age,
    )


def _loaded(model: ops_pb2.LoadedModel) -> str:
    until = f" until {model.expires_at.ToDatetime(datetime.UTC):%H:%M} UTC" if model.HasField("expires_at") else ""
    return f"{safe(model.name)} {size(model.vram_bytes)} of {size(model.bytes)} in VRAM{until}"


def cache_stats(found: Iterable[ops_pb2.CacheStats], palette: Palette) -> str:
    """Give the sums of each cache."""
    rows = [
        (
            safe(one.cache),
            str(one.entries),
            size(one.bytes),
            str(one.hits),
            str(one.misses),
            f"{one.hits / (one.hits + one.misses):.0%}" if one.hits + one.misses else "-",
            str(one.evictions),
        )
        for one in found
    ]
    headings = ("cache", "entries", "size", "hits", "misses", "hit rate", "evicted")
    return table(headings, rows, palette, right=" rrrrrr") if rows else "no cache"


def cache_entries(found: Iterable[ops_pb2.CacheEntry], palette: Palette) -> str:
    """Give cache entries, without their content."""
    rows = [
        (
            safe(one.cache),
            safe(one.key),
            safe(one.tenant),
            safe(one.task_id),
            str(one.hits),
            size(one.bytes),
            duration(one.age_seconds),
            duration(one.expires_in_seconds),
        )
        for one in found
    ]
    headings = ("cache", "key", "tenant", "task", "hits", "size", "age", "expires in")
    return table(headings, rows, palette, right="    rrrr") if rows else "nothing is cached"


def costs(report: ops_pb2.GetCostReportResponse, groups: Sequence[str], palette: Palette) -> str:
    """Give a cost report with its sum."""
    headings = (*groups, "calls", "attempts", "failed", "poor", "tokens", "cost", "overhead", "strongest", "saving")
    rows = [_cost_row(row, len(groups)) for row in report.rows]
    if len(rows) != 1:
        rows.append([palette.bold(cell) for cell in _cost_row(report.total, len(groups), "all")])
    text = table(headings, rows, palette, right=" " * len(groups) + "r" * 9)
    notes: list[str] = []
    if report.total.unpriced:
        notes.append(f"{report.total.unpriced} attempts have no known price and are not in the cost")
    if report.total.estimated_usd not in ("", "0"):
        notes.append(f"{money(report.total.estimated_usd)} of the cost rests on estimated usage")
    if report.total.overhead_usd not in ("", "0"):
        notes.append(
            f"of {money(report.total.overhead_usd)} overhead, failed attempts cost {money(report.total.fallback_usd)}, "
            f"poor and stopped answers {money(report.total.escalation_usd)}"
        )
    for machine in report.machines:
        notes.append(
            f"{safe(machine.provider)}: machines cost {money(machine.paid_usd)}, of which {money(machine.idle_usd)} idle, "
            "which is not in the cost above"
        )
    if report.pending:
        notes.append(f"{report.pending} rows had not reached the ledger")
    return "\n".join([text, *(palette.dim(note) for note in notes)])


def size(amount: int) -> str:
    """Give a number of bytes in the unit that fits it."""
    value = float(amount)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def duration(seconds: float) -> str:
    """Give a length of time in the unit that fits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _cost_row(row: ops_pb2.CostRow, groups: int, name: str = "") -> list[str]:
    keys = [safe(key) or "-" for key in row.keys] or [name, *[""] * (groups - 1)]
    return [
        *keys,
        str(row.calls),
        str(row.attempts),
        str(row.failed),
        str(row.poor),
        f"{row.usage.input_tokens} → {row.usage.output_tokens}",
        "unknown" if row.attempts and row.unpriced >= row.attempts else money(row.cost_usd),
        money(row.overhead_usd) if row.overhead_usd else "-",
        money(row.strongest_usd) if row.strongest_usd else "-",
        saving(row.cost_usd, row.strongest_usd) or "-",
    ]


def _breaker(one: ops_pb2.StageStatus, palette: Palette) -> str:
    state = word(ops_pb2.BreakerState, one.breaker)
    if one.breaker == ops_pb2.BREAKER_STATE_CLOSED:
        return palette.good(state)
    probe = f", probe in {one.probe_in_seconds:.0f} s" if one.probe_in_seconds else ""
    why = f": {safe(one.breaker_reason)}" if one.breaker_reason else ""
    return f"{palette.bad(state)}{probe}{why}"


def _bucket(one: ops_pb2.BucketStatus) -> str:
    waiting = f", {one.waiting} wait" if one.waiting else ""
    return f"{safe(one.unit)} {one.level:g}/{one.capacity:g}{waiting}"


def _embedded(one: ops_pb2.EmbeddedStatus) -> str:
    parts = [safe(one.state)]
    if one.pid:
        parts.append(f"process {one.pid}")
    if one.resident_bytes:
        parts.append(size(one.resident_bytes))
    if one.restarts:
        parts.append(f"{one.restarts} restarts")
    if one.last_error:
        parts.append(safe(one.last_error))
    return " · ".join(parts)
