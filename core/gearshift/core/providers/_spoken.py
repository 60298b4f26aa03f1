"""Output specs in words and as schemas, for providers that cannot score labels.

Rules: pure functions. What a model is told is the same whether its provider also enforces it, since a model that knows
what it is held to writes better than one that is only cut to shape.
"""

from __future__ import annotations

import msgspec

from gearshift.core.request import LabelOutput, Output

_LABEL_KEY = "label"


def instruction(output: Output, *, enforced: bool) -> str:
    """Give the sentences that tell a model its output spec, examples included.

    Args:
        output: labels or JSON.
        enforced: the provider holds the model to the schema, so that the schema need not be repeated in words.
    """
    if isinstance(output, LabelOutput):
        labels = "\n".join(f"- {label}" for label in output.labels)
        shown = "\n\n".join(f"Text: {text}\nLabel: {label}" for text, label in output.examples)
        how = "" if enforced else " Answer with the label alone, exactly as it is written here."
        return _joined(f"Choose exactly one of these labels.{how}\n{labels}", shown)
    shown = "\n\n".join(f"Text: {text}\nJSON: {document}" for text, document in output.examples)
    if enforced:
        return _joined("", shown)
    ask = "Answer with one JSON document and nothing else: no words around it, no code fence."
    if output.schema:
        ask += f" It must be valid under this JSON Schema:\n{output.schema}"
    return _joined(ask, shown)


def _joined(ask: str, examples: str) -> str:
    return "\n\n".join(part for part in (ask, f"Examples:\n\n{examples}" if examples else "") if part)


def label_schema(output: LabelOutput) -> dict[str, object]:
    """Give the schema of a bare JSON string that is one of the labels."""
    return {"type": "string", "enum": list(output.labels)}


def label_object_schema(output: LabelOutput) -> dict[str, object]:
    """Give the same as an object, for providers whose schemas must be objects."""
    return {
        "type": "object",
        "properties": {_LABEL_KEY: label_schema(output)},
        "required": [_LABEL_KEY],
        "additionalProperties": False,
    }


def unwrapped_label(text: str) -> str:
    """Give the label out of what a model wrote under one of these schemas; anything else comes back as it is."""
    try:
        document: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text
    if isinstance(document, dict):
        document = msgspec.convert(document, dict[str, object]).get(_LABEL_KEY)
    return document if isinstance(document, str) else text
