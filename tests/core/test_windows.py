"""Gates in windows: what is found while an answer is being written, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.gates import Candidate, Finding, Judge
from gearshift.core.gates.language.scripts import scripts_of
from gearshift.core.gates.window.base import Watcher, Window
from gearshift.core.gates.window.drops import DropWatcher
from gearshift.core.gates.window.languages import LanguageWatcher
from gearshift.core.gates.window.loops import LoopWatcher
from gearshift.core.gates.window.refusals import RefusalWatcher
from gearshift.core.gates.window.throughput import ThroughputWatcher
from gearshift.core.gates.window.watch import Watch
from gearshift.core.provider import TokenLogprob
from gearshift.core.words import TaskType
from tests.support.blueprints import policy

ROOT = Path(__file__).parents[2]
TEXT = (
    "the lighthouse stands on a rock that the sea has worn smooth and its keeper counts the ships which pass at dusk "
    "before he climbs the narrow stairs to light the lamp whose beam reaches far beyond the bay where boats rest"
)
WORDS = TEXT.split()


def tokens_of(text: str) -> list[str]:
    return [f"{word} " for word in text.split()]


def found_at(watcher: Watcher, tokens: list[str], *, window: int = 32) -> int | None:
    """Feed token by token; give the number of the token at which a fault was found."""
    watch = Watch([watcher], tokens=window, seconds=60.0, now=0.0)
    for number, token in enumerate(tokens, 1):
        if watch.feed(token, 1, (), number * 0.01) is not None:
            return number
    return None


def test_a_loop_is_found_within_a_window_of_its_fourth_turn() -> None:
    loop = tokens_of("and so it goes on and on ") * 20
    start = len(WORDS)
    found = found_at(LoopWatcher(), [f"{word} " for word in WORDS] + loop)
    assert found is not None
    shortest = start + 7 * 4 + 7
    assert found <= shortest + 32


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("I'm sorry, but I can't continue with this request.", id="an apology"),
        pytest.param("I cannot complete this task.", id="plain"),
        pytest.param(
            "the keeper counts the ships I'm sorry, but I can't help with that request.", id="within a sentence"
        ),
        pytest.param("Unfortunately, I am not able to help with that topic any further.", id="unable"),
    ],
)
def test_a_refusal_in_the_middle_is_found(text: str) -> None:
    found = found_at(RefusalWatcher(), [f"{word} " for word in WORDS] + [". "] + tokens_of(text) + tokens_of("x " * 40))
    assert found is not None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("He said: \"I'm sorry, but I can't continue with this conversation.\" She left.", id="in a story"),
        pytest.param("I cannot help but admire the view. I can't wait to go on.", id="figures of speech"),
        pytest.param("You can't complete this task without a key, so ask for one.", id="advice"),
        pytest.param("If the server cannot continue with the request it answers 503.", id="another cannot"),
    ],
)
def test_what_only_sounds_like_a_refusal_is_none(text: str) -> None:
    assert found_at(RefusalWatcher(), [f"{word} " for word in WORDS] + tokens_of(text) + ["x "] * 40) is None


def test_a_refusal_in_the_middle_of_a_whole_answer_is_one_too() -> None:
    broken = f"{TEXT}. {TEXT} I'm sorry, but I can't help with that request."
    judgement = Judge(policy()).judge(Candidate(text=broken, raw=broken, task_type=TaskType.GENERATE, output=None))
    assert judgement.finding is Finding.HARD
    assert [verdict.reason for verdict in judgement.verdicts if verdict.gate == "refusal"] == ["broken_off"]


def test_a_change_of_script_is_found() -> None:
    russian = ["маяк ", "стоит ", "на ", "скале ", "у ", "моря ", "и ", "светит "] * 8
    assert (
        found_at(LanguageWatcher("Tell me about the lighthouse."), [f"{word} " for word in WORDS] + russian) is not None
    )


@pytest.mark.parametrize("at", range(32, 65, 4))
def test_a_change_of_script_is_found_wherever_in_a_window_it_begins(at: int) -> None:
    russian = ["маяк ", "стоит ", "на ", "скале ", "у ", "моря ", "и ", "светит "] * 12
    english = [f"{word} " for word in (WORDS * 2)[:at]]
    found = found_at(LanguageWatcher("Tell me about the lighthouse."), english + russian)
    assert found is not None
    # Most of a window of it makes a switch, and that window's end decides.
    assert found <= at + 20 + 32


@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param("Give the poem in English, then in Russian.", id="named"),
        pytest.param("Переведи это на английский и обратно: a lighthouse", id="written in it"),
    ],
)
def test_a_script_that_the_prompt_asks_for_is_lawful(prompt: str) -> None:
    russian = ["маяк ", "стоит ", "на ", "скале ", "у ", "моря "] * 10
    assert found_at(LanguageWatcher(prompt), [f"{word} " for word in WORDS] + russian) is None


def test_greek_letters_in_a_formula_are_no_change_of_script() -> None:
    formula = tokens_of("the angles α and β sum to π so γ is the rest of it all ") * 6
    assert found_at(LanguageWatcher("Explain the triangle."), [f"{word} " for word in WORDS] + formula) is None


def test_japanese_and_chinese_letters_are_one_script() -> None:
    assert scripts_of("東京タワーは高い") == {"east_asian": 8}


def test_a_drop_of_log_probabilities_is_found_and_a_rare_word_is_not() -> None:
    watch = Watch([DropWatcher()], tokens=32, seconds=60.0, now=0.0)
    for number in range(64):
        value = -6.0 if number == 40 else -0.5
        assert watch.feed("word ", 1, (TokenLogprob("word ", value),), number * 0.01) is None
    verdicts = [watch.feed("noise ", 1, (TokenLogprob("noise ", -7.0),), 1 + number * 0.01) for number in range(32)]
    assert verdicts[-1] is not None
    assert verdicts[-1].reason == "logprob_drop"


def test_a_slow_drip_is_found_and_a_steady_stream_is_not() -> None:
    slow = Watch([ThroughputWatcher(2.0)], tokens=32, seconds=1.0, now=0.0)
    verdicts = [slow.feed("drop ", 1, (), 1.0 + number) for number in range(4)]
    assert any(verdict is not None and verdict.gate == "throughput" for verdict in verdicts)
    steady = Watch([ThroughputWatcher(2.0)], tokens=32, seconds=1.0, now=0.0)
    assert all(steady.feed("flow ", 1, (), number * 0.1) is None for number in range(1, 100))


def test_clean_text_trails_the_longest_look_back() -> None:
    watch = Watch([LoopWatcher(), RefusalWatcher()], tokens=8, seconds=60.0, now=0.0)
    for number in range(400):
        watch.feed("abcd", 1, (), number * 0.01) if number % 2 else watch.feed(f"{number:04d}", 1, (), number * 0.01)
    assert watch.passed == 1600
    assert watch.clean == 1600 - max(LoopWatcher.lookback, RefusalWatcher.lookback)


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=300), st.integers(4, 64))
def test_windows_hold_all_the_text_once(words: list[str], size: int) -> None:
    seen: list[str] = []

    class Notes:
        lookback = 0

        def look(self, window: Window) -> None:
            assert window.tail.endswith(window.text)
            assert window.tokens >= 1
            seen.append(window.text)

    watch = Watch([Notes()], tokens=size, seconds=60.0, now=0.0)
    for number, word in enumerate(words):
        watch.feed(word, 1, (), number * 0.001)
    watch.look(1.0)
    assert "".join(seen) == "".join(words)
    assert watch.passed == watch.clean == len("".join(words))


@pytest.mark.parametrize("page", ["LICENSE", "README.md", "docs/architecture.md", "Makefile"])
def test_real_pages_are_never_stopped(page: str) -> None:
    watch = Judge(policy()).watch("Write me a page.", 0.0)
    text = (ROOT / page).read_text("utf-8")
    for number in range(0, len(text), 4):
        token = text[number : number + 4]
        assert watch.feed(token, 1, (TokenLogprob(token, -0.7),), number * 0.001) is None, text[number - 200 : number]
