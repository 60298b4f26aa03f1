import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.classifier import TaskClassifier
from gearshift.core.classifier import features as features_module
from gearshift.core.classifier.features import HEAD, TAIL, features_of, steps_of, tokens_of
from gearshift.core.classifier.linear import LinearModel, softmax
from gearshift.core.classifier.weights import UNIT, format_weights, pack, parse_weights, unpack

FILES = [Path(features_module.__file__).with_name(name) for name in ("type.tsv", "complexity.tsv")]
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


@pytest.mark.parametrize(
    "text", ["x", "hello", "test", "why", "The", "ok.", "go", "2 + 2", "Question:", "data", "summarize", "the the the"]
)
def test_a_word_is_too_little_to_go_by(text: str) -> None:
    guess = CLASSIFIER.guess(text)
    assert (guess.task_type, guess.confidence, guess.complexity, guess.probabilities) == (None, 0.0, None, ())


def test_probabilities_are_sorted_and_sum_to_one() -> None:
    probabilities = [share for _, share in CLASSIFIER.guess("Summarize this article").probabilities]
    assert sum(probabilities) == pytest.approx(1)
    assert probabilities == sorted(probabilities, reverse=True)
    assert len(probabilities) == 5


@pytest.mark.parametrize(
    ("text", "task_type"),
    [
        pytest.param("get name, date, total from this invoice as json", "extract", id="terse"),
        pytest.param("triage this ticket: my invoice is wrong", "classify", id="developer"),
        pytest.param("Which persons does the text mention?\n\nText: Ann met Bob in Rome.", "extract", id="a question"),
        pytest.param("The service was awful.\n\nIs this review positive or negative?", "classify", id="text first"),
        pytest.param(
            "### Instruction:\nTranslate the sentence to French.\n\n### Input:\nGood morning.\n\n### Response:",
            "generate",
            id="template",
        ),
        pytest.param(
            "Is the comment toxic? Answer yes or no.\n\nInput: you fool\nOutput: yes\n\nInput: thank you\nOutput:",
            "classify",
            id="few-shot",
        ),
        pytest.param("Given a question, retrieve passages that answer it", "embed", id="retrieval"),
        pytest.param("If 3 workers need 4 days, how many days do 6 workers need?", "reason", id="word problem"),
    ],
)
def test_the_style_of_a_prompt_does_not_matter(text: str, task_type: str) -> None:
    assert CLASSIFIER.guess(text).task_type == task_type


@pytest.mark.parametrize(
    "text",
    [
        "Classify the sentiment of this review as positive or negative: the food was great",
        "Extract the name and the date from the invoice as JSON.",
        "Summarize this article",
    ],
)
def test_the_complexity_of_simple_work_is_not_raised(text: str) -> None:
    guess = CLASSIFIER.guess(text)
    assert (guess.complexity, guess.complexity_confidence) == (None, 0.0)


def test_a_puzzle_is_more_complex_than_a_sum() -> None:
    puzzle = (
        "There are 4 houses in a row, numbered 1 on the left to 4 on the right. There is one person living in each "
        "house. Each person has a different favourite drink, pet and colour. Clue(s): the person who drinks tea is "
        "directly left of the cat owner. What is the number of the house of the dog owner? choice: 1, 2, 3, 4"
    )
    assert mean_level(puzzle) > mean_level("Tom has 3 apples and buys 5 more. How many apples does he have?")


def mean_level(text: str) -> float:
    levels = CLASSIFIER.complexity_of(text)
    assert sum(share for _, share in levels) == pytest.approx(1)
    return sum(place * share for place, (_, share) in enumerate(levels))


def test_steps_count_quantities_not_letters() -> None:
    assert steps_of(tokens_of("blue " * 90)) == []
    assert steps_of(tokens_of("3 apples and 5 pears")) == ["@01", "@02"]


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


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_the_packed_sum_is_the_plain_sum(file: Path) -> None:
    weights = parse_weights(file.read_text("utf-8"))
    text = "Extract the names and the dates from the text below, and write them as JSON.\n\nText: I met Ann in 1999."
    features = features_of(tokens_of(text))
    count = len(weights.outputs)
    rows = [unpack(weights.features[each], count + 1) for each in features if each in weights.features]
    length = (sum(row[-1] for row in rows) * UNIT) ** 0.5
    expected = [
        (sum(row[place] for row in rows) / length + weights.bias[place]) * UNIT / weights.temperature
        for place in range(count)
    ]
    assert LinearModel(weights).scores(features) == pytest.approx(expected)


@given(st.lists(st.integers(-(2**22), 2**22), min_size=1, max_size=10))
def test_numbers_survive_packing(row: list[int]) -> None:
    assert unpack(pack(row), len(row)) == tuple(row)


def test_softmax_bears_any_scores() -> None:
    assert softmax([1000.0, -1000.0]) == [1.0, 0.0]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_weights_survive_writing_and_reading(file: Path) -> None:
    text = file.read_text("utf-8")
    assert format_weights(parse_weights(text)) == text


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_no_text_can_overflow_a_field(file: Path) -> None:
    weights = parse_weights(file.read_text("utf-8"))
    densest = 2 * (HEAD + TAIL)  # a token and a pair for each character
    rows = [unpack(packed, len(weights.outputs) + 1) for packed in weights.features.values()]
    for place in range(len(weights.outputs) + 1):
        highest = sorted((abs(row[place]) for row in rows), reverse=True)
        assert sum(highest[:densest]) < 2**23


def test_weights_are_below_a_megabyte() -> None:
    assert sum(file.stat().st_size for file in FILES) < 1_000_000


def test_weights_of_another_format_are_refused() -> None:
    with pytest.raises(ValueError, match="train them anew"):
        parse_weights('{"format": 0}\n')
