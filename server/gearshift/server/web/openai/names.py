"""The client's names for the fields of a core request, so that a fault names what the client wrote.

Rules: pure. A field that has no other name keeps its own.
"""

from __future__ import annotations

import re

from gearshift.server.web.openai.bodies import ChatBody

_MESSAGE = re.compile(r"call\.messages\[(\d+)\](?:\.parts(?:\[(\d+)\])?)?(?:\.(\w+))?(?:\.(\w+))?")
_TOOL = re.compile(r"call\.tools\[(\d+)\]\.(\w+)")
_NAMES = {
    "call.messages": "messages",
    "call.prompt": "messages",
    "call.system.text": "messages",
    "call.task.id": "model",
    "call.task.type": "metadata.gearshift.task_type",
    "call.tools": "tools",
    "call.tool_choice.name": "tool_choice.function.name",
    "call.tool_choice.mode": "tool_choice",
    "call.output.json.schema": "response_format.json_schema.schema",
    "call.output.json.name": "response_format.json_schema.name",
    "inputs": "input",
    "task.id": "model",
    "task.type": "model",
}
_PREFIXES = {
    "call.system.variables.": "metadata.gearshift.var.",
    "call.parameters.": "",
    "call.policy.": "metadata.gearshift.",
    "policy.": "metadata.gearshift.",
    "stream.": "metadata.gearshift.",
    "inputs[": "input[",
}
_OF_TOOLS = {"name": "name", "parameters_schema": "parameters"}
_SETTINGS = {"request_id", "call.request_id", "vector_space"}


class OpenAiNames:
    """Of one call.

    Args:
        body: what the client sent; None for embeddings.
    """

    def __init__(self, body: ChatBody | None = None) -> None:
        self._body = body
        self.places: list[int] = []
        """For each message of the core's request, which of the client's it is, or the first of them."""

    def of(self, field: str) -> str:
        """Give the client's name of a field of the core's request."""
        if (known := _NAMES.get(field)) is not None:
            return known
        if field in _SETTINGS:
            return f"metadata.gearshift.{field.rpartition('.')[2]}"
        if field.startswith("call.output.labels"):
            return "metadata.gearshift.labels"
        if (message := _MESSAGE.fullmatch(field)) is not None:
            return self._of_message(message)
        if (tool := _TOOL.fullmatch(field)) is not None:
            return f"tools[{tool[1]}].function.{_OF_TOOLS.get(tool[2], tool[2])}"
        if field == "call.parameters.max_tokens" and self._body is not None and self._body.max_tokens is None:
            return "max_completion_tokens"
        for prefix, name in _PREFIXES.items():
            if field.startswith(prefix):
                return name + field[len(prefix) :]
        return field

    def _of_message(self, found: re.Match[str]) -> str:
        number, part, kind = int(found[1]), int(found[2] or 0), found[3] or ""
        place = self.places[number] if number < len(self.places) else number
        if kind == "provider_state":
            return f"messages[{place}].gearshift.state"
        if kind == "tool_result":
            return f"messages[{place + part}].{'tool_call_id' if found[4] == 'tool_call_id' else 'content'}"
        if kind == "tool_call":
            return f"messages[{place}].tool_calls"
        if kind == "image":
            return f"messages[{place}].content[{part}].image_url.url"
        return f"messages[{place}].content"
