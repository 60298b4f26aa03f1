"""What weighed chains measured before this process began, from the ledger.

Rules: read once, at the start, by whole half-lives, of which the last four count; the ledger's report is all that it needs.
How long tries take is not in it and is measured anew. What cannot be read is left out: the prior stands in for it.
"""

from __future__ import annotations

from gearshift.core.blueprint import Blueprint
from gearshift.core.experience import Experience
from gearshift.core.ledger.base import Ledger
from gearshift.core.ledger.report import CostQuery
from gearshift.core.words import AttemptOutcome, CostGroup, TaskType

_HALF_LIVES = 4
_GROUPS = (CostGroup.CHAIN, CostGroup.MODEL, CostGroup.TASK_TYPE)


async def learn_from(ledger: Ledger, blueprint: Blueprint, experience: Experience, now: float) -> int:
    """Count the outcomes of weighed chains' attempts; give how many were found.

    Args:
        now: seconds since the epoch.

    Raises:
        LedgerError: the store cannot be read.

    """
    found = 0
    chains = [chain for chain in blueprint.chains.values() if chain.is_weighed]
    for half_life_s in sorted({chain.weights.half_life_h * 3600 for chain in chains}):
        # A provider's name may hold a slash: its models are told by the whole.
        keys = {
            (chain.name, f"{stage.provider.name}/{stage.model.id}"): (chain.name, stage.provider.name, stage.model.id)
            for chain in chains
            if chain.weights.half_life_h * 3600 == half_life_s
            for stage in chain.stages
        }
        # The oldest first, each at the middle of its span.
        for age in reversed(range(_HALF_LIVES)):
            until = now - age * half_life_s
            report = await ledger.report(CostQuery(group_by=_GROUPS, since=until - half_life_s, until=until))
            for row in report.rows:
                chain, model, kind = row.keys
                key = keys.get((chain, model))
                if key is None:
                    continue
                outcomes = (
                    (AttemptOutcome.ACCEPTED, row.accepted),
                    (AttemptOutcome.POOR, row.poor + row.stopped),
                    (AttemptOutcome.FAILED, row.failed),
                )
                found += sum(count for _, count in outcomes)
                experience.seed(key, TaskType.from_word(kind), outcomes, until - half_life_s / 2)
    return found
