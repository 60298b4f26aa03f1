"""The turns of a conversation, built in one line each.

Rules: values only; what an answer gave as `provider_state` goes back unchanged on its assistant turn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gearshift.v1 import answer_pb2, call_pb2


def user(*parts: str | call_pb2.Image) -> call_pb2.Message:
    """Give a user turn of texts and images, in order."""
    return call_pb2.Message(role=call_pb2.ROLE_USER, parts=[_part(part) for part in parts])


def assistant(answer: str | answer_pb2.Answer) -> call_pb2.Message:
    """Give an assistant turn: a text, or a whole answer with its tool calls and its provider's state."""
    if isinstance(answer, str):
        return call_pb2.Message(role=call_pb2.ROLE_ASSISTANT, parts=[call_pb2.Part(text=answer)])
    parts = [call_pb2.Part(text=answer.text)] if answer.text else []
    parts += [call_pb2.Part(tool_call=tool_call) for tool_call in answer.tool_calls]
    state = answer.completion.provider_state if answer.completion.HasField("provider_state") else None
    return call_pb2.Message(role=call_pb2.ROLE_ASSISTANT, parts=parts, provider_state=state)


def tool_result(tool_call_id: str, content: str, *, is_error: bool = False) -> call_pb2.Message:
    """Give the turn that tells a tool's result."""
    result = call_pb2.ToolResult(tool_call_id=tool_call_id, content=content, is_error=is_error)
    return call_pb2.Message(role=call_pb2.ROLE_TOOL, parts=[call_pb2.Part(tool_result=result)])


def image(data: bytes, media_type: str) -> call_pb2.Image:
    """Give an image of encoded bytes; media_type is image/png, image/jpeg, image/gif or image/webp."""
    return call_pb2.Image(data=data, media_type=media_type)


def image_url(url: str) -> call_pb2.Image:
    """Give an image by its https URL, which only the provider fetches."""
    return call_pb2.Image(url=url)


def tool(name: str, description: str = "", parameters: Mapping[str, Any] | str = "") -> call_pb2.Tool:
    """Give a tool that the model may ask for; parameters is the JSON Schema of its arguments."""
    schema = parameters if isinstance(parameters, str) else json.dumps(parameters, ensure_ascii=False)
    return call_pb2.Tool(name=name, description=description, parameters_schema=schema)


def conversation(*turns: str) -> Sequence[call_pb2.Message]:
    """Give turns of text that begin with the user and alternate."""
    return [assistant(text) if index % 2 else user(text) for index, text in enumerate(turns)]


def _part(part: str | call_pb2.Image) -> call_pb2.Part:
    return call_pb2.Part(text=part) if isinstance(part, str) else call_pb2.Part(image=part)
