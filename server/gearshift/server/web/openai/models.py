"""What `/v1/models` lists: the names that a key may send as `model`.

Rules: pure. A name is listed only when a call with it could be served: the tenant may use the task, the task is not more
sensitive than the tenant's clearance, and its chain has a stage among the models and providers that the tenant may use.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from gearshift.core.blueprint import Blueprint, Chain
from gearshift.core.config.model import TenantConfig
from gearshift.core.words import Sensitivity, TaskType
from gearshift.server.web.openai.request import ANY_TASK, CHAIN, TASK

_NO_RULES = TenantConfig()


class ListedModel(Struct, frozen=True, kw_only=True):
    """A name and what stands behind it; `type` is None where each call decides it."""

    id: str
    type: TaskType | None
    chain: Chain | None
    same_as: str = ""

    def body(self, created: int) -> dict[str, Any]:
        """Give the model object; `created` in seconds since the epoch."""
        told: dict[str, Any] = {
            "task_type": None if self.type is None else self.type.word,
            "models": [] if self.chain is None else [stage.model.id for stage in self.chain.stages],
        }
        if self.same_as:
            told["same_as"] = self.same_as
        return {"id": self.id, "object": "model", "created": created, "owned_by": "gearshift", "gearshift": told}


def models_of(blueprint: Blueprint, tenant_name: str) -> list[ListedModel]:
    """Give the names that a tenant may send."""
    config = blueprint.config.server.openai
    tenant = blueprint.config.access.tenants.get(tenant_name, _NO_RULES)
    listed = list(_own(blueprint, tenant))
    by_name = {each.id: each for each in listed}
    for name, meant in config.models.items():
        if (known := by_name.get(meant)) is not None and name not in by_name:
            listed.append(ListedModel(id=name, type=known.type, chain=known.chain, same_as=meant))
    return listed


def _own(blueprint: Blueprint, tenant: TenantConfig) -> Iterator[ListedModel]:
    any_task = blueprint.config.server.openai.task
    declared = blueprint.tasks.get(any_task)
    is_strict = blueprint.config.tasks.strict
    may_any = not tenant.tasks or any_task in tenant.tasks
    if may_any and declared is not None:
        if _may(blueprint, tenant, any_task):
            yield ListedModel(id=ANY_TASK, type=declared.type, chain=declared.chain)
    elif may_any and not is_strict:
        chains = [chain for chain in blueprint.chains.values() if chain.name in _TYPES and _serves(chain, tenant)]
        if any(chain.name != TaskType.EMBED.word for chain in chains):
            yield ListedModel(id=ANY_TASK, type=None, chain=None)
        for chain in chains:
            yield ListedModel(id=CHAIN + chain.name, type=TaskType.from_word(chain.name), chain=chain)
    for task in blueprint.tasks.values():
        if _may(blueprint, tenant, task.id):
            yield ListedModel(id=TASK + task.id, type=task.type, chain=task.chain)


_TYPES = {each.word for each in TaskType}


def _may(blueprint: Blueprint, tenant: TenantConfig, task_id: str) -> bool:
    task = blueprint.tasks[task_id]
    if tenant.tasks and task_id not in tenant.tasks:
        return False
    if task.sensitivity is not None and task.sensitivity > Sensitivity.from_word(tenant.clearance):
        return False
    return _serves(task.chain, tenant)


def _serves(chain: Chain, tenant: TenantConfig) -> bool:
    return any(
        (not tenant.models or stage.model.id in tenant.models)
        and (not tenant.providers or stage.provider.name in tenant.providers)
        for stage in chain.stages
    )
