"""The product: sends every call to the cheapest model that can do it well.

Rules: one object for one configuration; it holds connections, limits, breakers and caches, and is closed by `aclose`. It
needs no gRPC. Layers, outermost first: repeats of a request id, validate and resolve (prepare.py), where a task has one
the response cache (cache/layer.py), the chain (chain.py), leave to call (admission.py), the provider's adapter (providers/).
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import anyio
from msgspec import structs

from gearshift.core.admission import Admission
from gearshift.core.answer import Answer, EmbedAnswer, SkippedStage
from gearshift.core.blueprint import Blueprint
from gearshift.core.cache.answers import AnswerCache
from gearshift.core.cache.keys import generation_of
from gearshift.core.cache.layer import CachedRunner, Running
from gearshift.core.cache.manage import Caches
from gearshift.core.cache.prompts import PromptsFirst, SharedPrompts
from gearshift.core.cache.store import CacheStores, MemoryStore
from gearshift.core.cache.vectors import VectorCache
from gearshift.core.call import PreparedCall
from gearshift.core.cascade import Record, does_not_pay
from gearshift.core.chain import ChainRunner
from gearshift.core.confidence import Gauge, measures_answers, shipped
from gearshift.core.embedding import Embedder
from gearshift.core.errors import DeadlineError, invalid
from gearshift.core.estimate import Estimator
from gearshift.core.events import Event
from gearshift.core.execute import CallOptions, execute_request
from gearshift.core.exhausted import Answering, Embedding, OnceMore, Streaming, exhausted_spending, goes_on
from gearshift.core.experience import Experience
from gearshift.core.flight import Flight, Flights, Horizon
from gearshift.core.fold import replayed
from gearshift.core.gates import Gate
from gearshift.core.merging import Merger
from gearshift.core.observer import Observer
from gearshift.core.plan import PlannedStage
from gearshift.core.prepare import COMPLETED_MARGIN_S, Preparer, call_ends_at
from gearshift.core.promptcache import PromptCache
from gearshift.core.provider import Provider
from gearshift.core.providers.registry import make_providers
from gearshift.core.repeats import Repeats
from gearshift.core.request import (
    EmbedRequest,
    Image,
    Request,
    Resolution,
    StreamPolicy,
    Text,
    ToolResult,
)
from gearshift.core.resolve import Classifier, declared_of
from gearshift.core.reuse import PrefixReuse
from gearshift.core.schema import SchemaCache
from gearshift.core.validation import check_prompt
from gearshift.core.weighing import Weighing
from gearshift.core.words import BreakerState, CheckpointPolicy, Sensitivity


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What would be decided for a call, without running it."""

    call: PreparedCall
    resolution: Resolution
    stages: tuple[PlannedStage, ...]
    skipped: tuple[SkippedStage, ...]
    breakers: Mapping[int, BreakerState]
    """By position in the chain."""
    checkpoints: CheckpointPolicy
    checkpoints_reason: str
    stream: StreamPolicy
    losses: Mapping[int, str]
    """By position: why a stage that is tried costs more than it saves; empty where that would leave it out."""
    weighing: Weighing | None = None
    """How a weighed order came about."""


class State:
    """What outlives a configuration: limits, breakers, what was learned, prompts. Pass it on when reloading.

    Args:
        admission: over limits that several processes share; unset keeps them in this process.
        stores: of caches that several processes share; unset keeps them in this process.

    """

    def __init__(
        self, blueprint: Blueprint, admission: Admission | None = None, stores: CacheStores | None = None
    ) -> None:
        caching = blueprint.config.caching
        self.admission = admission or Admission()
        self.estimator = Estimator()
        self.experience = Experience()
        self.gauge: Gauge | None = None
        """Made with the first configuration that measures answers, and kept with what it has learned."""
        self.reuse = PrefixReuse()
        self.prompts = PromptCache(blueprint.config.caching)
        self.schemas = SchemaCache()
        self.repeats: Repeats[Request, Answer] = Repeats(caching.request_window_s, _kept_bytes)
        self.embed_repeats: Repeats[EmbedRequest, EmbedAnswer] = Repeats(
            caching.request_window_s, _kept_bytes_of_vectors, field="request_id", most_bytes=_MOST_VECTOR_BYTES
        )
        self.flights = Flights()
        self.answers = AnswerCache(stores.answers if stores is not None else MemoryStore(caching.response_max_bytes))
        self.running: Running = {}
        self.leases = stores.leases if stores is not None else None
        self.vectors = VectorCache(
            stores.vectors if stores is not None else MemoryStore(caching.embedding_max_bytes),
            caching.embedding_ttl_minutes * 60,
            is_on=caching.embedding_max_bytes > 0,
        )
        shared = stores.prompts if stores is not None else None
        self.shared_prompts = SharedPrompts(self.prompts, shared, self.flights) if shared is not None else None
        """Where other processes know the prompts too."""
        self.caches = Caches(self.prompts, self.answers, self.vectors, self.shared_prompts)
        self.merger = Merger(self.flights, caching.embedding_merge_ms / 1000)


class Router:
    """Routes calls under one configuration. Tasks may share it.

    Calls that are shared (a request id of the caller's, a task with a cache) run in a task group: `async with` the router,
    or, where several routers follow each other, the `flights` of their state.

    Args:
        blueprint: what `config.build` made of a configuration.
        classifier: guesses the type of tasks that nobody declares; None leaves them `generate`.
        gates: own gates, asked besides the built-in ones.
        observers: told of every attempt and call.
        providers: adapters by provider name, in place of those that the configuration names.
        embedded: base URLs (`unix://…`) of running embedded models, by provider name.
        state: of the router that this one replaces; see `take_over`.
        admission: limits and breakers of a new state (opening.py); unset keeps them in this process.
        stores: of a new state's caches (opening.py); unset keeps them in this process.
        seed: makes chance (jitter, probes) repeatable.

    """

    def __init__(
        self,
        blueprint: Blueprint,
        *,
        classifier: Classifier | None = None,
        gates: Sequence[Gate] = (),
        observers: Sequence[Observer] = (),
        providers: Mapping[str, Provider] | None = None,
        embedded: Mapping[str, str] | None = None,
        state: State | None = None,
        admission: Admission | None = None,
        stores: CacheStores | None = None,
        seed: int | None = None,
    ) -> None:
        self.blueprint = blueprint
        self.state = state or State(blueprint, admission, stores)
        self._owns_state = state is None
        self._chance = random.Random(seed)
        self._owned = make_providers(blueprint, embedded or {}) if providers is None else None
        adapters = self._owned.adapters if self._owned is not None else providers or {}
        weighed = [chain for chain in blueprint.chains.values() if chain.is_weighed]
        experience = self.state.experience if weighed else None
        if experience is not None:
            experience.half_lives_s = {chain.name: chain.weights.half_life_h * 3600 for chain in weighed}
            observers = (*observers, experience)
        self._runner = ChainRunner(
            adapters,
            self.state.admission,
            self.state.estimator,
            self.state.reuse if blueprint.config.caching.provider_side else None,
            (*observers, *exhausted_spending(blueprint, self.state.admission)),
            blueprint.config.retry,
            self._chance,
        )
        if self.state.gauge is None and measures_answers(blueprint):
            self.state.gauge = Gauge(shipped())
        self._preparer = Preparer(
            blueprint,
            classifier,
            self.state.prompts,
            self.state.schemas,
            self.state.admission,
            self.state.estimator,
            gates,
            self._chance,
            experience,
            self.state.gauge,
            self.state.reuse if blueprint.config.caching.provider_side else None,
        )
        self._embedding: Embedding = Embedder(blueprint, self._runner, self.state.vectors, self.state.merger).embed
        self._answering: Answering = self._answer
        self._streaming: Streaming = self._stream
        if any(task.cache is not None for task in blueprint.tasks.values()):
            cached = CachedRunner(
                self._preparer,
                self._runner,
                self.state.answers,
                self.state.flights,
                self.state.running,
                self.state.leases,
            )
            self._answering, self._streaming = cached.answer, cached.stream
        if goes_on(blueprint):
            again = OnceMore(blueprint, self._answering, self._streaming, self._embedding)
            self._answering, self._streaming, self._embedding = again.answer, again.stream, again.embed
        if self.state.shared_prompts is not None:
            known = PromptsFirst(self.state.shared_prompts, self._answering, self._streaming)
            self._answering, self._streaming = known.answer, known.stream

    def take_over(self) -> None:
        """Forget what only calls under the replaced router's configuration could still find. Call it when this one is in force."""
        self.state.answers.store.retire(_generations(self.blueprint))
        self.state.vectors.store.retire({chain.revision for chain in self.blueprint.chains.values()})

    async def execute(self, task: str, prompt: str, context: CallOptions | None = None) -> Answer:
        """Send one prompt to the cheapest model that can do it well: `Client.execute` without a server.

        Args:
            task: a task type ("classify", "extract", "generate", "reason"), or the id of a declared task.
            prompt: what the user says.
            context: anything that CallOptions names, such as `{"labels": ["bug", "praise"]}`; "task" in it names the id
                that cost is attributed to when `task` is a type, which otherwise stands for it. A repeat of its
                "request_id" joins the running call or gives the same answer.

        Raises:
            InvalidRequestError: a name in the context is unknown, or a value is wrong; names each.
            RouteError: there is no answer; see errors.py.

        """
        request = execute_request(task, prompt, context, request_id=new_request_id())
        return await self.route(request, joinable=bool((context or {}).get("request_id")))

    async def route(self, request: Request, *, joinable: bool = False, ends_by: float | None = None) -> Answer:
        """Answer one call whole.

        Args:
            request: its `stream` is ignored.
            joinable: the caller chose the request id, so that a repeat joins or returns the same answer.
            ends_by: the caller's deadline, seconds, monotonic, of who keeps it otherwise than by an enclosing scope,
                which is asked when this is None.

        Raises:
            RouteError: there is no answer; see errors.py.

        """
        if request.stream is not None:
            request = structs.replace(request, stream=None)
        if not joinable:
            return await self._answering(request, ends_by)
        until, ends_by = self._until(ends_by)

        async def work(flight: Flight[Answer]) -> Answer:
            return await self._answering(request, ends_by, flight.horizon)

        flight = self._shared(request, until, work)
        flight.join(until)
        try:
            return await flight.wait(until)
        finally:
            flight.leave()

    def stream(
        self, request: Request, *, joinable: bool = False, ends_by: float | None = None
    ) -> AsyncGenerator[list[Event]]:
        """Answer one call as the model writes it: the events of one upstream read at a time.

        Args:
            request: without a `stream`, the default one is taken.
            joinable / ends_by: as in `route`.

        Raises:
            RouteError: there is no answer; once `Started` was given, only after `Completed`.
        """
        if request.stream is None:
            request = structs.replace(request, stream=StreamPolicy())
        return self._joined(request, ends_by) if joinable else self._streaming(request, ends_by)

    async def embed(
        self, request: EmbedRequest, *, joinable: bool = False, ends_by: float | None = None
    ) -> EmbedAnswer:
        """Turn texts into vectors; `joinable` and `ends_by` as in `route`.

        Raises:
            RouteError: there are none; see errors.py.

        """
        if not joinable:
            return await self._embedding(request, ends_by)
        until, ends_by = self._until(ends_by)

        async def work(flight: Flight[EmbedAnswer]) -> EmbedAnswer:
            tried_until, deadline = until.ends_at, ends_by
            while True:
                try:
                    return await self._embedding(request, deadline)
                except DeadlineError:
                    if flight.horizon.ends_at <= tried_until:
                        raise
                # Somebody with a later deadline has come to wait for it too.
                tried_until = flight.horizon.ends_at
                deadline = tried_until + COMPLETED_MARGIN_S

        flight = self.state.embed_repeats.flight(
            request.tenant,
            request.request_id,
            request,
            time.monotonic(),
            lambda ended: self.state.flights.launch(work, until.ends_at, ended),
        )
        flight.join(until)
        try:
            return await flight.wait(until)
        finally:
            flight.leave()

    def explain(self, request: Request) -> Explanation:
        """Say what would be decided, without running it.

        Raises:
            RouteError: the call would be refused.

        """
        call = self._preparer.prepare(request, explains=True)
        now = time.monotonic()
        checkpoints, reason = call.checkpoints()
        return Explanation(
            call=call,
            resolution=call.resolved.resolution,
            stages=call.plan.stages,
            skipped=call.plan.skipped,
            losses={}
            if call.resolved.chain.is_weighed
            else does_not_pay([(each.stage, self._record_of(each)) for each in call.plan.stages], datetime.now(UTC)),
            weighing=call.plan.weighing,
            breakers={
                stage.ref.position: self.state.admission.state_of(stage, now).breaker.state
                for stage in call.resolved.chain.stages
            },
            checkpoints=checkpoints,
            checkpoints_reason=reason,
            stream=call.stream,
        )

    def _record_of(self, planned: PlannedStage) -> Record:
        """Give what a try is expected to cost, and what became of the model's tries since the start, of all chains and tasks."""
        stage, cost = planned.stage, planned.expected_cost
        figures = [
            guard.figures
            for guard in self.state.admission.guards()
            if (guard.provider, guard.model) == (stage.provider.name, stage.model.id)
        ]
        accepted = sum(each.accepted for each in figures)
        return Record(
            cost=None if cost is None else float(cost),
            accepted=accepted,
            tried=accepted + sum(each.poor + each.failures for each in figures),
        )

    def put_prompt(self, tenant: str, task_id: str, text: str, *, static: bool = False) -> str:
        """Store a static system prompt; give its key.

        Raises:
            InvalidRequestError: it is too short to be worth keeping, its task keeps sending values in its text, or what
                task and tenant say makes every call with it restricted, of which nothing is kept.
            UnknownTaskError: the task is not declared and `tasks.strict` is set.
            ForbiddenError: the tenant may not use the task.

        """
        check_prompt(task_id, text)
        declared, owner = declared_of(task_id, tenant, self.blueprint)
        minimum = self.blueprint.config.caching.min_prompt_length
        if len(text) <= minimum:
            raise invalid("text", f"has {len(text)} characters; only prompts longer than {minimum} are kept")
        if Sensitivity.RESTRICTED in (
            declared.sensitivity if declared is not None else None,
            Sensitivity.from_word(owner.sensitivity_floor),
        ):
            raise invalid(
                "task_id", f"calls of {task_id} are restricted, nothing of them is kept: send the text with each"
            )
        key, note = self.state.prompts.keep(
            tenant,
            task_id,
            declared.definition_hash if declared is not None else task_id,
            text,
            static=static or (declared is not None and declared.static),
            now=time.monotonic(),
        )
        if not key:
            raise invalid("text", note or "is larger than the prompt cache")
        return key

    def delete_prompt(self, tenant: str, key: str) -> bool:
        """Forget a prompt that is stored in this process; answer whether it was there."""
        return self.state.prompts.delete(tenant, key)

    async def store_prompt(self, tenant: str, task_id: str, text: str, *, static: bool = False) -> str:
        """Store a static system prompt as `put_prompt` does, and wait until all processes that share know it.

        A shared store that is away is not waited for: they are told when it is back.
        """
        shared = self.state.shared_prompts
        if shared is None:
            return self.put_prompt(tenant, task_id, text, static=static)
        await shared.catch_up()
        key = self.put_prompt(tenant, task_id, text, static=static)
        await shared.tell(key)
        return key

    async def find_prompt(self, request: Request) -> None:
        """Look for the prompt that a request names by its key, where other processes may know it; for `explain`."""
        shared, system = self.state.shared_prompts, request.system
        if shared is not None and system is not None and system.key is not None:
            await shared.look_up(request.tenant, system.key)

    async def forget_prompt(self, tenant: str, key: str) -> bool:
        """Forget a stored prompt here and at all processes that share; answer whether it was there.

        Raises:
            CacheStoreError: the shared store is away, so that others may find it still.

        """
        was_here = self.delete_prompt(tenant, key)
        shared = self.state.shared_prompts
        return (shared is not None and await shared.remove(tenant, key)) or was_here

    async def aclose(self) -> None:
        """Close the connections; twice is fine. Calls that still run fail."""
        if self._owned is not None:
            await self._owned.aclose()

    async def __aenter__(self) -> Self:
        if self._owns_state:
            await self.state.flights.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            if self._owns_state:
                await self.state.flights.__aexit__(*exc)
        finally:
            await self.aclose()

    def _answer(self, request: Request, ends_by: float | None, horizon: Horizon | None = None) -> Awaitable[Answer]:
        call = self._preparer.prepare(request, ends_by)
        self._preparer.require_stage(call)
        return self._runner.answer(call, horizon)

    async def _joined(self, request: Request, ends_by: float | None) -> AsyncGenerator[list[Event]]:
        until, ends_by = self._until(ends_by)

        async def work(flight: Flight[Answer]) -> Answer:
            return await flight.write(self._streaming(request, ends_by, flight.horizon))

        flight = self._shared(request, until, work)
        flight.join(until)
        try:
            if flight.is_over:
                yield replayed(flight.outcome())
                return
            async with aclosing(flight.read(until)) as batches:
                async for batch in batches:
                    yield batch
        finally:
            flight.leave()

    def _shared(
        self, request: Request, until: Horizon, work: Callable[[Flight[Answer]], Awaitable[Answer]]
    ) -> Flight[Answer]:
        """Give the flight of a request id, begun if this is the first call with it."""
        flights = self.state.flights
        return self.state.repeats.flight(
            request.tenant,
            request.request_id,
            request,
            time.monotonic(),
            lambda ended: flights.launch(work, until.ends_at, ended),
        )

    def _until(self, ends_by: float | None) -> tuple[Horizon, float]:
        """Give until when a caller waits, and its deadline, which nobody can ask for in a flight's own task."""
        ends_by = anyio.current_effective_deadline() if ends_by is None else ends_by
        return Horizon(call_ends_at(time.monotonic(), self.blueprint.config.defaults.deadline_s, ends_by)), ends_by

    def _stream(
        self, request: Request, ends_by: float | None, horizon: Horizon | None = None
    ) -> AsyncGenerator[list[Event]]:
        call = self._preparer.prepare(request, ends_by)
        self._preparer.require_stage(call)
        return self._runner.stream(call, horizon)


def new_request_id() -> str:
    """Give an id that no other request has: 128 random bits, hex."""
    return f"{random.getrandbits(128):032x}"


def _kept_bytes(request: Request, answer: Answer) -> int | None:
    """Give roughly what a call and its answer take, bytes; None for restricted ones, of which nothing is kept."""
    if answer.resolution.sensitivity is Sensitivity.RESTRICTED:
        return None
    size = 4096 + len(answer.text)
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Text):
                size += len(part.text)
            elif isinstance(part, Image):
                size += len(part.data or b"")
            elif isinstance(part, ToolResult):
                size += len(part.content)
    if request.system is not None:
        size += len(request.system.text or "")
    return size


def _kept_bytes_of_vectors(request: EmbedRequest, answer: EmbedAnswer) -> int | None:
    """Give roughly what an embedding and its vectors take, bytes; None for restricted ones."""
    if answer.resolution.sensitivity is Sensitivity.RESTRICTED:
        return None
    return 4096 + sum(map(len, request.inputs)) + _NUMBER_BYTES * answer.dimensions * len(answer.embeddings)


_NUMBER_BYTES = 32
"""Of a float in a tuple."""
_MOST_VECTOR_BYTES = 32 * 1024 * 1024
"""Of embeddings that a repeated id would get again; what is asked for again without one is in the embedding cache."""


def _generations(blueprint: Blueprint) -> frozenset[str]:
    """Give the generations of cached answers that calls can still find."""
    return frozenset(
        generation_of(task.definition_hash, task.chain.revision)
        for task in blueprint.tasks.values()
        if task.cache is not None
    )
