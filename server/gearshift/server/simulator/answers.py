"""What a simulated model answers, and what faults make of it.

Rules: pure. The first rule of the plan that fits decides; without one, a label is the one that the question names (else
one drawn from the question), JSON is a document that fits the schema, and anything else is English drawn from the
question. Whether the answer is right is drawn against the quality. Log-probabilities tell the two apart, but not always.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from gearshift.server.simulator.ask import Ask
from gearshift.server.simulator.documents import as_text, broken_text, document_for
from gearshift.server.simulator.draws import Draws
from gearshift.server.simulator.faults import Fault, FaultKind
from gearshift.server.simulator.fields import mapping
from gearshift.server.simulator.plan import AnswerPlan
from gearshift.server.simulator.prose import REFUSAL, doubtful, english, foreign
from gearshift.server.simulator.tokens import tokens_of

_WORDS = 60
_LOOPED = 6
"""Tokens of one turn of a loop."""
_NO_LABEL = "none-of-these"


class Finish(Enum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    FILTER = "filter"


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its text, its natural log-probability, and that of the likeliest other one."""

    text: str
    logprob: float
    runner_up: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer, before it is written; `right` says how the draw against the quality fell."""

    tokens: tuple[Token, ...]
    finish: Finish = Finish.STOP
    right: bool = True

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(token.text for token in self.tokens)


def answer_to(
    ask: Ask, rules: Iterable[AnswerPlan], *, provider: str, headers: Mapping[str, str], quality: float, draws: Draws
) -> Answer:
    """Give the answer to a request.

    Args:
        headers: of the request, names in lower case.
        draws: of this request at this provider and model.
    """
    rule = next((rule for rule in rules if _fits(rule, ask, provider, headers)), AnswerPlan())
    right = draws.share("quality") < quality
    # What is right does not depend on who answers.
    words = Draws("answer", ask.prompt)
    if ask.labels:
        text = _label(ask, rule, right, words, draws)
    elif ask.json or ask.schema is not None:
        text = _document(ask, rule, right, words)
    elif not right:
        text = rule.poor or doubtful(words)
    elif rule.text:
        text = rule.text
    elif rule.json is not None:
        text = as_text(rule.json)
    else:
        text = english(rule.words or _WORDS, words)
    text = _continued(text, ask.prefill)
    return limited(Answer(tokens=scored(text, right, draws), right=right), ask)


def spoilt(answer: Answer, fault: Fault, ask: Ask, draws: Draws) -> Answer:
    """Give the answer that a fault of the model makes of it; other faults change nothing."""
    at = fault.position(len(answer.tokens))
    kept = answer.tokens[:at]
    text = "".join(token.text for token in kept)
    match fault.kind:
        case FaultKind.BAD_JSON if ask.labels:
            wrong = wrapped_label(_NO_LABEL, ask)
            return replace(answer, tokens=scored(wrong, answer.right, draws), right=False)
        case FaultKind.BAD_JSON if ask.json or ask.schema is not None:
            schema = ask.schema if ask.schema is not None else {"type": "object"}
            broken = broken_text(answer.text, schema, len(text))
            return replace(answer, tokens=scored(broken, answer.right, draws), right=False)
        case FaultKind.LOOP:
            turn = kept[-_LOOPED:] or scored("the same again", True, draws)
            if turn[0].text[:1].isalnum():
                turn = (replace(turn[0], text=f" {turn[0].text}"), *turn[1:])
            looped = tuple(turn[number % len(turn)] for number in range(int(fault.value)))
            return Answer(tokens=kept + looped, finish=Finish.LENGTH, right=False)
        case FaultKind.REFUSAL:
            said = REFUSAL if kept else REFUSAL.lstrip()
            return Answer(tokens=kept + scored(said, True, draws), right=False)
        case FaultKind.FILTERED:
            return Answer(tokens=kept, finish=Finish.FILTER, right=False)
        case FaultKind.LANGUAGE:
            said = foreign(fault.value, 4, draws)
            return Answer(tokens=kept + scored(f" {said}" if kept else said, True, draws), right=False)
        case FaultKind.UNSURE:
            low = scored("".join(token.text for token in answer.tokens[at:]), False, draws)
            return replace(answer, tokens=kept + low)
        case _:
            return answer


def limited(answer: Answer, ask: Ask) -> Answer:
    """Give the answer up to the limit that was asked, or before a stop sequence."""
    ends = [at for stop in ask.stops if stop and (at := answer.text.find(stop)) >= 0]
    if ends:
        kept = answer.text[: min(ends)]
        answer = replace(answer, tokens=tuple(_up_to(answer.tokens, len(kept))))
    if ask.max_tokens is None or len(answer.tokens) <= ask.max_tokens:
        return answer
    return replace(answer, tokens=answer.tokens[: ask.max_tokens], finish=Finish.LENGTH)


def scored(text: str, sure: bool, draws: Draws) -> tuple[Token, ...]:
    """Cut a text into tokens with log-probabilities: near 0 when sure, else about -1 with a rival as likely."""
    made: list[Token] = []
    # One generator for all tokens: a draw of its own for each would cost more than all the rest.
    generator = random.Random(draws.of("logprobs").hex(16))
    for token in tokens_of(text):
        drawn = generator.random()
        chance = 0.999 - 0.06 * drawn if sure else 0.55 - 0.3 * drawn
        rival = (1 - chance) * (0.5 if sure else 0.9)
        made.append(Token(token, round(math.log(chance), 4), round(math.log(rival), 4)))
    return tuple(made)


def _fits(rule: AnswerPlan, ask: Ask, provider: str, headers: Mapping[str, str]) -> bool:
    if rule.provider not in ("", provider) or rule.model not in ("", ask.model) or rule.contains not in ask.prompt:
        return False
    if not rule.header:
        return True
    name, _, value = rule.header.partition(":")
    given = headers.get(name.strip().lower())
    return given is not None and value.strip() in ("", given)


def _label(ask: Ask, rule: AnswerPlan, right: bool, words: Draws, draws: Draws) -> str:
    wanted = rule.label or rule.text
    if wanted not in ask.labels:
        question = ask.question.lower()
        named = [label for label in ask.labels if label.lower() in question]
        wanted = named[0] if named else words.one_of(ask.labels, "label")
    if not right:
        others = [label for label in ask.labels if label != wanted]
        wanted = draws.one_of(others, "wrong") if others else _NO_LABEL
    return wrapped_label(wanted, ask)


def wrapped_label(label: str, ask: Ask) -> str:
    """Give a label in the form that the schema asks for: an object, a JSON string, or bare."""
    schema = mapping(ask.schema)
    if schema is None:
        return label
    properties = mapping(schema.get("properties")) or {}
    return as_text({next(iter(properties)): label} if properties else label)


def _document(ask: Ask, rule: AnswerPlan, right: bool, words: Draws) -> str:
    schema = ask.schema if ask.schema is not None else {"type": "object", "properties": {"answer": {"type": "string"}}}
    if not right and rule.poor:
        return rule.poor
    text = rule.text
    if rule.json is not None or not text:
        text = as_text(rule.json if rule.json is not None else document_for(schema, words))
    return text if right else broken_text(text, schema, 0)


def _continued(text: str, prefill: str) -> str:
    """Give what is still to be written of an answer that begins with the prefill, or a whole one after another's."""
    if not prefill:
        return text
    if text.startswith(prefill):
        return text[len(prefill) :]
    return text if prefill[-1].isspace() else f" {text}"


def _up_to(tokens: tuple[Token, ...], characters: int) -> Iterable[Token]:
    for token in tokens:
        if characters <= 0:
            return
        yield replace(token, text=token.text[:characters])
        characters -= len(token.text)
