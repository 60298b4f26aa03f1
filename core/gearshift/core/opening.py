"""A router that is ready to answer, from a configuration.

Rules: the one place that starts what a configuration names besides connections: the embedded models' processes. They
live as long as the block. `open_router` is what a program without a server uses.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio

from gearshift.core.admission import Admission
from gearshift.core.blueprint import Blueprint
from gearshift.core.cache.store import CacheStores
from gearshift.core.catalogue import Catalogue
from gearshift.core.classifier import TaskClassifier
from gearshift.core.config.build import build
from gearshift.core.config.load import LoadedConfig, load_config
from gearshift.core.config.model import Config, EmbeddedConfig
from gearshift.core.embedded import EmbeddedModel, EmbeddedSettings
from gearshift.core.embedded.state import ProgressCallback
from gearshift.core.errors import ConfigError
from gearshift.core.gates import Gate
from gearshift.core.machines.watch import Watch
from gearshift.core.observer import Observer
from gearshift.core.plugins import own_gates, own_observers
from gearshift.core.providers.registry import own_kinds
from gearshift.core.router import Router

EmbeddedModels = Mapping[str, EmbeddedModel]
"""Running embedded models, by provider name."""


@asynccontextmanager
async def embedded_models(
    blueprint: Blueprint, progress: ProgressCallback | None = None, *, wait: bool = True
) -> AsyncGenerator[EmbeddedModels]:
    """Run the embedded models that a configuration names, while the block runs.

    Args:
        wait: enter only when they answer; else calls to them wait.

    Raises:
        EmbeddedModelError: one cannot be started; says what to do.
    """
    async with AsyncExitStack() as stack:
        models: dict[str, EmbeddedModel] = {}
        for name, spec in blueprint.providers.items():
            if spec.kind == "embedded":
                settings = settings_of(blueprint.config.providers[name].embedded or EmbeddedConfig())
                models[name] = await stack.enter_async_context(EmbeddedModel(settings, progress=progress, wait=wait))
        yield models


def settings_of(config: EmbeddedConfig) -> EmbeddedSettings:
    """Give the process's settings that a configuration asks for."""
    return EmbeddedSettings(
        model_path=Path(config.model_path) if config.model_path else None,
        sha256=config.sha256,
        threads=config.threads,
        context_tokens=config.context_tokens,
        slots=config.slots,
    )


@asynccontextmanager
async def admission_of(blueprint: Blueprint) -> AsyncGenerator[Admission]:
    """Give the limits and breakers that a configuration asks for: this process's own, or shared ones while the block runs.

    A shared store that is not there is no error: each process keeps its share until it is.

    Raises:
        ConfigError: `shared.redis` is wrong, or the extra `redis` is not installed.
    """
    shared = blueprint.config.shared
    if shared.redis is None:
        yield Admission()
        return
    # Only here: who shares nothing loads no client of a store.
    from gearshift.core.shared.admission import SharedAdmission
    from gearshift.core.shared.store import SharedStore

    try:
        from gearshift.core.shared.connection import RedisConnection
    except ImportError as error:
        raise ConfigError(["shared.redis: needs the extra `redis`: pip install 'gearshift[redis]'"]) from error
    async with SharedStore(shared, RedisConnection(shared.redis)).running() as store:
        yield SharedAdmission(store)


@asynccontextmanager
async def cache_stores_of(blueprint: Blueprint) -> AsyncGenerator[CacheStores | None]:
    """Give where a configuration's caches are shared while the block runs; None keeps them in this process.

    Raises:
        ConfigError: `shared.redis` is wrong, or the extra `redis` is not installed.
    """
    redis, caching = blueprint.config.shared.redis, blueprint.config.caching
    if redis is None or not blueprint.config.shared.caches:
        yield None
        return
    from gearshift.core.shared.caches import RedisCacheStore
    from gearshift.core.shared.leases import RedisLeases

    try:
        from gearshift.core.shared.connection import RedisConnection
    except ImportError as error:
        raise ConfigError(["shared.redis: needs the extra `redis`: pip install 'gearshift[redis]'"]) from error
    # Connections of their own: no limit waits behind a large answer.
    connection = RedisConnection(redis)
    try:
        answers = RedisCacheStore(connection, redis.prefix, "response", caching.response_max_bytes)
        yield CacheStores(
            answers=answers,
            leases=RedisLeases(answers) if caching.response_max_bytes else None,
            vectors=RedisCacheStore(connection, redis.prefix, "embedding", caching.embedding_max_bytes),
            prompts=RedisCacheStore(connection, redis.prefix, "prompt", caching.max_bytes),
        )
    finally:
        with anyio.CancelScope(shield=True):
            await connection.aclose()


@asynccontextmanager
async def open_router(
    config: str | Path | Config,
    *,
    env: Mapping[str, str] | None = None,
    gates: Sequence[Gate] = (),
    observers: Sequence[Observer] = (),
    progress: ProgressCallback | None = None,
) -> AsyncGenerator[Router]:
    """Give a router for a configuration, in this process, with the installed gates and observers (plugins.py).

    Args:
        config: a gearshift.yaml's path, or the configuration itself.
        env: what `${NAME}` in a file stands for, such as `os.environ`; the core itself reads no environment.
        gates / observers: besides the installed ones.
        progress: told how the embedded model's start goes.

    Raises:
        ConfigError: the configuration is wrong, one problem a line; or an installed gate or observer cannot be loaded.
        EmbeddedModelError: the embedded model cannot be started.
    """
    loaded: Config | LoadedConfig = config if isinstance(config, Config) else load_config(config, env or {})
    blueprint = build(loaded, Catalogue.load(), own_kinds=own_kinds())
    async with (
        embedded_models(blueprint, progress) as models,
        admission_of(blueprint) as admission,
        cache_stores_of(blueprint) as stores,
    ):
        sockets = {name: model.base_url for name, model in models.items()}
        router = Router(
            blueprint,
            classifier=TaskClassifier.load(),
            gates=(*own_gates(), *gates),
            observers=(*own_observers(), *observers),
            embedded=sockets,
            admission=admission,
            stores=stores,
        )
        async with router, _watched(router, sockets):
            yield router


@asynccontextmanager
async def _watched(router: Router, embedded: Mapping[str, str]) -> AsyncGenerator[None]:
    """Ask model servers for their queues while the block runs, where a configuration limits them."""
    providers = router.blueprint.providers
    if all(provider.pressure.max_queued is None for provider in providers.values()):
        yield
        return
    async with Watch(lambda: router.state.admission.pressures(providers, embedded)).running():
        yield
