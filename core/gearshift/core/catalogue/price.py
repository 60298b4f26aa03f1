"""What tokens cost: dated schedules with times of day, tiers and cache multipliers.

Rules: decimal USD for a million tokens; an unknown price is None, never zero; pure, the time is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSchedule:
    """PLACEHOLDER until the catalogue is written."""
