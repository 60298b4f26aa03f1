"""What the simulated providers answer: what was recorded, by the prompt.

Rules: a call is known by its prompt, which reaches a provider as the caller wrote it; two calls with one prompt have one
answer, the first's. What was not recorded is made up: of the length that the trace says, and right as often as the plan says
where the trace knows the right answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from gearshift.server.replay.names import Names
from gearshift.server.replay.trace import Call, Recorded
from gearshift.server.simulator.ask import Ask
from gearshift.server.simulator.draws import Draws
from gearshift.server.simulator.plan import AnswerPlan, LatencyPlan
from gearshift.server.simulator.prose import english
from gearshift.server.simulator.scripted import Scripted
from gearshift.server.simulator.tokens import PROMPT_OVERHEAD, tokens_of

_CHARACTERS = 4
"""Of a token of a prompt that is made up."""
_PROSE_WORDS = 4000


class Recordings:
    """A script of the simulator.

    Args:
        calls: of the workload, their prompts made (`with_prompts`).
        providers: their names in the configuration, by those in the simulator.
    """

    def __init__(self, calls: Sequence[Call], names: Names, providers: Mapping[str, str]) -> None:
        self._names = names
        self._providers = providers
        self._calls: dict[str, Call] = {}
        self.strange = 0
        """Requests whose prompt is none of the workload's."""
        self.recorded = 0
        """Requests that were answered with a recorded text."""
        for call in calls:
            self._calls.setdefault(call.prompt, call)

    def __call__(self, provider: str, ask: Ask) -> Scripted | None:
        """Give what a request is answered with."""
        call = next((self._calls[text] for text in ask.texts if text in self._calls), None)
        if call is None:
            self.strange += 1
            return None
        found = self._names.of_wire(call, self._providers[provider], ask.model) or _UNKNOWN
        if found.text is not None:
            self.recorded += 1
        tokens = found.output_tokens if found.output_tokens is not None else call.output_tokens
        text, rule = found.text, None
        if text is None and call.expected is not None:
            rule = _expected(call)
        elif text is None and tokens and not (ask.labels or ask.json or ask.schema is not None):
            text = english(tokens, Draws("replay", call.prompt))
        return Scripted(
            text=text,
            right=bool(found.correct) if found.correct is not None else True,
            rule=rule,
            input_tokens=found.input_tokens if found.input_tokens is not None else call.input_tokens,
            output_tokens=tokens if text is not None and (found.text is None or found.output_tokens) else None,
            latency=_latency(found, text, tokens),
        )


_UNKNOWN = Recorded()


def with_prompts(calls: Sequence[Call]) -> list[Call]:
    """Give calls with prompts of the length that they say, where they have none; each is another."""
    from msgspec.structs import replace

    return [
        call if call.prompt else replace(call, prompt=made_prompt(number, call.input_tokens or 1))
        for number, call in enumerate(calls, 1)
    ]


def made_prompt(number: int, tokens: int) -> str:
    """Give a prompt of about so many tokens that no other number has."""
    head = f"Request {number}: go on with these notes. "
    length = max(0, _CHARACTERS * (tokens - PROMPT_OVERHEAD) - len(head))
    prose = _prose()
    return (head + prose * (length // len(prose)) + prose[: length % len(prose)]).rstrip()


@lru_cache(maxsize=1)
def _prose() -> str:
    return english(_PROSE_WORDS, Draws("replay", "notes")) + " "


def _expected(call: Call) -> AnswerPlan:
    if isinstance(call.expected, str):
        return AnswerPlan(label=call.expected) if call.labels else AnswerPlan(text=call.expected)
    return AnswerPlan(json=call.expected)


def _latency(found: Recorded, text: str | None, tokens: int | None) -> LatencyPlan | None:
    """Give the latency that was recorded; what lies between the first token and the end is spread over the others."""
    if found.latency_ms is None and found.first_token_ms is None:
        return None
    whole = found.latency_ms if found.latency_ms is not None else found.first_token_ms or 0.0
    first = min(whole, found.first_token_ms if found.first_token_ms is not None else whole)
    count = tokens if tokens else len(tokens_of(text or ""))
    if count < 2:
        return LatencyPlan(first_token_ms=whole)
    return LatencyPlan(first_token_ms=first, token_ms=(whole - first) / (count - 1))
