"""The embedded model: llama.cpp's server on a Unix socket, asked as a base model.

Rules: prompts are made in `embedded/prompts.py` and bodies in `embedded/wire.py`; completions and embeddings are spoken by
the `openai` adapter, and what is llama.cpp's own (tokens, scores of labels) here. Labels are scored, not written, where the
model's entry has LABELS; the answer then comes as one chunk, streamed or not.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import anyio
import msgspec

from gearshift.core.catalogue import Feature
from gearshift.core.embedded.health import until_started
from gearshift.core.embedded.prompts import (
    Prompting,
    TextPrompt,
    continuation_prompt,
    input_text,
    json_prompt,
    label_prompt,
)
from gearshift.core.embedded.scoring import LabelScorer, Post
from gearshift.core.embedded.settings import EmbeddedSettings
from gearshift.core.embedded.vectors import pooled, windows
from gearshift.core.embedded.wire import (
    COMPLETIONS,
    EMBEDDINGS,
    HEADERS,
    TOKENIZE,
    completion_body,
    embeddings_body,
    read_failure,
    read_tokens,
    tokens_body,
)
from gearshift.core.errors import EmbeddedModelError
from gearshift.core.events import TextDelta
from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http, HttpResponse
from gearshift.core.provider import Account, Chunk, EmbedCall, EmbedResult, ProviderCall, Timeouts, TokenLogprob
from gearshift.core.providers._openai_answer import vectors as read_vectors
from gearshift.core.providers._openai_request import OpenAiRequest
from gearshift.core.providers._outgoing import encoded, invalid_request
from gearshift.core.providers._wire import UNREADABLE, malformed
from gearshift.core.providers.openai import OpenAiProvider
from gearshift.core.request import JsonOutput, LabelOutput, Message
from gearshift.core.words import FailureKind, FinishReason

_LEAST_S = 0.001
"""A timeout that has run out."""

_NOBODY_LISTENS = frozenset({errno.ECONNREFUSED, errno.ENOENT})


class EmbeddedProvider:
    """The `embedded` adapter. Tasks may share it; `http` is its owner's to close.

    Args:
        http: the connections.
        base_url: `unix://…/model.sock` of the running model; empty uses the account's, for a model that others run.
        window_tokens: the child's `batch_tokens`: longer texts are embedded in pieces of so many tokens.
    """

    def __init__(self, http: Http, base_url: str = "", *, window_tokens: int = EmbeddedSettings().batch_tokens) -> None:
        self._http = http
        self._openai = OpenAiProvider(http, "llamacpp")
        self._base_url = base_url
        self._accounts: dict[str, Account] = {}
        self._window_tokens = window_tokens
        self._scorer = LabelScorer()

    async def stream(self, call: ProviderCall) -> AsyncGenerator[Chunk]:
        """Give the answer: scored labels as one chunk, else one chunk an upstream read, or one in all.

        Raises:
            ProviderFailure: anything went wrong; CONNECT_TIMEOUT when the model did not come back from a restart in time.
        """
        upstream = self._upstream(call.account, call.timeouts, stream=call.stream)
        if isinstance(call.output, LabelOutput) and Feature.LABELS in call.model.features:
            yield await self._label(call, call.output, upstream.post)
            return
        prompt = _prompt(call)
        tokens = read_tokens(await upstream.post(TOKENIZE, tokens_body(prompt.text, begin=True)))
        body = completion_body(
            tokens,
            call.parameters,
            stop=prompt.stop,
            output=call.output if isinstance(call.output, JsonOutput) else None,
            stream=call.stream,
            logprobs=call.want_logprobs,
            extra=call.extra_body,
        )
        text = _Text(begun=bool(call.prefill))
        spoken = replace(call, account=upstream.account, timeouts=upstream.left())
        async with aclosing(self._openai.stream(spoken, OpenAiRequest(path=COMPLETIONS, body=body))) as chunks:
            async for chunk in chunks:
                text.trim(chunk)
                yield chunk

    async def embed(self, call: EmbedCall) -> EmbedResult:
        """Give one vector an input; a text longer than a window is the mean of its windows.

        Raises:
            ProviderFailure: as `stream`.
        """
        upstream = self._upstream(call.account, call.timeouts, stream=False)
        cuts = [
            windows(read_tokens(await upstream.post(TOKENIZE, tokens_body(text, begin=True))), self._window_tokens)
            for text in call.inputs
        ]
        rows = [row for cut in cuts for row in cut]
        body = await self._openai.post(
            upstream.account, upstream.left(), EMBEDDINGS, encoded(embeddings_body(rows)), call.trace_head
        )
        found, usage = read_vectors(body, len(rows))
        vectors: list[tuple[float, ...]] = []
        at = 0
        for pieces in cuts:
            vectors.append(pooled(found[at : at + len(pieces)], [len(piece) for piece in pieces]))
            at += len(pieces)
        return EmbedResult(vectors=tuple(vectors), usage=usage)

    async def aclose(self) -> None:
        """Do nothing: the connections are their owner's."""

    def _upstream(self, account: Account, timeouts: Timeouts, *, stream: bool) -> _Upstream:
        base_url = self._base_url or account.base_url
        if not base_url:
            raise ProviderFailure(FailureKind.CONNECTION, "the embedded model is not running")
        if (kept := self._accounts.get(base_url)) is None:
            kept = self._accounts[base_url] = Account(name=account.name, base_url=base_url, headers=HEADERS)
        return _Upstream(self._http, kept, timeouts, stream=stream)

    async def _label(self, call: ProviderCall, output: LabelOutput, post: Post) -> Chunk:
        prompting = Prompting.from_options(call.model.options)
        scores = await self._scorer.score(
            post,
            label_prompt(_system(call), output, prompting=prompting),
            input_text(call.messages),
            output.labels,
            calibrate=prompting.calibrate,
        )
        return Chunk(
            parts=[TextDelta(scores.label)],
            logprobs=[TokenLogprob(scores.label, scores.logprob, scores.runner_up)],
            tokens=1,
            usage=scores.usage,
            finish_reason=FinishReason.STOP,
            label_probabilities=scores.probabilities,
        )


class _Upstream:
    """The requests of one call, which keep its timeouts together: one call takes up to hundreds of them.

    Args:
        account: where the model is.
        stream: the first token is due within `first_token_s` of now; else the whole answer within `total_s`.
    """

    def __init__(self, http: Http, account: Account, timeouts: Timeouts, *, stream: bool) -> None:
        self.account = account
        self._http = http
        self._socket = Path(account.base_url.removeprefix("unix://"))
        self._timeouts = timeouts
        self._stream = stream
        self._began = anyio.current_time()

    async def post(self, path: str, body: dict[str, Any]) -> Mapping[str, Any]:
        """Send a body and give the whole answer.

        Raises:
            ProviderFailure: as `EmbeddedProvider.stream`.
        """
        content = encoded(body)
        try:
            if not _is_there(self._socket):  # it is starting, or starting again
                await self._until_started()
            try:
                response = await self._send(path, content)
            except ProviderFailure as failure:
                # It died a moment ago, and its socket has not been taken away yet.
                if not _is_harmless(path, failure):
                    raise
                await self._until_started()
                response = await self._send(path, content)
            try:
                answer = _decoded(await response.read_all())
                if response.status != HTTPStatus.OK:
                    raise read_failure(response.status, answer)
                return answer
            finally:
                response.close()
        except ProviderFailure as failure:
            if failure.kind is not FailureKind.TOTAL_TIMEOUT:
                raise
            due_s = self._timeouts.first_token_s if self._stream else self._timeouts.total_s
            kind = FailureKind.FIRST_TOKEN_TIMEOUT if self._stream else FailureKind.TOTAL_TIMEOUT
            raise ProviderFailure(kind, f"the embedded model did not answer within {due_s:g} s") from failure

    def left(self, *, preparing: bool = False) -> Timeouts:
        """Give what is left of the call's timeouts; what prepares a stream has only the time to its first token."""
        gone_s, whole = anyio.current_time() - self._began, self._timeouts
        first_s, total_s = (max(_LEAST_S, each - gone_s) for each in (whole.first_token_s, whole.total_s))
        return Timeouts(
            connect_s=whole.connect_s,
            first_token_s=first_s,
            idle_s=whole.idle_s,
            total_s=min(first_s, total_s) if preparing else total_s,
        )

    async def _send(self, path: str, body: bytes) -> HttpResponse:
        return await self._http.open(
            url=f"{self.account.base_url}{path}",
            headers=HEADERS,
            body=body,
            timeouts=self.left(preparing=self._stream),
            stream=False,
        )

    async def _until_started(self) -> None:
        with anyio.move_on_after(self.left().first_token_s):
            try:
                await until_started(self._socket)
            except EmbeddedModelError as error:
                raise ProviderFailure(FailureKind.CONNECTION, error.message) from error
            return
        waited_s = self._timeouts.first_token_s
        detail = f"the embedded model did not start within {waited_s:g} s; `gearshift status` shows why"
        raise ProviderFailure(FailureKind.CONNECT_TIMEOUT, detail)


class _Text:
    """Takes the white space off an answer's beginning: a base model writes the space that belongs to its first word."""

    def __init__(self, *, begun: bool) -> None:
        self._begun = begun

    def trim(self, chunk: Chunk) -> None:
        for index, part in enumerate(chunk.parts):
            if not self._begun and isinstance(part, TextDelta):
                chunk.parts[index] = TextDelta(part.text.lstrip())
                self._begun = bool(part.text.strip())
        chunk.parts = [part for part in chunk.parts if not isinstance(part, TextDelta) or part.text]


def _prompt(call: ProviderCall) -> TextPrompt:
    messages: Sequence[Message] = call.messages
    prompting = Prompting.from_options(call.model.options)
    match call.output:
        case JsonOutput() as output:
            if call.prefill:  # the grammar would begin the document again
                raise invalid_request("the embedded model cannot continue JSON that was begun")
            return json_prompt(_system(call), messages, output, prompting=prompting)
        case LabelOutput() as output:
            text = label_prompt(_system(call), output, prompting=prompting).fill(input_text(messages))
            return TextPrompt(text=text, stop=("\n",))
        case None:
            return continuation_prompt(_system(call), messages, prefill=call.prefill)


def _system(call: ProviderCall) -> str:
    return "\n\n".join(part for part in (call.system_static, call.system_dynamic) if part)


def _decoded(data: bytes) -> Mapping[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except UNREADABLE as error:
        raise malformed("the embedded model's answer is not JSON") from error


def _is_there(path: Path) -> bool:
    return path.exists()


def _is_harmless(path: str, failure: ProviderFailure) -> bool:
    """Tell whether the model was not asked yet: nobody listened, or it was only to split a text into tokens."""
    cause = failure.__cause__
    refused = isinstance(cause, OSError) and cause.errno in _NOBODY_LISTENS
    return refused or (path == TOKENIZE and failure.kind is FailureKind.CONNECTION)
