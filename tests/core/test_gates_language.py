"""Languages are told apart by their function words; what may lawfully be in another language is left alone."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.gates.asked import Asked
from gearshift.core.gates.base import Candidate
from gearshift.core.gates.language.check import LanguageCheck
from gearshift.core.gates.language.prompt import Prompt
from gearshift.core.gates.language.tally import Tally
from gearshift.core.gates.language.words import LANGUAGES, LANGUAGES_OF
from gearshift.core.gates.window.languages import LOOKBACK, LanguageWatcher
from gearshift.core.gates.window.watch import Watch
from gearshift.core.prompt import FilledPrompt
from gearshift.core.request import JsonOutput, LabelOutput, Output, user
from gearshift.core.words import TaskType

PASSAGES: dict[str, list[str]] = json.loads(
    (Path(__file__).parents[2] / "bench" / "data" / "gates" / "passages.json").read_text("utf-8")
)
ENGLISH = (
    "The lighthouse stands on a rock that the sea has worn smooth, and its keeper counts the ships which pass at dusk. "
    "When the wind turns he climbs the narrow stairs to light the lamp, whose beam reaches far beyond the bay. "
)
ASKED = "Tell me what the keeper of the lighthouse does in the evening, and how he spends his nights."
FAR = [name for name in PASSAGES if name not in ("hungarian", "finnish")]
"""Hungarian and Finnish have few function words, so that a switch to them may be missed."""


def found_at(prompt: Asked | str, text: str, *, window: int = 32) -> int | None:
    watch = Watch([LanguageWatcher(prompt)], tokens=window, seconds=60.0, now=0.0)
    end = 0
    for number, token in enumerate(re.findall(r"\s*\w{1,6}|\s*[^\w\s]", text)):
        end += len(token)
        if watch.feed(token, 1, (), number * 0.01) is not None:
            return end
    return end if watch.look(1e6) is not None else None


def judged(prompt: str, text: str, output: Output | None = None) -> str:
    asked = Asked.of(prompt)
    verdict = LanguageCheck().judge(
        Candidate(text=text, raw=text, task_type=TaskType.GENERATE, output=output, asked=asked)
    )
    return verdict.reason if verdict is not None else ""


@pytest.mark.parametrize("name", FAR)
def test_a_switch_within_a_script_is_found_within_the_look_back(name: str) -> None:
    for passage in PASSAGES[name]:
        end = found_at(ASKED, ENGLISH + passage)
        assert end is not None
        assert end - len(ENGLISH) <= LOOKBACK


@pytest.mark.parametrize("name", FAR)
def test_a_whole_answer_in_another_language_is_wrong(name: str) -> None:
    for passage in PASSAGES[name]:
        assert judged(ASKED, passage) == "language"
        assert judged(ASKED, ENGLISH * 2 + passage) == "language"


@pytest.mark.parametrize("name", list(PASSAGES))
def test_an_answer_in_the_prompts_language_is_right(name: str) -> None:
    first, second = PASSAGES[name]
    assert judged(first, second) == ""
    assert found_at(first, f"{second} {first} {second}") is None


@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param("Translate the following text: the keeper of the lighthouse counts the ships.", id="to translate"),
        pytest.param("Write about the keeper of the lighthouse in German, for the visitors.", id="named"),
        pytest.param(f"{ASKED}\nBitte auf Deutsch, und zwar nicht zu lang.", id="used"),
        pytest.param("Which language is this? It is what the keeper wrote in his book.", id="of languages"),
        pytest.param("7 * 6", id="no words at all"),
        pytest.param("ok", id="one word"),
    ],
)
def test_a_language_that_the_prompt_asks_for_is_lawful(prompt: str) -> None:
    german = PASSAGES["german"][0]
    assert judged(prompt, german) == ""
    assert found_at(prompt, ENGLISH + german) is None


def test_the_system_prompt_and_earlier_turns_are_asked_too() -> None:
    german = PASSAGES["german"][0]
    system = Asked(FilledPrompt("Antworte den Kunden immer auf Deutsch.", ""), (user(ASKED),))
    earlier = Asked(FilledPrompt("", ""), (user("Was macht der Wärter und wann geht er nach Hause?"), user(ASKED)))
    assert found_at(system, german) is None
    assert found_at(earlier, german) is None
    assert found_at(Asked(FilledPrompt("", ""), (user(ASKED),)), german) is not None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f'{ENGLISH} The sign says: "{PASSAGES["german"][0]}"', id="quoted"),
        pytest.param(f"{ENGLISH}\n\n> {PASSAGES['french'][0]}\n\n{ENGLISH}", id="a quoted paragraph"),
        pytest.param(f"{ENGLISH}\n```\n{PASSAGES['spanish'][0]}\n```\n{ENGLISH}", id="in a code block"),
        pytest.param(f"{ENGLISH} El Niño, La Niña, Los Angeles and Las Vegas; the coup d'état. {ENGLISH}", id="names"),
        pytest.param("\n".join(f"- der_{each} = die[{each}] or das.und" for each in range(30)), id="code"),
        pytest.param("Jean de la Fontaine, Miguel de Cervantes, Ludwig van Beethoven, Leonardo da Vinci", id="a list"),
    ],
)
def test_foreign_words_in_an_answer_are_no_switch(text: str) -> None:
    assert found_at(ASKED, text) is None
    assert judged(ASKED, text) == ""


def test_labels_and_documents_are_left_alone() -> None:
    german = PASSAGES["german"][0]
    assert judged(ASKED, german, LabelOutput(labels=("a", "b"))) == ""
    assert judged(ASKED, json.dumps({"text": german}), JsonOutput()) == ""


def test_an_answer_in_letters_that_nobody_asked_for_is_wrong_from_the_start() -> None:
    russian = "Маяк стоит на скале у моря, и смотритель считает корабли, которые проходят мимо вечером."
    assert judged(ASKED, russian) == "script"
    assert found_at(ASKED, russian) is not None
    assert judged("Расскажи о маяке и о смотрителе.", russian) == ""


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_where_the_text_is_cut_changes_nothing(seed: int, size: int) -> None:
    text = ENGLISH + PASSAGES["dutch"][0] + "\n> quoted\n```\ncode\n```\n" + PASSAGES["italian"][1]
    whole, cut, chance = Tally(), Tally(), random.Random(seed)
    whole.add(text)
    place = 0
    while place < len(text):
        step = chance.randint(1, size)
        cut.add(text[place : place + step])
        place += step
    whole.finish()
    cut.finish()
    assert whole.known == cut.known
    assert whole.candidates() == cut.candidates()


def test_every_language_can_be_named_and_has_its_own_words() -> None:
    alone = {languages[0] for languages in LANGUAGES_OF.values() if len(languages) == 1}
    assert alone == set(LANGUAGES)
    for language in LANGUAGES:
        assert not Prompt(ASKED).allows(language) or language == "english"


def test_a_long_word_does_not_wait_for_ever() -> None:
    tally = Tally()
    for _ in range(1000):
        tally.add("aaaaaaaaaa")
    assert tally.known > 0
