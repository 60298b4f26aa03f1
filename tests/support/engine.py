"""A router over scripted providers, and what a test wants to know of it afterwards."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gearshift.core.admission import Admission, Guard
from gearshift.core.answer import AttemptRecord, Completion, StageRef
from gearshift.core.blueprint import Blueprint
from gearshift.core.gates import Gate
from gearshift.core.observer import CallContext, Observer
from gearshift.core.request import (
    NO_POLICY,
    Message,
    Output,
    Parameters,
    Policy,
    Request,
    StreamPolicy,
    SystemPrompt,
    Task,
    Tool,
    user,
)
from gearshift.core.resolve import Classifier
from gearshift.core.router import Router
from gearshift.core.words import Complexity, Sensitivity, TaskType
from tests.support.scripted_provider import Script, ScriptedProvider


@dataclass
class Notebook(Observer):
    """Keeps what observers are told."""

    starting: list[StageRef] = field(default_factory=list[StageRef])
    attempts: list[AttemptRecord] = field(default_factory=list[AttemptRecord])
    calls: list[tuple[Completion, str]] = field(default_factory=list[tuple[Completion, str]])

    def attempt_starting(self, context: CallContext, stage: StageRef, account: str) -> None:
        self.starting.append(stage)

    def attempt_ended(self, context: CallContext, attempt: AttemptRecord) -> None:
        self.attempts.append(attempt)

    def call_ended(self, context: CallContext, completion: Completion, error: str) -> None:
        self.calls.append((completion, error))


@dataclass
class Engine:
    """A router, its providers by name, and its notebook."""

    router: Router
    providers: Mapping[str, ScriptedProvider]
    notebook: Notebook

    @property
    def upstream_calls(self) -> int:
        """How many calls went upstream."""
        return sum(len(provider.calls) + len(provider.embed_calls) for provider in self.providers.values())

    @property
    def guards(self) -> list[Guard]:
        """Breaker, limits and figures of every account and model."""
        return self.router.state.admission.guards()

    def check_settled(self) -> None:
        """Check that nothing is left over: every call recorded once, every place given back, every stream closed."""
        assert all(provider.running == 0 for provider in self.providers.values())
        assert len(self.notebook.attempts) == self.upstream_calls == len(self.notebook.starting)
        for guard in self.guards:
            assert guard.figures.in_flight == 0
            assert guard.waiting == 0
            for bucket in guard.buckets:
                if bucket.unit == "concurrency":
                    assert bucket.level(0.0) == bucket.capacity


def engine(
    plan: Blueprint,
    scripts: Sequence[Sequence[Script]],
    *,
    gates: Sequence[Gate] = (),
    observers: Sequence[Observer] = (),
    classifier: Classifier | None = None,
    admission: Admission | None = None,
) -> Engine:
    """Give a router whose provider `p<n>` plays the n-th list of scripts."""
    providers = {f"p{place}": ScriptedProvider(list(each)) for place, each in enumerate(scripts)}
    notebook = Notebook()
    router = Router(
        plan,
        providers=providers,
        observers=(notebook, *observers),
        gates=gates,
        classifier=classifier,
        admission=admission,
        seed=1,
    )
    return Engine(router, providers, notebook)


def request(
    prompt: str = "Write a line.",
    *,
    request_id: str = "r1",
    tenant: str = "default",
    task_id: str = "task",
    kind: TaskType | None = TaskType.GENERATE,
    complexity: Complexity | None = None,
    sensitivity: Sensitivity | None = None,
    messages: tuple[Message, ...] | None = None,
    system: SystemPrompt | None = None,
    output: Output | None = None,
    tools: tuple[Tool, ...] = (),
    parameters: Parameters | None = None,
    policy: Policy | None = None,
    stream: StreamPolicy | None = None,
) -> Request:
    """Give a call of one user turn."""
    return Request(
        request_id=request_id,
        tenant=tenant,
        task=Task(id=task_id, type=kind, complexity=complexity, sensitivity=sensitivity),
        messages=messages if messages is not None else (user(prompt),),
        system=system,
        output=output,
        tools=tools,
        parameters=parameters or Parameters(),
        policy=policy or NO_POLICY,
        stream=stream,
    )


@asynccontextmanager
async def entered(made: Engine) -> AsyncGenerator[Engine]:
    """Enter the engine's router, as calls that are shared need it."""
    async with made.router:
        yield made
