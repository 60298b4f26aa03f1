"""Metrics of several processes, summed.

Rules: pure; knows no metrics library. Counters and histograms are summed, gauges too, but for those that are the same
number in every process. What a dead worker had counted stays in the sum, or Prometheus would take its death for a reset of
every counter and count everything again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

Labels = tuple[tuple[str, str], ...]

LEAST: Final = frozenset({"gearshift_shared_up", "gearshift_certificate_seconds_left"})
GREATEST: Final = frozenset(
    {
        "gearshift_shared_processes",
        "gearshift_shared_round_trip_seconds",
        # Each worker asks the same model servers.
        "gearshift_machine_running",
        "gearshift_machine_queued",
        "gearshift_machine_cache_used",
    }
)
OF_STORE: Final = frozenset({"gearshift_cache_entries", "gearshift_cache_bytes"})
"""Of a store that processes share, each tells the whole."""
OF_LIMITS: Final = frozenset({"gearshift_budget_left_usd"})
"""Of limits that processes share, too; of shares, the sum."""
_STORED: Final = (("cache", "response"), ("cache", "embedding"))


class Sample(Struct, array_like=True):
    """One number; `name` with its suffix, such as `_bucket`."""

    name: str
    labels: Labels
    value: float


class Family(Struct, array_like=True):
    """One metric; `kind` is `counter`, `gauge` or `histogram`."""

    name: str
    about: str
    kind: str
    samples: list[Sample]


def summed(
    parts: Iterable[Iterable[Family]], *, shares_caches: bool = False, shares_limits: bool = False
) -> list[Family]:
    """Give the whole of what several processes measured.

    Args:
        shares_caches: answers and vectors are in one store.
        shares_limits: so are limits.

    """
    whole: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, Labels], float]] = {}
    for part in parts:
        for family in part:
            whole.setdefault(family.name, Family(family.name, family.about, family.kind, []))
            known = values.setdefault(family.name, {})
            for sample in family.samples:
                key = (sample.name, sample.labels)
                if key not in known:
                    known[key] = sample.value
                elif family.name in LEAST or (shares_limits and family.name in OF_LIMITS):
                    known[key] = min(known[key], sample.value)
                elif family.name in GREATEST or (
                    shares_caches and family.name in OF_STORE and any(each in _STORED for each in sample.labels)
                ):
                    known[key] = max(known[key], sample.value)
                else:
                    known[key] += sample.value
    for name, family in whole.items():
        family.samples = [Sample(*key, value) for key, value in values[name].items()]
    return list(whole.values())


def counted(families: Iterable[Family]) -> list[Family]:
    """Give what stays of a process that has ended: what it counted, not how it stood."""
    return [each for each in families if each.kind != "gauge"]
