"""Words for answers that no plan spells out.

Rules: the same draws give the same words; English sentences unless another language is asked for; no sentence follows
itself, so that nothing looks like a loop that is none.
"""

from __future__ import annotations

from gearshift.server.simulator.draws import Draws

_ADJECTIVES = ("small", "steady", "old", "heavy", "quiet", "bright", "worn", "careful", "simple", "second", "hidden")
_NOUNS = ("gear", "wheel", "shaft", "engine", "driver", "road", "bearing", "clutch", "chain", "lever", "workshop")
_VERBS = ("turns", "moves", "carries", "meets", "follows", "slows", "drives", "holds", "changes", "protects")
_ENDS = (
    "without any noise",
    "when the load grows",
    "before the next hill",
    "with very little oil",
    "for as long as it runs",
    "and the speed stays the same",
    "because the teeth fit well",
    "after a short pause",
    "at every turn of the day",
)
_DOUBTS = (
    "I think that this might be right, but I am not sure.",
    "Perhaps the answer is something else; it is hard to say.",
    "It could be so, although I may well be wrong here.",
    "Maybe somebody who knows more should check this.",
)
_FOREIGN = {
    "de": (
        "das kleine Rad dreht sich langsam und die Welle folgt ihm",
        "der Motor läuft ruhig, weil die Zähne gut passen",
        "niemand hört das Getriebe, wenn genug Öl darin ist",
        "nach einer kurzen Pause geht es auf der Straße weiter",
        "jeder Gang hat seine eigene Aufgabe und seine Grenze",
    ),
    "ru": (
        "маленькое колесо медленно вращается вместе с валом",
        "двигатель работает тихо, потому что зубья хорошо подходят",
        "никто не слышит передачу, если масла достаточно",
        "после короткой паузы дорога снова идёт вверх",
        "у каждой передачи есть своя задача и свой предел",
    ),
}
REFUSAL = " I'm sorry, but I can't help with that request."


def english(words: int, draws: Draws) -> str:
    """Give about so many words, at least one sentence; the last sentence is whole."""
    said: list[str] = []
    count = number = 0
    last = -1
    while count < max(1, words):
        at = draws.number(len(_NOUNS) * len(_VERBS), "pair", number)
        if at == last:
            at = (at + 1) % (len(_NOUNS) * len(_VERBS))
        last = at
        subject, verb = _NOUNS[at % len(_NOUNS)], _VERBS[at // len(_NOUNS)]
        object_ = draws.one_of([noun for noun in _NOUNS if noun != subject], "object", number)
        first, second = (draws.one_of(_ADJECTIVES, part, number) for part in ("first", "second"))
        said.append(f"The {first} {subject} {verb} the {second} {object_} {draws.one_of(_ENDS, 'end', number)}.")
        count += len(said[-1].split())
        number += 1
    return " ".join(said)


def doubtful(draws: Draws) -> str:
    """Give a text that is full of doubt."""
    first = draws.number(len(_DOUBTS), "doubt")
    return " ".join(_DOUBTS[(first + each) % len(_DOUBTS)] for each in range(3))


def foreign(language: str, sentences: int, draws: Draws) -> str:
    """Give sentences in `de` or `ru`."""
    choices = _FOREIGN[language]
    first = draws.number(len(choices), "foreign")
    said = (choices[(first + each) % len(choices)] for each in range(sentences))
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in said)
