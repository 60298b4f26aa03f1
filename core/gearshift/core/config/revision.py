"""Hashes that tell whether a definition has changed.

Rules: SHA-256 of canonical JSON (sorted keys, decimals as text), in hex. No key and no header is part of one: a new key
must not empty the caches. Prices are not part of a chain's: a new price does not change an answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from gearshift.core.blueprint import ChainPolicy, Stage
from gearshift.core.config.model import Config, TaskConfig


def digest(value: object) -> str:
    """Give the hash of any value that msgspec can write."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def task_hash(task_id: str, task: TaskConfig) -> str:
    """Give the hash of what a task asks for: not which chain serves it, nor policy and limits."""
    return digest(
        {
            "id": task_id,
            "type": task.type,
            "complexity": task.complexity,
            "sensitivity": task.sensitivity,
            "prompt": task.prompt,
            "static": task.static,
            "output": task.output,
            "max_tokens": task.max_tokens,
            "temperature": task.temperature,
        }
    )


def chain_revision(
    name: str,
    stages: Sequence[Stage],
    *,
    adaptive: bool,
    refuses_losses: bool,
    policy: ChainPolicy,
    allow_space_change: bool,
) -> str:
    """Give the hash of everything in a chain that could change an answer."""
    return digest(
        {
            "name": name,
            "stages": [_stage(stage) for stage in stages],
            "adaptive": adaptive,
            "refuses_losses": refuses_losses,
            "policy": policy,
            "allow_space_change": allow_space_change,
        }
    )


def config_revision(config: Config) -> str:
    """Give the hash of the whole configuration, without keys and headers."""
    providers = {
        name: msgspec.structs.replace(
            each,
            api_key="",
            headers={header: "" for header in each.headers},
            accounts=tuple(msgspec.structs.replace(account, api_key="") for account in each.accounts),
        )
        for name, each in config.providers.items()
    }
    redis = config.shared.redis
    shared = msgspec.structs.replace(
        config.shared, redis=None if redis is None else msgspec.structs.replace(redis, url="")
    )
    return digest(msgspec.structs.replace(config, providers=providers, shared=shared))


def _stage(stage: Stage) -> dict[str, object]:
    provider, model = stage.provider, stage.model
    return {
        "ref": stage.ref,
        "provider": {
            "name": provider.name,
            "kind": provider.kind,
            "dialect": provider.dialect,
            "clearance": provider.clearance,
            "base_urls": [each.account.base_url for each in provider.accounts],
        },
        "model": {
            "id": model.id,
            "wire_id": model.wire_id,
            "features": sorted(each.value for each in model.features),
            "context_tokens": model.context_tokens,
            "max_output_tokens": model.max_output_tokens,
            "vector_space": model.vector_space,
            "dimensions": model.dimensions,
            "max_input_tokens": model.max_input_tokens,
            "options": model.options,
        },
        "max_retries": stage.max_retries,
        "timeouts": stage.timeouts,
        "max_tokens": stage.max_tokens,
        "temperature": stage.temperature,
        "extra_body": stage.extra_body,
    }
