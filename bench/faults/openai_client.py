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


class OpenAiClient:
    """Asks one gateway; `headers` and `body` go with every request."""

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
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith("data:")]
    if not lines:
        return False
    data = "\n".join(lines)
    if data == "[DONE]":
        return True
    try:
        frame = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        heard.error = "a frame is not JSON"
        return False
    if not isinstance(frame, dict) or frame.get("error"):
        heard.error = f"an error inside the stream: {_told(data.encode())}"
        return False
    for choice in frame.get("choices") or ():
        text = (choice.get("delta") or {}).get("content") or ""
        if text and heard.first_text_s is None:
            heard.first_text_s = time.perf_counter() - began
        heard.text += text
        heard.finish = choice.get("finish_reason") or heard.finish
    return False


def _whole(body: bytes, heard: Heard) -> None:
    try:
        document = msgspec.json.decode(body)
        if isinstance(document, dict) and document.get("error"):
            heard.error = f"an error inside a 200: {_told(body)}"
            return
        choice = document["choices"][0]
        heard.text = choice["message"].get("content") or ""
        heard.finish = choice.get("finish_reason") or ""
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, IndexError, TypeError, AttributeError):
        heard.error = "the body is no chat completion"


def _told(body: bytes) -> str:
    """Give an error's message, shortened."""
    try:
        error = msgspec.json.decode(body)["error"]
        told = error["message"] if isinstance(error, dict) else str(error)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        told = body.decode("utf-8", "replace")
    return " ".join(str(told).split())[:160]
