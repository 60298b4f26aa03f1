"""One simulated provider: which request gets which answer and which fault.

Rules: what happens to a request is decided before its answer begins, from the seed, the provider, the model and what is
asked (or the header `x-simulate-key`), counted by how many times that came: never from the order in which tasks happen
to run, except where a plan asks for ordinals.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from gearshift.core.catalogue.money import usd_text
from gearshift.server.simulator.account import Account, Entry
from gearshift.server.simulator.answers import Answer, answer_to, limited, spoilt
from gearshift.server.simulator.ask import Ask
from gearshift.server.simulator.connection import Connection, Received
from gearshift.server.simulator.draws import Draws
from gearshift.server.simulator.faults import Fault, FaultKind, Form, fault
from gearshift.server.simulator.fields import BadRequestError
from gearshift.server.simulator.plan import AnswerPlan, FaultPlan, ModelPlan, ProviderPlan, faults_of, model_of
from gearshift.server.simulator.play import Play, Stage
from gearshift.server.simulator.scripted import Script, Scripted, recorded_answer
from gearshift.server.simulator.tokens import prompt_tokens
from gearshift.server.simulator.vectors import MOST_DIMENSIONS, vector_of
from gearshift.server.simulator.wire import Reply, Route, UsageStyle, Wire
from gearshift.server.simulator.wire_anthropic import AnthropicWire
from gearshift.server.simulator.wire_ollama import OllamaWire
from gearshift.server.simulator.wire_openai import OpenAiWire, VoyageWire

FAULT_HEADER = "x-simulate-fault"
"""The fault of one request, such as `cut@7`; `none` lets it be."""
KEY_HEADER = "x-simulate-key"
"""What draws go by instead of what is asked, such as a run's number."""

_WIRES: Mapping[str, Callable[[], Wire]] = {
    "openai": OpenAiWire,
    "anthropic": AnthropicWire,
    "ollama": OllamaWire,
    "voyage": VoyageWire,
}
_MOST_KEYS = 100_000
_CACHING = frozenset({"openai", "anthropic"})
"""Wire formats that tell how much of the input a cache had."""
_CREATED = 1_767_225_600
"""When answers say they were made: always the same time, so that equal answers have equal bytes."""


class Books:
    """What all providers of a simulator share.

    Args:
        answers: the plan's rules.
        draws: of the plan's seed.
        log: called with a line for each request that has ended.
        script: asked for recorded answers first.
    """

    def __init__(
        self,
        answers: Sequence[AnswerPlan],
        draws: Draws,
        log: Callable[[str], object] | None,
        script: Script | None = None,
    ) -> None:
        self.account = Account()
        self.answers = answers
        self.script = script
        self.draws = draws
        self.playing = 0
        """Replies that are under way."""
        self._log = log
        self._numbers = count(1)

    def next_id(self) -> str:
        """Give the id of the next request."""
        return f"sim-{next(self._numbers):06d}"

    @contextmanager
    def booked(self, play: Play, entry: Entry) -> Generator[None]:
        """Book a reply when it has ended, however it did."""
        self.playing += 1
        try:
            yield
        finally:
            self.playing -= 1
            play.settle()
            self.account.add(entry)
            if self._log is not None:
                self._log(_line(entry))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """What is decided about a request."""

    key: str
    repeat: int
    draws: Draws
    fault: Fault | None


class SimulatedProvider:
    """A provider and what it remembers."""

    def __init__(self, name: str, plan: ProviderPlan, books: Books) -> None:
        self.name = name
        self.plan = plan
        self.wire = _WIRES[plan.wire]()
        self._books = books
        self._faults = faults_of(plan)
        self._requests = 0
        self._repeats: OrderedDict[str, int] = OrderedDict()

    async def handle(self, connection: Connection, received: Received, path: str) -> bool:
        """Answer a request; gives whether the connection goes on. `path` is within the provider."""
        wire = self.wire
        route = wire.route(received.method, path)
        if route is None:
            body = wire.refused(404, f"the simulated {wire.name} provider has no {received.method} {path}")
            return await connection.say(404, body, keep_alive=received.keep_alive)
        try:
            if route in (Route.CHAT, Route.EMBED):
                return await self._answer(connection, received, wire.read(route, received.body))
            ask = wire.read(route, received.body) if route is Route.COUNT else None
        except BadRequestError as error:
            return await connection.say(400, wire.refused(400, str(error)), keep_alive=received.keep_alive)
        body = wire.about(route, tuple(self.plan.models), path, ask)
        return await connection.say(200, body, keep_alive=received.keep_alive)

    async def _answer(self, connection: Connection, received: Received, ask: Ask) -> bool:
        plan, wire = self.plan, self.wire
        model = model_of(plan, ask.model)
        if model is None:
            body = wire.refused(404, f"The model `{ask.model}` does not exist.")
            return await connection.say(404, body, keep_alive=received.keep_alive)
        chosen = self._choose(received, ask)
        structured = bool(ask.labels or ask.json or ask.schema is not None)
        applied = (
            chosen.fault if chosen.fault and chosen.fault.applies(wire.name, ask.form, structured=structured) else None
        )
        script = self._books.script
        scripted = None if script is None else script(self.name, ask)
        input_tokens = prompt_tokens(ask.characters, plan.characters_per_token)
        if scripted is not None and scripted.input_tokens is not None:
            input_tokens = scripted.input_tokens
        counted = plan.usage != "none" and (applied is None or applied.kind is not FaultKind.NO_USAGE)
        answer = Answer(tokens=())
        if ask.form is not Form.EMBED:
            answer = self._made(ask, model, received, chosen, applied, scripted)
        cached = int(input_tokens * plan.cached) if wire.name in _CACHING and ask.form is not Form.EMBED else 0
        entry = Entry(
            id=self._books.next_id(),
            provider=self.name,
            wire=wire.name,
            model=ask.model,
            form=ask.form.value,
            key=chosen.key,
            repeat=chosen.repeat,
            fault=str(chosen.fault or ""),
            applied=applied is not None,
            tokens=len(answer.tokens),
            right=answer.right,
            usage_told=counted,
            cached_tokens=cached,
        )
        play = Play(
            Stage(
                connection=connection,
                wire=wire,
                entry=entry,
                fault=applied,
                latency=(scripted and scripted.latency) or model.latency or plan.latency,
                rates=model.prices.rates,
                draws=chosen.draws,
                tokens_per_frame=plan.tokens_per_frame,
                write_bytes=plan.write_bytes,
                keep_alive=received.keep_alive,
            )
        )
        with self._books.booked(play, entry):
            if ask.form is Form.EMBED:
                length = min(ask.dimensions or model.dimensions, MOST_DIMENSIONS)
                vectors = [vector_of(text, length) for text in ask.texts]
                return await play.vectors(wire.vectors(ask, vectors, input_tokens if counted else None), input_tokens)
            reply = Reply(
                ask=ask,
                answer=answer,
                input_tokens=input_tokens,
                usage=UsageStyle(plan.usage) if counted else UsageStyle.NONE,
                logprobs=plan.logprobs and ask.logprobs and (scripted is None or scripted.text is None),
                draws=chosen.draws.of("id"),
                created=_CREATED,
                cached_tokens=entry.cached_tokens,
            )
            return await (play.stream(reply) if ask.form is Form.STREAM else play.whole(reply))

    def _made(
        self,
        ask: Ask,
        model: ModelPlan,
        received: Received,
        chosen: _Chosen,
        applied: Fault | None,
        scripted: Scripted | None,
    ) -> Answer:
        """Make the answer up, or give the recorded one.

        Raises:
            BadRequestError: its schema holds something where it has no meaning.
        """
        quality = self.plan.quality if model.quality is None else model.quality
        rules, headers = self._books.answers, received.headers
        recorded = None
        if scripted is not None:
            recorded = recorded_answer(scripted, ask)
            rules = rules if scripted.rule is None else (scripted.rule,)
        try:
            if recorded is not None:
                answer = limited(recorded, ask)
            else:
                answer = answer_to(ask, rules, provider=self.name, headers=headers, quality=quality, draws=chosen.draws)
            return answer if applied is None else limited(spoilt(answer, applied, ask, chosen.draws), ask)
        except (TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError, RecursionError) as error:
            # A schema may hold anything in any place, and is the only thing here that a client shapes.
            raise BadRequestError(f"no answer can be made up for this schema ({type(error).__name__})") from error

    def _choose(self, received: Received, ask: Ask) -> _Chosen:
        """Decide about a request, and count it.

        Raises:
            BadRequestError: its header names no fault.
        """
        asked = Draws(ask.model, ask.form is Form.EMBED, ask.system, *ask.texts, ask.prefill)
        key = received.headers.get(KEY_HEADER) or asked.hex(16)
        named = received.headers.get(FAULT_HEADER, "").strip()
        wished = _wished(named)
        self._requests += 1
        repeat = self._repeats.pop(key, 0) + 1
        self._repeats[key] = repeat
        if len(self._repeats) > _MOST_KEYS:
            self._repeats.popitem(last=False)
        draws = self._books.draws.of(self.name, ask.model, key, repeat)
        # 1. What the request asks for; 2. the plan's first rule that holds and whose draw hits.
        found = wished if named else self._drawn(ask, repeat, draws)
        if found is not None:
            found = found.placed(draws)
        return _Chosen(key=key, repeat=repeat, draws=draws, fault=found)

    def _drawn(self, ask: Ask, repeat: int, draws: Draws) -> Fault | None:
        for number, (rule, each) in enumerate(self._faults):
            if _holds(rule, ask, self._requests, repeat) and draws.share("fault", number) < rule.probability:
                return each
        return None


def _wished(named: str) -> Fault | None:
    """Read the header that names a fault.

    Raises:
        BadRequestError: there is no such fault, or not for a request.
    """
    if named in ("", "none"):
        return None
    try:
        wished = fault(named)
    except ValueError as error:
        raise BadRequestError(f"{FAULT_HEADER}: {error}") from error
    if wished.kind is FaultKind.REFUSED:
        raise BadRequestError(
            f"{FAULT_HEADER}: a connection that stands can no longer be refused; see `down` in the plan"
        )
    return wished


def _holds(rule: FaultPlan, ask: Ask, ordinal: int, repeat: int) -> bool:
    return (
        rule.model in ("", ask.model)
        and rule.only in ("", ask.form.value)
        and (not rule.requests or ordinal in rule.requests)
        and (not rule.repeats or repeat in rule.repeats)
        and (not rule.contains or rule.contains in ask.prompt)
    )


def _line(entry: Entry) -> str:
    """Tell of a request in a line."""
    named = f" {entry.fault}{'' if entry.applied else ' (does not apply)'}" if entry.fault else ""
    left = f" after {entry.left_after_ms:.0f} ms" if entry.left_after_ms is not None else ""
    tokens = f"{entry.output_tokens} of {entry.tokens} tokens, " if entry.tokens else ""
    return (
        f"{entry.id} {entry.provider}/{entry.model} {entry.form}{named}: {entry.status or 'no status'}, "
        f"{tokens}{entry.end}{left}, {usd_text(entry.billed_usd)} USD"
    )
