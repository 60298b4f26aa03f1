"""Voyage AI's embeddings: https://docs.voyageai.com/reference/embeddings-api.

Rules: vectors only; asked for an answer, it refuses. Its answers have OpenAI's form, and its errors a `detail`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

from gearshift.core.failures import ProviderFailure
from gearshift.core.http import Http
from gearshift.core.provider import Chunk, EmbedCall, EmbedResult, ProviderCall
from gearshift.core.providers._openai_answer import vectors
from gearshift.core.providers._outgoing import encoded
from gearshift.core.providers.openai import OpenAiProvider
from gearshift.core.words import FailureKind, InputType, Truncation

_INPUT_TYPES: Mapping[InputType, str] = {InputType.QUERY: "query", InputType.DOCUMENT: "document"}


class VoyageProvider:
    """Voyage's embedding models. Tasks may share it; `http` is its owner's to close."""

    def __init__(self, http: Http) -> None:
        self._wire = OpenAiProvider(http, "compatible")

    async def stream(self, call: ProviderCall) -> AsyncGenerator[Chunk]:
        """Refuse: there are no models that answer.

        Raises:
            ProviderFailure: INVALID_REQUEST, always.
        """
        raise ProviderFailure(FailureKind.INVALID_REQUEST, "the provider only embeds")
        yield Chunk()  # what makes this a generator

    async def embed(self, call: EmbedCall) -> EmbedResult:
        """Give one vector an input."""
        body: dict[str, object] = {
            "model": call.model.wire_id,
            "input": call.inputs,
            # Said always: Voyage's own default cuts silently.
            "truncation": call.truncation is Truncation.END,
        }
        if call.input_type is not None:
            body["input_type"] = _INPUT_TYPES[call.input_type]
        if call.dimensions is not None:
            body["output_dimension"] = call.dimensions
        body.update(call.extra_body)
        answer = await self._wire.post(call.account, call.timeouts, "/embeddings", encoded(body), call.trace_head)
        found, usage = vectors(answer, len(call.inputs))
        return EmbedResult(vectors=found, usage=usage)

    async def aclose(self) -> None:
        """Do nothing: the connections are their owner's."""
