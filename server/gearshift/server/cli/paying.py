"""Cascades that do not pay, by what the ledger has measured, and those that cannot, by their prices.

Rules: reads, never writes or migrates; what cannot be read gives no warning. What is a loss is decided in the core.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

from gearshift.core.blueprint import Blueprint, Chain
from gearshift.core.cascade import Record, hopeless_stages
from gearshift.core.errors import LedgerError
from gearshift.core.ledger.opening import configured_store
from gearshift.core.ledger.report import CostQuery, CostRow, read_report
from gearshift.core.words import CostGroup

_GROUPS = (CostGroup.CHAIN, CostGroup.TASK_TYPE, CostGroup.POSITION, CostGroup.MODEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A stage that costs more than it saves; `told` is a sentence."""

    chain: Chain
    told: str


def losing_cascades(blueprint: Blueprint) -> list[Loss]:
    """Say which stages have cost more than they saved."""
    from gearshift.server.app import ledger_path

    config = blueprint.config.ledger
    path = "" if config.url else ledger_path(blueprint.config)
    if not config.url and not os.path.exists(path):
        return []
    try:
        with configured_store(config, path).session() as session:
            rows = read_report(session, CostQuery(group_by=_GROUPS), pending=0).rows
    except LedgerError:
        return []
    found: dict[tuple[str, str, int, str], CostRow] = {
        (row.keys[0], row.keys[1], int(row.keys[2]), row.keys[3]): row for row in rows
    }
    told: list[Loss] = []
    kinds = sorted({(chain, kind) for chain, kind, _, _ in found})
    for name, kind in kinds:
        chain = blueprint.chains.get(name)
        if chain is None:
            continue
        for stage, after in pairwise(chain.stages):
            if after.ref.capability <= stage.ref.capability:
                continue  # poor answers do not go there
            here, behind = (
                found.get((name, kind, each.ref.position, f"{each.ref.provider}/{each.ref.model}"))
                for each in (stage, after)
            )
            if here is not None and behind is not None and (why := _record(here).loses(_record(behind))):
                remedy = "" if chain.is_weighed else ", or set `on_loss: refuse`"
                told.append(
                    Loss(
                        chain=chain,
                        told=f"chain `{name}`, {kind}: stage {stage.ref.position} ({stage.ref.model}) does not pay: {why} by "
                        f"{after.ref.model}; leave it out{remedy}",
                    )
                )
    return told


def hopeless_cascades(blueprint: Blueprint) -> list[Loss]:
    """Say which stages can save nothing by their prices alone."""
    now = datetime.now(UTC)
    return [
        Loss(
            chain=chain,
            told=f"chain `{chain.name}`: stage {stage.ref.position} ({stage.ref.model}) {told[stage.ref.position]}; put that first, "
            "or leave this out",
        )
        for chain in blueprint.chains.values()
        if (told := hopeless_stages(chain, now))
        for stage in chain.stages
        if stage.ref.position in told
    ]


def _record(row: CostRow) -> Record:
    """Give what became of a stage's tries; the mean cost is None where it is not known of all."""
    is_known = row.attempts and not row.unpriced
    return Record(
        cost=float(row.cost_usd / Decimal(row.attempts)) if is_known else None,
        accepted=row.accepted,
        tried=row.accepted + row.poor + row.stopped + row.failed,
    )
