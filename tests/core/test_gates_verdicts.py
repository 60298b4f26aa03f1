"""The gates one by one, and the table of what their verdicts come to."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.answer import Verdict
from gearshift.core.gates import Candidate, Finding, Judge
from gearshift.core.gates.asked import Asked
from gearshift.core.gates.confidence import ConfidenceGate, measure
from gearshift.core.gates.labels import LabelsGate, read_label
from gearshift.core.gates.refusal import RefusalGate
from gearshift.core.gates.schema import SchemaGate
from gearshift.core.gates.truncation import TruncationGate
from gearshift.core.provider import TokenLogprob
from gearshift.core.request import JsonOutput, LabelOutput, ToolCall
from gearshift.core.schema import compile_schema, parse_document
from gearshift.core.words import FinishReason, TaskType, VerdictResult
from tests.support.blueprints import policy
from tests.support.changed import changed

_LABELS = LabelOutput(labels=("positive", "negative"))


def text(words: str, **fields: object) -> Candidate:
    made = Candidate(text=words, raw=words, task_type=TaskType.GENERATE, output=None, finish_reason=FinishReason.STOP)
    return changed(made, **fields)


def label(words: str = "positive", **fields: object) -> Candidate:
    return text(words, output=_LABELS, task_type=TaskType.CLASSIFY, **fields)


def document(words: str, schema: str = "", **fields: object) -> Candidate:
    compiled = compile_schema(parse_document(schema)) if schema else None
    return text(words, output=JsonOutput(schema=schema), schema=compiled, task_type=TaskType.EXTRACT, **fields)


def result(verdict: Verdict | None) -> VerdictResult | None:
    return None if verdict is None else verdict.result


# -- the table ---------------------------------------------------------------------------------------------------------


class Says:
    """An own gate that says what it is told to."""

    name = "own"

    def __init__(self, result: VerdictResult, confidence: float | None = None) -> None:
        self.verdict = Verdict(gate=self.name, result=result, confidence=confidence, detail="said so")

    def judge(self, candidate: Candidate) -> Verdict | None:
        return self.verdict


@pytest.mark.parametrize(
    ("confidence", "finding", "verdict"),
    [
        (1.0, Finding.ACCEPT, VerdictResult.PASS),
        (0.85, Finding.ACCEPT, VerdictResult.PASS),
        (0.8499, Finding.UNSURE, VerdictResult.UNSURE),
        (0.75, Finding.UNSURE, VerdictResult.UNSURE),
        (0.7499, Finding.POOR, VerdictResult.LOW),
        (0.0, Finding.POOR, VerdictResult.LOW),
    ],
)
def test_confidence_decides_by_its_thresholds(confidence: float, finding: Finding, verdict: VerdictResult) -> None:
    judged = Judge(policy()).judge(label(label_probabilities={"positive": confidence}))
    assert judged.finding is finding
    assert judged.verdicts[-1].result is verdict
    assert judged.confidence == confidence
    assert judged.valid
    assert (judged.summary == "") == (finding is Finding.ACCEPT)


def test_what_cannot_be_measured_is_accepted_and_said() -> None:
    judged = Judge(policy()).judge(label())
    assert judged.finding is Finding.ACCEPT
    assert judged.confidence is None
    assert judged.verdicts[-1].result is VerdictResult.UNMEASURED


def test_what_cannot_be_measured_is_poor_where_confidence_is_required() -> None:
    judged = Judge(policy(require_confidence=True)).judge(label())
    assert judged.finding is Finding.POOR
    assert judged.valid


def test_a_hard_failure_outranks_confidence() -> None:
    judged = Judge(policy()).judge(label("neither", label_probabilities={"neither": 1.0}))
    assert judged.finding is Finding.HARD
    assert not judged.valid
    assert judged.summary.startswith("labels: ")


@pytest.mark.parametrize(
    ("said", "finding"),
    [
        (VerdictResult.PASS, Finding.ACCEPT),
        (VerdictResult.UNMEASURED, Finding.ACCEPT),
        (VerdictResult.UNSURE, Finding.UNSURE),
        (VerdictResult.LOW, Finding.POOR),
        (VerdictResult.FAIL, Finding.HARD),
    ],
)
def test_own_gates_are_heard(said: VerdictResult, finding: Finding) -> None:
    assert Judge(policy(), [Says(said)]).judge(text("Yes.")).finding is finding


def test_the_least_confidence_of_all_gates_counts() -> None:
    judge = Judge(policy(), [Says(VerdictResult.UNSURE, 0.8)])
    assert judge.judge(label(label_probabilities={"positive": 0.99})).confidence == 0.8


def test_every_gate_is_asked() -> None:
    judged = Judge(policy()).judge(label("neither", finish_reason=FinishReason.LENGTH))
    assert {verdict.gate for verdict in judged.verdicts} >= {"truncation", "labels", "confidence"}


def test_policies_can_leave_gates_out() -> None:
    judge = Judge(changed(policy(), enforce_schema=False, check_coherence=False))
    assert judge.judge(document("no json")).finding is Finding.ACCEPT
    assert judge.judge(text("I'm sorry, but I can't help.")).finding is Finding.ACCEPT
    watch = judge.watch("Tell me.", 0.0)
    assert watch.feed("and so on " * 50, 50, (), 0.1) is None


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("positive", "positive"),
        (" Positive.\n", "positive"),
        ('"NEGATIVE"', "negative"),
        ("**negative**", "negative"),
        ("Label: positive", "positive"),
        ("The answer is: positive", "positive"),
        ("Sentiment = negative", "negative"),
        ("positive\n\nThe review praises the food.", "positive"),
        ("positive\nPositive", "positive"),
        ("positive, negative", None),
        ("positive\nnegative", None),
        ("not positive", None),
        ("neutral", None),
        ("", None),
        ("...", None),
    ],
)
def test_a_label_is_read(words: str, expected: str | None) -> None:
    assert read_label(words, _LABELS.labels) == expected


@pytest.mark.parametrize(
    ("words", "labels", "expected"),
    [
        pytest.param("a", ("A", "a"), "a", id="case tells them apart"),
        pytest.param("A.", ("A", "a"), None, id="case tells them apart, but not so"),
        pytest.param("?", ("!", "?"), "?", id="marks alone"),
        pytest.param(" ", ("!", "?"), None, id="marks alone, and nothing"),
        pytest.param("Topic: A", ("topic: a", "topic: b"), "topic: a", id="a label that looks like a prefix"),
        pytest.param("c++", ("C++", "C#"), "C++", id="marks within"),
        pytest.param("STRASSE", ("Straße", "Weg"), "Straße", id="folded, not lowered"),
    ],
)
def test_unusual_labels_are_read(words: str, labels: tuple[str, ...], expected: str | None) -> None:
    assert read_label(words, labels) == expected


@given(st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=5, unique=True), st.data())
def test_a_label_means_itself(labels: list[str], data: st.DataObject) -> None:
    chosen = data.draw(st.sampled_from(labels))
    assert read_label(chosen, labels) == chosen
    got = read_label(data.draw(st.text(max_size=20)), labels)
    assert got is None or got in labels


def test_the_labels_gate_wants_exactly_a_label() -> None:
    gate = LabelsGate()
    assert result(gate.judge(label("positive"))) is VerdictResult.PASS
    assert result(gate.judge(label("Positive"))) is VerdictResult.FAIL
    assert gate.judge(text("anything")) is None


# -- confidence --------------------------------------------------------------------------------------------------------


def tokens(*pairs: tuple[str, float]) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(token, logprob) for token, logprob in pairs)


def test_a_labels_confidence_is_its_scored_probability() -> None:
    assert measure(label(label_probabilities={"positive": 0.6, "negative": 0.4})) == 0.6
    assert measure(label("neither", label_probabilities={"positive": 1.0})) == 0.0


def test_a_labels_confidence_is_the_product_of_its_tokens() -> None:
    got = measure(label(logprobs=tokens(("pos", -0.1), ("itive", -0.05), ("\n", -9.0))))
    assert got == pytest.approx(math.exp(-0.15))


def test_a_documents_confidence_is_the_mean_over_its_values() -> None:
    got = measure(
        document('{"a": 1}', logprobs=tokens(('{"', -5.0), ("a", -0.2), ('": ', -5.0), ("1", -0.4), ("}", -5.0)))
    )
    assert got == pytest.approx(math.exp(-0.3))


@pytest.mark.parametrize(
    "candidate",
    [
        pytest.param(text("Yes.", logprobs=tokens(("Yes", -0.1))), id="free text"),
        pytest.param(label(), id="no log-probabilities"),
        pytest.param(document("{}"), id="a document without log-probabilities"),
        pytest.param(document("{}", logprobs=tokens(("{}", -0.1))), id="a document without values"),
        pytest.param(label(logprobs=tokens(("positive", math.nan))), id="not a number"),
        pytest.param(label(label_probabilities={"positive": math.nan}), id="a score that is no number"),
    ],
)
def test_no_measure_is_no_guess(candidate: Candidate) -> None:
    assert measure(candidate) is None
    assert result(ConfidenceGate(0.85, 0.75).judge(candidate)) is VerdictResult.UNMEASURED


@given(st.lists(st.tuples(st.sampled_from(["pos", "itive", " ", "."]), st.floats(-60, 5)), min_size=1, max_size=6))
def test_confidence_is_between_0_and_1(pairs: list[tuple[str, float]]) -> None:
    for made in (label(logprobs=tokens(*pairs)), document("1", logprobs=tokens(*pairs))):
        got = measure(made)
        assert got is None or 0 <= got <= 1


# -- truncation, schema, refusal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        pytest.param(text("Yes."), VerdictResult.PASS, id="ended by itself"),
        pytest.param(text("Yes", finish_reason=FinishReason.LENGTH), VerdictResult.FAIL, id="cut"),
        pytest.param(
            text("Yes", finish_reason=FinishReason.LENGTH, length_asked=True), VerdictResult.PASS, id="cut as asked"
        ),
        pytest.param(
            document("{", finish_reason=FinishReason.LENGTH, length_asked=True),
            VerdictResult.FAIL,
            id="a document cut as asked",
        ),
        pytest.param(
            label(finish_reason=FinishReason.LENGTH, length_asked=True), VerdictResult.FAIL, id="a label cut as asked"
        ),
    ],
)
def test_truncation(candidate: Candidate, expected: VerdictResult) -> None:
    assert result(TruncationGate().judge(candidate)) is expected


_SCHEMA = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        pytest.param(document('{"n": 1}', _SCHEMA), "", id="fits"),
        pytest.param(document("[1]"), "", id="any document"),
        pytest.param(document('{"n": "1"}', _SCHEMA), "schema_type", id="wrong type"),
        pytest.param(document("{}", _SCHEMA), "schema_required", id="a key is missing"),
        pytest.param(document('{"n": 1} and so on', _SCHEMA), "not_json", id="text after it"),
        pytest.param(document('{"n": 1, "n": 2}', _SCHEMA), "not_json", id="a key twice"),
        pytest.param(text("", tool_calls=(ToolCall(id="1", name="f", arguments='{"a": 1}'),)), "", id="a tool call"),
        pytest.param(text("", tool_calls=(ToolCall(id="1", name="f", arguments=""),)), "", id="no arguments"),
        pytest.param(text("", tool_calls=(ToolCall(id="1", name="f", arguments="{"),)), "not_json", id="broken call"),
        pytest.param(text("", tool_calls=(ToolCall(id="1", name="f", arguments="[]"),)), "not_an_object", id="a list"),
    ],
)
def test_schema(candidate: Candidate, reason: str) -> None:
    verdict = SchemaGate().judge(candidate)
    assert verdict is not None
    assert verdict.reason == reason
    assert (verdict.result is VerdictResult.PASS) == (reason == "")


def test_free_text_has_no_schema() -> None:
    assert SchemaGate().judge(text("Yes.")) is None


@pytest.mark.parametrize(
    "candidate",
    [
        document("secret words", _SCHEMA, restricted=True),
        document('{"n": "secret"}', _SCHEMA, restricted=True),
        label("secret", restricted=True),
    ],
)
def test_verdicts_on_restricted_answers_quote_nothing(candidate: Candidate) -> None:
    assert "secret" not in repr(Judge(policy()).judge(candidate))


@pytest.mark.parametrize(
    "words",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I cannot assist with this request.",
        "I am really sorry, but as such I am unable to do this.",
        "Sorry, I can't do that.",
        "Unfortunately, I cannot provide this information.",
        "I cannot help with that request.",
        "I won't continue this conversation.",
        "As an AI language model, I don't have access to that.",
        "This request violates our policy.",
        "I'd rather not discuss this subject.",
        "That is not something I can help with.",
        "My guidelines prevent me from answering.",
        "I'm not comfortable answering this.",
        "It would be inappropriate for me to answer that.",
        "No, I will not do that.",
        # No answer, said at the end.
        "The provided text does not give enough information to solve the last question.  Therefore, I cannot answer it.",
        "We lack the diameter of the pipe and the speed of the water.  Therefore, we cannot provide a definitive answer.",
        "The speed of sound is not given. \\boxed{Cannot be determined}",
        "The table is missing.\n\nThe answer is (Incomplete information)",
    ],
)
def test_a_refusal_is_seen(words: str) -> None:
    assert result(RefusalGate().judge(text(words))) is VerdictResult.FAIL


@pytest.mark.parametrize(
    "words",
    [
        "Sorry for the wait: the parcel arrives on Monday.",
        "I'm afraid of heights, said the pilot.",
        "We cannot divide by zero, so x is undefined.",
        "The user can't help laughing.",
        "I'm sorry, but I can't give one number only. " + "There are three estimates, each with its reasons. " * 20,
        "Dear Ms Smith, we are sorry that we cannot offer you the position.",
        "Here is the apology you asked for: I am sorry.",
        "I'd rather not have tea, said the hatter, and poured himself some.",
        "This is not something I will forget, she said.",
        # A word of doubt, and then an answer.
        "Without its market value we cannot determine the answer exactly, but the closest is 4 %.",
        "I cannot give a definitive answer without the model's number. Most likely the filter is clogged.",
        "While I cannot determine the answer from the passage alone, general knowledge helps. The answer is (C).",
        "The interval includes zero, so we cannot find a solution with x > 3. #### 2",
        'She wrote: "I cannot answer this question."',
    ],
)
def test_an_answer_is_no_refusal(words: str) -> None:
    assert result(RefusalGate().judge(text(words))) is VerdictResult.PASS


@pytest.mark.parametrize(
    "prompt",
    [
        "Answer from the text alone. If it does not say, answer that you do not know.\n\nWho built the mill?",
        "How long is the fuse?\nA. 3 m\nB. 4 m\nC. It cannot be determined",
        "Write what a clerk says who has to decline an application.",
    ],
)
def test_no_answer_is_one_where_the_prompt_allows_for_it(prompt: str) -> None:
    for words in ("I cannot answer that: the text does not say.", "Sorry, I cannot answer this."):
        assert result(RefusalGate().judge(text(words, asked=Asked.of(prompt)))) is VerdictResult.PASS
        assert result(RefusalGate().judge(text(words, asked=Asked.of("Who built the mill?")))) is VerdictResult.FAIL


def test_the_providers_own_stop_is_believed() -> None:
    for candidate in (
        text("Yes.", finish_reason=FinishReason.CONTENT_FILTER),
        document("{}", finish_reason=FinishReason.CONTENT_FILTER),
    ):
        assert result(RefusalGate().judge(candidate)) is VerdictResult.FAIL


def test_structured_answers_are_judged_by_their_form() -> None:
    assert RefusalGate().judge(label("I'm sorry, I can't")) is None
