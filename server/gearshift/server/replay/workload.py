"""Which calls are made, and when.

Rules: pure; the same seed gives the same calls in the same order.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import cycle

from msgspec.structs import replace

from gearshift.core.sizing.trace import TraceError
from gearshift.server.replay.trace import Call


def mixed(calls: Sequence[Call], shares: Mapping[str, float], count: int, seed: int) -> list[Call]:
    """Give so many calls in which each task has its share; a task's calls come in drawn order, again when they are spent.

    The times stay those of the first `count` calls, or go on at the same mean rate.

    Args:
        shares: by task, above 0; they need not add up to 1.

    Raises:
        TraceError: there is no call of a task, or the shares leave none.
    """
    chance = random.Random(seed)
    whole = sum(shares.values())
    if whole <= 0 or count < 1:
        raise TraceError("a mix needs shares above 0")
    by_task: dict[str, list[Call]] = {}
    for call in calls:
        by_task.setdefault(call.task, []).append(call)
    if missing := [task for task, share in shares.items() if share > 0 and task not in by_task]:
        raise TraceError(f"the trace has no calls of {', '.join(missing)}; it has {', '.join(sorted(by_task))}")
    chosen: list[Call] = []
    reached = 0.0
    for task, share in shares.items():
        reached += share
        pool = by_task.get(task, [])
        chance.shuffle(pool)
        again = cycle(pool)
        # Up to where the shares so far reach, so that rounding loses no call.
        chosen += [next(again) for _ in range(round(count * reached / whole) - len(chosen))]
    chance.shuffle(chosen)
    return timed(chosen, [call.at for call in calls])


def timed(calls: Sequence[Call], times: Sequence[float]) -> list[Call]:
    """Give calls at other times, in their order; where there are more calls than times, these begin anew.

    Args:
        times: seconds, ascending, not empty.
    """
    first, span = times[0], times[-1] - times[0]
    lap = span + (span / (len(times) - 1) if len(times) > 1 else 0.05)
    return [
        replace(call, at=times[number % len(times)] - first + lap * (number // len(times)))
        for number, call in enumerate(calls)
    ]
