import tracemalloc
from pathlib import Path

import pytest

from gearshift.core.classifier import TaskClassifier
from gearshift.core.classifier import features as features_module
from gearshift.core.classifier.features import HEAD, TAIL, features_of, tokens_of
from gearshift.core.classifier.weights import format_weights, parse_weights

WEIGHTS = Path(features_module.__file__).with_name("weights.tsv")
CLASSIFIER = TaskClassifier.load()


@pytest.mark.parametrize(
    ("text", "task_type"),
    [
        pytest.param(
            "Classify the sentiment of this review as positive or negative: the food was great",
            "classify",
            id="classify",
        ),
        pytest.param("Extract all the named entities in the following sentence.", "extract", id="extract"),
        pytest.param("Write a poem about the sea", "generate", id="generate"),
        pytest.param("user: hi\nassistant: hello\nuser: write me a haiku about autumn", "generate", id="chat"),
        pytest.param(
            "Tom has 3 apples and buys 5 more for $2 each. How many apples does he have, and how much did he pay?",
            "reason",
            id="reason",
        ),
        pytest.param("Represent the sentence for retrieving supporting documents: ", "embed", id="embed"),
    ],
)
def test_a_plain_instruction_gets_its_type(text: str, task_type: str) -> None:
    assert CLASSIFIER.guess(text).task_type == task_type


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(" \n\t ", id="white space"),
        pytest.param("12345 ???", id="no words"),
        pytest.param("\ud800\x00", id="no text at all"),
        pytest.param("Fasse den folgenden Text in drei Sätzen zusammen: Der Hund läuft über die Straße.", id="German"),
        pytest.param("Résumez le texte suivant en trois phrases courtes.", id="French"),
        pytest.param("Clasifica el sentimiento de esta reseña como positivo o negativo.", id="Spanish"),
        pytest.param("请将以下文本分类为正面或负面。这家餐厅的食物很好吃。", id="Chinese"),
        pytest.param("Переведите следующий текст на английский язык.", id="Russian"),
        pytest.param("لخص النص التالي", id="Arabic"),
    ],
)
def test_a_text_in_no_language_that_was_learned_gets_no_type(text: str) -> None:
    guess = CLASSIFIER.guess(text)
    assert (guess.task_type, guess.confidence, guess.probabilities) == (None, 0.0, ())


def test_an_unsure_guess_gives_no_type_but_its_probabilities() -> None:
    guess = CLASSIFIER.guess("What is the capital of France?")
    assert guess.task_type is None
    assert 0 < guess.confidence < 1
    assert guess.probabilities[0][1] == guess.confidence


def test_probabilities_are_sorted_and_sum_to_one() -> None:
    probabilities = [share for _, share in CLASSIFIER.guess("Summarize this article").probabilities]
    assert sum(probabilities) == pytest.approx(1)
    assert probabilities == sorted(probabilities, reverse=True)
    assert len(probabilities) == 5


def test_complexity_is_never_guessed() -> None:
    guess = CLASSIFIER.guess("Prove that there are infinitely many primes, step by step.")
    assert (guess.complexity, guess.complexity_confidence) == (None, 0.0)


@pytest.mark.parametrize("padding", [2_000, 200_000])
def test_the_length_of_the_middle_changes_nothing(padding: int) -> None:
    start, end = "Summarize the following report. ".ljust(HEAD, "\n"), "\nSummary:".rjust(TAIL)
    assert CLASSIFIER.guess(start + "x " * padding + end) == CLASSIFIER.guess(start + "\n" + end)


def test_only_the_ends_of_a_long_text_are_read() -> None:
    text = "word " * 2_000_000
    tracemalloc.start()
    try:
        CLASSIFIER.guess(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    assert len(tokens_of(text)) <= HEAD + TAIL


@pytest.mark.parametrize("unit", ["a", "1 ", "{}", "a1", "\n?", "İ"])
def test_the_sums_of_the_densest_text_fit_their_fields(unit: str) -> None:
    guess = CLASSIFIER.guess("Write a poem. " + unit * 1_000)
    assert sum(share for _, share in guess.probabilities) == pytest.approx(1 if guess.probabilities else 0)


def test_the_packed_sum_is_the_plain_sum() -> None:
    weights = parse_weights(WEIGHTS.read_text("utf-8"))
    text = "Extract the names and the dates from the text below, and write them as JSON.\n\nText: I met Ann in 1999."
    rows = [weights.features[each] for each in features_of(tokens_of(text)) if each in weights.features]
    length = (sum(row[-1] for row in rows) * 0.01) ** 0.5
    scores = {
        word: (sum(row[place] for row in rows) / length + weights.bias[place]) * 0.01 / weights.temperature
        for place, word in enumerate(weights.classes)
    }
    best, second = CLASSIFIER.guess(text).probabilities[:2]
    assert best[0] == max(scores, key=lambda word: scores[word])
    assert best[1] / second[1] == pytest.approx(2.718281828459045 ** (scores[best[0]] - scores[second[0]]))


def test_weights_survive_writing_and_reading() -> None:
    text = WEIGHTS.read_text("utf-8")
    assert format_weights(parse_weights(text)) == text


def test_weights_are_below_a_megabyte() -> None:
    assert WEIGHTS.stat().st_size < 1_000_000


def test_weights_of_another_format_are_refused() -> None:
    with pytest.raises(ValueError, match="train them anew"):
        parse_weights('{"format": 0}\n')
