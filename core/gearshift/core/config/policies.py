"""Which caps and thresholds are in force.

Rule: defaults < gates < chain < task; a level says only what it changes, and may loosen. Callers and tenants only
tighten, which is the engine's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gearshift.core.blueprint import ChainPolicy
from gearshift.core.config.model import ChainPolicyConfig, Config, StreamConfig
from gearshift.core.config.problems import Place, Report
from gearshift.core.request import StreamPolicy
from gearshift.core.words import SwitchMode


def base_policy(config: Config, report: Report) -> ChainPolicy:
    """Give what holds where no chain or task says otherwise."""
    policy = ChainPolicy(
        max_attempts=config.defaults.max_attempts,
        max_hops=config.defaults.max_hops,
        max_cost_usd=config.defaults.max_cost_usd,
        min_confidence=config.gates.min_confidence,
        escalation_threshold=config.gates.escalation_threshold,
        require_valid=False,
        require_confidence=config.gates.require_confidence,
        second_look=config.gates.second_look,
        enforce_schema=config.gates.enforce_schema,
        check_coherence=config.gates.check_coherence,
        coherence=_sorted(config.gates.coherence),
        confidence=config.gates.confidence,
    )
    _check(policy, ("gates",), report)
    return policy


def merged(base: ChainPolicy, over: ChainPolicyConfig, place: Place, report: Report) -> ChainPolicy:
    """Give `base` with what `over` says; `place` is where `over` stands."""
    policy = replace(
        base,
        max_attempts=base.max_attempts if over.max_attempts is None else over.max_attempts,
        max_hops=base.max_hops if over.max_hops is None else over.max_hops,
        max_cost_usd=base.max_cost_usd if over.max_cost_usd is None else over.max_cost_usd,
        min_confidence=base.min_confidence if over.min_confidence is None else over.min_confidence,
        escalation_threshold=(
            base.escalation_threshold if over.escalation_threshold is None else over.escalation_threshold
        ),
        require_valid=base.require_valid if over.require_valid is None else over.require_valid,
        require_confidence=base.require_confidence if over.require_confidence is None else over.require_confidence,
        second_look=base.second_look if over.second_look is None else over.second_look,
        coherence=_sorted({**dict(base.coherence), **over.coherence}) if over.coherence else base.coherence,
        confidence=base.confidence if over.confidence is None else over.confidence,
        self_assessment=base.self_assessment if over.self_assessment is None else over.self_assessment,
        repair=base.repair if over.repair is None else over.repair,
    )
    if over.min_confidence is not None or over.escalation_threshold is not None:
        _check(policy, place, report)
    return policy


def stream_policy(config: StreamConfig) -> StreamPolicy:
    """Give the stream policy that a section of the file describes."""
    return StreamPolicy(
        hold_back_tokens=config.hold_back_tokens,
        hold_back_ms=config.hold_back_ms,
        mode=SwitchMode.from_word(config.mode),
        escalate_at_end=config.escalate_at_end,
    )


def _sorted(effects: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Give what the checks do as a value that can be a key."""
    return tuple(sorted(effects.items()))


def _check(policy: ChainPolicy, place: Place, report: Report) -> None:
    if policy.escalation_threshold > policy.min_confidence:
        report.error(
            (*place, "escalation_threshold"),
            f"{policy.escalation_threshold:g} must not be above min_confidence ({policy.min_confidence:g}): "
            "an answer would be accepted and escalated at once",
        )
