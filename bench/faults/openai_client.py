"""A client of the OpenAI format that believes what it is told, as the official SDKs do.

Rules: a status from 400 on, an `error` in the body or in an event, a frame that is not JSON, and a body that breaks off
are errors; a body that ends in order is success, whatever was in it. The finish reason is kept, so that it can be told
how many silent truncations a caller that looks at it would have noticed.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import anyio
import msgspec

from bench.faults.work import SCHEMA, SCHEMA_NAME, Heard, Question

DEADLINE_S = 20.0
"""How long a caller waits for an answer in all."""


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] | None = None
    error: Any = None


class _Said(msgspec.Struct):
    message: str


class _Failed(msgspec.Struct):
    error: _Said


_BODY = msgspec.json.Decoder(_Body)
_ERROR = msgspec.json.Decoder(_Failed)


class OpenAiClient:
    """Asks one gateway or provider."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, timeouts: aiohttp.ClientTimeout) -> None:
        self._session = session
        self._url = f"{base_url}/chat/completions"
        self._timeouts = timeouts

    async def ask(self, question: Question, model: str, headers: Mapping[str, str]) -> Heard:
        """Ask, and tell what came."""
        heard = Heard()
        began = time.perf_counter()
        try:
            with anyio.fail_after(DEADLINE_S):
                async with self._session.post(
                    self._url,
                    data=msgspec.json.encode(_body(question, model)),
                    headers={"content-type": "application/json", "authorization": "Bearer bench", **headers},
                    timeout=self._timeouts,
                ) as response:
                    if response.status >= 400:
                        heard.error = f"HTTP {response.status}: {_told(await response.read())}"
                    elif question.mode.stream:
                        await _stream(response, heard, began)
                    else:
                        _whole(await response.read(), heard)
        except TimeoutError:
            heard.error = "the caller waited too long"
        except (aiohttp.ClientError, ConnectionError) as error:
            heard.error = f"{type(error).__name__}: the connection failed or broke off"
        heard.latency_s = time.perf_counter() - began
        return heard


def _body(question: Question, model: str) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": question.prompt}]}
    if question.mode.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if question.mode.json:
        schema = {"name": SCHEMA_NAME, "schema": SCHEMA, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


async def _stream(response: aiohttp.ClientResponse, heard: Heard, began: float) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    waiting = ""
    async for piece in response.content.iter_any():
        waiting += decoder.decode(piece).replace("\r\n", "\n")
        *events, waiting = waiting.split("\n\n")
        for event in events:
            if _is_last(event, heard, began) or heard.error:
                return


def _is_last(event: str, heard: Heard, began: float) -> bool:
    """Take in one event; tell whether it is the end mark."""
    data = "\n".join(line[5:].strip() for line in event.splitlines() if line.startswith("data:"))
    if data in ("", "[DONE]"):
        return bool(data)
    try:
        body = _BODY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        heard.error = "a frame is not JSON, or no frame of the format"
        return False
    if body.error is not None:
        heard.error = f"an error inside the stream: {_told(data.encode())}"
        return False
    for choice in body.choices or ():
        text = choice.delta.content if choice.delta is not None else None
        if text and heard.first_text_s is None:
            heard.first_text_s = time.perf_counter() - began
        heard.text += text or ""
        heard.finish = choice.finish_reason or heard.finish
    return False


def _whole(data: bytes, heard: Heard) -> None:
    try:
        body = _BODY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        heard.error = "the body is not JSON, or no body of the format"
        return
    if body.error is not None:
        heard.error = f"an error inside a 200: {_told(data)}"
    elif not body.choices or body.choices[0].message is None:
        heard.error = "the body is no chat completion"
    else:
        heard.text = body.choices[0].message.content or ""
        heard.finish = body.choices[0].finish_reason or ""


def _told(data: bytes) -> str:
    """Give an error's message, shortened."""
    try:
        told = _ERROR.decode(data).error.message
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = data.decode("utf-8", "replace")
    return " ".join(told.split())[:160]
