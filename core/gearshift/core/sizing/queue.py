"""One line of requests before several servers, played out event by event.

Rules: pure and exact; no chance, so the same trace gives the same figures. Requests are served in the order in which they
came, each by the server that is free first; a server works on one request at a time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long requests waited for a server, seconds.

    Args:
        busy_s: seconds of service, over all servers.
        span_s: from the first arrival to the last end.

    """

    p50_s: float
    p95_s: float
    p99_s: float
    longest_s: float
    busy_s: float
    span_s: float

    def utilisation(self, servers: int) -> float:
        """Give the share of the servers' time that was spent serving, 0 to 1."""
        return min(1.0, self.busy_s / (servers * self.span_s)) if self.span_s else 0.0


def simulate(arrivals: Sequence[float], services: Sequence[float], servers: int) -> Waits:
    """Play the line out.

    Args:
        arrivals: seconds, rising, at least one.
        services: how long each takes, seconds, from 0.
        servers: from 1.

    """
    free: list[float] = []
    """When each server that ever worked is free, a heap; others are free at once."""
    waits: list[float] = []
    end = 0.0
    for at, service in zip(arrivals, services, strict=True):
        if free and free[0] <= at:
            begin = at
            done = begin + service
            heapq.heapreplace(free, done)
        elif len(free) < servers:
            begin = at
            done = begin + service
            heapq.heappush(free, done)
        else:
            begin = free[0]
            done = begin + service
            heapq.heapreplace(free, done)
        waits.append(begin - at)
        end = max(end, done)
    waits.sort()
    return Waits(
        p50_s=percentile(waits, 0.50),
        p95_s=percentile(waits, 0.95),
        p99_s=percentile(waits, 0.99),
        longest_s=waits[-1],
        busy_s=math.fsum(services),
        span_s=end - arrivals[0],
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Give the smallest value that at least so large a share does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
