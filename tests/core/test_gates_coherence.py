"""The checks of coherence: what each sees, what it must not call wrong, and what its finding does."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.config.model import CheckWord, EffectWord
from gearshift.core.gates import Candidate, Finding, Judge
from gearshift.core.gates.asked import Asked
from gearshift.core.gates.coherence import CHECKS, DEFAULT_EFFECTS, CoherenceGate, Effect, effects_of
from gearshift.core.prompt import EMPTY_PROMPT
from gearshift.core.request import Image, JsonOutput, LabelOutput, Message, Text
from gearshift.core.words import Role, TaskType, VerdictResult
from tests.support.blueprints import policy
from tests.support.changed import changed

PROMPT = "What is to be paid for twelve parcels at seven dollars each?\nA. 84\nB. 85\nC. 48"
LONG = "The keeper counts the ships that pass at dusk, and he writes their names into a book. "


def candidate(text: str, **fields: object) -> Candidate:
    given_fields = {"task_type": TaskType.GENERATE, "output": None, "asked": Asked.of(PROMPT), **fields}
    return Candidate(text=text, raw=text, **given_fields)  # type: ignore[arg-type]


def reason(check: str, text: str, **fields: object) -> str:
    verdict = CoherenceGate({check: Effect.REJECT}).judge(candidate(text, **fields))
    assert verdict is not None
    return verdict.reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("So it costs 12 * 7 = 85 dollars.", "slip", id="a product"),
        pytest.param("In total: 50 + 65 + 180 = 395 points.", "slip", id="a sum"),
        pytest.param("She pays $1,375 x 55 = $75,125.", "slip", id="dollars and thousands"),
        pytest.param("He has 13 - 6 = <<13-6=8>>8 left.", "slip", id="an annotation"),
        pytest.param("That is 18,800 / 3,200 = 5,875 pounds.", "slip", id="a comma for a point"),
        pytest.param("So it costs 12 * 7 = 84 dollars.", "", id="right"),
        pytest.param("2 + 3 * 4 = 14, and 10 / 4 = 2.5.", "", id="products first"),
        pytest.param("10 / 3 = 3.33, or 10 / 3 = 3, or 200 / 3 = 66.7.", "", id="rounded or cut"),
        pytest.param("1234 * 5 = 6200, roughly.", "", id="rounded to its zeros"),
        pytest.param("x - 3 + 5 = 2, so 2x + 1 = 9 and 3(4 + 5) = 27.", "", id="variables and brackets"),
        pytest.param("2^3 + 1 = 9 and 20% * 50 = 10.", "", id="powers and percent"),
        pytest.param("5 + 3 = 2 * 4, and 6 / 2 = 9 / 3.", "", id="an equation goes on"),
        pytest.param("7 + 8 = 3 (mod 12), and 9 + 9 = 6.", "", id="modulo"),
        pytest.param("In binary, 101 + 11 = 1000.", "", id="binary"),
        pytest.param("25 - 26 = 1 page less.", "", id="the words carry the sign"),
        pytest.param("It takes 1 1/2 * 12 = 18 eggs.", "", id="a mixed number"),
        pytest.param("Of 400 000 x 3/100 = 12000.", "", id="thousands parted by a space"),
        pytest.param("The dates 1999-2004 = five years; 24/7 = always.", "", id="no sums"),
        pytest.param("5 / 0 = 3", "", id="nothing comes of it"),
    ],
)
def test_slips_of_arithmetic(text: str, expected: str) -> None:
    assert reason("arithmetic", text) == expected


@given(st.integers(0, 9999), st.integers(1, 9999), st.sampled_from("+-*/"))
def test_a_right_sum_is_never_a_slip(left: int, right: int, operator: str) -> None:
    result = {"+": left + right, "-": left - right, "*": left * right, "/": round(left / right, 3)}[operator]
    assert reason("arithmetic", f"We get {left} {operator} {right} = {result}.") == ""


@given(st.text(alphabet="0123456789 +-*/=x$,.()\n%<>", max_size=300))
def test_any_sums_can_be_read(text: str) -> None:
    assert reason("arithmetic", text) in ("", "slip")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"{LONG}\n```python\nprint(1)\n", "open_fence", id="a code block"),
        pytest.param(f"{LONG}\n1. one\n2. two\n3.", "stopped_list", id="a list"),
        pytest.param(f"{LONG}Then he climbs the", "stopped_sentence", id="a sentence"),
        pytest.param(f"{LONG}He lights it (in the west", "open_bracket", id="a bracket"),
        pytest.param(f"{LONG}\n```python\nprint(1)\n```", "", id="a closed block"),
        pytest.param(f"{LONG}\n1. one\n2. two", "", id="a whole list"),
        pytest.param(f"{LONG} a) one b) two", "", id="brackets of a list"),
        pytest.param("def f(a, b", "", id="too short to tell"),
        pytest.param("The Lord of the", "", id="a name"),
        pytest.param(f"{LONG}Thank you :-(", "stopped_sentence", id="a face is taken for a bracket"),
        pytest.param(
            f"{LONG} The wind turns west. Then he climbs up and lights", "stopped_sentence", id="a last sentence"
        ),
        pytest.param(f"{LONG}\n\nHe writes. He waits. Yours truly", "", id="a greeting"),
        pytest.param(f"{LONG}\n- Stir it\n- Then let it rest for a while", "", id="items without full stops"),
        pytest.param(f"{LONG}\nThe lamp is lit. The ships\nare far away from the harbour", "", id="verse"),
        pytest.param(f"{LONG}\n# Why the keeper, Dr. Brown, e.g. in St. Ives, counts ships", "", id="a heading"),
    ],
)
def test_open_structures(text: str, expected: str) -> None:
    assert reason("structure", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("The answer is (A). 12 * 7 = 85. The answer is (B).", "two_results", id="two"),
        pytest.param("The answer is (A). Wait, that is wrong. The answer is (B).", "", id="taken back"),
        pytest.param("The answer is (A). The answer is (B). The answer is (C).", "", id="several questions"),
        pytest.param("The answer is (B). So the answer is (B).", "", id="the same"),
        pytest.param("The best answer is (B), (C) or (D). The answer is (C).", "", id="a choice of three"),
        pytest.param("The answer is a number.", "", id="a word"),
    ],
)
def test_contradictions(text: str, expected: str) -> None:
    assert reason("contradiction", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("6 * 7 = 42, and 42 * 2 = 84.\n#### 85", "other_number", id="another number"),
        pytest.param("6 * 7 = 42, and 42 * 2 = 84.\n#### 84", "", id="the last"),
        pytest.param("6 * 7 = 42, and 42 * 2 = 84.\n#### 42", "", id="one of them"),
        pytest.param("10 * 7 = 70, and 12 * 7 = 84. The answer is (C).", "other_choice", id="another choice"),
        pytest.param("10 * 7 = 70, and 12 * 7 = 84. The answer is (A).", "", id="its choice"),
        pytest.param("The answer is (C).", "", id="no reasoning"),
    ],
)
def test_conclusions(text: str, expected: str) -> None:
    assert reason("conclusion", text) == expected


@pytest.mark.parametrize(
    "text", ["Certainly!\n\nHere is the summary:", "The final answer is:", "...", "Great question!"]
)
def test_empty_talk(text: str) -> None:
    assert reason("emptiness", text) == "empty_talk"


@pytest.mark.parametrize(
    "text", ["Sure.", "Yes", "42", "Of course", "Here is the answer: 42", "Certainly! It is 42.", "N/A"]
)
def test_a_short_answer_is_not_empty(text: str) -> None:
    assert reason("emptiness", text) == ""


SOURCE = "Invoice 0042 of 3 March 2024 to Müller & Sons, 1,250.00 EUR for twelve parcels, due on 2 April."


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param('{"date": "2024-03-03", "sum": 1250, "to": "müller & sons"}', "", id="dates, numbers and case"),
        pytest.param('{"count": 12, "number": "42", "paid": false, "note": null}', "", id="spelled out"),
        pytest.param('{"to": "Meyer & Sons"}', "not_in_source", id="another name"),
        pytest.param('{"sum": 1260}', "not_in_source", id="another sum"),
        pytest.param('{"items": [{"date": "2025-03-03"}]}', "not_in_source", id="deep down"),
        pytest.param("no document", "", id="the schema gate's"),
    ],
)
def test_values_that_are_not_in_the_source(document: str, expected: str) -> None:
    fields = {"task_type": TaskType.EXTRACT, "output": JsonOutput(), "asked": Asked.of(SOURCE)}
    assert reason("source", document, **fields) == expected


def test_words_of_the_schema_are_given_and_pictures_may_hold_anything() -> None:
    output = JsonOutput(schema='{"properties": {"kind": {"enum": ["reminder"]}}}')
    asked = Asked(EMPTY_PROMPT, (Message(role=Role.USER, parts=(Text(SOURCE),)),), output)
    assert reason("source", '{"kind": "reminder"}', task_type=TaskType.EXTRACT, output=output, asked=asked) == ""
    picture = Message(role=Role.USER, parts=(Text(SOURCE), Image(url="https://example.org/a.png")))
    seen = Asked(EMPTY_PROMPT, (picture,), JsonOutput())
    assert reason("source", '{"to": "Meyer"}', task_type=TaskType.EXTRACT, output=JsonOutput(), asked=seen) == ""


SLIP = f"{LONG}So it costs 12 * 7 = 85 dollars."


def test_a_finding_that_rejects_is_poor_and_may_still_be_the_best_there_is() -> None:
    judgement = Judge(policy()).judge(candidate(SLIP))
    assert judgement.finding is Finding.POOR
    assert judgement.valid
    assert judgement.summary.startswith("arithmetic: ")


def test_a_finding_that_is_only_noted_is_accepted_and_told() -> None:
    judgement = Judge(changed(policy(), coherence=(("arithmetic", "note"),))).judge(candidate(SLIP))
    assert judgement.finding is Finding.ACCEPT
    assert [each.result for each in judgement.verdicts if each.gate == "arithmetic"] == [VerdictResult.NOTED]


def test_a_check_that_is_off_says_nothing() -> None:
    judgement = Judge(changed(policy(), coherence=(("arithmetic", "off"),))).judge(candidate(SLIP))
    assert not [each for each in judgement.verdicts if each.gate == "arithmetic"]


def test_a_contradiction_is_hard_where_it_rejects() -> None:
    text = "The answer is (A). 12 * 7 = 85. The answer is (B)."
    judgement = Judge(changed(policy(), coherence=(("contradiction", "reject"),))).judge(candidate(text))
    assert judgement.finding is Finding.HARD
    assert judgement.summary.startswith("contradiction: ")


def test_what_passes_every_check_gives_one_verdict() -> None:
    verdicts = Judge(policy()).judge(candidate(LONG)).verdicts
    assert [each.gate for each in verdicts if each.gate in (*CHECKS, "coherence")] == ["coherence"]


def test_labels_are_judged_by_their_form() -> None:
    made = candidate("A", output=LabelOutput(labels=("A", "B")), task_type=TaskType.CLASSIFY)
    assert CoherenceGate(DEFAULT_EFFECTS).judge(made) is None


@pytest.mark.parametrize("text", [SLIP, "The answer is (A). secret 4 + 5 = 10. The answer is (B)."])
def test_findings_in_restricted_answers_quote_nothing(text: str) -> None:
    for check in CHECKS:
        verdict = CoherenceGate({check: Effect.REJECT}).judge(candidate(text, restricted=True))
        assert verdict is None or not any(digit in verdict.detail for digit in ("85", "10", "(A)", "secret"))


def test_the_configuration_knows_every_check_and_effect() -> None:
    assert set(get_args(CheckWord)[1].extra["words"]) == set(CHECKS) == set(DEFAULT_EFFECTS)
    assert set(get_args(EffectWord)[1].extra["words"]) == {each.value for each in Effect}
    assert effects_of((("source", "reject"),))["source"] is Effect.REJECT


@given(st.text(max_size=400))
def test_any_text_can_be_judged(text: str) -> None:
    gate = CoherenceGate(dict.fromkeys(CHECKS, Effect.REJECT))
    gate.judge(candidate(text))
    gate.judge(candidate(text, output=JsonOutput(), task_type=TaskType.EXTRACT))
