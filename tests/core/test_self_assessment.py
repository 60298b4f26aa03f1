"""A model's own word on how sure it is: asked for where it may be, always taken out, worth what was measured until outcomes say more."""

from __future__ import annotations

import random
from contextlib import aclosing, suppress
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from gearshift.core.answer import Usage, Verdict
from gearshift.core.blueprint import ChainPolicy
from gearshift.core.catalogue import Feature
from gearshift.core.confidence import STATED, Calibration, Gauge, Outcome, shipped
from gearshift.core.confidence.assessment import ASK, LINE_TOKENS, NOT_SAID, assessed
from gearshift.core.confidence.calibration import log_odds
from gearshift.core.errors import RouteError
from gearshift.core.ledger.listing import verdicts_of
from gearshift.core.ledger.outcomes import JudgedAttempt, confidence_of, measured
from gearshift.core.ledger.row import verdicts_text
from gearshift.core.request import JsonOutput, LabelOutput, Output, Parameters, StreamPolicy, SystemPrompt, Tool, user
from gearshift.core.words import Complexity, FailureKind, FinishReason, OutcomeVerdict, TaskType, VerdictResult
from tests.support.blueprints import ALL_FEATURES, blueprint, policy, stage
from tests.support.engine import Engine, engine, request
from tests.support.scripted_provider import Script, fails, says
from tests.support.stream_rules import replayed

PLAIN = ALL_FEATURES - {Feature.LABELS, Feature.LOGPROBS, Feature.JSON_SCHEMA}


def assessing(**changes: object) -> ChainPolicy:
    return replace(policy(), self_assessment=True, **changes)  # type: ignore[arg-type]


def confidence(verdicts: tuple[Verdict, ...]) -> Verdict:
    (found,) = [each for each in verdicts if each.gate == "confidence"]
    return found


def one(text: str, **changes: object) -> Engine:
    return engine(blueprint(stage(0, features=PLAIN), chain_policy=assessing(**changes)), [[says(text)]])


@pytest.mark.parametrize(
    ("written", "left", "stated"),
    [
        ("Yes.\n[[sure: 87]]", "Yes.", 0.87),
        ("Yes.\n\n[[sure: 100]]\n", "Yes.", 1.0),
        ("Yes. [[Sure: 0%]]", "Yes.", 0.0),
        ("Yes.\n**[[sure: 87]]**", "Yes.", 0.87),
        ("[[sure: 10]]\nYes.\n[[sure: 87]]", "\nYes.", 0.87),
        # In the wrong form, or the wrong place.
        ("Yes.\n[[sure: N]]", "Yes.", NOT_SAID),
        ("Yes.\n[[sure: high]]", "Yes.", NOT_SAID),
        ("Yes.\n[[sure: 870]]", "Yes.", NOT_SAID),
        ("Yes.\n[[sure: 0.9]]", "Yes.", NOT_SAID),
        ("Yes.\n[[sure: 87", "Yes.", NOT_SAID),
        ("Yes.\n[[sure", "Yes.", NOT_SAID),
        ("Yes.\n[[su", "Yes.", NOT_SAID),
        ("Yes.\n[sure: 87]", "Yes.", NOT_SAID),
        ("Yes.\nSure: 87%", "Yes.", NOT_SAID),
        ("[[sure: 87]]\nYes.", "\nYes.", NOT_SAID),
        # No mark.
        ("Yes.", "Yes.", NOT_SAID),
        ("Sure: I am sure that [sure](x) is a link, and a[[0]] is code.\n", None, NOT_SAID),
    ],
)
def test_the_mark_is_taken_out_and_counts_only_in_its_form_at_the_end(
    written: str, left: str | None, stated: float
) -> None:
    found = assessed(written)
    assert found.text == (written if left is None else left)
    assert found.stated == stated
    assert found.is_marked == (left not in (None, written))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="[]sure: 9%*\n.aN", max_size=60), st.integers(0, 100))
@example("[[sure: 1]]" * 9, 5)
def test_whatever_stands_before_it_the_mark_at_the_end_is_read_and_none_is_left(text: str, sure: int) -> None:
    found = assessed(f"{text}\n[[sure: {sure}]]")
    assert found.stated == sure / 100
    assert f"[[sure: {sure}]]" not in found.text


def test_hostile_text_is_read_in_linear_time() -> None:
    for text in ("[[sure" * 50_000, "[[ " * 50_000, " " * 200_000 + "x", "sure: " * 40_000, "*" * 200_000):
        assessed(text)


async def test_the_word_is_asked_for_behind_the_prompt_and_taken_out_of_the_answer() -> None:
    made = one("Four.\n[[sure: 99]]")
    asked = request(
        system=SystemPrompt(text="Be brief. {{who}} asks.", variables={"who": "Anna"}),
        parameters=Parameters(max_tokens=40),
    )
    answer = await made.router.route(asked)
    (call,) = made.providers["p0"].calls
    assert call.system_static == "Be brief. "
    assert call.system_dynamic == f"Anna asks.\n\n{ASK}"
    assert call.parameters.max_tokens == 40 + LINE_TOKENS
    assert answer.text == "Four."
    verdict = confidence(answer.completion.verdicts)
    assert verdict.result is VerdictResult.PASS
    assert verdict.confidence == pytest.approx(0.965, abs=0.01)
    assert "measured by self_assessment, 0 outcomes" in verdict.detail
    made.check_settled()


@pytest.mark.parametrize(
    ("output", "tools", "parameters", "stream", "prompt", "why"),
    [
        (JsonOutput(), (), Parameters(), None, "Hi", "a document"),
        (None, (Tool(name="t", description="d", parameters_schema="{}"),), Parameters(), None, "Hi", "tools"),
        (None, (), Parameters(), StreamPolicy(), "Hi", "released"),
        (None, (), Parameters(stop=("\n",)), None, "Hi", "stop sequence"),
        (None, (), Parameters(), None, "End with [[sure: 100]]", "the prompt"),
        (LabelOutput(labels=("a", "b")), (), Parameters(), None, "Hi", "log-probabilities"),
    ],
)
async def test_it_is_not_asked_where_its_word_could_do_harm(
    output: Output | None,
    tools: tuple[Tool, ...],
    parameters: Parameters,
    stream: StreamPolicy | None,
    prompt: str,
    why: str,
) -> None:
    made = engine(blueprint(stage(0), chain_policy=assessing()), [[says("a")]])
    asked = request(prompt, output=output, tools=tools, parameters=parameters, stream=stream)
    assert why in made.router.explain(asked).call.assessment
    if stream is None:
        await made.router.route(asked)
    else:
        async with aclosing(made.router.stream(asked)) as events:
            async for _ in events:
                pass
    (call,) = made.providers["p0"].calls
    assert ASK not in call.system_static + call.system_dynamic


async def test_without_the_setting_nothing_is_asked_and_nothing_taken_out() -> None:
    made = engine(blueprint(stage(0)), [[says("Four.\n[[sure: 99]]")]])
    answer = await made.router.route(request())
    assert answer.text == "Four.\n[[sure: 99]]"
    assert made.providers["p0"].calls[0].system_dynamic == ""


async def test_a_label_is_read_without_the_mark_where_nothing_else_tells() -> None:
    made = one("spam\n[[sure: 99]]")
    answer = await made.router.route(request(kind=TaskType.CLASSIFY, output=LabelOutput(labels=("spam", "ham"))))
    assert answer.text == "spam"
    assert answer.completion.confidence == pytest.approx(0.965, abs=0.01)


async def test_a_held_stream_shows_the_answer_alone() -> None:
    made = engine(
        blueprint(stage(0, features=PLAIN), chain_policy=assessing()), [[says("Anna", ", Ben", "\n[[su", "re: 99]]")]]
    )
    replay = await replayed(made.router.stream(request(kind=TaskType.EXTRACT, stream=StreamPolicy())))
    assert replay.text == "Anna, Ben"
    assert ASK in made.providers["p0"].calls[0].system_dynamic


async def test_a_malformed_word_is_taken_out_and_measures_nothing() -> None:
    answer = await one("Four.\n[[sure: quite]]").router.route(request())
    assert answer.text == "Four."
    verdict = confidence(answer.completion.verdicts)
    assert (verdict.result, verdict.reason) == (VerdictResult.UNMEASURED, "not_said")


async def test_an_answer_that_is_nothing_but_the_mark_is_empty() -> None:
    made = engine(
        blueprint(stage(0, features=PLAIN), stage(1, features=PLAIN), chain_policy=assessing()),
        [[says("[[sure: 99]]")], [says("Four.\n[[sure: 99]]")]],
    )
    answer = await made.router.route(request())
    assert answer.text == "Four."
    assert answer.completion.attempts[0].failure is FailureKind.EMPTY


async def test_a_limit_that_cuts_the_line_off_does_not_make_a_whole_answer_a_cut_one() -> None:
    plan = blueprint(stage(0, features=PLAIN), chain_policy=assessing())
    cut = await engine(plan, [[says("Four.\n[[sure", finish=FinishReason.LENGTH)]]).router.route(request())
    assert cut.text == "Four."
    assert all(each.result is not VerdictResult.FAIL for each in cut.completion.verdicts)
    short = await engine(plan, [[says("Four and", finish=FinishReason.LENGTH)]]).router.route(request())
    assert any(each.gate == "truncation" and each.result is VerdictResult.FAIL for each in short.completion.verdicts)


async def test_a_doubtful_word_escalates_to_the_stronger_stage() -> None:
    made = engine(
        blueprint(
            stage(0, features=PLAIN),
            stage(1, capability=Complexity.HIGH, features=PLAIN),
            chain_policy=assessing(),
        ),
        [[says("Five?\n[[sure: 40]]")], [says("Four.\n[[sure: 99]]")]],
    )
    answer = await made.router.route(request())
    assert answer.text == "Four."
    assert [each.stage.model for each in answer.completion.attempts] == ["m0", "m1"]


async def test_the_tokens_of_the_line_are_paid_for() -> None:
    reported = engine(
        blueprint(stage(0, features=PLAIN), chain_policy=assessing()),
        [[says("Four.\n[[sure: 99]]", usage=Usage(input_tokens=100, output_tokens=12))]],
    )
    answer = await reported.router.route(request())
    assert answer.completion.attempts[0].usage.output_tokens == 12
    assert answer.completion.cost.total_usd == Decimal(112) / 1_000_000
    plain, asked = (
        engine(blueprint(stage(0), chain_policy=each), [[says("x")]]).router.explain(
            request(parameters=Parameters(max_tokens=40))
        )
        for each in (policy(), assessing())
    )
    assert asked.stages[0].input_tokens - plain.stages[0].input_tokens == pytest.approx(len(ASK) / 4, abs=12)
    assert asked.stages[0].output_tokens - plain.stages[0].output_tokens == LINE_TOKENS


async def test_the_word_and_the_answer_are_weighed_together_where_both_tell() -> None:
    sums = "There are 3 * 4 = 12 eggs. She sells 2, so 12 - 2 = 10 eggs are left.\n#### 10"
    found: list[float] = []
    for sure in (20, 90, 99):
        made = one(f"{sums}\n[[sure: {sure}]]", confidence="answer", min_confidence=0.0, escalation_threshold=0.0)
        prompt = "Anna has 3 nests with 4 eggs each. She sells 2 eggs. How many eggs are left?"
        verdict = confidence((await made.router.route(request(prompt, kind=TaskType.REASON))).completion.verdicts)
        assert "measured by answer_and_self_assessment" in verdict.detail
        assert verdict.confidence is not None
        found.append(verdict.confidence)
    assert found == sorted(found)
    assert found[1] - found[0] < 0.5


def test_the_word_is_worth_what_was_measured_until_outcomes_say_more() -> None:
    gauge = Gauge(shipped(), Calibration({}))
    before = [gauge.of_word("m", "generate", each).confidence for each in (0.5, 0.9, 0.95, 0.99, 1.0)]
    assert before == pytest.approx([0.48, 0.82, 0.89, 0.965, 0.965], abs=0.006)
    chance = random.Random(3)
    outcomes: list[Outcome] = []
    for _ in range(800):  # this model means what it says
        said = chance.choice([0.3, 0.6, 0.8, 0.95])
        right = chance.random() < said
        outcomes.append(Outcome(model="m", task_type="generate", measure=STATED, score=log_odds(said), right=right))
    gauge.calibration.learn(outcomes)
    for said in (0.3, 0.6, 0.8, 0.95):
        assert gauge.of_word("m", "generate", said).confidence == pytest.approx(said, abs=0.08)
    assert gauge.of_word("m", "generate", 0.9).outcomes == 800
    # Another boasts: what it says stops to matter.
    gauge.calibration.learn(
        Outcome(model="m", task_type="generate", measure=STATED, score=log_odds(0.99), right=place % 2 == 0)
        for place in range(400)
    )
    assert gauge.of_word("m", "generate", 0.99).confidence == pytest.approx(0.5, abs=0.08)


async def test_the_ledger_keeps_what_was_measured_and_learns_from_it() -> None:
    answer = await one("Four.\n[[sure: 99]]").router.route(request())
    text = verdicts_text(answer.completion.verdicts)
    judged = JudgedAttempt(
        request_id="r",
        verdict=OutcomeVerdict.REJECTED,
        chain="generate",
        task_type="generate",
        position=0,
        provider="p0",
        model="m0",
        verdicts=text,
        cost_usd=None,
    )
    (learned,) = measured([judged])
    assert (learned.measure, learned.right) == (STATED, False)
    assert learned.score == pytest.approx(log_odds(0.99), abs=1e-3)
    assert confidence_of(judged) == pytest.approx(0.965, abs=0.01)


async def test_an_answer_that_cannot_be_measured_yet_is_learned_from_all_the_same() -> None:
    made = engine(
        blueprint(stage(0, features=PLAIN), chain_policy=replace(policy(), confidence="answer")), [[says("A poem.")]]
    )
    answer = await made.router.route(request())
    verdict = confidence(answer.completion.verdicts)
    assert (verdict.result, verdict.confidence) == (VerdictResult.UNMEASURED, None)
    judged = JudgedAttempt(
        request_id="r",
        verdict=OutcomeVerdict.ACCEPTED,
        chain="generate",
        task_type="generate",
        position=0,
        provider="p0",
        model="m0",
        verdicts=verdicts_text(answer.completion.verdicts),
        cost_usd=None,
    )
    (learned,) = measured([judged])
    assert (learned.measure, learned.task_type) == ("answer", "generate")
    assert confidence_of(judged) is None
    (told,) = [each for each in verdicts_of(judged.verdicts) if each.gate == "confidence"]
    assert (told.result, told.confidence) == (VerdictResult.UNMEASURED, None)


async def test_a_second_look_is_not_asked_and_agrees_by_the_answer_alone() -> None:
    made = engine(
        blueprint(
            stage(0, features=PLAIN),
            stage(1, capability=Complexity.HIGH, price="100", features=PLAIN),
            chain_policy=assessing(),
        ),
        [[says("spam\n[[sure: 88]]"), says("spam")], [says("ham")]],
    )
    answer = await made.router.route(request(kind=TaskType.CLASSIFY, output=LabelOutput(labels=("spam", "ham"))))
    assert answer.text == "spam"
    first, second = made.providers["p0"].calls
    assert ASK in first.system_dynamic
    assert ASK not in second.system_dynamic
    assert answer.completion.confidence is not None
    assert answer.completion.confidence > 0.85


async def test_required_confidence_keeps_models_that_can_only_say_it() -> None:
    made = one("Four.\n[[sure: 99]]", require_confidence=True)
    assert (await made.router.route(request(messages=(user("How many?"),)))).text == "Four."


_PIECES = st.lists(
    st.sampled_from(
        [
            '{"n": 1}',
            '{"n": "x"}',
            '{"n"',
            "Four.",
            " ",
            "\n",
            "[[sure: 99]]",
            "[[su",
            "re: 40]]",
            "[[sure: N]]",
            "spam",
        ]
    ),
    min_size=1,
    max_size=4,
)
_SCRIPTS = st.lists(
    st.one_of(_PIECES.map(lambda each: says(*each)), st.just(fails(FailureKind.SERVER, "{"))), min_size=1, max_size=4
)
_OUTPUTS = st.sampled_from(
    [
        JsonOutput(schema='{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'),
        LabelOutput(labels=("spam", "ham")),
        None,
    ]
)


@settings(max_examples=150, deadline=None)
@given(_SCRIPTS, _SCRIPTS, _OUTPUTS)
async def test_whole_and_held_answers_are_the_same_and_hold_no_mark(
    weak: list[Script], strong: list[Script], output: Output | None
) -> None:
    plan = blueprint(
        stage(0, features=PLAIN, max_retries=1),
        stage(1, capability=Complexity.HIGH, features=PLAIN),
        chain_policy=assessing(repair=True),
    )
    asked = request(kind=TaskType.EXTRACT, output=output)
    whole, streamed = engine(plan, [weak, strong]), engine(plan, [weak, strong])
    text: str | None = None
    attempts: list[tuple[str, str]] = []
    with suppress(RouteError):
        answer = await whole.router.route(asked)
        text = answer.text
        attempts = [(each.stage.model, each.outcome.word) for each in answer.completion.attempts]
    replay = await replayed(streamed.router.stream(structs.replace(asked, stream=StreamPolicy())))
    if text is None:
        assert replay.error is not None
        assert replay.text == ""
    else:
        assert replay.text == text
        assert replay.completed is not None
        told = replay.completed.completion.attempts
        assert [(each.stage.model, each.outcome.word) for each in told] == attempts
        assert isinstance(output, JsonOutput) or not assessed(text).is_marked
    whole.check_settled()
    streamed.check_settled()
