"""Routers that a reload has replaced.

Rules: one is closed when the last call that began with it has ended, which its deadline bounds; what is left is closed with
the service.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from gearshift.core.router import Router
from gearshift.server.guard import Era
from gearshift.server.status import lone


class Retirement:
    """Closes routers once nobody uses them. Made by `retirement`."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self.waiting: list[Router] = []

    def retire(self, router: Router, era: Era) -> None:
        """Close a router when the calls of its era have ended."""
        self.waiting.append(router)
        self._tasks.start_soon(self._close, router, era)

    async def _close(self, router: Router, era: Era) -> None:
        await era.over()
        with anyio.CancelScope(shield=True):
            await router.aclose()
        self.waiting.remove(router)


@asynccontextmanager
async def retirement() -> AsyncGenerator[Retirement]:
    """Close retired routers while the block runs, and whatever is left at its end."""
    try:
        async with anyio.create_task_group() as tasks:
            retired = Retirement(tasks)
            try:
                yield retired
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    for router in list(retired.waiting):
                        await router.aclose()
    except BaseExceptionGroup as group:
        raise lone(group) from None
