"""What a call's task is: type, complexity, sensitivity, chain, and where each came from (design 5.1).

Rules: pure. Sensitivity is the highest that anybody says and is never lowered. The classifier decides the type only
when nothing else does, and may raise, never lower, a complexity that nobody declared.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from gearshift.core.blueprint import Blueprint, Chain, ChainPolicy, DeclaredTask
from gearshift.core.classifier import Guess
from gearshift.core.config.model import TenantConfig
from gearshift.core.errors import ForbiddenError, NoStageError, UnknownTaskError, invalid
from gearshift.core.request import EmbedRequest, LabelOutput, Output, Request, Resolution, Task, Text
from gearshift.core.words import Complexity, Role, Sensitivity, Source, TaskType

_DEFAULT_TENANT = TenantConfig()


class Classifier(Protocol):
    """Guesses a task's type by its meaning."""

    def guess(self, text: str) -> Guess:
        """Give the likeliest type, or abstain."""
        ...


class Resolved(Struct, frozen=True, kw_only=True):
    """A task, understood: its declaration if there is one, and the chain that serves it."""

    resolution: Resolution
    declared: DeclaredTask | None
    chain: Chain
    policy: ChainPolicy
    tenant: TenantConfig
    output: Output | None
    definition_hash: str
    """What caches are keyed by: the declaration's hash, or the id of an undeclared task."""

    @property
    def complexity_declared(self) -> bool:
        """Whether the complexity filters stages; a guessed one only reorders them."""
        return self.resolution.complexity_source in (Source.CALLER, Source.DECLARATION)


def resolve(request: Request, blueprint: Blueprint, classifier: Classifier | None, stored: str = "") -> Resolved:
    """Understand a call's task.

    Args:
        stored: the text of a system prompt that the call names by its key, so that either way of sending it means the same.

    Raises:
        InvalidRequestError: the caller's type conflicts with the declaration's, or is `embed`.
        UnknownTaskError: the id is not declared and `tasks.strict` is set.
        ForbiddenError: the tenant may not send this.
        NoStageError: no chain serves the type.

    """
    task = request.task
    declared, tenant = declared_of(task.id, request.tenant, blueprint)
    output = request.output if request.output is not None else (declared.output if declared else None)
    confidence = 1.0
    if declared is not None:
        if task.type is not None and task.type is not declared.type:
            raise invalid(
                "call.task.type",
                f"the task {task.id} is declared as {declared.type.word}; leave the type unset or send that",
            )
        kind, source = declared.type, Source.CALLER if task.type is not None else Source.DECLARATION
    elif task.type is not None:
        kind, source = task.type, Source.CALLER
    elif output is not None:
        kind = TaskType.CLASSIFY if isinstance(output, LabelOutput) else TaskType.EXTRACT
        source = Source.OUTPUT
    else:
        kind, source = TaskType.GENERATE, Source.DEFAULT
    if kind is TaskType.EMBED:
        raise invalid("call.task.type", "Route and StreamRoute do not embed; call Embed")
    raised: Complexity | None = None
    if source is Source.DEFAULT and classifier is not None:
        guess = classifier.guess(instruction_of(request, stored))
        if guess.task_type is not None and guess.task_type != "embed":
            kind, source, confidence = TaskType.from_word(guess.task_type), Source.CLASSIFIER, guess.confidence
        if guess.complexity is not None:
            raised = Complexity.from_word(guess.complexity)
    return _resolved(request.tenant, task, declared, tenant, blueprint, kind, source, confidence, raised, output)


def resolve_embed(request: EmbedRequest, blueprint: Blueprint) -> Resolved:
    """Understand an embedding's task: its type is embed, and only the sensitivity and chain are to be found.

    Raises:
        InvalidRequestError: the id is declared, or the caller's tag says, another type.
        UnknownTaskError, ForbiddenError, NoStageError: as `resolve`.

    """
    task = request.task
    declared, tenant = declared_of(task.id, request.tenant, blueprint)
    if declared is not None and declared.type is not TaskType.EMBED:
        raise invalid("task.id", f"the task {task.id} is declared as {declared.type.word}, which Embed does not serve")
    if task.type not in (None, TaskType.EMBED):
        raise invalid("task.type", f"Embed serves the type embed; leave it unset or call Route for {task.type.word}")
    source = Source.CALLER if declared is None else Source.DECLARATION
    return _resolved(request.tenant, task, declared, tenant, blueprint, TaskType.EMBED, source, 1.0, None, None)


def instruction_of(request: Request, stored: str = "") -> str:
    """Give the text that tells what is to be done: the system prompt (`stored` if it has only a key), then the last user turn."""
    system = (request.system.text or stored) if request.system is not None else ""
    pieces = [system] if system else []
    for message in reversed(request.messages):
        if message.role is Role.USER:
            pieces.extend(part.text for part in message.parts if isinstance(part, Text))
            break
    return "\n\n".join(pieces)


def _resolved(
    tenant_name: str,
    task: Task,
    declared: DeclaredTask | None,
    tenant: TenantConfig,
    blueprint: Blueprint,
    kind: TaskType,
    source: Source,
    confidence: float,
    raised: Complexity | None,
    output: Output | None,
) -> Resolved:
    """Find the other axes and the chain, once the type is known."""
    complexity, complexity_source = _complexity(task, declared, kind, raised, blueprint)
    sensitivity, sensitivity_source = _sensitivity(task, declared, tenant)
    chain = declared.chain if declared is not None else blueprint.chains.get(kind.word)
    if chain is None:
        known = ", ".join(sorted(blueprint.chains)) or "none"
        raise NoStageError(
            f"no chain serves the task type {kind.word}: configure chains.{kind.word} (configured: {known})"
        )
    return Resolved(
        resolution=Resolution(
            task_id=task.id,
            declared=declared is not None,
            type=kind,
            type_source=source,
            type_confidence=confidence,
            complexity=complexity,
            complexity_source=complexity_source,
            sensitivity=sensitivity,
            sensitivity_source=sensitivity_source,
            tenant=tenant_name,
        ),
        declared=declared,
        chain=chain,
        policy=declared.policy if declared is not None else chain.policy,
        tenant=tenant,
        output=output,
        definition_hash=declared.definition_hash if declared is not None else task.id,
    )


def declared_of(task_id: str, tenant_name: str, blueprint: Blueprint) -> tuple[DeclaredTask | None, TenantConfig]:
    """Give a task's declaration, if there is one, and who sends it.

    Raises:
        UnknownTaskError: the id is not declared and `tasks.strict` is set; names what this tenant may send.
        ForbiddenError: the tenant may not send it.

    """
    declared = blueprint.tasks.get(task_id)
    tenant = blueprint.config.access.tenants.get(tenant_name, _DEFAULT_TENANT)
    if declared is None and blueprint.config.tasks.strict:
        known = sorted(each for each in blueprint.tasks if not tenant.tasks or each in tenant.tasks)
        raise UnknownTaskError(
            f"the task {task_id} is not declared, and this service answers declared tasks only: "
            f"declare it under tasks.declared (declared: {', '.join(known) or 'none'})"
        )
    if tenant.tasks and task_id not in tenant.tasks:
        raise ForbiddenError(f"the tenant {tenant_name} may not use the task {task_id}")
    return declared, tenant


def _complexity(
    task: Task, declared: DeclaredTask | None, kind: TaskType, raised: Complexity | None, blueprint: Blueprint
) -> tuple[Complexity, Source]:
    if task.complexity is not None:
        return task.complexity, Source.CALLER
    if declared is not None and declared.complexity is not None:
        return declared.complexity, Source.DECLARATION
    default = blueprint.capability_matrix[kind]
    if raised is not None and raised > default:
        return raised, Source.CLASSIFIER
    return default, Source.DEFAULT


def _sensitivity(task: Task, declared: DeclaredTask | None, tenant: TenantConfig) -> tuple[Sensitivity, Source]:
    said: list[tuple[Sensitivity, Source]] = []
    if declared is not None and declared.sensitivity is not None:
        said.append((declared.sensitivity, Source.DECLARATION))
    if tenant.sensitivity_floor != "public":
        said.append((Sensitivity.from_word(tenant.sensitivity_floor), Source.TENANT))
    if task.sensitivity is not None:
        said.append((task.sensitivity, Source.CALLER))
    highest = max(said, key=lambda pair: pair[0]) if said else (Sensitivity.INTERNAL, Source.DEFAULT)
    if highest[0] > Sensitivity.from_word(tenant.clearance):
        raise ForbiddenError(f"this tenant may send nothing more sensitive than {tenant.clearance}")
    return highest
