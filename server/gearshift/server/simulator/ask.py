"""What a request asks, whatever the wire format."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from gearshift.server.simulator.faults import Form
from gearshift.server.simulator.fields import items, mapping, texts_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request for an answer or for vectors.

    Args:
        model: its name on the wire.
        system / texts: the system prompt, and the turns' texts, oldest first; for vectors, the inputs.
        prefill: what the answer begins with already, where the last turn is the assistant's.
        max_tokens: most tokens of the answer; None is no limit.
        labels: the answer must be one of these.
        schema: the answer must be JSON that fits; `json` alone asks for any JSON object.
        counts: the client wants its tokens counted in a stream; `counts_each`, in every frame of it.
        dimensions: of the vectors; None is the model's own.
    """

    form: Form
    model: str
    system: str = ""
    texts: tuple[str, ...] = ()
    prefill: str = ""
    max_tokens: int | None = None
    labels: tuple[str, ...] = ()
    schema: object = None
    json: bool = False
    logprobs: bool = False
    counts: bool = True
    counts_each: bool = False
    dimensions: int | None = None
    stops: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The last turn."""
        return self.texts[-1] if self.texts else ""

    @property
    def prompt(self) -> str:
        """All that the model reads."""
        return "\n".join(part for part in (self.system, *self.texts, self.prefill) if part)

    @property
    def characters(self) -> int:
        """Characters of all that the model reads."""
        return len(self.system) + sum(map(len, self.texts)) + len(self.prefill)


def enumerated(schema: object) -> tuple[str, ...]:
    """Give the labels that a schema asks for: an enumeration of texts, bare or as the only property; else none."""
    fields = mapping(schema) or {}
    properties = mapping(fields.get("properties")) or {}
    if len(properties) == 1:
        fields = mapping(next(iter(properties.values()))) or {}
    values = items(fields.get("enum"))
    texts = texts_in(values)
    return texts if len(texts) == len(values) else ()


_SPOKEN = re.compile(
    r"\b(?:labels?|categor(?:y|ies)|classes|options)\b[^\n]*\n((?:[ \t]*[-*] [^\n]+\n?){2,})", re.IGNORECASE
)
_SCHEMA = re.compile(r"JSON Schema\b[^\n{]{0,80}\n?\s*(?=\{)", re.IGNORECASE)
_ALTERNATIVE = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DECODER = json.JSONDecoder()
_ESCAPED = re.compile(r"\\(?:U([0-9A-F]{8})|(.))")


def spoken_labels(system: str) -> tuple[str, ...]:
    """Give labels that a prompt lists: a line that names them, then two or more that begin with a dash."""
    found = _SPOKEN.search(system)
    return tuple(line.strip()[2:].strip() for line in found[1].splitlines() if line.strip()) if found else ()


def spoken_schema(system: str) -> object:
    """Give a schema that stands in a prompt, behind the words "JSON Schema"; None when there is none."""
    found = _SCHEMA.search(system)
    if found is None:
        return None
    try:
        return mapping(_DECODER.raw_decode(system, found.end())[0])
    except (ValueError, RecursionError):
        return None


def grammar_labels(grammar: str) -> tuple[str, ...]:
    """Give the labels of a GBNF grammar that is a choice of literals."""
    if not grammar.startswith("root ::= ") or _ALTERNATIVE.sub("", grammar[9:]).strip(" |"):
        return ()
    return tuple(
        _ESCAPED.sub(lambda part: chr(int(part[1], 16)) if part[1] else part[2], match)
        for match in _ALTERNATIVE.findall(grammar)
    )
