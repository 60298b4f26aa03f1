"""The paths of OpenAI's API, and the way of their calls.

Rules: the same way as over gRPC: keys, the guard's count, the caller's deadline, the router, the ledger's acknowledgement.
A status is sent only when there is something to send, so that whatever fails before is an HTTP error that clients know how
to retry; what fails after is an error event and a body that is cut off, never a clean end. A client that leaves cancels its
call at once (aiohttp cancels the handler).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final, Protocol

import msgspec
from aiohttp import web

from gearshift.core.config.model import OpenAiConfig
from gearshift.core.errors import AccessError, DeadlineError, RouteError, UnknownTaskError
from gearshift.core.events import Completed
from gearshift.core.router import new_request_id
from gearshift.server.access import Caller
from gearshift.server.deadline import Deadlines
from gearshift.server.guard import CallGuard
from gearshift.server.router_service import Running, acknowledged, recorded
from gearshift.server.status import lone
from gearshift.server.web.calling import Calling
from gearshift.server.web.connection import key_of, peer_of
from gearshift.server.web.openai.answer import completion_body, embeddings_body, headers_of
from gearshift.server.web.openai.chunks import Chunks
from gearshift.server.web.openai.errors import Failure, failure_of, plain_failure, unknown_failure
from gearshift.server.web.openai.models import models_of
from gearshift.server.web.openai.names import OpenAiNames
from gearshift.server.web.openai.policy import mode_of, stream_policy
from gearshift.server.web.openai.request import ChatCall, chat_call, embeddings_call
from gearshift.server.web.openai.sending import EventSender
from gearshift.server.web.openai.settings import Settings

_log = logging.getLogger(__name__)

_BODY_S: Final = 30.0
"""How long a body may take to arrive."""
_JSON = {"Content-Type": "application/json", "Cache-Control": "no-store"}
_CLIENTS_PATIENCE = ("x-stainless-read-timeout", "x-stainless-timeout")
"""Headers in which the official clients tell for how many seconds they wait for an answer."""


_DEADLINE = DeadlineError("the deadline has passed")


class _TooLongError(RouteError):
    """Raised when a body is longer than is taken."""


class Serving(Running, Protocol):
    """What these paths stand on."""

    @property
    def guard(self) -> CallGuard:
        """Counts calls."""
        ...


def openai_routes(serving: Serving, calling: Calling) -> list[web.RouteDef]:
    """Give the paths under `/v1`; to be called on the loop that serves them.

    Args:
        calling: cancels what runs when a service's grace is over.
    """
    api = _Api(serving, calling)
    return [
        web.post("/v1/chat/completions", api.told(api.chat)),
        web.post("/v1/embeddings", api.told(api.embed)),
        web.get("/v1/models", api.told(api.list_models), allow_head=False),
        web.get("/v1/models/{id:.+}", api.told(api.show_model), allow_head=False),
        web.route("*", "/v1/{rest:.*}", api.told(api.refuse)),
        # What clients call whose base URL lacks it.
        web.route("*", "/{rest:chat/completions|completions|embeddings|models|responses}", api.told(api.refuse)),
    ]


class _Call:
    """What is known of a call while it is answered."""

    __slots__ = ("names", "request_id", "sender")

    def __init__(self) -> None:
        self.request_id = new_request_id()
        self.names = OpenAiNames()
        self.sender: EventSender | None = None
        """Sends the events of a stream."""


_Handler = Callable[[web.Request, _Call], Awaitable[web.StreamResponse]]


class _Api:
    def __init__(self, serving: Serving, calling: Calling) -> None:
        self._serving = serving
        self._calling = calling
        self._deadlines = Deadlines()
        self._created = int(time.time())

    def told(self, inner: _Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Wrap a handler, so that whatever it raises is told as OpenAI's API tells it."""

        async def handle(request: web.Request) -> web.StreamResponse:
            call = _Call()
            try:
                return await inner(request, call)
            except web.HTTPException:
                raise
            except Exception as raised:  # noqa: BLE001
                error = lone(raised)
            if isinstance(error, ConnectionError):
                # Who has gone is no error.
                raise asyncio.CancelledError from None
            failure = self._failure(request, call, error)
            if call.sender is None or not call.sender.has_begun:
                return _refused(failure, call.request_id)
            return await call.sender.cut_off(b"data: " + failure.body() + b"\n\n")

        return handle

    async def chat(self, request: web.Request, call: _Call) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        serving, began = self._serving, asyncio.get_running_loop().time()
        if (refused := self._stranger(request)) is not None:
            return _refused(refused, call.request_id)
        caller = self._caller(request)
        with serving.guard.counted(request.headers), self._calling.cancellable():
            data = await self._body(request)
            asked = chat_call(data, self._config(), caller.tenant, call.request_id)
            del data
            single = asked.request.tool_choice.is_single
            call.names, call.request_id = asked.names, asked.request.request_id
            mode = mode_of(self._config(), asked.settings)
            waits = not asked.is_stream or (mode == "hold_all" and not self._config().keep_alive_s)
            with self._deadlines.within(self._left(request, asked.settings, began, waits=waits)) as deadline:
                if asked.is_stream:
                    return await self._streamed(request, call, asked, deadline.at)
                answering = serving.router.route(asked.request, joinable=asked.is_repeatable, ends_by=deadline.at)
                answer = await (recorded(serving, answering) if serving.sync_ledger else answering)
        body = completion_body(answer, created=int(time.time()), fingerprint=self._fingerprint(), single_call=single)
        return _json(body, headers_of(answer.request_id, answer.completion))

    async def embed(self, request: web.Request, call: _Call) -> web.StreamResponse:
        """POST /v1/embeddings."""
        serving, began = self._serving, asyncio.get_running_loop().time()
        if (refused := self._stranger(request)) is not None:
            return _refused(refused, call.request_id)
        caller = self._caller(request)
        with serving.guard.counted(request.headers), self._calling.cancellable():
            asked = embeddings_call(await self._body(request), self._config(), caller.tenant, call.request_id)
            call.request_id = asked.request.request_id
            with self._deadlines.within(self._left(request, asked.settings, began, waits=True)) as deadline:
                answering = serving.router.embed(asked.request, joinable=asked.is_repeatable, ends_by=deadline.at)
                answer = await recorded(serving, answering)
        body = embeddings_body(answer, is_base64=asked.is_base64)
        return _json(body, headers_of(answer.request_id, answer.completion))

    async def list_models(self, request: web.Request, call: _Call) -> web.StreamResponse:
        """GET /v1/models."""
        listed = models_of(self._serving.router.blueprint, self._caller(request).tenant)
        data = [each.body(self._created) for each in listed]
        return _json({"object": "list", "data": data}, headers_of(call.request_id))

    async def show_model(self, request: web.Request, call: _Call) -> web.StreamResponse:
        """GET /v1/models/{id}."""
        name = request.match_info["id"]
        for each in models_of(self._serving.router.blueprint, self._caller(request).tenant):
            if each.id == name:
                return _json(each.body(self._created), headers_of(call.request_id))
        raise UnknownTaskError(f"there is no model {name[:128]!r} that this key may use")

    async def refuse(self, request: web.Request, call: _Call) -> web.StreamResponse:
        """Say what is served here, for any other path of OpenAI's API."""
        self._caller(request)
        told = (
            f"{request.method} {request.path[:128]} is not served: there are POST /v1/chat/completions, "
            "POST /v1/embeddings, GET /v1/models and GET /v1/models/{id}; a base URL ends in /v1"
        )
        return _refused(plain_failure(404, "unknown_url", told), call.request_id)

    async def _streamed(
        self, request: web.Request, call: _Call, asked: ChatCall, ends_by: float | None
    ) -> web.StreamResponse:
        """Answer as the model writes it."""
        serving, config = self._serving, self._config()
        mode = mode_of(config, asked.settings)
        policy = stream_policy(serving.router.blueprint, asked.request.task.id, asked.settings, mode)
        chunks = Chunks(
            mode,
            created=int(time.time()),
            fingerprint=self._fingerprint(),
            include_usage=asked.include_usage,
            single_call=asked.request.tool_choice.is_single,
        )
        wanted = msgspec.structs.replace(asked.request, stream=policy)
        streaming = serving.router.stream(wanted, joinable=asked.is_repeatable, ends_by=ends_by)
        sender = call.sender = EventSender(request, headers_of(call.request_id))
        async with sender.kept_alive(config.keep_alive_s), aclosing(streaming) as stream:
            async for events in stream:
                if serving.sync_ledger and isinstance(events[-1], Completed):
                    refused = await acknowledged(serving, ends_by)
                    if refused is not None:
                        raise refused
                data = chunks.take(events)
                if data:
                    await sender.send(data)
        last = chunks.end()
        completed = chunks.completed
        return await sender.end(last, headers_of(call.request_id, None if completed is None else completed.completion))

    def _caller(self, request: web.Request) -> Caller:
        return self._serving.access.caller(key_of(request))

    def _config(self) -> OpenAiConfig:
        return self._serving.router.blueprint.config.server.openai

    def _fingerprint(self) -> str:
        return f"fp_{self._serving.router.blueprint.revision[:12]}"

    def _left(self, request: web.Request, settings: Settings, began: float, *, waits: bool) -> float:
        """Give how long the call may take, reading what was sent included.

        Args:
            began: when it came, on the loop's clock.
            waits: nothing at all is sent before the whole answer is there, so that the client's patience bounds the call.
        """
        if settings.timeout_ms is not None:
            left = settings.timeout_ms / 1000
        else:
            left = self._serving.router.blueprint.config.defaults.deadline_s
            if waits:
                # The clients send their default too, which is no wish for more time than is usual here.
                left = min(left, *(_seconds(request.headers.get(name)) for name in _CLIENTS_PATIENCE))
        return left - (asyncio.get_running_loop().time() - began)

    def _stranger(self, request: web.Request) -> Failure | None:
        """Say why a request is not even looked at, if so."""
        said = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if said != "application/json":
            return plain_failure(415, "unsupported_content_type", "send application/json")
        if self._serving.guard.is_leaving:
            return plain_failure(503, "stopping", "the service is stopping; try again", retries=True)
        return None

    async def _body(self, request: web.Request) -> bytes:
        """Read the body, bounded in size and time."""
        most = self._serving.router.blueprint.config.server.max_message_bytes
        too_long = f"the body is longer than server.max_message_bytes ({most})"
        if (request.content_length or 0) > most:
            raise _TooLongError(too_long)
        body = bytearray()
        with self._deadlines.within(_BODY_S):
            while piece := await request.content.readany():
                body += piece
                if len(body) > most:
                    raise _TooLongError(too_long)
        return bytes(body)

    def _failure(self, request: web.Request, call: _Call, error: BaseException) -> Failure:
        if isinstance(error, AccessError):
            self._serving.guard.refusals.note(peer_of(request), error)
        if isinstance(error, _TooLongError):
            return plain_failure(413, "body_too_long", error.message)
        if isinstance(error, RouteError):
            return failure_of(error, call.names, call.request_id)
        if isinstance(error, TimeoutError):
            return failure_of(_DEADLINE, call.names, call.request_id)
        _log.error("a call failed by a fault of ours", exc_info=error)
        return unknown_failure(call.request_id)


def _json(body: object, headers: dict[str, str]) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), headers={**_JSON, **headers})


def _refused(failure: Failure, request_id: str) -> web.Response:
    headers = {**_JSON, **headers_of(request_id), **failure.headers}
    return web.Response(status=failure.status, body=failure.body(), headers=headers)


def _seconds(value: str | None) -> float:
    """Give the seconds that a header says; infinitely many when it says none."""
    try:
        seconds = float(value or "inf")
    except ValueError:
        return float("inf")
    return seconds if seconds > 0 else float("inf")
