"""What an instance was able to do, from the ledger.

Rules: reads answered attempts whose first token was timed, which are streams. What they kept of a slot is taken as it was,
with as many calls beside them as there were: measure under load to size for load.
"""

from __future__ import annotations

from dataclasses import dataclass

from gearshift.core.ledger.store import Session

LEAST_ATTEMPTS = 20
"""With fewer, the figures are chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Tokens a second of one slot, and how many attempts that rests on."""

    prompt_tokens_per_s: float
    output_tokens_per_s: float
    attempts: int


def measured_throughput(session: Session, provider: str, model: str, since: float) -> Throughput | None:
    """Give what one slot did, or None with fewer than 20 streamed attempts.

    Args:
        since: seconds since the epoch.

    """
    (found,) = session.rows(
        "SELECT COUNT(*), COALESCE(SUM(input_tokens), 0), COALESCE(SUM(output_tokens), 0), "
        "COALESCE(SUM(first_token_ms), 0.0), COALESCE(SUM(total_ms), 0.0) FROM attempts "
        "WHERE provider = ? AND model = ? AND started_at >= ? AND first_token_ms IS NOT NULL "
        "AND first_token_ms < total_ms AND outcome IN ('accepted', 'poor')",
        (provider, model, since),
    )
    attempts, entered, written, first_ms, total_ms = (float(str(value)) for value in found)
    if attempts < LEAST_ATTEMPTS or not (entered and written and first_ms > 0 and total_ms > first_ms):
        return None
    return Throughput(
        prompt_tokens_per_s=entered / first_ms * 1000,
        output_tokens_per_s=written / (total_ms - first_ms) * 1000,
        attempts=int(attempts),
    )
