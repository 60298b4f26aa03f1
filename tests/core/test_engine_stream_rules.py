"""The rules of the event contract, each in a way that breaks when the rule is taken out of the engine.

Long texts that are known beforehand, chains of one to four authors that die, pause, loop, end too early and continue each
other, small windows, timers, and a replay that checks every event.
"""

from __future__ import annotations

import asyncio

import anyio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gearshift.core.catalogue import Feature
from gearshift.core.config.model import GatesConfig
from gearshift.core.provider import Timeouts
from gearshift.core.request import StreamPolicy
from gearshift.core.router import Router
from gearshift.core.words import (
    AttemptOutcome,
    CheckpointPolicy,
    Complexity,
    FailureKind,
    Outcome,
    SwitchMode,
)
from tests.support.blueprints import ALL_FEATURES, blueprint, policy, stage
from tests.support.changed import changed
from tests.support.engine import Notebook, request
from tests.support.known_author import Author, Turn
from tests.support.stream_rules import Replay, replayed

_WORDS = [
    "gears",
    "wheels",
    "shafts",
    "teeth",
    "oil",
    "heat",
    "speed",
    "force",
    "hills",
    "roads",
    "engines",
    "drivers",
    "mountains",
    "bearings",
    "clutches",
    "levers",
    "chains",
    "sprockets",
    "ratios",
    "torque",
    "grip",
    "weight",
    "balance",
    "brakes",
    "turns",
    "corners",
    "rivers",
    "bridges",
    "valleys",
    "winters",
]


def _text(salt: int, words: int) -> str:
    """Give a text without loops, whose words say where they stand, so that a splice in the wrong place is seen."""
    return " ".join(f"{_WORDS[(at * 7 + salt * 3 + at // 5) % len(_WORDS)]}{salt}{at:03d}" for at in range(words)) + "."


TEXT = _text(1, 230)
"""About 2,700 characters: windows commit what lies 1,024 behind them."""
_MODES = (SwitchMode.REGENERATE, SwitchMode.CONTINUE, SwitchMode.FAIL)
_KINDS = (FailureKind.CONNECTION, FailureKind.IDLE_TIMEOUT, FailureKind.MALFORMED, FailureKind.OVERLOAD)

_PLACES = st.integers(0, len(TEXT) + 50)
_TURNS = st.builds(
    Turn,
    dies_after=st.none() | _PLACES,
    kind=st.sampled_from(_KINDS),
    loops_after=st.none() | st.none() | _PLACES,
    ends_after=st.none() | st.none() | _PLACES,
    way=st.sampled_from(("as it was", "no space", "space alone", "repeats")),
    pause_s=st.sampled_from((0.0, 0.0, 0.0, 0.003)),
    thinks=st.sampled_from((False, False, True)),
    seed=st.integers(0, 2**16),
)


@st.composite
def _chains(draw: st.DrawFn) -> tuple[list[list[Turn]], list[tuple[Complexity, int, bool]]]:
    length = draw(st.integers(1, 4))
    turns = [draw(st.lists(_TURNS, min_size=1, max_size=2)) for _ in range(length)]
    lacks = draw(st.sampled_from((False, False, False, True)))
    stages = [
        (draw(st.sampled_from(tuple(Complexity))), draw(st.integers(0, 1)), not (lacks and draw(st.booleans())))
        for _ in range(length)
    ]
    return turns, stages


_POLICIES = st.builds(
    StreamPolicy,
    hold_back_tokens=st.sampled_from((0, 1, 16, 64)),
    hold_back_ms=st.sampled_from((0, 1, 2, 400)),
    mode=st.sampled_from(_MODES),
    escalate_at_end=st.sampled_from((False, False, True)),
    include_reasoning=st.booleans(),
)

_GATES = GatesConfig(window_tokens=8, window_ms=60_000, min_tokens_per_s=0)
Chain = tuple[list[list[Turn]], list[tuple[Complexity, int, bool]]]


async def _told(
    chain: Chain, asked: StreamPolicy, *, require_valid: bool = False
) -> tuple[Replay, Notebook, list[Author]]:
    """Run a stream and check all that holds whatever happens."""
    turns, stages = chain
    continues = asked.mode is SwitchMode.CONTINUE
    authors = [Author(TEXT if continues else _text(place, 230), each) for place, each in enumerate(turns)]
    made = [
        changed(
            stage(
                place,
                capability=capability,
                max_retries=retries,
                features=ALL_FEATURES if prefill else ALL_FEATURES - {Feature.PREFILL},
            ),
            timeouts=Timeouts(connect_s=5, first_token_s=5, idle_s=5, total_s=5),
        )
        for place, (capability, retries, prefill) in enumerate(stages)
    ]
    plan = blueprint(*made, chain_policy=policy(require_valid=require_valid))
    plan = changed(plan, config=changed(plan.config, gates=_GATES))
    notebook = Notebook()
    providers = {f"p{place}": author for place, author in enumerate(authors)}
    router = Router(plan, providers=providers, observers=(notebook,), seed=1)
    with anyio.fail_after(10):
        replay = await replayed(router.stream(request(stream=asked)))
    assert all(author.running == 0 for author in authors)
    assert not any(call.wake is not None and call.wake.is_set for author in authors for call in author.calls)
    return replay, notebook, authors


def _may_commit(chain: Chain, asked: StreamPolicy) -> bool:
    """Say whether checkpoints can be kept, from the rule and not from the engine."""
    if asked.mode is SwitchMode.FAIL:
        return True
    every_stage_continues = all(prefill for _, _, prefill in chain[1])
    return asked.mode is SwitchMode.CONTINUE and every_stage_continues and not asked.escalate_at_end


def _check(chain: Chain, asked: StreamPolicy, replay: Replay, notebook: Notebook, authors: list[Author]) -> None:
    assert replay.started is not None and replay.completed is not None
    completion = replay.completed.completion
    # A commitment is made only where it can be kept (1), and is of the text as it was written (4).
    committing = replay.started.checkpoints is CheckpointPolicy.WINDOWS
    assert committing == _may_commit(chain, asked), "checkpoints are promised where they can be kept, and only there"
    assert any(author.text.startswith(replay.committed) for author in authors)
    # A poor end after a checkpoint is the end (2).
    for record in notebook.attempts:
        if record.outcome is AttemptOutcome.POOR and 0 < replay.committed_in <= record.number:
            assert record is notebook.attempts[-1], "a poor end was taken back after a checkpoint"
            assert completion.outcome is Outcome.NOT_ACCEPTED
    # An accepted answer is one author's text, to the letter, also where several have written it (5).
    if completion.outcome is Outcome.ACCEPTED:
        served = next(record for record in notebook.attempts if record.served)
        assert replay.text == authors[served.stage.position].text
    if asked.mode is SwitchMode.FAIL and replay.switches:
        assert all(switch.mode is SwitchMode.RESTORE for switch in replay.switches) or not replay.checkpoints
    # What was shown is there at the end as long as nothing has replaced it (6).
    if not replay.retracts and completion.outcome is Outcome.FAILED:
        assert replay.text or not any(record.first_token_ms is not None and replay.text for record in notebook.attempts)
    if not asked.include_reasoning:
        assert not replay.reasoning


_UP = [(Complexity.LOW, 0, True), (Complexity.HIGH, 0, True)]
_GOES_ON = StreamPolicy(hold_back_tokens=0, mode=SwitchMode.CONTINUE)


@settings(max_examples=1500, deadline=None)
@given(chain=_chains(), asked=_POLICIES, require_valid=st.booleans())
@example(([[Turn(ends_after=300)], [Turn(dies_after=2500)]], _UP), _GOES_ON, False)
@example(([[Turn(ends_after=300)], [Turn(ends_after=2500)]], _UP), _GOES_ON, False)
@example(([[Turn(ends_after=300)], [Turn(loops_after=1500)]], _UP), _GOES_ON, False)
@example(([[Turn(dies_after=2500), Turn(ends_after=100)], [Turn(dies_after=5)]], _UP), _GOES_ON, True)
def test_long_streams_keep_every_rule(chain: Chain, asked: StreamPolicy, require_valid: bool) -> None:
    async def run() -> None:
        replay, notebook, authors = await _told(chain, asked, require_valid=require_valid)
        _check(chain, asked, replay, notebook, authors)

    asyncio.run(run())


_PREFILLED = [(Complexity.LOW, 0, True), (Complexity.MEDIUM, 0, True), (Complexity.HIGH, 0, True)]
_LATE = st.integers(1300, len(TEXT) - 1)


@settings(max_examples=500, deadline=None)
@given(
    places=st.tuples(_LATE, st.integers(200, 900)),
    loops=st.booleans(),
    ways=st.lists(st.sampled_from(("as it was", "no space", "space alone", "repeats")), min_size=2, max_size=2),
    seeds=st.tuples(*[st.integers(0, 2**16)] * 3),
    hold=st.sampled_from((0, 16)),
)
def test_a_text_that_three_models_wrote_reads_as_if_one_had(
    places: tuple[int, int], loops: bool, ways: list[str], seeds: tuple[int, int, int], hold: int
) -> None:
    first = Turn(loops_after=places[0], seed=seeds[0]) if loops else Turn(dies_after=places[0], seed=seeds[0])
    second = Turn(dies_after=places[1], way=ways[0], seed=seeds[1])
    third = Turn(way=ways[1], seed=seeds[2])
    asked = StreamPolicy(hold_back_tokens=hold, mode=SwitchMode.CONTINUE)
    chain = ([[first], [second], [third]], _PREFILLED)

    async def run() -> None:
        replay, notebook, authors = await _told(chain, asked)
        _check(chain, asked, replay, notebook, authors)
        assert replay.completed is not None
        assert replay.completed.completion.outcome is Outcome.ACCEPTED
        assert replay.text == TEXT

    asyncio.run(run())
