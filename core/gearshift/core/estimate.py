"""How many tokens a call will take, before it is made.

Rules: pure. Input is characters divided by a factor learned for each model from the providers' own counts; output is
the lesser of max_tokens and the 95th percentile of what the task and model wrote lately, 512 until that is known
(design 6).
"""

from __future__ import annotations

from collections import OrderedDict, deque

from gearshift.core.catalogue import Model
from gearshift.core.request import Image, LabelOutput, Output, Request, Text, ToolCall, ToolResult

UNKNOWN_OUTPUT_TOKENS = 512
IMAGE_TOKENS = 1200
"""A rough price of one picture; Anthropic documents width x height / 750, at most about 1,600."""
OVERHEAD_TOKENS = 8
"""Of a call, whatever its length: roles, marks between the turns."""
_LEARNING_RATE = 0.1
_LEAST_FACTOR = 0.5
"""Characters a token; fewer are not believed."""
_LEAST_CHARACTERS = 200
"""Shorter texts tell too little of a factor."""
_KEPT = 128
_KNOWN_FROM = 20
_MOST_PAIRS = 4096


class Estimator:
    """What has been learned of models and tasks. Shared by all calls of a router."""

    def __init__(self) -> None:
        self._characters_per_token: dict[str, float] = {}
        self._outputs: OrderedDict[tuple[str, str], _Recent] = OrderedDict()

    def input_tokens(self, characters: int, images: int, model: Model) -> int:
        """Estimate the input tokens of a prompt of so many characters and images."""
        factor = self._characters_per_token.get(model.id) or max(_LEAST_FACTOR, model.characters_per_token)
        return int(characters / factor) + images * IMAGE_TOKENS + OVERHEAD_TOKENS

    def most_input_tokens(self, characters: int, images: int) -> int:
        """Give what `input_tokens` never exceeds, whatever the model."""
        return int(characters / _LEAST_FACTOR) + images * IMAGE_TOKENS + OVERHEAD_TOKENS

    def output_tokens(self, task_id: str, model: Model, max_tokens: int | None) -> int:
        """Estimate the output tokens of a task on a model."""
        recent = self._outputs.get((task_id, model.id))
        expected = recent.p95 if recent is not None and recent.known else UNKNOWN_OUTPUT_TOKENS
        return expected if max_tokens is None else min(expected, max_tokens)

    def has_seen(self, task_id: str, model: Model) -> bool:
        """Tell whether the task and model have written often enough to say how much they write."""
        recent = self._outputs.get((task_id, model.id))
        return recent is not None and recent.known

    def text_tokens(self, characters: int, model: Model) -> int:
        """Estimate the tokens of a text that is embedded: it has no turns, and so no marks between them."""
        return max(1, round(characters / self._factor(model)))

    def learn_texts(self, model: Model, characters: int, tokens: int) -> None:
        """Learn from whole texts that were embedded, and whose tokens the provider reported."""
        if characters >= _LEAST_CHARACTERS and tokens > 0:
            self._learn_factor(model, characters, tokens)

    def learn(self, task_id: str, model: Model, characters: int, input_tokens: int, output_tokens: int) -> None:
        """Learn from a call whose usage the provider reported. Calls with images are not to be given.

        A factor that has given the very count stays: where a provider counts by characters, estimates are exact for good.
        """
        if characters >= _LEAST_CHARACTERS and input_tokens > 0:
            self._learn_factor(model, characters, input_tokens - OVERHEAD_TOKENS)
        key = (task_id, model.id)
        recent = self._outputs.get(key)
        if recent is None:
            recent = self._outputs[key] = _Recent()
            if len(self._outputs) > _MOST_PAIRS:
                self._outputs.popitem(last=False)
        recent.add(output_tokens)

    def _factor(self, model: Model) -> float:
        return self._characters_per_token.get(model.id) or max(_LEAST_FACTOR, model.characters_per_token)

    def _learn_factor(self, model: Model, characters: int, counted: int) -> None:
        old = self._factor(model)
        if int(characters / old) != counted:
            seen = min(16.0, max(_LEAST_FACTOR, characters / max(1, counted)))
            self._characters_per_token[model.id] = old + _LEARNING_RATE * (seen - old)


class _Recent:
    """The last outputs of one task and model; the percentile is worked out anew every 16."""

    __slots__ = ("_count", "_kept", "p95")

    def __init__(self) -> None:
        self._kept: deque[int] = deque(maxlen=_KEPT)
        self._count = 0
        self.p95 = UNKNOWN_OUTPUT_TOKENS

    @property
    def known(self) -> bool:
        return self._count >= _KNOWN_FROM

    def add(self, tokens: int) -> None:
        self._kept.append(tokens)
        self._count += 1
        if self._count >= _KNOWN_FROM and (self._count == _KNOWN_FROM or self._count % 16 == 0):
            ordered = sorted(self._kept)
            self.p95 = max(1, ordered[min(len(ordered) - 1, (len(ordered) * 95) // 100)])


def measure(request: Request, output: Output | None, characters: int) -> tuple[int, int]:
    """Give the characters and the number of images of everything that the model will read.

    Args:
        output: what the answer must be, the caller's or the declared task's.
        characters: of the system prompt.

    """
    images = 0
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Text):  # nearly always
                characters += len(part.text)
                continue
            match part:
                case Image():
                    images += 1
                case ToolCall():
                    characters += len(part.name) + len(part.arguments)
                case ToolResult():
                    characters += len(part.content)
    for tool in request.tools:
        characters += len(tool.name) + len(tool.description) + len(tool.parameters_schema)
    if output is not None:
        for text, right in output.examples:
            characters += len(text) + len(right)
        if isinstance(output, LabelOutput):
            characters += sum(map(len, output.labels))
        else:
            characters += len(output.schema)
    return characters, images
