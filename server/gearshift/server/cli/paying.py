"""Cascades that do not pay, by what the ledger has measured, and those that cannot, by their prices.

Rules: reads, never writes or migrates; what cannot be read gives no warning. A stage pays while a try costs less than what its accepted answers
save of the stage after it; stages with fewer than `LEAST` answers are not judged.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from gearshift.core.blueprint import Blueprint
from gearshift.core.cascade import hopeless_stages
from gearshift.core.confidence.tuning import pays
from gearshift.core.errors import LedgerError
from gearshift.core.ledger.opening import configured_store
from gearshift.core.ledger.report import CostQuery, CostRow, read_report
from gearshift.core.words import CostGroup

LEAST: Final = 50
LEAST_AFTER: Final = 10
_GROUPS = (CostGroup.CHAIN, CostGroup.TASK_TYPE, CostGroup.POSITION, CostGroup.MODEL)


def losing_cascades(blueprint: Blueprint) -> list[str]:
    """Say which stages cost more than they save, a sentence each."""
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
    told: list[str] = []
    kinds = sorted({(chain, kind) for chain, kind, _, _ in found})
    for name, kind in kinds:
        chain = blueprint.chains.get(name)
        if chain is None:
            continue
        for stage, after in zip(chain.stages, chain.stages[1:], strict=False):
            here, there = (
                found.get((name, kind, each.ref.position, f"{each.ref.provider}/{each.ref.model}"))
                for each in (stage, after)
            )
            if here is not None and there is not None and (sentence := _judged(here, there)):
                told.append(
                    f"chain `{name}`, {kind}: stage {stage.ref.position} ({stage.ref.model}) does not pay: {sentence} "
                    f"by {after.ref.model}; leave it out, or set `order: adaptive`"
                )
    return told


def hopeless_cascades(blueprint: Blueprint) -> list[str]:
    """Say which stages can save nothing by their prices alone, a sentence each."""
    now = datetime.now(UTC)
    return [
        f"chain `{chain.name}`: stage {stage.ref.position} ({stage.ref.model}) {told[stage.ref.position]}; put that first, or leave this out"
        for chain in blueprint.chains.values()
        if (told := hopeless_stages(chain, now))
        for stage in chain.stages
        if stage.ref.position in told
    ]


def _judged(here: CostRow, there: CostRow) -> str:
    if _answers(here) < LEAST or _answers(there) < LEAST_AFTER or not there.accepted:
        return ""
    cost, rest = _each(here, here.attempts), _each(there, there.accepted)
    accepted = here.accepted / _answers(here)
    if cost is None or rest is None or pays(cost, accepted, rest):
        return ""
    return f"a try costs {cost:.2g} USD, {accepted:.0%} of its answers are accepted, and each saves {rest:.2g} USD"


def _answers(row: CostRow) -> int:
    return row.accepted + row.poor + row.stopped + row.failed


def _each(row: CostRow, count: int) -> float | None:
    """Give the mean cost; None where it is not known of all."""
    return None if row.unpriced or not count else float(row.cost_usd / Decimal(count))
