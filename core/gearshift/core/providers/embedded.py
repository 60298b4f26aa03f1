"""The embedded model: llama.cpp's server on a Unix socket, asked as a base model.

Rules: prompts are made in `embedded/prompts.py` and bodies in `embedded/wire.py`; here is only the order of things. Labels
are scored, not written, where the model's entry has LABELS; the answer then comes as one chunk, streamed or not.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import anyio
import msgspec

from gearshift.core.answer import Usage
from gearshift.core.catalogue import Feature
from gearshift.core.embedded.health import until_healthy
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
    read_completion,
    read_embeddings,
    read_failure,
    read_tokens,
    tokens_body,
)
from gearshift.core.events import TextDelta
from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http, HttpResponse
from gearshift.core.provider import Account, Chunk, EmbedCall, EmbedResult, ProviderCall, Timeouts, TokenLogprob
from gearshift.core.providers._wire import SseSplitter, cut, malformed
from gearshift.core.request import JsonOutput, LabelOutput, Message
from gearshift.core.words import FailureKind, FinishReason

_END = b"[DONE]"


class EmbeddedProvider:
    """The `embedded` adapter. Tasks may share it; `http` is its owner's to close.

    Args:
        http: the connections.
        base_url: `unix://…/model.sock` of the running model; empty uses the account's, for a model that others run.
        window_tokens: the child's `batch_tokens`: longer texts are embedded in pieces of so many tokens.
    """

    def __init__(self, http: Http, base_url: str = "", *, window_tokens: int = EmbeddedSettings().batch_tokens) -> None:
        self._http = http
        self._base_url = base_url
        self._window_tokens = window_tokens
        self._scorer = LabelScorer()

    async def stream(self, call: ProviderCall) -> AsyncGenerator[Chunk]:
        """Give the answer: scored labels as one chunk, else one chunk an upstream read, or one in all."""
        if isinstance(call.output, LabelOutput) and Feature.LABELS in call.model.features:
            yield await self._label(call, call.output)
            return
        prompt = _prompt(call)
        post = self._post(call.account, call.timeouts)
        body = completion_body(
            read_tokens(await post(TOKENIZE, tokens_body(prompt.text, begin=True))),
            call.parameters,
            stop=prompt.stop,
            output=call.output if isinstance(call.output, JsonOutput) else None,
            stream=call.stream,
            logprobs=call.want_logprobs,
            extra=call.extra_body,
        )
        text = _Text(begun=bool(call.prefill))
        if not call.stream:
            chunk = text.trimmed(read_completion(await post(COMPLETIONS, body)))
            yield chunk
            return
        response = await self._open(call.account, call.timeouts, COMPLETIONS, body, stream=True)
        try:
            events = SseSplitter()
            while True:
                data = await response.read()
                chunk = Chunk()
                for payload in events.feed(data) if data else events.finish():
                    if payload != _END:
                        _add(chunk, text.trimmed(read_completion(_decoded(payload))))
                if chunk.tokens:
                    response.progress()
                if chunk.parts or chunk.logprobs or chunk.finish_reason is not None:
                    yield chunk
                if chunk.finish_reason is not None:
                    return
                if not data:
                    raise cut()
        finally:
            response.close()

    async def embed(self, call: EmbedCall) -> EmbedResult:
        """Give one vector an input; a text longer than a window is the mean of its windows."""
        post = self._post(call.account, call.timeouts)
        cuts = [
            windows(read_tokens(await post(TOKENIZE, tokens_body(text, begin=True))), self._window_tokens)
            for text in call.inputs
        ]
        found, used = read_embeddings(await post(EMBEDDINGS, embeddings_body([row for cut in cuts for row in cut])))
        vectors: list[tuple[float, ...]] = []
        at = 0
        for pieces in cuts:
            vectors.append(pooled(found[at : at + len(pieces)], [len(piece) for piece in pieces]))
            at += len(pieces)
        return EmbedResult(vectors=tuple(vectors), usage=Usage(input_tokens=used))

    async def aclose(self) -> None:
        """Do nothing: the connections are their owner's."""

    async def _label(self, call: ProviderCall, output: LabelOutput) -> Chunk:
        prompting = Prompting.from_options(call.model.options)
        scores = await self._scorer.score(
            self._post(call.account, call.timeouts),
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

    def _post(self, account: Account, timeouts: Timeouts) -> Post:
        async def post(path: str, body: dict[str, Any]) -> Mapping[str, Any]:
            response = await self._open(account, timeouts, path, body, stream=False)
            try:
                return _decoded(await response.read_all())
            finally:
                response.close()

        return post

    async def _open(
        self, account: Account, timeouts: Timeouts, path: str, body: dict[str, Any], *, stream: bool
    ) -> HttpResponse:
        base_url = self._base_url or account.base_url
        if not base_url:
            raise ProviderFailure(FailureKind.CONNECTION, "the embedded model is not running")
        socket = Path(base_url.removeprefix("unix://"))
        if not _is_there(socket):  # it is starting, or starting again
            with anyio.move_on_after(timeouts.first_token_s) as patience:
                await until_healthy(socket)
            if patience.cancelled_caught:
                detail = f"the embedded model did not start within {timeouts.first_token_s:g} s"
                raise ProviderFailure(FailureKind.CONNECT_TIMEOUT, detail)
        response = await self._http.open(
            url=f"{base_url}{path}",
            headers=HEADERS,
            body=msgspec.json.encode(body),
            timeouts=timeouts,
            stream=stream,
        )
        if response.status == HTTPStatus.OK:
            return response
        try:
            raise read_failure(response.status, _decoded(await response.read_all()))
        finally:
            response.close()


class _Text:
    """Takes the white space off an answer's beginning: a base model writes the space that belongs to its first word."""

    def __init__(self, *, begun: bool) -> None:
        self._begun = begun

    def trimmed(self, chunk: Chunk) -> Chunk:
        for index, part in enumerate(chunk.parts):
            if not self._begun and isinstance(part, TextDelta):
                chunk.parts[index] = TextDelta(part.text.lstrip())
                self._begun = bool(part.text.strip())
        chunk.parts = [part for part in chunk.parts if not isinstance(part, TextDelta) or part.text]
        return chunk


def _prompt(call: ProviderCall) -> TextPrompt:
    messages: Sequence[Message] = call.messages
    prompting = Prompting.from_options(call.model.options)
    match call.output:
        case JsonOutput() as output:
            return json_prompt(_system(call), messages, output, prompting=prompting, prefill=call.prefill)
        case LabelOutput() as output:
            text = label_prompt(_system(call), output, prompting=prompting).fill(input_text(messages))
            return TextPrompt(text=text, stop=("\n",))
        case None:
            return continuation_prompt(_system(call), messages, prefill=call.prefill)


def _system(call: ProviderCall) -> str:
    return "\n\n".join(part for part in (call.system_static, call.system_dynamic) if part)


def _add(whole: Chunk, piece: Chunk) -> None:
    whole.parts += piece.parts
    whole.logprobs += piece.logprobs
    whole.tokens += piece.tokens
    whole.usage = piece.usage or whole.usage
    whole.finish_reason = piece.finish_reason or whole.finish_reason


def _decoded(data: bytes) -> Mapping[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise malformed("the embedded model's answer is not JSON") from error


def _is_there(path: Path) -> bool:
    return path.exists()
