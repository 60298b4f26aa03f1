"""Slow and stalled streams are left; pauses, bursts, slow starts and slow readers are not called slow."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from msgspec import structs

from gearshift.core.blueprint import Stage
from gearshift.core.catalogue import Catalogue
from gearshift.core.config.build import build
from gearshift.core.config.load import parse_config
from gearshift.core.config.model import ChainPolicyConfig, GatesConfig
from gearshift.core.errors import ConfigError
from gearshift.core.events import TextDelta
from gearshift.core.gates.window.throughput import ThroughputWatcher
from gearshift.core.gates.window.watch import Watch
from gearshift.core.prepare import tightened
from gearshift.core.provider import Chunk
from gearshift.core.request import NO_POLICY, StreamPolicy
from gearshift.core.words import AttemptOutcome, Complexity, FailureKind, Outcome
from tests.support.blueprints import blueprint, policy, stage
from tests.support.changed import changed
from tests.support.engine import engine, request
from tests.support.scripted_provider import Script, says
from tests.support.stream_rules import replayed

PASSAGES: dict[str, list[str]] = json.loads(
    (Path(__file__).parents[2] / "bench" / "data" / "gates" / "passages.json").read_text("utf-8")
)
GOOD = "The keeper counts the ships that pass at dusk, and he writes their names into a book. "


def slow_at(gaps: Sequence[tuple[float, int]], *, after_s: float = 2.0) -> float | None:
    """Give the time at which a stream of (seconds, tokens) is called slow."""
    watch = Watch([ThroughputWatcher(0.5, after_s)], tokens=32, seconds=1.0, now=0.0)
    now = 0.0
    for gap, tokens in gaps:
        now += gap
        verdict = watch.feed("word " * tokens, tokens, (), now)
        if verdict is not None:
            assert verdict.gate == "throughput"
            return now
    return None


@pytest.mark.parametrize(
    "gaps",
    [
        pytest.param([(0.03, 1)] * 300, id="steady"),
        pytest.param([(25.0, 1)] + [(0.03, 1)] * 100, id="a late first token"),
        pytest.param([(0.03, 1)] * 50 + [(12.0, 1)] + [(0.03, 1)] * 50, id="one pause"),
        pytest.param(([(0.03, 1)] * 50 + [(12.0, 1)]) * 3 + [(0.03, 1)] * 50, id="pauses with text between"),
        pytest.param([(10.0, 40)] * 20, id="bursts"),
        pytest.param([(1.9, 1)] * 40, id="slow, but not so slow"),
    ],
)
def test_a_stream_that_will_finish_is_not_slow(gaps: list[tuple[float, int]]) -> None:
    assert slow_at(gaps) is None


def test_a_drip_is_slow_at_its_third_window() -> None:
    assert slow_at([(0.03, 1)] * 64 + [(3.0, 1)] * 20) == pytest.approx(64 * 0.03 + 3 * 3.0, abs=1.0)
    assert slow_at([(3.0, 1)] * 20) == pytest.approx(4 * 3.0)


def test_how_long_a_stream_must_be_slow_is_configured() -> None:
    assert slow_at([(3.0, 1)] * 20, after_s=30.0) == pytest.approx(3.0 + 30.0)


def test_log_normal_gaps_are_not_slow() -> None:
    chance = random.Random(7)
    for _ in range(100):
        assert slow_at([(chance.lognormvariate(-1.6, 0.9), 1) for _ in range(200)]) is None


def test_the_readers_time_is_not_the_providers() -> None:
    watch = Watch([ThroughputWatcher(0.5, 2.0)], tokens=32, seconds=1.0, now=0.0)
    for number in range(20):
        assert watch.feed("word ", 1, (), number * 10.0) is None
        watch.resume(number * 10.0 + 9.9)


def chain(*places: int) -> list[Stage]:
    return [stage(place, capability=Complexity.HIGH if place else Complexity.LOW) for place in places]


async def test_a_switch_of_language_stops_the_attempt_and_the_next_stage_answers() -> None:
    pieces = [f"{word} " for word in (GOOD * 2 + " ".join(PASSAGES["german"])).split()]
    made = engine(blueprint(*chain(0, 1)), [[says(*pieces)], [says(*[f"{word} " for word in (GOOD * 3).split()])]])
    seen = await replayed(made.router.stream(request("Tell me what the keeper does at dusk.", stream=StreamPolicy())))
    first, second = made.notebook.attempts
    assert first.outcome is AttemptOutcome.STOPPED
    assert first.detail.startswith("the answer is in german")
    assert second.outcome is AttemptOutcome.ACCEPTED
    assert seen.text.strip() == (GOOD * 3).strip()


async def test_a_whole_answer_in_the_wrong_language_escalates() -> None:
    made = engine(blueprint(*chain(0, 1)), [[says(PASSAGES["french"][0])], [says(GOOD)]])
    answer = await made.router.route(request("Tell me what the keeper does at dusk."))
    assert answer.text == GOOD
    assert made.notebook.attempts[0].outcome is AttemptOutcome.POOR


async def test_a_stall_within_a_stream_is_left_after_its_own_time() -> None:
    plan = blueprint(*chain(0, 1))
    plan = changed(plan, config=structs.replace(plan.config, gates=GatesConfig(stall_ms=30)))
    stalled = Script(chunks=[Chunk(parts=[TextDelta("The keeper ")], tokens=1)], stalls=True)
    made = engine(plan, [[stalled], [says(GOOD)]])
    with anyio.fail_after(5):
        seen = await replayed(made.router.stream(request(stream=StreamPolicy())))
    assert seen.text == GOOD
    assert made.notebook.attempts[0].failure is FailureKind.IDLE_TIMEOUT
    assert made.notebook.calls[0][0].outcome is Outcome.ACCEPTED
    assert made.providers["p0"].calls[0].timeouts.idle_s == pytest.approx(0.03)


FILE = """\
providers: {ollama: {}}
gates: {coherence: {arithmetic: note}, stall_ms: 2500}
chains:
  generate:
    stages: [{provider: ollama, model: "llama3.1:8b"}]
    policy: {coherence: {contradiction: reject}}
tasks: {declared: {sums: {type: generate, policy: {coherence: {arithmetic: reject}}}}}
"""


def test_checks_are_configured_for_all_for_a_chain_and_for_a_task() -> None:
    plan = build(parse_config(FILE, {}), Catalogue.load())
    assert dict(plan.chains["generate"].policy.coherence) == {"arithmetic": "note", "contradiction": "reject"}
    assert dict(plan.tasks["sums"].policy.coherence) == {"arithmetic": "reject", "contradiction": "reject"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [("arithmetics: note", "arithmetic"), ("arithmetic: refuse", "reject")],
)
def test_a_wrong_check_or_effect_says_what_is_meant(wrong: str, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        build(parse_config(FILE.replace("arithmetic: note", wrong), {}), Catalogue.load())
    assert told in "\n".join(raised.value.problems)
    assert "coherence" in "\n".join(raised.value.problems)


def test_a_tenant_may_only_make_checks_stricter() -> None:
    base = policy()
    stricter = tightened(base, ChainPolicyConfig(coherence={"emptiness": "reject", "arithmetic": "off"}), NO_POLICY)
    assert dict(stricter.coherence)["emptiness"] == "reject"
    assert dict(stricter.coherence)["arithmetic"] == "reject"
