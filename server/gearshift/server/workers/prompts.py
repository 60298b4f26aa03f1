"""RouterService of one of several workers: a prompt that another one keeps is found.

Rules: nobody is asked before a key is unknown here. What is fetched is kept here from then on. A prompt that is deleted is
deleted everywhere.
"""

from __future__ import annotations

import time

import msgspec
from msgspec import Struct

from gearshift.core.errors import PromptNotCachedError
from gearshift.server.router_service import Context, RouterService, Running
from gearshift.server.workers.member import Member
from gearshift.v1 import call_pb2, router_pb2


class _Key(Struct):
    tenant: str
    key: str


class _Prompt(Struct):
    task_id: str
    definition_hash: str
    text: str


class TeamRouterService(RouterService):
    """The service that applications call, on one of several workers."""

    def __init__(self, running: Running, member: Member) -> None:
        super().__init__(running)
        self._member = member
        member.answers("prompt", self._give)
        member.answers("forget", self._forget)

    async def Route(self, request: router_pb2.RouteRequest, context: Context) -> bytes:  # type: ignore[override]
        """Answer one call whole; gives the RouteResponse serialised."""
        try:
            return await super().Route(request, context)
        except PromptNotCachedError:
            if not await self._fetch(request.call, context):
                raise
        return await super().Route(request, context)

    async def StreamRoute(self, request: router_pb2.StreamRouteRequest, context: Context) -> None:  # type: ignore[override]
        """Answer one call as the model writes it."""
        try:
            # An unknown key is known before anything is sent.
            await super().StreamRoute(request, context)
            return
        except PromptNotCachedError:
            if not await self._fetch(request.call, context):
                raise
        await super().StreamRoute(request, context)

    async def Explain(self, request: router_pb2.ExplainRequest, context: Context) -> router_pb2.ExplainResponse:
        """Say what would be decided."""
        try:
            return await super().Explain(request, context)
        except PromptNotCachedError:
            if not await self._fetch(request.call, context):
                raise
        return await super().Explain(request, context)

    async def DeletePrompt(
        self, request: router_pb2.DeletePromptRequest, context: Context
    ) -> router_pb2.DeletePromptResponse:
        """Forget a stored system prompt."""
        body = msgspec.msgpack.encode(_Key(self._tenant(context), request.key))
        # The others first: where hosts share prompts, a store that is away fails the call.
        answers = await self._member.ask("forget", body)
        response = await super().DeletePrompt(request, context)
        return router_pb2.DeletePromptResponse(deleted=response.deleted or any(part.body for part in answers.parts))

    def _tenant(self, context: Context) -> str:
        return self._running.access.caller(context.invocation_metadata()).tenant

    async def _fetch(self, call: call_pb2.Call, context: Context) -> bool:
        """Ask the others for a prompt and keep it; tell whether one had it."""
        shared = self._running.router.state.shared_prompts
        if shared is not None and not shared.is_away:
            return False  # what the store lacks was purged, and the others may not have heard yet
        tenant = self._tenant(context)
        answers = await self._member.ask("prompt", msgspec.msgpack.encode(_Key(tenant, call.system.key)))
        for part in answers.parts:
            if part.body:
                prompt = msgspec.msgpack.decode(part.body, type=_Prompt)
                # It has passed for static elsewhere.
                is_kept = self._running.router.state.prompts.adopt(
                    tenant, prompt.task_id, prompt.definition_hash, prompt.text, time.monotonic()
                )
                if shared is not None:
                    shared.adopted()
                return is_kept
        return False

    async def _give(self, body: bytes) -> bytes:
        asked = msgspec.msgpack.decode(body, type=_Key)
        entry = self._running.router.state.prompts.entry(asked.tenant, asked.key, time.monotonic())
        if entry is None:
            return b""
        return msgspec.msgpack.encode(_Prompt(entry.task_id, entry.definition_hash, entry.text))

    async def _forget(self, body: bytes) -> bytes:
        asked = msgspec.msgpack.decode(body, type=_Key)
        return b"1" if self._running.router.delete_prompt(asked.tenant, asked.key) else b""
