"""How many instances hold a target, and what they cost a month against an API.

Rules: pure. An instance has so many slots, each of which serves one request at a time at its part of the instance's
throughput as it is when all slots work:

    seconds of a request = slots x (input tokens / prompt tokens a second + output tokens / output tokens a second)

A lone request is faster on a real server, so light load is drawn too slow, never too fast. All instances serve one
line, as behind a balancer that knows which is free. Waiting is the time until a slot is free: more instances never make it longer, so
the fewest that hold the target are found by halving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gearshift.core.sizing.queue import Waits, simulate
from gearshift.core.sizing.trace import Arrival

HOURS_A_MONTH: Final = 730
"""365 x 24 / 12."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What one instance can do, all its slots at work.

    Args:
        prompt_tokens_per_s / output_tokens_per_s: of the whole instance, above 0.
        slots: requests that it runs at once, from 1.
        usd_per_hour: from 0; None where no cost is asked for.

    """

    prompt_tokens_per_s: float
    output_tokens_per_s: float
    slots: int
    usd_per_hour: Decimal | None = None

    def seconds(self, arrival: Arrival) -> float:
        """Give how long a request keeps a slot."""
        return self.slots * (
            arrival.input_tokens / self.prompt_tokens_per_s + arrival.output_tokens / self.output_tokens_per_s
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """So many instances.

    Args:
        utilisation: share of the slots' time that is spent serving, 0 to 1.
        month_usd: what they cost a month, busy or idle; None without a price.
        break_even: from how many requests a month they are cheaper than the API; None without both prices, and where
            they cannot serve as many.
        break_even_share: the same, as a part of this workload; above 1 the API is cheaper. None without both prices.

    """

    instances: int
    waits: Waits
    utilisation: float
    holds: bool
    month_usd: Decimal | None
    break_even: int | None
    break_even_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What a workload needs.

    Args:
        requests / input_tokens / output_tokens: of the trace.
        hours: that the trace covers.
        month_requests: in a month at this rate.
        offered: slots that are busy on average, whatever their number: the load in Erlang.
        needed: instances that hold the target; None when not even `most` do.
        rows: the fewest that hold the target and their neighbours, rising.
        api_month_usd: the API's bill for a month; None without a price.

    """

    requests: int
    input_tokens: int
    output_tokens: int
    hours: float
    month_requests: int
    offered: float
    needed: int | None
    rows: tuple[Row, ...]
    api_month_usd: Decimal | None


def size(
    trace: Sequence[Arrival],
    instance: Instance,
    *,
    target_p95_s: float,
    api_usd: Decimal | None = None,
    load: float = 1.0,
    month_share: float = 1.0,
    most: int = 1024,
    progress: Callable[[int], None] | None = None,
) -> Sizing:
    """Size a workload.

    Args:
        trace: the earliest first, at least one request.
        target_p95_s: the longest wait of 95 of 100 requests, seconds, from 0.
        api_usd: what an API charges for the whole trace.
        load: how often the trace's requests come, against the trace: 2 is twice as often.
        month_share: share of the month in which they come at this rate, above 0 to 1; machines cost all of it.
        most: most instances to try, from 1.
        progress: told each number of instances before it is tried.

    """
    arrivals = [each.at / load for each in trace]
    services = [instance.seconds(each) for each in trace]
    # The gap after the last request belongs to the time as well.
    span_s = arrivals[-1] * len(arrivals) / (len(arrivals) - 1) if len(arrivals) > 1 and arrivals[-1] else 1.0
    month_requests = len(trace) * HOURS_A_MONTH * 3600 / span_s * month_share
    api_month = None if api_usd is None else api_usd / len(trace) * round(month_requests)
    tried: dict[int, Waits] = {}

    def waits(instances: int) -> Waits:
        if instances not in tried:
            if progress is not None:
                progress(instances)
            tried[instances] = simulate(arrivals, services, instances * instance.slots)
        return tried[instances]

    needed = _fewest(lambda instances: waits(instances).p95_s <= target_p95_s, most)
    middle = most if needed is None else needed
    shown = sorted({1, *(each for each in range(middle - 2, middle + 3) if 1 <= each <= most)})
    rows = [
        _row(each, waits(each), instance, target_p95_s, api_month, round(month_requests), month_share) for each in shown
    ]
    return Sizing(
        requests=len(trace),
        input_tokens=sum(each.input_tokens for each in trace),
        output_tokens=sum(each.output_tokens for each in trace),
        hours=span_s / 3600,
        month_requests=round(month_requests),
        offered=sum(services) / span_s,
        needed=needed,
        rows=tuple(rows),
        api_month_usd=api_month,
    )


def _fewest(holds: Callable[[int], bool], most: int) -> int | None:
    """Give the smallest number from 1 to most that holds; once one does, all greater ones do."""
    high = 1
    while not holds(high):
        if high >= most:
            return None
        high = min(most, high * 2)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def _row(
    instances: int,
    waits: Waits,
    instance: Instance,
    target_p95_s: float,
    api_month: Decimal | None,
    month_requests: int,
    month_share: float,
) -> Row:
    month = None if instance.usd_per_hour is None else instance.usd_per_hour * HOURS_A_MONTH * instances
    share = None if month is None or not api_month else float(month / api_month)
    utilisation = waits.utilisation(instances * instance.slots) * month_share
    return Row(
        instances=instances,
        waits=waits,
        utilisation=utilisation,
        holds=waits.p95_s <= target_p95_s,
        month_usd=month,
        break_even=None if share is None or share * utilisation > 1 else round(month_requests * share),
        break_even_share=share,
    )
