"""What an answer is judged against: everything that the model was given to read.

Rules: nothing is joined or read before a gate asks for it, so that an answer which raises no doubt costs one object. What
was read is kept for the attempt.
"""

from __future__ import annotations

from collections.abc import Sequence

from gearshift.core.gates.language.prompt import Prompt, reads_english
from gearshift.core.prompt import EMPTY_PROMPT, FilledPrompt
from gearshift.core.request import JsonOutput, Message, Output, Text, ToolCall, ToolResult, user


class Asked:
    """The system prompt and the conversation of one call.

    Args:
        system: the filled system prompt.
        messages: oldest first.
        output: the form asked for, whose own words (those of a schema) count as given.
    """

    # Not by `cached_property`, which takes a lock before Python 3.12.
    __slots__ = ("_languages", "_messages", "_output", "_system", "_text")

    def __init__(self, system: FilledPrompt, messages: Sequence[Message], output: Output | None = None) -> None:
        self._system = system
        self._messages = messages
        self._output = output
        self._text: str | None = None
        self._languages: Prompt | None = None

    @property
    def text(self) -> str:
        """All of it as one text."""
        if self._text is None:
            self._text = self._joined()
        return self._text

    def _joined(self) -> str:
        pieces = [self._system.static, self._system.dynamic]
        for message in self._messages:
            for part in message.parts:
                if isinstance(part, Text):
                    pieces.append(part.text)
                elif isinstance(part, ToolResult):
                    pieces.append(part.content)
                elif isinstance(part, ToolCall):
                    pieces.append(part.arguments)
        if isinstance(self._output, JsonOutput):
            pieces.append(self._output.schema)
        return "\n\n".join([piece for piece in pieces if piece])

    @property
    def is_readable(self) -> bool:
        """Whether all of it is text: an answer may draw on a picture too."""
        return all(
            isinstance(part, Text | ToolResult | ToolCall) for message in self._messages for part in message.parts
        )

    @property
    def languages(self) -> Prompt:
        """What it says of the languages that the answer may be in."""
        if self._languages is None:
            self._languages = Prompt(self.text)
        return self._languages

    @property
    def is_english(self) -> bool:
        """Whether an answer in English is lawful for certain; the system prompt alone mostly tells."""
        return reads_english(self._system.static) or self.languages.is_english

    @classmethod
    def of(cls, text: str) -> Asked:
        """Give what one user's text asks."""
        return cls(EMPTY_PROMPT, (user(text),))
