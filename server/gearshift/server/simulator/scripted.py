"""Answers that somebody recorded, in place of those that a plan makes up.

Rules: pure. A script is asked once for each request, by the provider's name and what is asked; where it has nothing, the
plan answers. A recorded text is what it is: no draw against the quality, no log-probabilities, since none were recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from gearshift.server.simulator.answers import Answer, Token, wrapped_label
from gearshift.server.simulator.ask import Ask
from gearshift.server.simulator.plan import AnswerPlan, LatencyPlan
from gearshift.server.simulator.tokens import tokens_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """What one request is answered with.

    Args:
        text: the whole answer; None makes one up, by `rule`.
        right: whether that text is right, for the account.
        rule: the one rule that counts for a text that is made up; None is the plan's.
        input_tokens: of the prompt; None counts its characters.
        output_tokens: that it is billed as, from 1: the text is cut into so many, and what it lacks was thought, not written;
            None cuts it as any other text.
        latency: None is the model's.
    """

    text: str | None = None
    right: bool = True
    rule: AnswerPlan | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency: LatencyPlan | None = None


Script = Callable[[str, Ask], Scripted | None]
"""Gives what a provider (by its name) answers to a request; None leaves it to the plan."""


def recorded_answer(scripted: Scripted, ask: Ask) -> Answer | None:
    """Give a recorded text as an answer, in the form that is asked for; None when it is to be made up."""
    if scripted.text is None:
        return None
    text = wrapped_label(scripted.text, ask) if ask.labels else scripted.text
    pieces = tokens_of(text) if scripted.output_tokens is None else _cut(text, scripted.output_tokens)
    return Answer(tokens=tuple(Token(piece, 0.0, 0.0) for piece in pieces), right=scripted.right)


def _cut(text: str, pieces: int) -> list[str]:
    """Cut a text into so many pieces of nearly the same length; what it has no characters for is empty and comes first."""
    count = min(max(1, pieces), len(text))
    ends = [len(text) * number // count for number in range(count + 1)] if count else []
    return [""] * (max(1, pieces) - count) + [text[start:end] for start, end in pairwise(ends)]
