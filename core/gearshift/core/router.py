"""The product: sends every call to the cheapest model that can do it well.

Rules: one object for one configuration; it holds connections, limits, breakers and caches, and is closed by `aclose`. It
needs no gRPC. Layers, outermost first: validate and resolve (prepare.py), repeats of a request id, the chain (chain.py),
leave to call (admission.py), the provider's adapter (providers/).
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Self

from msgspec import structs

from gearshift.core.admission import Admission
from gearshift.core.answer import Answer, EmbedAnswer, SkippedStage
from gearshift.core.blueprint import Blueprint
from gearshift.core.call import PreparedCall
from gearshift.core.chain import ChainRunner
from gearshift.core.embedding import Embedder
from gearshift.core.errors import RouteError, UnknownTaskError, invalid
from gearshift.core.estimate import Estimator
from gearshift.core.events import Completed, Delta, Event, Started, TextDelta, ToolCallFragment
from gearshift.core.execute import CallOptions, execute_request
from gearshift.core.fold import Fold
from gearshift.core.gates import Gate
from gearshift.core.observer import Observer
from gearshift.core.plan import PlannedStage
from gearshift.core.prepare import Preparer
from gearshift.core.promptcache import PromptCache
from gearshift.core.provider import Provider
from gearshift.core.providers.registry import make_providers
from gearshift.core.repeats import Repeats
from gearshift.core.request import (
    EmbedRequest,
    Request,
    Resolution,
    StreamPolicy,
)
from gearshift.core.resolve import Classifier
from gearshift.core.reuse import PrefixReuse
from gearshift.core.schema import SchemaCache
from gearshift.core.validation import check_prompt
from gearshift.core.words import BreakerState, CheckpointPolicy, Outcome


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


class State:
    """What outlives a configuration: limits, breakers, what was learned, prompts. Pass it on when reloading."""

    def __init__(self, blueprint: Blueprint) -> None:
        self.admission = Admission()
        self.estimator = Estimator()
        self.reuse = PrefixReuse()
        self.prompts = PromptCache(blueprint.config.caching)
        self.schemas = SchemaCache()
        self.repeats: Repeats[Request, Answer] = Repeats(blueprint.config.caching.request_window_s)


class Router:
    """Routes calls under one configuration. Tasks may share it.

    Args:
        blueprint: what `config.build` made of a configuration.
        classifier: guesses the type of tasks that nobody declares; None leaves them `generate`.
        gates: own gates, asked besides the built-in ones.
        observers: told of every attempt and call.
        providers: adapters by provider name, in place of those that the configuration names.
        embedded: base URLs (`unix://…`) of running embedded models, by provider name.
        state: of the router that this one replaces.
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
        seed: int | None = None,
    ) -> None:
        self.blueprint = blueprint
        self.state = state or State(blueprint)
        self._chance = random.Random(seed)
        self._owned = make_providers(blueprint, embedded or {}) if providers is None else None
        adapters = self._owned.adapters if self._owned is not None else providers or {}
        self._runner = ChainRunner(
            adapters,
            self.state.admission,
            self.state.estimator,
            self.state.reuse,
            tuple(observers),
            blueprint.config.retry,
            self._chance,
        )
        self._preparer = Preparer(
            blueprint,
            classifier,
            self.state.prompts,
            self.state.schemas,
            self.state.admission,
            self.state.estimator,
            gates,
            self._chance,
        )
        self._embedder = Embedder(blueprint, self._runner)

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
        async with self.state.repeats.turn(request.tenant, request.request_id, request, time.monotonic()) as turn:
            if turn.answer is None:
                turn.give(await self._answering(request, ends_by))
            assert turn.answer is not None
            return turn.answer

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
        return self._joined(request, ends_by) if joinable else self._stream(request, ends_by)

    async def embed(self, request: EmbedRequest, *, ends_by: float | None = None) -> EmbedAnswer:
        """Turn texts into vectors; `ends_by` as in `route`.

        Raises:
            RouteError: there are none; see errors.py.

        """
        return await self._embedder.embed(request, ends_by)

    def explain(self, request: Request) -> Explanation:
        """Say what would be decided, without running it.

        Raises:
            RouteError: the call would be refused.

        """
        call = self._preparer.prepare(request)
        now = time.monotonic()
        checkpoints, reason = call.checkpoints()
        return Explanation(
            call=call,
            resolution=call.resolved.resolution,
            stages=call.plan.stages,
            skipped=call.plan.skipped,
            breakers={
                stage.ref.position: self.state.admission.state_of(stage, now).breaker.state
                for stage in call.resolved.chain.stages
            },
            checkpoints=checkpoints,
            checkpoints_reason=reason,
            stream=call.stream,
        )

    def put_prompt(self, tenant: str, task_id: str, text: str, *, static: bool = False) -> str:
        """Store a static system prompt; give its key.

        Raises:
            InvalidRequestError: it is too short to be worth keeping, or its task keeps sending values in its text.
            UnknownTaskError: the task is not declared and `tasks.strict` is set.

        """
        check_prompt(task_id, text)
        if self.blueprint.config.tasks.strict and task_id not in self.blueprint.tasks:
            raise UnknownTaskError(f"the task {task_id} is not declared, and this service answers declared tasks only")
        minimum = self.blueprint.config.caching.min_prompt_length
        if len(text) <= minimum:
            raise invalid("text", f"has {len(text)} characters; only prompts longer than {minimum} are kept")
        declared = self.blueprint.tasks.get(task_id)
        key, note = self.state.prompts.keep(
            tenant,
            task_id,
            declared.definition_hash if declared is not None else task_id,
            text,
            static=static,
            now=time.monotonic(),
        )
        if not key:
            raise invalid("text", note or "is larger than the prompt cache")
        return key

    def delete_prompt(self, tenant: str, key: str) -> bool:
        """Forget a stored prompt; answer whether it was there."""
        return self.state.prompts.delete(tenant, key)

    async def aclose(self) -> None:
        """Close the connections; twice is fine. Calls that still run fail."""
        if self._owned is not None:
            await self._owned.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    def _answering(self, request: Request, ends_by: float | None) -> Awaitable[Answer]:
        call = self._preparer.prepare(request, ends_by)
        self._preparer.require_stage(call)
        return self._runner.answer(call)

    async def _joined(self, request: Request, ends_by: float | None) -> AsyncGenerator[list[Event]]:
        async with self.state.repeats.turn(request.tenant, request.request_id, request, time.monotonic()) as turn:
            if turn.answer is not None:
                yield replayed(turn.answer)
                return
            fold = Fold()
            try:
                async with aclosing(self._stream(request, ends_by)) as events:
                    async for batch in events:
                        fold.apply(batch)
                        if fold.completed is not None and fold.completed.completion.outcome is not Outcome.FAILED:
                            turn.give(fold.answer())
                        yield batch
            except RouteError:
                turn.answer = None  # a repeat tries again, as it does with unary calls
                raise

    def _stream(self, request: Request, ends_by: float | None) -> AsyncGenerator[list[Event]]:
        call = self._preparer.prepare(request, ends_by)
        self._preparer.require_stage(call)
        return self._runner.stream(call)


def new_request_id() -> str:
    """Give an id that no other request has: 128 random bits, hex."""
    return f"{random.getrandbits(128):032x}"


def replayed(answer: Answer) -> list[Event]:
    """Give an answer's events once more: one delta, then completed."""
    completion = answer.completion
    events: list[Event] = [
        Started(
            request_id=answer.request_id,
            resolution=answer.resolution,
            plan=(completion.served_by,) if completion.served_by is not None else (),
            skipped=completion.skipped,
            cached=False,
            checkpoints=CheckpointPolicy.NONE,
            checkpoints_reason="the answer is already there",
        )
    ]
    fragments = [
        ToolCallFragment(index, call.id, call.name, call.arguments) for index, call in enumerate(answer.tool_calls)
    ]
    text = [TextDelta(answer.text)] if answer.text else []
    if text or fragments:
        events.append(Delta(1, (*text, *fragments)))
    events.append(Completed(completion=completion, tool_calls=answer.tool_calls))
    return events
