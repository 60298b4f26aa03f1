"""OpenAI's chat and embeddings formats: OpenAI, Groq, DeepSeek, vLLM, llama.cpp and every compatible server.

Rules: how servers differ is data (`_openai_dialects.py`); what is sent is built in `_openai_request.py` and what comes
back is read in `_openai_answer.py`, both pure. Here is only the order of things: send, read, fold, close.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping

from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http, HttpResponse, Sender, Woken
from gearshift.core.provider import Account, Chunk, EmbedCall, EmbedResult, ProviderCall, Timeouts
from gearshift.core.providers._incoming import is_answer, require_answer
from gearshift.core.providers._openai_answer import AnswerFold, kind_of_error, room_of_error, vectors
from gearshift.core.providers._openai_dialects import DIALECTS, Dialect
from gearshift.core.providers._openai_request import OpenAiRequest, chat_request, embed_request
from gearshift.core.providers._outgoing import encoded, headers_of
from gearshift.core.providers._wire import SseSplitter, failure, is_json, retry_after_s
from gearshift.core.words import FailureKind

_SENDERS = 256
"""Most heads of requests that are kept."""


class OpenAiProvider:
    """Models behind OpenAI's format. Tasks may share it; `http` is its owner's to close.

    Args:
        http: the connections.
        dialect: a name in DIALECTS; empty is `compatible`.

    Raises:
        ValueError: there is no such dialect.
    """

    def __init__(self, http: Http, dialect: str = "") -> None:
        name = dialect or "compatible"
        if name not in DIALECTS:
            raise ValueError(f"no dialect {dialect!r}; there are {', '.join(DIALECTS)}")
        self._http = http
        self._dialect: Dialect = DIALECTS[name]
        self._senders: dict[tuple[str, str, bool], tuple[Account, Sender]] = {}

    async def stream(self, call: ProviderCall, request: OpenAiRequest | None = None) -> AsyncGenerator[Chunk]:
        """Give the answer, one chunk an upstream read; a unary call gives one.

        Args:
            call: what is asked.
            request: its body, where the caller knows the model better than `chat_request` does.
        """
        if request is None:
            request = chat_request(call, self._dialect)
        fold, notes = self._fold(call), tuple(request.notes)
        body = encoded(request.body)
        sender = self._sender(call.account, request.path, call.stream)
        response = await self._http.send(sender, body, call.timeouts, call.trace_head)
        try:
            if not is_answer(response):
                await require_answer(response, _failure_of)
            if not call.stream or is_json(response.content_type):
                # Asked for, or from a server that does not stream: the whole answer is one chunk, the last.
                whole, failed = await _whole(response, fold, notes)
                if whole is not None:
                    yield whole
                if failed is not None:
                    raise failed
                return
            splitter = SseSplitter()
            if call.wake is not None:
                call.wake.by(response.wake)
            while not fold.done:
                try:
                    data = await response.read()
                except Woken:
                    yield Chunk()
                    continue
                chunk, broken = Chunk(), None
                try:
                    for payload in splitter.feed(data) if data else splitter.finish():
                        fold.add(payload, chunk)
                except ProviderFailure as failure:
                    broken = failure  # what came before it in the same read was written, and is billed
                if fold.moved:
                    fold.moved = False
                    response.progress()
                if chunk.parts or chunk.logprobs or (chunk.usage is not None and not fold.done):
                    chunk.notes, notes = notes, ()
                    yield chunk
                if broken is not None:
                    raise broken
                if not data:
                    break
            last = Chunk()
            try:
                fold.end(last)
            except ProviderFailure:
                if fold.usage is not None and fold.done:
                    yield Chunk(usage=fold.usage)
                raise
            last.notes = notes
            response.finish()
            yield last
        finally:
            response.close()

    async def answer(self, call: ProviderCall, take: Callable[[Chunk], None]) -> None:
        """Have `take` take the answer to a unary call."""
        request = chat_request(call, self._dialect)
        body = encoded(request.body)
        sender = self._sender(call.account, request.path, False)
        response = await self._http.send(sender, body, call.timeouts, call.trace_head)
        try:
            if not is_answer(response):
                await require_answer(response, _failure_of)
            whole, failed = await _whole(response, self._fold(call), tuple(request.notes))
            if whole is not None:
                take(whole)
            if failed is not None:
                raise failed
        finally:
            response.close()

    async def embed(self, call: EmbedCall) -> EmbedResult:
        """Give one vector an input."""
        request = embed_request(call, self._dialect)
        body = await self.post(call.account, call.timeouts, request.path, encoded(request.body), call.trace_head)
        found, usage = vectors(body, len(call.inputs))
        return EmbedResult(vectors=found, usage=usage, notes=tuple(request.notes))

    async def post(self, account: Account, timeouts: Timeouts, path: str, body: bytes, more: bytes = b"") -> bytes:
        """Send a body to a path under the account's base URL and give the whole answer.

        Args:
            account: where it goes.
            timeouts: of the call.
            path: as in OpenAI's format.
            body: JSON.
            more: header lines of this call alone, each ended by CRLF.

        Raises:
            ProviderFailure: as `stream`.
        """
        response = await self._http.send(self._sender(account, path, False), body, timeouts, more)
        try:
            if not is_answer(response):
                await require_answer(response, _failure_of)
            return await response.read_all()
        finally:
            response.close()

    async def aclose(self) -> None:
        """Do nothing: the connections are their owner's."""

    def _fold(self, call: ProviderCall) -> AnswerFold:
        return AnswerFold(
            want_reasoning=call.want_reasoning,
            keep_reasoning=self._dialect.state_from_reasoning,
            may_be_empty=bool(call.prefill or call.parameters.stop),
        )

    def _sender(self, account: Account, path: str, stream: bool) -> Sender:
        """Give what calls to a path have in common; accounts are replaced, never changed."""
        key = (account.name, path, stream)
        kept = self._senders.get(key)
        if kept is None or kept[0] is not account:
            if len(self._senders) >= _SENDERS:
                self._senders.clear()
            headers = headers_of(account, accept="text/event-stream" if stream else "application/json")
            sender = self._http.sender(url=_url(account.base_url, path), headers=headers, stream=stream)
            kept = self._senders[key] = (account, sender)
        return kept[1]


async def _whole(
    response: HttpResponse, fold: AnswerFold, notes: tuple[str, ...]
) -> tuple[Chunk | None, ProviderFailure | None]:
    """Read an answer that comes whole; of one that was written and is none, give what it used, and why it is none.

    Raises:
        ProviderFailure: nothing can be read.
    """
    last = Chunk()
    if body := (await response.read_all()).strip():
        fold.add_whole(body, last)
    try:
        fold.end(last)
    except ProviderFailure as failed:
        return Chunk(usage=fold.usage) if fold.usage is not None and fold.done else None, failed
    last.notes = notes
    response.finish()
    return last, None


def _url(base_url: str, path: str) -> str:
    """Give the address of a path: a bare socket has OpenAI's under /v1, and DeepSeek's beta stands beside /v1."""
    base = base_url.rstrip("/")
    if base.startswith("unix://") and base.endswith(".sock"):
        base += "/v1"
    if path.startswith("/beta/"):
        base = base.removesuffix("/v1").removesuffix("/beta")
    return base + path


def _failure_of(status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
    """Give the failure that an error answer means."""
    failed = failure(kind_of_error(status, body), status=status, retry_after_s=retry_after_s(headers, now=time.time()))
    if failed.kind is FailureKind.CONTEXT_LENGTH and (room := room_of_error(body)):
        failed = ProviderFailure(failed.kind, failed.detail + room, status=status)
    return failed
