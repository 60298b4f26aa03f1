"""Prompts in many styles for training the task classifier, made of the phrase lists in bench/data/phrasings.

Rules: no chance; the same lists and texts always give the same prompts. "[a|b]" is a choice, "<name>" a value of the
slot "= name"; both nest. Lines under "= do" are infinitives, which get one of many openings; lines under "= free" stand
as they are; "= tail" says how to answer. layouts.txt puts an instruction and a text to work on together, and is the same
for all types, so that a style says nothing about the type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias, TypeVar

FOLDER = Path(__file__).resolve().parent / "data/phrasings"

Lists: TypeAlias = Mapping[str, list[str]]
T = TypeVar("T")

_SLOT = re.compile(r"<(\w+)>")
_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_SENTENCE_END = re.compile(r"(?<=[.?!]) ")
_TEX = ("\\frac", "\\boxed", "\\sum", "\\sqrt", "\\angle")  # lines in which "\n" could be part of a command


class Picker:
    """Picks by a hash of its name and how often it was asked: the same on every machine and Python."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked = 0

    def below(self, limit: int) -> int:
        self._asked += 1
        return int.from_bytes(blake2b(f"{self._name}:{self._asked}".encode(), digest_size=8).digest()) % limit

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]


def read_lists(name: str) -> dict[str, list[str]]:
    """Read one file of phrase lists."""
    lists: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in (FOLDER / f"{name}.txt").read_text("utf-8").splitlines():
        if line.startswith("= "):
            current = lists[line[2:]] = []
        elif line and current is not None:
            current.append(line if any(command in line for command in _TEX) else line.replace("\\n", "\n"))
    return lists


_COMMON = read_lists("common")
_LAYOUTS = read_lists("layouts")


def phrased_prompts(task_type: str, texts: Sequence[str], per_line: int) -> list[tuple[str, str]]:
    """Give prompts that ask for task_type, each with the name of the line it came from.

    Args:
        texts: what the prompts are about; the same for all types.
        per_line: how many prompts to make of each line.
    """
    lists = read_lists(task_type)
    prompts = []
    for kind in ("do", "free"):
        for number, line in enumerate(lists[kind]):
            name = f"phrasing:{task_type}:{kind}:{number}"
            for repeat in range(per_line):
                picker = Picker(f"{name}:{repeat}")
                instruction = _instruction(lists, line, kind, picker)
                # Problems and embedding instructions mostly come alone; the others mostly with a text.
                is_alone = picker.below(100) < (70 if task_type in ("embed", "reason") else 45)
                prompt = _laid_out(instruction, picker, texts, is_alone)
                prompts.append((prompt.lower() if picker.below(10) == 0 else prompt, name))
    return prompts


def restyled(text: str, form: str, name: str, texts: Sequence[str], slot: re.Pattern[str]) -> str:
    """Give a real prompt in another layout, and a long task definition sometimes without its beginning or its end.

    Args:
        text: the prompt.
        form: `definition` and `instruction` get a text to work on, `template` values in its slots.
        name: what the choices are derived from.
        texts: what to fill in.
        slot: what a slot of a template looks like.
    """
    picker = Picker(name)
    if form in ("definition", "instruction"):
        is_alone = picker.below(2) == 0
        sentences = _SENTENCE_END.split(text)
        if len(sentences) > 1 and picker.below(2) == 0:
            text = " ".join(sentences[1:] if picker.below(2) == 0 else sentences[:2])
        return _laid_out(text, picker, texts, is_alone)
    return _laid_out(filled(text, picker, texts, slot) if form == "template" else text, picker, texts, is_alone=True)


def filled(template: str, picker: Picker, texts: Sequence[str], slot: re.Pattern[str]) -> str:
    """Put texts into the slots of a template."""

    def value(match: re.Match[str]) -> str:
        if any(word in match[0] for word in ("answer", "option", "choice", "label")):
            return picker.pick(("yes", "no", "A, B or C"))
        return picker.pick(texts)[:200]

    return slot.sub(value, template)


def _instruction(lists: Lists, line: str, kind: str, picker: Picker) -> str:
    slots = {**_COMMON, **lists}
    text = _expanded(line, slots, picker)
    if kind == "do":
        opening = picker.below(10)
        if opening < 3:
            text = text[:1].upper() + text[1:]
        elif opening < 5:
            polite = _expanded("<politely>", slots, picker) + text
            text = polite[:1].upper() + polite[1:]
        elif opening < 8:
            given = _expanded("<given>", slots, picker)
            ask = picker.pick(("Your task is to ", "You need to ", "Your job is to ", "", "", "", "Please "))
            text = re.sub(r"(^|[.:] )([a-z])", lambda match: match[1] + match[2].upper(), given + ask + text)
        elif opening < 9:
            text = "The task is to " + text
        text += picker.pick((".", ".", ".", "", ":"))
    if lists["tail"] and picker.below(100) < (40 if kind == "do" else 20):
        text = text.rstrip(":") + picker.pick((" ", " ", "\n")) + _expanded(picker.pick(lists["tail"]), slots, picker)
    return text


def _expanded(pattern: str, slots: Lists, picker: Picker) -> str:
    while True:
        if choice := _CHOICE.search(pattern):
            value = picker.pick(choice[1].split("|"))
            pattern = pattern[: choice.start()] + value + pattern[choice.end() :]
        elif slot := next((match for match in _SLOT.finditer(pattern) if match[1] in slots), None):
            pattern = pattern[: slot.start()] + picker.pick(slots[slot[1]]) + pattern[slot.end() :]
        else:
            return pattern


def _laid_out(instruction: str, picker: Picker, texts: Sequence[str], is_alone: bool) -> str:
    layout = picker.pick(_LAYOUTS["alone" if is_alone else "with text"])
    values = {"{i}": instruction, "{t}": picker.pick(texts), "{t2}": picker.pick(texts)}
    return re.sub(r"\{(?:i|t|t2)\}", lambda match: values[match[0]], layout)
