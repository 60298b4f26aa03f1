"""How large a schema may be, and how much work a check may take.

Rules: every limit is a plain number; passing one ends in a typed error, never
in a crash or a long silence.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemaLimits:
    """The bounds on one schema and on one check of a document against it."""

    schema_bytes: int = 256 * 1024
    """Most bytes of the schema as canonical JSON in UTF-8."""

    schema_depth: int = 64
    """Most schemas nested in each other, and most applied to one value in a row through references."""

    schema_nodes: int = 20_000
    """Most schemas in the document, and most after references are resolved."""

    json_depth: int = 128
    """Most arrays and objects nested in each other, in schemas and documents."""

    pattern_chars: int = 64 * 1024
    """Most characters of all regular expressions together, with their counts written out (of one: 8,192)."""

    work: int = 1_000_000
    """Most steps of one check, each about 0.1 to 0.8 microseconds."""

    issues: int = 16
    """Most issues that one check reports."""


DEFAULT_LIMITS = SchemaLimits()
