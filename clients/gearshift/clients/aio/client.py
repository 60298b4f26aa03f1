"""The client: dial, call, close.

Rules: every call takes a context first and has a deadline (the context's, else the client's default timeout). Long
system prompts are sent once and named by their key after that; this is invisible but for the bytes. Tasks may share a
client, not a stream.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from google.protobuf import wrappers_pb2

from gearshift.clients import calls
from gearshift.clients._transport.aio import Channel, ServerStream, open_channel, unary
from gearshift.clients.aio.connection import Connection
from gearshift.clients.aio.ops import OpsClient
from gearshift.clients.aio.streams import RouteStream
from gearshift.clients.context import Context, background
from gearshift.clients.errors import RpcError
from gearshift.clients.options import Option, Settings, settings_from
from gearshift.clients.prompt_memory import PromptMemory, is_forgotten
from gearshift.v1 import answer_pb2, call_pb2, router_pb2
from gearshift.v1.router_pb2_grpc import RouterServiceStub

if TYPE_CHECKING:
    from gearshift.v1.router_pb2_grpc import RouterServiceAsyncStub

VerdictName = Literal["accepted", "corrected", "rejected"]
_SERVING = 1
"""Of HealthCheckResponse.ServingStatus."""


def dial(target: str, *options: Option) -> Client:
    """Make a client of a server; nothing is connected before the first call.

    Args:
        target: "host:port", "unix:/path.sock", "dns:///name:port" or "ipv4:a:port,b:port".
        options: `with_tls`, `with_api_key`, `with_retry` and the others; later ones win.

    Raises:
        ValueError: the target is empty, or a key would cross a network in the clear.

    """
    settings = settings_from(target, options)
    return Client(functools.partial(open_channel, target, settings), settings)


class Client:
    """A client of one server; close it when done, or use it in `async with`."""

    def __init__(self, channel: Channel | Callable[[], Channel], settings: Settings | None = None) -> None:
        """Take any channel, or what makes one with the first call; the client closes it."""
        self._connection = Connection(channel, settings or Settings())
        self._prompts = PromptMemory()
        self._stub: RouterServiceAsyncStub | None = None
        self.ops = OpsClient(self._connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection and end its calls; twice is fine."""
        await self._connection.aclose()

    async def is_serving(self, ctx: Context, *, service: str = "") -> bool:
        """Say whether the server takes calls (grpc.health.v1); no key is needed, unless its operator wants one.

        Args:
            service: such as "gearshift.v1.RouterService"; empty is the whole server.

        Raises:
            RpcError: it could not be asked, or does not know the service (NOT_FOUND).

        """
        # Request and response are a string and a number in field 1, as these two are: no package is needed for them.
        check = self._connection.channel().unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=wrappers_pb2.StringValue.SerializeToString,
            response_deserializer=wrappers_pb2.Int32Value.FromString,
        )
        response = await unary(check, wrappers_pb2.StringValue(value=service), ctx, self._connection.settings)
        return response.value == _SERVING

    async def execute(
        self, task: str, prompt: str, context: calls.CallOptions | None = None, *, ctx: Context | None = None
    ) -> answer_pb2.Answer:
        """Send one prompt to the cheapest model that can do it well.

        Args:
            task: a task type ("classify", "extract", "generate", "reason"), or the id of a declared task.
            prompt: what the user says.
            context: anything that `call` takes, by name, such as `{"labels": ["bug", "praise"]}`; "task" in it names
                the id that cost is attributed to when `task` is a type, which otherwise stands for it.
            ctx: deadline, cancellation and metadata; None is the empty one.

        Raises:
            ValueError: the context holds a name that `call` does not know.
            RpcError: the call failed.

        """
        return await self.route(ctx or background(), calls.execute_call(task, prompt, context))

    async def route(self, ctx: Context, call: call_pb2.Call) -> answer_pb2.Answer:
        """Answer one call whole.

        Raises:
            RpcError: it failed. An answer that is merely poor is no error, unless the call says `require_valid`:
                look at `answer.completion.outcome`.

        """
        ctx = self._bounded(ctx)
        request = router_pb2.RouteRequest(call=call)
        is_short = self._prepare(request.call)
        route = self._router().Route
        while True:
            try:
                response = await unary(route, request, ctx, self._connection.settings)
                break
            except RpcError as error:
                if not is_short or not is_forgotten(error):
                    raise
            is_short = False
            self._prompts.forget(call.task.id, call.system.text)
            self._lengthen(request.call, call)
        answer = response.answer
        self._prompts.remember(call.task.id, call.system.text, answer.completion.prompt_key)
        return answer

    def stream_route(
        self, ctx: Context, call: call_pb2.Call, stream: call_pb2.StreamPolicy | None = None
    ) -> RouteStream:
        """Answer one call as the model writes it; fold the events with an `Accumulator`.

        Raises:
            RpcError: from the stream, when it is opened or received from.

        """
        request = router_pb2.StreamRouteRequest(call=call, stream=stream)
        is_short = self._prepare(request.call)
        begun: Context | None = None

        def open_call() -> ServerStream[router_pb2.StreamRouteResponse]:
            nonlocal begun
            if begun is None:
                begun = self._bounded(ctx)
            return ServerStream(self._router().StreamRoute, request, begun, self._connection.settings)

        def open_whole() -> ServerStream[router_pb2.StreamRouteResponse]:
            self._lengthen(request.call, call)
            return open_call()

        return RouteStream(open_call, call=call, prompts=self._prompts, open_whole=open_whole if is_short else None)

    async def embed(
        self,
        ctx: Context,
        task: str,
        inputs: Sequence[str],
        *,
        input_type: calls.InputTypeName | None = None,
        dimensions: int | None = None,
        truncation: calls.TruncationName | None = None,
        vector_space: str = "",
        allow_space_change: bool = False,
        sensitivity: calls.SensitivityName | None = None,
        request_id: str = "",
        policy: call_pb2.Policy | None = None,
    ) -> router_pb2.EmbedResponse:
        """Turn texts into vectors, one each, in order.

        Args:
            ctx: deadline, cancellation and metadata.
            task: the id that cost is attributed to.
            inputs: 1 to 2048 texts, none empty.
            input_type: what the texts are for; None is neither.
            dimensions: length of each vector; None is the model's own.
            truncation: what happens to a text that is too long; None is an error.
            vector_space: the space that the vectors must be in, as an earlier response gave it.
            allow_space_change: a fallback may answer in another space, which ruins an index that mixes them.
            sensitivity: the clearance that a provider must have.
            request_id: a repeat within the server's window returns the same result.
            policy: what is asked of the chain, such as a cap on cost.

        Raises:
            TypeError: inputs is one text.
            RpcError: the call failed.

        """
        request = calls.embed_request(
            task,
            inputs,
            input_type=input_type,
            dimensions=dimensions,
            truncation=truncation,
            vector_space=vector_space,
            allow_space_change=allow_space_change,
            sensitivity=sensitivity,
            request_id=request_id or self._request_id(),
            policy=policy,
        )
        return await unary(self._router().Embed, request, ctx, self._connection.settings)

    async def explain(
        self, ctx: Context, call: call_pb2.Call, stream: call_pb2.StreamPolicy | None = None
    ) -> router_pb2.ExplainResponse:
        """Say what would be decided and which stages would run, without running them.

        Raises:
            RpcError: the call failed.

        """
        request = router_pb2.ExplainRequest(call=call, stream=stream)
        return await unary(self._router().Explain, request, ctx, self._connection.settings)

    async def put_prompt(
        self, ctx: Context, task_id: str, text: str, *, static: bool = False
    ) -> router_pb2.PutPromptResponse:
        """Store a system prompt of more than 500 characters; later calls with this text send its key.

        Raises:
            RpcError: the call failed.

        """
        request = router_pb2.PutPromptRequest(task_id=task_id, text=text, static=static)
        response = await unary(self._router().PutPrompt, request, ctx, self._connection.settings)
        self._prompts.remember(task_id, text, response.key)
        return response

    async def delete_prompt(self, ctx: Context, task_id: str, key: str) -> bool:
        """Have a stored system prompt forgotten; return whether it was there.

        Raises:
            RpcError: the call failed.

        """
        self._prompts.forget_key(task_id, key)
        request = router_pb2.DeletePromptRequest(task_id=task_id, key=key)
        return (await unary(self._router().DeletePrompt, request, ctx, self._connection.settings)).deleted

    async def report_outcome(
        self,
        ctx: Context,
        request_id: str,
        verdict: VerdictName,
        *,
        correction: str = "",
    ) -> None:
        """Tell what became of an answer, so that gates can learn.

        Args:
            ctx: deadline, cancellation and metadata.
            request_id: of the answer.
            verdict: it was right, had to be corrected, or was of no use.
            correction: what it should have been.

        Raises:
            RpcError: the call failed.

        """
        request = router_pb2.ReportOutcomeRequest(
            request_id=request_id,
            verdict=router_pb2.OutcomeVerdict.Value(f"OUTCOME_VERDICT_{verdict.upper()}"),
            correction=correction,
        )
        await unary(self._router().ReportOutcome, request, ctx, self._connection.settings)

    def _router(self) -> RouterServiceAsyncStub:
        channel = self._connection.channel()
        if self._stub is None:
            self._stub = RouterServiceStub(channel)
        return self._stub

    def _bounded(self, ctx: Context) -> Context:
        """Give a context with a deadline, so that a call that is made twice has one for both."""
        return ctx if ctx.deadline is not None else ctx.with_timeout(self._connection.settings.default_timeout)

    def _prepare(self, call: call_pb2.Call) -> bool:
        """Name the request when it may be sent twice, and its prompt by key when that is known; return the latter."""
        if not call.request_id:
            call.request_id = self._request_id()
        return self._prompts.shorten(call)

    def _lengthen(self, sent: call_pb2.Call, whole: call_pb2.Call) -> None:
        """Put the text back; a request id that we made is made anew, since its request was refused."""
        sent.system.CopyFrom(whole.system)
        if not whole.request_id:
            sent.request_id = self._request_id()

    def _request_id(self) -> str:
        """Make an id when grpc may send a request twice, so that the repeat joins the first; else leave it open."""
        return uuid.uuid4().hex if self._connection.settings.retry is not None else ""
