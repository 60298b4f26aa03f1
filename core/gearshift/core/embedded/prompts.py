"""The texts that a base model continues into an answer.

Rules: pure functions from the call's parts to text. The default model was never taught to follow instructions: it
continues what it sees, so each prompt is a document whose next line is the answer. Templates were chosen by measuring
(docs/embedded.md). What a caller sends is put on one line, so that it cannot imitate the structure around it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from gearshift.core.request import Image, JsonOutput, LabelOutput, Message, Text, ToolCall, ToolResult
from gearshift.core.words import Role

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Inputs that say nothing; a model's answers to them are its bias (Zhao et al. 2021, section 5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompting:
    """How a model is asked, from a catalogue entry's options.

    Args:
        use_examples: False leaves the examples out (zero-shot), for comparison.
        calibrate: False takes label probabilities as they come.

    """

    use_examples: bool = True
    calibrate: bool = True

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> Prompting:
        """Read `examples` and `calibration`, each `on` (the default) or `off`."""
        return cls(
            use_examples=options.get("examples", "on") != "off", calibrate=options.get("calibration", "on") != "off"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPrompt:
    """A prompt with one place for the text to classify; a label follows it."""

    before: str
    after: str

    def fill(self, text: str) -> str:
        """Give the prompt for a text, which must be on one line."""
        return f"{self.before}{text}{self.after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPrompt:
    """A prompt to continue, and the strings that end the continuation."""

    text: str
    stop: tuple[str, ...] = ()


def label_prompt(system: str, output: LabelOutput, *, prompting: Prompting) -> LabelPrompt:
    """Give the prompt that ends where a label belongs.

    With an example for every label the system prompt is left out: the examples say it better, and a list of labels
    before them draws the model to the first one (53 right of 64 with the list, 61 without).
    """
    examples = output.examples if prompting.use_examples else ()
    shown = {label for _, label in examples}
    covered = bool(examples) and shown.issuperset(output.labels)
    head = "" if covered else _instruction(system, f"Say which it is: {_listed(output.labels)}.")
    shots = "".join(f"Text: {one_line(text)}\nLabel: {label}\n\n" for text, label in examples)
    return LabelPrompt(before=f"{head}{shots}Text: ", after="\nLabel:")


def json_prompt(
    system: str, messages: Sequence[Message], output: JsonOutput, *, prompting: Prompting, prefill: str = ""
) -> TextPrompt:
    """Give the prompt that ends where a JSON document belongs; the grammar keeps what follows to the schema."""
    examples = output.examples if prompting.use_examples else ()
    fields = _field_names(output.schema)
    head = _instruction(system, f"Extract {_listed(fields)} from the text as JSON." if fields else "Give JSON.")
    shots = "".join(f"Text: {one_line(text)}\nJSON: {_spaced_json(answer)}\n\n" for text, answer in examples)
    return TextPrompt(text=f"{head}{shots}Text: {input_text(messages)}\nJSON:{_joined(prefill)}")


def continuation_prompt(system: str, messages: Sequence[Message], *, prefill: str = "") -> TextPrompt:
    """Give a conversation that ends where the assistant speaks."""
    turns = [f"{_speaker(message)}: {message_text(message)}" for message in messages]
    lines = [*([system.strip(), ""] if system.strip() else []), *turns, f"Assistant:{_joined(prefill)}"]
    return TextPrompt(text="\n".join(lines), stop=("\nUser:", "\nAssistant:"))


def input_text(messages: Sequence[Message]) -> str:
    """Give what is to be judged or read, on one line: the only turn, or the conversation with its speakers."""
    if len(messages) == 1:
        return one_line(message_text(messages[0]))
    return one_line(" ".join(f"{_speaker(message)}: {message_text(message)}" for message in messages))


def message_text(message: Message) -> str:
    """Give a turn's text; pictures are not seen, calls and results of tools are shown as they are."""
    pieces: list[str] = []
    for part in message.parts:
        match part:
            case Text(text):
                pieces.append(text)
            case ToolCall(name=name, arguments=arguments):
                pieces.append(f"{name}({arguments})")
            case ToolResult(content=content):
                pieces.append(content)
            case Image():
                pass
    return "\n".join(pieces)


def one_line(text: str) -> str:
    """Give the text with every run of white space as one space."""
    return " ".join(text.split())


def _instruction(system: str, otherwise: str) -> str:
    return f"{system.strip() or otherwise}\n\n"


def _speaker(message: Message) -> str:
    return {Role.USER: "User", Role.ASSISTANT: "Assistant", Role.TOOL: "Tool"}[message.role]


def _joined(prefill: str) -> str:
    # A token carries the space before its word: the prompt ends without one, and a prefill begins with one.
    return f" {prefill.strip()}" if prefill.strip() else ""


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}" if names else ""


def _spaced_json(text: str) -> str:
    # Written as most JSON in prose is, whatever the caller's spacing: the model copies the habit.
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except ValueError:
        return one_line(text)


def _field_names(schema: str) -> list[str]:
    try:
        parsed: object = json.loads(schema) if schema else None
    except ValueError:
        return []
    if not isinstance(parsed, dict):
        return []
    properties = cast("dict[str, Any]", parsed).get("properties")
    return list(cast("dict[str, Any]", properties)) if isinstance(properties, dict) else []
