"""Even spacing of outbound calls.

Rules: the only file that imports aiolimiter. Each call counts one, since aiolimiter serves the smallest waiter first
and would starve large ones otherwise; limits on model tokens are buckets (buckets.py).
"""

from __future__ import annotations

from aiolimiter import AsyncLimiter


class Pacer:
    """Lets one call go every 1/rate seconds, in the order in which they come."""

    def __init__(self, per_second: float) -> None:
        self.interval_s = 1 / per_second
        self._limiter = AsyncLimiter(1, self.interval_s)

    async def acquire(self) -> None:
        """Wait for the next slot."""
        await self._limiter.acquire()
